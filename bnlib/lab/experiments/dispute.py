"""What chapter 11 measures: the explanations of batch norm's gain, each with its control.

Dense networks of three layers of 100 units, mini-batches of 60, plain gradient descent, centred inputs; their gain was
known from chapter 8 (updates to 0.90, without / with: sigmoid 2.0, tanh 1.1, ReLU 1.7). Rate and gain of each arm are
those that were picked there, by the fewest updates, unless a grid is given. What an explanation needs is that what it
names is there where the advantage is, and is not where there is none.

What was known when a criterion was set. Of "noises", "rates", "few-learn" and "scarce" nothing. Of "same-start" three
layers on eight seeds of digits; of "halves" and "off-centre" nothing. "noises", "rates", "same-start" and "halves" were
first run with batch norm judged by its running statistics, which have seen few mini-batches after ten updates; it is
judged by exact ones now. "scarce" had narrower grids at first, of which some arms picked an edge, and company that was
drawn with replacement. "probes" asked first of each network at its own best, over updates up to 300 (shift 2.1, 1.6
and 1.7 times as large with batch norm; roughness 0.37, 1.7, 1.4), most of which lie behind the accuracy of 0.90, and
from weights of different size. It asks now of the first ten updates, from one start at one rate; of these eight seeds
had been seen at some rates. The criteria stayed as they were.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnlib.claims import less, more, same
from bnlib.data import SETS, load
from bnlib.lab import nets
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import closer_at_first, half_decades, net_of, trained
from bnlib.lab.experiments.design import LEARNED
from bnlib.lab.experiments.speed import GAINS, NAMES, NORMS, OVERLAP, RATES, SIZES
from bnlib.lab.layers import Activation, Affine, Chain, Noise, Norm, Params
from bnlib.lab.nets import Net
from bnlib.lab.records import Settings, Values
from bnlib.lab.train import Hook, Program, Run, batches, each_loss, train

CHAPTER = "11_why_it_works"
_asked: dict[str, Any] = {"chapter": CHAPTER, "overlap": OVERLAP}

# Gain and rate of the fewest updates to 0.90, as the record "speed" has picked them, by data and depth.
PICKED: dict[str, dict[str, dict[str, list[float]]]] = {
    "digits, 3": {
        "sigmoid": {"none": [4.0, 1.0], "batch": [4.0, 3.16]},
        "tanh": {"none": [1.5, 1.0], "batch": [2.0, 1.0]},
        "relu": {"none": [1.41, 0.316], "batch": [0.5, 0.316]},
    },
    "mnist 14x14, 3": {
        "sigmoid": {"none": [4.0, 1.0], "batch": [4.0, 3.16]},
        "tanh": {"none": [1.0, 0.316], "batch": [1.0, 0.316]},
        "relu": {"none": [1.41, 0.316], "batch": [1.41, 1.0]},
    },
    "digits, 8": {
        "sigmoid": {"none": [4.0, 0.316], "batch": [8.0, 3.16]},
        "tanh": {"none": [1.5, 0.316], "batch": [2.0, 0.316]},
        "relu": {"none": [1.41, 0.1], "batch": [1.0, 0.316]},
    },
}


# What one update does: to the gradients of the layers above, to the output, and to the gradient itself


class Probe(Hook):
    """Takes some updates apart; notes for each replica

    - "shift" and "cosine" (R, layers above the first): how far a layer's weight gradient moves, relative to its length,
      when the layers below take the update and it does not, and the cosine of the gradient before and after;
    - "carried" (R, the same layers): how far the logits move then, relative to their length, both without the mean
      over the classes, which no softmax sees;
    - "own" (R,): how far the gradient of all parameters moves in the update itself, relative to its length;
    - "beta" (R,): the largest of the changes of that gradient per length of the step, over steps along it of
      0.5, 1, 2 and 4 times the rate; "range" (R,): the largest less the smallest loss there.

    All on the update's own mini-batch, for plain gradient descent.
    """

    def __init__(self, program: Program, times: Sequence[int]) -> None:
        super().__init__(program)
        self.times, self.last = frozenset(times), [torch.empty(0)] * len(program.seeds)
        program.batches = [self._noted(i, own) for i, own in enumerate(program.batches)]
        self.before = self._now()

    def _noted(self, i: int, rows: Iterator[Tensor]) -> Iterator[Tensor]:
        for own in rows:
            self.last[i] = own
            yield own

    def _now(self) -> Params:
        return {name: value.detach().clone() for name, value in self.program.params.items()}

    def gradient(self, params: Params) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Loss, logits and gradients of all that is learned on the last mini-batch."""
        own = {name: value.detach().requires_grad_(name in self.program.learned) for name, value in params.items()}
        x, y = self.program.rows(torch.stack(self.last))
        logits, _ = nets.forward(self.program.net, own, x)
        loss = each_loss(logits, y)
        names = list(self.program.learned)
        grads = torch.autograd.grad(loss.sum(), [own[name] for name in names])
        return loss.detach(), logits.detach(), dict(zip(names, grads, strict=True))

    def after(self, step: int) -> Mapping[str, Tensor] | None:
        """Take the update apart."""
        found = None
        if step in self.times:
            found = {**self._below(), **self._along()}
        if step in self.times or step + 1 in self.times:
            self.before = self._now()
        return found

    def _below(self) -> dict[str, Tensor]:
        now, chains = self._now(), self.program.net.chains
        _, logits, grads = self.gradient(self.before)
        shift, cosine, carried = [], [], []
        for i, chain in enumerate(chains[1:], 1):
            lower = tuple(f"{name}." for name in chains[:i])
            mixed = {name: (now if name.startswith(lower) else self.before)[name] for name in now}
            _, moved, there = self.gradient(mixed)
            a, b = (of[f"{chain}.affine.weight"].flatten(1) for of in (grads, there))
            shift.append((b - a).norm(dim=1) / a.norm(dim=1))
            cosine.append(torch.cosine_similarity(a, b, dim=1))
            own, other = (z - z.mean(-1, keepdim=True) for z in (logits, moved))
            carried.append((other - own).flatten(1).norm(dim=1) / own.flatten(1).norm(dim=1))
        return {name: torch.stack(of, 1) for name, of in (("shift", shift), ("cosine", cosine), ("carried", carried))}

    def _along(self) -> dict[str, Tensor]:
        start, _, grads = self.gradient(self.before)
        length = _length(grads)
        losses, betas, own = [], [], start
        for factor in (0.5, 1.0, 2.0, 4.0):
            moves = {n: factor * r * g for (n, g), r in zip(grads.items(), self.program.rates, strict=True)}
            there = {name: value - moves.get(name, 0.0) for name, value in self.before.items()}
            loss, _, then = self.gradient(there)
            moved = _length({name: then[name] - grads[name] for name in grads})
            losses.append(loss)
            betas.append(moved / _length(moves))
            own = moved / length if factor == 1.0 else own
        spread = torch.stack(losses).amax(0) - torch.stack(losses).amin(0)
        return {"own": own, "beta": torch.stack(betas).amax(0), "range": spread}


