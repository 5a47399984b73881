"""What chapter 10 measures: small mini-batches and batches cut into ghosts, with batch norm and without.

Digits, plain gradient descent, ReLU, He's gain, two networks: "MLP", two hidden layers of 100 units, and "conv", two
3x3 convolutions of 8 and 16 channels on the 8x8 images, whose output layer sees all positions; float32. All sizes of
batch see the same number of examples. Arms share their initial weights and batches; the rates lie on one grid for each
size of batch and are picked for each arm by the mean validation accuracy at the end. There a run whose outputs are not
finite counts as an accuracy of 0; at no rate that was picked is there one.

In a first run the output layer of "conv" saw the mean over the positions. Batch norm was ahead of group norm at every
size of batch there, but the others had hardly learned, with an accuracy of 0.4 at most from batches of 16 on. When that
had been seen, that layer and some ends of the grids of rates were changed, the criteria were not.

"batch", "group" (4 groups) and "layer" are the norms of :mod:`bnlib.norms`. "renorm" is batch renormalization
:cite:`ioffe2017batch` with rmax 3 and dmax 5 from the first step on (the paper begins with 1 and 0), from running
averages over about the last 640 examples, which also judge it. A "ghost" batch norm :cite:`hoffer2017train` takes
statistics over each g consecutive examples of a batch. Batch norm and ghosts are judged with running averages of
PyTorch's momentum, 0.1, and variances made unbiased; those of a batch of ghosts are the mean of the ghosts' moments.
Of a single value the variance is 0, and stays so. All three are judged a second time with exact statistics: those of
the whole training set as one batch, with the weights at the end.
"""

from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.bridge import normalized
from bnlib.lab.experiments import Cases, half_decades, spec_of
from bnlib.lab.nets import Params, Spec, Stats
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import batches
from bnlib.norms import Layout, Moments, batch_layout
from bnlib.running import RunningStats

RMAX, DMAX, LOOK_BACK = 3.0, 5.0, 640  # of batch renormalization; the last in examples
MOMENTUM, EPS = 0.1, 1e-5
AT_ONCE = 512  # examples of all replicas in one step: with more, activations leave the processor's cache


def _sizes(
    seeds: int,
    networks: dict[str, Settings],
    epochs: dict[str, int],
    arms: list[str],
    lrs: dict[str, list[float]],
    **how: Any,
) -> Cases:
    """How small may a batch be? Sizes of batch from 1 on, with equal numbers of examples.

    Criterion for "training with batches of one fails", for each network and each of none, layer norm, batch norm and
    renormalization at its best rate: the test accuracy < 0.9. The last two are judged with exact statistics, the kinder
    way, and their rates are picked by it, too.

    Criterion for "with small batches batch norm is less accurate than group norm", for each network and the batches of
    2, 4 and 64: group norm's test accuracy less batch norm's > 0.01, batch norm judged with its running averages; and
    for batches of 4 also judged with exact statistics (rates picked by it): what is left, the noise did to training.
    """  # fmt: skip
    for (network, spec), (batch, rates), arm in product(networks.items(), lrs.items(), arms):
        yield {"network": network, "batch": int(batch), "arm": arm}, {
            "spec": spec, "arm": arm, "batch": int(batch), "lrs": rates, "epochs": epochs[network], "seeds": seeds,
            **how,
        }  # fmt: skip


def _longer(**how: Any) -> Cases:
    """Does batch norm's lead over group norm in the dense network last, with four times as many epochs?

    Without a criterion: reported is batch norm's test accuracy less group norm's, each at its best rate, for batches of
    16, 64 and 256, to be read beside the same differences after six epochs. A trial with the same seeds and about half
    of the rates had been seen: there the leads were smaller, and gone at 16.
    """
    yield from _sizes(**how)


def _ghosts(
    seeds: int,
    networks: dict[str, Settings],
    epochs: dict[str, int],
    batch: int,
    ghosts: dict[str, list[int]],
    lrs: list[float],
    **how: Any,
) -> Cases:
    """Smaller ghost batches generalize better: a batch of 256 in ghosts of several sizes; each seed has its own split.

    Criterion, for each network at the best rate of each: the test accuracy with ghosts of 16 less that with the whole
    batch > 0.005, both judged with running averages.
    """  # fmt: skip
    for network, sizes in ghosts.items():
        for ghost in sizes:
            yield {"network": network, "ghost": ghost}, {
                "spec": networks[network], "arm": "batch", "batch": batch, "ghost": ghost, "lrs": lrs,
                "epochs": epochs[network], "seeds": seeds, **how,
            }  # fmt: skip


