"""bnlib's hand-written gradient as a function that PyTorch differentiates and maps over replicas."""

from typing import Any

import torch
from torch import Tensor

from bnlib.norms import Cache, Layout, Moments, normalize, normalize_backward


class _Normalize(torch.autograd.Function):
    """Forward and backward as :mod:`bnlib.norms` writes them; xhat and the statistics are outputs without a gradient.

    In this form, with the saving apart from the forward pass, ``torch.func.vmap`` takes it as it is.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, eps: float) -> tuple[Tensor, ...]:
        y, cache = normalize(x, gamma, beta, layout, eps)
        return y, cache.xhat, cache.rstd, cache.moments.mean, cache.moments.var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, gamma, _, layout, _ = inputs
        y, xhat, rstd, mean, var = output
        ctx.mark_non_differentiable(xhat, rstd, mean, var)
        ctx.save_for_backward(xhat, rstd, gamma, mean, var)
        ctx.layout, ctx.shape = layout, tuple(y.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        dy, *_ = grads
        xhat, rstd, gamma, mean, var = ctx.saved_tensors
        moments = Moments(mean, var, ctx.layout.count)
        return *normalize_backward(dy, Cache(xhat, rstd, gamma, ctx.layout, moments, ctx.shape)), None, None


def normalized(x: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, eps: float = 1e-5) -> tuple[Tensor, Cache]:
    """:func:`bnlib.norms.normalize` for tensors, with bnlib's own backward pass in autograd.

    Parameters
    ----------
    x : tensor of floats whose size is that of ``layout.view``
    gamma, beta : tensors with as many values as ``layout.params``, of x's dtype
    layout : which values share statistics
    eps : added to the variance

    Returns
    -------
    y : tensor of x's shape and dtype, through which gradients flow to x, gamma and beta
    cache : as from :func:`bnlib.norms.normalize`; its tensors carry no gradient

    Raises
    ------
    ValueError
        As :func:`bnlib.norms.normalize`.
    """
    y, xhat, rstd, mean, var = _Normalize.apply(x, gamma, beta, layout, eps)
    return y, Cache(xhat, rstd, gamma, layout, Moments(mean, var, layout.count), tuple(x.shape))
