"""What chapter 5 measures: the fixes that were tried before batch norm, and batch norm with paths of its gradient cut.

Digits, mini-batches of 60, three hidden layers of 100 units, plain gradient descent, 8 seeds, float64, at the
gains that suit the plain network (4 for sigmoids, as chapter 8 found). In every hidden
layer z is the affine map's output, and ``gamma * normalized(z) + beta`` the activation's input: so all ways can learn
the same functions, and they share their initial weights and their batches; only "none" leaves gamma and beta at 1 and
0. Rates are picked for each way by the mean validation accuracy at the end. A network that normalizes is judged with
the statistics of the whole training set.
"""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bnlib.data import load
from bnlib.lab.experiments import Cases, half_decades, moments
from bnlib.lab.nets import ACTIVATIONS, Params, Spec, start
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import batches

Normalize = Callable[[int, Tensor], Tensor]
LAYERS, EPS = 3, 1e-5
SHIFTED: dict[str, Callable[[Tensor], Tensor]] = {
    **ACTIVATIONS,
    "sigmoid - 1/2": lambda z: torch.sigmoid(z) - 0.5,
    "tanh + 1": lambda z: torch.tanh(z) + 1,
}


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


def standardized(z: Tensor, cut: list[str] | tuple[str, ...] = ()) -> Tensor:
    """Mean 0 and standard deviation 1 for each unit over the batch, z of shape (..., N, units).

    The statistics that ``cut`` names, "mean", "variance" or both, are constants to the gradient.
    """
    mean, var = moments(z)
    mean = mean.detach() if "mean" in cut else mean
    var = var.detach() if "variance" in cut else var
    return (z - mean) / (var + EPS).sqrt()


class Averages:
    """Moving averages of each layer's statistics in the batch's place, constants to the gradient.

    Each batch is averaged in first and normalized then: with momentum 1 by its own statistics. The first batch starts
    the averages.
    """

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, z: Tensor) -> Tensor:
        """Update the layer's averages, and normalize with them."""
        now = moments(z.detach())
        mean, var = (a.lerp(b, self.momentum) for a, b in zip(self.moments.get(layer, now), now, strict=True))
        self.moments[layer] = mean, var
        return (z - mean) / (var + EPS).sqrt()


def forward(params: Params, x: Tensor, normalize: Normalize, activation: str) -> tuple[Tensor, list[Tensor]]:
    """The logits (R, N, classes), and z of every hidden layer, for x (R, N, features)."""
    h, seen = x, []
    for i in range(LAYERS):
        z = h @ params[f"weight{i}"].mT + params[f"bias{i}"]
        seen.append(z)
        h = SHIFTED[activation](params[f"gamma{i}"] * normalize(i, z) + params[f"beta{i}"])
    return h @ params[f"weight{LAYERS}"].mT + params[f"bias{LAYERS}"], seen


def penalized(z: Tensor) -> Tensor:
    """What the penalty sums: the mean over the units of mean**2 + (variance - 1)**2, (...)."""
    mean, var = moments(z)
    return (mean**2 + (var - 1) ** 2).mean((-2, -1))


@torch.no_grad()
def repair(params: Params, x: Tensor, activation: str) -> None:
    """Give every unit's z mean 0 and standard deviation 1 over x through its weights and bias, from below."""
    h = x
    for i in range(LAYERS):
        weight, bias = params[f"weight{i}"], params[f"bias{i}"]
        mean, var = moments(h @ weight.mT + bias)
        weight.div_(var.sqrt().mT)
        bias.sub_(mean).div_(var.sqrt())
        h = SHIFTED[activation](params[f"gamma{i}"] * (h @ weight.mT + bias) + params[f"beta{i}"])


def begin(seeds: int, gain: float) -> Params:
    """The parameters before the first step, a seed for each replica: weights (R, out, in), the others (R, 1, out)."""
    params = start([Spec(gain=gain)] * seeds, range(seeds), torch.float64)
    for i in range(LAYERS):
        params[f"gamma{i}"], params[f"beta{i}"] = torch.ones_like(params[f"bias{i}"]), params[f"bias{i}"].clone()
    return {name: p if name.startswith("weight") else p[:, None] for name, p in params.items()}


