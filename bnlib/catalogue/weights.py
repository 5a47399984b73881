"""Chapter 14: weight norm's gradients, and the mean and variance behind a ReLU.

"14-weightnorm": w = g v / |v| row by row. "14-moments": of relu(z), for a Gaussian z of the given
mean and variance.
"""

import math
from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step

_BACKWARD: dict[str, Step] = {
    "length": lambda v: np.sqrt((v.v**2).sum(1, keepdims=True)),
    "direction": lambda v: v.v / v.length,
    "along": lambda v: (v.dw * v.direction).sum(1, keepdims=True),
    "rest": lambda v: v.dw - v.along * v.direction,
    "factor": lambda v: v.g[:, None] / v.length,
    "dv": lambda v: v.factor * v.rest,
    "dg": lambda v: v.along[:, 0],
}


def _dot(a: Any, b: Any) -> Any:
    """The inner product of each row."""
    return (a * b).sum(1, keepdims=True)


_PROJECTED = "dv is g / |v| (dw - (dw . v/|v|) v/|v|), row by row."
_MISTAKES = (
    Mistake(
        "The projection is forgotten: dv still has a part along v, but w does not change with the length of v.",
        "Subtract (dw . v/|v|) v/|v|.",
        rest=lambda v: v.dw,
    ),
    Mistake(
        "The part along v is what remains; it is what must go.",
        "Take dw - (dw . v/|v|) v/|v|.",
        rest=lambda v: v.along * v.direction,
    ),
    Mistake("The part along v is added.", "Subtract it.", rest=lambda v: v.dw + v.along * v.direction),
    Mistake(
        "The projection uses v in place of the direction v/|v|, both times.",
        _PROJECTED,
        rest=lambda v: v.dw - _dot(v.dw, v.v) * v.v,
    ),
    Mistake(
        "The projection needs the direction v/|v| twice, in the inner product and behind it; one of them is v.",
        _PROJECTED,
        rest=lambda v: v.dw - v.along * v.v,
    ),
    Mistake(
        "The projection uses w, whose length is |g|, in place of the direction v/|v|.",
        _PROJECTED,
        rest=lambda v: v.dw - _dot(v.dw, v.g[:, None] * v.direction) * v.g[:, None] * v.direction,
    ),
    Mistake(
        "The inner product of the projection runs over all units; each row has its own.",
        "Sum over axis 1, with keepdims=True.",
        rest=lambda v: v.dw - (v.dw * v.direction).sum() * v.direction,
    ),
    Mistake("g is missing in the term that is subtracted.", _PROJECTED,
            rest=lambda v: v.dw - v.along * v.direction / v.g[:, None]),
    Mistake("g is missing in dv.", _PROJECTED, factor=lambda v: 1 / v.length),
    Mistake("dv is not divided by |v|.", _PROJECTED, factor=lambda v: v.g[:, None]),
    Mistake("dv is divided by |v| twice.", _PROJECTED, factor=lambda v: v.g[:, None] / v.length**2),
    Mistake(
        "|g| stands for g in dv: a negative g turns the weights round, and the gradient too.",
        factor=lambda v: abs(v.g[:, None]) / v.length,
    ),
    Mistake(
        "The length is taken over the units, axis 0; each unit's weights are a row.",
        "Take it over axis 1.",
        length=lambda v: np.sqrt((v.v**2).sum(0, keepdims=True)),
    ),
    Mistake(
        "One length is taken for the whole matrix; each row has its own.",
        "Take it with axis=1, keepdims=True.",
        length=lambda v: np.sqrt((v.v**2).sum()),
    ),
    Mistake("The length is squared: its root is missing.", length=lambda v: (v.v**2).sum(1, keepdims=True)),
    Mistake("dg is not divided by |v|.", "It is dw . v/|v|.", dg=lambda v: (v.dw * v.v).sum(1)),
    Mistake("dg is summed over the units.", "Sum over the inputs, axis 1.", dg=lambda v: (v.dw * v.direction).sum(0)),
    Mistake(
        "dg is multiplied by g, but g itself changes w by v/|v| alone.",
        "dg is dw . v/|v|.",
        dg=lambda v: v.g * v.along[:, 0],
    ),
    Mistake(
        "dg is the length of dw; only its part along v changes the length of w.",
        "dg is dw . v/|v|.",
        dg=lambda v: np.sqrt((v.dw**2).sum(1)),
    ),
)  # fmt: skip


def _phi(r: np.ndarray) -> np.ndarray:
    """The share of a standard Gaussian below r, without SciPy."""
    return np.array([math.erfc(-x * 2**-0.5) / 2 for x in r.tolist()], r.dtype)


