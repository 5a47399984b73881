"""What chapter 5 measures: the fixes that were tried before batch norm, and batch norm with paths of its gradient cut.

Three hidden layers of 100 units, mini-batches of 60, plain gradient descent, centred inputs for all ways. In every
hidden layer z is the affine map's output, and ``gamma * normalized(z) + beta`` the activation's input: so all ways can
learn the same functions, and they share their initial weights and their batches. Gamma and beta are learned where a way
does not say otherwise. A network that normalizes is judged with the statistics of the whole training set.

The criteria were written down before the first run of these measurements. Earlier ones were known, on raw pixels, over
8 seeds (16 of the repair at the start), of sigmoid and tanh. A share of 0.72 to 0.98 of the steps was undone, in the
upper layers of tanh 0.09 to 0.12; repaired at the start, training took 1.7 to 2.1 times fewer steps; penalties left 0.5
to 1.5 where they trained best and 0.08 where they pulled most; moving averages cost up to 0.017 of accuracy and cut
paths at most 0.006 at the best rates; at the best rate of the whole gradient the mean's path was all, 0.64, for
sigmoids, and nothing for tanh; biases grew by 1.06 to 1.18. Which parts decide follows from what the claims say: the
three kinds of unit, in the form that is most usual.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from bnlib.claims import Criterion, more, same
from bnlib.lab import nets
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import by_layer, closer_at_first, half_decades, moments
from bnlib.lab.experiments.design import LEARNED
from bnlib.lab.experiments.speed import NAMES, OVERLAP, SIZES
from bnlib.lab.layers import Activation, Affine, Chain, Draw, Flow, Layer, Norm, Params, Scale, Signal, State
from bnlib.lab.nets import Net
from bnlib.lab.records import Measurement, Settings, Values
from bnlib.lab.train import History, Hook, Program, Run, train
from bnlib.norms import Layout, Moments
from bnlib.running import RunningStats

CHAPTER = "05_earlier_fixes"
LAYERS, EPS = 3, 1e-5
WHOLE: Settings = {"normalize": "batch"}


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


def network(way: Settings, activation: str, inputs: int = 64) -> Net:
    """Three hidden layers in one way.

    Parameters
    ----------
    way : "normalize" by "batch" or "averages" (with "momentum"); "cut" as in :func:`standardized`; "learn", the kinds
        of parameters, by default all. What else a way has is done by hooks: "penalty", lambda; "repair" at the "start"
        or "always"
    activation : a name of :data:`bnlib.lab.layers.ACTIVATIONS`
    inputs : of an example
    """
    learn = way.get("learn", ["weight", "bias", "gamma", "beta"])
    scale = {"gamma": "gamma" in learn, "beta": "beta" in learn}
    normalize: Layer = {
        "none": Scale(**scale),
        "batch": Cut("batch", cut=tuple(way.get("cut", ())), **scale),
        "averages": Averaged("batch", weight=way.get("momentum", 1.0), **scale),
    }[way.get("normalize", "none")]
    hidden = Chain((Affine(100), normalize, Activation(activation)))
    return Net((inputs,), Chain((*[hidden] * LAYERS, Chain((Affine(10),)))))


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

    "against" is (R, 3, layers): step times correction, step times step, correction times correction, of the hidden
    layers' weights and biases.
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
        """Of each hidden layer weights and biases (R, numbers)."""
        params, paths = self.program.params, self.program.net.affine[:-1]
        return [torch.cat([params[f"{path}.weight"].flatten(1), params[f"{path}.bias"]], 1) for path in paths]


def against(before: list[Tensor], stepped: list[Tensor], repaired: list[Tensor]) -> Tensor:
    """(R, 3, rows): step times correction, step times step, correction times correction."""
    rows = []
    for a, b, c in zip(before, stepped, repaired, strict=True):
        step, correction = b - a, c - b
        rows.append(torch.stack([(step * correction).sum(1), (step**2).sum(1), (correction**2).sum(1)], 1))
    return torch.stack(rows, -1)


class Watch(Hook):
    """Looks at the biases, and at the end at z."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.steps, self.half = program.runs[0].steps, self.rms_bias()

    def after(self, step: int) -> Mapping[str, Tensor]:
        """What has come of them, after the last step."""
        program = self.program
        if step == self.steps // 2:
            self.half = self.rms_bias()
        if step < self.steps:
            return {}
        found = nets.seen(program.net, State(program.params, {}), program.training_set()[0])
        return {
            "remains": remains([found[path].mT for path in program.net.affine[:-1]]),
            "bias half": self.half,
            "bias end": self.rms_bias(),
        }

    @torch.no_grad()
    def rms_bias(self) -> Tensor:
        """(R,) of the hidden layers."""
        biases = torch.cat([self.program.params[f"{path}.bias"] for path in self.program.net.affine[:-1]], 1)
        return biases.square().mean(1).sqrt()


