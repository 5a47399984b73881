"""Normalization propagation: mean and variance computed from the weights, where batch norm measures them.

A Gaussian of mean 0 and variance 1 that passes a ReLU has a mean and a variance in closed form. Subtracted and
divided out, they give the next layer inputs of mean 0 and variance 1; if the weights of each of its units have length
1, and the inputs are uncorrelated, so are its pre-activations. No example is needed, and so no batch:
:cite:`arpit2016normalization`.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from bnlib._array import Array, cast, floats, together, widened

MEAN = 1 / math.sqrt(2 * math.pi)  # of relu(z), for z of mean 0 and variance 1: about 0.399
STD = math.sqrt((1 - 1 / math.pi) / 2)  # of relu(z): about 0.584
GAIN = 1 / math.sqrt(1 - 1 / math.pi)  # the root mean square of normalized_relu's slope: about 1.211


class ReluMoments(NamedTuple):
    """Mean and variance behind a ReLU, in the shape of the arguments, float64."""

    mean: np.ndarray
    var: np.ndarray


def normalized_relu(a: Array) -> Array:
    """(relu(a) - MEAN) / STD: of mean 0 and variance 1 if a is Gaussian with mean 0 and variance 1.

    a is an array or tensor of floats, of any shape, or such a number; the result has its shape and dtype, with half
    precision computed in float32 and rounded once. Autograd passes through. Raises ValueError if a is masked or not
    floating-point.

    Its slope is 0 or 1 / STD, half of the time each: the mean of the slope's square is 1 / (2 STD ** 2) = GAIN ** 2, so
    between weights of length 1 gradients grow by GAIN from layer to layer.
    """
    a = floats("a", a)
    return cast((widened(a).clip(0) - MEAN) / STD, a.dtype)


def relu_moments(mean: ArrayLike, var: ArrayLike) -> ReluMoments:
    """Mean and variance of relu(z) for a Gaussian z of any mean and variance, in closed form.

    With s the standard deviation, r = mean / s, Phi and phi the standard normal distribution and its density, and
    u(r) = r Phi(r) + phi(r): the mean is s u(r), the variance s ** 2 (Phi(r) - u(r) u(-r)).

    Parameters
    ----------
    mean : any shape
    var : positive, of the same shape or one that broadcasts, in the square of the mean's unit

    Raises
    ------
    ValueError
        If a variance is not positive: z is then no Gaussian, and relu_moments(m, 0) would be relu(m) and 0. Or if mean
        or var is masked, or holds no real numbers, or if they do not broadcast.
    """
    mean, var = together(mean=mean, var=var)
    if not (var > 0).all():
        raise ValueError(f"the smallest variance is {var.min()}, but a Gaussian's is positive: leave such units out")
    s = np.sqrt(var)
    r = mean / s
    above, below = _excess(r), _excess(-r)
    return ReluMoments(s * above, np.maximum(var * (ndtr(r) - above * below), 0))


def _excess(r: np.ndarray) -> np.ndarray:
    """The mean of relu(r + z) for a standard normal z."""
    return r * ndtr(r) + np.exp(-(r**2) / 2) * MEAN
