"""What chapter 13 measures: weights with a direction and a length, their initialization, and normalization propagation.

Digits, dense networks of ReLUs, plain gradient descent on mini-batches of 60 unless said, float32, 8 seeds. Arms share
their initial draws and their batches; the rates lie on one grid for all arms of a record and are picked for each arm by
the mean validation accuracy at the end. A run whose loss is not finite counts as an accuracy of 0.

Every weight matrix is treated alike, the output layer's too. "init" is data-dependent initialization from the first
mini-batch: each unit's length (of plain weights: the weights) and bias are set, layer by layer, so that its z has mean
0 and standard deviation 1 over that batch. The gain is that of the draw, gain / sqrt(inputs); 1.41 is He's. Normed
weights start with the draw as their direction and its length as their length, so without "init" they start as the same
function that plain ones do.
"""

from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.experiments import Cases, half_decades, spec_of
from bnlib.lab.nets import Params, Spec, Stats
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import batches

AT_ONCE = 4096  # examples of all replicas in one step
HE = 1.41


def _init(seeds: int, depths: list[int], arms: dict[str, list[float]], width: int, **how: Any) -> Cases:
    """Weight norm needs a good init: depths 4 and 16, gains 0.5, 1.41 (He's) and 4, with and without "init".

    Criterion for "weight norm needs a data-dependent initialization", for each depth and each gain, with and without
    at the best rate of each: weight norm's test accuracy with init less that without > 0.01.

    Criterion for "it is weight norm, not its initialization, that helps", for each depth, both at gain 1.41: the test
    accuracy of weight norm with init less that of plain weights with init > 0.01. Plain weights with init are the same
    for all gains, so they run with one; batch norm, with plain weights and no init, runs beside them without a
    criterion.
    """
    for depth, (arm, gains) in product(depths, arms.items()):
        for gain in gains:
            name, _, init = arm.partition(", ")
            yield {"depth": depth, "arm": arm, "gain": gain}, {
                "spec": {"widths": [width] * depth, "activation": "relu", "gain": gain, **_FIELDS[name]},
                "init": bool(init), "seeds": seeds, **how,
            }  # fmt: skip


def _relatives(seeds: int, depths: list[int], arms: list[str], width: int, **how: Any) -> Cases:
    """Relatives of weight norm, at He's gain and without "init", depths 4 and 16.

    "mean" is mean-only batch norm, with running means at test; "group" is group norm with 5 groups; both in all hidden
    layers, in front of the ReLU.

    Criterion for "mean-only batch norm improves weight norm", for each depth at the best rate of each: the test
    accuracy with both less that with weight norm alone > 0.01.

    Criterion for "weight standardization improves group norm", likewise: the test accuracy with both less that of
    group norm with plain weights > 0.01.
    """
    for depth, arm in product(depths, arms):
        yield {"depth": depth, "arm": arm}, {
            "spec": {"widths": [width] * depth, "activation": "relu", "gain": HE, **_FIELDS[arm]},
            "seeds": seeds, **how,
        }  # fmt: skip


_FIELDS: dict[str, Settings] = {
    "plain": {},
    "normed": {"weights": "normed"},
    "batch": {"norm": "batch"},
    "mean": {"norm": "mean"},
    "normed and mean": {"weights": "normed", "norm": "mean", "gamma": False},
    "standardized": {"weights": "standardized"},
    "group": {"norm": "group", "groups": 5},
    "standardized and group": {"weights": "standardized", "norm": "group", "groups": 5},
    "normprop": {"weights": "normed", "length": 1.0, "activation": "normprop", "gain": 1.0},
}