def remains(seen: list[Tensor]) -> Tensor:
    """(R,) the rms over units and layers of z's mean and of its standard deviation - 1, z (R, N, units)."""
    squares = [mean**2 + (var.sqrt() - 1) ** 2 for mean, var in map(moments, seen)]
    return torch.cat(squares, -1).mean((-2, -1)).sqrt()


def histories(
    *,
    way: Settings,
    activation: str,
    runs: Sequence[Settings],
    steps: int,
    batch: int,
    data: str,
    inputs: str,
    dtype: str,
    gain: float = 1.0,
    every: list[int] | None = None,
    until: float | None = None,
) -> list[History]:
    """Train networks in one way, with what their hooks have noted.

    Parameters
    ----------
    way : as in :func:`network`
    runs : of each the seed and the rate, and the gain where it is not ``gain``
    every, until : where given, evaluate after these steps, until all have reached that validation accuracy; without,
        each notes at the end "remains", and its hidden layers' rms bias, "bias half" and "bias end"
    """
    net = network(way, activation, *SIZES[data])
    how: dict[str, Any] = {"net": net, "batch": batch, "steps": steps, "data": data, "inputs": inputs, "gain": gain}
    hooks: list[Callable[[Program], Hook]] = []
    if "repair" in way:
        hooks.append(partial(Repair, when=way["repair"]))
    if until is None:
        hooks.append(Watch)  # which is to see the repaired start
    if "penalty" in way:
        hooks.append(partial(Penalty, size=way["penalty"]))
    return train(
        [Run(**{**how, **run}) for run in runs],
        every=every or steps,
        until=until,
        dtype=getattr(torch, dtype),
        whole=True,
        exact="normalize" in way,
        hooks=hooks,
    )


def taken(*, way: Settings, until: float | None = None, **how: Any) -> Values:
    """Train networks in one way: ``way``, ``until`` and ``how`` are as for :func:`histories`.

    Returns
    -------
    values : a number for each run: "val" and "test"; with ``until`` "steps_to", and else "remains", the rms of z's mean
        and standard deviation - 1. With the mean cut also "growth", the hidden layers' rms bias at the end over that
        after half of the steps; repaired "always" also "undone", over the weights and biases of all hidden layers, and
        "undone 1" to "undone 3" of each
    """
    found = histories(way=way, until=until, **how)
    values: Values = {"val": [h.val_accuracy[-1] for h in found], "test": [h.test_accuracy for h in found]}
    if until is not None:
        return values | {"steps_to": [h.steps_to(until) for h in found]}
    values["remains"] = [h.noted["remains"][0] for h in found]
    if "mean" in way.get("cut", ()):  # elsewhere biases in front of a norm are 0 but for rounding
        values["growth"] = [h.noted["bias end"][0] / h.noted["bias half"][0] for h in found]
    return values | (undone(found) if way.get("repair") == "always" else {})