def _length(vectors: Mapping[str, Tensor]) -> Tensor:
    """(R,) of all of each replica's numbers as one vector."""
    return torch.stack([v.square().flatten(1).sum(1) for v in vectors.values()]).sum(0).sqrt()


def probed(
    *,
    spec: Settings,
    runs: Sequence[Settings],
    steps: int,
    times: dict[str, list[int]],
    data: str,
    inputs: str,
    dtype: str,
) -> Values:
    """Train, and take updates apart.

    Parameters
    ----------
    times : by a word, such as "early", the updates that are taken together

    Returns
    -------
    values : a number for each run: "val" and "test", the accuracy at the end; for each word of what :class:`Probe`
        notes, as in "early shift", the geometric mean over updates and layers, of "cosine" the mean
    """
    net, scale = net_of(spec)
    replicas = [Run(net=net, steps=steps, data=data, inputs=inputs, **{**scale, **run}) for run in runs]
    when = sorted({step for steps in times.values() for step in steps})
    found = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True, hooks=[partial(Probe, times=when)])
    values: Values = {"val": [h.val_accuracy[-1] for h in found], "test": [h.test_accuracy for h in found]}
    for word, own in times.items():
        rows = [when.index(step) for step in own]
        for name in found[0].noted:
            noted = [h.noted[name][rows] for h in found]
            with np.errstate(divide="ignore"):
                mean = [v.mean() if name == "cosine" else math.exp(np.log(v).mean()) for v in noted]
            values[f"{word} {name}"] = mean
    return values


def _probes(picked: dict[str, Any], places: list[list[Any]], shares: list[float], **how: Any) -> Iterator[Arm]:
    """Updates taken apart: each arm at what was picked for it; and both from one start at one rate.

    ``places``: data and depth. The one start and rate are those of the arm without batch norm, or ``shares`` of the
    rate on the first place.
    """
    for data, depth in places:
        for activation, norm in product(picked[f"{data}, {depth}"], NORMS):
            arms = picked[f"{data}, {depth}"][activation]
            spec = {"inputs": SIZES[data], "widths": [100] * depth, "activation": activation, "norm": norm}
            labels = {"data": data, "depth": depth, "activation": activation, "norm": norm}
            arguments = {"spec": spec, "data": data, "inputs": "centred", **how}
            settings = {"picked": arms[norm]}
            for share in shares if [data, depth] == places[0] else [1.0]:
                gain, lr = arms["none"]
                settings[f"{share:g} of the rate"] = [gain, share * lr]
            for at, (gain, lr) in settings.items():
                yield Arm(labels | {"at": at}, arguments, {"gain": [gain], "lr": [lr]})


def _probe(of: str, activation: str, at: str = "1 of the rate", data: str = "digits", depth: int = 3) -> Pair:
    labels = {"data": data, "depth": depth, "activation": activation, "at": at, "of": of}
    return labels | {"norm": "batch"}, labels | {"norm": "none"}


def _probed(of: str) -> dict[str, Any]:
    """Rows for what the probe notes under this name."""
    early, late = f"early {of}", f"late {of}"
    return {
        "parts": {name: _probe(early, a) for a, name in NAMES.items()},
        "transfers": {"MNIST 14 x 14": {name: _probe(early, a, data="mnist 14x14") for a, name in NAMES.items()}},
        "others": {f"{name}, a tenth of the rate": _probe(early, a, "0.1 of the rate") for a, name in NAMES.items()}
        | {f"{name}, each at its best": _probe(early, a, "picked") for a, name in NAMES.items()}
        | {f"{name}, each at its best, later": _probe(late, a, "picked") for a, name in NAMES.items()}
        | {f"{name}, 8 layers": _probe(early, a, depth=8) for a, name in NAMES.items()},
        "how": "ratio", "criterion": less("ratio"), **_asked,
    }  # fmt: skip