def _normprop(
    seeds: int,
    depth: int,
    width: int,
    images: dict[str, int],
    lrs: dict[str, list[float]],
    arms: dict[str, int],
    **how: Any,
) -> Cases:
    """Normalization propagation: 8 hidden layers of 100 units, against plain ReLUs at He's gain and batch norm.

    The mean image of the training set is subtracted from the inputs, and they are divided by one number, so that the
    mean of the pixels' variances is 1. For normprop each unit's weights start with length 1, which is learned
    afterwards as batch norm's gamma is, and the biases at 0. Mini-batches of 60, and for normprop also of one, with
    fewer images, since each costs a step.

    Criterion for "normalization propagation keeps the pre-activations at standard deviation 1": in hidden layers 1 and
    8, at the start and after training with batches of 60 at the best rate, the standard deviation of z over the
    training images, as a mean over the layer's units, lies within 1 ± 0.2.

    Criterion for "it is as accurate as batch norm", at the best rate of each: its test accuracy less batch norm's, and
    less that of plain ReLUs, lies within 0 ± 0.01.

    Criterion for "it trains with batches of one", at its best rate: the test accuracy > 0.9.
    """
    for arm, batch in arms.items():
        name = arm.partition(", ")[0]
        yield {"arm": arm}, {
            "spec": {"widths": [width] * depth, "activation": "relu", "gain": HE, **_FIELDS[name]},
            "batch": batch, "steps": images[str(batch)] // batch, "lrs": lrs[str(batch)], "centred": True,
            "watched": True, "seeds": seeds, **how,
        }  # fmt: skip


Pair = tuple[Tensor, Tensor]  # images of each seed (seeds, N, 64), and labels (seeds, N)


