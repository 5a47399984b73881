"""What chapter 12 measures: layer norm in time, the centre that RMS norm leaves out, and the number of groups.

Digits, plain gradient descent, 8 seeds. Arms share their initial weights and batches; rates lie on one grid for each
size of batch and are picked for each arm by the mean validation accuracy at the end.

Four things are small enough to be measured on the page itself. Their criteria were written here, before their runs:

- *instance-contrast* (exact): scikit-learn's two photographs, values between 0 and 1 in float64, every channel times a
  factor of its own (0.2 to 0.8) plus a number of its own (0 to 0.2), so that nothing saturates. Instance norm with
  eps = 0 puts out the same picture: the largest difference < 1e-6, for each photograph.
- *instance-cue* (16 splits): which photograph is a patch from? The photographs are halved by means of 2x2 pixels and
  cut into patches of 8x8; tiles of 4x4 patches go to training or to test together, half of them each. Logistic
  regression with scikit-learn's defaults (at most 2,000 iterations) on standardized features: the 192 pixels, or the
  "edges", six numbers: the mean absolute difference of neighbours, across and down, in each channel. Criterion, for
  both: the accuracy with instance norm of each patch (eps = 1e-5) less that without < -0.05.
- *layer-norm-depth* (16 seeds): 100 layers of 100 units at their start, without gamma, beta and biases, He's gain for
  ReLU and gain 1 for tanh, 200 digits. Let u be a layer's units before the activation, behind the norm. The share of
  u's mean square that is variance across the examples (mean over the units) must be > 0.1 in layer 100, for layer norm
  and RMS norm, ReLU and tanh.
- *rms-centre* (8 seeds), from two of the records below: the test accuracy with RMS norm less that with layer norm lies
  within 0 ± 0.01, in the recurrent network for each size of batch, and in three dense networks.
"""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bnlib.data import load
from bnlib.lab.experiments import Cases, half_decades, trained
from bnlib.lab.nets import Params
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import batches

ROWS, PIXELS, CLASSES = 8, 8, 10  # a digit, read from the top row to the bottom one
# Of z (R, N, units) in one step: the axis of the statistics, and whether a mean is subtracted.
NORMS = {"batch": (1, True), "layer": (2, True), "rms": (2, False)}
MOMENTUM, EPS = 0.1, 1e-5

Known = list[tuple[Tensor, Tensor]]  # of each step mean and mean square deviation, (R, 1, units)


def _sequences(seeds: int, arms: list[str], lrs: dict[str, list[float]], **how: Any) -> Cases:
    """Layer norm does not mind the batch, in a recurrent network: digits read row by row, sizes of batch from 1 on.

    All sizes see the same number of examples. Batch norm takes statistics of each step over the batch, and is judged
    with running averages, those of each step. Without a second example it has nothing to compare, and is left out.

    Criterion, for batches of 1, 4 and 16, at the best rate of each: layer norm's test accuracy less that with batches
    of 64 lies within 0 ± 0.01. (RMS norm against layer norm: see above.)
    """
    for (batch, rates), arm in product(lrs.items(), arms):
        if arm != "batch" or batch != "1":
            yield {"batch": int(batch), "arm": arm}, {
                "arm": arm, "batch": int(batch), "lrs": rates, "seeds": seeds, **how,
            }  # fmt: skip


def _centre(
    seeds: int, steps: int, networks: dict[str, Settings], norms: list[str], lrs: list[float], **how: Any
) -> Cases:
    """Layer norm with and without its centre, in dense networks of three hidden layers; the criterion stands above."""
    for (network, fields), norm, lr in product(networks.items(), norms, lrs):
        yield {"network": network, "norm": norm, "lr": lr}, {
            "spec": {**fields, "norm": norm}, "runs": [{"seed": s, "lr": lr} for s in range(seeds)], "steps": steps,
            **how,
        }  # fmt: skip


def _groups(seeds: int, steps: int, network: Settings, groups: list[int], lrs: list[float], **how: Any) -> Cases:
    """Group norm from one group (layer norm) to one for each channel (instance norm), in a convolutional network.

    A picture of accuracy over the number of groups; it judges no claim and has no criterion.
    """
    for number, lr in product(groups, lrs):
        yield {"groups": number, "lr": lr}, {
            "spec": {**network, "norm": "group", "groups": number},
            "runs": [{"seed": s, "lr": lr} for s in range(seeds)], "steps": steps, **how,
        }  # fmt: skip