_FORWARD: dict[str, Step] = {
    "std": lambda v: np.sqrt(v.var),
    "r": lambda v: v.mean / v.std,
    "share": lambda v: _phi(v.r),  # of z that is positive
    "density": lambda v: np.exp(-(v.r**2) / 2) * (2 * np.pi) ** -0.5,
    "first": lambda v: v.mean * v.share + v.std * v.density,
    "second": lambda v: (v.mean**2 + v.var) * v.share + v.mean * v.std * v.density,
    "mean_out": lambda v: v.first,
    "var_out": lambda v: v.second - v.first**2,
}

_MEAN = "The mean is mean * Phi(r) + std * phi(r), with r = mean / std."
_SQUARE = "The mean square is (mean**2 + var) * Phi(r) + mean * std * phi(r), with r = mean / std."
_WRONG_MOMENTS = (
    Mistake("var_out is the mean square.", "Subtract the square of mean_out.", var_out=lambda v: v.second),
    Mistake("The square of z's mean is subtracted, not that of relu(z)'s.", "Subtract mean_out**2.",
            var_out=lambda v: v.second - v.mean**2),
    Mistake(
        "These are the moments for mean 0, only scaled: half of z is positive, whatever its mean.",
        f"{_MEAN} {_SQUARE}",
        share=lambda v: 0 * v.r + 0.5,
        density=lambda v: 0 * v.r + (2 * np.pi) ** -0.5,
        first=lambda v: v.std * v.density,
        second=lambda v: v.var / 2,
    ),
    Mistake("var stands where its root, the standard deviation, must.", std=lambda v: v.var),
    Mistake("Phi and phi are taken at the mean.", "Divide it by the standard deviation.", r=lambda v: v.mean),
    Mistake("Phi and phi are taken at mean / var.", "Divide by the standard deviation.", r=lambda v: v.mean / v.var),
    Mistake("Phi(-r) is the share of z that is cut off.", "Take Phi(r): it passes.", share=lambda v: _phi(-v.r)),
    Mistake("Phi is (1 + erf(r)) / 2, where r has lost its factor.", "It is (1 + erf(r / sqrt(2))) / 2.",
            share=lambda v: _phi(v.r * 2**0.5)),
    Mistake("The density lacks its factor 1 / sqrt(2 pi).", density=lambda v: np.exp(-(v.r**2) / 2)),
    Mistake("The density's exponent lacks a factor.", "It is -r**2 / 2.",
            density=lambda v: np.exp(-(v.r**2)) * (2 * np.pi) ** -0.5),
    Mistake("The term with the density is missing in the mean.", _MEAN, first=lambda v: v.mean * v.share),
    Mistake("phi in the mean lacks its factor, the standard deviation.",
            first=lambda v: v.mean * v.share + v.density),
    Mistake("The term with the density is missing in the mean square.", _SQUARE,
            second=lambda v: (v.mean**2 + v.var) * v.share),
    Mistake(
        "The mean square's term with the density has the factor 2 of 2 mean std t; the part of t**2 takes one away.",
        _SQUARE,
        second=lambda v: (v.mean**2 + v.var) * v.share + 2 * v.mean * v.std * v.density,
    ),
    Mistake(
        "These are the moments of the z that pass, alone. Those that are cut off count, too, as 0.",
        "Do not divide by Phi(r).",
        mean_out=lambda v: v.first / v.share,
        var_out=lambda v: v.second / v.share - (v.first / v.share) ** 2,
    ),
    Mistake("var_out is a standard deviation.", var_out=lambda v: abs(v.second - v.first**2) ** 0.5),
)  # fmt: skip


def _draws(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(13)
    return tuple(
        {"dw": rng.normal(size=s), "v": unit * rng.normal(0.3, 1.4, s), "g": rng.normal(0, 2, s[0])}
        for s, unit in zip(shapes, (1, 0.2), strict=True)  # rows longer and shorter than 1
    )


def _gaussians(*units: int) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(14)
    return tuple({"mean": rng.normal(0, 1.2, n), "var": rng.uniform(0.4, 3, n) ** 2} for n in units)


EXERCISES = {
    "14-weightnorm": Exercise(
        "dw, v and dv of shape (units, inputs), g and dg (units,)",
        _draws((4, 6), (5, 3)),
        ("dv", "dg"),
        _BACKWARD,
        _MISTAKES,
    ),
    "14-moments": Exercise(
        "mean, var, mean_out and var_out of shape (units,): of relu(z), z Gaussian with mean and var",
        _gaussians(5, 3),
        ("mean_out", "var_out"),
        _FORWARD,
        _WRONG_MOMENTS,
    ),
}
