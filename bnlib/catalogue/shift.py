"""Chapter 1: a weighted line and the effective sample size. x, y, w are (N,), the line (2,): intercept and slope."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Exercise, Mistake, Step


def _line(v: SimpleNamespace) -> np.ndarray:
    """The least-squares line through x and y with the centring and summing weights of v."""
    x = v.x - (v.centring * v.x).sum() / v.centring.sum()
    y_mean = (v.centring * v.y).sum() / v.centring.sum()
    slope = (v.summing * x * (v.y - y_mean)).sum() / (v.summing * x * x).sum()
    return np.array([y_mean - slope * (v.x - x)[0], slope])


_WEIGHTS: dict[str, Step] = {
    "centring": lambda v: v.w,
    "summing": lambda v: v.w,
    "line": _line,
    "size": lambda v: v.w.sum() ** 2 / (v.w**2).sum(),
}


def _weighted(sentence: str, change: Any) -> Mistake:
    return Mistake(sentence, centring=change, summing=change)


_MISTAKES = (
    _weighted(
        "The ratio is upside down: the weight multiplies an example's squared error, it doesn't divide it.",
        lambda v: 1 / v.w,
    ),
    _weighted(
        "The line's weights are squared. If rows are multiplied before np.linalg.lstsq, which squares them, "
        "multiply by the root of w.",
        lambda v: v.w**2,
    ),
    _weighted("The line's weights are the roots of w: np.sqrt belongs in front of least squares.", lambda v: v.w**0.5),
    _weighted("The line ignores the weights.", lambda v: np.ones_like(v.w)),
    Mistake("The means of x and y are unweighted; a weighted line passes through the weighted means.",
            centring=lambda v: np.ones_like(v.w)),
    Mistake("The weights enter the means only; they belong in both sums of the slope, too.",
            summing=lambda v: np.ones_like(v.w)),
    Mistake("Intercept and slope are exchanged: return the intercept first.", line=lambda v: _line(v)[::-1]),
    Mistake("The size is upside down: the square of the sum goes above.",
            size=lambda v: (v.w**2).sum() / v.w.sum() ** 2),
    Mistake("The sum in the size isn't squared: that depends on the weights' scale.",
            size=lambda v: v.w.sum() / (v.w**2).sum()),
    Mistake("The size takes the weights to be scaled to sum 1: 1 / sum(w**2) holds only then.",
            size=lambda v: 1 / (v.w**2).sum()),
    Mistake("The size has the weights' variance below; it takes their mean square, without subtracting the mean.",
            size=lambda v: len(v.w) * v.w.mean() ** 2 / v.w.var()),
    Mistake("The size is a share: multiply by the number of examples.",
            size=lambda v: v.w.mean() ** 2 / (v.w**2).mean()),
    Mistake("The size is the sum of the weights, which a factor on all of them changes.", size=lambda v: v.w.sum()),
    Mistake("The size is the number of examples; it counts what the weights leave of them.",
            size=lambda v: v.w.dtype.type(len(v.w))),
)  # fmt: skip


def _draws(*sizes: int) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(1)
    return tuple({"x": rng.normal(1, 2, n), "y": rng.normal(-1, 2, n), "w": rng.lognormal(0.4, 0.7, n)} for n in sizes)


EXERCISES = {"01-weights": Exercise(_draws(7, 10), ("line", "size"), _WEIGHTS, _MISTAKES)}
