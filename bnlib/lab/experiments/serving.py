"""What chapter 9 measures: which statistics a batch norm uses when the network is judged, on the same weights.

Digits, three hidden layers of 100 sigmoid units with batch norm before the sigmoid, plain gradient descent, weights of
gain 1, 8 seeds. Training does not depend on the statistics that are collected for later, so all of them come from the
same run. "exact" are the mean and the biased variance of z over the whole training set, with the weights as they are,
each layer fed by layers below that use exact statistics, too.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.experiments import Cases, by_layer, half_decades, moments
from bnlib.lab.layers import Params
from bnlib.lab.nets import mlp
from bnlib.lab.records import Experiment, Values
from bnlib.lab.train import batches

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


EXPERIMENTS = [
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
