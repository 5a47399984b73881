"""Batch norm after training: running statistics, inference with them, and folding them into the layer before."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import DTypeLike

from bnlib._array import Array, as_array, of_dtype
from bnlib.norms import Moments


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
    mean, var : arrays or tensors of shape (C,), in x's unit and its square
    steps : the number of batches seen
    momentum : between 0 and 1, or None
    unbiased : whether the variances of the batches are made unbiased before they are averaged

    Raises
    ------
    ValueError
        If momentum lies outside [0, 1], or if mean and var are not both of one shape (C,).
    """

    mean: Array
    var: Array
    steps: int = 0
    momentum: float | None = 0.1
    unbiased: bool = True

    def __post_init__(self) -> None:
        """Reject a momentum or shapes that make no sense."""
        if self.momentum is not None and not 0 <= self.momentum <= 1:
            raise ValueError(
                f"momentum is {self.momentum}, but it is the weight of the newest batch: "
                "give a number between 0 and 1, or None for the cumulative average"
            )
        if len(self.mean.shape) != 1 or self.mean.shape != self.var.shape:
            raise ValueError(
                f"mean has shape {tuple(self.mean.shape)} and var {tuple(self.var.shape)}, "
                "but both hold one number per channel: shape (C,) is needed"
            )

    @classmethod
    def start(
        cls, channels: int, momentum: float | None = 0.1, unbiased: bool = True, dtype: DTypeLike = np.float64
    ) -> Self:
        """Mean 0 and variance 1 in every channel, no batch seen: PyTorch's start.

        For tensors, give mean and variance directly, ``RunningStats(torch.zeros(C), torch.ones(C))``, and update with
        detached moments, or the graph of every batch is kept.
        """
        return cls(np.zeros(channels, dtype), np.ones(channels, dtype), momentum=momentum, unbiased=unbiased)

    def update(self, moments: Moments) -> Self:
        """The statistics after one more batch, from the moments that :func:`bnlib.norms.batch_norm` cached.

        Raises
        ------
        ValueError
            If the number of channels differs, or if an unbiased variance is asked of fewer than two values.
        """
        _check_channels(self, mean=moments.mean, var=moments.var)
        if self.unbiased and moments.count < 2:
            raise ValueError(
                f"count is {moments.count}, but an unbiased variance divides by count - 1: "
                "use a larger batch or unbiased=False"
            )
        steps = self.steps + 1
        weight = 1 / steps if self.momentum is None else self.momentum
        correction = moments.count / (moments.count - 1) if self.unbiased else 1.0
        return replace(
            self,
            mean=(1 - weight) * self.mean + weight * moments.mean,
            var=(1 - weight) * self.var + weight * (moments.var * correction),
            steps=steps,
        )


def pooled(*moments: Moments) -> Moments:
    """The moments of several shards put together, exactly as if their values had been one batch.

    The variance is the mean of the shards' variances plus the variance of their means, each shard weighted with
    its count: the pairwise update of :cite:`chan1982updating` for any number of shards at once. No difference of
    large squares occurs, so large means do no harm. Biased in, biased out.

    Raises
    ------
    ValueError
        If there is no shard, if a shard is empty, or if their shapes differ.
    """
    if not moments:
        raise ValueError("there are no moments to pool: give those of one shard or more")
    for i, m in enumerate(moments):
        if m.mean.shape != moments[0].mean.shape or m.var.shape != moments[0].mean.shape:
            raise ValueError(
                f"shard {i} has mean {tuple(m.mean.shape)} and var {tuple(m.var.shape)}, but shard 0 has mean "
                f"{tuple(moments[0].mean.shape)}: all shards need the same channels"
            )
        if m.count < 1:
            raise ValueError(f"shard {i} has count {m.count}: leave empty shards out")
    count = sum(m.count for m in moments)
    mean = sum(m.mean * (m.count / count) for m in moments)
    var = sum((m.var + (m.mean - mean) ** 2) * (m.count / count) for m in moments)
    return Moments(mean, var, count)