_HOW = (
    "dense networks of three layers of 100 units (digits, centred inputs, SGD, the first ten updates, from one start "
    "at one rate: those with which the network without it needs the fewest updates)"
)
probes = Comparison(
    "probes", _probes, probed,
    {"seeds": 64, "steps": 300, "times": {"early": [1, 2, 3, 4, 6, 8, 10], "late": [20, 40, 80, 160, 300]},
     "picked": PICKED, "shares": [0.1, 0.316, 1.0],
     "places": [["digits", 3], ["mnist 14x14", 3], ["digits", 8]], "dtype": "float32"},
    {"seeds": 2, "steps": 2, "times": {"early": [1, 2], "late": [2]}, "shares": [1.0], "places": [["digits", 3]],
     "picked": {"digits, 3": {"relu": PICKED["digits, 3"]["relu"]}}, "dtype": "float64"},
    [
        Question(
            id="ics-gradient", **_probed("shift"),
            unit="relative change of a layer's gradient, with / without",
            statement="Batch norm lowers internal covariate shift as its critics define it: the gradient of a layer "
            f"changes less when the layers below it are updated, in {_HOW}.",
            source="Ioffe and Szegedy (2015), as Santurkar et al. (2018) made it measurable",
        ),
        Question(
            id="decoupling", **_probed("carried"),
            unit="relative change of the logits by an update of lower layers, with / without",
            statement="Batch norm makes later layers robust to changes of earlier ones: the output moves less when "
            f"only the lower layers take their update, in {_HOW}.",
            source="a common claim in courses",
        ),
        Question(
            id="smoothness", **_probed("beta"),
            unit="largest change of the gradient per length of step, with / without",
            statement="Batch norm makes the loss smoother: the gradient changes less over a given distance along it, "
            f"in {_HOW}.",
            source="Santurkar et al. (2018)",
        ),
        Question(
            id="predictiveness", **_probed("own"),
            unit="relative change of the gradient in an update, with / without",
            statement="Batch norm makes gradients more predictive: they change by a smaller share of their length in "
            f"the update that is made, in {_HOW}.",
            source="after Santurkar et al. (2018), who do not divide by the length",
        ),
    ],
)  # fmt: skip


# Noise behind the norm


def noisy(activation: str, norm: str, noise: Settings, inputs: Sequence[int] = (64,)) -> Net:
    """Three hidden layers of 100 units: map, batch norm or none, noise that changes with each step, activation."""
    normed = norm == "batch"
    parts = [Affine(100, bias=not normed), *([Norm("batch")] if normed else []), *([Noise(**noise)] if noise else [])]
    hidden = Chain((*parts, Activation(activation)))
    return Net(tuple(inputs), Chain((*[hidden] * 3, Chain((Affine(10),)))))


class Drift(Hook):
    """Notes how far what the last hidden activation is given moves from one update to the next, (R,).

    The mean over units of the change of the mini-batch's mean, in standard deviations of the mini-batch before.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        last = program.net.chains[-2]
        paths = [path for path in program.net.layers if path.startswith(f"{last}.")]
        self.path = paths[-2]  # in front of the activation
        self.now = self.before = (torch.empty(0), torch.empty(0))

    def tap(self, path: str, values: Tensor) -> None:
        """Take in its mean and standard deviation."""
        if path == self.path:
            std, mean = torch.std_mean(values.detach(), -1, correction=0)
            self.now = mean, std

    def after(self, step: int) -> Mapping[str, Tensor]:
        """Compare with the last update's."""
        (mean, _), (old, std) = self.now, self.before if step > 1 else self.now
        self.before = self.now
        return {"drift": ((mean - old).abs() / std).mean(-1)}


def disturbed(
    *,
    activation: str,
    norm: str,
    noise: Settings,
    runs: Sequence[Settings],
    steps: int,
    until: float | None,
    data: str,
    inputs: str,
    dtype: str,
    exact: bool = False,
) -> Values:
    """Train with noise behind the norm, or where it would be.

    Returns
    -------
    values : a number for each run: "val" and "test"; with ``until`` "steps_to" that validation accuracy, and without
        "drift", the mean of what :class:`Drift` notes
    """
    net = noisy(activation, norm, noise, SIZES[data])
    replicas = [Run(net=net, steps=steps, data=data, inputs=inputs, **run) for run in runs]
    every = steps if until is None else closer_at_first(steps)
    hooks = [Drift] if until is None else []
    found = train(replicas, every=every, until=until, dtype=getattr(torch, dtype), whole=True, exact=exact, hooks=hooks)
    values: Values = {"val": [h.val_accuracy[-1] for h in found], "test": [h.test_accuracy for h in found]}
    if until is None:
        return values | {"drift": [h.noted["drift"][1:].mean() for h in found]}
    return values | {"steps_to": [h.steps_to(until) for h in found]}


def _noises(
    steps: int,
    target: float,
    noise: Settings,
    watched: int,
    picked: dict[str, Any],
    lrs: dict[str, list[float]],
    places: list[str],
    **how: Any,
) -> Iterator[Arm]:
    """With and without batch norm, with and without noise: updates to the target, and drift over the first updates.

    The gain is that picked in chapter 8; the rate is picked anew for each arm. The drift is taken at the rate and gain
    picked there, for all arms alike those of their norm.
    """
    for data, activation, norm, loud in product(places, lrs, NORMS, (False, True)):
        gain, lr = picked[f"{data}, 3"][activation][norm]
        labels = {"data": data, "activation": activation, "norm": norm, "noise": loud}
        common = {
            "activation": activation, "norm": norm, "noise": noise if loud else {}, "data": data, "inputs": "centred",
            **how,
        }  # fmt: skip
        speed = common | {"steps": steps, "until": target}
        yield Arm(labels | {"what": "speed"}, speed, {"gain": [gain], "lr": lrs[activation]}, "steps_to")
        yield Arm(labels | {"what": "drift"}, common | {"steps": watched, "until": None}, {"gain": [gain], "lr": [lr]})


def _noise(what: str, activation: str, a: tuple[str, bool], b: tuple[str, bool], data: str = "digits") -> Pair:
    """Two arms, each with its norm and whether there is noise."""
    labels = {"data": data, "activation": activation, "what": what}
    return labels | {"norm": a[0], "noise": a[1]}, labels | {"norm": b[0], "noise": b[1]}


