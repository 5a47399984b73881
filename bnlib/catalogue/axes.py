"""Chapter 13: group norm; and layer norm's output when all weights are multiplied by a number.

Statistics stand in the view (N, groups, C / groups, L), with axes of length 1.
"""

import math
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Far, Mistake, Step, eps_mistakes
from bnlib.catalogue.transform import EPS, UNITS, variance_kept


def _view(v: SimpleNamespace) -> tuple[int, ...]:
    n, channels, length = v.x.shape
    return n, v.groups, channels // v.groups, length


def _exchanged(v: SimpleNamespace) -> tuple[int, ...]:
    n, groups, each, length = _view(v)
    return n, each, groups, length


def _channels_last(v: SimpleNamespace) -> tuple[int, ...]:
    n, groups, each, length = _view(v)
    return n, length, groups, each


def _total(a: np.ndarray, v: SimpleNamespace) -> np.ndarray:
    return a.sum(axis=v.axes, keepdims=True)


def _over(*axes: int) -> Step:
    return lambda v: axes


def _as_last(a: np.ndarray, v: SimpleNamespace) -> np.ndarray:
    """A number for each channel, laid along the last axis of x.reshape(N, L, C)."""
    return np.tile(a, v.x.shape[2]).reshape(v.x.shape[1:])


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
    "normed": lambda v: v.centred * v.rstd,
    "xhat": lambda v: v.normed.reshape(v.x.shape),
    "y": lambda v: v.scale * v.xhat + v.shift,
}


