"""What chapter 5 measures: the fixes that were tried before batch norm, and batch norm with paths of its gradient cut.

Digits, mini-batches of 60, three hidden layers of 100 units, plain gradient descent, 8 seeds, float64, at the
gains that suit the plain network (4 for sigmoids, as chapter 8 found). In every hidden
layer z is the affine map's output, and ``gamma * normalized(z) + beta`` the activation's input: so all ways can learn
the same functions, and they share their initial weights and their batches; only "none" leaves gamma and beta at 1 and
0. Rates are picked for each way by the mean validation accuracy at the end. A network that normalizes is judged with
the statistics of the whole training set.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bnlib.lab import nets
from bnlib.lab.experiments import Cases, by_layer, half_decades, moments
from bnlib.lab.layers import Activation, Affine, Chain, Draw, Flow, Layer, Norm, Params, Scale, Signal, State
from bnlib.lab.nets import Net
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import Hook, Program, Run, train
from bnlib.norms import Layout, Moments
from bnlib.running import RunningStats

LAYERS, EPS = 3, 1e-5


def _penalty(
    seeds: int, steps: int, gains: dict[str, float], penalties: list[float], lrs: list[float], **how: Any
) -> Cases:
    """A penalty on the activations' statistics normalizes imperfectly.

    The penalty is lambda times the mean over the units of each layer, summed over the layers, of mean**2 +
    (variance - 1)**2 of z in the mini-batch. What remains is the rms of mean and standard deviation - 1 over units and
    layers, on the training set after training.

    Criterion: it remains > 0.1, at the lambda and the rate with the best validation accuracy, and also at those with
    the smallest remainder among the ones whose mean validation accuracy is at least 0.90.
    """
    ways: dict[str, Settings] = {"none": {"learn": ["weight", "bias"]}, "batch": {"normalize": "batch"}}
    for size in penalties:
        ways[f"penalty {size:g}"] = {"penalty": size}
    yield from _cases(ways, gains, lrs, seeds=seeds, steps=steps, **how)


def _repair(seeds: int, steps: int, gains: dict[str, float], lrs: list[float], **how: Any) -> Cases:
    """Re-normalizing after each step undoes a good part of the step.

    After each step the weights and biases are changed, layer by layer from below, so that z has mean 0 and standard
    deviation 1 over the training set; before the first step, too. The control does that before the first step only.
    For each layer the step and the correction are vectors of its weights and biases; the share that is undone is the
    sum over the steps of their product, negative, over the sum of the step's square. A step in a random direction of a
    unit's d weights and bias would lose about 2 / (d + 1).

    Criterion, for each layer at the best rate: the share > 0.1. When that had been seen, the same share in z, over the
    training set, was added.
    """
    ways: dict[str, Settings] = {kind: {"repair": kind} for kind in ("start", "always")}
    yield from _cases(ways, gains, lrs, seeds=seeds, steps=steps, **how)


def _averages(
    seeds: int, steps: int, gains: dict[str, float], momenta: list[float], lrs: list[float], **how: Any
) -> Cases:
    """With moving averages in place of the batch's own statistics, training works as well as with batch norm.

    Criterion, for each momentum at its best rate: the test accuracy less that of batch norm (record
    "fixes-penalty", at its best rate) lies within 0 ± 0.01. In a first run these networks were judged with their own
    averages, which mixes training with judging; that is kept as "test averages".
    """
    ways: dict[str, Settings] = {f"momentum {m:g}": {"normalize": "averages", "momentum": m} for m in momenta}
    yield from _cases(ways, gains, lrs, seeds=seeds, steps=steps, **how)


def _paths(seeds: int, steps: int, gains: dict[str, float], lrs: list[float], **how: Any) -> Cases:
    """The gradient must flow through the statistics: through the mean, the variance, or both.

    Criterion, for each cut at its best rate: the test accuracy of batch norm with the whole gradient (record
    "fixes-penalty"), at its best rate, is higher by more than 0.01.

    And without it biases grow without bound, with the mean cut, at the way's best rate. Criterion, with and without
    beta: the hidden layers' rms bias at the end is more than 1.41 times that after half of the steps, as if it grew at
    least with the square root of the number of steps.
    """
    mean: dict[str, Any] = {"normalize": "batch", "cut": ["mean"]}
    ways: dict[str, Settings] = {
        "cut mean": mean,
        "cut variance": {**mean, "cut": ["variance"]},
        "cut both": {**mean, "cut": ["mean", "variance"]},
        "cut mean, no beta": {**mean, "learn": ["weight", "bias", "gamma"]},
    }
    yield from _cases(ways, gains, lrs, seeds=seeds, steps=steps, **how)


def _shifted(seeds: int, steps: int, gains: dict[str, float], lrs: list[float], **how: Any) -> Cases:
    """The mean's path is needed where the layers' inputs have a mean: sigmoids less 1/2, tanh plus 1.

    Criterion, at the best rate of the whole gradient: its test accuracy is higher by more than 0.01 than with the
    mean's path cut. Set when the records above, and a trial of these two on four seeds, had been seen.
    """
    ways: dict[str, Settings] = {
        "batch": {"normalize": "batch"},
        "cut mean": {"normalize": "batch", "cut": ["mean"]},
    }
    yield from _cases(ways, gains, lrs, seeds=seeds, steps=steps, **how)


def _start(seeds: int, steps: int, gains: dict[str, float], lrs: list[float], **how: Any) -> Cases:
    """The repair before the first step makes training faster, and not the scale and shift that are learned with it.

    In "fixes-repair" the network that is repaired at the start learns gamma and beta, the plain network does not. Here
    each of the two is there without the other: repaired or not, gamma and beta learned or left at 1 and 0.

    Criterion, with gamma and beta learned and without, for each activation: the steps to a validation accuracy of
    0.90 without the repair, divided by those with it, > 1.5. Each way at the rate with the smallest mean on the seeds
    0 to 7, the ratio on the seeds 8 to 23; who does not get there in time counts with all steps. The accuracy is taken
    after each step. Set before the first run; the records above had been seen.
    """
    fixed = {"learn": ["weight", "bias"]}
    ways: dict[str, Settings] = {
        "none": fixed,
        "none, gamma and beta": {},
        "start": {"repair": "start", **fixed},
        "start, gamma and beta": {"repair": "start"},
    }
    yield from _cases(ways, gains, lrs, seeds=seeds, steps=steps, **how)


def _cases(ways: dict[str, Settings], gains: dict[str, float], lrs: list[float], **how: Any) -> Cases:
    for (activation, gain), (name, way), lr in product(gains.items(), ways.items(), lrs):
        yield {"activation": activation, "way": name, "lr": lr}, {
            "way": way, "activation": activation, "gain": gain, "lr": lr, **how,
        }  # fmt: skip


def standardized(z: Tensor, cut: tuple[str, ...] = ()) -> Tensor:
    """Mean 0 and standard deviation 1 for each unit over the batch, z of shape (..., N, units).

    The statistics that ``cut`` names, "mean", "variance" or both, are constants to the gradient.
    """
    mean, var = moments(z)
    mean = mean.detach() if "mean" in cut else mean
    var = var.detach() if "variance" in cut else var
    return (z - mean) / (var + EPS).sqrt()


@dataclass(frozen=True)
class Cut(Norm):
    """Batch norm whose gradient does not see the statistics named in ``cut``."""

    cut: tuple[str, ...] = ()

    def transformed(
        self, values: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, path: str, flow: Flow
    ) -> tuple[Tensor, Moments]:
        """As :func:`standardized`."""
        y = gamma[..., None] * standardized(values.mT, self.cut).mT + beta[..., None]
        return y, of_units(values)


@dataclass(frozen=True)
class Averaged(Norm):
    """Moving averages of the statistics in the batch's place, constants to the gradient.

    Each batch is averaged in first and normalized then: with momentum 1 by its own statistics. The first batch starts
    the averages. The moments that are handed on are the averages; the running statistics keep the last ones.
    """

    weight: float = 1.0

    def fresh(self, draw: Draw, units: int) -> RunningStats:
        """Statistics that keep what they are given."""
        return replace(super().fresh(draw, units), momentum=1.0, unbiased=False)

    def transformed(
        self, values: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, path: str, flow: Flow
    ) -> tuple[Tensor, Moments]:
        """Average in, then normalize."""
        now, running = of_units(values), flow.running.get(path)
        if running is not None and running.steps:
            mean, var = running.mean.lerp(now.mean, self.weight), running.var.lerp(now.var, self.weight)
            now = Moments(mean, var, now.count)
        mean, var = (a.reshape(gamma.shape)[..., None] for a in (now.mean, now.var))
        return gamma[..., None] * (values - mean) / (var + self.eps).sqrt() + beta[..., None], now


def of_units(values: Tensor) -> Moments:
    """The moments of each unit of all replicas over the examples, values (R, units, N)."""
    var, mean = torch.var_mean(values.detach(), 2, correction=0)
    return Moments(mean.flatten(), var.flatten(), values.shape[2])


def network(way: Settings, activation: str) -> Net:
    """Three hidden layers in one way, as :func:`ended` takes it."""
    learn = way.get("learn", ["weight", "bias", "gamma", "beta"])
    scale = {"gamma": "gamma" in learn, "beta": "beta" in learn}
    normalize: Layer = {
        "none": Scale(**scale),
        "batch": Cut("batch", cut=tuple(way.get("cut", ())), **scale),
        "averages": Averaged("batch", weight=way.get("momentum", 1.0), **scale),
    }[way.get("normalize", "none")]
    hidden = Chain((Affine(100), normalize, Activation(activation)))
    return Net((64,), Chain((*[hidden] * LAYERS, Chain((Affine(10),)))))


def begin(seeds: int, gain: float) -> Params:
    """The parameters before the first step, a seed for each replica, as the chapter names them.

    weight0, bias0, gamma0, beta0, weight1, ...: weights (R, out, in), the others (R, units).
    """
    return by_layer(nets.start(network({}, "tanh"), range(seeds), [gain] * seeds, dtype=torch.float64).params)


def penalized(z: Tensor) -> Tensor:
    """What the penalty sums: the mean over the units of mean**2 + (variance - 1)**2, (...), for z (..., N, units)."""
    mean, var = moments(z)
    return (mean**2 + (var - 1) ** 2).mean((-2, -1))


class Penalty(Hook):
    """Adds ``size`` times :func:`penalized` z, summed over the hidden layers, to the loss."""

    def __init__(self, program: Program, size: float) -> None:
        super().__init__(program)
        self.size, self.seen, self.paths = size, [], program.net.affine[:-1]

    def tap(self, path: str, values: Tensor) -> None:
        """Take in z of a hidden layer."""
        if path in self.paths:
            self.seen.append(penalized(values.mT))

    def loss(self) -> Tensor:
        """The penalty of this step."""
        seen, self.seen = self.seen, []
        return self.size * torch.stack(seen).sum(0)


@torch.no_grad()
def repair(net: Net, params: Params, x: Tensor) -> None:
    """Give every hidden unit's z mean 0 and standard deviation 1 over x, in place, by weights and bias, from below."""
    flow, h = Flow(params, len(x)), Signal(x.mT, net.inputs)
    for (name, layer), affine in zip(net.body.parts, net.affine[:-1], strict=False):
        z = cast(Chain, layer).layers[0](h, affine, flow).values
        std, mean = torch.std_mean(z, 2, correction=0)
        params[f"{affine}.weight"].div_(std[..., None])
        params[f"{affine}.bias"].sub_(mean).div_(std)
        h = layer(h, name, flow)