def _noise_parts(what: str, a: tuple[str, bool], b: tuple[str, bool]) -> dict[str, Any]:
    return {
        "parts": {name: _noise(what, unit, a, b) for unit, name in NAMES.items()},
        "transfers": {"MNIST 14 x 14": {n: _noise(what, unit, a, b, "mnist 14x14") for unit, n in NAMES.items()}},
    }


_NOISY = (
    "dense networks of three layers of 100 units (digits, centred inputs, SGD, noise of one standard deviation behind "
    "the norm)"
)
_noise_speed: dict[str, Any] = {**_asked, "of": "steps_to", "how": "ratio", "budget": 500}
noises = Comparison(
    "noises", _noises, disturbed,
    {"seeds": 64, "steps": 500, "target": 0.9, "noise": {"scale": 0.25, "shift": 1.0}, "watched": 100,
     "picked": {place: PICKED[place] for place in ("digits, 3", "mnist 14x14, 3")},
     "lrs": {"sigmoid": half_decades(0.316, 10), "tanh": half_decades(0.0316, 3.16),
             "relu": half_decades(0.0316, 3.16)},
     "places": ["digits", "mnist 14x14"], "exact": True, "dtype": "float32"},
    {"seeds": 2, "steps": 10, "watched": 5, "lrs": {"tanh": [0.316]}, "places": ["digits"], "dtype": "float64"},
    [
        Question(
            id="noisy-drift", **_asked, of="drift", how="ratio", criterion=more("ratio"),
            **_noise_parts("drift", ("batch", True), ("none", False)),
            unit="drift of the last layer's inputs, batch norm with noise / neither",
            statement="What the last hidden layer is given drifts more with batch norm and noise than with neither, "
            f"in {_NOISY}.",
            source="Santurkar et al. (2018), as a premise",
        ),
        Question(
            id="noisy-bn", **_noise_speed, criterion=same("ratio"),
            **_noise_parts("speed", ("batch", True), ("batch", False)),
            others={f"{n}, noise and batch norm / neither": _noise("speed", a, ("batch", True), ("none", False))
                    for a, n in NAMES.items()},
            unit="updates to an accuracy of 0.90, with noise / without, both with batch norm",
            statement=f"Noise behind batch norm, which changes at each update, does not slow the training of {_NOISY}.",
            source="Santurkar et al. (2018)",
        ),
        Question(
            id="noise-alone", **_noise_speed, criterion=more("ratio"),
            **_noise_parts("speed", ("none", True), ("none", False)),
            unit="updates to an accuracy of 0.90, with noise / without, both without batch norm",
            statement=f"Without batch norm the same noise slows training, in {_NOISY}.",
            source="Santurkar et al. (2018), in a sentence",
        ),
    ],
)  # fmt: skip


# Larger rates


def _timed(
    place: str, activation: str, norm: str, gain: Sequence[float], lr: Sequence[float], how: Settings, **labels: Any
) -> Arm:
    """Updates to the target at the best of some gains and rates; ``place``: data and depth."""
    data, depth = place.split(", ")
    spec = {"inputs": SIZES[data], "widths": [100] * int(depth), "activation": activation, "norm": norm}
    arguments = {"spec": spec, "data": data, "inputs": "centred", **how, "every": closer_at_first(how["steps"])}
    labels = {"place": place, "activation": activation, "norm": norm, **labels}
    return Arm(labels, arguments, {"gain": list(gain), "lr": list(lr)}, "steps_to")


def _rates(picked: dict[str, Any], places: list[str], shares: list[float], **how: Any) -> Iterator[Arm]:
    """Without batch norm at its best rate and at shares of it, with batch norm at these rates and at its own best."""
    for place in places:
        for activation, norm in product(picked[place], NORMS):
            gain, best = picked[place][activation][norm]
            plain = picked[place][activation]["none"][1]
            rates = {f"{share:g}": share * plain for share in shares} | ({"own": best} if norm == "batch" else {})
            for name, lr in rates.items():
                yield _timed(place, activation, norm, [gain], [lr], how, rate=name)


def _at_rate(activation: str, share: float = 1.0, place: str = "digits, 3") -> Pair:
    labels = {"place": place, "activation": activation, "rate": f"{share:g}"}
    return labels | {"norm": "none"}, labels | {"norm": "batch"}


rates = Comparison(
    "rates", _rates, trained,
    {"seeds": 64, "steps": 2000, "until": 0.9, "picked": PICKED, "shares": [0.1, 0.316, 1.0],
     "places": ["digits, 3", "digits, 8", "mnist 14x14, 3"], "exact": True,
     "dtype": "float32"},
    {"seeds": 2, "steps": 10, "shares": [1.0], "places": ["digits, 3"], "dtype": "float64",
     "picked": {"digits, 3": {"sigmoid": PICKED["digits, 3"]["sigmoid"]}}},
    [
        Question(
            id="larger-rates", **_asked, of="steps_to", how="ratio", budget=2000, criterion=same("ratio"),
            parts={"sigmoid, 3 layers": _at_rate("sigmoid"), "sigmoid, 8 layers": _at_rate("sigmoid", 1.0, "digits, 8"),
                   "ReLU, 8 layers": _at_rate("relu", 1.0, "digits, 8")},
            others={"tanh, 3 layers": _at_rate("tanh"), "ReLU, 3 layers": _at_rate("relu"),
                    "tanh, 8 layers": _at_rate("tanh", 1.0, "digits, 8")}
            | {f"{NAMES[a]}, 3 layers, {s:g} of the rate": _at_rate(a, s) for a in NAMES for s in (0.1, 0.316)},
            transfers={"MNIST 14 x 14": {"sigmoid, 3 layers": _at_rate("sigmoid", 1.0, "mnist 14x14, 3")}},
            unit="updates to an accuracy of 0.90, without / with, both at the best rate of the network without",
            statement="The gain of batch norm is the larger rate: at one rate for both, the best of the network "
            "without, dense networks of 100 units a layer train no faster with it (digits, centred inputs, SGD, each "
            "at its best gain).",
            source="Bjorck et al. (2018)",
        ),
    ],
)  # fmt: skip


