"""One normalization, many layouts: batch, layer, instance, group and RMS norm, forward and backward.

Everything here is a pure function over values. The lines use array methods only, so PyTorch tensors
pass through them as NumPy arrays do, and autograd differentiates the forward pass as it is printed here.
"""

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from bnlib._array import (
    Array,
    as_array,
    cast,
    checked_eps,
    flag,
    floats,
    if_last,
    inner,
    less,
    number,
    of_dtype,
    said,
    shaped,
    times,
    total,
    whole,
    wholes,
    widened,
)


@dataclass(frozen=True)
class Layout:
    """Which values share statistics, and which share a gamma and a beta: all that tells one norm from another.

    Attributes
    ----------
    view : tuple of int
        The shape in which x is seen, for instance (N, G, C / G, H, W) for group norm.
    params : tuple of int
        The shape of gamma and beta beside that view, with 1 for each axis along which they are shared.
    axes : tuple of int
        The axes of the view over which mean and variance are taken.
    centred : bool
        Whether the mean is subtracted; by keyword, as scaled. RMS norm does not: its variance is the mean square.
    scaled : bool
        Whether the standard deviation is divided by. Mean-only batch norm does not.

    Raises
    ------
    ValueError
        If params or axes do not fit the view, if one of the three holds no whole numbers, or if a flag is no bool.
    """

    view: tuple[int, ...]
    params: tuple[int, ...]
    axes: tuple[int, ...]
    _: KW_ONLY
    centred: bool = True
    scaled: bool = True

    def __post_init__(self) -> None:
        """Reject what would be no norm, or another one than meant."""
        for name in ("view", "params", "axes"):
            object.__setattr__(self, name, wholes(name, getattr(self, name)))  # the way of a frozen dataclass
        for name in ("centred", "scaled"):
            object.__setattr__(self, name, flag(name, getattr(self, name)))
        n = len(self.view)
        if any(v < 0 for v in self.view):
            raise ValueError(f"view is {self.view}: give the length of each axis, none negative")
        if len(self.params) != n or any(p not in (1, v) for p, v in zip(self.params, self.view, strict=True)):
            raise ValueError(f"params {self.params} do not fit the view {self.view}: give 1 or its length on each axis")
        if len({*self.axes, *range(n)}) != n or len({*self.axes}) != len(self.axes):
            raise ValueError(f"axes {self.axes} are not axes of {self.view}: count them from 0 to {n - 1}, each once")

    @property
    def count(self) -> int:
        """The number of values behind each mean and each variance."""
        return math.prod(self.view[a] for a in self.axes)

    @property
    def kept(self) -> tuple[int, ...]:
        """The shape of the means and of the variances, which is that of the view without the axes."""
        return tuple(n for axis, n in enumerate(self.view) if axis not in self.axes)


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of each set of values that is normalized together.

    ``mean`` and ``var`` have the shape of the layout's view without its axes: (C,) for batch norm, (N,) for layer
    norm over one axis. ``var`` is biased (divided by ``count``) and in the square of x's unit. Where the layout does
    not centre, ``mean`` is 0 and ``var`` the mean square. Both have x's dtype, or float32 if that is of half precision.
    """

    mean: Array
    var: Array
    count: int


class Cache(NamedTuple):
    """What the backward pass needs, and the moments from which running statistics are made.

    ``xhat`` has the shape of the layout's view; ``rstd`` is 1 / sqrt(var + eps), or 1 where the layout does not scale,
    with 1 for each axis of the layout; both have x's dtype, or float32 if that is of half precision. ``shape`` and
    ``dtype`` are those of x.
    """

    xhat: Array
    rstd: Array
    gamma: Array
    layout: Layout
    moments: Moments
    shape: tuple[int, ...]
    dtype: Any


class Grads(NamedTuple):
    """Gradients of the loss: ``dx`` in the shape and dtype of x, ``dgamma`` and ``dbeta`` in those of gamma as used."""

    dx: Array
    dgamma: Array
    dbeta: Array


def normalize(x: Array, gamma: Array, beta: Array, layout: Layout, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Standardize x over the layout's axes, then scale by gamma and shift by beta.

    The transform of :cite:`ioffe2015batch`, Algorithm 1, with any layout. The variance is biased, and eps stands
    inside the root. One value of each set is subtracted first, as a rough mean, and corrected afterwards: what is
    left is small, so float32 keeps its digits however far from zero the values lie.

    Where x is of half precision (float16, bfloat16), all of this is computed in float32, as PyTorch does beside float32
    parameters, and y is rounded once, at the end: sums of float16 overflow above 65,504, and in neither do they keep
    their digits. In float32 the squares of deviations above 1e19 overflow, as PyTorch's do.

    Parameters
    ----------
    x : array or tensor of floats whose size is that of ``layout.view``
    gamma, beta : arrays with as many values as ``layout.params``, used in x's dtype; float32 stays float32 beside an x
        of half precision. An array beside a tensor is made a tensor. A tensor beside an array is made an array, unless
        autograd follows it
    layout : which values share statistics
    eps : added to the variance, in the square of x's unit; one number, not negative

    Returns
    -------
    y : array of x's shape and dtype
    cache : what :func:`normalize_backward` takes; ``cache.moments`` holds mean, biased variance and count

    Raises
    ------
    ValueError
        If x is empty, masked or not floating-point, or of another size than the layout, if fewer than two values share
        a mean, if gamma or beta has the wrong shape or holds no real numbers, or if eps is no number or negative.
    """
    x, gamma, beta, eps = checked(x, gamma, beta, layout, eps)
    check_count(tuple(x.shape), layout.count, least=2 if layout.centred else 1)
    return transform(x, gamma, beta, layout, eps)