class Repair(Hook):
    """Repairs before the first step, and "always", after each as well; notes then how the correction lies to the step.

    "against" is (R, 3, rows): step times correction, step times step, correction times correction; the rows are the
    hidden layers' weights and biases, then their z over the training set.
    """

    def __init__(self, program: Program, when: str) -> None:
        super().__init__(program)
        self.always, (self.x, _) = when == "always", program.training_set()
        repair(program.net, program.params, self.x)
        self.before = self.rows() if self.always else []

    def after(self, step: int) -> Mapping[str, Tensor]:
        """Repair again."""
        if not self.always:
            return {}
        stepped = self.rows()
        repair(self.program.net, self.program.params, self.x)
        before, self.before = self.before, self.rows()
        return {"against": against(before, stepped, self.before)}

    @torch.no_grad()
    def rows(self) -> list[Tensor]:
        """Of each hidden layer weights and biases (R, numbers), then of each its z (R, numbers)."""
        net, params = self.program.net, self.program.params
        own = [torch.cat([params[f"{i}.weight"].flatten(1), params[f"{i}.bias"]], 1) for i in net.affine[:-1]]
        found = nets.seen(net, State(params, {}), self.x)
        return [*own, *(found[i].flatten(1) for i in net.affine[:-1])]


def against(before: list[Tensor], stepped: list[Tensor], repaired: list[Tensor]) -> Tensor:
    """(R, 3, rows): step times correction, step times step, correction times correction."""
    rows = []
    for a, b, c in zip(before, stepped, repaired, strict=True):
        step, correction = b - a, c - b
        rows.append(torch.stack([(step * correction).sum(1), (step**2).sum(1), (correction**2).sum(1)], 1))
    return torch.stack(rows, -1)


