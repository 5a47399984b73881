"""Batch norm after training: running statistics, inference with them, and folding them into the layer before."""

from copy import copy
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from bnlib._array import (
    Array,
    cast,
    checked_eps,
    flag,
    floats,
    if_last,
    like,
    number,
    of_dtype,
    reals,
    said,
    whole,
    widened,
)
from bnlib.norms import Cache, Moments


@dataclass(frozen=True, eq=False)
class RunningStats:
    """The running mean and variance of each channel: a value, never changed; :meth:`update` returns the next one.

    Momentum has PyTorch's direction, the weight of the newest batch::

        new = (1 - momentum) * old + momentum * batch

    and None stands for the cumulative average, in which every batch has the same weight. Keras calls 1 - momentum
    its momentum; its default of 0.99 is 0.01 here.

    The running variance averages the *unbiased* variances of the batches (divided by n - 1), as PyTorch's does,
    although the transform itself uses the biased ones; ``unbiased=False`` averages the biased ones, as Keras does.

    Attributes
    ----------
    mean, var : arrays or tensors of floats, of shape (C,), in x's unit and its square; of half precision they become
        float32, since a tenth of a small change would be rounded away
    steps : the number of batches seen; by keyword, as what follows
    momentum : between 0 and 1, or None
    unbiased : whether the variances of the batches are made unbiased before they are averaged

    Raises
    ------
    ValueError
        If momentum lies outside [0, 1] or is no number, if steps is no whole number or negative, if mean and var are
        not both floats of one shape (C,), or if a variance is negative.
    """

    mean: Array
    var: Array
    _: KW_ONLY
    steps: int = 0
    momentum: float | None = 0.1
    unbiased: bool = True

    def __post_init__(self) -> None:
        """Reject a momentum, shapes or a variance that make no sense."""
        if self.momentum is not None and not 0 <= number(self.momentum) <= 1:
            raise ValueError(
                f"momentum is {said(self.momentum)}, but it is the weight of the newest batch: "
                "give a number between 0 and 1, or None for the cumulative average"
            )
        steps = whole(self.steps)
        if steps is None or steps < 0:
            raise ValueError(f"steps is {said(self.steps)}: give the number of batches seen, 0 or more")
        mean = widened(floats("mean", self.mean))
        var = like(mean, "var", widened(floats("var", self.var)))
        if len(mean.shape) != 1 or mean.shape != var.shape:
            raise ValueError(
                f"mean has shape {tuple(mean.shape)} and var {tuple(var.shape)}, "
                "but both hold one number per channel: shape (C,) is needed"
            )
        _check_var("var", var)
        momentum = None if self.momentum is None else number(self.momentum)
        checked = {"mean": mean, "var": var, "steps": steps, "momentum": momentum}
        for name, value in (checked | {"unbiased": flag("unbiased", self.unbiased)}).items():
            object.__setattr__(self, name, value)  # the way of a frozen dataclass

    @classmethod
    def start(
        cls, channels: int, *, momentum: float | None = 0.1, unbiased: bool = True, dtype: DTypeLike = np.float64
    ) -> Self:
        """Mean 0 and variance 1 in every channel, no batch seen: PyTorch's start, in float32 where dtype is a half one.

        For tensors, give mean and variance directly, ``RunningStats(torch.zeros(C), torch.ones(C))``, and update with
        detached moments, or the graph of every batch is kept.

        Raises
        ------
        ValueError
            If channels is no whole number, or negative; if dtype is none of NumPy's; else as :class:`RunningStats`.
        """
        size = whole(channels)
        if size is None or size < 0:
            raise ValueError(f"channels is {said(channels)}: give their number, such as x.shape[1]")
        try:
            mean, var = np.zeros(size, dtype), np.ones(size, dtype)
        except TypeError as error:
            remedy = "give one of NumPy's, such as numpy.float32, or for tensors RunningStats(mean, var)"
            raise ValueError(f"dtype is {dtype!r} and none of NumPy's: {remedy}") from error
        return cls(mean, var, momentum=momentum, unbiased=unbiased)

    def update(self, moments: Moments) -> Self:
        """The statistics after one more batch, from the moments that :func:`bnlib.norms.batch_norm` cached.

        Raises
        ------
        ValueError
            If these are no moments, if the number of channels differs, if the moments are tensors that autograd
            follows and the statistics are arrays, or if an unbiased variance is asked of fewer than two values.
        """
        moments = _checked("moments", moments, self.mean)
        _check_channels(self, mean=moments.mean, var=moments.var)
        if self.unbiased and moments.count < 2:
            raise ValueError(
                f"count is {moments.count}, but an unbiased variance divides by count - 1: "
                "use a larger batch or unbiased=False"
            )
        return self.averaged(moments)

    def averaged(self, moments: Moments) -> Self:
        """:meth:`update` without its checks, for moments that a batch norm of these channels has just made."""
        steps = self.steps + 1
        weight = 1 / steps if self.momentum is None else self.momentum
        correction = moments.count / (moments.count - 1) if self.unbiased else 1.0
        averaged = {
            "mean": (1 - weight) * self.mean + weight * moments.mean,
            "var": (1 - weight) * self.var + weight * (moments.var * correction),
        }
        new = copy(self)  # a mean of what has been checked need not be checked again
        for name, value in (averaged | {"steps": steps}).items():
            object.__setattr__(new, name, value)
        return new