def ghost_layout(shape: tuple[int, ...], ghost: int) -> Layout:
    """Batch norm's layout within each ``ghost`` consecutive examples, for x of shape (1, C, N) or (N, C, H, W)."""
    if len(shape) == 3:
        _, channels, n = shape
        return Layout((channels, n // ghost, ghost), (channels, 1, 1), (2,))
    n, channels, *space = shape
    return Layout((n // ghost, ghost, channels, *space), (1, 1, channels, 1, 1), (1, 3, 4))


class BatchNorm:
    """How batch norm normalizes a mini-batch in training, plainly, in ghosts or renormalized; keeps running averages.

    Attributes
    ----------
    stats : the running statistics of each layer so far
    ghost : the examples that share statistics, or None for the whole batch
    renorm : whether to correct towards the running statistics, as batch renormalization does
    """

    def __init__(self, stats: Stats, ghost: int | None = None, renorm: bool = False) -> None:
        self.stats, self.ghost, self.renorm = dict(stats), ghost, renorm

    def __call__(self, layer: int, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """Update the layer's averages and return what follows it, for x as :func:`bnlib.lab.nets.forward` has it."""
        seen = x if x.ndim == 4 else x.reshape(1, -1, x.shape[-1])  # channels of all replicas on axis 1
        shape = tuple(seen.shape)
        layout = batch_layout(shape) if self.ghost is None else ghost_layout(shape, self.ghost)
        gamma, beta = gamma.flatten(), beta.flatten()
        if self.renorm:
            r, d = corrections(_moments(seen.detach()), self.stats[layer])
            gamma, beta = gamma * r, beta + gamma * d  # gamma * (xhat * r + d) + beta
        if layout.count == 1:  # one value less its own mean is 0
            y, moments = gamma[:, None] * (0 * seen) + beta[:, None], _moments(seen.detach())
        else:
            y, cache = normalized(seen, gamma, beta, layout, EPS)
            moments = m = cache.moments
            if self.ghost is not None:
                own = 0 if seen.ndim == 4 else 1  # the axis of the ghosts
                moments = Moments(m.mean.mean(own), m.var.mean(own), m.count)
        self.stats[layer] = self.stats[layer].update(moments)
        return y.reshape(x.shape)


def corrections(batch: Moments, running: RunningStats) -> tuple[Tensor, Tensor]:
    """Batch renormalization's r and d for each channel, clipped; constants to the gradient."""
    std = (running.var + EPS).sqrt()
    r = (batch.var + EPS).sqrt() / std
    d = (batch.mean - running.mean) / std
    return r.clamp(1 / RMAX, RMAX), d.clamp(-DMAX, DMAX)


def _moments(x: Tensor) -> Moments:
    """Of x (N, C, ...) in each channel, with the biased variance."""
    over = (0, *range(2, x.ndim))
    var, mean = torch.var_mean(x, over, correction=0)
    return Moments(mean, var, x.numel() // x.shape[1])


@torch.no_grad()
def ended(
    *,
    spec: Settings,
    arm: str,
    batch: int,
    lrs: list[float],
    epochs: int,
    seeds: int,
    dtype: str,
    ghost: int | None = None,
) -> Values:
    """Train one network for each rate and seed.

    Parameters
    ----------
    spec : fields of :class:`bnlib.lab.nets.Spec`, without the norm
    arm : "none", "batch", "group", "layer" or "renorm"
    batch, epochs, seeds, dtype : as in :class:`bnlib.lab.train.Run`; an epoch's remainder is left out
    lrs : learning rates
    ghost : the size of the ghosts, which must divide the batch; None is the whole batch

    Returns
    -------
    values : "val" and "test", the accuracy at the end, for each rate a list with a number for each seed; for "batch"
        and "renorm" also "val exact" and "test exact", with the statistics of the whole training set
    """
    each = max(1, AT_ONCE // (batch * seeds))
    chunks = [lrs[i : i + each] for i in range(0, len(lrs), each)]
    parts = [_trained(spec, arm, batch, chunk, epochs, seeds, dtype, ghost) for chunk in chunks]
    return {name: [row for part in parts for row in part[name]] for name in parts[0]}


def _trained(
    fields: Settings, arm: str, batch: int, lrs: list[float], epochs: int, seeds: int, dtype: str, ghost: int | None
) -> Values:
    spec = spec_of(fields, norm="batch" if arm == "renorm" else arm, activation="relu", gain=1.41)
    kind, who = getattr(torch, dtype), torch.arange(seeds).repeat(len(lrs))
    splits = [load("digits", seed) for seed in range(seeds)]
    x, y, x_val, y_val, x_test, y_test = (torch.as_tensor(np.stack(a)) for a in zip(*splits, strict=True))
    x, x_val, x_test = (a.to(kind).reshape(*a.shape[:2], *spec.inputs) for a in (x, x_val, x_test))
    params = nets.start([spec] * len(who), who.tolist(), kind)
    lr = torch.tensor(lrs, dtype=kind).repeat_interleave(seeds)
    norm = _norm(spec, params, arm, batch, ghost)
    rows = [batches(x.shape[1], batch, seed) for seed in range(seeds)]
    for _ in range(epochs * (x.shape[1] // batch)):
        chosen = torch.stack([next(r) for r in rows])[who]  # (replicas, batch)
        with torch.enable_grad():
            for p in params.values():
                p.requires_grad_()
            logits, _ = nets.forward(spec, params, x[who[:, None], chosen], norm=norm)
            # The replicas' losses are summed, and each depends on its own parameters alone.
            loss = cross_entropy(logits.mT, y[who[:, None], chosen], reduction="none").mean(1).sum()
            grads = torch.autograd.grad(loss, list(params.values()))
        for p, g in zip(params.values(), grads, strict=True):
            p.requires_grad_(False).addcmul_(g, lr.reshape(-1, *[1] * (p.ndim - 1)), value=-1)
    values: Values = {}
    judged: dict[str, Stats | None] = {"": None if norm is None else norm.stats}
    if norm is not None:
        judged[" exact"] = exact(spec, params, x, who)
    for name, stats in judged.items():
        for part, images, labels in (("val", x_val, y_val), ("test", x_test, y_test)):
            right = _accuracy(spec, params, images, labels, who, stats)
            values[part + name] = right.reshape(len(lrs), seeds).tolist()
    return values


def _norm(spec: Spec, params: Params, arm: str, batch: int, ghost: int | None) -> BatchNorm | None:
    if spec.norm != "batch":
        return None
    momentum = min(MOMENTUM, batch / LOOK_BACK) if arm == "renorm" else MOMENTUM
    values = batch * int(np.prod(spec.inputs[1:]))  # behind each statistic, of one value there is no unbiased variance
    stats = {
        i: RunningStats(s.mean, s.var, momentum=momentum, unbiased=values > 1)
        for i, s in nets.start_stats(spec, params).items()
    }
    return BatchNorm(stats, ghost, arm == "renorm")


def exact(spec: Spec, params: Params, x: Tensor, who: Tensor) -> Stats:
    """The statistics of the whole training set, x (splits, N, *inputs), in one batch; who is each replica's split."""
    seen: dict[int, list[Moments]] = {i: [] for i in spec.normed}
    for r, split in enumerate(who):
        own = {name: p[r : r + 1] for name, p in params.items()}
        for i, m in nets.forward(spec, own, x[split][None])[1].items():
            seen[i].append(m)
    return {i: RunningStats(torch.cat([m.mean for m in ms]), torch.cat([m.var for m in ms])) for i, ms in seen.items()}


def _accuracy(spec: Spec, params: Params, x: Tensor, y: Tensor, who: Tensor, stats: Stats | None) -> Tensor:
    """(replicas,) the share of right answers; 0 where an output is not finite."""
    logits, _ = nets.forward(spec, params, x[who], stats)
    right = (logits.argmax(-1) == y[who]).double().mean(-1)
    return torch.where(logits.isfinite().all(-1).all(-1), right, 0)


_NETWORKS = {
    "MLP": {"inputs": [64], "widths": [100, 100]},
    "conv": {"inputs": [1, 8, 8], "widths": [8, 16], "kernel": 3, "flat": True},
}
EXPERIMENTS = [
    sizes := Experiment(
        "batches-sizes", _sizes, ended,
        {"seeds": 8, "networks": _NETWORKS, "epochs": {"MLP": 6, "conv": 4},
         "arms": ["none", "batch", "group", "layer", "renorm"],
         "lrs": {"1": half_decades(0.001, 0.316), "2": half_decades(0.001, 1), "4": half_decades(0.00316, 1),
                 "16": half_decades(0.01, 3.16), "64": half_decades(0.0316, 10), "256": half_decades(0.0316, 10)},
         "dtype": "float32"},
        {"seeds": 2, "epochs": {"MLP": 1, "conv": 1}, "arms": ["none", "batch", "renorm"],
         "lrs": {"128": [0.1]}, "dtype": "float64"},
    ),
    longer := Experiment(
        "batches-longer", _longer, ended,
        {"seeds": 8, "networks": {"MLP": _NETWORKS["MLP"]}, "epochs": {"MLP": 24}, "arms": ["batch", "group"],
         "lrs": {"16": half_decades(0.0316, 1), "64": half_decades(0.0316, 3.16), "256": half_decades(0.0316, 3.16)},
         "dtype": "float32"},
        {"seeds": 2, "epochs": {"MLP": 1}, "arms": ["group"], "lrs": {"64": [0.1]}, "dtype": "float64"},
    ),
    ghosts := Experiment(
        "batches-ghosts", _ghosts, ended,
        {"seeds": 24, "networks": _NETWORKS, "epochs": {"MLP": 30, "conv": 12}, "batch": 256,
         "ghosts": {"MLP": [4, 16, 64, 256], "conv": [4, 16, 64, 256]}, "lrs": half_decades(0.1, 10),
         "dtype": "float32"},
        {"seeds": 2, "epochs": {"MLP": 1, "conv": 1}, "ghosts": {"MLP": [16], "conv": [16]}, "lrs": [0.1],
         "dtype": "float64"},
    ),
]  # fmt: skip
