"""Chapter 12: group norm of x (N, C, L); and layer norm's output (N, C) when all weights are multiplied by a number.

Statistics stand in the view (N, groups, C / groups, L), with axes of length 1.
"""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Exercise, Mistake, Step


def _view(v: SimpleNamespace) -> tuple[int, ...]:
    n, channels, length = v.x.shape
    return n, v.groups, channels // v.groups, length


def _exchanged(v: SimpleNamespace) -> tuple[int, ...]:
    n, groups, each, length = _view(v)
    return n, each, groups, length


def _total(a: np.ndarray, v: SimpleNamespace) -> np.ndarray:
    return a.sum(axis=v.axes, keepdims=True)


def _over(*axes: int) -> Step:
    return lambda v: axes


_GROUPS: dict[str, Step] = {
    "view": _view,
    "axes": _over(2, 3),
    "scale": lambda v: v.gamma[:, None],
    "shift": lambda v: v.beta[:, None],
    "inside": lambda v: v.x,
    "values": lambda v: v.inside.reshape(v.view),
    "count": lambda v: math.prod(v.view[axis] for axis in v.axes),
    "mean": lambda v: _total(v.values, v) / v.count,
    "squares": lambda v: (v.values - v.mean) ** 2,
    "divisor": lambda v: v.count,
    "var": lambda v: _total(v.squares, v) / v.divisor,
    "rstd": lambda v: (v.var + v.eps) ** -0.5,
    "centred": lambda v: v.values - v.mean,
    "xhat": lambda v: (v.centred * v.rstd).reshape(v.x.shape),
    "y": lambda v: v.scale * v.xhat + v.shift,
}

_SPLIT = "Take them over axes 2 and 3 of x.reshape(N, groups, C // groups, L)."
_GROUP_MISTAKES = (
    Mistake(f"Mean and variance run over the batch as well: no example may see another. {_SPLIT}", axes=_over(0, 2, 3)),
    Mistake(f"Mean and variance run over the positions only, as in instance norm. {_SPLIT}", axes=_over(3)),
    Mistake(f"Mean and variance run over the channels of a group only, position by position. {_SPLIT}", axes=_over(2)),
    Mistake(f"Mean and variance run over all channels, as in layer norm: groups is not used. {_SPLIT}",
            axes=_over(1, 2, 3)),
    Mistake(f"Mean and variance run over batch and positions, as in batch norm. {_SPLIT}", axes=_over(0, 3)),
    Mistake(f"Mean and variance run over everything, batch and all groups. {_SPLIT}", axes=_over(0, 1, 2, 3)),
    Mistake(
        "Each group takes every groups-th channel. A group is neighbouring channels: reshape C to "
        "(groups, C // groups), groups first.",
        view=_exchanged, axes=_over(1, 3),
    ),
    Mistake(
        "Number and size of the groups are exchanged: reshape C to (groups, C // groups), groups first.",
        view=_exchanged,
    ),
    Mistake(
        "The variance is unbiased. The norms use the plain mean of the squared deviations: np.var with ddof=0.",
        divisor=lambda v: v.count - 1,
    ),
    Mistake("eps stands outside the root: divide by np.sqrt(var + eps), not by np.sqrt(var) + eps.",
            rstd=lambda v: 1 / (v.var**0.5 + v.eps)),
    Mistake("eps is forgotten: divide by np.sqrt(var + eps).", rstd=lambda v: v.var**-0.5),
    Mistake("eps is always 1e-5: use the argument eps.", rstd=lambda v: (v.var + 1e-5) ** -0.5),
    Mistake("x - mean is divided by var + eps: its root is missing.", rstd=lambda v: 1 / (v.var + v.eps)),
    Mistake(
        "No mean is subtracted, and the variance is a mean square: that is RMS norm.",
        squares=lambda v: v.values**2, centred=lambda v: v.values,
    ),
    Mistake(
        "The variance is taken about zero, as the mean of x**2: subtract the mean there, too.",
        squares=lambda v: v.values**2,
    ),
    Mistake("The mean is not subtracted in front of the division: xhat is (x - mean) / np.sqrt(var + eps).",
            centred=lambda v: v.values),
    Mistake(
        "gamma multiplies x before it is normalized. It comes behind: y is gamma * xhat + beta.",
        inside=lambda v: v.scale * v.x, y=lambda v: v.xhat + v.shift,
    ),
    Mistake("gamma is forgotten: y is gamma * xhat + beta.", scale=lambda v: 1.0),
    Mistake("beta is forgotten: y is gamma * xhat + beta.", shift=lambda v: 0.0),
    Mistake(
        "gamma and beta have changed places: gamma multiplies xhat, then beta is added.",
        scale=lambda v: v.beta[:, None], shift=lambda v: v.gamma[:, None],
    ),
    Mistake(
        "beta is added before gamma multiplies: y is gamma * xhat + beta, not gamma * (xhat + beta).",
        y=lambda v: v.scale * (v.xhat + v.shift),
    ),
)  # fmt: skip