def pooled(*moments: Moments) -> Moments:
    """The moments of several shards put together, exactly as if their values had been one batch.

    The variance is the mean of the shards' variances plus the variance of their means, each shard weighted with
    its count: the pairwise update of :cite:`chan1982updating` for any number of shards at once. No difference of
    large squares occurs, so large means do no harm. Biased in, biased out; half precision comes out as float32.

    Raises
    ------
    ValueError
        If there is no shard, if one is no :class:`~bnlib.norms.Moments`, empty, or of negative variance, or if their
        shapes differ.
    """
    if not moments:
        raise ValueError("there are no moments to pool: give those of one shard or more")
    shards, first = [], None
    for i, m in enumerate(moments):
        m = _checked(f"shard {i}", m, first)
        first = m.mean if first is None else first
        shards.append(m)
        if m.mean.shape != first.shape or m.var.shape != first.shape:
            raise ValueError(
                f"shard {i} has mean {tuple(m.mean.shape)} and var {tuple(m.var.shape)}, but shard 0 has mean "
                f"{tuple(first.shape)}: all shards need the same channels"
            )
        if m.count < 1:
            raise ValueError(f"shard {i} has count {m.count}: leave empty shards out")
    count = sum(m.count for m in shards)
    mean = sum(m.mean * (m.count / count) for m in shards)
    var = sum((m.var + (m.mean - mean) ** 2) * (m.count / count) for m in shards)
    return Moments(mean, var, count)


def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, stats: RunningStats | Moments, eps: float = 1e-5, *, scaled: bool = True
) -> Array:
    """Batch norm with fixed statistics: an affine map of each channel, which does not see the rest of the batch.

    The inference step of :cite:`ioffe2015batch`, Algorithm 2, with the running statistics in place of averages over
    batches taken after training.

    Parameters
    ----------
    x : array or tensor of floats, shape (N, C), (N, C, L) or (N, C, H, W)
    gamma, beta : arrays of shape (C,)
    stats : running statistics of C channels, or the moments of C channels
    eps : added to the variance, in the square of x's unit; one number, not negative
    scaled : False for mean-only batch norm, which subtracts the mean and divides by nothing

    Returns
    -------
    y : array of x's shape and dtype; of half precision it is computed in float32, and rounded once

    Raises
    ------
    ValueError
        If x is masked, not floating-point, or has another rank, if the numbers of channels differ, or if eps or a
        variance is negative.
    """
    x, stats, eps, scaled = floats("x", x), _statistics(stats), checked_eps(eps), flag("scaled", scaled)
    _check_weights("x", x, "(N, C), (N, C, L) or (N, C, H, W)", 1, stats)
    wide = widened(x)
    gamma, beta = of_dtype(wide, "gamma", gamma), of_dtype(wide, "beta", beta)
    mean, var = of_dtype(wide, "mean", stats.mean), of_dtype(wide, "var", stats.var)
    _check_channels(stats, gamma=gamma, beta=beta)
    per_channel = (-1,) + (1,) * (x.ndim - 2)
    scale = gamma * (var + eps) ** -0.5 if scaled else gamma  # (C,)
    y = (wide - mean.reshape(per_channel)) * scale.reshape(per_channel)
    y += beta.reshape(per_channel)
    return cast(y, x.dtype)