def _starts(picked: dict[str, Any], places: list[str], **how: Any) -> Iterator[Arm]:
    """Both arms at the gain and the rate that are best without batch norm."""
    for place in places:
        for activation, norm in product(picked[place], NORMS):
            gain, lr = picked[place][activation]["none"]
            yield _timed(place, activation, norm, [gain], [lr], how)


def _started(activation: str, place: str = "digits, 3") -> Pair:
    labels = {"place": place, "activation": activation}
    return labels | {"norm": "none"}, labels | {"norm": "batch"}


starts = Comparison(
    "same-start", _starts, trained,
    {"seeds": 64, "steps": 2000, "until": 0.9, "picked": PICKED,
     "places": ["digits, 3", "digits, 8", "mnist 14x14, 3"], "exact": True,
     "dtype": "float32"},
    {"seeds": 2, "steps": 10, "places": ["digits, 3"], "dtype": "float64",
     "picked": {"digits, 3": {"relu": PICKED["digits, 3"]["relu"]}}},
    [
        Question(
            id="same-start", **_asked, of="steps_to", how="ratio", budget=2000, criterion=same("ratio"),
            parts={"ReLU, 3 layers": _started("relu"), "ReLU, 8 layers": _started("relu", "digits, 8")},
            others={f"{NAMES[a]}, {depth} layers": _started(a, f"digits, {depth}")
                    for a in ("sigmoid", "tanh") for depth in (3, 8)},
            transfers={"MNIST 14 x 14": {"ReLU, 3 layers": _started("relu", "mnist 14x14, 3")}},
            unit="updates to an accuracy of 0.90, without / with, from the same weights at the same rate",
            statement="What batch norm gains a ReLU network is a rate and a start that the network without does not "
            "bear: at its best gain and rate, dense networks of 100 ReLU units a layer train no faster with batch norm "
            "(digits, centred inputs, SGD).",
            source="this book's control; Bjorck et al. (2018)",
        ),
    ],
)  # fmt: skip


# Half of batch norm


def _halves(
    picked: dict[str, Any], gains: dict[str, list[float]], lrs: dict[str, list[float]], places: list[str], **how: Any
) -> Iterator[Arm]:
    """Without, with the mean subtracted alone at the best of a grid, and with batch norm; both others as picked."""
    for place in places:
        for activation, picks in picked[place].items():
            for norm, (gain, lr) in picks.items():
                yield _timed(place, activation, norm, [gain], [lr], how)
            yield _timed(place, activation, "mean", gains[activation], lrs[activation], how)


def _half(activation: str, place: str, a: str = "mean", b: str = "batch") -> Pair:
    labels = {"place": place, "activation": activation}
    return labels | {"norm": a}, labels | {"norm": b}


halves = Comparison(
    "halves", _halves, trained,
    {"seeds": 64, "steps": 500, "until": 0.9, "picked": PICKED, "gains": GAINS, "lrs": RATES,
     "places": ["digits, 3", "digits, 8", "mnist 14x14, 3"], "exact": True,
     "dtype": "float32"},
    {"seeds": 2, "steps": 10, "places": ["digits, 3"], "dtype": "float64", "gains": {"relu": [0.5]},
     "lrs": {"relu": [0.1]}, "picked": {"digits, 3": {"relu": PICKED["digits, 3"]["relu"]}}},
    [
        Question(
            id="centring", **_asked, of="steps_to", how="ratio", budget=500, criterion=same("ratio"),
            parts={f"sigmoid, {depth} layers": _half("sigmoid", f"digits, {depth}") for depth in (3, 8)},
            others={f"{NAMES[a]}, {depth} layers": _half(a, f"digits, {depth}")
                    for a in ("tanh", "relu") for depth in (3, 8)}
            | {f"{NAMES[a]}, {depth} layers, without / mean alone": _half(a, f"digits, {depth}", "none", "mean")
               for a in NAMES for depth in (3, 8)},
            transfers={"MNIST 14 x 14": {"sigmoid, 3 layers": _half("sigmoid", "mnist 14x14, 3")}},
            unit="updates to an accuracy of 0.90, mean subtracted alone / batch norm",
            statement="What batch norm gains a sigmoid network is centring: dense networks of 100 sigmoid units a "
            "layer train as fast if the mini-batch's mean is subtracted and nothing divided (digits, centred inputs, "
            "SGD, each at its best rate and gain).",
            source="this book's question; LeCun et al. (1998), section 4.3, on centred activations",
        ),
    ],
)  # fmt: skip


# The centre moved, and the other half


def _off_centre(
    picked: dict[str, Any],
    moved: list[str],
    divided: list[str],
    gains: dict[str, list[float]],
    lrs: dict[str, list[float]],
    places: list[str],
    **how: Any,
) -> Iterator[Arm]:
    """Moved activations without and with batch norm; others with division alone, at the best of a grid.

    Beside the latter stands batch norm as picked.
    """
    for place in places:
        for activation, norm in product(moved, NORMS):
            yield _timed(place, activation, norm, gains[activation], lrs[activation], how)
        for activation in divided:
            gain, lr = picked[place][activation]["batch"]
            yield _timed(place, activation, "batch", [gain], [lr], how)
            yield _timed(place, activation, "scale", gains[activation], lrs[activation], how)


_AT_DEPTHS = {f"{depth} layers": f"digits, {depth}" for depth in (3, 8)}


