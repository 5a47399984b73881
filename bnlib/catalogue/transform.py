"""Chapters 6 and 7: batch norm, of examples and of images, forward and backward.

Statistics keep their axes, as (1, C) or (1, C, 1, 1).
"""

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Far, Mistake, Step, eps_mistakes


def _others(v: SimpleNamespace) -> tuple[int, ...]:
    """All axes but the channels'."""
    return (0, *range(2, v.values.ndim))


def _per_channel(a: np.ndarray, v: SimpleNamespace) -> np.ndarray:
    return a.reshape(1, -1, *[1] * (v.values.ndim - 2))


def _count(v: SimpleNamespace, axes: tuple[int, ...]) -> int:
    return math.prod(v.values.shape[axis] for axis in axes)


def _sum(a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return a.sum(axis=axes, keepdims=True)


STATISTICS: dict[str, Step] = {
    "values": lambda v: v.x,
    "axes": _others,
    "mean": lambda v: v.values.mean(v.axes, keepdims=True),
    "centred": lambda v: v.values - v.mean,
    "divisor": lambda v: _count(v, v.axes),
    "var": lambda v: _sum(v.centred**2, v.axes) / v.divisor,
    "rstd": lambda v: (v.var + v.eps) ** -0.5,
    "xhat": lambda v: v.centred * v.rstd,
    "scale": lambda v: _per_channel(v.gamma, v),
}
_FORWARD = STATISTICS | {
    "shift": lambda v: _per_channel(v.beta, v),
    "y": lambda v: (v.scale * v.xhat + v.shift).reshape(v.x.shape),
}
BACKWARD = STATISTICS | {
    "dvalues": lambda v: v.dy,
    "dxhat": lambda v: v.dvalues * v.scale,
    "direct": lambda v: v.dxhat,  # the term without a path
    "inside": lambda v: v.dxhat,  # what the two means in dx are taken of
    "paths": lambda v: v.axes,  # the axes of the two means, and the divisor of each
    "mean_divisor": lambda v: _count(v, v.paths),
    "var_divisor": lambda v: _count(v, v.paths),
    "slope": lambda v: 1.0,  # 2 r dr/dvar for the divisor r of x - mean: 1 if r = sqrt(var + eps)
    "mean_path": lambda v: _sum(v.inside, v.paths) / v.mean_divisor,
    "var_path": lambda v: v.xhat * _sum(v.inside * v.xhat, v.paths) / v.var_divisor * v.slope,
    "outside": lambda v: v.rstd,
    "dx": lambda v: (v.outside * (v.direct - v.mean_path - v.var_path)).reshape(v.x.shape),
    "dgamma_terms": lambda v: v.dvalues * v.xhat,
    "dbeta_terms": lambda v: v.dvalues,
    "dgamma": lambda v: v.dgamma_terms.sum(_others(v)),
    "dbeta": lambda v: v.dbeta_terms.sum(_others(v)),
}


def _channels_last(v: SimpleNamespace) -> tuple[int, ...]:
    n, channels, *positions = v.x.shape
    return n, *positions, channels


def _axes_mistakes(images: bool, backward: bool) -> Iterator[Mistake]:
    """Statistics over the wrong axes; the two means in dx may be taken over the same ones, or alone be wrong."""
    wrong: dict[str, tuple[int, ...]] = {"the units of each example": (1,), "all values at once": (0, 1)}
    remedy = "Take them over the batch, axis=0: each unit has its own."
    if images:
        wrong = {
            "the examples only": (0,),
            "the positions only, as in instance norm": (2, 3),
            "each whole example, as in layer norm": (1, 2, 3),
            "the channels": (1,),
            "all but the last axis, as if the channels came last": (0, 1, 2),
            "all values at once": (0, 1, 2, 3),
        }
        remedy = "Take them over examples and positions, axis=(0, 2, 3): each channel has its own."
    for over, axes in wrong.items():
        here: Step = lambda v, axes=axes: axes  # noqa: E731
        if backward:
            yield Mistake(f"Mean and variance run over {over}.", remedy, axes=here, paths=_others)
            yield Mistake(f"Mean and variance, and the two means in dx, run over {over}.", remedy, axes=here)
            yield Mistake(f"The two means in dx run over {over}.", remedy, paths=here)
        else:
            yield Mistake(f"Mean and variance run over {over}.", remedy, axes=here)
    if images:
        rows: dict[str, Step] = {"values": lambda v: v.x.reshape(-1, v.x.shape[1]), "axes": _others}
        if backward:
            rows |= {"dvalues": lambda v: v.dy.reshape(-1, v.x.shape[1]), "paths": _others}
            yield Mistake(
                "dy is cut into rows of C values as it lies in memory, where the positions come last, unlike x.",
                "Move its channels to the end first: dy.transpose(0, 2, 3, 1).reshape(-1, C).",
                dvalues=lambda v: v.dy.reshape(_channels_last(v)).transpose(0, 3, 1, 2),
            )
        name = "dx" if backward else "y"
        of = (BACKWARD if backward else _FORWARD)[name]
        back: dict[str, Step] = {name: lambda v: of(v).transpose(0, 2, 3, 1).reshape(v.x.shape)}
        yield Mistake(
            f"{name} is reshaped from rows of C values to (N, C, H, W), but not transposed back.",
            "Undo both: .reshape(N, H, W, C).transpose(0, 3, 1, 2).",
            **back,
        )
        yield Mistake(
            "x is cut into rows of C values as it lies in memory, where the positions come last. "
            "So each column mixes channels.",
            "Move the channels to the end first: x.transpose(0, 2, 3, 1).reshape(-1, C). On the way back, undo both.",
            **rows,
        )


def statistics_mistakes(m: str, x: str = "x") -> list[Mistake]:
    """Mistakes in the statistics and in xhat, of a forward pass or of a backward pass that recomputes them.

    m is the number of values behind each statistic, and x what is normalized, as they stand in the sentences.
    """
    return [
        Mistake(
            f"The variance is unbiased, divided by {m} - 1. The transform's is the plain mean of the squares.",
            "Take np.var with its default, ddof=0.",
            divisor=lambda v: _count(v, v.axes) - 1,
        ),
        Mistake(
            "eps stands outside the root. It belongs to the variance.",
            "Divide by np.sqrt(var + eps), not by np.sqrt(var) + eps.",
            rstd=lambda v: 1 / (v.var**0.5 + v.eps),
        ),
        *eps_mistakes("Divide by np.sqrt(var + eps)."),
        Mistake(
            "eps is a lower bound of the variance, not added to it.",
            "Divide by np.sqrt(var + eps).",
            rstd=lambda v: np.maximum(v.var, v.eps) ** -0.5,
            eps=lambda v: v.eps,  # another eps would be hidden
        ),
        Mistake(
            "eps is subtracted from the variance: where var is smaller than eps, the root has no value.",
            "Add it: np.sqrt(var + eps).",
            rstd=lambda v: (v.var - v.eps) ** -0.5,
        ),
        Mistake(
            f"{x} - mean is divided by var + eps, but the standard deviation is its root.",
            "Divide by np.sqrt(var + eps).",
            rstd=lambda v: 1 / (v.var + v.eps),
        ),
        Mistake(
            "The mean is not subtracted.",
            f"xhat is ({x} - mean) / np.sqrt(var + eps).",
            xhat=lambda v: v.values * v.rstd,
        ),
    ]


def _forward_mistakes(images: bool) -> tuple[Mistake, ...]:
    return (
        *statistics_mistakes("N * H * W" if images else "N"),
        Mistake(
            "Brackets are missing: x - mean / np.sqrt(var + eps) divides the mean only.",
            "Write (x - mean) / np.sqrt(var + eps).",
            xhat=lambda v: v.values - v.mean * v.rstd,
        ),
        Mistake(
            "eps is added to the quotient (x - mean) / np.sqrt(var). It belongs under the root.",
            "Divide by np.sqrt(var + eps).",
            xhat=lambda v: v.centred * v.var**-0.5 + v.eps,
            rstd=STATISTICS["rstd"],  # another one would be hidden
        ),
        Mistake("gamma is forgotten.", "y is gamma * xhat + beta.", scale=lambda v: 1.0),
        Mistake("beta is forgotten.", "y is gamma * xhat + beta.", shift=lambda v: 0.0),
        Mistake(
            "gamma and beta have changed places.",
            "gamma multiplies xhat, then beta is added.",
            scale=lambda v: _per_channel(v.beta, v),
            shift=lambda v: _per_channel(v.gamma, v),
        ),
        Mistake(
            "beta is added before gamma multiplies.",
            "y is gamma * xhat + beta, not gamma * (xhat + beta).",
            y=lambda v: (v.scale * (v.xhat + v.shift)).reshape(v.x.shape),
        ),
        *_axes_mistakes(images, backward=False),
    )


def path_mistakes(dx: str = "dx", x: str = "x") -> Iterator[Mistake]:
    """Mistakes in the gradient of what is normalized, by its name and that of its gradient."""
    three = "Subtract mean(dxhat) and xhat * mean(dxhat * xhat) from dxhat."
    yield Mistake(
        f"{dx} lacks the path through the variance: every {x} also changes the batch's variance, which divides all of "
        "them.",
        "Subtract xhat * mean(dxhat * xhat).",
        var_path=lambda v: 0.0,
    )
    yield Mistake(
        f"{dx} lacks the path through the mean: every {x} also moves the batch's mean, which is subtracted from all of "
        "them.",
        "Subtract mean(dxhat).",
        mean_path=lambda v: 0.0,
    )
    yield Mistake(
        f"{dx} treats mean and variance as constants, but both depend on every {x}.",
        three,
        mean_path=lambda v: 0.0,
        var_path=lambda v: 0.0,
    )
    own: dict[str, Step] = {"mean_path": lambda v: v.dxhat / _count(v, v.paths)}
    yield Mistake(
        f"{dx} holds only what each {x} does to its own xhat, through the mean. It moves the others', too, and the "
        "variance.",
        f"Sum over the batch. {three}",
        **own,
        var_path=lambda v: 0.0,
    )
    yield Mistake(
        f"{dx} holds only what each {x} does to its own xhat, through mean and variance. It moves the others', too.",
        f"Sum over the batch. {three}",
        **own,
        var_path=lambda v: v.xhat**2 * v.dxhat / _count(v, v.paths),
    )
    yield Mistake(
        "The path through the variance lacks its factor xhat: it differs from one example to the next.",
        "Subtract xhat * mean(dxhat * xhat).",
        var_path=lambda v: _sum(v.inside * v.xhat, v.paths) / v.var_divisor * v.slope,
    )
    yield Mistake(
        "The path through the mean is counted twice.",
        "Subtract mean(dxhat) once; what the variance sends to the mean adds up to 0.",
        mean_path=lambda v: 2 * BACKWARD["mean_path"](v),
    )
    yield Mistake(
        "The path through the variance is twice too large: the root's derivative has a factor 1/2.",
        f"dvar is -0.5 * (var + eps) ** -1.5 * sum(dxhat * ({x} - mean)).",
        var_path=lambda v: 2 * BACKWARD["var_path"](v),
    )
    yield Mistake(
        "The path through the variance is half as large as it must be: the square's derivative has a factor 2.",
        f"Each {x} receives dvar * 2 * ({x} - mean) / N, with all values of the mean for N.",
        var_path=lambda v: BACKWARD["var_path"](v) / 2,
    )
    yield Mistake(
        "eps is lost in the path through the variance: the power -3/2 there is of var alone.",
        "It is (var + eps) ** -1.5.",
        var_path=lambda v: BACKWARD["var_path"](v) * ((v.var + v.eps) / v.var) ** 1.5,
    )
    yield Mistake(
        "eps is lost in the path through the variance: something there is divided by var alone.",
        f"Divide by var + eps: with xhat = ({x} - mean) / np.sqrt(var + eps), subtract xhat * mean(dxhat * xhat).",
        var_path=lambda v: BACKWARD["var_path"](v) * ((v.var + v.eps) / v.var),
    )
    yield Mistake(
        f"The path through the variance has {x} in place of {x} - mean, in the sum and behind it.",
        "Subtract xhat * mean(dxhat * xhat).",
        var_path=lambda v: v.values * v.rstd**2 * _sum(v.inside * v.values, v.paths) / v.var_divisor * v.slope,
    )
    yield Mistake(
        f"The path through the variance has {x} - mean in place of xhat once, in the sum or behind it.",
        "Subtract xhat * mean(dxhat * xhat).",
        var_path=lambda v: BACKWARD["var_path"](v) / v.rstd,
    )
    yield Mistake(
        f"The path through the variance has {x} - mean in place of xhat twice, as if dvar had the power -0.5.",
        "Subtract xhat * mean(dxhat * xhat): in dvar, var + eps has the power -1.5.",
        var_path=lambda v: BACKWARD["var_path"](v) / v.rstd**2,
    )
    yield Mistake(
        f"The factor rstd in front of {dx} is forgotten: xhat is ({x} - mean) * rstd, and so is its gradient.",
        "Multiply by rstd = 1 / np.sqrt(var + eps).",
        outside=lambda v: 1.0,
    )
    yield Mistake(
        f"{dx} lacks gamma, by which y is larger than xhat.",
        "dxhat is dy * gamma, not dy.",
        dxhat=lambda v: v.dvalues,
    )
    yield Mistake(
        f"gamma is missing in the first term of {dx} only: the two paths have it.",
        "Subtract the two paths from dxhat = dy * gamma, not from dy.",
        direct=lambda v: v.dvalues,
    )
    yield Mistake(
        f"The two means in {dx} are taken of dy and dy * xhat, without gamma.",
        "Take them of dxhat and dxhat * xhat, with dxhat = dy * gamma.",
        inside=lambda v: v.dvalues,
    )
    yield Mistake(
        f"In {dx} the path through the mean lacks gamma: its mean is taken of dy.",
        "Take it of dxhat = dy * gamma.",
        mean_path=lambda v: _sum(v.dvalues, v.paths) / v.mean_divisor,
    )
    yield Mistake(
        f"In {dx} the path through the variance lacks gamma: its mean is taken of dy * xhat.",
        "Take it of dxhat * xhat, with dxhat = dy * gamma.",
        var_path=lambda v: v.xhat * _sum(v.dvalues * v.xhat, v.paths) / v.var_divisor * v.slope,
    )


def dgamma_mistakes(x: str = "x") -> Iterator[Mistake]:
    """dgamma from something else than xhat, which is made of x."""
    remedy = "Sum dy * xhat."
    yield Mistake(
        "dgamma lacks xhat, which gamma multiplies. (The sum of dy is dbeta.)",
        remedy,
        dgamma_terms=lambda v: v.dvalues,
    )
    yield Mistake(
        f"dgamma is summed from dy * {x}, but gamma multiplies xhat.",
        remedy,
        dgamma_terms=lambda v: v.dvalues * v.values,
    )
    yield Mistake(
        f"dgamma is summed from dy * ({x} - mean), but gamma multiplies xhat.",
        remedy,
        dgamma_terms=lambda v: v.dvalues * v.centred,
    )
    remedy = f"Sum dy * xhat, with xhat = ({x} - mean) / np.sqrt(var + eps)."
    yield Mistake(
        "dgamma is divided by the variance, not by its root.",
        remedy,
        dgamma_terms=lambda v: v.dvalues * v.centred / (v.var + v.eps),
    )
    yield Mistake(
        "dgamma is divided by the variance, without eps, not by the root of both.",
        remedy,
        dgamma_terms=lambda v: v.dvalues * v.centred / v.var,
    )
    yield Mistake(
        "eps is forgotten in dgamma, there alone.",
        remedy,
        dgamma_terms=lambda v: v.dvalues * v.centred * v.var**-0.5,
    )
    yield Mistake(
        "eps is fixed at 1e-5 in dgamma, there alone.",
        remedy,
        dgamma_terms=lambda v: v.dvalues * v.centred * (v.var + 1e-5) ** -0.5,
    )


def _backward_mistakes(images: bool) -> tuple[Mistake, ...]:
    m = "N * H * W" if images else "N"
    return (
        *path_mistakes(),
        *statistics_mistakes(m),
        Mistake(
            f"The variance is unbiased, divided by {m} - 1, and dx follows it. The transform's is the plain mean.",
            f"Divide by {m} in both.",
            divisor=lambda v: _count(v, v.axes) - 1,
            var_divisor=lambda v: _count(v, v.paths) - 1,
        ),
        Mistake(
            f"In dx the sum of dxhat * xhat is divided by {m} - 1, as for an unbiased variance.",
            f"Divide by {m}.",
            var_divisor=lambda v: _count(v, v.paths) - 1,
        ),
        Mistake(
            "eps stands outside the root, and dx is the gradient of that.",
            "The transform divides by np.sqrt(var + eps), not by np.sqrt(var) + eps.",
            rstd=lambda v: 1 / (v.var**0.5 + v.eps),
            slope=lambda v: (v.var**0.5 + v.eps) / v.var**0.5,
        ),
        Mistake(
            "x - mean is divided by var + eps, without the root, and dx is the gradient of that.",
            "The transform divides by np.sqrt(var + eps).",
            rstd=lambda v: 1 / (v.var + v.eps),
            slope=lambda v: 2 * (v.var + v.eps),
        ),
        Mistake(
            "eps is missing in the factor in front of dx.",
            "It is rstd = 1 / np.sqrt(var + eps), as in xhat.",
            outside=lambda v: v.var**-0.5,
        ),
        Mistake(
            "dx is divided by var + eps, but the standard deviation is its root.",
            "Multiply by rstd once.",
            outside=lambda v: v.rstd**2,
        ),
        Mistake(
            "gamma stands in dx twice: it is already in dxhat.",
            "Take it once: dxhat = dy * gamma.",
            dxhat=lambda v: v.dvalues * v.scale**2,
        ),
        Mistake(
            f"dx is {m} times too large.",
            f"{m} * dxhat - sum(dxhat) - xhat * sum(dxhat * xhat) has to be multiplied by rstd and divided by {m}.",
            dx=lambda v: _count(v, v.axes) * BACKWARD["dx"](v),
        ),
        Mistake(
            "dx has the wrong sign.",
            "dxhat enters with a plus, the two paths with a minus.",
            dx=lambda v: -BACKWARD["dx"](v),
        ),
        Mistake(
            "The path through the mean has the wrong sign: the mean is subtracted from x.",
            "Subtract mean(dxhat).",
            mean_path=lambda v: -BACKWARD["mean_path"](v),
        ),
        Mistake(
            "The path through the variance has the wrong sign: a larger variance makes xhat smaller.",
            "Subtract xhat * mean(dxhat * xhat).",
            var_path=lambda v: -BACKWARD["var_path"](v),
        ),
        *dgamma_mistakes(),
        Mistake(
            "dgamma is summed from dxhat * xhat, but dxhat has passed gamma already.",
            "Sum dy * xhat.",
            dgamma_terms=lambda v: v.dxhat * v.xhat,
        ),
        Mistake(
            "dbeta is summed from dxhat, but beta is added after gamma.",
            "Sum dy.",
            dbeta_terms=lambda v: v.dxhat,
        ),
        Mistake(
            "dgamma and dbeta have changed places.",
            "dgamma is the sum of dy * xhat, dbeta the sum of dy.",
            dgamma_terms=lambda v: v.dvalues,
            dbeta_terms=lambda v: v.dvalues * v.xhat,
        ),
        *_divisor_mistakes(images, m),
        *_reduction_mistakes(images),
        *_axes_mistakes(images, backward=True),
        Mistake(
            f"All three gradients are divided by {m}. The 1 / N of a mean loss stands in dy already.",
            "Take dy as it is.",
            dvalues=lambda v: v.dy / _count(v, _others(v)),
        ),
    )


def _divisor_mistakes(images: bool, m: str) -> Iterator[Mistake]:
    """Sums in place of the two means in dx, or sums divided by too little."""
    wrong: dict[str, Step] = {"not divided": lambda v: 1}
    if images:
        wrong["divided by N only"] = lambda v: len(v.x)
    else:
        wrong["divided by the number of units"] = lambda v: v.x.shape[1]
    for how, divisor in wrong.items():
        yield Mistake(
            f"In dx the sum of dxhat is {how}. The path through the mean needs a mean.",
            f"Divide by {m}.",
            mean_divisor=divisor,
        )
        yield Mistake(
            f"In dx the sum of dxhat * xhat is {how}. The path through the variance needs a mean.",
            f"Divide by {m}.",
            var_divisor=divisor,
        )
        yield Mistake(
            f"In dx the sums of dxhat and of dxhat * xhat are {how}. Both paths need means.",
            f"Divide by {m}.",
            mean_divisor=divisor,
            var_divisor=divisor,
        )


def _reduction_mistakes(images: bool) -> Iterator[Mistake]:
    """dgamma, dbeta or both averaged, or summed over other axes than all but the channels'."""
    axes = (0, 2, 3) if images else 0
    summed = f"gamma and beta have shape (C,), so sum over axis={axes}."
    wrong: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
        "averaged": (
            f"Every value adds its share: sum over axis={axes}, without dividing.",
            lambda a: a.mean((0, *range(2, a.ndim))),
        ),
        "not summed": (summed, lambda a: a),
        "summed over all values": (summed, lambda a: a.sum()),
    }
    if images:
        wrong["summed over the examples only"] = (summed, lambda a: a.sum(0))
        wrong["summed over the positions only"] = (summed, lambda a: a.sum((*range(2, a.ndim),)))
    else:
        wrong["summed over the units"] = (summed, lambda a: a.sum(1))
    for how, (remedy, reduce) in wrong.items():
        dgamma: Step = lambda v, reduce=reduce: reduce(v.dgamma_terms)  # noqa: E731
        dbeta: Step = lambda v, reduce=reduce: reduce(v.dbeta_terms)  # noqa: E731
        yield Mistake(f"dgamma is {how}.", remedy, dgamma=dgamma)
        yield Mistake(f"dbeta is {how}.", remedy, dbeta=dbeta)
        yield Mistake(f"dgamma and dbeta are {how}.", remedy, dgamma=dgamma, dbeta=dbeta)