def undone(found: list[History]) -> Values:
    """Of each run the share of its steps that the repairs took back, in all hidden layers and in each."""
    dot, step, _ = np.stack([h.noted["against"] for h in found]).sum(1).transpose(1, 0, 2)  # (R, layers)
    layers = {f"undone {i + 1}": (-dot[:, i] / step[:, i]).tolist() for i in range(dot.shape[1])}
    return {"undone": (-dot.sum(1) / step.sum(1)).tolist(), **layers}


def _always(lrs: dict[str, list[float]], gains: dict[str, float], **how: Any) -> Iterator[Arm]:
    """Repaired after each step, over the training set; the share is that of the whole step, as one vector."""
    for activation, rates in lrs.items():
        arguments = {"way": {"repair": "always"}, "activation": activation, "gain": gains[activation], **how}
        yield Arm({"activation": activation}, arguments, {"lr": rates})


def _at_start(
    steps: int,
    target: float,
    lrs: dict[str, list[float]],
    gains: dict[str, list[float]],
    places: dict[str, list[bool]],
    **how: Any,
) -> Iterator[Arm]:
    """Repaired before the first step or not, with gamma and beta learned or not; ``places``: data, and learned there.

    Of a repaired network the gain is that of the output layer alone. The accuracy is taken after each of the first 20
    steps, and then each time that a twentieth more have been made.
    """
    common = {"steps": steps, "every": closer_at_first(steps), "until": target, **how}
    for data, scales in places.items():
        for activation, learned, repaired in product(lrs, scales, (False, True)):
            way = ({} if learned else {"learn": ["weight", "bias"]}) | ({"repair": "start"} if repaired else {})
            yield Arm(
                {"data": data, "activation": activation, "learned": learned, "repaired": repaired},
                {"way": way, "activation": activation, "data": data, **common},
                {"gain": gains[activation], "lr": lrs[activation]},
                "steps_to",
            )


def pulled(*, aim: str, least: float, runs: Sequence[Settings], **how: Any) -> Values:
    """Train with a penalty, the runs of each size together.

    Parameters
    ----------
    aim, least : "accuracy", or "small rest" among the runs of at least that validation accuracy
    runs, how : as for :func:`taken`; of a run also its "penalty"

    Returns
    -------
    values : those of :func:`taken`, and "scored", the larger the nearer to the aim
    """
    values: Values = {}
    for size in dict.fromkeys(run["penalty"] for run in runs):
        who = [i for i, run in enumerate(runs) if run["penalty"] == size]
        own = [{name: value for name, value in runs[i].items() if name != "penalty"} for i in who]
        for name, found in taken(way={"penalty": size}, runs=own, **how).items():
            for i, value in zip(who, found, strict=True):
                values.setdefault(name, [None] * len(runs))[i] = value
    scores = values["val"]
    if aim == "small rest":
        scores = [1 / (1 + r) if v >= least else 0.0 for v, r in zip(scores, values["remains"], strict=True)]
    return values | {"scored": scores}


def _pull(
    lrs: dict[str, list[float]], gains: dict[str, float], penalties: list[float], least: float, **how: Any
) -> Iterator[Arm]:
    """Size of the penalty and rate are picked together, by accuracy or by what remains."""
    for activation, aim in product(lrs, ("accuracy", "small rest")):
        yield Arm(
            {"activation": activation, "aim": aim},
            {"activation": activation, "gain": gains[activation], "aim": aim, "least": least, **how},
            {"penalty": penalties, "lr": lrs[activation]},
            "scored",
        )


