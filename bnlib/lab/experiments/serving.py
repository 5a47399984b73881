"""What chapter 9 measures: which statistics a batch norm uses when the network is judged, on the same weights.

Sigmoid, tanh and ReLU, centred inputs, up to 64 seeds, each network at the rate that is best for its accuracy with
exact statistics; see :mod:`bnlib.lab.comparisons`. "exact" are the mean and the biased variance of z over the whole
training set, with the weights as they are, each layer fed by layers below that use exact statistics, too. Training does
not depend on the statistics that are collected for later, so one run is judged by all of them.

The criteria were written down before the first run. Earlier results were known, on raw pixels over 8 seeds with
sigmoids alone: batches of 2, 8, 32 and 119 at test cost 0.32, 0.05, 0.013 and 0.007 of accuracy, sorted by class 0.14
to 0.84; running averages of momentum 0.01 and 0.1 were exact within 0.002 after 1,000 updates, and 0.1 lost 0.013 after
100; the loss in use was 0.22 to 0.8 of that in training mode; new statistics brought 0.37, 0.56 and 0.14 for faint
images, grey paper and images of their own contrast, and nothing for noise, negatives and the end of the file. Which
parts decide follows from what the claims say, in the form that is most usual.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bnlib.claims import less, more, same
from bnlib.data import SETS, Split, load
from bnlib.lab import nets
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import by_layer, half_decades, net_of
from bnlib.lab.experiments.speed import NAMES, OVERLAP, SIZES
from bnlib.lab.layers import Params
from bnlib.lab.nets import mlp
from bnlib.lab.records import Measurement, Settings, Values
from bnlib.lab.train import Hook, Program, Run, batches, train
from bnlib.running import RunningStats

LAYERS = 3


def as_written(params: Params) -> Params:
    """The parameters of replicas, or of one of them, as the chapter writes them.

    Weights are (R, in, out), the others (R, 1, out): so ``h @ weight`` is what the chapter writes.
    """
    found = by_layer(params)
    return {name: p.mT.contiguous() if name.startswith("weight") else p[..., None, :] for name, p in found.items()}


def begin(seeds: int) -> Params:
    """The parameters before the first step, a seed for each replica, as the chapter writes them."""
    return as_written(nets.start(mlp(norm="batch"), range(seeds), dtype=torch.float64).params)


def rows_of(n: int, batch: int, seeds: int) -> Iterator[Tensor]:
    """The mini-batches of every replica: (R, batch)."""
    own = [batches(n, batch, seed) for seed in range(seeds)]
    while True:
        yield torch.stack([next(rows) for rows in own])


def losses(logits: Tensor, y: Tensor) -> Tensor:
    """(R,) the mean cross-entropy of each replica."""
    return cross_entropy(logits.mT, y, reduction="none").mean(-1)


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """(R,) the share of right answers."""
    return (logits.argmax(-1) == y).double().mean(-1)


CHAPTER = "09_test_time"
EARLY, LATE = 1198, 599  # the first two thirds of the digits' file, and the rest
CHANGES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {  # of pixels from 0 to 1
    "faint": lambda x, rng: 0.3 * x,
    "grey paper": lambda x, rng: 0.5 + 0.5 * x,
    "own contrast": lambda x, rng: x * rng.uniform(0.1, 1, (len(x), 1)),
    "noise": lambda x, rng: x + 0.3 * rng.normal(size=x.shape),
    "negative": lambda x, rng: 1 - x,
}
FILE_ORDER = "file order"


class Judge(Hook):
    """Notes "accuracy, ..." and "loss, ..." after the last update, by the statistics that are named.

    Parameters
    ----------
    name : what stands for the dots
    by : "exact", "running" or "batches": with their own statistics, without an order's remainder
    momentum : of the running averages
    size, order, orders : of those batches; the order is "random", the mean over so many, or "sorted" by class
    images : "test" or "train"
    """

    def __init__(
        self,
        program: Program,
        name: str,
        by: str,
        momentum: float = 0.1,
        size: int = 0,
        order: str = "random",
        orders: int = 1,
        images: str = "test",
    ) -> None:
        super().__init__(program)
        self.name, self.by, self.size, self.order, self.orders, self.images = name, by, size, order, orders, images
        self.running = {path: replace(stats, momentum=momentum) for path, stats in program.stats.items()}

    @torch.no_grad()
    def after(self, step: int) -> dict[str, Tensor]:
        """What is noted; of a network that is no longer finite nan."""
        program = self.program
        if self.by == "running":
            self.running = {path: stats.averaged(program.moments[path]) for path, stats in self.running.items()}
        if step < program.runs[0].steps:
            return {}
        x, y = program.training_set() if self.images == "train" else program.test
        found = [self.of(x, y, rows) for rows in self.rows(y)]
        loss, right = (torch.stack(values).mean(0) for values in zip(*found, strict=True))
        lost = (program.failed > 0) | ~loss.isfinite()
        noted = {"loss": loss, "accuracy": right}
        return {f"{what}, {self.name}": torch.where(lost, math.nan, values) for what, values in noted.items()}

    def rows(self, y: Tensor) -> list[Tensor]:
        """The orders of the images, (R, N) each."""
        if self.by != "batches":
            return [torch.arange(y.shape[1]).expand(y.shape)]
        if self.order == "sorted":
            return [y.argsort(dim=1, stable=True)]
        shuffled = [np.random.default_rng([own, self.size]).permutation(y.shape[1]) for own in range(self.orders)]
        return [torch.as_tensor(rows).expand(y.shape) for rows in shuffled]

    def of(self, x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(R,) loss and accuracy of the images in one order."""
        program, own = self.program, torch.arange(len(x))[:, None]
        if self.by == "batches":
            rows = rows[:, : rows.shape[1] // self.size * self.size]
        x, y = x[own, rows], y[own, rows]
        stats = {"exact": program.exact, "running": lambda: self.running, "batches": lambda: None}[self.by]()
        parts = x.split(self.size, 1) if self.by == "batches" else [x]
        logits = torch.cat([nets.forward(program.net, program.params, part, stats)[0] for part in parts], 1).double()
        return losses(logits, y), accuracy(logits, y)


def judged(
    *, spec: Settings, runs: Sequence[Settings], steps: int, dtype: str, judges: Mapping[str, Settings], **how: Any
) -> Values:
    """Train networks, and judge each in several ways.

    Parameters
    ----------
    spec : as :func:`bnlib.lab.experiments.net_of` takes it
    runs : of each the seed and the rate
    judges : by name what :class:`Judge` takes
    steps, dtype, how : as for :func:`bnlib.lab.experiments.trained`

    Returns
    -------
    values : a number for each run: "val", the accuracy with exact statistics; and what the judges note
    """
    return _at_the_end(spec, runs, steps, dtype, [partial(Judge, name=n, **judge) for n, judge in judges.items()], how)


def _at_the_end(
    spec: Settings,
    runs: Sequence[Settings],
    steps: int,
    dtype: str,
    hooks: Sequence[Callable[[Program], Hook]],
    how: Settings,
) -> Values:
    net, scale = net_of(spec)
    replicas = [Run(net=net, steps=steps, **{**how, **scale, **run}) for run in runs]
    histories = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True, exact=True, hooks=hooks)
    noted = {name: [h.noted[name][-1] for h in histories] for name in histories[0].noted}
    return {"val": [h.val_accuracy[-1] for h in histories], **noted}


