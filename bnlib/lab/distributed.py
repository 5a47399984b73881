"""Batch norm over several processes: every rank normalizes its part by the statistics of all parts together.

:func:`synchronized` is the transform, and :class:`SyncBatchNorm` a layer for networks; :mod:`bnlib.lab.launch` starts
the processes. On CPU the ranks talk through gloo. On CUDA they do through nccl: the same lines, but no test of ours has
run them there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist

from bnlib._array import cast, if_last, shaped, widened
from bnlib.lab.bridge import normalized
from bnlib.norms import (
    Cache,
    Layout,
    Moments,
    backward_dx,
    backward_sums,
    batch_layout,
    centre,
    check_count,
    checked,
    cotangent,
    scale,
)
from bnlib.running import RunningStats, batch_norm_inference, pooled

Group = dist.ProcessGroup  # quoted in unions: the site is built without torch, whose stand-in knows no |


class _Synchronized(torch.autograd.Function):
    """The halves of bnlib's forward and backward pass, with the ranks' exchange between them.

    It cannot be differentiated twice: what forward saves are constants to autograd, and for a second derivative the
    ranks would have to exchange sums once more, all of them in one order. So backward raises where its result is to be
    differentiated. (``once_differentiable`` is not enough: its error comes only if autograd walks back through this
    node, and where a weight is reached on another way too, the second derivative lacks a part in silence.)
    """

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, eps: float, group: "Group | None"
    ) -> tuple[Any, ...]:
        shape, view = tuple(x.shape), widened(x)
        ones = [1 if axis in layout.axes else n for axis, n in enumerate(layout.view)]
        if layout.count:
            centred, rough, rest, var = centre(view, layout)
            mean = rough.double() + rest.double()  # in float32 this sum would lose the digits that centred has kept
        else:  # the others are told, so that all raise
            centred, mean, var = view, view.new_zeros(ones, dtype=torch.double), view.new_zeros(ones)

        moments = _pooled_over_ranks(Moments(mean.reshape(layout.kept), var.reshape(layout.kept), layout.count), group)
        check_count(shape, moments.count)
        centred += (mean - moments.mean.reshape(ones)).to(view.dtype)  # x - mean of all
        mean, var = moments.mean.to(view.dtype), moments.var.to(view.dtype)
        y, xhat, rstd = scale(centred, var.reshape(ones), gamma, beta, layout, eps)
        return cast(y, x.dtype), xhat, rstd, mean, var, moments.count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        _, gamma, _, ctx.layout, _, ctx.group = inputs
        y, xhat, rstd, mean, var, ctx.count = output
        ctx.mark_non_differentiable(xhat, rstd, mean, var)
        ctx.save_for_backward(xhat, rstd, gamma, mean, var)
        ctx.shape, ctx.dtype = tuple(y.shape), y.dtype

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Any, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "synchronized statistics cannot be differentiated twice, since the ranks would exchange sums again: "
                "leave out create_graph=True, or use bnlib.lab.bridge.normalized in one process"
            )
        xhat, rstd, gamma, mean, var = ctx.saved_tensors
        cache = Cache(xhat, rstd, gamma, ctx.layout, Moments(mean, var, ctx.count), ctx.shape, ctx.dtype)
        dy = cotangent(dy, cache)
        dgamma, dbeta, *sums = backward_sums(dy, cache)
        dx = None
        if ctx.needs_input_grad[0]:
            both = torch.stack(sums)
            dist.all_reduce(both, group=ctx.group)
            mean_dxhat, along = both / ctx.count
            dx = backward_dx(dy, cache, mean_dxhat, along)
        return dx, dgamma, dbeta, None, None, None


def _pooled_over_ranks(own: Moments, group: "Group | None") -> Moments:
    """The moments of all ranks' values together: one message from each rank to each, of count, mean and M2.

    All ranks pool the same numbers in the same order, so their statistics are equal to the last bit.
    """
    message = torch.cat([own.mean.new_tensor([own.count]), own.mean.flatten(), own.count * own.var.double().flatten()])
    messages = [torch.empty_like(message) for _ in range(dist.get_world_size(group))]
    dist.all_gather(messages, message, group=group)
    shards = []
    for rank, message in zip(dist.get_process_group_ranks(group or dist.group.WORLD), messages, strict=True):
        count, (mean, m2) = int(message[0]), message[1:].reshape(2, *own.mean.shape)
        if not count:
            raise ValueError(f"rank {rank} holds no values: give every rank at least one example")
        shards.append(Moments(mean, m2 / count, count))
    return pooled(*shards)


def synchronized(
    x: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, eps: float = 1e-5, group: "Group | None" = None
) -> tuple[Tensor, Cache]:
    """Like :func:`bnlib.lab.bridge.normalized`, but by the statistics of all ranks' values together.

    Forward, each rank sends the count, the mean and M2 = count * variance of its own values, which are pooled as in
    :cite:`chan1982updating`; backward, the sums of dxhat and of dxhat * xhat are added up over the ranks. The ranks may
    hold different numbers of examples, but of equally many channels. All ranks of the group must call it, and
    differentiate through it, in the same order. Half precision is summed in float32, the means in float64.

    Parameters
    ----------
    x : tensor of floats whose size is that of ``layout.view``: this rank's part
    gamma, beta : tensors with as many values as ``layout.params``, equal in all ranks; used in x's dtype, but float32
        stays float32 beside an x of half precision
    layout : of this rank's part; its axes must hold the one along which the batch is divided
    eps : added to the variance
    group : the ranks that share statistics; None for all

    Returns
    -------
    y : tensor of x's shape and dtype. The gradient of x is that of the sum of all ranks' losses; gamma and beta get
        this rank's share of it, and the sum over the ranks is theirs
    cache : its moments are the pooled ones, the same in all ranks, with the count of all. It is not meant for
        ``normalize_backward``, which knows of one process only

    Raises
    ------
    RuntimeError
        If this process belongs to no process group; or if a gradient is differentiated once more, for which the ranks
        would have to exchange sums again.
    ValueError
        As :func:`bnlib.norms.normalize`, but for the number of values, which counts over all ranks; in every rank, if
        one of them holds no values.
    """
    if not dist.is_initialized():
        raise RuntimeError(
            "this process belongs to no process group, so there is nobody to share statistics with: "
            "start the ranks with bnlib.lab.launch.launch, or call torch.distributed.init_process_group first"
        )
    x, gamma, beta, eps = checked(x, gamma, beta, layout, eps)
    view, shape = shaped(x, layout.view), tuple(x.shape)
    y, xhat, rstd, mean, var, count = _Synchronized.apply(view, gamma, beta, layout, eps, group)
    return shaped(y, shape), Cache(xhat, rstd, gamma, layout, Moments(mean, var, count), shape, x.dtype)


class SyncBatchNorm(nn.Module):
    """Batch norm over the batches of all ranks, for x (N, C), (N, C, L) or (N, C, H, W).

    In training mode x is :func:`synchronized`, and the running statistics are updated as PyTorch's are: with the
    variance made unbiased, here by the count of all ranks. In evaluation mode the running statistics are used, and no
    process group is needed. Parameters and buffers have the names of ``torch.nn.BatchNorm2d``.

    ``DistributedDataParallel`` divides the sum of the ranks' gradients by their number R. So for the gradient of the
    mean loss over all N examples a rank's own loss must be ``R / N`` times the sum over its examples, which is the mean
    over them if all ranks have equally many.

    Parameters
    ----------
    channels : C
    eps : added to the variance
    momentum : the weight of the newest batch; None for the cumulative average

    Raises
    ------
    RuntimeError
        In training mode, if this process belongs to no process group.
    ValueError
        If x has another rank or number of channels, or is no tensor of floats; else as :func:`synchronized`.

    Notes
    -----
    Running statistics of half precision (``.half()``) are updated in float32, and rounded when they are stored.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.channels, self.eps, self.momentum = channels, eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x, and in training mode update the buffers."""
        if not isinstance(x, Tensor):
            raise ValueError(f"x is a {type(x).__name__}: pass a tensor")
        if x.dim() not in (2, 3, 4) or x.shape[1] != self.channels:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but this layer has {self.channels} channels: "
                f"(N, {self.channels}), (N, {self.channels}, L) or (N, {self.channels}, H, W) is needed"
                f"{if_last('x', x, self.channels)}"
            )
        steps = int(self.num_batches_tracked) if self.momentum is None else 0  # else it would only wait for a GPU
        stats = RunningStats(self.running_mean, self.running_var, steps=steps, momentum=self.momentum)
        if not self.training:
            return batch_norm_inference(x, self.weight, self.bias, stats, self.eps)
        y, cache = synchronized(x, self.weight, self.bias, batch_layout(tuple(x.shape)), self.eps)
        stats = stats.update(cache.moments)
        self.running_mean.copy_(stats.mean)
        self.running_var.copy_(stats.var)
        self.num_batches_tracked += 1
        return y

    def extra_repr(self) -> str:
        """What stands between the brackets when the layer is printed."""
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}"


def convert(module: nn.Module) -> nn.Module:
    """Replace each ``torch.nn.BatchNorm1d`` and ``BatchNorm2d`` in a network by :class:`SyncBatchNorm`.

    Weights and running statistics are kept, as the same tensors, so an optimizer stays valid. The network is changed in
    place, and returned; if it is itself such a layer, its replacement is.

    Raises
    ------
    ValueError
        If a layer was made with ``affine=False`` or ``track_running_stats=False``.
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        if module.weight is None or module.bias is None or module.running_mean is None:
            raise ValueError(f"{module} has no weights or no running statistics: only layers with both are replaced")
        new = SyncBatchNorm(module.num_features, module.eps, module.momentum).train(module.training)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            setattr(new, name, getattr(module, name))
        return new
    for name, child in module.named_children():
        setattr(module, name, convert(child))
    return module