def _gradients(
    lrs: dict[str, list[float]], gains: dict[str, float], momenta: list[float], places: dict[str, list[str]], **how: Any
) -> Iterator[Arm]:
    """Batch norm whole, with paths of its gradient cut, and with moving averages. ``places``: data, and the ways there.

    With a momentum of 1 the moving averages are the batch's own statistics as constants: that is "both cut", and one
    run for both claims. The claims on cuts, averages and growing biases also share "whole".
    """
    ways: dict[str, Settings] = {
        "whole": WHOLE,
        **{f"{cut} cut": {**WHOLE, "cut": [cut]} for cut in ("mean", "variance")},
        "both cut": {**WHOLE, "cut": ["mean", "variance"]},
        "mean cut, no beta": {**WHOLE, "cut": ["mean"], "learn": ["weight", "bias", "gamma"]},
        **{f"m = {m:g}": {"normalize": "averages", "momentum": m} for m in momenta},
    }
    for data, names in places.items():
        for activation, name in product(lrs, names):
            arguments = {"way": ways[name], "activation": activation, "gain": gains[activation], "data": data, **how}
            yield Arm({"data": data, "activation": activation, "way": name}, arguments, {"lr": lrs[activation]})


def beside(*, way: Settings, off: float, runs: Sequence[Settings], **how: Any) -> Values:
    """Train in a way, so many decades off the rates that are given; "val" is that of the whole gradient at these.

    ``runs`` and ``how`` are as for :func:`taken`.
    """
    whole = taken(way=WHOLE, runs=runs, **how)
    if way == WHOLE and not off:
        return whole
    moved = [{**run, "lr": run["lr"] * 10**off} for run in runs]
    return taken(way=way, runs=moved, **how) | {"val": whole["val"]}


def _mean_path(
    lrs: dict[str, list[float]], gains: dict[str, float], away: dict[str, list[float]], **how: Any
) -> Iterator[Arm]:
    """The mean's path cut or not, at the rate that is picked for the whole gradient and so many decades ``away``."""
    for activation, offs in away.items():
        for off, cut in product(offs, (False, True)):
            way = {**WHOLE, "cut": ["mean"]} if cut else WHOLE
            arguments = {"way": way, "off": off, "activation": activation, "gain": gains[activation], **how}
            yield Arm({"activation": activation, "off": off, "cut": cut}, arguments, {"lr": lrs[activation]})


def _pair(name: str, of: tuple[Any, Any], **labels: Any) -> Pair:
    return labels | {name: of[0]}, labels | {name: of[1]}


def _restarted(activation: str, learned: bool = False, data: str = "digits") -> Pair:
    return _pair("repaired", (False, True), data=data, activation=activation, learned=learned)


def _whole_less(activation: str, way: str, data: str = "digits") -> Pair:
    return _pair("way", ("whole", way), data=data, activation=activation)


def _averages_less(activation: str, momentum: float = 0.1, data: str = "digits") -> Pair:
    return _pair("way", (f"m = {momentum:g}", "whole"), data=data, activation=activation)


def _mean_cut(activation: str, off: float = 0.0) -> Pair:
    return _pair("cut", (False, True), activation=activation, off=off)


_STANDARD: dict[str, Any] = {"batch": 60, "inputs": "centred", "dtype": "float32"}
_ONCE: dict[str, Any] = {"seeds": 2, "steps": 6, "dtype": "float64"}
_GAINS = {"sigmoid": 4.0, "tanh": 1.0, "relu": 1.41}
_RATES = {"sigmoid": half_decades(0.1, 31.6), "tanh": half_decades(0.0316, 10), "relu": half_decades(0.01, 10)}
_MOMENTA = [0.01, 0.1, 0.5]
_NETWORK = "dense networks of three layers of 100 units"
_SET_UP = "digits, centred inputs, SGD, gains 4, 1 and 1.41 of sigmoid, tanh and ReLU, 300 updates"
_asked: dict[str, Any] = {"chapter": CHAPTER, "overlap": OVERLAP}

