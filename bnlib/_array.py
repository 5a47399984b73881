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


def inner(a: Array, b: Array, axes: tuple[int, ...]) -> Array:
    """The sum of a * b over axes, which stay with length 1; in NumPy without the product ever being in memory."""
    if not isinstance(a, np.ndarray):
        return (a * b).sum(axis=axes, keepdims=True)
    every = list(range(a.ndim))
    total = np.einsum(a, every, b, every, [i for i in every if i not in axes])
    return np.asarray(total).reshape([1 if i in axes else n for i, n in enumerate(a.shape)])