# Beside two draws with values near 1 and a large eps stands one in small units, in which the fixed eps lie apart.
# In the second, eps lies among the variances, so that it shows where it is only their lower bound.
UNITS, EPS = (1.0, 1.0, 1e-5), (0.3, 2.0, 4e-11)
AROUND = (300.0, -300.0, 300.0)


def _draws(names: tuple[str, ...], *shapes: tuple[int, ...]) -> tuple[Arguments, ...]:
    """Arguments under which mistakes show: sizes that differ, gamma and beta away from 0 and 1, a large eps.

    The values of x lie so far from zero that single precision shows, too, and its variances are larger than eps.
    """
    rng = np.random.default_rng(7)
    return tuple(
        _arguments(names, rng, shape, around, unit, eps)
        for shape, around, unit, eps in zip(shapes, AROUND, UNITS, EPS, strict=True)
    )


def _arguments(
    names: tuple[str, ...], rng: np.random.Generator, shape: tuple[int, ...], around: float, unit: float, eps: float
) -> Arguments:
    channels, axes = shape[1], (0, *range(2, len(shape)))
    offset, spread = (a.reshape(-1, *[1] * (len(shape) - 2)) for a in rng.uniform((-3, 1), (3, 2), (channels, 2)).T)
    z, dy = rng.normal(size=shape), rng.normal(size=shape)
    z = (z - z.mean(axes, keepdims=True)) / z.std(axes, keepdims=True)
    x = unit * (around + offset + spread * z)
    gamma, beta = rng.choice([-1, 1], (2, channels)) * rng.uniform(1.5, 3, (2, channels))
    values = {"dy": dy, "x": x, "gamma": gamma, "beta": beta, "eps": eps}
    return {name: values[name] for name in names}