def changed(change: str, data: str, seed: int) -> tuple[Split, np.ndarray]:
    """A split with test images that have changed, and other images, which have changed likewise; all centred.

    Parameters
    ----------
    change : a name in ``CHANGES``; or "file order", of the digits: to train and to validate on images of the first two
        thirds of the file, and to test on images of the last

    Returns
    -------
    split : training and validation images as they are
    others : the changed validation images; in file order the rest of the last third
    """
    if change == FILE_ORDER:
        x, y = SETS[data].arrays()
        train, rng = SETS[data].parts[0], np.random.default_rng(seed)
        early, late = rng.permutation(EARLY), EARLY + rng.permutation(LATE)
        parts = early[:train], early[train:], late[: SETS[data].parts[2]]
        split, others = Split(*(a[rows] for rows in parts for a in (x, y))), x[late[SETS[data].parts[2] :]]
    else:
        split, rng = load(data, seed), np.random.default_rng([seed, 3])
        others = CHANGES[change](split.x_val, rng)
        split = split._replace(x_test=CHANGES[change](split.x_test, rng))
    mean, scale = split.x_train.mean(0), split.x_train.var(0).mean() ** 0.5
    x_train, x_val, x_test, others = ((a - mean) / scale for a in (*split[::2], others))
    return split._replace(x_train=x_train, x_val=x_val, x_test=x_test), others