def begin(seeds: list[int], units: int, dtype: torch.dtype = torch.float64) -> Params:
    """The parameters of a recurrent network for each seed, before its first step.

    "input" (R, 8, units), "recurrent" (R, units, units) and "output" (R, units, 10) are drawn with the standard
    deviation 1 / sqrt(fan_in); "gamma" (1), "beta" and "bias" (0) are (R, 1, units) and (R, 1, 10).
    """
    shapes = {"input": (PIXELS, units), "recurrent": (units, units), "output": (units, CLASSES)}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    params = {
        name: torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in generators]) / shape[0] ** 0.5
        for name, shape in shapes.items()
    }
    params["gamma"] = torch.ones(len(seeds), 1, units)
    params["beta"] = torch.zeros(len(seeds), 1, units)
    params["bias"] = torch.zeros(len(seeds), 1, CLASSES)
    return {name: p.to(dtype) for name, p in params.items()}


def forward(params: Params, x: Tensor, arm: str, known: Known | None = None) -> tuple[Tensor, Known]:
    """The logits (R, N, 10) behind the last row, and the statistics of each step.

    In each step the sum of what comes from the row and from the state before is normalized, then scaled and shifted by
    gamma and beta (the same in all steps), then goes through tanh: equation 4 of :cite:`ba2016layer`.

    Parameters
    ----------
    params : from :func:`begin`
    x : (R, N, 8, 8), rows as time
    arm : "none", where beta is an ordinary bias, or a name in ``NORMS``
    known : the statistics of each step, in place of the batch's own
    """
    replicas, n = x.shape[:2]
    from_rows = (x.reshape(replicas, n * ROWS, PIXELS) @ params["input"]).reshape(replicas, n, ROWS, -1)
    seen, h = [], torch.zeros_like(from_rows[:, :, 0])
    for t in range(ROWS):
        z = torch.baddbmm(from_rows[:, :, t], h, params["recurrent"])
        if arm != "none":
            axis, centred = NORMS[arm]
            if known is None:
                mean = z.mean(axis, keepdim=True) if centred else torch.zeros((), dtype=z.dtype)
                z = z - mean
                var = z.square().mean(axis, keepdim=True)
            else:
                mean, var = known[t]
                z = z - mean
            seen.append((mean, var))
            z = z * (var + EPS).rsqrt() * params["gamma"]
        h = torch.tanh(z + params["beta"])
    return torch.baddbmm(params["bias"], h, params["output"]), seen


def updated(average: Known, seen: Known, n: int) -> Known:
    """Running averages of each step's mean and unbiased variance, after one more batch of n."""
    return [
        (a + MOMENTUM * (mean.detach() - a), b + MOMENTUM * (var.detach() * n / (n - 1) - b))
        for (a, b), (mean, var) in zip(average, seen, strict=True)
    ]


def descended(
    params: Params, x: Tensor, y: Tensor, arm: str, rows: Iterable[Tensor], lr: Tensor
) -> tuple[Params, Known]:
    """The parameters after gradient descent, and batch norm's running averages (else an empty list).

    Parameters
    ----------
    params : from :func:`begin`, for R replicas
    x, y : the examples of each replica, (R, N, 8, 8) and (R, N)
    arm : as in :func:`forward`
    rows : the examples of each replica's mini-batches, (R, batch) for each step
    lr : (R,)
    """
    own, rates = torch.arange(len(x))[:, None], lr.reshape(-1, 1, 1)
    like = params["beta"]
    average = [(torch.zeros_like(like), torch.ones_like(like))] * ROWS if arm == "batch" else []
    for chosen in rows:
        leaves = {name: p.detach().requires_grad_() for name, p in params.items() if arm != "none" or name != "gamma"}
        with torch.enable_grad():
            logits, seen = forward(leaves, x[own, chosen], arm)
            # The replicas' losses are summed, and each depends on its own parameters alone.
            loss = cross_entropy(logits.mT, y[own, chosen], reduction="none").mean(1).sum()
            grads = torch.autograd.grad(loss, list(leaves.values()))
        params = params | {n: p.detach() - rates * g for (n, p), g in zip(leaves.items(), grads, strict=True)}
        if arm == "batch":
            average = updated(average, seen, chosen.shape[1])
    return params, average


