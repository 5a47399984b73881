"""One normalization, many layouts: batch, layer, instance, group and RMS norm, forward and backward.

Everything here is a pure function over values. The lines use array methods only, so PyTorch tensors
pass through them as NumPy arrays do, and autograd differentiates the forward pass as it is printed here.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from bnlib._array import Array, as_array, inner, of_dtype, times, total


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
        Whether the mean is subtracted. RMS norm does not: its variance is the mean square.
    scaled : bool
        Whether the standard deviation is divided by. Mean-only batch norm does not.
    """

    view: tuple[int, ...]
    params: tuple[int, ...]
    axes: tuple[int, ...]
    centred: bool = True
    scaled: bool = True

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
    not centre, ``mean`` is 0 and ``var`` the mean square.
    """

    mean: Array
    var: Array
    count: int


class Cache(NamedTuple):
    """What the backward pass needs, and the moments from which running statistics are made.

    ``xhat`` has the shape of the layout's view; ``rstd`` is 1 / sqrt(var + eps), or 1 where the layout does not scale,
    with 1 for each axis of the layout; ``shape`` is the shape of x.
    """

    xhat: Array
    rstd: Array
    gamma: Array
    layout: Layout
    moments: Moments
    shape: tuple[int, ...]


class Grads(NamedTuple):
    """Gradients of the loss: ``dx`` in the shape of x, ``dgamma`` and ``dbeta`` in the shape of gamma."""

    dx: Array
    dgamma: Array
    dbeta: Array


def normalize(x: Array, gamma: Array, beta: Array, layout: Layout, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Standardize x over the layout's axes, then scale by gamma and shift by beta.

    The transform of :cite:`ioffe2015batch`, Algorithm 1, with any layout. The variance is biased, and eps stands
    inside the root. One value of each set is subtracted first, as a rough mean, and corrected afterwards: what is
    left is small, so float32 keeps its digits however far from zero the values lie.

    Parameters
    ----------
    x : array or tensor of floats whose size is that of ``layout.view``
    gamma, beta : arrays with as many values as ``layout.params``, in x's kind (NumPy or torch); used in x's dtype
    layout : which values share statistics
    eps : added to the variance, in the square of x's unit; not negative

    Returns
    -------
    y : array of x's shape and dtype
    cache : what :func:`normalize_backward` takes; ``cache.moments`` holds mean, biased variance and count

    Raises
    ------
    ValueError
        If x is empty or not floating-point, if fewer than two values share a mean, if gamma or beta has the wrong
        shape, or if eps is negative.
    """
    x, gamma, beta = checked(x, gamma, beta, layout, eps)
    shape = tuple(x.shape)
    check_count(shape, layout.count, least=2 if layout.centred else 1)
    centred, rough, rest, var = centre(x.reshape(layout.view), layout)
    y, xhat, rstd = scale(centred, var, gamma, beta, layout, eps)
    moments = Moments((rough + rest).reshape(layout.kept), var.reshape(layout.kept), layout.count)
    return y.reshape(shape), Cache(xhat, rstd, gamma, layout, moments, shape)


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
    does not centre has no path through the mean, and one that does not scale none through the variance.

    Raises
    ------
    ValueError
        If dy does not have the shape of the x that made the cache.
    """
    dy = as_array(dy)
    dgamma, dbeta, dxhat_sum, dxhat_xhat_sum = backward_sums(dy, cache)
    count = cache.layout.count
    return Grads(backward_dx(dy, cache, dxhat_sum / count, dxhat_xhat_sum / count), dgamma, dbeta)


def backward_sums(dy: Array, cache: Cache) -> tuple[Array, Array, Array, Array]:
    """First half of :func:`normalize_backward`: dgamma and dbeta, and the sums of dxhat and of dxhat * xhat.

    The sums are over the layout's axes, which stay with length 1; dxhat is gamma * dy.
    """
    xhat, _, gamma, layout, _, shape = cache
    if tuple(dy.shape) != shape:
        raise ValueError(f"dy has shape {tuple(dy.shape)}, but y had {shape}: pass the gradient with respect to y")
    axes, shared = layout.axes, tuple(axis for axis, n in enumerate(layout.params) if n == 1)
    alike = tuple(axis for axis in axes if axis in shared)  # gamma is constant along these: it can wait for the sums
    gamma_, dy = gamma.reshape(layout.params), dy.reshape(layout.view)

    dy_sum, dy_xhat_sum = total(dy, alike), inner(dy, xhat, alike)
    dbeta, dgamma = dy_sum.sum(axis=shared), dy_xhat_sum.sum(axis=shared)
    sums = inner(gamma_, dy_sum, axes), inner(gamma_, dy_xhat_sum, axes)
    return dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape), *sums


def backward_dx(dy: Array, cache: Cache, mean: Array, along: Array) -> Array:
    """Second half of :func:`normalize_backward`: dx, from the means of dxhat and of dxhat * xhat ("along" xhat)."""
    xhat, rstd, gamma, layout, _, shape = cache
    gamma_, dy = gamma.reshape(layout.params), dy.reshape(layout.view)
    dx = dy * (gamma_ * rstd)  # rstd * (dxhat - mean - xhat * along), the brackets multiplied out
    if layout.centred:
        dx -= mean * rstd
    if layout.scaled:
        dx -= xhat * (along * rstd)
    return dx.reshape(shape)


def batch_layout(shape: tuple[int, ...]) -> Layout:
    """Batch norm's layout for x of shape (N, C, ...): statistics over all axes but the channels'."""
    return Layout(shape, _per_channel(shape), (0, *range(2, len(shape))))


def layer_layout(shape: tuple[int, ...], trailing: int = 1) -> Layout:
    """Layer norm's layout: each example by itself, statistics over the given number of trailing axes."""
    if not 0 < trailing < len(shape):
        raise ValueError(f"cannot normalize over {trailing} trailing axes of {shape}: choose 1 to {len(shape) - 1}")
    lead = len(shape) - trailing
    return Layout(shape, (1,) * lead + shape[lead:], tuple(range(lead, len(shape))))


