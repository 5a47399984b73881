"""Check a hand-written backward pass against its forward pass."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bnlib._array import as_array, float64, is_tensor, number, said


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
    step: float | None = None,
    rtol: float = 1e-6,
) -> Check:
    """Compare a backward pass with a central difference, along one random direction through all arguments at once.

    For a random direction v and a random cotangent dy, ``sum(dy * (f(args + step * v) - f(args - step * v)))``
    divided by ``2 * step`` must be the sum over all arguments of ``gradient * v``. One comparison covers every
    entry of every gradient: an error in any of them shows, except by a coincidence of random numbers.

    Parameters
    ----------
    forward : ``forward(*args) -> (y, cache)``
    backward : ``backward(dy, cache) -> gradients``, one for each argument, in its shape; a single array for a single
        argument is taken as well
    args : float64 arrays of any shapes, but not empty
    rng : where the direction and the cotangent come from
    step : the length of the step along the direction, in the units of the arguments; if None, 1e-6, or where
        an absolute value is larger than 1, 1e-6 times the cube root of the largest, for the sake of rounding
    rtol : the largest relative difference that passes

    Raises
    ------
    AssertionError
        If the two numbers differ, or if one of them is not finite.
    ValueError
        If forward or backward is no function; if an argument, or y, is not a float64 array without a mask; if forward
        does not return y and a cache; if the number or the shapes of the gradients are wrong; or if step, rtol or rng
        is none.
    """
    if not hasattr(rng, "standard_normal"):
        raise ValueError(f"rng is {said(rng)}: pass numpy.random.default_rng(0), or another seed")
    for name, function in (("forward", forward), ("backward", backward)):
        if not callable(function):
            raise ValueError(f"{name} is {said(function)}: pass a function")
    if not ((step is None or 0 < number(step) < np.inf) and 0 <= number(rtol) < np.inf):
        raise ValueError(f"step is {said(step)} and rtol {said(rtol)}: give a small positive number for each")
    if not args:
        raise ValueError("there is no argument to differentiate by: pass those of forward, each by itself")
    for i, arg in enumerate(args):
        if isinstance(arg, list | tuple) and any(np.ndim(part) for part in arg if hasattr(part, "shape")):
            raise ValueError(f"argument {i} is {said(arg)}: pass the arrays one by one, as *args does")
    arrays = [_float64(f"argument {i}", arg) for i, arg in enumerate(args)]
    largest = max(1.0, *(float(abs(arg).max()) for arg in arrays))
    h = 1e-6 * largest ** (1 / 3) if step is None else number(step)
    direction = [rng.standard_normal(arg.shape) for arg in arrays]
    y, cache = _pair(forward(*arrays))
    dy = rng.standard_normal(y.shape)
    ahead, _ = _pair(forward(*(arg + h * v for arg, v in zip(arrays, direction, strict=True))))
    behind, _ = _pair(forward(*(arg - h * v for arg, v in zip(arrays, direction, strict=True))))
    numeric = float(np.sum(dy * (ahead - behind)) / (2 * h))
    returned = backward(dy, cache)
    returned = returned if isinstance(returned, tuple | list) else (returned,)
    grads = [float64(f"gradient {i}", g) for i, g in enumerate(returned)]
    shapes, needed = [g.shape for g in grads], [arg.shape for arg in arrays]
    if shapes != needed:
        raise ValueError(f"the gradients have shapes {shapes}, the arguments {needed}: return one gradient for each")
    analytic = float(sum(np.sum(g * v) for g, v in zip(grads, direction, strict=True)))
    difference = abs(numeric - analytic) / max(abs(numeric), abs(analytic), np.finfo(float).tiny)
    if not difference <= rtol:  # this way round, because a NaN is no pass
        raise AssertionError(
            f"the finite difference gives {numeric:.9g}, the backward pass {analytic:.9g}: "
            f"relative difference {difference:.1e}, allowed {rtol:.1e}, with a step of {h:.1e}: "
            "mend the backward pass or, beside large arguments, try a longer step"
        )
    return Check(numeric, analytic, difference)


def _float64(name: str, a: Any) -> np.ndarray:
    """A float64 array, for in less a finite difference is rounding, or a ValueError."""
    if is_tensor(a):
        raise ValueError(f"{name} is a tensor: pass a NumPy array (.numpy()), or use torch.autograd.gradcheck")
    a = as_array(name, a)
    if a.dtype != np.float64:
        raise ValueError(f"{name} has dtype {a.dtype}, but a finite difference needs float64: pass .astype(np.float64)")
    if not a.size:
        raise ValueError(f"{name} of shape {a.shape} is empty: there is nothing to differentiate by")
    return a


def _pair(returned: Any) -> tuple[np.ndarray, Any]:
    """What forward returned, as y and a cache, or a ValueError."""
    if not (isinstance(returned, tuple | list) and len(returned) == 2):
        raise ValueError(f"forward returns {said(returned)}: return y and what backward needs, y, cache")
    return _float64("y of forward", returned[0]), returned[1]