@torch.no_grad()
def read(*, arm: str, batch: int, lrs: list[float], seeds: int, epochs: int, units: int, dtype: str) -> Values:
    """Train one recurrent network for each rate and seed.

    Parameters
    ----------
    arm : as in :func:`forward`
    batch, epochs : an epoch's remainder is left out
    lrs, seeds, units, dtype : learning rates; the number of seeds; of hidden units; "float32" or "float64"

    Returns
    -------
    values : "val" and "test", the accuracy at the end, for each rate a list with a number for each seed; 0 where an
        output is not finite
    """
    kind, who = getattr(torch, dtype), torch.arange(seeds).repeat(len(lrs))
    splits = [load("digits", seed) for seed in range(seeds)]
    x, y, x_val, y_val, x_test, y_test = (torch.as_tensor(np.stack(a))[who] for a in zip(*splits, strict=True))
    x, x_val, x_test = (a.to(kind).reshape(*a.shape[:2], ROWS, PIXELS) for a in (x, x_val, x_test))
    lr = torch.tensor(lrs, dtype=kind).repeat_interleave(seeds)
    rows = chosen_rows(x.shape[1], batch, seeds, epochs, who)
    params, average = descended(begin(who.tolist(), units, kind), x, y, arm, rows, lr)
    values: Values = {}
    for part, images, labels in (("val", x_val, y_val), ("test", x_test, y_test)):
        logits, _ = forward(params, images, arm, average or None)
        right = (logits.argmax(-1) == labels).double().mean(-1)
        right = torch.where(logits.isfinite().all(-1).all(-1), right, 0)
        values[part] = right.reshape(len(lrs), seeds).tolist()
    return values


def chosen_rows(n: int, batch: int, seeds: int, epochs: int, who: Tensor) -> Iterator[Tensor]:
    """The examples of each replica's mini-batches, (R, batch) at a time, for whole epochs without their remainders."""
    rows = [batches(n, batch, seed) for seed in range(seeds)]
    for _ in range(epochs * (n // batch)):
        yield torch.stack([next(r) for r in rows])[who]


_DENSE = {
    "sigmoid": {"activation": "sigmoid"},
    "ReLU": {"activation": "relu", "gain": 1.41},
    "ReLU, norm behind it": {"activation": "relu", "gain": 1.41, "placement": "after"},
}
EXPERIMENTS = [
    sequences := Experiment(
        "axes-sequences", _sequences, read,
        {"seeds": 8, "units": 64, "arms": ["none", "batch", "layer", "rms"], "epochs": 20,
         "lrs": {"1": half_decades(0.001, 0.316), "4": half_decades(0.00316, 1), "16": half_decades(0.01, 3.16),
                 "64": half_decades(0.0316, 10)},
         "dtype": "float32"},
        {"seeds": 2, "epochs": 1, "lrs": {"128": [0.1]}, "dtype": "float64"},
    ),
    centre := Experiment(
        "axes-centre", _centre, trained,
        {"seeds": 8, "steps": 300, "networks": _DENSE, "norms": ["layer", "rms"], "lrs": half_decades(0.0316, 31.6),
         "data": "digits", "dtype": "float32"},
        {"seeds": 2, "steps": 10, "lrs": [0.316], "dtype": "float64"},
    ),
    groups := Experiment(
        "axes-groups", _groups, trained,
        {"seeds": 8, "steps": 200,
         "network": {"inputs": [1, 8, 8], "widths": [16, 16], "kernel": 3, "flat": True, "activation": "relu",
                     "gain": 1.41},
         "groups": [1, 2, 4, 8, 16], "lrs": half_decades(0.01, 3.16), "batch": 32, "data": "digits",
         "dtype": "float32"},
        {"seeds": 2, "steps": 3, "groups": [1, 4, 16], "lrs": [0.1], "dtype": "float64"},
    ),
]  # fmt: skip