@torch.no_grad()
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
    splits = [load("digits", seed) for seed in range(seeds)]
    x, y, x_val, y_val, x_test, y_test = (torch.as_tensor(np.stack(a)) for a in zip(*splits, strict=True))
    rows = [batches(x.shape[1], batch, seed) for seed in range(seeds)]
    own = torch.arange(seeds)[:, None]
    params, averages = begin(seeds, gain), Averages(way.get("momentum", 1.0))
    if "repair" in way:
        repair(params, x, activation)
    normalize: Normalize = {
        "none": lambda i, z: z,
        "batch": lambda i, z: standardized(z, way.get("cut", [])),
        "averages": averages,
    }[way.get("normalize", "none")]
    always = way.get("repair") == "always"
    kinds = tuple(way.get("learn", ["weight", "bias", "gamma", "beta"]))
    learned = [p for name, p in params.items() if name.startswith(kinds)]
    reached, half, undone = torch.full((seeds,), torch.inf), torch.zeros(seeds), []
    for step in range(1, steps + 1):
        chosen = torch.stack([next(r) for r in rows])
        with torch.enable_grad():
            for p in learned:
                p.requires_grad_()
            logits, seen = forward(params, x[own, chosen], normalize, activation)
            loss = _loss(logits, y[own, chosen])
            if "penalty" in way:
                loss = loss + way["penalty"] * sum(penalized(z).sum() for z in seen)
            grads = torch.autograd.grad(loss, learned)
        before = [*_vectors(params), *(_hidden(params, x, activation) if always else [])]
        for p, g in zip(learned, grads, strict=True):
            p.requires_grad_(False).sub_(lr * g)
        if always:
            stepped = [*_vectors(params), *_hidden(params, x, activation)]
            repair(params, x, activation)
            undone.append(_against(before, stepped, [*_vectors(params), *_hidden(params, x, activation)]))
        if step == steps // 2:
            half = _rms_bias(params)
        if step % every == 0 and not reached.isfinite().all():
            right = _accuracy(params, x_val, y_val, _fixed(params, x, way, activation), activation)
            reached = torch.where((right >= target) & reached.isinf(), step, reached)
    judged = _fixed(params, x, way, activation)
    _, seen = forward(params, x, judged, activation)
    values: Values = {
        "val": _accuracy(params, x_val, y_val, judged, activation).tolist(),
        "test": _accuracy(params, x_test, y_test, judged, activation).tolist(),
        "steps_to": reached.tolist(),
        "remains": _remains(seen).tolist(),
        "bias half": half.tolist(),
        "bias end": _rms_bias(params).tolist(),
    }
    if averages.moments:
        own_averages = _with(averages.moments)
        values["test averages"] = _accuracy(params, x_test, y_test, own_averages, activation).tolist()
    if undone:
        dot, step, correction = torch.stack(undone).unbind(1)  # each (steps, R, 2 * layers)
        share, cosine = -dot.sum(0) / step.sum(0), (dot / (step * correction).sqrt()).mean(0)
        values |= {"undone": share[:, :LAYERS].tolist(), "cosine": cosine[:, :LAYERS].tolist()}
        values |= {"undone z": share[:, LAYERS:].tolist(), "cosine z": cosine[:, LAYERS:].tolist()}
    return values


def _loss(logits: Tensor, y: Tensor) -> Tensor:
    """The sum over the replicas of their mean losses: each depends on its own parameters alone."""
    return cross_entropy(logits.mT, y, reduction="none").mean(-1).sum()


def _fixed(params: Params, x: Tensor, way: Settings, activation: str) -> Normalize:
    """How a network that is trained in this way normalizes when it is judged; x is the training set."""
    if way.get("normalize", "none") == "none":
        return lambda i, z: z
    _, seen = forward(params, x, lambda i, z: standardized(z), activation)
    return _with(dict(enumerate(map(moments, seen))))


def _with(known: dict[int, tuple[Tensor, Tensor]]) -> Normalize:
    return lambda i, z: (z - known[i][0]) / (known[i][1] + EPS).sqrt()


def _accuracy(params: Params, x: Tensor, y: Tensor, normalize: Normalize, activation: str) -> Tensor:
    """(R,) the share of right answers; 0 where an output is not finite."""
    logits, _ = forward(params, x, normalize, activation)
    return torch.where(logits.isfinite().all(-1).all(-1), (logits.argmax(-1) == y).double().mean(-1), 0)


def _remains(seen: list[Tensor]) -> Tensor:
    """(R,) the rms over units and layers of z's mean and of its standard deviation - 1."""
    squares = [mean**2 + (var.sqrt() - 1) ** 2 for mean, var in map(moments, seen)]
    return torch.cat(squares, -1).mean((-2, -1)).sqrt()


def _rms_bias(params: Params) -> Tensor:
    biases = torch.cat([params[f"bias{i}"] for i in range(LAYERS)], -1)  # (R, 1, units of all layers)
    return biases.square().mean((-2, -1)).sqrt()


def _vectors(params: Params) -> list[Tensor]:
    """Of each hidden layer, its weights and biases in a row (R, numbers)."""
    return [torch.cat([params[f"weight{i}"].flatten(1), params[f"bias{i}"].flatten(1)], 1) for i in range(LAYERS)]


def _hidden(params: Params, x: Tensor, activation: str) -> list[Tensor]:
    """Of each hidden layer of a network that is repaired, z for all of x in a row (R, numbers)."""
    return [z.flatten(1) for z in forward(params, x, lambda i, z: z, activation)[1]]


def _against(before: list[Tensor], stepped: list[Tensor], repaired: list[Tensor]) -> Tensor:
    """(3, R, rows): step times correction, step times step, correction times correction."""
    rows = []
    for a, b, c in zip(before, stepped, repaired, strict=True):
        step, correction = b - a, c - b
        rows.append(torch.stack([(step * correction).sum(1), (step**2).sum(1), (correction**2).sum(1)]))
    return torch.stack(rows, -1)


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
