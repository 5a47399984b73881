"""Chapters 6 and 7: batch norm of x (N, C) or (N, C, H, W), forward and backward.

Statistics keep their axes, as (1, C) or (1, C, 1, 1).
"""

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Exercise, Mistake, Step


def _others(v: SimpleNamespace) -> tuple[int, ...]:
    """All axes but the channels'."""
    return (0, *range(2, v.x.ndim))


def _per_channel(a: np.ndarray, v: SimpleNamespace) -> np.ndarray:
    return a.reshape(1, -1, *[1] * (v.x.ndim - 2))


def _count(v: SimpleNamespace, axes: tuple[int, ...]) -> int:
    return math.prod(v.x.shape[axis] for axis in axes)


def _sum(a: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return a.sum(axis=axes, keepdims=True)


STATISTICS: dict[str, Step] = {
    "axes": _others,
    "mean": lambda v: v.x.mean(v.axes, keepdims=True),
    "divisor": lambda v: _count(v, v.axes),
    "var": lambda v: _sum((v.x - v.mean) ** 2, v.axes) / v.divisor,
    "rstd": lambda v: (v.var + v.eps) ** -0.5,
    "xhat": lambda v: (v.x - v.mean) * v.rstd,
    "scale": lambda v: _per_channel(v.gamma, v),
}
_FORWARD = STATISTICS | {
    "shift": lambda v: _per_channel(v.beta, v),
    "y": lambda v: v.scale * v.xhat + v.shift,
}
BACKWARD = STATISTICS | {
    "dxhat": lambda v: v.dy * v.scale,
    "inside": lambda v: v.dxhat,  # what the two means in dx are taken of
    "paths": lambda v: v.axes,  # the axes of the two means, and the divisor of each
    "mean_divisor": lambda v: _count(v, v.paths),
    "var_divisor": lambda v: _count(v, v.paths),
    "slope": lambda v: 1.0,  # 2 r dr/dvar for the divisor r of x - mean: 1 if r = sqrt(var + eps)
    "mean_path": lambda v: _sum(v.inside, v.paths) / v.mean_divisor,
    "var_path": lambda v: v.xhat * _sum(v.inside * v.xhat, v.paths) / v.var_divisor * v.slope,
    "outside": lambda v: v.rstd,
    "dx": lambda v: v.outside * (v.dxhat - v.mean_path - v.var_path),
    "dgamma_terms": lambda v: v.dy * v.xhat,
    "dbeta_terms": lambda v: v.dy,
    "dgamma": lambda v: v.dgamma_terms.sum(_others(v)),
    "dbeta": lambda v: v.dbeta_terms.sum(_others(v)),
}


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
            "all values at once": (0, 1, 2, 3),
        }
        remedy = "Take them over examples and positions, axis=(0, 2, 3): each channel has its own."
    for over, axes in wrong.items():
        here: Step = lambda v, axes=axes: axes  # noqa: E731
        if backward:
            yield Mistake(f"Mean and variance run over {over}. {remedy}", axes=here, paths=_others)
            yield Mistake(f"Mean and variance, and the two means in dx, run over {over}. {remedy}", axes=here)
            yield Mistake(f"The two means in dx run over {over}. {remedy}", paths=here)
        else:
            yield Mistake(f"Mean and variance run over {over}. {remedy}", axes=here)


