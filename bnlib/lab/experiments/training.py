"""What chapter 8 measures: digits, mini-batches of 60, hidden layers of 100 units, 8 seeds, unless said.

Accuracies and steps are compared at learning rates picked for each arm on the validation set, from one grid,
by the same seeds that are then reported, unless said. The digits are raw, not standardized. A run that does not reach
an accuracy counts as having needed the whole budget, so that a ratio of steps is too small rather than too large. Of
several gains, the best is picked together with the rate.
"""

from itertools import product
from typing import Any

import numpy as np
import torch

from bnlib.lab.experiments import Cases, half_decades, net_of, trained
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import Run, train

NORMS = ("none", "batch")


def _paired(seeds: int, lr: float) -> list[Settings]:
    return [{"seed": seed, "lr": lr} for seed in range(seeds)]


def _faster(
    seeds: int, steps: int, lrs: list[float], gains: list[float], std: float, target: float, **how: Any
) -> Cases:
    """Batch norm trains faster: 3x100 sigmoid, steps to the target, evaluated after every step.

    Two ways to start: small normal weights of one standard deviation everywhere (Ioffe and Szegedy started from "small
    random Gaussian values" and gave no size; ours is 0.01), and the best gain. Criterion: steps without / steps with
    batch norm > 1.5, since a step with it costs more.
    """
    inits = [("small", {"std": std}), *((f"gain {gain:g}", {"gain": gain}) for gain in gains)]
    for norm, (init, scale), lr in product(NORMS, inits, lrs):
        spec = {"norm": norm, **scale}
        yield {"norm": norm, "init": init, "lr": lr}, {
            "spec": spec, "runs": _paired(seeds, lr), "steps": steps, "every": 1, "until": target, **how,
        }  # fmt: skip


def _faster_relu(
    seeds: int, others: int, steps: int, lrs: list[float], gains: list[float], target: float, **how: Any
) -> Cases:
    """Batch norm trains faster where nothing saturates: 3x100 ReLU, steps to the target, evaluated after every step.

    Rate and gain of each arm are those with the smallest geometric mean of steps over ``others`` further seeds, which
    are not reported; a run that does not reach the target counts as the whole budget there, too. Criterion, over the
    first ``seeds`` seeds: steps without / steps with batch norm > 1.5, as for the sigmoid. Seen before it was set: at
    gain 1.41 and the best rate of each, about 37 steps without and 10 with. No optimum may lie on the edge of the grid;
    if one does, the grid is widened in that direction and all is run again.
    """
    for norm, gain, lr in product(NORMS, gains, lrs):
        yield {"norm": norm, "gain": gain, "lr": lr}, {
            "spec": {"activation": "relu", "norm": norm, "gain": gain}, "runs": _paired(seeds + others, lr),
            "steps": steps, "every": 1, "until": target, **how,
        }  # fmt: skip


def _lr_gain(seeds: int, steps: int, lrs: list[float], gains: list[float], **how: Any) -> Cases:
    """A wider range of learning rates, and of initial scales, works: 3x100 sigmoid, accuracy over the whole grid.

    Criteria, both for a validation accuracy of 0.90 or more after the budget: the range of learning rates with batch
    norm is wider by more than 0.5 decades, at gain 1 and at the best gain of each; the range of gains likewise, at the
    best rate of each and at the best rate for each gain.
    """
    for norm, gain, lr in product(NORMS, gains, lrs):
        yield {"norm": norm, "gain": gain, "lr": lr}, {
            "spec": {"norm": norm, "gain": gain}, "runs": _paired(seeds, lr), "steps": steps, **how,
        }  # fmt: skip


def _random_search(
    seed: int,
    each: int,
    steps: int,
    depths: list[int],
    batches: list[int],
    lr: list[float],
    gain: list[float],
    **how: Any,
) -> Cases:
    """Hyperparameters are easier to find: sigmoid, random rate and gain (log-uniform), depth and batch from lists.

    Each configuration is run with and without batch norm. Criterion: the share that reaches a validation accuracy of
    0.90 is larger with batch norm by more than 0.1.
    The seeds 0, 1, ... are the same in every depth and batch, so what is independent are the seeds, each with its share
    of one configuration for each depth and batch; the first judgement had counted configurations.
    """
    rng = np.random.default_rng(seed)
    for depth, batch in product(depths, batches):
        draws = np.exp(rng.uniform(np.log([lr[0], gain[0]]), np.log([lr[1], gain[1]]), (each, 2)))
        runs = [{"seed": i, "lr": float(a), "gain": float(b)} for i, (a, b) in enumerate(draws)]
        for norm in NORMS:
            yield {"norm": norm, "depth": depth, "batch": batch}, {
                "spec": {"norm": norm, "widths": [100] * depth}, "runs": runs, "steps": steps, "batch": batch, **how,
            }  # fmt: skip


