"""The few places where NumPy arrays and PyTorch tensors part ways; torch is never imported here."""

from typing import Any

import numpy as np

# A NumPy array or a torch tensor: what both have in common (.shape, .dtype, .reshape, .mean(axis=, keepdims=),
# arithmetic) is written differently in their type stubs, so no Protocol fits both.
Array = Any


def as_array(a: Any) -> Array:
    """Arrays and tensors as they are, anything else (a list, a number) as a NumPy array."""
    return a if hasattr(a, "reshape") else np.asarray(a)


def of_dtype(x: Array, a: Any) -> Array:
    """The values of a with the dtype of x, so that a float64 gamma does not turn a float32 batch into float64."""
    return np.asarray(a, x.dtype) if isinstance(x, np.ndarray) else as_array(a).to(x.dtype)


def total(a: Array, axes: tuple[int, ...]) -> Array:
    """The sum over axes, which stay with length 1; a itself if there are none, which torch would take for all."""
    return a.sum(axis=axes, keepdims=True) if axes else a


def inner(a: Array, b: Array, axes: tuple[int, ...]) -> Array:
    """The sum of a * b over axes, which stay with length 1; in NumPy without the product ever being in memory."""
    if not (axes and isinstance(a, np.ndarray)):
        return total(a * b, axes)
    every = list(range(a.ndim))
    sums = np.einsum(a, every, b, every, [i for i in every if i not in axes])
    return np.asarray(sums).reshape(
        [1 if i in axes else max(n) for i, n in enumerate(zip(a.shape, b.shape, strict=True))]
    )


def times(a: Array, b: Array) -> Array:
    """Multiply a by b, in NumPy in the memory of a, which the caller gives up; autograd would still need a tensor's."""
    return np.multiply(a, b, out=a) if isinstance(a, np.ndarray) else a * b
