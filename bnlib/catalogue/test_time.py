"""Chapter 9: the running mean and variance after some batches, and batch norm folded into the layer before it."""

from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Exercise, Mistake, Step

_RUNNING: dict[str, Step] = {
    "batch_means": lambda v: v.means,
    "batch_vars": lambda v: v.vars * v.factor(v.n),
    "first_mean": lambda v: 0 * v.means[0],
    "first_var": lambda v: 0 * v.vars[0] + 1,
    "weights": lambda v: np.full(len(v.means), v.momentum),  # of the batch of each step
    "rows": lambda v: slice(None),  # in the order of the steps
    "mean": lambda v: _averaged(v.first_mean, v.batch_means[v.rows], v.weights[v.rows]) / v.whole(v),
    "var": lambda v: _averaged(v.first_var, v.batch_vars[v.rows], v.weights[v.rows]) / v.whole(v),
}
# Constants of the reference that mistakes replace; they come before all other steps.
_RUNNING = {"factor": lambda v: lambda n: n / (n - 1), "whole": lambda v: lambda v: 1, **_RUNNING}


def _averaged(start: np.ndarray, batches: np.ndarray, weights: np.ndarray) -> np.ndarray:
    old = start
    for batch, weight in zip(batches, weights.tolist(), strict=True):
        old = (1 - weight) * old + weight * batch
    return old


_RUNNING_MISTAKES = (
    Mistake(
        "momentum has the other direction: as in PyTorch, it is the weight of the new batch, not of the old value.",
        weights=lambda v: np.full(len(v.means), 1 - v.momentum),
    ),
    Mistake("The variances are averaged as they are: make them unbiased first, times n/(n - 1).",
            factor=lambda v: lambda n: 1.0),
    Mistake("The factor of the variance is upside down: it is n/(n - 1).", factor=lambda v: lambda n: (n - 1) / n),
    Mistake("The factor of the variance is (n + 1)/n; it is n/(n - 1).", factor=lambda v: lambda n: (n + 1) / n),
    Mistake("The running variance starts at 1, not at 0.", first_var=lambda v: 0 * v.vars[0]),
    Mistake("The running mean starts at 0, not at 1.", first_mean=lambda v: 0 * v.means[0] + 1),
    Mistake(
        "The first batch starts the averages; they start at mean 0 and variance 1, and the first batch is averaged in.",
        first_mean=lambda v: v.means[0],
        first_var=lambda v: v.vars[0] * v.factor(v.n),
    ),
    Mistake(
        "The start's share is divided out: that is Adam's correction, which PyTorch's batch norm does not make.",
        whole=lambda v: lambda v: 1 - (1 - v.momentum) ** len(v.means),
    ),
    Mistake(
        "All batches weigh the same: that is the cumulative average, momentum=None. Use the momentum.",
        weights=lambda v: 1 / np.arange(1, len(v.means) + 1),
    ),
    Mistake("The batches are taken from the last to the first.", rows=lambda v: slice(None, None, -1)),
    Mistake("The last batch is missing.", rows=lambda v: slice(None, -1)),
    Mistake("The first batch is missing.", rows=lambda v: slice(1, None)),
    Mistake(
        "Standard deviations are averaged; it is the variances.",
        batch_vars=lambda v: np.sqrt(v.vars * v.factor(v.n)),
    ),
    Mistake("The variance's factor is on the means, too.", batch_means=lambda v: v.means * v.factor(v.n)),
)  # fmt: skip

_FOLD: dict[str, Step] = {
    "root": lambda v: np.sqrt(v.var + v.eps),
    "slope": lambda v: v.gamma / v.root,
    "W_new": lambda v: v.W * v.slope,
    "old_bias": lambda v: v.b,
    "middle": lambda v: v.mean,
    "shift": lambda v: v.beta,
    "b_new": lambda v: v.shift + (v.old_bias - v.middle) * v.slope,
}

_FOLD_MISTAKES = (
    Mistake("The layer's own bias b is forgotten: it is in front of the mean, so it is scaled, too.",
            old_bias=lambda v: 0 * v.b),
    Mistake("The running mean is missing in the bias.", middle=lambda v: 0 * v.mean),
    Mistake("The mean is subtracted: its sign is turned.", middle=lambda v: -v.mean),
    Mistake("beta is missing in the bias.", shift=lambda v: 0 * v.beta),
    Mistake("beta stands behind the scale: it must not be multiplied by it.", shift=lambda v: v.beta * v.slope),
    Mistake("gamma is missing in the scale.", slope=lambda v: 1 / v.root),
    Mistake("The scale divides by the variance; it is its root.", root=lambda v: v.var + v.eps),
    Mistake("eps is missing under the root.", root=lambda v: np.sqrt(v.var)),
    Mistake("eps stands outside the root.", root=lambda v: np.sqrt(v.var) + v.eps),
    Mistake("The weights are not scaled.", W_new=lambda v: v.W),
    Mistake("b is added after the scale, as it is: it stands in front of the batch norm, so it is scaled, too.",
            b_new=lambda v: v.shift + v.old_bias - v.middle * v.slope),
    Mistake("The mean is not scaled: beta + (b - mean) * scale.",
            b_new=lambda v: v.shift + v.old_bias * v.slope - v.middle),
)  # fmt: skip


def _running_draws(*shapes: tuple[int, int]) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(9)
    return tuple(
        {"means": rng.normal(1, 2, shape), "vars": rng.uniform(0.3, 4, shape), "n": n, "momentum": momentum}
        for shape, n, momentum in zip(shapes, (4, 7), (0.3, 0.15), strict=True)
    )


def _fold_draws(*shapes: tuple[int, int]) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(10)
    return tuple(
        {
            "W": rng.normal(size=shape),
            **{name: rng.normal(size=shape[1]) for name in ("b", "gamma", "beta", "mean")},
            "var": rng.uniform(0.2, 3, shape[1]),
            "eps": eps,
        }
        for shape, eps in zip(shapes, (0.3, 0.05), strict=True)
    )


EXERCISES = {
    "09-running": Exercise(_running_draws((5, 3), (4, 6)), ("mean", "var"), _RUNNING, _RUNNING_MISTAKES),
    "09-fold": Exercise(_fold_draws((7, 4), (3, 5)), ("W_new", "b_new"), _FOLD, _FOLD_MISTAKES),
}