def _saturating(
    seeds: int, steps: int, width: int, depths: list[int], lrs: list[float], gains: dict[str, list[float]], **how: Any
) -> Cases:
    """Sigmoid and tanh become usable at depth.

    Criterion: at the best rate and gain of each, the test accuracy is higher with batch norm by more than 0.05. The
    sigmoid was first measured with the gains 1 and 4 alone; 8 and 12, nearer to where its gradients keep their size,
    were added when that had been seen, the criterion stayed.
    """
    for depth, (activation, scales) in product(depths, gains.items()):
        for norm, gain, lr in product(NORMS, scales, lrs):
            yield {"activation": activation, "depth": depth, "norm": norm, "gain": gain, "lr": lr}, {
                "spec": {"activation": activation, "widths": [width] * depth, "norm": norm, "gain": gain},
                "runs": _paired(seeds, lr), "steps": steps, **how,
            }  # fmt: skip


def _optimizers(
    seeds: int, steps: int, lrs: dict[str, list[float]], gains: list[float], target: float, **how: Any
) -> Cases:
    """Batch norm works with any optimizer: 3x100 sigmoid, steps to the target, evaluated after every second step.

    Criterion, for each optimizer at the best rate and gain of each: steps without / steps with batch norm > 1.5.
    """
    for (optimizer, rates), norm, gain in product(lrs.items(), NORMS, gains):
        for lr in rates:
            yield {"optimizer": optimizer, "norm": norm, "gain": gain, "lr": lr}, {
                "spec": {"norm": norm, "gain": gain}, "runs": _paired(seeds, lr), "steps": steps,
                "optimizer": optimizer, "every": 2, "until": target, **how,
            }  # fmt: skip


def _placement(
    seeds: int, steps: int, depths: list[int], activations: list[str], lrs: list[float], **how: Any
) -> Cases:
    """Normalizing before or after the activation gives about the same.

    Criterion, for each activation and depth at the best rate of each: the test accuracy of "before" less that of
    "after" lies within 0 ± 0.01.
    """
    for depth, activation, placement, lr in product(depths, activations, ("before", "after"), lrs):
        yield {"depth": depth, "activation": activation, "placement": placement, "lr": lr}, {
            "spec": {"widths": [100] * depth, "activation": activation, "norm": "batch", "placement": placement},
            "runs": _paired(seeds, lr), "steps": steps, **how,
        }  # fmt: skip


