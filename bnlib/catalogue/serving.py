"""Chapter 9: the running mean and variance after some batches, and batch norm folded into the layer before it."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step, eps_mistakes
from bnlib.catalogue.transform import EPS, UNITS

_RUNNING: dict[str, Step] = {
    "batch_means": lambda v: v.means,
    "batch_vars": lambda v: v.vars * v.factor(v),
    "first_mean": lambda v: 0 * v.means[0],
    "first_var": lambda v: 0 * v.vars[0] + 1,
    "weights": lambda v: np.full(len(v.means), v.momentum),  # of the batch of each step
    "mean_weights": lambda v: v.weights,
    "var_weights": lambda v: v.weights,
    "rows": lambda v: slice(None),  # in the order of the steps
    "mean": lambda v: _averaged(v.first_mean, v.batch_means[v.rows], v.mean_weights[v.rows]) / v.whole(v),
    "var": lambda v: _averaged(v.first_var, v.batch_vars[v.rows], v.var_weights[v.rows]) / v.whole(v),
}
# Constants of the reference that mistakes replace; they come before all other steps.
_RUNNING = {"factor": lambda v: lambda v: v.n / (v.n - 1), "whole": lambda v: lambda v: 1, **_RUNNING}


def _averaged(start: np.ndarray, batches: np.ndarray, weights: np.ndarray) -> np.ndarray:
    old = start
    for batch, weight in zip(batches, weights.tolist(), strict=True):
        old = (1 - weight) * old + weight * batch
    return old


def _reversed(v: SimpleNamespace) -> np.ndarray:
    return np.full(len(v.means), 1 - v.momentum)


_BOTH = ("mean_weights", "var_weights")


def _without_momentum(weights: Step) -> dict[str, Step]:
    """Steps for weights in which momentum and the start have no part, nor a mistake in them."""
    as_is: dict[str, Step] = {name: _RUNNING[name] for name in ("first_mean", "first_var")}
    return {**dict.fromkeys(_BOTH, weights), **as_is, "momentum": lambda v: v.momentum}


def _momentum_mistakes() -> Iterator[Mistake]:
    remedy = "As in PyTorch, it is the weight of the new batch: (1 - momentum) * old + momentum * new."
    for whose, names in (("", _BOTH), (" for the mean", _BOTH[:1]), (" for the variance", _BOTH[1:])):
        yield Mistake(f"momentum has the other direction{whose}.", remedy, **dict.fromkeys(names, _reversed))
    for number in (0.1, 0.01):
        yield Mistake(
            f"momentum is fixed, whatever is passed: a new batch always weighs {number}.",
            f"Use the argument. {remedy}",
            momentum=lambda v, number=number: number,
        )


_FACTOR = "Multiply each batch's variance by n / (n - 1)."
_RUNNING_MISTAKES = (
    *_momentum_mistakes(),
    Mistake("The variances are averaged as they are, biased.", f"Make them unbiased first. {_FACTOR}",
            factor=lambda v: lambda v: 1.0),
    Mistake("The factor of the variance is upside down.", _FACTOR, factor=lambda v: lambda v: (v.n - 1) / v.n),
    Mistake("The factor of the variance is (n + 1)/n.", _FACTOR, factor=lambda v: lambda v: (v.n + 1) / v.n),
    Mistake("The factor of the variance counts the batches. It belongs to the n examples of one batch.", _FACTOR,
            factor=lambda v: lambda v: len(v.vars) / (len(v.vars) - 1)),
    Mistake(
        "The factor n/(n - 1) stands at the running variance as a whole, and so at its start, too.", _FACTOR,
        factor=lambda v: lambda v: 1.0,
        var=lambda v: _RUNNING["var"](v) * v.n / (v.n - 1),
    ),
    Mistake("The running variance starts at 1, not at 0.", first_var=lambda v: 0 * v.vars[0]),
    Mistake("The running mean starts at 0, not at 1.", first_mean=lambda v: 0 * v.means[0] + 1),
    Mistake(
        "The first batch starts the averages.",
        "They start at mean 0 and variance 1, and the first batch is averaged in.",
        first_mean=lambda v: v.batch_means[0],
        first_var=lambda v: v.batch_vars[0],
    ),
    Mistake(
        "The start's share is divided out: that is Adam's correction, which PyTorch's batch norm does not make.",
        whole=lambda v: lambda v: 1 - (1 - v.momentum) ** len(v.means),
    ),
    Mistake(
        "All batches weigh the same: that is the cumulative average, momentum=None.", "Use the momentum.",
        **_without_momentum(lambda v: 1 / np.arange(1, len(v.means) + 1)),
    ),
    Mistake("The batches are taken from the last to the first.", rows=lambda v: slice(None, None, -1)),
    Mistake("The last batch is missing.", rows=lambda v: slice(None, -1)),
    Mistake("The first batch is missing.", rows=lambda v: slice(1, None)),
    Mistake("Only the first batch is averaged in.", "Return behind the loop, not inside it.", rows=lambda v: slice(1)),
    Mistake("The statistics are those of the last batch alone.", "Average: each step keeps 1 - momentum of the old.",
            **_without_momentum(lambda v: np.ones(len(v.means)))),
    Mistake("Standard deviations are averaged; it is the variances.", "Average without a root.",
            batch_vars=lambda v: np.sqrt(v.vars * v.factor(v))),
    Mistake(
        "Standard deviations are averaged, and squared then; it is the variances that are averaged.",
        "Average without a root.",
        batch_vars=lambda v: np.sqrt(v.vars * v.factor(v)),
        var=lambda v: _RUNNING["var"](v) ** 2,
    ),
    Mistake("The variance's factor is on the means, too.", "Average the means as they are.",
            batch_means=lambda v: v.means * v.factor(v)),
)  # fmt: skip

_FOLD: dict[str, Step] = {
    "root": lambda v: np.sqrt(v.var + v.eps),
    "numerator": lambda v: v.gamma,
    "slope": lambda v: v.numerator / v.root,
    "W_new": lambda v: v.W * v.slope,
    "old_bias": lambda v: v.b,
    "middle": lambda v: v.mean,
    "shift": lambda v: v.beta,
    "b_new": lambda v: v.shift + (v.old_bias - v.middle) * v.slope,
}

_BIAS = "The new bias is beta + (b - mean) * gamma / np.sqrt(var + eps)."
_FOLD_MISTAKES = (
    Mistake("The layer's own bias b is forgotten. It stands in front of the mean.", _BIAS, old_bias=lambda v: 0 * v.b),
    Mistake("The running mean is missing in the bias.", _BIAS, middle=lambda v: 0 * v.mean),
    Mistake("The mean's sign in the bias is turned: it is subtracted.", _BIAS, middle=lambda v: -v.mean),
    Mistake("beta is missing in the bias.", _BIAS, shift=lambda v: 0 * v.beta),
    Mistake("beta is multiplied by the scale, but it stands behind it.", _BIAS, shift=lambda v: v.beta * v.slope),
    Mistake("gamma is missing in the scale.", "The scale is gamma / np.sqrt(var + eps).",
            numerator=lambda v: np.ones_like(v.gamma)),
    Mistake("gamma is missing in the scale of W_new, there alone.", "W_new is W * gamma / np.sqrt(var + eps).",
            W_new=lambda v: v.W / v.root),
    Mistake("gamma is missing in b_new, there alone.", _BIAS,
            b_new=lambda v: v.shift + (v.old_bias - v.middle) / v.root),
    Mistake("gamma and beta have changed places.", "gamma scales, beta shifts.",
            numerator=lambda v: v.beta, shift=lambda v: v.gamma),
    Mistake("The scale divides by the variance.", "Divide by its root, np.sqrt(var + eps).",
            root=lambda v: v.var + v.eps),
    *eps_mistakes("Divide by np.sqrt(var + eps)."),
    Mistake("eps is a lower bound of the variance, not added to it.", "Divide by np.sqrt(var + eps).",
            root=lambda v: np.sqrt(np.maximum(v.var, v.eps)), eps=lambda v: v.eps),
    Mistake("eps is subtracted from the variance: where var is smaller than eps, the root has no value.",
            "Add it: np.sqrt(var + eps).", root=lambda v: np.sqrt(v.var - v.eps)),
    Mistake("eps stands outside the root.", "Divide by np.sqrt(var + eps), not by np.sqrt(var) + eps.",
            root=lambda v: np.sqrt(v.var) + v.eps),
    Mistake("The weights are not scaled.", "W_new is W * gamma / np.sqrt(var + eps).", W_new=lambda v: v.W),
    Mistake("b is added after the scale, as it is, but it stands in front of the batch norm.", _BIAS,
            b_new=lambda v: v.shift + v.old_bias - v.middle * v.slope),
    Mistake("The mean is not scaled, though b is.", _BIAS,
            b_new=lambda v: v.shift + v.old_bias * v.slope - v.middle),
)  # fmt: skip


def _running_draws(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(9)
    return tuple(
        {"means": rng.normal(1, 2, shape), "vars": rng.uniform(0.3, 4, shape), "n": n, "momentum": momentum}
        for shape, n, momentum in zip(shapes, (4, 7), (0.3, 0.15), strict=True)
    )


def _fold_draws(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    """b and the mean in the same units as the variance's root, which is larger than eps."""
    rng = np.random.default_rng(10)
    return tuple(
        {
            "W": rng.normal(size=shape),
            "b": unit * rng.normal(size=shape[1]),
            **{name: rng.choice([-1, 1], shape[1]) * rng.uniform(0.5, 2, shape[1]) for name in ("gamma", "beta")},
            "mean": unit * rng.normal(size=shape[1]),
            "var": unit**2 * rng.uniform(0.7, 3, shape[1]),
            "eps": eps,
        }
        for shape, unit, eps in zip(shapes, UNITS, EPS, strict=True)
    )


EXERCISES = {
    "09-running": Exercise(
        "means and vars of shape (T, C), a row for each batch of n examples, vars biased; PyTorch's running statistics "
        "after them, mean and var of shape (C,), from mean 0 and variance 1",
        _running_draws((5, 3), (4, 6)),
        ("mean", "var"),
        _RUNNING,
        _RUNNING_MISTAKES,
    ),
    "09-fold": Exercise(
        "W and W_new of shape (D, C), b, b_new, mean and var (C,)",
        _fold_draws((7, 4), (3, 5), (6, 2)),
        ("W_new", "b_new"),
        _FOLD,
        _FOLD_MISTAKES,
    ),
}