def statistics_mistakes(m: str, x: str = "x") -> list[Mistake]:
    """Mistakes in the statistics and in xhat, of a forward pass or of a backward pass that recomputes them.

    m is the number of values behind each statistic, and x what is normalized, as they stand in the sentences.
    """
    return [
        Mistake(
            f"The variance is divided by {m} - 1, which makes it unbiased. The transform needs the plain mean "
            "of the squared deviations: np.var with its default, ddof=0.",
            divisor=lambda v: _count(v, v.axes) - 1,
        ),
        Mistake(
            "eps stands outside the root. It belongs to the variance: divide by np.sqrt(var + eps), "
            "not by np.sqrt(var) + eps.",
            rstd=lambda v: 1 / (v.var**0.5 + v.eps),
        ),
        Mistake(
            "eps is forgotten: divide by np.sqrt(var + eps), or a unit that never varies becomes 0 / 0.",
            rstd=lambda v: v.var**-0.5,
        ),
        Mistake(
            "eps is always 1e-5: use the argument eps in np.sqrt(var + eps).",
            rstd=lambda v: (v.var + 1e-5) ** -0.5,
        ),
        Mistake(
            f"{x} - mean is divided by var + eps, but the standard deviation is its root: "
            "divide by np.sqrt(var + eps).",
            rstd=lambda v: 1 / (v.var + v.eps),
        ),
        Mistake(
            f"The mean is not subtracted: xhat is ({x} - mean) / np.sqrt(var + eps).",
            xhat=lambda v: v.x * v.rstd,
        ),
    ]


def _forward_mistakes(images: bool) -> tuple[Mistake, ...]:
    return (
        *statistics_mistakes("N * H * W" if images else "N"),
        Mistake(
            "Brackets are missing: x - mean / np.sqrt(var + eps) divides the mean only. "
            "Write (x - mean) / np.sqrt(var + eps).",
            xhat=lambda v: v.x - v.mean * v.rstd,
        ),
        Mistake(
            "eps is added to the quotient (x - mean) / np.sqrt(var). It belongs under the root: np.sqrt(var + eps).",
            xhat=lambda v: (v.x - v.mean) * v.var**-0.5 + v.eps,
        ),
        Mistake("gamma is forgotten: y is gamma * xhat + beta.", scale=lambda v: 1.0),
        Mistake("beta is forgotten: y is gamma * xhat + beta.", shift=lambda v: 0.0),
        Mistake(
            "gamma and beta have changed places: gamma multiplies xhat, then beta is added.",
            scale=lambda v: _per_channel(v.beta, v),
            shift=lambda v: _per_channel(v.gamma, v),
        ),
        Mistake(
            "beta is added before gamma multiplies: y is gamma * xhat + beta, not gamma * (xhat + beta).",
            y=lambda v: v.scale * (v.xhat + v.shift),
        ),
        *_axes_mistakes(images, backward=False),
    )


