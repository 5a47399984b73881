"""What chapter 9 measures: which statistics a batch norm uses when the network is judged, on the same weights.

Digits, three hidden layers of 100 sigmoid units with batch norm before the sigmoid, plain gradient descent, weights of
gain 1, 8 seeds. Training does not depend on the statistics that are collected for later, so all of them come from the
same run. "exact" are the mean and the biased variance of z over the whole training set, with the weights as they are,
each layer fed by layers below that use exact statistics, too.

The comparisons, further below, ask the same of sigmoid, tanh and ReLU, of centred inputs, on up to 64 seeds, each
network at the rate that is best for its accuracy with exact statistics; see :mod:`bnlib.lab.comparisons`. Their
criteria were written down before their first run. Earlier results were known, on raw pixels over 8 seeds with sigmoids
alone: batches of 2, 8, 32 and 119 at test cost 0.32, 0.05, 0.013 and 0.007 of accuracy, sorted by class 0.14 to 0.84;
running averages of momentum 0.01 and 0.1 were exact within 0.002 after 1,000 updates, and 0.1 lost 0.013 after 100; the
loss in use was 0.22 to 0.8 of that in training mode; new statistics brought 0.37, 0.56 and 0.14 for faint images, grey
paper and images of their own contrast, and nothing for noise, negatives and the end of the file. Which parts decide
follows from what the claims say, in the form that is most usual.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bnlib.claims import less, more, same
from bnlib.data import SETS, Split, load
from bnlib.lab import nets
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import Cases, by_layer, half_decades, moments, net_of
from bnlib.lab.experiments.speed import NAMES, OVERLAP, SIZES
from bnlib.lab.layers import Params
from bnlib.lab.nets import mlp
from bnlib.lab.records import Experiment, Measurement, Settings, Values
from bnlib.lab.train import Hook, Program, Run, batches, train
from bnlib.running import RunningStats

Known = tuple[Tensor, Tensor]  # mean and variance of a layer's units, each (..., 1, units)
Statistics = Callable[[int, Tensor], Known]
LAYERS, EPS = 3, 1e-5


class Data(NamedTuple):
    """Examples of every seed: x (R, N, 64), y (R, N)."""

    x: Tensor
    y: Tensor


def _averages(seeds: int, steps: int, lrs: list[float], **how: Any) -> Cases:
    """Running averages stand in for the population's statistics.

    They start at mean 0 and variance 1, and average the unbiased variances of the mini-batches, as PyTorch does.

    Criterion, at the rate with the best mean validation accuracy with exact statistics after the last step, for the
    momenta 0.001, 0.01, 0.1 and 1, after 100 steps and after 1,000: the test accuracy with the running averages less
    that with exact statistics lies within 0 ± 0.01. The grid of rates was widened after a first run, because two rates
    were best and one of them its last.
    """
    for lr in lrs:
        yield {"lr": lr}, {"lr": lr, "seeds": seeds, "steps": steps, **how}


def _gap(seeds: int, examples: int, sizes: list[int], lrs: list[float], **how: Any) -> Cases:
    """The loss in training mode tells the loss in use: the same weights, the same images.

    Networks see the same number of examples in mini-batches of each size. Then the mean loss is taken twice on the
    same weights: with the statistics of mini-batches of the size that they were trained with, and with exact ones.

    Criterion, for each size at the rate with the best mean validation accuracy (exact statistics), on the training and
    on the test images: the ratio of the loss in use to that in training mode lies within 1 ± 0.1.
    """
    for size in sizes:
        for lr in lrs:
            yield {"size": size, "lr": lr}, {
                "lr": lr, "batch": size, "steps": examples // size, "sizes": sizes, "seeds": seeds, **how,
            }  # fmt: skip


def _shift(splits: list[str], **how: Any) -> Cases:
    """Statistics of the new images repair a real shift: networks trained on the first two thirds of the digits' file.

    They learn from 900 images of the first two thirds and are tested on 300 of the last third, chosen as in chapter 1.
    The 299 others of the last third give the new statistics, without their labels.

    Criterion: the test accuracy with the new statistics less that with the training set's > 0.01. As a control, without
    a criterion and added after a first run, all three sets are drawn from the whole file.
    """
    for split in splits:
        yield {"split": split}, {"split": split, **how}


def begin(seeds: int, dtype: torch.dtype = torch.float64) -> Params:
    """The parameters before the first step, a seed for each replica.

    Weights are (R, in, out), the others (R, 1, out): so ``h @ weight`` is what the chapter writes.
    """
    params = by_layer(nets.start(mlp(norm="batch"), range(seeds), dtype=dtype).params)
    return {name: p.mT.contiguous() if name.startswith("weight") else p[:, None] for name, p in params.items()}


def of_batch(i: int, z: Tensor) -> Known:
    """Mean and biased variance of z, (..., N, units), over its own examples."""
    return moments(z)


def forward(params: Params, x: Tensor, statistics: Statistics) -> tuple[Tensor, list[Tensor]]:
    """The logits (R, N, classes), and z of every hidden layer, for x (R, N, features).

    ``statistics(layer, z)`` gives the mean and the variance that the layer is normalized with.
    """
    h, seen = x, []
    for i in range(LAYERS):
        z = h @ params[f"weight{i}"]
        seen.append(z)
        mean, var = statistics(i, z)
        h = torch.sigmoid(params[f"gamma{i}"] * (z - mean) / (var + EPS).sqrt() + params[f"beta{i}"])
    return h @ params[f"weight{LAYERS}"] + params[f"bias{LAYERS}"], seen


def fixed(known: list[Known]) -> Statistics:
    """Statistics that no longer depend on the batch."""
    return lambda i, z: known[i]


@torch.no_grad()
def exact(params: Params, x: Tensor) -> list[Known]:
    """Of every layer mean and variance over all of x: as one batch, so that each layer is fed by exact ones below."""
    return [of_batch(i, z) for i, z in enumerate(forward(params, x, of_batch)[1])]


def trained(
    params: Params, data: Data, rows: Iterator[Tensor], lr: float, steps: int
) -> Iterator[tuple[Params, list[Known]]]:
    """After each step of gradient descent the parameters, and the batch's mean and biased variance in each layer.

    ``rows`` gives the examples of each replica's next mini-batch, (R, N).
    """
    own = torch.arange(len(data.x))[:, None]
    for _ in range(steps):
        chosen = next(rows)
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        with torch.enable_grad():
            logits, seen = forward(leaves, data.x[own, chosen], of_batch)
            loss = losses(logits, data.y[own, chosen]).sum()  # each replica's depends on its own parameters alone
            grads = torch.autograd.grad(loss, list(leaves.values()))
        params = {name: p.detach() - lr * g for (name, p), g in zip(leaves.items(), grads, strict=True)}
        yield params, [of_batch(i, z.detach()) for i, z in enumerate(seen)]


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


class Average:
    """The running averages of one network, from mean 0 and variance 1: a momentum, or "cumulative" for 1/step."""

    def __init__(self, momentum: float | None, batch: int) -> None:
        self.momentum, self.factor = momentum, batch / (batch - 1)
        self.known: list[Known] = []
        self.left, self.steps = 1.0, 0  # the share of the start

    def update(self, found: list[Known]) -> None:
        """Average one batch in: its mean, and its variance made unbiased."""
        if not self.known:
            self.known = [(torch.zeros_like(mean), torch.ones_like(var)) for mean, var in found]
        self.steps += 1
        m = 1 / self.steps if self.momentum is None else self.momentum
        self.left *= 1 - m
        self.known = [
            (mean + m * (new_mean - mean), var + m * (self.factor * new_var - var))
            for (mean, var), (new_mean, new_var) in zip(self.known, found, strict=True)
        ]

    def corrected(self) -> list[Known]:
        """Without the start's share: a weighted mean of the batches alone."""
        return [(mean / (1 - self.left), (var - self.left) / (1 - self.left)) for mean, var in self.known]


