"""Chapter 1: a weighted line and the effective sample size."""

from types import SimpleNamespace

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step


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


def _weighted(seen: str, remedy: str | None, change: Step) -> Mistake:
    return Mistake(seen, remedy, centring=change, summing=change)


_SIZE = "The size is w.sum()**2 / (w**2).sum()."
_MISTAKES = (
    _weighted(
        "The ratio is upside down.",
        "The weight multiplies an example's squared error, it doesn't divide it.",
        lambda v: 1 / v.w,
    ),
    _weighted(
        "The line's weights are squared. np.linalg.lstsq squares what its rows are multiplied by, np.polyfit its w.",
        "Give them the root of w.",
        lambda v: v.w**2,
    ),
    _weighted(
        "The line's weights are the roots of w.",
        "np.sqrt belongs in front of least squares only, which squares it again.",
        lambda v: v.w**0.5,
    ),
    _weighted("The line ignores the weights.", None, lambda v: np.ones_like(v.w)),
    Mistake("The means of x and y are unweighted.", "A weighted line passes through the weighted means.",
            centring=lambda v: np.ones_like(v.w)),
    Mistake("The weights enter the means only.", "They belong in both sums of the slope, too.",
            summing=lambda v: np.ones_like(v.w)),
    Mistake("Intercept and slope are exchanged.", "Return the intercept first; np.polyfit puts the slope first.",
            line=lambda v: _line(v)[::-1]),
    Mistake("The size is upside down.", "The square of the sum goes above.",
            size=lambda v: (v.w**2).sum() / v.w.sum() ** 2),
    Mistake("The sum in the size isn't squared: that depends on the weights' scale.", _SIZE,
            size=lambda v: v.w.sum() / (v.w**2).sum()),
    Mistake("The size takes the weights to be scaled to sum 1, and they are not.", _SIZE,
            size=lambda v: 1 / (v.w**2).sum()),
    Mistake("The size has the weights' variance below.", "It takes their mean square, without subtracting the mean.",
            size=lambda v: len(v.w) * v.w.mean() ** 2 / v.w.var()),
    Mistake("The size is a share.", "Multiply by the number of examples.",
            size=lambda v: v.w.mean() ** 2 / (v.w**2).mean()),
    Mistake("The size is the sum of the weights, which a factor on all of them changes.", _SIZE,
            size=lambda v: v.w.sum()),
    Mistake("The size is the number of examples; it counts what the weights leave of them.", _SIZE,
            size=lambda v: v.w.dtype.type(len(v.w))),
)  # fmt: skip


def _draws(*sizes: int) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(1)
    return tuple({"x": rng.normal(1, 2, n), "y": rng.normal(-1, 2, n), "w": rng.lognormal(0.4, 0.7, n)} for n in sizes)


EXERCISES = {
    "01-weights": Exercise(
        "x, y and w of shape (N,), line (2,): intercept and slope",
        _draws(7, 10),
        ("line", "size"),
        _WEIGHTS,
        _MISTAKES,
    )
}
