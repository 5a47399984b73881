"""SELU: a nonlinearity that maps a standard Gaussian to mean 0 and variance 1, the map of moments, and its dropout.

After :cite:`klambauer2017self`. The moments are exact for a Gaussian input, which the sum in front of a unit is nearly,
if it has many inputs.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bnlib._array import Array, cast, expm1, floats, like, number, said, together, where, widened

ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805  # what fixed_point() gives


class _Pieces(NamedTuple):
    """Of a Gaussian x: the integrals over its positive half of 1, x, x ** 2, over its negative half of exp(k x)."""

    mean: np.ndarray
    var: np.ndarray
    positive: np.ndarray
    of_x: np.ndarray
    of_square: np.ndarray
    negative: np.ndarray
    of_exp: np.ndarray
    of_exp2: np.ndarray
    density: np.ndarray  # at 0


def selu(x: Array, alpha: float = ALPHA, scale: float = LAMBDA) -> Array:
    """Scale times x above zero, and scale * alpha * (exp(x) - 1) from zero down.

    Just below zero exp(x) - 1 would lose the digits of x, which expm1 keeps. Half precision is computed in float32, and
    rounded once.

    Parameters
    ----------
    x : array or tensor of floats, of any shape
    alpha, scale : the lower bound is -scale * alpha, the slope above zero is scale

    Returns
    -------
    y : of x's shape and dtype

    Raises
    ------
    ValueError
        If x is masked or not floating-point, or if alpha or scale is no number.
    """
    x, (alpha, scale) = floats("x", x), _constants(alpha=alpha, scale=scale)
    wide, above = widened(x), x > 0
    return cast(scale * (where(above, wide, 0) + alpha * expm1(where(~above, wide, 0))), x.dtype)


def selu_derivative(x: Array, alpha: float = ALPHA, scale: float = LAMBDA) -> Array:
    """The slope of :func:`selu` at x, in x's shape and dtype; at 0 that from below, as PyTorch has it."""
    x, (alpha, scale) = floats("x", x), _constants(alpha=alpha, scale=scale)
    wide, above = widened(x), x > 0
    return cast(scale * (above + alpha * (~above * math.e ** where(~above, wide, 0))), x.dtype)