def _splits(seeds: int, dtype: torch.dtype) -> list[Data]:
    splits = [load("digits", seed) for seed in range(seeds)]
    arrays = [torch.as_tensor(np.stack(a)) for a in zip(*splits, strict=True)]
    return [Data(x.to(dtype), y) for x, y in zip(arrays[::2], arrays[1::2], strict=True)]


def averaged(
    *, lr: float, seeds: int, steps: int, batch: int, momenta: list[float], at: list[int], dtype: str
) -> Values:
    """Train, and judge with every kind of running average after the steps ``at``.

    Returns
    -------
    values : for each seed a list over ``at``: "val exact", and "test ..." and "loss ..." on the test set for "exact",
        for each momentum "m 0.1" and "m 0.1 corrected", and for "cumulative"
    """
    train, val, test = _splits(seeds, getattr(torch, dtype))
    kinds: dict[str, Average] = {f"m {m:g}": Average(m, batch) for m in momenta} | {"cumulative": Average(None, batch)}
    params, found = begin(seeds, getattr(torch, dtype)), {}
    rows = rows_of(train.x.shape[1], batch, seeds)
    for step, (now, of_layers) in enumerate(trained(params, train, rows, lr, steps), 1):
        for average in kinds.values():
            average.update(of_layers)
        if step not in at:
            continue
        known = {"exact": exact(now, train.x)}
        for name, average in kinds.items():
            known |= {name: average.known}
            known |= {f"{name} corrected": average.corrected()} if average.momentum is not None else {}
        found.setdefault("val exact", []).append(accuracy(forward(now, val.x, fixed(known["exact"]))[0], val.y))
        for name, statistics in known.items():
            logits, _ = forward(now, test.x, fixed(statistics))
            found.setdefault(f"test {name}", []).append(accuracy(logits, test.y))
            found.setdefault(f"loss {name}", []).append(losses(logits, test.y))
    return {name: torch.stack(values, 1).tolist() for name, values in found.items()}