def _slowed(seeds: int, steps: int, activations: list[str], lrs: list[float], slow: float, **how: Any) -> Cases:
    """Which part of a network cannot bear the rates at which batch norm behind the activation fails: 3x100, gain 1.

    The rates are those at which ``placement`` found that it fails with three layers. All of the network learns at the
    rate, but for one part, which learns at ``slow``, a rate at which all of it works for each activation: weights and
    biases of the hidden layers; gamma and beta; weights and biases of the output layer.

    A picture; it judges no claim. Criterion for its words: to slow a part *rescues* an activation at a rate if at least
    7 of 8 seeds then reach a validation accuracy of 0.90 after the budget, where at most 1 does with nothing slowed. If
    the missing brake of the hidden weights is why "behind" fails, then to slow the hidden layers rescues. Seen before
    it was set: a trial in which that did not rescue sigmoid, and to slow either of the other parts did.
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
    replicas = [Run(net=net, steps=steps, data=data, factors=tuple(factors), **scale, **run) for run in runs]
    histories = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True)
    return {"val": [h.val_accuracy[-1] for h in histories], "failed": [h.failed or 0 for h in histories]}


def _subset(seeds: int, steps: int, depth: int, lrs: list[float], gains: list[float], **how: Any) -> Cases:
    """Some of the layers are enough: sigmoid, batch norm in a part of the hidden layers, or in the output layer too.

    Criterion, for each part at its best rate and gain: its test accuracy less that with all hidden layers lies within
    0 ± 0.01. It was first measured with the gain 1 alone, with which layers without batch norm lose the signal; the
    gains were added when that had been seen, the criterion stayed.
    """
    parts = {
        "none": [],
        "first": [0],
        "last": [depth - 1],
        "every second": list(range(1, depth, 2)),
        "all": list(range(depth)),
        "all and output": list(range(depth + 1)),
    }
    for (part, where), gain, lr in product(parts.items(), gains, lrs):
        norm = {"norm": "batch", "where": where} if where else {}
        yield {"part": part, "gain": gain, "lr": lr}, {
            "spec": {"widths": [100] * depth, "gain": gain, **norm},
            "runs": _paired(seeds, lr), "steps": steps, **how,
        }  # fmt: skip


def _gamma_beta(seeds: int, steps: int, activations: list[str], lrs: list[float], **how: Any) -> Cases:
    """gamma and beta are needed: three hidden layers, without one of them or both.

    Criterion, for each activation and each thing left out, at the best rate of each: the test accuracy with both less
    that without is larger than 0.01.
    """
    left_out = {
        "nothing": {},
        "gamma": {"gamma": False},
        "beta": {"beta": False},
        "both": {"gamma": False, "beta": False},
    }
    for activation, (without, fields), lr in product(activations, left_out.items(), lrs):
        yield {"activation": activation, "without": without, "lr": lr}, {
            "spec": {"activation": activation, "norm": "batch", **fields},
            "runs": _paired(seeds, lr), "steps": steps, **how,
        }  # fmt: skip


def _brake(seeds: int, steps: int, lrs: list[float], **how: Any) -> Cases:
    """How much of the range of learning rates comes from weights that grow: 3x100 sigmoid with batch norm.

    After each step the weights of every unit are brought back to their first length, or are not. Criterion: the range
    of rates that reach a validation accuracy of 0.90 is wider by more than 0.5 decades if they may grow.
    """
    for hold, lr in product((False, True), lrs):
        yield {"hold": hold, "lr": lr}, {
            "spec": {"norm": "batch"}, "runs": _paired(seeds, lr), "steps": steps, "hold": hold, **how,
        }  # fmt: skip


def _residual(
    seeds: int, steps: int, depth: int, width: int, gains: list[float], lrs: list[float], **how: Any
) -> Cases:
    """Residual blocks: deep, ReLU, with and without shortcuts, batch norm, and a last gamma that starts at zero.

    A picture over learning rates and gains; it judges no claim and has no criterion. First measured with the gain 1.41
    alone, at which sums over shortcuts without batch norm explode.
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
            "runs": _paired(seeds, lr), "steps": steps, **how,
        }  # fmt: skip


def _easy(
    seeds: int, examples: int, gain: float, depths: list[int], batches: list[int], lrs: list[float], **how: Any
) -> Cases:
    """Where it may not help: shallow ReLU networks, well started, large and small batches, equal numbers of examples.

    Criterion, for each depth and batch at the best rate of each: the test accuracy is higher with batch norm by more
    than 0.005.
    """
    for depth, batch, norm, lr in product(depths, batches, NORMS, lrs):
        yield {"depth": depth, "batch": batch, "norm": norm, "lr": lr}, {
            "spec": {"widths": [100] * depth, "activation": "relu", "gain": gain, "norm": norm},
            "runs": _paired(seeds, lr), "steps": examples // batch, "batch": batch, **how,
        }  # fmt: skip


SLICE = {"seeds": 2, "steps": 10, "dtype": "float64"}
RATES = half_decades(0.01, 100)

