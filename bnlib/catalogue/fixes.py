"""Chapter 5: the gradient dz of lam times the mean over the units of mean**2 + (var - 1)**2."""

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Far, Mistake, Step
from bnlib.catalogue.transform import variance_kept

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
    Mistake(
        "The path through the variance is missing.",
        "Add 2 (var - 1) times the derivative of var, 2 (z - mean) / N.",
        through_var=lambda v: 0 * v.centred,
    ),
    Mistake(
        "The path through the mean is missing.", "Add 2 mean / N.", through_mean=lambda v: 0 * v.mean
    ),
    Mistake(
        "The path through the mean is counted twice.",
        "The square's 2 mean / N is all: what the variance sends to the mean adds up to 0.",
        through_mean=lambda v: 2 * v.dmean * v.mean_slope,
    ),
    Mistake("The square of the mean has lost its factor 2.", dmean=lambda v: v.mean),
    Mistake(
        "The path through the variance has lost a factor 2: there are two squares, (var - 1)**2 and those in var.",
        "It is 2 (var - 1) * 2 (z - mean) / N.",
        dvar=lambda v: v.var - 1,
    ),
    Mistake(
        "The path through the variance has lost both factors 2, of its two squares.",
        "It is 2 (var - 1) * 2 (z - mean) / N.",
        dvar=lambda v: (v.var - 1) / 2,
    ),
    Mistake(
        "A factor is missing in the mean's path: each z moves the mean by a share only.",
        "Divide by N there.",
        mean_slope=lambda v: 1.0,
    ),
    Mistake(
        "A factor is missing in the variance's path: each square is one of N in the variance.",
        "Divide by N there.",
        var_slope=lambda v: 2 * v.centred,
    ),
    Mistake(
        "The variance's derivative is taken of mean(z**2): it contains z, not the deviation.",
        "It is 2 (z - mean) / N.",
        var_slope=lambda v: 2 * v.z / len(v.z),
    ),
    Mistake(
        "The variance's derivative holds only what each z does to its own deviation.",
        "The factor 1 - 1/N is not needed: the deviations add up to 0, so it is 2 (z - mean) / N.",
        var_slope=lambda v: 2 * v.centred / len(v.z) * (1 - 1 / len(v.z)),
    ),
    Mistake(
        "The variance is pulled to 0, but the penalty has (var - 1)**2.",
        "Its derivative is 2 (var - 1).",
        dvar=lambda v: 2 * v.var,
    ),
    Mistake(
        "var is a standard deviation here; the penalty is about the variance.",
        "Take np.var, or square np.std.",
        var=lambda v: v.z.std(0),
    ),
    Mistake("The variance is unbiased; the divisor is N here.", "Take np.var with ddof=0.",
            var=lambda v: v.z.var(0, ddof=1)),
    Mistake("The variance is unbiased, and its derivative follows it; the divisor is N here.",
            "Take np.var with ddof=0; torch.var needs correction=0.",
            var=lambda v: v.z.var(0, ddof=1), var_slope=lambda v: 2 * v.centred / (len(v.z) - 1)),
    Mistake(
        "The statistics are those of each row; a unit is a column.",
        "Take them over axis 0.",
        mean=lambda v: v.z.mean(1, keepdims=True),
        centred=lambda v: v.z - v.z.mean(1, keepdims=True),
        var=lambda v: v.z.var(1, keepdims=True),
    ),
    Mistake("lam is missing.", size=lambda v: 1.0),
    Mistake("The sign is turned: this is the step, not the gradient.", size=lambda v: -v.lam),
    Mistake("The penalty is the mean over the units, not their sum.", "Divide by C.", units=lambda v: 1),
    Mistake("It is divided by the number of examples, not of units.", "Divide by C.", units=lambda v: len(v.z)),
)  # fmt: skip


def _draws(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(5)
    means, spreads = (-0.7, 0.3, 1.1, -1.5), (1.6, 0.5, 0.7, 1.3)  # variances on both sides of 1
    return tuple(
        {"z": rng.normal(means[: shape[1]], spreads[: shape[1]], shape), "lam": lam}
        for shape, lam in zip(shapes, (0.3, 2.5), strict=True)
    )


def _far(around: float) -> Arguments:
    return {"z": np.random.default_rng(6).normal(around, 1.6, (8, 4)), "lam": 0.3}


EXERCISES = {
    "05-penalty": Exercise(
        "z and dz of shape (N, C), lam a number",
        _draws((7, 4), (5, 3)),
        ("dz",),
        _PENALTY,
        _MISTAKES,
        Far(_far, 1e-4, variance_kept("z")),
    )
}