def two_losses(*, lr: float, batch: int, steps: int, sizes: list[int], orders: int, seeds: int, dtype: str) -> Values:
    """Train, and take the loss in use and in training mode, on the training and on the test images.

    Returns
    -------
    values : a number for each seed: "val", the accuracy with exact statistics; for "train" and "test" images "train
        use", the loss with exact statistics, "train 4" that with those of mini-batches of 4, the mean over random
        ``orders`` (without their remainder), and "train use accuracy" and "train 4 accuracy" likewise
    """
    train, val, test = _splits(seeds, getattr(torch, dtype))
    params = begin(seeds, getattr(torch, dtype))
    for now, _ in trained(params, train, rows_of(train.x.shape[1], batch, seeds), lr, steps):
        params = now
    known = fixed(exact(params, train.x))
    values = {"val": accuracy(forward(params, val.x, known)[0], val.y)}
    for name, data in (("train", train), ("test", test)):
        logits, _ = forward(params, data.x, known)
        values |= {f"{name} use": losses(logits, data.y), f"{name} use accuracy": accuracy(logits, data.y)}
        for size in sizes:
            found = [in_batches(params, data, size, order) for order in range(orders)]
            loss, right = (torch.stack(v).mean(0) for v in zip(*found, strict=True))
            values |= {f"{name} {size}": loss, f"{name} {size} accuracy": right}
    return {name: value.tolist() for name, value in values.items()}