def transform(x: Array, gamma: Array, beta: Array, layout: Layout, eps: float) -> tuple[Array, Cache]:
    """:func:`normalize` without its checks."""
    shape = tuple(x.shape)
    centred, rough, rest, var = centre(widened(x).reshape(layout.view), layout)
    y, xhat, rstd = scale(centred, var, gamma, beta, layout, eps)
    moments = Moments((rough + rest).reshape(layout.kept), var.reshape(layout.kept), layout.count)
    return cast(shaped(y, shape), x.dtype), Cache(xhat, rstd, gamma, layout, moments, shape, x.dtype)


def centre(x: Array, layout: Layout) -> tuple[Array, Array, Array, Array]:
    """First half of :func:`normalize`: x in the layout's view less its mean, and the statistics, axes at length 1.

    Returns x - mean, the mean as the sum of a rough one and a small rest, and the biased variance. Where the layout
    does not centre, all of these are about zero in place of the mean.
    """
    axes = layout.axes
    rough = x[tuple(slice(1) if axis in axes else slice(None) for axis in range(len(layout.view)))]
    if layout.centred:
        centred = x - rough
        rest = centred.sum(axis=axes, keepdims=True) / layout.count
        centred -= rest  # x - mean
    else:
        rough = rest = 0 * rough
        centred = x - rough  # a copy of x
    var = inner(centred, centred, axes) / layout.count  # mean of (x - mean) ** 2
    return centred, rough, rest, var


def scale(
    centred: Array, var: Array, gamma: Array, beta: Array, layout: Layout, eps: float
) -> tuple[Array, Array, Array]:
    """Second half of :func:`normalize`: y and xhat in the layout's view, and rstd. The memory of centred is used up."""
    rstd = (var + eps) ** -0.5 if layout.scaled else var**0  # ones
    xhat = times(centred, rstd)
    y = xhat * gamma.reshape(layout.params)
    y += beta.reshape(layout.params)
    return y, xhat, rstd


def normalize_backward(dy: Array, cache: Cache) -> Grads:
    """The gradients of a loss with respect to x, gamma and beta, from its gradient dy with respect to y.

    dy, of x's shape, flows back through gamma, through xhat, and through mean and variance, which depend on every x
    that shares them: the equations of :cite:`ioffe2015batch`, section 3, gathered into one line for dx. A layout that
    does not centre has no path through the mean, and one that does not scale none through the variance. As in the
    forward pass, half precision is summed in float32, and rounded once.

    Raises
    ------
    ValueError
        If dy does not have the shape of the x that made the cache, or is masked or not real; or if the cache is none.
    """
    dy = cotangent(dy, cache)
    dgamma, dbeta, dxhat_sum, dxhat_xhat_sum = backward_sums(dy, cache)
    count = cache.layout.count
    return Grads(backward_dx(dy, cache, dxhat_sum / count, dxhat_xhat_sum / count), dgamma, dbeta)


def cotangent(dy: Array, cache: Cache) -> Array:
    """Return dy in the view and the dtype of xhat, or a ValueError that says what to mend."""
    if not isinstance(cache, Cache):
        raise ValueError(
            f"cache is {said(cache)}: pass dy, and then the second of the two that a norm returns, y and cache"
        )
    dy = of_dtype(cache.xhat, "dy", dy)
    if tuple(dy.shape) != cache.shape:
        raise ValueError(
            f"dy has shape {tuple(dy.shape)}, but y had {cache.shape}: pass the gradient with respect to y"
        )
    return dy.reshape(cache.layout.view)