def _backward_mistakes(images: bool) -> tuple[Mistake, ...]:
    m = "N * H * W" if images else "N"
    return (
        Mistake(
            "dx lacks the path through the variance: every x also changes the batch's variance, which divides all "
            "of them. Subtract xhat * mean(dxhat * xhat).",
            var_path=lambda v: 0.0,
        ),
        Mistake(
            "dx lacks the path through the mean: every x also moves the batch's mean, which is subtracted from all "
            "of them. Subtract mean(dxhat).",
            mean_path=lambda v: 0.0,
        ),
        Mistake(
            "dx treats mean and variance as constants, but both depend on every x. "
            "Subtract mean(dxhat) and xhat * mean(dxhat * xhat) from dxhat.",
            mean_path=lambda v: 0.0,
            var_path=lambda v: 0.0,
        ),
        Mistake(
            "The path through the variance lacks its factor xhat: what is subtracted is xhat * mean(dxhat * xhat), "
            "another number for each x.",
            var_path=lambda v: _sum(v.inside * v.xhat, v.paths) / v.var_divisor * v.slope,
        ),
        *statistics_mistakes(m),
        Mistake(
            f"The variance is unbiased (divided by {m} - 1), and dx follows it. "
            f"The transform's variance is the plain mean: divide by {m} in both.",
            divisor=lambda v: _count(v, v.axes) - 1,
            var_divisor=lambda v: _count(v, v.paths) - 1,
        ),
        Mistake(
            f"In dx the sum of dxhat * xhat is divided by {m} - 1, as for an unbiased variance. Divide by {m}.",
            var_divisor=lambda v: _count(v, v.paths) - 1,
        ),
        Mistake(
            "eps stands outside the root, and dx is the gradient of that. The transform divides by "
            "np.sqrt(var + eps), not by np.sqrt(var) + eps.",
            rstd=lambda v: 1 / (v.var**0.5 + v.eps),
            slope=lambda v: (v.var**0.5 + v.eps) / v.var**0.5,
        ),
        Mistake(
            "eps is forgotten in the factor in front of dx: it is rstd = 1 / np.sqrt(var + eps), as in xhat.",
            outside=lambda v: v.var**-0.5,
        ),
        Mistake(
            "The factor rstd in front of dx is forgotten: xhat is (x - mean) * rstd, so the gradient is multiplied by "
            "rstd, too.",
            outside=lambda v: 1.0,
        ),
        Mistake(
            "dx is divided by var + eps, but the standard deviation is its root: multiply by rstd once.",
            outside=lambda v: v.rstd**2,
        ),
        Mistake(
            "dx lacks gamma: y is gamma * xhat + beta, so dxhat is dy * gamma, not dy.",
            dxhat=lambda v: v.dy,
        ),
        Mistake(
            "The two means in dx are taken of dy and dy * xhat, without gamma. Take them of dxhat and dxhat * xhat.",
            inside=lambda v: v.dy,
        ),
        Mistake(
            "gamma stands in dx twice: it is already in dxhat = dy * gamma.",
            dxhat=lambda v: v.dy * v.scale**2,
        ),
        Mistake(
            f"dx is {m} times too large: {m} * dxhat - sum(dxhat) - xhat * sum(dxhat * xhat) has to be multiplied by "
            f"rstd and divided by {m}.",
            dx=lambda v: _count(v, v.axes) * v.outside * (v.dxhat - v.mean_path - v.var_path),
        ),
        Mistake(
            "dx has the wrong sign: dxhat enters with a plus, the two paths with a minus.",
            dx=lambda v: -v.outside * (v.dxhat - v.mean_path - v.var_path),
        ),
        Mistake(
            "The path through the mean has the wrong sign: the mean is subtracted from x, so subtract mean(dxhat).",
            mean_path=lambda v: -_sum(v.inside, v.paths) / v.mean_divisor,
        ),
        Mistake(
            "The path through the variance has the wrong sign: a larger variance makes xhat smaller, so subtract "
            "xhat * mean(dxhat * xhat).",
            var_path=lambda v: -v.xhat * _sum(v.inside * v.xhat, v.paths) / v.var_divisor * v.slope,
        ),
        Mistake(
            "dgamma lacks xhat, which gamma multiplies: sum dy * xhat. (The sum of dy is dbeta.)",
            dgamma_terms=lambda v: v.dy,
        ),
        Mistake(
            "dgamma is summed from dy * x, but gamma multiplies xhat: sum dy * xhat.",
            dgamma_terms=lambda v: v.dy * v.x,
        ),
        Mistake(
            "dgamma is summed from dy * (x - mean), but gamma multiplies xhat: sum dy * xhat.",
            dgamma_terms=lambda v: v.dy * (v.x - v.mean),
        ),
        Mistake(
            "dgamma is summed from dxhat * xhat, but dxhat has passed gamma already: sum dy * xhat.",
            dgamma_terms=lambda v: v.dxhat * v.xhat,
        ),
        Mistake(
            "dbeta is summed from dxhat, but beta is added after gamma: sum dy.",
            dbeta_terms=lambda v: v.dxhat,
        ),
        Mistake(
            "dgamma and dbeta have changed places: dgamma is the sum of dy * xhat, dbeta the sum of dy.",
            dgamma_terms=lambda v: v.dy,
            dbeta_terms=lambda v: v.dy * v.xhat,
        ),
        *_divisor_mistakes(images, m),
        *_reduction_mistakes(images),
        *_axes_mistakes(images, backward=True),
    )