def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, stats: RunningStats, eps: float = 1e-5, scaled: bool = True
) -> Array:
    """Batch norm with fixed statistics: an affine map of each channel, which does not see the rest of the batch.

    The inference step of :cite:`ioffe2015batch`, Algorithm 2, with the running statistics in place of averages over
    batches taken after training.

    Parameters
    ----------
    x : array or tensor of floats, shape (N, C), (N, C, L) or (N, C, H, W)
    gamma, beta : arrays of shape (C,)
    stats : running statistics of C channels
    eps : added to the variance, in the square of x's unit
    scaled : False for mean-only batch norm, which subtracts the mean and divides by nothing

    Returns
    -------
    y : array of x's shape and dtype

    Raises
    ------
    ValueError
        If x is not floating-point or has another rank, or if the numbers of channels differ.
    """
    x = as_array(x)
    _check_weights("x", x, "(N, C), (N, C, L) or (N, C, H, W)", 1, stats)
    gamma, beta = of_dtype(x, gamma), of_dtype(x, beta)
    mean, var = of_dtype(x, stats.mean), of_dtype(x, stats.var)
    _check_channels(stats, gamma=gamma, beta=beta)
    per_channel = (-1,) + (1,) * (x.ndim - 2)
    scale = gamma * (var + eps) ** -0.5 if scaled else gamma  # (C,)
    return (x - mean.reshape(per_channel)) * scale.reshape(per_channel) + beta.reshape(per_channel)


def fold(
    weight: Array, bias: Array | None, gamma: Array, beta: Array, stats: RunningStats, eps: float = 1e-5
) -> tuple[Array, Array]:
    """The weight and bias of one layer that does at test time what a layer and the batch norm behind it do.

    Parameters
    ----------
    weight : array or tensor of floats, shape (out, in), (out, in, k) or (out, in, kh, kw)
    bias : array of shape (out,), or None for a layer without one
    gamma, beta : arrays of shape (out,)
    stats : running statistics of the layer's ``out`` outputs
    eps : the batch norm's eps

    Returns
    -------
    weight, bias : arrays of weight's shape and of shape (out,), both of weight's dtype

    Raises
    ------
    ValueError
        If weight is not floating-point or has another rank, or if the numbers of outputs differ.
    """
    weight = as_array(weight)
    _check_weights("weight", weight, "(out, in), (out, in, k) or (out, in, kh, kw)", 0, stats)
    gamma, beta = of_dtype(weight, gamma), of_dtype(weight, beta)
    mean, var = of_dtype(weight, stats.mean), of_dtype(weight, stats.var)
    _check_channels(stats, gamma=gamma, beta=beta)
    if bias is not None:
        bias = of_dtype(weight, bias)
        _check_channels(stats, bias=bias)
        mean = mean - bias  # a bias in front of batch norm only moves the mean
    scale = gamma * (var + eps) ** -0.5  # (out,)
    return weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1)), beta - mean * scale


def _check_weights(name: str, array: Array, shapes: str, axis: int, stats: RunningStats) -> None:
    shape, channels = tuple(array.shape), stats.mean.shape[0]
    if "float" not in str(array.dtype):
        raise ValueError(f"{name} of shape {shape} holds {array.dtype}: convert it to float first")
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"{name} has shape {shape}, but {shapes} is needed: reshape it")
    if shape[axis] != channels:
        raise ValueError(
            f"{name} has shape {shape}, {shape[axis]} channels on axis {axis}, but the statistics have {channels}: "
            "use the statistics of this layer, with the channels on that axis"
        )


def _check_channels(stats: RunningStats, **arrays: Array) -> None:
    channels = stats.mean.shape[0]
    for name, array in arrays.items():
        if tuple(array.shape) != (channels,):
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}, but the statistics have {channels} channels: "
                f"shape ({channels},) is needed"
            )