class Watch(Hook):
    """Looks for the target, and at the biases and z; what it has seen it notes at the end."""

    def __init__(self, program: Program, every: int, target: float) -> None:
        super().__init__(program)
        self.every, self.target, self.steps = every, target, program.runs[0].steps
        self.reached, self.half = torch.full((len(program.runs),), math.inf), self.rms_bias()

    def after(self, step: int) -> Mapping[str, Tensor]:
        """Judge, as long as a replica has not reached the target."""
        program = self.program
        if step % self.every == 0 and not self.reached.isfinite().all():
            _, right = program.evaluate(*program.val)
            self.reached = torch.where((right >= self.target) & self.reached.isinf(), step, self.reached)
        if step == self.steps // 2:
            self.half = self.rms_bias()
        if step < self.steps:
            return {}
        found = nets.seen(program.net, State(program.params, {}), program.training_set()[0])
        averages = {"test averages": program.evaluate(*program.test, program.stats)[1]}
        return {
            "steps_to": self.reached,
            "remains": remains([found[path].mT for path in program.net.affine[:-1]]),
            "bias half": self.half,
            "bias end": self.rms_bias(),
        } | averages

    @torch.no_grad()
    def rms_bias(self) -> Tensor:
        """(R,) of the hidden layers."""
        biases = torch.cat([self.program.params[f"{path}.bias"] for path in self.program.net.affine[:-1]], 1)
        return biases.square().mean(1).sqrt()