class Changed(Hook):
    """Gives the program test images that have changed, and notes the accuracy on them after the last update.

    It is noted as "accuracy, ..., old", by the training set's statistics, and "accuracy, ..., new", by those of the
    other changed images.

    Parameters
    ----------
    change : as for :func:`changed`, and what stands for the dots; in file order the program trains on the file's first
        two thirds
    """

    def __init__(self, program: Program, change: str) -> None:
        super().__init__(program)
        found = [changed(change, program.runs[0].data, seed) for seed in program.seeds]
        arrays = [torch.as_tensor(np.stack(parts)) for parts in zip(*(split for split, _ in found), strict=True)]
        x_train, x_val, x_test = (x.to(program.dtype) for x in arrays[::2])
        y_train, y_val, y_test = arrays[1::2]
        who = program.who
        if change == FILE_ORDER:
            program.examples, program.val = (x_train, y_train), (x_val[who], y_val[who])
        self.change, self.test = change, (x_test[who], y_test[who])
        self.others = torch.as_tensor(np.stack([others for _, others in found])).to(program.dtype)[who]

    @torch.no_grad()
    def after(self, step: int) -> dict[str, Tensor]:
        """What is noted; of a network that is no longer finite nan."""
        program = self.program
        if step < program.runs[0].steps:
            return {}
        noted = {}
        for statistics, images in (("old", program.training_set()[0]), ("new", self.others)):
            found = nets.forward(program.net, program.params, images)[1]
            stats = {path: RunningStats(m.mean, m.var) for path, m in found.items()}
            loss, right = program.evaluate(*self.test, stats)
            noted[f"accuracy, {self.change}, {statistics}"] = torch.where(loss.isfinite(), right, math.nan)
        return noted


def renewed(
    *, spec: Settings, runs: Sequence[Settings], steps: int, dtype: str, changes: Sequence[str], **how: Any
) -> Values:
    """Train networks, and judge each on images that have changed in several ways.

    Parameters
    ----------
    changes : as for :class:`Changed`; file order stands alone
    spec, runs, steps, dtype, how : as for :func:`judged`

    Returns
    -------
    values : a number for each run: "val", the accuracy with exact statistics, without a change; and what is noted of
        each change

    Raises
    ------
    ValueError
        If file order is one of several changes.
    """
    if FILE_ORDER in changes and len(changes) > 1:
        raise ValueError(f"changes are {list(changes)}: give {FILE_ORDER!r} alone, since it trains on other images")
    hooks = [partial(Changed, change=change) for change in changes]
    return _at_the_end(spec, runs, steps, dtype, hooks, {**how, "inputs": "centred"})


def _net(data: str, activation: str, **of_norm: Any) -> Settings:
    return {"inputs": SIZES[data], "widths": [100] * LAYERS, "activation": activation, "norm": "batch", **of_norm}


def _company(lrs: dict[str, list[float]], places: dict[str, list[str]], orders: int, **how: Any) -> Iterator[Arm]:
    """The test images by the training set's statistics, and in batches by their own.

    ``places``: data, and the batches there, such as "random 8"; an order's remainder is left out, and random ones are
    the mean of so many ``orders``.
    """
    for (data, names), activation in product(places.items(), lrs):
        judges: dict[str, Settings] = {"exact": {"by": "exact"}}
        for name in names:
            order, size = name.split()
            judges[name] = {"by": "batches", "size": int(size), "order": order, "orders": orders}
        yield Arm(
            {"data": data, "activation": activation},
            {"spec": _net(data, activation), "data": data, "judges": judges, **how},
            {"lr": lrs[activation]},
        )


def _by_company(activation: str, name: str, data: str = "digits") -> Pair:
    labels = {"data": data, "activation": activation}
    return labels | {"of": f"accuracy, {name}"}, labels | {"of": "accuracy, exact"}


_STANDARD: dict[str, Any] = {"batch": 60, "inputs": "centred", "dtype": "float32"}
_ONCE: dict[str, Any] = {"seeds": 2, "steps": 6, "dtype": "float64"}
RATES = {"sigmoid": half_decades(0.1, 31.6), "tanh": half_decades(0.0316, 10), "relu": half_decades(0.0316, 10)}
RATES_LATER = {  # for 1,000 updates
    "sigmoid": half_decades(0.316, 31.6), "tanh": half_decades(0.1, 10), "relu": half_decades(0.0316, 3.16),
}  # fmt: skip
RATES_OF_SIZES = {  # of a batch
    "64": RATES,
    "16": {"sigmoid": half_decades(0.0316, 10), "tanh": half_decades(0.01, 3.16), "relu": half_decades(0.01, 3.16)},
    "4": {"sigmoid": half_decades(0.00316, 3.16)},
}
COMPANIES = ["random 2", "random 8", "random 32", "random 119", "sorted 8", "sorted 119"]
_NETWORKS = "dense networks of three layers of 100 units with batch normalization"
_SET_UP = "digits, centred inputs, SGD, gain 1, each at its best rate"
_asked: dict[str, Any] = {"chapter": CHAPTER, "overlap": OVERLAP}
_MNIST = "mnist 14x14"