def fold(
    weight: Array, bias: Array | None, gamma: Array, beta: Array, stats: RunningStats | Moments, eps: float = 1e-5
) -> tuple[Array, Array]:
    """The weight and bias of one layer that does at test time what a layer and the batch norm behind it do.

    Parameters
    ----------
    weight : array or tensor of floats, shape (out, in), (out, in, k) or (out, in, kh, kw)
    bias : array of shape (out,), or None for a layer without one
    gamma, beta : arrays of shape (out,)
    stats : running statistics of the layer's ``out`` outputs, or their moments
    eps : the batch norm's eps; one number, not negative

    Returns
    -------
    weight, bias : arrays of weight's shape and of shape (out,), both of weight's dtype; of half precision they are
        computed in float32, and rounded once

    Raises
    ------
    ValueError
        If weight is masked, not floating-point, or has another rank, if the numbers of outputs differ, or if eps or a
        variance is negative.
    """
    weight, stats, eps = floats("weight", weight), _statistics(stats), checked_eps(eps)
    _check_weights("weight", weight, "(out, in), (out, in, k) or (out, in, kh, kw)", 0, stats)
    wide = widened(weight)
    gamma, beta = of_dtype(wide, "gamma", gamma), of_dtype(wide, "beta", beta)
    mean, var = of_dtype(wide, "mean", stats.mean), of_dtype(wide, "var", stats.var)
    _check_channels(stats, gamma=gamma, beta=beta)
    if bias is not None:
        bias = of_dtype(wide, "bias", bias)
        _check_channels(stats, bias=bias)
        mean = mean - bias  # a bias in front of batch norm only moves the mean
    scale = gamma * (var + eps) ** -0.5  # (out,)
    folded = wide * scale.reshape((-1,) + (1,) * (weight.ndim - 1)), beta - mean * scale
    return cast(folded[0], weight.dtype), cast(folded[1], weight.dtype)


def _statistics(stats: RunningStats | Moments) -> RunningStats:
    if isinstance(stats, Moments):
        return RunningStats(stats.mean, stats.var)
    if not isinstance(stats, RunningStats):
        raise ValueError(f"stats is {said(stats)}: pass running statistics, RunningStats(mean, var)")
    return stats


def _checked(name: str, moments: Any, beside: Array | None) -> Moments:
    """Moments as arrays of the kind of those beside, of at least float32, or a ValueError that says what to mend."""
    if not isinstance(moments, Moments):
        remedy = "pass what a norm cached, cache.moments, or Moments(mean, var, count)"
        if isinstance(moments, Cache):
            remedy = "pass its moments, cache.moments"
        elif isinstance(moments, list | tuple) and any(isinstance(m, Cache) for m in moments):
            remedy = "pass the moments of its cache, y, cache = batch_norm(...), then cache.moments"
        elif isinstance(moments, list | tuple) and any(isinstance(m, Moments) for m in moments):
            remedy = "pass Moments one by one, as pooled(*moments) does"
        raise ValueError(f"{name} is {said(moments)}: {remedy}")
    count = whole(moments.count)
    if count is None:
        raise ValueError(f"{name} has count {said(moments.count)}: give the number of values, a whole one")
    mean, var = reals("mean", moments.mean), reals("var", moments.var)
    mean = widened(like(mean if beside is None else beside, "mean", mean))
    var = widened(like(mean, "var", var))
    _check_var("var", var)
    return Moments(mean, var, count)


def _check_var(name: str, var: Array) -> None:
    if (var < 0).any():
        raise ValueError(
            f"the smallest value of {name} is {float(var.min()):.3g}, but a mean of squares is not negative: "
            "pass variances, and none that is a difference of large squares"
        )


def _check_weights(name: str, array: Array, shapes: str, axis: int, stats: RunningStats) -> None:
    shape, channels = tuple(array.shape), stats.mean.shape[0]
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"{name} has shape {shape}, but {shapes} is needed: reshape it")
    if shape[axis] != channels:
        raise ValueError(
            f"{name} has shape {shape}, {shape[axis]} channels on axis {axis}, but the statistics have {channels}: "
            f"use the statistics of this layer, with the channels on that axis{if_last(name, array, channels, axis)}"
        )


def _check_channels(stats: RunningStats, **arrays: Array) -> None:
    channels = stats.mean.shape[0]
    for name, array in arrays.items():
        if tuple(array.shape) != (channels,):
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}, but the statistics have {channels} channels: "
                f"shape ({channels},) is needed"
            )