def _parameters_by_group() -> Iterator[Mistake]:
    """gamma and beta, or one of them, the same for all channels of a group."""

    def by_group(a: np.ndarray, v: SimpleNamespace, one: slice) -> np.ndarray:
        return np.repeat(a[one], len(a) // v.groups)[:, None]

    for name, steps in (("gamma", ("scale",)), ("beta", ("shift",)), ("gamma and beta", ("scale", "shift"))):
        for which, start in (("its first channel's", True), ("that at the group's number", False)):

            def chosen(v: SimpleNamespace, start: bool = start) -> slice:
                return slice(None, None, len(v.gamma) // v.groups) if start else slice(v.groups)

            made: dict[str, Step] = {
                "scale": lambda v, chosen=chosen: by_group(v.gamma, v, chosen(v)),
                "shift": lambda v, chosen=chosen: by_group(v.beta, v, chosen(v)),
            }
            yield Mistake(
                f"All channels of a group have the same {name}, {which}. Each channel has its own.",
                "Leave the groups' view first, then multiply by gamma[:, None] and add beta[:, None].",
                **{step: made[step] for step in steps},
            )


_SPLIT = "Take them over axes 2 and 3 of x.reshape(N, groups, C // groups, L)."
_NEIGHBOURS = "Reshape C to (groups, C // groups), groups first."
_LAST = "x is (N, C, L): x.reshape(N, groups, -1) cuts it right."
_GROUP_MISTAKES = (
    Mistake("Mean and variance run over the batch as well: no example may see another.", _SPLIT, axes=_over(0, 2, 3)),
    Mistake("Mean and variance run over the positions only, as in instance norm.", _SPLIT, axes=_over(3)),
    Mistake("Mean and variance run over the channels of a group only, position by position.", _SPLIT, axes=_over(2)),
    Mistake("Mean and variance run over all channels, as in layer norm: groups is not used.", _SPLIT,
            axes=_over(1, 2, 3)),
    Mistake("Mean and variance run over batch and positions, as in batch norm.", _SPLIT, axes=_over(0, 3)),
    Mistake("Mean and variance run over everything, batch and all groups.", _SPLIT, axes=_over(0, 1, 2, 3)),
    Mistake(
        "Each group takes every groups-th channel. A group is neighbouring channels.", _NEIGHBOURS,
        view=_exchanged, axes=_over(1, 3),
    ),
    Mistake("Number and size of the groups are exchanged.", _NEIGHBOURS, view=_exchanged),
    Mistake(
        "x is reshaped to (N, L, C) as it lies in memory, not transposed. So what is last is no channel.", _LAST,
        view=_channels_last, axes=_over(1, 3),
    ),
    Mistake(
        "x is reshaped to (N, L, C) as it lies in memory, not transposed, for gamma and beta, too.", _LAST,
        view=_channels_last, axes=_over(1, 3),
        scale=lambda v: _as_last(v.gamma, v), shift=lambda v: _as_last(v.beta, v),
    ),
    Mistake(
        "The groups are cut from (N, L, C), where the positions come first. So a group is some positions, with all "
        "channels.",
        f"Cut the groups with the channels in front of the positions. {_LAST}",
        inside=lambda v: v.x.transpose(0, 2, 1),
        view=lambda v: (len(v.x), v.groups, v.x[0].size // v.groups, 1),
        xhat=lambda v: v.normed.reshape(v.x.transpose(0, 2, 1).shape).transpose(0, 2, 1),
    ),
    Mistake(
        "The variance is unbiased. The norms use the plain mean of the squared deviations.",
        "Take np.var with ddof=0.",
        divisor=lambda v: v.count - 1,
    ),
    Mistake("eps stands outside the root.", "Divide by np.sqrt(var + eps), not by np.sqrt(var) + eps.",
            rstd=lambda v: 1 / (v.var**0.5 + v.eps)),
    *eps_mistakes("Divide by np.sqrt(var + eps)."),
    Mistake("eps is a lower bound of the variance, not added to it.", "Divide by np.sqrt(var + eps).",
            rstd=lambda v: np.maximum(v.var, v.eps) ** -0.5, eps=lambda v: v.eps),
    Mistake(
        "eps is subtracted from the variance: where var is smaller than eps, the root has no value.",
        "Add it: np.sqrt(var + eps).",
        rstd=lambda v: (v.var - v.eps) ** -0.5,
    ),
    Mistake("x - mean is divided by var + eps: its root is missing.", "Divide by np.sqrt(var + eps).",
            rstd=lambda v: 1 / (v.var + v.eps)),
    Mistake(
        "No mean is subtracted, and the variance is a mean square: that is RMS norm.",
        "Subtract the group's mean first, then take the mean of the squares.",
        squares=lambda v: v.values**2, centred=lambda v: v.values,
    ),
    Mistake(
        "The variance is taken about zero, as the mean of x**2.", "Subtract the mean there, too.",
        squares=lambda v: v.values**2,
    ),
    Mistake("The mean is not subtracted in front of the division.", "xhat is (x - mean) / np.sqrt(var + eps).",
            centred=lambda v: v.values),
    Mistake(
        "gamma multiplies x before it is normalized. It comes behind.", "y is gamma * xhat + beta.",
        inside=lambda v: v.scale * v.x, y=lambda v: v.xhat + v.shift,
    ),
    Mistake("gamma is forgotten.", "y is gamma * xhat + beta.", scale=lambda v: 1.0),
    Mistake("beta is forgotten.", "y is gamma * xhat + beta.", shift=lambda v: 0.0),
    Mistake(
        "gamma and beta have changed places.", "gamma multiplies xhat, then beta is added.",
        scale=lambda v: v.beta[:, None], shift=lambda v: v.gamma[:, None],
    ),
    Mistake(
        "beta is added before gamma multiplies.", "y is gamma * xhat + beta, not gamma * (xhat + beta).",
        y=lambda v: v.scale * (v.xhat + v.shift),
    ),
    *_parameters_by_group(),
)  # fmt: skip

_SCALE: dict[str, Step] = {
    "factor": lambda v: np.sign(v.a),
    "centre": lambda v: v.beta,
    "scaled": lambda v: v.factor * (v.y - v.centre),  # gamma * xhat, as it is now
    "shift": lambda v: v.centre,
    "y_new": lambda v: v.scaled + v.shift,
}

_SIGN = "The standard deviation grows by |a|, so of a only its sign is left: multiply by np.sign(a)."
_SCALE_MISTAKES = (
    Mistake(
        "Layer norm is not invariant for every a: mean and deviations change their sign with a, the standard deviation "
        "does not.",
        _SIGN,
        factor=lambda v: 1.0,
    ),
    Mistake("xhat is multiplied by a. But the standard deviation grows, too.", _SIGN, factor=lambda v: v.a),
    Mistake("xhat is multiplied by |a|. But the standard deviation grows, too, and a sign is lost.", _SIGN,
            factor=lambda v: abs(v.a)),
    Mistake("xhat is divided by a, but z is multiplied by it already.", _SIGN, factor=lambda v: 1 / v.a),
    Mistake("xhat is divided by |a|, but z is multiplied by a already.", _SIGN, factor=lambda v: 1 / abs(v.a)),
    Mistake("xhat changes its sign even where a is positive.", "Multiply by np.sign(a).", factor=lambda v: -1.0),
    Mistake(
        "beta changes its sign, or its size, with xhat. It is added behind the norm and does not see a.",
        "Take beta away first, and add it again.",
        scaled=lambda v: v.factor * v.y, shift=lambda v: 0.0,
    ),
    Mistake("beta is taken away and not added again.", shift=lambda v: 0.0),
    Mistake("gamma is multiplied a second time.", "y - beta contains it already.",
            scaled=lambda v: v.gamma * v.factor * (v.y - v.centre)),
    Mistake("gamma is lost.", "y - beta is gamma * xhat, and needs no division.",
            scaled=lambda v: v.factor * (v.y - v.centre) / v.gamma),
    Mistake("y is turned about its own mean. What is added behind the norm is another number.",
            "Turn it about beta: y - beta changes its sign, then beta is added.",
            centre=lambda v: v.y.mean(1, keepdims=True)),
)  # fmt: skip


def _group_arguments(
    rng: np.random.Generator, shape: tuple[int, int, int], groups: int, around: float, unit: float, eps: float
) -> Arguments:
    n, c = shape[:2]
    means = around + rng.normal(0, 1, (n, 1, 1)) + rng.normal(size=(c, 1))
    x = unit * (means + rng.uniform(1.3, 2.5, (c, 1)) * rng.normal(size=shape))
    gamma, beta = rng.choice([-1, 1], (2, c)) * rng.uniform(1.5, 3, (2, c))
    return {"x": x, "gamma": gamma, "beta": beta, "groups": groups, "eps": eps}


def _group_draws(*shapes: tuple[int, int, int]) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(12)
    return tuple(
        _group_arguments(rng, shape, groups, 2.0, unit, eps)
        for shape, groups, unit, eps in zip(shapes, (2, 4, 3), UNITS, EPS, strict=True)
    )


def _far_group(around: float) -> Arguments:
    return _group_arguments(np.random.default_rng(6), (4, 6, 5), 2, around, 1.0, 1e-3)


def _scale_draws(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    rng, draws = np.random.default_rng(13), []
    for (n, c), a in zip(shapes, (-2.5, 1.7, 0.04, -0.3), strict=True):
        z, (gamma, beta) = rng.normal(size=(n, c)), rng.choice([-1, 1], (2, c)) * rng.uniform(1.5, 3, (2, c))
        y = gamma * (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True) + beta
        draws.append({"y": y, "gamma": gamma, "beta": beta, "a": np.array(a)})  # an array, so that it has y's dtype
    return tuple(draws)


EXERCISES = {
    "13-axes": Exercise(
        "x and y of shape (N, C, L): group norm",
        _group_draws((4, 6, 5), (5, 8, 3), (4, 9, 5)),
        ("y",),
        _GROUPS,
        _GROUP_MISTAKES,
        Far(_far_group, 0.03, variance_kept()),
    ),
    "13-scale": Exercise(
        "y and y_new of shape (N, C): what layer norm with eps = 0 puts out, and then with all weights of the layer, "
        "which has no bias, multiplied by the number a, not 0",
        _scale_draws((4, 6), (5, 3), (3, 7), (6, 4)),
        ("y_new",),
        _SCALE,
        _SCALE_MISTAKES,
    ),
}