class Shard(NamedTuple):
    """What :func:`shard_step` returns: this rank's y and dx, and what all ranks share, or should."""

    y: Tensor
    running_mean: Tensor
    running_var: Tensor
    dx: Tensor
    dweight: Tensor
    dgamma: Tensor
    dbeta: Tensor


def shard_step(
    rank: int,
    x_parts: Sequence[Tensor],
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    dy_parts: Sequence[Tensor],
    sync: bool,
) -> Shard:
    """One pass forward and backward through ``batch_norm(x @ weight.T)``, on this rank's part of a batch.

    To be called by :func:`bnlib.lab.launch.launch`; or alone, outside of any process group, with rank 0, the whole
    batch as the only part and ``sync=False``, for the result that synchronized ranks should have.

    Parameters
    ----------
    rank : whose parts to take
    x_parts, dy_parts : for each rank, x (N, features) and the gradient of the loss with respect to y (N, units)
    weight, gamma, beta : (units, features), (units,) and (units,)
    sync : whether the statistics are those of all ranks, or each rank's own

    Returns
    -------
    shard : y and dx of this rank's part; the running statistics after this batch, from mean 0 and variance 1 with
        momentum 0.1; the gradients of weight, gamma and beta, added up over the ranks
    """
    x = x_parts[rank].detach().requires_grad_()
    weight, gamma, beta = (p.detach().requires_grad_() for p in (weight, gamma, beta))
    z = x @ weight.T
    norm = synchronized if sync else normalized
    y, cache = norm(z, gamma, beta, batch_layout(tuple(z.shape)))
    stats = RunningStats(torch.zeros_like(gamma), torch.ones_like(gamma)).update(cache.moments)
    dx, *grads = torch.autograd.grad(y, [x, weight, gamma, beta], dy_parts[rank])
    if dist.is_initialized():
        for grad in grads:
            dist.all_reduce(grad)
    return Shard(y.detach(), stats.mean, stats.var, dx, *grads)