EXPERIMENTS = [
    faster := Experiment(
        "faster", _faster, trained,
        {"seeds": 8, "steps": 1000, "lrs": RATES, "gains": [1.0, 2.0, 4.0, 8.0], "std": 0.01, "target": 0.9,
         "data": "digits", "dtype": "float32"},
        SLICE | {"lrs": [1.0], "gains": [4.0]},
    ),
    faster_relu := Experiment(
        "faster-relu", _faster_relu, trained,
        {"seeds": 8, "others": 8, "steps": 300, "lrs": half_decades(0.01, 10), "gains": [0.5, 1.0, 1.41, 2.0, 4.0],
         "target": 0.9, "data": "digits", "dtype": "float32"},
        SLICE | {"others": 0, "lrs": [0.1], "gains": [1.41]},
    ),
    lr_gain := Experiment(
        "lr-gain", _lr_gain, trained,
        {"seeds": 8, "steps": 300, "lrs": RATES, "gains": half_decades(0.01, 31.6), "data": "digits",
         "dtype": "float32"},
        SLICE | {"lrs": [1.0], "gains": [1.0]},
    ),
    random_search := Experiment(
        "random-search", _random_search, trained,
        {"seed": 0, "each": 12, "steps": 300, "depths": [1, 2, 4, 8], "batches": [20, 60, 180], "lr": [0.01, 100.0],
         "gain": [0.1, 10.0], "data": "digits", "dtype": "float32"},
        {"each": 2, "steps": 10, "depths": [2], "batches": [60], "lr": [0.1, 1.0], "dtype": "float64"},
    ),
    saturating := Experiment(
        "saturating-nonlinearities", _saturating, trained,
        {"seeds": 8, "steps": 300, "width": 50, "depths": [12, 30], "lrs": half_decades(0.00316, 3.16),
         "gains": {"sigmoid": [1.0, 4.0, 8.0, 12.0], "tanh": [1.0, 1.5]}, "data": "digits", "dtype": "float32"},
        SLICE | {"depths": [12], "lrs": [0.1], "gains": {"sigmoid": [1.0], "tanh": [1.0]}},
    ),
    optimizers := Experiment(
        "optimizers", _optimizers, trained,
        {"seeds": 8, "steps": 500, "lrs": {"sgd": half_decades(0.0316, 31.6), "momentum": half_decades(0.00316, 3.16),
         "rmsprop": half_decades(0.0001, 0.1), "adam": half_decades(0.000316, 0.316)}, "gains": [1.0, 4.0],
         "target": 0.9, "data": "digits", "dtype": "float32"},
        SLICE | {"lrs": {"sgd": [1.0], "momentum": [0.1], "rmsprop": [0.001], "adam": [0.01]}, "gains": [4.0]},
    ),
    placement := Experiment(
        "placement", _placement, trained,
        {"seeds": 8, "steps": 300, "depths": [3, 8], "activations": ["sigmoid", "tanh", "relu"],
         "lrs": half_decades(0.0316, 31.6), "data": "digits", "dtype": "float32"},
        SLICE | {"depths": [3], "activations": ["sigmoid"], "lrs": [1.0]},
    ),
    slowed := Experiment(
        "slowed", _slowed, _reaching,
        {"seeds": 8, "steps": 300, "activations": ["sigmoid", "tanh", "relu"], "lrs": [3.16, 10.0, 31.6],
         "slow": 0.316, "data": "digits", "dtype": "float32"},
        SLICE | {"activations": ["tanh"], "lrs": [3.16]},
    ),
    subset := Experiment(
        "subset", _subset, trained,
        {"seeds": 8, "steps": 300, "depth": 6, "lrs": half_decades(0.01, 31.6), "gains": [1.0, 4.0, 8.0],
         "data": "digits", "dtype": "float32"},
        SLICE | {"lrs": [1.0], "depth": 3, "gains": [1.0]},
    ),
    gamma_beta := Experiment(
        "gamma-beta", _gamma_beta, trained,
        {"seeds": 8, "steps": 300, "activations": ["sigmoid", "tanh", "relu"], "lrs": half_decades(0.0316, 31.6),
         "data": "digits", "dtype": "float32"},
        SLICE | {"activations": ["sigmoid"], "lrs": [1.0]},
    ),
    brake := Experiment(
        "brake", _brake, trained,
        {"seeds": 8, "steps": 300, "lrs": half_decades(0.01, 1000), "data": "digits", "dtype": "float32"},
        SLICE | {"lrs": [1.0]},
    ),
    residual := Experiment(
        "residual", _residual, trained,
        {"seeds": 8, "steps": 300, "depth": 21, "width": 50, "gains": [0.25, 0.5, 1.0, 1.41],
         "lrs": half_decades(0.001, 3.16), "data": "digits", "dtype": "float32"},
        SLICE | {"depth": 5, "lrs": [0.1], "gains": [1.0]},
    ),
    easy := Experiment(
        "easy", _easy, trained,
        {"seeds": 8, "examples": 18000, "gain": 1.41, "depths": [1, 3], "batches": [4, 60],
         "lrs": half_decades(0.00316, 10), "data": "digits", "dtype": "float32"},
        {"seeds": 2, "examples": 240, "depths": [1], "lrs": [0.1], "dtype": "float64"},
    ),
]  # fmt: skip