def instance_layout(shape: tuple[int, ...]) -> Layout:
    """Instance norm's layout for x of shape (N, C, L, ...): each channel of each example by itself."""
    if len(shape) < 3:
        raise ValueError(f"x has shape {shape}, with no axis behind the channels to take instance statistics over")
    return Layout(shape, _per_channel(shape), tuple(range(2, len(shape))))


def group_layout(shape: tuple[int, ...], groups: int) -> Layout:
    """Group norm's layout for x of shape (N, C, ...): each group of neighbouring channels of each example by itself."""
    channels = _channels(shape)
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
    x = as_array(x)
    return normalize(x, gamma, beta, batch_layout(tuple(x.shape)), eps)


def layer_norm(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Layer norm of x (N, ..., D) over as many trailing axes as gamma has: :cite:`ba2016layer`.

    gamma and beta have the shape of those axes. Raises ValueError if x does not end in that shape.
    See :func:`normalize` for the rest.
    """
    x, gamma = as_array(x), as_array(gamma)
    return normalize(x, gamma, beta, _trailing(x, gamma), eps)


def rms_norm(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Cache]:
    """RMS norm of x (N, ..., D) over as many trailing axes as gamma has: :cite:`zhang2019root`.

    Layer norm without the centring: each example is divided by the root of its mean square, and no mean is
    subtracted. gamma and beta have the shape of those axes; the paper's has no beta, for which pass zeros. Raises
    ValueError if x does not end in that shape. See :func:`normalize` for the rest.
    """
    x, gamma = as_array(x), as_array(gamma)
    return normalize(x, gamma, beta, replace(_trailing(x, gamma), centred=False), eps)


def instance_norm(x: Array, gamma: Array, beta: Array, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Instance norm of x (N, C, L) or (N, C, H, W), with gamma and beta (C,): :cite:`ulyanov2016instance`.

    Each channel of each example is normalized over its positions. See :func:`normalize` for the rest.
    """
    x = as_array(x)
    return normalize(x, gamma, beta, instance_layout(tuple(x.shape)), eps)


def group_norm(x: Array, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> tuple[Array, Cache]:
    """Group norm of x (N, C), (N, C, L) or (N, C, H, W), with gamma and beta (C,): :cite:`wu2018group`.

    Each group of C / groups neighbouring channels of each example is normalized over its channels and positions.
    Raises ValueError if the groups do not divide the channels. See :func:`normalize` for the rest.
    """
    x = as_array(x)
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


def checked(x: Array, gamma: Array, beta: Array, layout: Layout, eps: float) -> tuple[Array, Array, Array]:
    """Return x, gamma and beta as arrays of x's dtype, or a ValueError that says what to mend."""
    x = as_array(x)
    shape = tuple(x.shape)
    if "float" not in str(x.dtype):
        raise ValueError(f"x of shape {shape} holds {x.dtype}, but means are fractions: convert it to float first")
    if not eps >= 0:
        raise ValueError(f"eps is {eps}, but it keeps a root away from zero: pass 0 or a small positive number")
    gamma, beta = of_dtype(x, gamma), of_dtype(x, beta)
    for name, given in (("gamma", gamma), ("beta", beta)):
        if math.prod(given.shape) != math.prod(layout.params) or given.shape != gamma.shape:
            raise ValueError(
                f"{name} has shape {tuple(given.shape)}, but x of shape {shape} needs "
                f"{math.prod(layout.params)} values, in the same shape for gamma and beta"
            )
    return x, gamma, beta


def check_count(shape: tuple[int, ...], count: int, least: int = 2) -> None:
    """Raise a ValueError if x of this shape is empty, or leaves fewer values per statistic than it needs."""
    if math.prod(shape) == 0:
        raise ValueError(f"x of shape {shape} is empty: there is nothing to take a mean of")
    if count < least:
        raise ValueError(
            f"x of shape {shape} leaves {count} value per statistic, whose variance is 0: "
            "give at least two (a larger batch, more positions, or fewer groups)"
        )