def ended(
    *,
    spec: Settings,
    lrs: list[float],
    seeds: int,
    steps: int,
    dtype: str,
    batch: int = 60,
    init: bool = False,
    centred: bool = False,
    watched: bool = False,
) -> Values:
    """Train one network for each rate and seed.

    Parameters
    ----------
    spec : fields of :class:`bnlib.lab.nets.Spec`
    lrs : learning rates
    seeds, steps, batch, dtype : as in :class:`bnlib.lab.train.Run`
    init : whether the weights are initialized from the first mini-batch
    centred : whether the mean image is subtracted, and the mean variance of the pixels made 1
    watched : whether to return the statistics of z as well

    Returns
    -------
    values : "val" and "test", the accuracy at the end, for each rate a list with a number for each seed; where z is
        watched, also "std start", "std end", "mean start" and "mean end", for each rate and seed a list over the
        hidden layers: over the training images the standard deviation of z, as a mean over units, and its mean, as a
        root mean square over units
    """
    each = max(1, AT_ONCE // (batch * seeds))
    data = _data(seeds, getattr(torch, dtype), centred)
    chunks = [lrs[i : i + each] for i in range(0, len(lrs), each)]
    parts = [_trained(spec_of(spec), data, chunk, steps, batch, init, watched) for chunk in chunks]
    return {name: [row for part in parts for row in part[name]] for name in parts[0]}


def _data(seeds: int, dtype: torch.dtype, centred: bool) -> tuple[Pair, Pair, Pair]:
    """Training, validation and test set of every seed."""
    splits = [load("digits", seed) for seed in range(seeds)]
    x, y, x_val, y_val, x_test, y_test = (torch.as_tensor(np.stack(a)) for a in zip(*splits, strict=True))
    if centred:
        mean, scale = x.mean(1, keepdim=True), x.var(1, correction=0).mean(1).sqrt()[:, None, None]
        x, x_val, x_test = ((a - mean) / scale for a in (x, x_val, x_test))
    return (x.to(dtype), y), (x_val.to(dtype), y_val), (x_test.to(dtype), y_test)


@torch.no_grad()
def _trained(
    spec: Spec, data: tuple[Pair, Pair, Pair], lrs: list[float], steps: int, batch: int, init: bool, watched: bool
) -> Values:
    (x, y), val, test = data
    seeds, n = x.shape[:2]
    who = torch.arange(seeds).repeat(len(lrs))
    params = nets.start([spec] * len(who), who.tolist(), x.dtype)
    stats, values = nets.start_stats(spec, params), {}
    if init:
        first = torch.stack([next(batches(n, batch, seed)) for seed in range(seeds)])[who]
        params = nets.data_init(spec, params, x[who[:, None], first])
    if watched:
        values |= _watch(spec, params, x[who], "start")
    learned, lr = nets.learned(spec, params), torch.tensor(lrs, dtype=x.dtype).repeat_interleave(seeds)
    rows = [batches(n, batch, seed) for seed in range(seeds)]
    for _ in range(steps):
        chosen = torch.stack([next(r) for r in rows])[who]  # (replicas, batch)
        with torch.enable_grad():
            leaves = [params[name].requires_grad_() for name in learned]
            logits, moments = nets.forward(spec, params, x[who[:, None], chosen])
            # The replicas' losses are summed, and each depends on its own parameters alone.
            loss = cross_entropy(logits.mT, y[who[:, None], chosen], reduction="none").mean(1).sum()
            grads = torch.autograd.grad(loss, leaves)
        for p, grad in zip(leaves, grads, strict=True):
            p.requires_grad_(False).addcmul_(grad, -lr.reshape(-1, *[1] * (p.ndim - 1)))
        stats = {i: s.update(moments[i]) for i, s in stats.items()}
    if watched:
        values |= _watch(spec, params, x[who], "end")
    for name, (images, labels) in (("val", val), ("test", test)):
        values[name] = _accuracy(spec, params, stats, images[who], labels[who])
    return {name: v.double().unflatten(0, (len(lrs), seeds)).tolist() for name, v in values.items()}


def _watch(spec: Spec, params: Params, x: Tensor, when: str) -> dict[str, Tensor]:
    """Standard deviation and mean of z over x in each hidden layer: (replicas, layers) each."""
    stds, means = [], []

    def tap(place: str, layer: int, z: Tensor) -> None:
        if place == "z" and layer < len(spec.widths):
            stds.append(z.std(2, correction=0).mean(1))  # z is (replicas, units, N)
            means.append(z.mean(2).square().mean(1).sqrt())

    nets.forward(spec, params, x, tap=tap)
    return {f"std {when}": torch.stack(stds, 1), f"mean {when}": torch.stack(means, 1)}


def _accuracy(spec: Spec, params: Params, stats: Stats, x: Tensor, y: Tensor) -> Tensor:
    logits, _ = nets.forward(spec, params, x, stats)
    finite = logits.isfinite().all(-1).all(-1)
    return torch.where(finite, (logits.argmax(-1) == y).double().mean(-1), 0.0)


GAINS = [0.5, HE, 4.0]

EXPERIMENTS = [
    init := Experiment(
        "weights-init", _init, ended,
        {"seeds": 8, "depths": [4, 16], "width": 50, "steps": 300, "lrs": half_decades(0.0001, 10),
         "arms": {"plain": GAINS, "plain, init": [HE], "normed": GAINS, "normed, init": GAINS, "batch": [HE]},
         "dtype": "float32"},
        {"seeds": 2, "depths": [4], "steps": 5, "lrs": [0.01], "dtype": "float64",
         "arms": {"plain": [HE], "plain, init": [HE], "normed": [0.5], "normed, init": [0.5], "batch": [HE]}},
    ),
    relatives := Experiment(
        "weights-relatives", _relatives, ended,
        {"seeds": 8, "depths": [4, 16], "width": 50, "steps": 300, "lrs": half_decades(0.001, 10),
         "arms": ["normed", "mean", "normed and mean", "standardized", "group", "standardized and group"],
         "dtype": "float32"},
        {"seeds": 2, "depths": [4], "steps": 5, "lrs": [0.01], "dtype": "float64"},
    ),
    normprop := Experiment(
        "weights-normprop", _normprop, ended,
        {"seeds": 8, "depth": 8, "width": 100, "images": {"60": 18000, "1": 3234},
         "arms": {"normprop": 60, "plain": 60, "batch": 60, "normprop, one": 1},
         "lrs": {"60": half_decades(0.001, 3.16), "1": half_decades(0.000316, 0.01)}, "dtype": "float32"},
        {"seeds": 2, "depth": 3, "images": {"60": 300, "1": 5}, "lrs": {"60": [0.01], "1": [0.001]},
         "arms": {"normprop": 60, "batch": 60, "normprop, one": 1}, "dtype": "float64"},
    ),
]  # fmt: skip