always = Comparison(
    "repairs", _always, taken,
    {"seeds": 64, "steps": 300, "data": "digits", "gains": _GAINS, **_STANDARD,
     "lrs": {"sigmoid": half_decades(0.1, 3.16), "tanh": half_decades(0.1, 3.16), "relu": half_decades(0.0316, 3.16)}},
    {**_ONCE, "lrs": {"tanh": [0.316]}},
    [
        Question(
            id="renormalize-each-step", **_asked, of="undone", how="mean", criterion=Criterion(">", 0.1),
            unit="share of the step's square, weights and biases of all hidden layers",
            statement=f"Re-normalizing the units of {_NETWORK} over the training set after each step takes back a good "
            f"part of the step ({_SET_UP}, each at its best rate).",
            source="Goodfellow, Bengio and Courville (2016), section 8.7.1",
            parts={name: ({"activation": a},) for a, name in NAMES.items()},
        ),
    ],
)  # fmt: skip

at_start = Comparison(
    "repaired-once", _at_start, taken,
    {"seeds": 64, "steps": 300, "target": 0.9, **_STANDARD,
     "lrs": {"sigmoid": half_decades(0.1, 10), "tanh": half_decades(0.0316, 3.16), "relu": half_decades(0.0316, 3.16)},
     "gains": {"sigmoid": [1.0, 4.0, 8.0, 16.0], "tanh": [0.5, 1.0, 2.0], "relu": [0.71, 1.41, 2.82]},
     "places": {"digits": [False, True], "mnist 14x14": [False]}},
    {**_ONCE, "target": 0.3, "lrs": {"tanh": [0.316]}, "places": {"digits": [False]}},
    [
        Question(
            id="repair-at-start", **_asked, of="steps_to", how="ratio", budget=300, criterion=more("ratio"),
            unit="updates to an accuracy of 0.90, without the repair / with it",
            statement=f"Repairing the units once, before the first step, makes {_NETWORK} train faster (digits, "
            "centred inputs, SGD, each at its best rate and gain).",
            source="this book",
            parts={name: _restarted(a) for a, name in NAMES.items()},
            others={f"{name}, gamma and beta learned": _restarted(a, True) for a, name in NAMES.items()},
            transfers={"MNIST 14 x 14": {name: _restarted(a, data="mnist 14x14") for a, name in NAMES.items()}},
        ),
    ],
)  # fmt: skip

penalties = Comparison(
    "penalties", _pull, pulled,
    {"seeds": 64, "steps": 300, "least": 0.9, "data": "digits", "penalties": [0.001, 0.01, 0.1, 1.0, 10.0],
     "gains": _GAINS, **_STANDARD,
     "lrs": {"sigmoid": half_decades(0.0316, 10), "tanh": half_decades(0.0316, 3.16), "relu": half_decades(0.01, 1)}},
    {**_ONCE, "least": 0.1, "lrs": {"tanh": [0.1]}},
    [
        Question(
            id="penalty", **_asked, of="remains", how="mean", criterion=Criterion(">", 0.1),
            unit="rms of means and of standard deviations - 1",
            statement=f"Penalizing the statistics of z normalizes them imperfectly in {_NETWORK} ({_SET_UP}, at the "
            "most accurate penalty and rate).",
            source="Goodfellow, Bengio and Courville (2016), section 8.7.1",
            parts={name: ({"activation": a, "aim": "accuracy"},) for a, name in NAMES.items()},
            others={f"{name}, smallest rest": ({"activation": a, "aim": "small rest"},) for a, name in NAMES.items()},
        ),
    ],
)  # fmt: skip

