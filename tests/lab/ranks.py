"""What the processes of test_distributed.py do: functions that a new process can import."""

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

from bnlib.lab.distributed import Shard, SyncBatchNorm, convert, shard_step, synchronized
from bnlib.lab.doctor import examine
from bnlib.norms import Layout, batch_layout


class Case(NamedTuple):
    """A batch, and the sizes of the ranks' parts of it along an axis."""

    x: Tensor
    gamma: Tensor
    beta: Tensor
    dy: Tensor
    sizes: list[int]
    axis: int = 0
    eps: float = 1e-5

    def layout(self, x: Tensor) -> Layout:
        if self.axis == 0:
            return batch_layout(tuple(x.shape))
        return Layout(tuple(x.shape), tuple(self.gamma.shape), (self.axis,))


class Passed(NamedTuple):
    y: Tensor
    mean: Tensor
    var: Tensor
    values: int
    dx: Tensor
    dgamma: Tensor
    dbeta: Tensor


class Trained(NamedTuple):
    losses: list[float]
    state: dict[str, Tensor]
    judged: Tensor


class Work(NamedTuple):
    """All that the ranks are given, so that they are started only once."""

    cases: dict[str, Case]
    step: tuple[Any, ...]
    images: tuple[Tensor, ...]
    inputs: Tensor
    targets: Tensor
    sizes: list[int]


class Done(NamedTuple):
    """All that a rank gives back."""

    passed: dict[str, Passed]
    step: Shard
    alone: Shard
    layers: dict[float | None, Trained]
    network: Trained | None
    errors: dict[str, str]
    constant: list[Tensor]
    pairs: Passed | None
    threads: int


def passed(case: Case, rank: int, group: Any = None) -> Passed:
    x = case.x.split(case.sizes, case.axis)[rank].clone().requires_grad_()
    gamma, beta = case.gamma.clone().requires_grad_(), case.beta.clone().requires_grad_()
    y, cache = synchronized(x, gamma, beta, case.layout(x), case.eps, group)
    grads = torch.autograd.grad(y, [x, gamma, beta], case.dy.split(case.sizes, case.axis)[rank])
    assert not any(t.requires_grad for t in (cache.xhat, cache.rstd, cache.moments.mean, cache.moments.var))
    return Passed(y.detach(), *vars(cache.moments).values(), *grads)


def network() -> nn.Sequential:
    torch.manual_seed(5)
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)]
    return nn.Sequential(*layers).double()


def layer(images: tuple[Tensor, ...], sizes: list[int], rank: int, momentum: float | None) -> Trained:
    """Several batches of images through one layer."""
    norm = SyncBatchNorm(images[0].shape[1], momentum=momentum).double()
    for x in images:
        norm(x.split(sizes)[rank])
    return Trained([], dict(norm.state_dict()), norm.eval()(images[0]).detach())


def trained(inputs: Tensor, targets: Tensor, sizes: list[int], rank: int) -> Trained:
    """Three steps of a network under DDP, each rank with its part of the batch."""
    model = DistributedDataParallel(convert(network()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, t = inputs.split(sizes)[rank], targets.split(sizes)[rank]
    losses = []
    for _ in range(3):
        total = mse_loss(model(x), t, reduction="sum")
        loss = total * len(sizes) / targets.numel()  # DDP's mean over the ranks becomes the mean over all targets
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return Trained(losses, dict(model.module.state_dict()), model.eval()(inputs).detach())


def errors(rank: int) -> dict[str, str]:
    one, zero, x = torch.ones(3), torch.zeros(3), torch.randn(5, 3, requires_grad=True)
    norm = SyncBatchNorm(3)
    tries = {
        "channels": lambda: norm(torch.randn(5, 4)),
        "axes": lambda: norm(torch.randn(3)),
        "last": lambda: norm(torch.randn(5, 4, 4, 3)),
        "array": lambda: norm(x.detach().numpy()),
        "integers": lambda: norm(torch.ones(5, 3, dtype=torch.int64)),
        "gamma": lambda: synchronized(torch.randn(5, 3), torch.ones(4), zero, batch_layout((5, 3))),
        "eps": lambda: synchronized(torch.randn(5, 3), one, zero, batch_layout((5, 3)), -1.0),
        "empty": lambda: norm(torch.randn(0 if rank == 1 else 5, 3)),
        "twice": lambda: torch.autograd.grad(norm(x).square().sum(), x, create_graph=True),
        "linear twice": lambda: torch.autograd.grad(norm(x).sum(), norm.weight, create_graph=True),
    }
    said = {}
    for name, attempt in tries.items():
        try:
            attempt()
            said[name] = ""
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def everything(rank: int, work: Work) -> Done:
    warnings.simplefilter("error")
    case = next(iter(work.cases.values()))
    x = case.x.split(case.sizes)[rank]
    gamma, beta = case.gamma.clone().requires_grad_(), case.beta.clone().requires_grad_()
    y, _ = synchronized(x, gamma, beta, batch_layout(tuple(x.shape)))  # x itself needs no gradient
    net = pair = None
    if dist.get_world_size() == 2:  # DDP imports for seconds, in each rank
        net = trained(work.inputs, work.targets, work.sizes, rank)
    else:
        groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
        half = case._replace(sizes=[case.sizes[0], len(case.x) - case.sizes[0]])
        pair = passed(half, rank % 2, groups[rank // 2])
    return Done(
        passed={name: passed(case, rank) for name, case in work.cases.items()},
        step=shard_step(rank, *work.step, sync=True),
        alone=shard_step(rank, *work.step, sync=False),
        layers={momentum: layer(work.images, work.sizes, rank, momentum) for momentum in (0.3, None)},
        network=net,
        errors=errors(rank),
        constant=list(torch.autograd.grad(y, [gamma, beta], case.dy.split(case.sizes)[rank])),
        pairs=pair,
        threads=torch.get_num_threads(),
    )


def examined(rank: int, share: int) -> list[str]:
    """What the doctor names where each process trains with so many examples of its own."""
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    batches = [(torch.randn(share, 6), torch.randn(share, 2)) for _ in range(4)]
    return [finding.rule for finding in examine(model, batches, loss=mse_loss).findings]
