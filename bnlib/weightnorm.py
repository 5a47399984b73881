"""Weight normalization: the direction and the length of each unit's weights, learned apart.

A row divided by its length is a row divided by the root of its mean square, but for a constant: weight norm is RMS norm
of the weights' rows, and weight standardization, which centres them first, layer norm of the rows. So both are layouts
of :func:`bnlib.norms.normalize`, and their backward pass is the one that stands there.
"""

import math
from typing import NamedTuple

import numpy as np

from bnlib._array import Array, cast, floats, like, magnitude, widened
from bnlib.norms import Cache, Layout, Moments, normalize, normalize_backward


class WeightGrads(NamedTuple):
    """Gradients of the loss: ``dv`` in the shape of v, ``dg`` in the shape of g, both in v's dtype."""

    dv: Array
    dg: Array


def weight_layout(units: int, inputs: int, *, centred: bool = False) -> Layout:
    """Each row of weights by itself, and one length for all of it."""
    return Layout((units, inputs), (units, 1), (1,), centred=centred)


def weight_norm(v: Array, g: Array, *, centred: bool = False) -> tuple[Array, Cache]:
    """Weights w of which row k has the direction of v's row k and the length g[k]: :cite:`salimans2016weight`, eq. 2.

    w = g v / abs(v), row by row, with abs(v) the length of a row. There is no eps: a row without length has no
    direction. But it may be as short or as long as the dtype allows: the rows are first divided by a power of two, so
    that no square of them becomes 0 or infinite. Half precision is computed in float32, and rounded once.

    Parameters
    ----------
    v : array or tensor of floats, shape (units, ...): each unit's weights, of any shape
    g : array of shape (units,): the lengths, in the unit of w; a negative one turns the direction round; of v's kind
        and dtype, or made so
    centred : whether the mean of each row is subtracted first: w = g (v - mean) / abs(v - mean), the weight
        standardization of :cite:`qiao2019micro` but for the length, which is a constant there

    Returns
    -------
    w : array of v's shape and dtype
    cache : what :func:`weight_norm_backward` takes

    Raises
    ------
    ValueError
        If v is masked, not floating-point, has fewer than two axes, or has a row of length 0 (behind centring: a
        constant row), or if g does not have a real number for each row.
    """
    v = floats("v", v)
    g = widened(like(v, "g", g))
    shape = tuple(v.shape)
    if len(shape) < 2:
        raise ValueError(f"v has shape {shape}, but (units, ...) is needed: for one unit pass v.reshape(1, -1)")
    if tuple(g.shape) != shape[:1]:
        raise ValueError(f"g has shape {tuple(g.shape)}, but v of shape {shape} needs a length for each of its rows")
    layout = weight_layout(shape[0], math.prod(shape[1:]), centred=centred)
    if not layout.count:
        raise ValueError(f"v of shape {shape} is empty: there is no weight to take a length of")
    rows = widened(v).reshape(layout.view)
    still = (rows == (rows[:, :1] if centred else 0)).all(axis=1)
    if still.any():
        raise ValueError(
            f"row {still.tolist().index(True)} of v {shape} is {'constant' if centred else 'zero'} and has no "
            "direction: draw its weights at random"
        )
    size = magnitude(rows)  # (units, 1); w does not depend on it, so to autograd it is a constant
    # A length is the root of the mean square times the root of the number of inputs.
    w, cache = normalize(rows / size, g / math.sqrt(layout.count), 0 * g, layout, eps=0.0)
    with np.errstate(over="ignore"):  # of huge rows, whose variance is infinite
        moments = Moments(cache.moments.mean * size[:, 0], cache.moments.var * size[:, 0] ** 2, layout.count)
    cache = cache._replace(rstd=cache.rstd / size, moments=moments, shape=shape, dtype=v.dtype)
    return cast(w.reshape(shape), v.dtype), cache


def weight_norm_backward(dw: Array, cache: Cache) -> WeightGrads:
    """The gradients with respect to v and g, from that with respect to w: :cite:`salimans2016weight`, eq. 3.

    dg is the part of dw along the direction of v. dv is the rest, times g and divided by the length of v: at right
    angles to v.

    Raises
    ------
    ValueError
        If dw does not have the shape of the v that made the cache, or is masked or not real; or if the cache is none.
    """
    dv, dgamma, _ = normalize_backward(dw, cache)
    return WeightGrads(dv, cast(dgamma / math.sqrt(cache.layout.count), cache.dtype))