def _control(activation: str, arm: str) -> dict[str, Any]:
    """An arm beside batch norm, in networks of three and eight layers."""
    words = {"none": "without / with batch norm", "scale": "division alone / batch norm"}[arm]
    return {
        "parts": {name: _half(activation, place, arm) for name, place in _AT_DEPTHS.items()},
        "transfers": {"MNIST 14 x 14": {"3 layers": _half(activation, "mnist 14x14, 3", arm)}},
        "unit": f"updates to an accuracy of 0.90, {words}",
        "source": "this book's control",
    }


_halved: dict[str, Any] = {**_asked, "of": "steps_to", "how": "ratio", "budget": 500}
off_centre = Comparison(
    "off-centre", _off_centre, trained,
    {"seeds": 64, "steps": 500, "until": 0.9, "picked": PICKED, "moved": ["tanh + 1", "sigmoid - 1/2"],
     "divided": ["sigmoid", "relu"],
     "gains": GAINS | {"tanh + 1": GAINS["tanh"], "sigmoid - 1/2": [2.0, 4.0, 6.0, 8.0, 12.0]},
     "lrs": RATES | {"tanh + 1": half_decades(0.00316, 10), "sigmoid - 1/2": half_decades(0.316, 100)},
     "places": ["digits, 3", "digits, 8", "mnist 14x14, 3"], "exact": True,
     "dtype": "float32"},
    {"seeds": 2, "steps": 10, "places": ["digits, 3"], "dtype": "float64", "moved": ["tanh + 1"], "divided": ["relu"],
     "gains": {"tanh + 1": [1.0], "relu": [0.5]}, "lrs": {"tanh + 1": [0.1], "relu": [0.1]}},
    [
        Question(
            id="centre-lost", **_halved, **_control("tanh + 1", "none"), criterion=more("ratio"),
            statement="Where activations are moved off zero, batch norm makes training faster: dense networks of 100 "
            "units a layer with tanh(z) + 1, which gain nothing with tanh (digits, centred inputs, SGD, each at its "
            "best rate and gain).",
        ),
        Question(
            id="centre-given", **_halved, **_control("sigmoid - 1/2", "none"), criterion=same("ratio"),
            statement="Where activations lie around zero, batch norm makes training no faster: dense networks of 100 "
            "units a layer with sigmoid(z) - 1/2, which gain with sigmoid (digits, centred inputs, SGD, each at its "
            "best rate and gain).",
        ),
        Question(
            id="centring-removed", **_halved, **_control("sigmoid", "scale"), criterion=more("ratio"),
            statement="Without centring the gain goes: dense networks of 100 sigmoid units a layer train more slowly "
            "if z is only divided by its root mean square over the mini-batch (digits, centred inputs, SGD, each at "
            "its best rate and gain).",
        ),
        Question(
            id="division", **_halved, **_control("relu", "scale"), criterion=same("ratio"),
            statement="For ReLU division is enough: dense networks of 100 ReLU units a layer train as fast if z is "
            "only divided by its root mean square over the mini-batch (digits, centred inputs, SGD, each at its best "
            "rate and gain).",
        ),
    ],
)  # fmt: skip


# Noise that regularizes, and what batch norm makes dispensable


class Fewer(Hook):
    """The first n training examples alone."""

    def __init__(self, program: Program, n: int) -> None:
        super().__init__(program)
        x, y = program.examples
        program.examples = x[:, :n], y[:, :n]
        program.batches = [batches(n, program.runs[0].batch, seed) for seed in program.seeds]


class Mislabelled(Hook):
    """A share of the training examples gets another class, drawn for each seed."""

    def __init__(self, program: Program, share: float) -> None:
        super().__init__(program)
        (x, y), classes = program.examples, program.net.outputs[-1]
        for own, seed in zip(y, program.seeds, strict=True):
            rng = np.random.default_rng([seed, 2])
            rows = rng.permutation(len(own))[: round(share * len(own))]
            own[rows] = (own[rows] + torch.as_tensor(rng.integers(1, classes, len(rows)))) % classes
        program.examples = x, y


class Company(Hook):
    """So many more examples beside each mini-batch: they count in the statistics, and have no loss.

    They are drawn anew for each update, from the training examples that are not in the mini-batch. The loss is a mean
    over all, so that the rate has to make up for them.
    """

    def __init__(self, program: Program, more: int) -> None:
        super().__init__(program)
        x, y = program.examples
        n, batch = y.shape[1], program.runs[0].batch
        if not 1 <= more <= n - batch:
            raise ValueError(f"company is {more}: beside mini-batches of {batch} of {n} there are 1 to {n - batch}")
        program.examples = torch.cat([x, x], 1), torch.cat([y, torch.full_like(y, -100)], 1)  # no loss of these
        program.batches = [
            self._with(own, n, more, seed) for own, seed in zip(program.batches, program.seeds, strict=True)
        ]

    @staticmethod
    def _with(rows: Iterator[Tensor], n: int, more: int, seed: int) -> Iterator[Tensor]:
        rng = np.random.default_rng([seed, 3])
        for own in rows:
            others = np.setdiff1d(np.arange(n), own.numpy())
            yield torch.cat([own, n + torch.as_tensor(rng.permutation(others)[:more])])