def remains(seen: list[Tensor]) -> Tensor:
    """(R,) the rms over units and layers of z's mean and of its standard deviation - 1, z (R, N, units)."""
    squares = [mean**2 + (var.sqrt() - 1) ** 2 for mean, var in map(moments, seen)]
    return torch.cat(squares, -1).mean((-2, -1)).sqrt()


def ended(
    *,
    way: Settings,
    activation: str,
    gain: float,
    lr: float,
    seeds: int,
    steps: int,
    batch: int,
    every: int,
    target: float,
) -> Values:
    """Train one network for each seed in one way.

    Parameters
    ----------
    way : "normalize" by "batch" or "averages" (with "momentum"); "cut" as in :func:`standardized`; "penalty", lambda;
        "repair" at the "start" or "always"; "learn", the kinds of parameters, by default all
    every, target : the validation accuracy is taken after each so many steps, and "steps_to" counts until the target

    Returns
    -------
    values : a number for each seed: "val", "test", "steps_to"; "remains", the rms of z's mean and standard deviation
        - 1; "bias half" and "bias end", the rms bias of the hidden layers after half of the steps and all; with moving
        averages "test averages", judged with them. With "always" for each seed a list with a number for each layer:
        "undone" and "cosine", of the correction against the step, in weights and biases, and "undone z" and
        "cosine z", in z over the training set
    """
    net = network(way, activation)
    runs = [Run(net=net, seed=seed, gain=gain, lr=lr, batch=batch, steps=steps) for seed in range(seeds)]
    hooks: list[Callable[[Program], Hook]] = [partial(Watch, every=every, target=target)]
    if "repair" in way:
        hooks.insert(0, partial(Repair, when=way["repair"]))
    if "penalty" in way:
        hooks.append(partial(Penalty, size=way["penalty"]))
    histories = train(runs, every=steps, dtype=torch.float64, whole=True, exact=True, hooks=hooks)
    values: Values = {"val": [h.val_accuracy[-1] for h in histories], "test": [h.test_accuracy for h in histories]}
    names = ["steps_to", "remains", "bias half", "bias end"]
    names += ["test averages"] if way.get("normalize") == "averages" else []
    values |= {name: [h.noted[name][0] for h in histories] for name in names}
    if way.get("repair") == "always":
        dot, step, correction = np.stack([h.noted["against"] for h in histories]).transpose(2, 1, 0, 3)
        share, cosine = -dot.sum(0) / step.sum(0), (dot / (step * correction) ** 0.5).mean(0)  # (R, 2 * layers)
        values |= {"undone": share[:, :LAYERS], "cosine": cosine[:, :LAYERS]}
        values |= {"undone z": share[:, LAYERS:], "cosine z": cosine[:, LAYERS:]}
    return values


_HOW = {
    "seeds": 8, "steps": 300, "gains": {"sigmoid": 4.0, "tanh": 1.0}, "lrs": half_decades(0.0316, 31.6), "batch": 60,
    "every": 5, "target": 0.9,
}  # fmt: skip
_LIVE = {"seeds": 2, "steps": 6, "every": 3, "gains": {"tanh": 1.0}, "lrs": [0.316]}
EXPERIMENTS = [
    penalty := Experiment(
        "fixes-penalty", _penalty, ended, {**_HOW, "penalties": [0.01, 0.1, 1.0, 10.0, 100.0]},
        {**_LIVE, "penalties": [1.0]},  # larger ones break the network, which is no number to compare
    ),
    repaired := Experiment("fixes-repair", _repair, ended, _HOW, _LIVE),
    moving := Experiment("fixes-averages", _averages, ended, {**_HOW, "momenta": [0.01, 0.1, 0.5, 1.0]}, _LIVE),
    paths := Experiment("fixes-paths", _paths, ended, _HOW, _LIVE),
    shifted := Experiment(
        "fixes-shifted", _shifted, ended, {**_HOW, "gains": {"sigmoid - 1/2": 4.0, "tanh + 1": 1.0}},
        {**_LIVE, "gains": {"tanh + 1": 1.0}, "lrs": [0.1]},
    ),
    starts := Experiment(
        "fixes-start", _start, ended, {**_HOW, "seeds": 24, "lrs": half_decades(0.0316, 3.16), "every": 1}, _LIVE
    ),
]  # fmt: skip