company = Comparison(
    "company", _company, judged,
    {"seeds": 64, "steps": 300, "lrs": RATES, "orders": 2, **_STANDARD,
     "places": {"digits": COMPANIES, _MNIST: ["random 8"]}},
    {**_ONCE, "lrs": {"sigmoid": [1.0]}, "orders": 1, "places": {"digits": ["random 119", "sorted 119"]}},
    [
        Question(
            id="batch-stats-at-test", **_asked, criterion=less("accuracy"),
            unit="test accuracy, by the batch's statistics - by the training set's",
            statement=f"By the statistics of batches of 8, {_NETWORKS} predict worse than by the training set's "
            f"({_SET_UP}, 300 updates).",
            source="Ioffe and Szegedy (2015), section 3.1: neither necessary nor desirable",
            parts={name: _by_company(a, "random 8") for a, name in NAMES.items()},
            others={f"{name}, {'sorted by class, ' * order.startswith('sorted')}batches of {order.split()[1]}":
                    _by_company(a, order) for a, name in NAMES.items() for order in COMPANIES if order != "random 8"},
            transfers={"MNIST 14 x 14": {name: _by_company(a, "random 8", _MNIST) for a, name in NAMES.items()}},
        ),
    ],
)  # fmt: skip


def _averaging(lrs: dict[str, list[float]], places: list[list[Any]], **how: Any) -> Iterator[Arm]:
    """The running averages that a training leaves, and exact statistics; ``places``: data, unit, updates, momenta.

    The averages start at mean 0 and variance 1, and average the unbiased variances of the mini-batches, as PyTorch's.
    """
    for data, activation, steps, momenta in places:
        judges: dict[str, Settings] = {f"m = {m:g}": {"by": "running", "momentum": m} for m in momenta}
        judges["exact"] = {"by": "exact"}
        yield Arm(
            {"data": data, "activation": activation, "steps": steps},
            {"spec": _net(data, activation), "data": data, "steps": steps, "judges": judges, **how},
            {"lr": lrs[activation]},
        )


def _by_average(activation: str, momentum: float, steps: int = 1000, data: str = "digits") -> Pair:
    labels = {"data": data, "activation": activation, "steps": steps}
    return labels | {"of": f"accuracy, m = {momentum:g}"}, labels | {"of": "accuracy, exact"}


averaging = Comparison(
    "averaging", _averaging, judged,
    {"seeds": 64, **_STANDARD,
     "lrs": RATES_LATER,
     "places": [["digits", "sigmoid", 1000, [0.001, 0.01, 0.1, 1.0]], ["digits", "tanh", 1000, [0.1]],
                ["digits", "relu", 1000, [0.1]], ["digits", "sigmoid", 100, [0.001, 0.01, 0.1, 1.0]],
                [_MNIST, "sigmoid", 1000, [0.1]]]},
    {"seeds": 2, "dtype": "float64", "places": [["digits", "sigmoid", 6, [0.1]]]},
    [
        Question(
            id="ema-momentum", **_asked, criterion=same("accuracy"),
            unit="test accuracy, running averages - exact",
            statement=f"In {_NETWORKS}, running averages of momentum 0.1 stand in for exact statistics ({_SET_UP}, "
            "1,000 updates).",
            source="common practice; Ioffe and Szegedy (2015), section 3.1",
            parts={name: _by_average(a, 0.1) for a, name in NAMES.items()},
            others={f"sigmoid, m = {m:g}": _by_average("sigmoid", m) for m in (0.001, 0.01, 1.0)}
            | {f"sigmoid, m = {m:g}, 100 updates": _by_average("sigmoid", m, 100) for m in (0.001, 0.01, 0.1, 1.0)},
            transfers={"MNIST 14 x 14": {"sigmoid": _by_average("sigmoid", 0.1, data=_MNIST)}},
        ),
    ],
)  # fmt: skip


