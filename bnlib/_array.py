"""What comes in becomes an array here, or an error that says what to mend; and where NumPy and PyTorch part ways.

torch is never imported here.
"""

import math
from collections.abc import Iterable
from numbers import Real
from operator import index
from typing import Any

import numpy as np

# A NumPy array or a torch tensor: what both have in common (.shape, .dtype, .reshape, .mean(axis=, keepdims=),
# arithmetic) is written differently in their type stubs, so no Protocol fits both.
Array = Any

FLOATS = ("float16", "bfloat16", "float32", "float64", "float96", "float128")
REALS = (*FLOATS, "int", "uint", "bool")


def is_tensor(a: Any) -> bool:
    """Whether a is a torch tensor."""
    return not isinstance(a, np.ndarray) and hasattr(a, "requires_grad")


def said(a: Any) -> str:
    """How an error names a value that should have been another: short, also for an array."""
    if isinstance(a, Real):
        return f"a number of {a.bit_length()} bits" if isinstance(a, int) and a.bit_length() > 1000 else f"{a}"
    if a is None or isinstance(a, str | complex):
        return f"{a!r}"
    if is_tensor(a) or isinstance(a, np.ndarray):
        return f"{'a tensor' if is_tensor(a) else 'an array'} of shape {tuple(a.shape)}"
    return f"a {type(a).__name__}" + (f" of {len(a)}" if type(a) in (list, tuple) else "")


def number(a: Any) -> float:
    """A number as Python's own float, which leaves an array's dtype alone; NaN for what is none, as True and False."""
    try:
        return float(a) if type(a) is float or (isinstance(a, Real) and not isinstance(a, bool)) else math.nan
    except OverflowError:  # a whole number of more than 308 digits
        return math.nan


def whole(a: Any) -> int | None:
    """A whole number as Python's own int; None for what is none, as True and False, 3.0 and an array of several."""
    try:
        return None if isinstance(a, bool) or "bool" in str(getattr(a, "dtype", "")) else index(a)
    except (TypeError, ValueError, RuntimeError):
        return None


def wholes(name: str, a: Any) -> tuple[int, ...]:
    """Whole numbers as a tuple of Python's own, or a ValueError."""
    if type(a) is tuple and all(type(n) is int for n in a):  # only for speed
        return a
    try:
        found = [whole(n) for n in a] if isinstance(a, Iterable) else [None]
    except TypeError:  # of a tensor or an array without axes
        found = [None]
    if None in found:
        raise ValueError(f"{name} is {said(a)} and no tuple of whole numbers: pass one (a shape is tuple(x.shape))")
    return tuple(n for n in found if n is not None)


def flag(name: str, a: Any) -> bool:
    """True or False as Python's own bool, or a ValueError."""
    if not isinstance(a, bool | np.bool_):
        raise ValueError(f"{name} is {said(a)}: give True or False")
    return bool(a)


def checked_eps(eps: float) -> float:
    """Return eps as Python's own float, or a ValueError if it is no number, or negative or not finite."""
    if not 0 <= number(eps) < math.inf:
        raise ValueError(f"eps is {said(eps)}, but it keeps a root away from zero: pass 0 or a small positive number")
    return number(eps)


def as_array(name: str, a: Any) -> Array:
    """Tensors as they are, anything else (a list, a number) as a NumPy array in the machine's byte order.

    Raises ValueError for None, for what is no array, and for a masked array, whose mask the sums would not see.
    """
    if is_tensor(a) or (type(a) is np.ndarray and a.dtype.isnative):
        return a
    if a is None:
        neutral = {"gamma": " (ones change nothing)", "beta": " (zeros change nothing)"}
        raise ValueError(f"{name} is None: pass an array{neutral.get(name, '')}")
    if isinstance(a, np.ma.MaskedArray):
        raise ValueError(
            f"{name} of shape {a.shape} is a masked array, whose mask would be ignored: pass its .filled(value), or "
            "leave out the rows that hold masked values, or pass its .compressed(), which is one-dimensional"
        )
    if _holds_masked(a):
        raise ValueError(
            f"{name} is {said(a)} with masked arrays in it, whose masks would be ignored: pass the .filled(value) of "
            "each, or leave them out"
        )
    try:
        a = np.asarray(a)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is no array but {said(a)} ({error}): pass a NumPy array or a tensor") from error
    return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))


def floats(name: str, a: Any) -> Array:
    """Like :func:`as_array`, and a ValueError for what is not floating-point."""
    return _of_kind(name, as_array(name, a), FLOATS)


def reals(name: str, a: Any) -> Array:
    """Like :func:`as_array`, and a ValueError for what holds no real numbers, such as complex ones or words."""
    return _of_kind(name, as_array(name, a), REALS)


def float64(name: str, a: Any) -> np.ndarray:
    """Real numbers as a NumPy array of float64, or a ValueError."""
    a = reals(name, a)
    return (_to_numpy(name, a) if is_tensor(a) else a).astype(np.float64, copy=False)