def backward_sums(dy: Array, cache: Cache) -> tuple[Array, Array, Array, Array]:
    """First half of :func:`normalize_backward`: dgamma and dbeta, and the sums of dxhat and of dxhat * xhat.

    The sums are over the layout's axes, which stay with length 1; dxhat is gamma * dy, and dy a :func:`cotangent`.
    """
    xhat, gamma, layout = cache.xhat, cache.gamma, cache.layout
    axes, shared = layout.axes, tuple(axis for axis, n in enumerate(layout.params) if n == 1)
    alike = tuple(axis for axis in axes if axis in shared)  # gamma is constant along these: it can wait for the sums
    gamma_ = gamma.reshape(layout.params)

    dy_sum, dy_xhat_sum = total(dy, alike), inner(dy, xhat, alike)
    axes, left = (
        tuple(axis for axis in of if axis not in alike) for of in (axes, shared)
    )  # what is still to be summed
    sums = inner(gamma_, dy_sum, axes), inner(gamma_, dy_xhat_sum, axes)
    dbeta, dgamma = (cast(total(a, left).reshape(gamma.shape), gamma.dtype) for a in (dy_sum, dy_xhat_sum))
    return dgamma, dbeta if shared else 1 * dbeta, *sums  # without a sum dbeta would lie in the memory of dy


def backward_dx(dy: Array, cache: Cache, mean: Array, along: Array) -> Array:
    """Second half of :func:`normalize_backward`: dx, from the means of dxhat and of dxhat * xhat ("along" xhat)."""
    xhat, rstd, gamma, layout, _, shape, dtype = cache
    dx = dy * (gamma.reshape(layout.params) * rstd)  # rstd * (dxhat - mean - xhat * along), the brackets multiplied out
    if layout.centred:
        dx -= mean * rstd
    if layout.scaled:
        dx = less(dx, xhat, along * rstd)
    return cast(dx.reshape(shape), dtype)


def batch_layout(shape: tuple[int, ...]) -> Layout:
    """Batch norm's layout for x of shape (N, C, ...): statistics over all axes but the channels'."""
    shape = wholes("shape", shape)
    return Layout(shape, _per_channel(shape), (0, *range(2, len(shape))))


def layer_layout(shape: tuple[int, ...], trailing: int = 1) -> Layout:
    """Layer norm's layout: each example by itself, statistics over the given number of trailing axes.

    Over all axes x is one example.
    """
    shape, axes = wholes("shape", shape), whole(trailing)
    if not shape:
        raise ValueError("x has shape (), but an axis is needed to take statistics over: pass x.reshape(1, -1)")
    if axes is None or not 0 < axes <= len(shape):
        raise ValueError(f"cannot normalize over {said(trailing)} trailing axes of {shape}: choose 1 to {len(shape)}")
    lead = len(shape) - axes
    return Layout(shape, (1,) * lead + shape[lead:], tuple(range(lead, len(shape))))


def instance_layout(shape: tuple[int, ...]) -> Layout:
    """Instance norm's layout for x of shape (N, C, L, ...): each channel of each example by itself."""
    shape = wholes("shape", shape)
    if len(shape) < 3:
        raise ValueError(f"x has shape {shape}, with no axis behind the channels to take instance statistics over")
    return Layout(shape, _per_channel(shape), tuple(range(2, len(shape))))