def _two_modes(
    examples: int, lrs: dict[str, dict[str, list[float]]], places: list[list[Any]], orders: int, **how: Any
) -> Iterator[Arm]:
    """The loss of the same networks on the same images in use, and in training mode.

    Equal numbers of examples in mini-batches of each size; training mode is in batches of that size, the mean over so
    many random ``orders``. ``places``: unit, size of batch.
    """
    for activation, size in places:
        judges: dict[str, Settings] = {}
        for images in ("train", "test"):
            judges[f"{images} use"] = {"by": "exact", "images": images}
            judges[f"{images} training"] = {"by": "batches", "images": images, "size": size, "orders": orders}
        yield Arm(
            {"activation": activation, "size": size},
            {"spec": _net("digits", activation), "batch": size, "steps": examples // size, "judges": judges, **how},
            {"lr": lrs[str(size)][activation]},
        )


def _modes(activation: str, size: int = 64, images: str = "train") -> Pair:
    labels = {"activation": activation, "size": size}
    return labels | {"of": f"loss, {images} use"}, labels | {"of": f"loss, {images} training"}


modes = Comparison(
    "modes", _two_modes, judged,
    {"seeds": 64, "examples": 18_000, "orders": 2, "data": "digits", "inputs": "centred", "dtype": "float32",
     "lrs": RATES_OF_SIZES,
     "places": [*([a, size] for size in (64, 16) for a in NAMES), ["sigmoid", 4]]},
    {"seeds": 2, "examples": 256, "orders": 1, "dtype": "float64", "places": [["sigmoid", 64]]},
    [
        Question(
            id="train-eval-gap", **_asked, how="ratio", criterion=same("ratio"),
            unit="loss in use / loss in training mode",
            statement="On the training images, in batches of the size that they were trained with, the loss of "
            f"{_NETWORKS} is the same in training mode and in use ({_SET_UP}, batches of 64, 18,000 examples).",
            source="a common reading of training curves",
            parts={name: _modes(a) for a, name in NAMES.items()},
            others={f"{name}, test images": _modes(a, images="test") for a, name in NAMES.items()}
            | {f"{name}, batches of 16": _modes(a, 16) for a, name in NAMES.items()}
            | {"sigmoid, batches of 4": _modes("sigmoid", 4)},
        ),
    ],
)  # fmt: skip


def _renewal(lrs: dict[str, list[float]], places: list[list[Any]], **how: Any) -> Iterator[Arm]:
    """Changed test images by the training set's statistics, and by those of other images that have changed likewise.

    These others are the validation set's, 360 digits or 1,000 of MNIST, and for "file order" 240 of the last third.
    ``places``: data, unit, changes.
    """
    for data, activation, changes in places:
        yield Arm(
            {"data": data, "activation": activation, "changes": changes},
            {"spec": _net(data, activation), "data": data, "changes": changes, **how},
            {"lr": lrs[activation]},
        )


def _renewed(activation: str, change: str, changes: list[str], data: str = "digits") -> Pair:
    labels = {"data": data, "activation": activation, "changes": [change] if change == FILE_ORDER else changes}
    return labels | {"of": f"accuracy, {change}, new"}, labels | {"of": f"accuracy, {change}, old"}


_SHIFTS = ["faint", "grey paper"]
_OTHERS = ["own contrast", "noise", "negative"]
_IN_ALL = [*_SHIFTS, *_OTHERS]

renewal = Comparison(
    "renewal", _renewal, renewed,
    {"seeds": 64, "steps": 300, "batch": 60, "lrs": RATES, "dtype": "float32",
     "places": [*(["digits", "sigmoid", changes] for changes in (_IN_ALL, [FILE_ORDER])),
                *(["digits", a, changes] for a in ("tanh", "relu") for changes in (_SHIFTS, [FILE_ORDER])),
                [_MNIST, "sigmoid", _SHIFTS]]},
    {**_ONCE, "places": [["digits", "sigmoid", ["faint"]], ["digits", "sigmoid", [FILE_ORDER]]]},
    [
        Question(
            id="adapt", **_asked, criterion=more("accuracy"), unit="test accuracy, new statistics - old",
            statement="After a shift of the images, new statistics make dense networks of three layers of 100 sigmoid "
            f"units with batch normalization more accurate ({_SET_UP}, 300 updates).",
            source="a common remedy",
            parts={change: _renewed("sigmoid", change, _IN_ALL) for change in (*_SHIFTS, FILE_ORDER)},
            others={change: _renewed("sigmoid", change, _IN_ALL) for change in _OTHERS}
            | {f"{change}, {NAMES[a]}": _renewed(a, change, _SHIFTS)
               for a in ("tanh", "relu") for change in (*_SHIFTS, FILE_ORDER)},
            transfers={"MNIST 14 x 14": {c: _renewed("sigmoid", c, _SHIFTS, _MNIST) for c in _SHIFTS}},
        ),
    ],
)  # fmt: skip

EXPERIMENTS: list[Measurement] = [company, averaging, modes, renewal]