class Altered(Hook):
    """Notes at the end the test accuracy on images with half of the ink, "faint", and moved by a pixel, "moved"."""

    def after(self, step: int) -> Mapping[str, Tensor] | None:
        """Judge them after the last update."""
        program, run = self.program, self.program.runs[0]
        if step < run.steps:
            return None
        x, y = program.test
        _, rows, columns = SETS[run.data].shape
        means, scales = [], []
        for own in program.runs:
            raw = load(own.data, own.seed).x_train
            means.append(torch.as_tensor(raw.mean(0)))
            scales.append(raw.var(0).mean() ** 0.5)
        mean = torch.stack(means).to(x)[:, None]
        scale = torch.tensor(scales).to(x)[:, None, None]
        raw = x * scale + mean
        moved = raw.unflatten(-1, (rows, columns)).roll(1, -1)
        moved[..., 0] = 0.0
        stats = program.exact()
        altered = {"faint": raw / 2, "moved": moved.flatten(-2)}
        return {name: program.evaluate((z - mean) / scale, y, stats)[1] for name, z in altered.items()}


def generalized(
    *,
    activation: str,
    norm: str,
    runs: Sequence[Settings],
    steps: int,
    data: str,
    dtype: str,
    examples: int | None = None,
    wrong: float = 0.0,
    company: int = 0,
) -> Values:
    """Train on few or mislabelled examples, and judge with the statistics of the whole training set.

    Parameters
    ----------
    runs : of each seed, lr and the share of "dropout"
    examples : so many of the training set; None are all
    wrong : the share of wrong labels
    company : so many more examples in the statistics of each mini-batch

    Returns
    -------
    values : a number for each run: "val" and "test", and the test accuracy on "faint" and "moved" images
    """
    hooks: list[Callable[[Program], Hook]] = []
    if examples is not None:
        hooks.append(partial(Fewer, n=examples))
    if wrong:
        hooks.append(partial(Mislabelled, share=wrong))
    if company:
        hooks.append(partial(Company, more=company))
    replicas = []
    for run in runs:
        own = {**run, "lr": run["lr"] * (1 + company / Run.batch)}
        net = nets.mlp(tuple(SIZES[data]), norm=norm, activation=activation, dropout=own.pop("dropout", 0.0))
        replicas.append(Run(net=net, steps=steps, data=data, inputs="centred", **own))
    found = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True, exact=True, hooks=[*hooks, Altered])
    return {"val": [h.val_accuracy[-1] for h in found], "test": [h.test_accuracy for h in found]} | {
        name: [h.noted[name][-1] for h in found] for name in ("faint", "moved")
    }


SCARCE: dict[str, Settings] = {
    "all images": {},
    "100 images": {"examples": 100},
    "wrong labels": {"wrong": 0.3},
}


def _scarce(
    lrs: dict[str, list[float]],
    gains: dict[str, float],
    dropout: list[float],
    company: int,
    scarce: dict[str, Any],
    places: list[list[Any]],
    **how: Any,
) -> Iterator[Arm]:
    """``places``: data, activation, and the ways: a norm, with "quiet" statistics of many, or with "dropout"."""
    for (data, activation, ways), (name, fields) in product(places, scarce.items()):
        for way in ways:
            norm = "none" if way.startswith("none") else "batch"
            arguments = {"activation": activation, "norm": norm, "data": data, **fields, **how}
            if "quiet" in way:
                arguments["company"] = min(company, fields.get("examples", math.inf) - Run.batch)
            grid: dict[str, list[float]] = {"gain": [gains[activation]]}
            grid |= {"dropout": dropout} if "dropout" in way else {}
            labels = {"data": data, "activation": activation, "way": way, "images": name}
            yield Arm(labels, arguments, grid | {"lr": lrs[activation]})


def _ways(a: str, b: str, *, activation: str = "relu", data: str = "digits", of: str = "") -> dict[str, Pair]:
    judged = {"of": of} if of else {}
    return {
        words: tuple(
            {"data": data, "activation": activation, "way": way, "images": name} | judged for way in (a, b)
        )
        for name, words in (("all images", "all 1,078 images"), ("100 images", "100 images"),
                            ("wrong labels", "30 % wrong labels"))
    }  # type: ignore[return-value]  # fmt: skip


def _beside(words: str, pairs: Mapping[str, Pair]) -> dict[str, Pair]:
    return {f"{words}{condition}": pair for condition, pair in pairs.items()}


_SCARCE = "in dense networks of three layers of 100 ReLU units (centred inputs, SGD, each at its best rate"
_fits: dict[str, Any] = {**_asked, "learned": LEARNED}
scarce = Comparison(
    "scarce", _scarce, generalized,
    {"seeds": 64, "steps": 1500, "dtype": "float32", "scarce": SCARCE, "company": 240, "dropout": [0.03, 0.1, 0.3, 0.5],
     "gains": {"relu": 1.41, "tanh": 1.0},
     "lrs": {"relu": half_decades(0.001, 31.6), "tanh": half_decades(0.00316, 3.16)},
     "places": [["digits", "relu", ["none", "batch", "batch, quiet", "none, dropout", "batch, dropout"]],
                ["digits", "tanh", ["none", "batch"]],
                ["mnist 14x14", "relu", ["none", "batch"]]]},
    {"seeds": 2, "steps": 3, "dtype": "float64",
     "scarce": {"100 images": {"examples": 100, "wrong": 0.3}},
     "places": [["digits", "relu", ["batch", "batch, quiet", "none, dropout"]]]},
    [
        Question(
            id="regularizes", **_fits, criterion=more("accuracy"), parts=_ways("batch", "none"),
            others=_beside("tanh, ", _ways("batch", "none", activation="tanh")),
            transfers={"MNIST 14 x 14": {
                c: p for c, p in _ways("batch", "none", data="mnist 14x14").items() if not c.startswith("all")}},
            unit="test accuracy, with batch norm - without",
            statement=f"Batch norm regularizes: {_SCARCE}, 1,500 updates) it makes the test accuracy higher (digits).",
            source="Ioffe and Szegedy (2015), section 3.4",
        ),
        Question(
            id="noise-regularizes", **_fits, criterion=more("accuracy"), parts=_ways("batch", "batch, quiet"),
            unit="test accuracy, statistics of 60 examples - of 300 (of 100 images: of all)",
            statement=f"What regularizes is the noise of the mini-batch's statistics: {_SCARCE}, 1,500 updates) "
            "statistics of the 60 examples give a higher test accuracy than those of 240 more, or of all 100 (digits).",
            source="Luo et al. (2019), among others",
        ),
        Question(
            id="less-dropout", **_fits, criterion=same("accuracy"), parts=_ways("batch, dropout", "batch"),
            others=_beside("without batch norm, ", _ways("none, dropout", "none")),
            unit="test accuracy, dropout - none, both with batch norm",
            statement=f"Batch norm makes dropout dispensable: with it, {_SCARCE} and share, 1,500 updates) dropout "
            "does not change the test accuracy (digits).",
            source="Ioffe and Szegedy (2015), section 4.2.1",
        ),
        Question(
            id="less-augmentation", **_fits, criterion=more("accuracy"),
            parts={"half of the ink": _ways("batch", "none", of="faint")["all 1,078 images"],
                   "moved by a pixel": _ways("batch", "none", of="moved")["all 1,078 images"]},
            unit="accuracy on altered test images, with batch norm - without",
            statement=f"Batch norm bears images that it was not trained on: {_SCARCE}, 1,500 updates) the accuracy on "
            "altered test images is higher (digits).",
            source="this book's question, after Ioffe and Szegedy (2015), section 4.2.1",
        ),
    ],
)  # fmt: skip