def variance_kept(x: str = "x") -> str:
    """The remedy for a variance from mean squares, of what is called so."""
    return f"Subtract the mean before you square: var = (({x} - mean) ** 2).mean(axis), as np.var does."


def _far(names: tuple[str, ...], shape: tuple[int, ...]) -> Far:
    return Far(
        lambda around: _arguments(names, np.random.default_rng(6), shape, around, 1.0, 1e-3), 0.03, variance_kept()
    )


_UP, _BACK, _GRADIENTS = ("x", "gamma", "beta", "eps"), ("dy", "x", "gamma", "eps"), ("dx", "dgamma", "dbeta")
_MATRICES, _IMAGES = ((7, 5), (4, 6), (8, 3)), ((4, 3, 5, 6), (6, 5, 2, 3), (5, 4, 3, 2))
_FAR_MATRIX, _FAR_IMAGES = (8, 6), (5, 6, 4, 3)

EXERCISES = {
    "06-batch-norm": Exercise(
        "x and y of shape (N, C)",
        _draws(_UP, *_MATRICES),
        ("y",),
        _FORWARD,
        _forward_mistakes(images=False),
        _far(_UP, _FAR_MATRIX),
    ),
    "06-channels": Exercise(
        "x and y of shape (N, C, H, W)",
        _draws(_UP, *_IMAGES),
        ("y",),
        _FORWARD,
        _forward_mistakes(images=True),
        _far(_UP, _FAR_IMAGES),
    ),
    "07-backward": Exercise(
        "dy, x and dx of shape (N, C)",
        _draws(_BACK, *_MATRICES),
        _GRADIENTS,
        BACKWARD,
        _backward_mistakes(images=False),
        _far(_BACK, _FAR_MATRIX),
    ),
    "07-channels": Exercise(
        "dy, x and dx of shape (N, C, H, W)",
        _draws(_BACK, *_IMAGES),
        _GRADIENTS,
        BACKWARD,
        _backward_mistakes(images=True),
        _far(_BACK, _FAR_IMAGES),
    ),
}