@torch.no_grad()
def in_batches(params: Params, data: Data, size: int, order: int) -> tuple[Tensor, Tensor]:
    """(R,) loss and accuracy in training mode: batches of that size in a random order, without the remainder."""
    seeds, n = data.y.shape
    rng = np.random.default_rng([order, size])
    rows = torch.as_tensor(rng.permutation(n)[: n // size * size])
    many = {name: p[:, None] for name, p in params.items()}
    logits, _ = forward(many, data.x[:, rows].reshape(seeds, -1, size, data.x.shape[-1]), of_batch)
    logits, y = logits.flatten(1, 2), data.y[:, rows]
    return losses(logits, y), accuracy(logits, y)


def adapted(*, split: str, lr: float, steps: int, batch: int, sizes: list[int], seeds: int, dtype: str) -> Values:
    """Train on a part of the digits' file, and test on another with statistics of both.

    Parameters
    ----------
    split : "file order", to train on the first two thirds and to test on the last; or "random"

    Returns
    -------
    values : the test accuracy for each seed: "own" with the training set's statistics, and "new 32" with those of 32
        other images from the test images' part
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    early, late = [], []
    for seed in range(seeds):  # as in chapter 1
        rng = np.random.default_rng(seed)
        early.append(rng.permutation(1198)[:900])
        late.append(rng.permutation(599) + 1198)
        if split == "random":
            order = rng.permutation(1797)
            early[-1], late[-1] = order[:900], order[1198:]
    x, y = torch.as_tensor(images / 16).to(getattr(torch, dtype)), torch.as_tensor(labels)
    train, test, others = (
        Data(x[rows], y[rows])
        for rows in map(torch.as_tensor, (np.stack(early), np.stack(late)[:, :300], np.stack(late)[:, 300:]))
    )
    params = begin(seeds, getattr(torch, dtype))
    for now, _ in trained(params, train, rows_of(900, batch, seeds), lr, steps):
        params = now
    known = {"own": exact(params, train.x)} | {f"new {n}": exact(params, others.x[:, :n]) for n in sizes}
    return {name: accuracy(forward(params, test.x, fixed(k))[0], test.y).tolist() for name, k in known.items()}


EXPERIMENTS: list[Measurement] = [
    averages := Experiment(
        "serving-averages", _averages, averaged,
        {
            "seeds": 8, "steps": 1000, "lrs": half_decades(0.1, 31.6), "batch": 60,
            "momenta": [0.001, 0.01, 0.1, 0.5, 1.0], "at": [10, 30, 100, 300, 1000], "dtype": "float32",
        },
        {"seeds": 2, "steps": 6, "lrs": [1.0], "at": [3, 6], "dtype": "float64"},
    ),
    gap := Experiment(
        "serving-gap", _gap, two_losses,
        {
            "seeds": 8, "examples": 18_000, "sizes": [4, 16, 64], "lrs": half_decades(0.00316, 31.6),
            "orders": 4, "dtype": "float32",
        },
        {"seeds": 2, "examples": 256, "lrs": [0.316], "orders": 1, "dtype": "float64"},
    ),
    shift := Experiment(
        "serving-shift", _shift, adapted,
        {
            "splits": ["file order", "random"], "seeds": 8, "lr": 1.0, "steps": 300, "batch": 60,
            "sizes": [8, 32, 128, 299], "dtype": "float32",
        },
        {"splits": ["file order"], "seeds": 2, "steps": 6, "dtype": "float64"},
    ),
]  # fmt: skip


# The comparisons: criteria from before their first run.

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
_RATES = {"sigmoid": half_decades(0.1, 31.6), "tanh": half_decades(0.0316, 10), "relu": half_decades(0.0316, 10)}
_COMPANIES = ["random 2", "random 8", "random 32", "random 119", "sorted 8", "sorted 119"]
_NETWORKS = "dense networks of three layers of 100 units with batch normalization"
_SET_UP = "digits, centred inputs, SGD, gain 1, each at its best rate"
_asked: dict[str, Any] = {"chapter": CHAPTER, "overlap": OVERLAP}
_MNIST = "mnist 14x14"

company = Comparison(
    "company", _company, judged,
    {"seeds": 64, "steps": 300, "lrs": _RATES, "orders": 2, **_STANDARD,
     "places": {"digits": _COMPANIES, _MNIST: ["random 8"]}},
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
                    _by_company(a, order) for a, name in NAMES.items() for order in _COMPANIES if order != "random 8"},
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
     "lrs": {"sigmoid": half_decades(0.316, 31.6), "tanh": half_decades(0.1, 10), "relu": half_decades(0.0316, 3.16)},
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
     "lrs": {"64": _RATES,
             "16": {"sigmoid": half_decades(0.0316, 10), "tanh": half_decades(0.01, 3.16),
                    "relu": half_decades(0.01, 3.16)},
             "4": {"sigmoid": half_decades(0.00316, 3.16)}},
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

    These others are the validation set's, 359 digits or 1,000 of MNIST, and for "file order" 240 of the last third.
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
    {"seeds": 64, "steps": 300, "batch": 60, "lrs": _RATES, "dtype": "float32",
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

EXPERIMENTS += [company, averaging, modes, renewal]