gradients = Comparison(
    "gradients", _gradients, taken,
    {"seeds": 64, "steps": 300, "lrs": _RATES, "gains": _GAINS, "momenta": _MOMENTA, **_STANDARD,
     "places": {"digits": ["whole", "mean cut", "variance cut", "both cut", "mean cut, no beta",
                           *(f"m = {m:g}" for m in _MOMENTA)],
                "mnist 14x14": ["whole", "both cut", "m = 0.1"]}},
    {**_ONCE, "lrs": {"tanh": [0.316]}, "places": {"digits": ["whole", "both cut", "m = 0.1"]}},
    [
        Question(
            id="moving-average-training", **_asked, learned=LEARNED, criterion=same("accuracy"),
            unit="test accuracy, moving averages - batch norm",
            statement=f"{_NETWORK.capitalize()} train as well with moving averages of momentum 0.1 in place of the "
            f"batch's statistics ({_SET_UP}, each at its best rate).",
            source="lecture notes on batch normalization, read literally",
            parts={name: _averages_less(a) for a, name in NAMES.items()},
            others={f"{name}, m = {m:g}": _averages_less(a, m)
                    for a, name in NAMES.items() for m in _MOMENTA if m != 0.1},
            transfers={"MNIST 14 x 14": {name: _averages_less(a, data="mnist 14x14") for a, name in NAMES.items()}},
        ),
        Question(
            id="gradient-paths", **_asked, learned=LEARNED, criterion=more("accuracy"),
            unit="test accuracy, whole gradient - cut",
            statement=f"For the best accuracy of {_NETWORK} with batch normalization the gradient must flow through "
            f"the batch's statistics ({_SET_UP}, each at its best rate).",
            source="Ioffe and Szegedy (2015), section 2; Goodfellow, Bengio and Courville (2016), section 8.7.1",
            parts={name: _whole_less(a, "both cut") for a, name in NAMES.items()},
            others={f"{name}, {cut} alone": _whole_less(a, cut)
                    for a, name in NAMES.items() for cut in ("mean cut", "variance cut")},
            transfers={"MNIST 14 x 14": {name: _whole_less(a, "both cut", "mnist 14x14")
                                         for a, name in NAMES.items()}},
        ),
        Question(
            id="stats-outside-gradient", **_asked, of="growth", how="mean", criterion=Criterion(">", 1.41),
            unit="rms bias after 300 updates / after 150",
            statement="Where the gradient does not see the batch's mean, biases grow at least like the root of the "
            f"number of updates in {_NETWORK} with batch normalization without beta ({_SET_UP}, each at its best "
            "rate).",
            source="Ioffe and Szegedy (2015), section 2: without bound",
            parts={name: ({"data": "digits", "activation": a, "way": "mean cut, no beta"},)
                   for a, name in NAMES.items()},
            others={f"{name}, with beta": ({"data": "digits", "activation": a, "way": "mean cut"},)
                    for a, name in NAMES.items()},
        ),
    ],
)  # fmt: skip

_SHIFTED = {"sigmoid - 1/2": "sigmoid", "tanh + 1": "tanh"}

mean_path = Comparison(
    "mean-path", _mean_path, beside,
    {"seeds": 64, "steps": 300, "data": "digits", **_STANDARD,
     "lrs": _RATES | {name: _RATES[a] for name, a in _SHIFTED.items()},
     "gains": _GAINS | {name: _GAINS[a] for name, a in _SHIFTED.items()},
     "away": {a: [0.0, -0.5, 0.5] for a in NAMES} | {a: [0.0] for a in _SHIFTED}},
    {**_ONCE, "away": {"tanh": [0.0, 0.5]}, "lrs": {"tanh": [0.1]}},
    [
        Question(
            id="mean-path", **_asked, learned=LEARNED, criterion=more("accuracy"),
            unit="test accuracy, whole gradient - mean cut",
            statement=f"At the best rate of the whole gradient, batch normalization in {_NETWORK} needs the path "
            f"through the mean ({_SET_UP}).",
            source="this book",
            parts={name: _mean_cut(a) for a, name in NAMES.items()},
            others={f"{name}, {word} the rate": _mean_cut(a, off)
                    for a, name in NAMES.items() for off, word in ((-0.5, "0.316 times"), (0.5, "3.16 times"))}
            | {a: _mean_cut(a) for a in _SHIFTED},
        ),
    ],
)  # fmt: skip

EXPERIMENTS: list[Measurement] = [always, at_start, penalties, gradients, mean_path]