# Only gamma and beta


class Few(Hook):
    """Of the weights so many as there are gammas and betas learn, drawn for each replica; the others are put back."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        names = [name for name in program.params if name.endswith("weight")]
        number = sum(v[0].numel() for name, v in program.params.items() if name.endswith((".gamma", ".beta")))
        sizes = [program.params[name][0].numel() for name in names]
        free = torch.zeros(len(program.runs), sum(sizes), dtype=torch.bool)
        for own, run in zip(free, program.runs, strict=True):
            chosen = np.random.default_rng([run.seed, 4]).permutation(sum(sizes))[:number]
            own[torch.as_tensor(chosen)] = True
        self.fixed = {
            name: (~part.reshape(program.params[name].shape), program.params[name].detach().clone())
            for name, part in zip(names, free.split(sizes, 1), strict=True)
        }

    @torch.no_grad()
    def after(self, step: int) -> None:
        """Put the others back."""
        for name, (fixed, first) in self.fixed.items():
            value = self.program.params[name]
            value.copy_(torch.where(fixed, first, value))


FEW: dict[str, Settings] = {  # what learns: the factors of the rate, and whether few weights learn
    "gamma and beta": {"factors": [["weight", 0.0], ["bias", 0.0]]},
    "as many weights": {"factors": [["gamma", 0.0], ["beta", 0.0], ["bias", 0.0]], "few": True},
    "output layer": {"factors": [["gamma", 0.0], ["beta", 0.0], ["{last}.affine.weight", 1.0], ["weight", 0.0]]},
}


def partly(
    *, factors: list[list[Any]], depth: int, data: str, runs: Sequence[Settings], steps: int, dtype: str,
    few: bool = False,
) -> Values:  # fmt: skip
    """Train a part of the parameters of a ReLU network with batch norm: "val" and "test" accuracy of each run."""
    net = nets.mlp(tuple(SIZES[data]), [100] * depth, norm="batch", activation="relu")
    rates = tuple((str(end).format(last=net.chains[-1]), factor) for end, factor in factors)
    replicas = [Run(net=net, steps=steps, data=data, inputs="centred", factors=rates, **run) for run in runs]
    hooks = [Few] if few else []
    found = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True, exact=True, hooks=hooks)
    return {"val": [h.val_accuracy[-1] for h in found], "test": [h.test_accuracy for h in found]}


def _learning(
    few: dict[str, Any], lrs: list[float], gains: list[float], places: list[list[Any]], **how: Any
) -> Iterator[Arm]:
    for (data, depth), (what, fields) in product(places, few.items()):
        labels = {"data": data, "depth": depth, "learns": what}
        yield Arm(labels, {"data": data, "depth": depth, **fields, **how}, {"gain": gains, "lr": lrs})


def _learns(other: str, data: str = "digits", depth: int = 3) -> Pair:
    labels = {"data": data, "depth": depth}
    return labels | {"learns": "gamma and beta"}, labels | {"learns": other}


_RIVALS = {"less as many random weights": "as many weights", "less the output layer alone": "output layer"}
learning = Comparison(
    "few-learn", _learning, partly,
    {"seeds": 64, "steps": 600, "dtype": "float32", "few": FEW, "gains": [1.41], "lrs": half_decades(0.0316, 31.6),
     "places": [["digits", 3], ["digits", 8], ["mnist 14x14", 3]]},
    {"seeds": 2, "steps": 5, "dtype": "float64", "places": [["digits", 3]]},
    [
        Question(
            id="only-gamma-beta", **_asked, criterion=more("accuracy"),
            parts={name: _learns(other) for name, other in _RIVALS.items()},
            others={f"8 layers, {name}": _learns(other, depth=8) for name, other in _RIVALS.items()},
            transfers={"MNIST 14 x 14": {name: _learns(other, "mnist 14x14") for name, other in _RIVALS.items()}},
            unit="test accuracy, gamma and beta learned - the other learned",
            statement="Gamma and beta alone train a network of random features, better than as many random weights and "
            "than the output layer alone (three layers of 100 ReLU units with batch norm, digits, centred inputs, SGD, "
            "each at its best rate, 600 updates).",
            source="Frankle, Schwab and Morcos (2021)",
        ),
    ],
)  # fmt: skip

EXPERIMENTS = [probes, noises, rates, starts, halves, off_centre, scarce, learning]