def together(**arrays: Any) -> list[np.ndarray]:
    """Each as :func:`float64` gives it, or a ValueError if the shapes do not broadcast."""
    found = {name: float64(name, a) for name, a in arrays.items()}
    try:
        np.broadcast_shapes(*(a.shape for a in found.values()))
    except ValueError as error:
        shapes = " and ".join(f"{name} has shape {a.shape}" for name, a in found.items())
        raise ValueError(f"{shapes}, which do not fit together: give one shape, or a number for one of them") from error
    return list(found.values())


def like(x: Array, name: str, a: Any) -> Array:
    """Real numbers as a tensor if x is a tensor, as a NumPy array if it is one; else a ValueError.

    No gradient could flow to an array, so one beside a tensor is converted. A tensor beside an array is converted too,
    unless autograd follows it: its gradient would be lost.
    """
    a = reals(name, a)
    if is_tensor(a) == is_tensor(x):
        return a
    if is_tensor(x):
        beside = x.new_empty(0)
        beside = widened(beside) if a.dtype == np.float32 else beside
        return beside.new_tensor(np.ascontiguousarray(a), dtype=beside.dtype)
    return _to_numpy(name, a)


def of_dtype(x: Array, name: str, a: Any) -> Array:
    """Like :func:`like`, with the dtype of x: a float64 gamma does not turn a float32 batch into float64.

    Beside an x of half precision float32 is kept, as networks in mixed precision have it.
    """
    a = like(x, name, a)
    mixed = x.dtype.itemsize < 4 and str(a.dtype).endswith("float32")
    return a if mixed or a.dtype == x.dtype else cast(a, x.dtype)


def cast(a: Array, dtype: Any) -> Array:
    """The values of a with a dtype; a itself if it has it."""
    return a.to(dtype) if is_tensor(a) else a.astype(dtype, copy=False)


def shaped(a: Array, shape: tuple[int, ...]) -> Array:
    """The values of a in a shape; a itself if it has it: of an autograd Function's views none is changed in place."""
    return a if tuple(a.shape) == shape else a.reshape(shape)


def widened(x: Array) -> Array:
    """Float16 and bfloat16 as float32, for their sums overflow and lose their digits; what is wider as it is."""
    if x.dtype.itemsize >= 4:
        return x
    return x.float() if is_tensor(x) else x.astype(np.float32)


def if_last(name: str, x: Array, channels: int, axis: int = 1) -> str:
    """What an error adds if there are as many channels as the last axis of x is long, where another holds them."""
    shape = tuple(x.shape)
    if len(shape) < axis + 2 or shape[-1] != channels or shape[axis] == channels:
        return ""
    move = "{}.movedim({}, {})" if is_tensor(x) else "np.moveaxis({}, {}, {})"
    there, back = move.format(name, -1, axis), move.format("y" if name == "x" else name, axis, -1)
    return f". Channels are axis {axis}: if yours are the last, pass {there}, and move the result back by {back}"


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


def less(a: Array, b: Array, c: Array) -> Array:
    """Compute a - b * c, in NumPy in the memory of a, which the caller gives up; for tensors in one pass."""
    if is_tensor(a):
        return a.addcmul(b, c, value=-1)
    a -= b * c
    return a


def where(condition: Array, a: Array, other: float) -> Array:
    """The values of a where the condition holds, else another."""
    return a.where(condition, other) if is_tensor(a) else np.where(condition, a, other)


def expm1(a: Array) -> Array:
    """Compute exp(a) - 1 with all digits near 0."""
    return a.expm1() if is_tensor(a) else np.expm1(a)


def magnitude(a: Array) -> Array:
    """The power of two below the largest absolute value of each row, (rows, 1): dividing by it rounds nothing."""
    if is_tensor(a):
        return a.detach().abs().amax(1, keepdim=True).log2().floor().exp2()
    return np.exp2(np.floor(np.log2(np.abs(a).max(axis=1, keepdims=True))))


def _holds_masked(a: Any) -> bool:
    return isinstance(a, np.ma.MaskedArray) or (isinstance(a, list | tuple) and any(map(_holds_masked, a)))


def _of_kind(name: str, a: Array, kinds: tuple[str, ...]) -> Array:
    if isinstance(a, np.ndarray) and a.dtype.kind == "f":  # only for speed: NumPy names its dtypes slowly
        return a
    kind = str(a.dtype).removeprefix("torch.")
    if not kind.startswith(kinds):
        remedy = "give its real and its imaginary part" if kind.startswith("complex") else "convert it to float first"
        raise ValueError(f"{name} of shape {tuple(a.shape)} holds {a.dtype}: {remedy}")
    return a


def _to_numpy(name: str, a: Array) -> np.ndarray:
    if a.requires_grad:
        raise ValueError(
            f"{name} is a tensor that autograd follows, beside a NumPy array through which no gradient flows: "
            f"pass tensors only, or {name}.detach()"
        )
    return (a.float() if "bfloat16" in str(a.dtype) else a).cpu().numpy()