_SCALE: dict[str, Step] = {
    "factor": lambda v: np.sign(v.a),
    "centre": lambda v: v.beta,
    "scaled": lambda v: v.factor * (v.y - v.centre),  # gamma * xhat, as it is now
    "shift": lambda v: v.centre,
    "y_new": lambda v: v.scaled + v.shift,
}

_SCALE_MISTAKES = (
    Mistake(
        "Layer norm is not invariant for every a: mean and deviations change their sign with a, the standard deviation "
        "does not. What is left of a is its sign.",
        factor=lambda v: 1.0,
    ),
    Mistake("xhat is multiplied by a. The standard deviation grows by |a|, too, so of a only the sign is left.",
            factor=lambda v: v.a),
    Mistake(
        "xhat is multiplied by |a|: its size goes with the standard deviation, and what is left of a is its sign.",
        factor=lambda v: abs(v.a),
    ),
    Mistake("xhat is divided by a: z is multiplied by it already. Of both together the sign is left.",
            factor=lambda v: 1 / v.a),
    Mistake("xhat is divided by |a|: z is multiplied by a already. Of both together the sign is left.",
            factor=lambda v: 1 / abs(v.a)),
    Mistake("xhat changes its sign even where a is positive.", factor=lambda v: -1.0),
    Mistake(
        "beta changes its sign, or its size, with xhat. It is added behind the norm and does not see a: "
        "take it away first, and add it again.",
        scaled=lambda v: v.factor * v.y, shift=lambda v: 0.0,
    ),
    Mistake("beta is taken away and not added again.", shift=lambda v: 0.0),
    Mistake("gamma is multiplied a second time: y - beta contains it already.",
            scaled=lambda v: v.gamma * v.factor * (v.y - v.centre)),
    Mistake("gamma is lost: y - beta is gamma * xhat, and needs no division.",
            scaled=lambda v: v.factor * (v.y - v.centre) / v.gamma),
    Mistake("y is turned about its own mean. What is added behind the norm is beta: turn it about that.",
            centre=lambda v: v.y.mean(1, keepdims=True)),
)  # fmt: skip


def _group_draws(*shapes: tuple[int, int, int]) -> tuple[dict[str, Any], ...]:
    rng, draws = np.random.default_rng(12), []
    for (n, c, length), groups, eps in zip(shapes, (2, 4), (0.3, 0.6), strict=True):
        means = rng.normal(2, 1, (n, 1, 1)) + rng.normal(size=(c, 1))
        x = means + rng.uniform(0.5, 2, (c, 1)) * rng.normal(size=(n, c, length))
        gamma, beta = rng.uniform(1.5, 3, c), rng.uniform(-3, -0.5, c)
        draws.append({"x": x, "gamma": gamma, "beta": beta, "groups": groups, "eps": eps})
    return tuple(draws)


def _scale_draws(*shapes: tuple[int, int]) -> tuple[dict[str, Any], ...]:
    rng, draws = np.random.default_rng(13), []
    for (n, c), a in zip(shapes, (-2.5, 1.7), strict=True):
        z, gamma, beta = rng.normal(size=(n, c)), rng.uniform(1.5, 3, c), rng.uniform(-3, -0.5, c)
        y = gamma * (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True) + beta
        draws.append({"y": y, "gamma": gamma, "beta": beta, "a": np.array(a)})  # an array, so that it has y's dtype
    return tuple(draws)


EXERCISES = {
    "12-axes": Exercise(_group_draws((4, 6, 5), (5, 8, 3)), ("y",), _GROUPS, _GROUP_MISTAKES),
    "12-scale": Exercise(_scale_draws((4, 6), (5, 3)), ("y_new",), _SCALE, _SCALE_MISTAKES),
}
