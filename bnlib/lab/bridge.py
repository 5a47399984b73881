"""bnlib's hand-written gradient as a function that PyTorch differentiates and maps over replicas."""

from inspect import signature
from typing import Any

import torch
from torch import Tensor

from bnlib._array import shaped
from bnlib.norms import Cache, Layout, Moments, check_count, checked, normalize_backward, transform


class _Normalize(torch.autograd.Function):
    """Forward and backward as :mod:`bnlib.norms` writes them; xhat and the statistics are outputs without a gradient.

    In this form, with the saving apart from the forward pass, ``torch.func.vmap`` takes it as it is.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, eps: float) -> tuple[Tensor, ...]:
        y, cache = transform(x, gamma, beta, layout, eps)
        return y, cache.xhat, cache.rstd, cache.moments.mean, cache.moments.var

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, gamma, _, ctx.layout, ctx.eps = inputs
        _, *statistics = output
        ctx.mark_non_differentiable(*statistics)
        ctx.set_materialize_grads(False)  # no zeros for those
        ctx.save_for_backward(x, gamma, *statistics)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        dy, *_ = grads
        if dy is None:
            return None, None, None, None, None
        x, gamma, xhat, rstd, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():
            # This gradient will be differentiated in its turn, and xhat and rstd depend on x. What forward saved are
            # constants, with which the second derivative would be wrong, so here autograd follows the lines of forward.
            _, cache = transform(x, gamma, torch.zeros_like(gamma), ctx.layout, ctx.eps)
        else:
            moments = Moments(mean, var, ctx.layout.count)
            cache = Cache(xhat, rstd, gamma, ctx.layout, moments, tuple(x.shape), x.dtype)
        return *normalize_backward(dy, cache), None, None


# PyTorch asks for it in each call, and would find it anew each time.
_Normalize.forward.__signature__ = signature(_Normalize.forward)  # type: ignore[attr-defined]


def normalized(x: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, eps: float = 1e-5) -> tuple[Tensor, Cache]:
    """:func:`bnlib.norms.normalize` for tensors, with bnlib's own backward pass in autograd.

    The gradient can be differentiated again, any number of times: then autograd follows the lines of both passes.
    Forward mode (``torch.func.jvp``, and ``torch.func.hessian``, which is forward over reverse) is not offered.

    Parameters
    ----------
    x : tensor of floats whose size is that of ``layout.view``
    gamma, beta : tensors with as many values as ``layout.params``, used in x's dtype; float32 stays float32 beside an x
        of half precision
    layout : which values share statistics
    eps : added to the variance, in the square of x's unit; one number, not negative

    Returns
    -------
    y : tensor of x's shape and dtype, through which gradients flow to x, gamma and beta
    cache : as from :func:`bnlib.norms.normalize`; its tensors carry no gradient, but for gamma

    Raises
    ------
    ValueError
        As :func:`bnlib.norms.normalize`; or if x is no tensor.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"x is a {type(x).__name__}: pass a tensor, or call bnlib.norms.normalize")
    x, gamma, beta, eps = checked(x, gamma, beta, layout, eps)
    return transformed(x, gamma, beta, layout, eps)


def transformed(x: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, eps: float) -> tuple[Tensor, Cache]:
    """:func:`normalized` without its checks, but for the number of values, for layouts that are made of x's shape."""
    shape = tuple(x.shape)
    check_count(shape, layout.count, least=2 if layout.centred else 1)
    y, xhat, rstd, mean, var = _Normalize.apply(shaped(x, layout.view), gamma, beta, layout, eps)
    return shaped(y, shape), Cache(xhat, rstd, gamma, layout, Moments(mean, var, layout.count), shape, x.dtype)