def group_layout(shape: tuple[int, ...], groups: int) -> Layout:
    """Group norm's layout for x of shape (N, C, ...): each group of neighbouring channels of each example by itself."""
    shape, each = wholes("shape", shape), whole(groups)
    channels = _channels(shape)
    if each is None:
        raise ValueError(f"groups is {said(groups)}: give a whole number that divides the {channels} channels")
    groups = each
    if groups < 1 or channels % groups:
        raise ValueError(
            f"{groups} groups do not divide the {channels} channels of x {shape}: "
            f"choose one of {[g for g in range(1, channels + 1) if channels % g == 0]}"
        )
    n, _, *rest = shape
    view = (n, groups, channels // groups, *rest)
    return Layout(view, (1, groups, channels // groups, *[1] * len(rest)), tuple(range(2, len(view))))


def batch_norm(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Batch norm of x (N, C), (N, C, L) or (N, C, H, W), with gamma and beta (C,): :cite:`ioffe2015batch`.

    Each channel is normalized over the batch, and over positions where there are any. This is the transform of
    training: the statistics are the batch's own, and the variance is biased. See :func:`normalize` for the rest.
    """
    x = floats("x", x)
    return normalize(x, gamma, beta, batch_layout(tuple(x.shape)), eps)


def layer_norm(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Layer norm of x (N, ..., D) over as many trailing axes as gamma has: :cite:`ba2016layer`.

    gamma and beta have the shape of those axes, which may be all that x has: x (D,) with gamma (D,). Raises ValueError
    if x does not end in that shape. See :func:`normalize` for the rest.
    """
    x, gamma = floats("x", x), as_array("gamma", gamma)
    return normalize(x, gamma, beta, _trailing(x, gamma), eps)


def rms_norm(x: Array, gamma: Array, beta: Array | None = None, eps: float = 1e-5) -> tuple[Array, Cache]:
    """RMS norm of x (N, ..., D) over as many trailing axes as gamma has: :cite:`zhang2019root`.

    Layer norm without the centring: each example is divided by the root of its mean square, and no mean is
    subtracted. gamma and beta have the shape of those axes, which may be all that x has. The paper's has no beta, nor
    has PyTorch's: leave it out, and it is zero (its gradient comes all the same). Raises ValueError if x does not end
    in that shape. See :func:`normalize` for the rest.
    """
    x, gamma = floats("x", x), as_array("gamma", gamma)
    if not math.isnan(number(beta)):
        raise ValueError(f"beta is {said(beta)}: give an array of gamma's shape; eps goes by its name, eps={beta}")
    beta = np.zeros(tuple(gamma.shape)) if beta is None else beta
    return normalize(x, gamma, beta, replace(_trailing(x, gamma), centred=False), eps)


def instance_norm(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Instance norm of x (N, C, L) or (N, C, H, W), with gamma and beta (C,): :cite:`ulyanov2016instance`.

    Each channel of each example is normalized over its positions. See :func:`normalize` for the rest.
    """
    x = floats("x", x)
    return normalize(x, gamma, beta, instance_layout(tuple(x.shape)), eps)


def group_norm(x: Array, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Group norm of x (N, C), (N, C, L) or (N, C, H, W), with gamma and beta (C,): :cite:`wu2018group`.

    Each group of C / groups neighbouring channels of each example is normalized over its channels and positions.
    Raises ValueError if the groups do not divide the channels. See :func:`normalize` for the rest.
    """
    x = floats("x", x)
    _check_params(x, as_array("gamma", gamma), as_array("beta", beta), _channels(tuple(x.shape)))
    return normalize(x, gamma, beta, group_layout(tuple(x.shape), groups), eps)


def _trailing(x: Array, gamma: Array) -> Layout:
    layout = layer_layout(tuple(x.shape), len(gamma.shape))
    tail = tuple(layout.view[a] for a in layout.axes)
    if tuple(gamma.shape) != tail:
        raise ValueError(
            f"gamma has shape {tuple(gamma.shape)}, but x {tuple(x.shape)} ends in {tail}: make them equal"
        )
    return layout


def _channels(shape: tuple[int, ...]) -> int:
    if len(shape) < 2:
        raise ValueError(f"x has shape {shape}, but (N, C, ...) is needed: for one unit pass x.reshape(-1, 1)")
    return shape[1]


def _per_channel(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, _channels(shape), *[1] * (len(shape) - 2))


def checked(x: Array, gamma: Array, beta: Array, layout: Layout, eps: float) -> tuple[Array, Array, Array, float]:
    """Return x, gamma and beta as arrays of one kind and dtype, and eps, or a ValueError that says what to mend."""
    if not isinstance(layout, Layout):
        raise ValueError(f"layout is {said(layout)}: make one from x's shape, as batch_layout(tuple(x.shape)) does")
    x, eps = floats("x", x), checked_eps(eps)
    if math.prod(x.shape) != math.prod(layout.view):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but the layout is for {layout.view}: make it from this x's shape"
        )
    gamma, beta = of_dtype(x, "gamma", gamma), of_dtype(x, "beta", beta)
    _check_params(x, gamma, beta, math.prod(layout.params))
    return x, gamma, beta, eps


def _check_params(x: Array, gamma: Array, beta: Array, values: int) -> None:
    """Raise a ValueError if gamma and beta do not hold so many values, in one shape."""
    for name, given in (("gamma", gamma), ("beta", beta)):
        if math.prod(given.shape) != values or given.shape != gamma.shape:
            raise ValueError(
                f"{name} has shape {tuple(given.shape)}, but x of shape {tuple(x.shape)} needs "
                f"{values} values, in the same shape for gamma and beta{if_last('x', x, math.prod(given.shape))}"
            )


def check_count(shape: tuple[int, ...], count: int, least: int = 2) -> None:
    """Raise a ValueError if x of this shape is empty, or leaves fewer values per statistic than it needs."""
    if math.prod(shape) == 0:
        raise ValueError(f"x of shape {shape} is empty: there is nothing to take a mean of")
    if count < least:
        raise ValueError(
            f"x of shape {shape} leaves {count} value per statistic, whose variance is 0: "
            "give at least two (a larger batch, more positions, or fewer groups)"
        )