def moments(
    mean: ArrayLike, var: ArrayLike, alpha: float = ALPHA, scale: float = LAMBDA
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of selu(x) for a Gaussian x, in closed form, after :cite:`klambauer2017self`.

    E f(x)^2 less the square of E f(x) would lose its digits where f is far from 0. So this is the variance of f less
    its value at the mean of x, k, and beside it stand x less k, and k less the lower bound. Half of the 16 digits are
    left at a variance of 1e-8, two at 1e-12.

    Parameters
    ----------
    mean, var : of x, arrays that broadcast; var is positive
    alpha, scale : of the nonlinearity

    Raises
    ------
    ValueError
        If a variance is not positive, if a number is not finite, if mean and var do not broadcast, or if alpha or
        scale is no number.
    """
    alpha, scale = _constants(alpha=alpha, scale=scale)
    p = _pieces(mean, var)
    m, v = p.mean, p.var
    at_mean = np.where(m > 0, m, alpha * np.expm1(np.minimum(m, 0)))  # k, in units of scale, as all that follows
    past = np.where(m > 0, 0, m - at_mean)  # x - k has this mean
    bound = np.where(m > 0, alpha + m, alpha * np.exp(np.minimum(m, 0)))  # k less the lower bound
    shift = v * p.density + past * p.positive + alpha * p.of_exp - bound * p.negative
    square = v * (p.positive - m * p.density) + 2 * past * v * p.density + past * p.positive * past
    square = square + alpha**2 * p.of_exp2 - 2 * alpha * bound * p.of_exp + bound * p.negative * bound
    return scale * (at_mean + shift), scale**2 * np.maximum(square - shift**2, 0)


def jacobian(mean: float, var: float, alpha: float = ALPHA, scale: float = LAMBDA) -> np.ndarray:
    """The derivative of :func:`moments`: (2, 2), a row for the output's mean, one for its variance.

    With the weights' sum omega and sum of squares tau, the map of a layer has ``jacobian(omega * mean, tau * var)``
    with its columns times omega and tau.

    For any f, E f(x) changes with the mean as E f'(x), and with the variance as half of E f''(x), where SELU's kink
    at 0 counts as the jump of its slope times the density there.

    Raises
    ------
    ValueError
        As for :func:`moments`.
    """
    alpha, scale = _constants(alpha=alpha, scale=scale)
    p = _pieces(mean, var)
    first, _ = moments(mean, var, alpha, scale)
    of_first = scale * np.array(
        [p.positive + alpha * p.of_exp, (alpha * p.of_exp + (1 - alpha) * p.density) / 2],
    )
    of_second = scale**2 * np.array(
        [2 * (p.of_x + alpha**2 * (p.of_exp2 - p.of_exp)), p.positive + alpha**2 * (2 * p.of_exp2 - p.of_exp)],
    )
    return np.array([of_first, of_second - 2 * first * of_first])


def fixed_point(mean: float = 0.0, var: float = 1.0) -> tuple[float, float]:
    """Alpha and scale with which a layer gives back mean and variance, if its weights sum to 0 and their squares to 1.

    The sum in front of a unit then has mean 0 and the inputs' variance, whatever their mean is.

    Raises
    ------
    ValueError
        If the variance is not positive, a number is not finite, or the mean is out of reach: far above 0 it is that of
        a ReLU, far below that of the negative half alone.
    """
    from scipy.optimize import root_scalar

    mean, var = _constants(mean=mean, var=var)
    p = _pieces(0.0, var)
    lower, lower_square = p.of_exp - p.negative, p.of_exp2 - 2 * p.of_exp + p.negative

    def offset(alpha: float) -> float:
        """Of the output's mean in units of its root mean square, which the scale leaves as it is."""
        return float((p.of_x + alpha * lower) / (p.of_square + alpha**2 * lower_square) ** 0.5)

    wanted, largest = mean / (var + mean**2) ** 0.5, 1e8
    if not offset(largest) < wanted < offset(0.0):
        low, high = (t * (var / (1 - t**2)) ** 0.5 for t in (offset(largest), offset(0.0)))
        raise ValueError(f"mean is {mean} at variance {var}: only means between {low:.3g} and {high:.3g} can be kept")
    alpha = float(root_scalar(lambda a: offset(a) - wanted, bracket=(0.0, largest), xtol=1e-15, rtol=1e-15).root)
    return alpha, float(((var + mean**2) / (p.of_square + alpha**2 * lower_square)) ** 0.5)


def dropout_affine(keep_prob: float, alpha: float = ALPHA, scale: float = LAMBDA) -> tuple[float, float]:
    """Slope and shift that bring values back to mean 0 and variance 1, after a share was set to SELU's lower bound.

    Raises
    ------
    ValueError
        If ``keep_prob`` is not above 0 and at most 1, or if alpha or scale is no number.
    """
    alpha, scale = _constants(alpha=alpha, scale=scale)
    if not 0 < number(keep_prob) <= 1:
        raise ValueError(f"keep_prob is {said(keep_prob)}: give the share that is kept, above 0 and at most 1")
    bound = -scale * alpha
    slope = (keep_prob + bound**2 * keep_prob * (1 - keep_prob)) ** -0.5
    return slope, -slope * (1 - keep_prob) * bound


def alpha_dropout(x: Array, kept: Array, keep_prob: float, alpha: float = ALPHA, scale: float = LAMBDA) -> Array:
    """Set what is not kept to SELU's lower bound, -scale * alpha, then restore mean 0 and variance 1.

    Half precision is computed in float32, and rounded once.

    Parameters
    ----------
    x : array or tensor of floats, with mean 0 and variance 1
    kept : of x's shape, booleans, or 1 and 0: whether it is kept, with the probability ``keep_prob``
    keep_prob : above 0 and at most 1

    Raises
    ------
    ValueError
        If x is masked or not floating-point, if kept has another shape or other values, or if ``keep_prob`` is no such
        share.
    """
    x = floats("x", x)
    kept = like(x, "kept", kept)
    if tuple(kept.shape) != tuple(x.shape):
        raise ValueError(
            f"kept has shape {tuple(kept.shape)}, x has shape {tuple(x.shape)}: say of each value whether it is kept"
        )
    if "bool" not in str(kept.dtype) and not ((kept == 0) | (kept == 1)).all():
        raise ValueError(f"kept holds other values than 0 and 1: draw it, as in rng.random(x.shape) < {keep_prob}")
    slope, shift = dropout_affine(keep_prob, alpha, scale)
    alpha, scale = _constants(alpha=alpha, scale=scale)
    bound = -scale * alpha
    return cast(slope * (kept * (widened(x) - bound) + bound) + shift, x.dtype)


def _constants(**values: float) -> list[float]:
    """Each as Python's own float, or a ValueError for what is no finite number."""
    for name, value in values.items():
        if not math.isfinite(number(value)):
            raise ValueError(f"{name} is {said(value)}: give a finite number")
    return [number(value) for value in values.values()]


def _pieces(mean: ArrayLike, var: ArrayLike) -> _Pieces:
    from scipy.special import log_ndtr, ndtr

    m, v = together(mean=mean, var=var)
    if not (np.isfinite(m).all() and np.isfinite(v).all() and (v > 0).all()):
        raise ValueError(f"mean is {mean} and var {var}: give finite numbers, the variance above 0")
    std = v**0.5
    density = np.exp(-(m**2) / (2 * v)) / (2 * np.pi * v) ** 0.5
    positive = ndtr(m / std)
    # As logarithms: exp(k m + k^2 v / 2) alone overflows where its product with the other factor is small.
    of_exp, of_exp2 = (np.exp(k * m + k**2 * v / 2 + log_ndtr(-(m + k * v) / std)) for k in (1, 2))
    of_x = m * positive + v * density
    return _Pieces(m, v, positive, of_x, v * positive + m * of_x, ndtr(-m / std), of_exp, of_exp2, density)
