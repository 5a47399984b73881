"""Pictures of chapter 8, which judge no claim: digits, centred inputs, mini-batches of 60, 8 seeds.

What the chapter judges stands in :mod:`bnlib.lab.experiments.speed` and :mod:`bnlib.lab.experiments.design`.
"""

from itertools import product
from typing import Any

import torch

from bnlib.lab.experiments import Cases, half_decades, net_of, trained
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import Run, train

NORMS = ("none", "batch")


def _paired(seeds: int, lr: float) -> list[Settings]:
    return [{"seed": seed, "lr": lr} for seed in range(seeds)]


def _lr_gain(seeds: int, steps: int, activations: list[str], lrs: list[float], gains: list[float], **how: Any) -> Cases:
    """Accuracy over a grid of learning rates and gains: three layers of 100 units, with and without batch norm."""
    for activation, norm, gain, lr in product(activations, NORMS, gains, lrs):
        yield {"activation": activation, "norm": norm, "gain": gain, "lr": lr}, {
            "spec": {"activation": activation, "norm": norm, "gain": gain}, "runs": _paired(seeds, lr),
            "steps": steps, "inputs": "centred", **how,
        }  # fmt: skip


def _slowed(seeds: int, steps: int, activations: list[str], lrs: list[float], slow: float, **how: Any) -> Cases:
    """Which part of a network cannot bear the rates at which batch norm behind the activation fails: 3x100, gain 1.

    All of the network learns at the rate, but for one part, which learns at ``slow``, a rate at which all of it works
    for each activation: weights and biases of the hidden layers; gamma and beta; weights and biases of the output
    layer.

    Criterion for the words about the picture: to slow a part *rescues* an activation at a rate if at least 7 of 8 seeds
    then reach a validation accuracy of 0.90 after the budget, where at most 1 does with nothing slowed. If the missing
    brake of the hidden weights is why "behind" fails, then to slow the hidden layers rescues. Known when it was set: on
    raw pixels that did not rescue sigmoid and tanh, and to slow either of the other parts did.
    """
    hidden = range(3)
    parts = {
        "nothing": [],
        "hidden layers": [f"{i}.affine.{name}" for name in ("weight", "bias") for i in hidden],
        "gamma and beta": ["gamma", "beta"],
        "output layer": ["3.affine.weight", "3.affine.bias"],
    }
    for activation, lr, (slowed, names) in product(activations, lrs, parts.items()):
        yield {"activation": activation, "lr": lr, "slowed": slowed}, {
            "spec": {"activation": activation, "norm": "batch", "placement": "after"},
            "runs": _paired(seeds, lr), "steps": steps, "factors": [[name, slow / lr] for name in names], **how,
        }  # fmt: skip


def _reaching(
    *, spec: Settings, runs: list[Settings], steps: int, factors: list[tuple[str, float]], data: str, dtype: str
) -> Values:
    """Train with factors; "val", the accuracy at the end, and "failed", the step whose loss was not finite, or 0."""
    net, scale = net_of(spec)
    of_all: dict[str, Any] = {"steps": steps, "data": data, "inputs": "centred", "factors": tuple(factors)}
    replicas = [Run(net=net, **of_all, **scale, **run) for run in runs]
    histories = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True)
    return {"val": [h.val_accuracy[-1] for h in histories], "failed": [h.failed or 0 for h in histories]}


def _residual(
    seeds: int, steps: int, depth: int, width: int, gains: list[float], lrs: list[float], **how: Any
) -> Cases:
    """Residual blocks: deep, ReLU, with and without shortcuts, batch norm, and a last gamma that starts at zero.

    First measured with the gain 1.41 alone, at which sums over shortcuts without batch norm explode.
    """
    arms = {
        "plain": {},
        "plain, batch norm": {"norm": "batch"},
        "residual": {"residual": True},
        "residual, batch norm": {"residual": True, "norm": "batch"},
        "residual, batch norm, zero gamma": {"residual": True, "norm": "batch", "zero_gamma": True},
    }
    for (arm, fields), gain, lr in product(arms.items(), gains, lrs):
        yield {"arm": arm, "gain": gain, "lr": lr}, {
            "spec": {"widths": [width] * depth, "activation": "relu", "gain": gain, **fields},
            "runs": _paired(seeds, lr), "steps": steps, "inputs": "centred", **how,
        }  # fmt: skip


SLICE = {"seeds": 2, "steps": 10, "dtype": "float64"}
RATES = half_decades(0.01, 100)

EXPERIMENTS = [
    lr_gain := Experiment(
        "lr-gain", _lr_gain, trained,
        {"seeds": 8, "steps": 300, "activations": ["sigmoid", "relu"], "lrs": RATES, "gains": half_decades(0.01, 31.6),
         "data": "digits", "dtype": "float32"},
        SLICE | {"activations": ["sigmoid"], "lrs": [1.0], "gains": [1.0]},
    ),
    residual := Experiment(
        "residual", _residual, trained,
        {"seeds": 8, "steps": 300, "depth": 21, "width": 50, "gains": [0.25, 0.5, 1.0, 1.41],
         "lrs": half_decades(0.001, 3.16), "data": "digits", "dtype": "float32"},
        SLICE | {"depth": 5, "lrs": [0.1], "gains": [1.0]},
    ),
    slowed := Experiment(
        "slowed", _slowed, _reaching,
        {"seeds": 8, "steps": 300, "activations": ["sigmoid", "tanh", "relu"], "lrs": [3.16, 10.0, 31.6],
         "slow": 0.316, "data": "digits", "dtype": "float32"},
        SLICE | {"activations": ["tanh"], "lrs": [3.16]},
    ),
]  # fmt: skip
