"""Chapter 5: the gradient dz of lam times the mean over the units of mean**2 + (var - 1)**2, for z of shape (N, C)."""

from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Exercise, Mistake, Step

_PENALTY: dict[str, Step] = {
    "size": lambda v: v.lam,
    "units": lambda v: v.z.shape[1],
    "mean": lambda v: v.z.mean(0),
    "centred": lambda v: v.z - v.z.mean(0),
    "var": lambda v: v.z.var(0),
    "dmean": lambda v: 2 * v.mean,  # of the penalty, with respect to the mean
    "dvar": lambda v: 2 * (v.var - 1),
    "mean_slope": lambda v: 1 / len(v.z),  # of the mean, with respect to one z
    "var_slope": lambda v: 2 * v.centred / len(v.z),
    "through_mean": lambda v: v.dmean * v.mean_slope,
    "through_var": lambda v: v.dvar * v.var_slope,
    "dz": lambda v: v.size * (v.through_mean + v.through_var + 0 * v.z) / v.units,
}

_MISTAKES = (
    Mistake("The path through the variance is missing.", through_var=lambda v: 0 * v.centred),
    Mistake("The path through the mean is missing.", through_mean=lambda v: 0 * v.mean),
    Mistake("The square of the mean has lost its factor 2.", dmean=lambda v: v.mean),
    Mistake(
        "The path through the variance has lost a factor 2: there are two squares, (var - 1)**2 and those in var.",
        dvar=lambda v: v.var - 1,
    ),
    Mistake(
        "The path through the variance has lost both factors 2, of its two squares.",
        dvar=lambda v: (v.var - 1) / 2,
    ),
    Mistake("Each z moves the mean by 1/N only: that factor is missing in the mean's path.", mean_slope=lambda v: 1.0),
    Mistake(
        "Each square is one of N in the variance: the factor 1/N is missing in the variance's path.",
        var_slope=lambda v: 2 * v.centred,
    ),
    Mistake(
        "The variance's derivative contains z - mean, not z.",
        var_slope=lambda v: 2 * v.z / len(v.z),
    ),
    Mistake(
        "The variance is pulled to 0: the penalty has (var - 1)**2, so its derivative 2 (var - 1).",
        dvar=lambda v: 2 * v.var,
    ),
    Mistake(
        "var is a standard deviation here; the penalty is about the variance.",
        var=lambda v: v.z.std(0),
    ),
    Mistake("The variance is unbiased; the divisor is N here.", var=lambda v: v.z.var(0, ddof=1)),
    Mistake(
        "The statistics are those of each row; a unit is a column: use axis 0.",
        mean=lambda v: v.z.mean(1, keepdims=True),
        centred=lambda v: v.z - v.z.mean(1, keepdims=True),
        var=lambda v: v.z.var(1, keepdims=True),
    ),
    Mistake("lam is missing.", size=lambda v: 1.0),
    Mistake("The sign is turned: this is the step, not the gradient.", size=lambda v: -v.lam),
    Mistake("The penalty is the mean over the units: divide by their number, C.", units=lambda v: 1),
    Mistake("It is divided by the number of examples, not of units.", units=lambda v: len(v.z)),
)


def _draws(*shapes: tuple[int, int]) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(5)
    return tuple({"z": rng.normal(0.7, 1.6, shape), "lam": lam} for shape, lam in zip(shapes, (0.3, 2.5), strict=True))


EXERCISES = {"05-penalty": Exercise(_draws((7, 4), (5, 3)), ("dz",), _PENALTY, _MISTAKES)}