def _divisor_mistakes(images: bool, m: str) -> Iterator[Mistake]:
    """Sums in place of the two means in dx, or sums divided by too little."""
    wrong: dict[str, Step] = {"not divided": lambda v: 1}
    if images:
        wrong["divided by N only"] = lambda v: len(v.x)
    for how, divisor in wrong.items():
        yield Mistake(
            f"In dx the sum of dxhat is {how}. The path through the mean needs a mean: divide by {m}.",
            mean_divisor=divisor,
        )
        yield Mistake(
            f"In dx the sum of dxhat * xhat is {how}. The path through the variance needs a mean: divide by {m}.",
            var_divisor=divisor,
        )
        yield Mistake(
            f"In dx the sums of dxhat and of dxhat * xhat are {how}. Both paths need means: divide by {m}.",
            mean_divisor=divisor,
            var_divisor=divisor,
        )


def _reduction_mistakes(images: bool) -> Iterator[Mistake]:
    """dgamma, dbeta or both averaged, or summed over other axes than all but the channels'."""
    axes = (0, 2, 3) if images else 0
    summed = f"gamma and beta have shape (C,), so sum over axis={axes}."
    wrong: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
        "averaged": (f"Every value adds its share: sum over axis={axes}, without dividing.", lambda a: a.mean(axes)),
        "not summed": (summed, lambda a: a),
        "summed over all values": (summed, lambda a: a.sum()),
    }
    if images:
        wrong["summed over the examples only"] = (summed, lambda a: a.sum(0))
        wrong["summed over the positions only"] = (summed, lambda a: a.sum((2, 3)))
    else:
        wrong["summed over the units"] = (summed, lambda a: a.sum(1))
    for how, (remedy, reduce) in wrong.items():
        dgamma: Step = lambda v, reduce=reduce: reduce(v.dgamma_terms)  # noqa: E731
        dbeta: Step = lambda v, reduce=reduce: reduce(v.dbeta_terms)  # noqa: E731
        yield Mistake(f"dgamma is {how}. {remedy}", dgamma=dgamma)
        yield Mistake(f"dbeta is {how}. {remedy}", dbeta=dbeta)
        yield Mistake(f"dgamma and dbeta are {how}. {remedy}", dgamma=dgamma, dbeta=dbeta)


def _draws(names: tuple[str, ...], *shapes: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    """Arguments under which mistakes show: sizes that differ, gamma and beta away from 0 and 1, a large eps.

    The values of x lie so far from zero that single precision shows, too.
    """
    rng = np.random.default_rng(7)
    draws = []
    for shape, eps in zip(shapes, (0.3, 0.5), strict=True):
        channels = shape[1]
        spread = rng.uniform(0.5, 2, channels).reshape(-1, *[1] * (len(shape) - 2))
        x, dy = 300 + spread * rng.normal(size=shape), rng.normal(size=shape)
        gamma, beta = rng.choice([-1, 1], (2, channels)) * rng.uniform(1.5, 3, (2, channels))
        values = {"dy": dy, "x": x, "gamma": gamma, "beta": beta, "eps": eps}
        draws.append({name: values[name] for name in names})
    return tuple(draws)


_UP, _BACK, _GRADIENTS = ("x", "gamma", "beta", "eps"), ("dy", "x", "gamma", "eps"), ("dx", "dgamma", "dbeta")
_MATRICES, _IMAGES = ((7, 5), (4, 6)), ((4, 3, 5, 6), (6, 5, 2, 3))

EXERCISES = {
    "06-batch-norm": Exercise(_draws(_UP, *_MATRICES), ("y",), _FORWARD, _forward_mistakes(images=False)),
    "06-channels": Exercise(_draws(_UP, *_IMAGES), ("y",), _FORWARD, _forward_mistakes(images=True)),
    "07-backward": Exercise(_draws(_BACK, *_MATRICES), _GRADIENTS, BACKWARD, _backward_mistakes(images=False)),
    "07-channels": Exercise(_draws(_BACK, *_IMAGES), _GRADIENTS, BACKWARD, _backward_mistakes(images=True)),
}
