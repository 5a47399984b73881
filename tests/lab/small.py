"""Small networks for tests: parameters of which none is 0 or 1, examples, and one replica of several."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bnlib.lab.layers import Embedding, Params, State
from bnlib.lab.nets import Net, start


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randomized(net: Net, replicas: int = 2, seeds: Sequence[int] | None = None) -> State:
    """A start in float64, moved away from 0 and 1."""
    params, stats = start(net, seeds or range(replicas), dtype=torch.float64)
    g = generator(1)
    return State({n: p + 0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype) for n, p in params.items()}, stats)


def examples(net: Net, n: int = 5, replicas: int = 2) -> Tensor:
    """(replicas, n, *inputs) normal numbers in float64, or symbols."""
    first = next(iter(net.layers.values()), None)
    if isinstance(first, Embedding):
        return torch.randint(first.symbols, (replicas, n, *net.inputs), generator=generator(2))
    return torch.randn(replicas, n, *net.inputs, generator=generator(2), dtype=torch.float64)


def one_of(params: Params, r: int) -> Params:
    """The parameters of one replica, still with their first axis."""
    return {name: value[r : r + 1] for name, value in params.items()}
