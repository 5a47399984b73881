"""Check a hand-written backward pass against its forward pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Check(NamedTuple):
    """The two numbers that were compared, and their difference relative to the larger of them."""

    numeric: float
    analytic: float
    difference: float


def check_vjp(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    *args: np.ndarray,
    rng: np.random.Generator,
    step: float = 1e-6,
    rtol: float = 1e-6,
) -> Check:
    """Compare a backward pass with a central difference, along one random direction through all arguments at once.

    For a random direction v and a random cotangent dy, ``sum(dy * (f(args + step * v) - f(args - step * v)))``
    divided by ``2 * step`` must be the sum over all arguments of ``gradient * v``. One comparison covers every
    entry of every gradient: an error in any of them shows, except by a coincidence of random numbers.

    Parameters
    ----------
    forward : ``forward(*args) -> (y, cache)``
    backward : ``backward(dy, cache) -> gradients``, one for each argument, in its shape
    args : float64 arrays of any shapes
    rng : where the direction and the cotangent come from
    step : the length of the step along the direction, in the units of the arguments
    rtol : the largest relative difference that passes

    Raises
    ------
    AssertionError
        If the two numbers differ, or if one of them is not finite.
    ValueError
        If an argument is not float64, or if the number or the shapes of the gradients are wrong.
    """
    for i, arg in enumerate(args):
        if (dtype := np.asarray(arg).dtype) != np.float64:
            raise ValueError(
                f"argument {i} has dtype {dtype}, but a finite difference needs float64: pass .astype(np.float64)"
            )
    direction = [rng.standard_normal(np.shape(arg)) for arg in args]
    y, cache = forward(*args)
    dy = rng.standard_normal(np.shape(y))
    ahead, _ = forward(*(arg + step * v for arg, v in zip(args, direction, strict=True)))
    behind, _ = forward(*(arg - step * v for arg, v in zip(args, direction, strict=True)))
    numeric = float(np.sum(dy * (ahead - behind)) / (2 * step))
    grads = tuple(backward(dy, cache))
    shapes, needed = [np.shape(g) for g in grads], [np.shape(arg) for arg in args]
    if shapes != needed:
        raise ValueError(f"the gradients have shapes {shapes}, the arguments {needed}: return one gradient for each")
    analytic = float(sum(np.sum(g * v) for g, v in zip(grads, direction, strict=True)))
    difference = abs(numeric - analytic) / max(abs(numeric), abs(analytic), np.finfo(float).tiny)
    if not difference <= rtol:  # this way round, because a NaN is no pass
        raise AssertionError(
            f"the finite difference gives {numeric:.9g}, the backward pass {analytic:.9g}: "
            f"relative difference {difference:.1e}, allowed {rtol:.1e}"
        )
    return Check(numeric, analytic, difference)
