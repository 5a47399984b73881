"""What the optimizer does to weights, gamma and beta, and what is frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

import torch
from torch import Tensor, nn

from bnlib.lab.doctor.look import Norm, Seen, Trial, fronts
from bnlib.lab.doctor.report import number, rounded
from bnlib.lab.doctor.rules.rule import PAGE, Found, rule

LONG = 1000.0  # squared length of a unit's weights; starts have about 1
TURN = 0.5  # radians per update
GROWTH = 1.5  # of the length in a few steps
WORSE = 2.0  # the loss, as a factor
FAR_MORE = 10.0  # likewise, beside that with the batch's statistics


def grows(trial: Trial | None) -> bool:
    """Whether the loss on the batch grew over the trial."""
    if trial is None or len(trial.steps) < 2:
        return False
    first, last = trial.steps[0].loss, trial.last
    return math.isfinite(first) and (not math.isfinite(last) or last > WORSE * max(first, 0.1))


def own(norm: Norm) -> list[Tensor]:
    """gamma and beta, where there are any."""
    return [p for p in (norm.gamma, norm.beta) if isinstance(p, nn.Parameter)]


@rule(
    "frozen-rate",
    "wrong",
    "With these norms frozen the loss grows at this learning rate, far more than with the batch's statistics. A frozen "
    "norm is a fixed affine map: larger weights no longer make smaller steps.",
    "Lower the learning rate, or let the norms use the batch.",
    f"{PAGE}frozen",
    explains=("frozen-drifting",),
)
def _frozen_rate(seen: Seen) -> Iterator[Found]:
    if seen.trial is None or seen.unfrozen is None or not grows(seen.trial):
        return
    if not grows(seen.unfrozen) or not seen.trial.last < FAR_MORE * seen.unfrozen.last:
        first, last, steps = seen.trial.steps[0].loss, seen.trial.last, len(seen.trial.steps)
        expected = f"{rounded(seen.unfrozen.last)}, with the batch's statistics"
        after = number(f"loss after {steps} steps, from {rounded(first)}", last, expected)
        yield Found([n.name for n in seen.norms.values() if not n.training], [after])


@rule(
    "frozen-by-requires-grad",
    "harmful",
    "Gamma and beta of these norms are frozen by requires_grad, but the norms are in train mode: they use the batch, "
    "and their running statistics go on moving.",
    "Put them into eval mode, after each model.train().",
    f"{PAGE}frozen",
)
def _frozen_by_requires_grad(seen: Seen) -> Iterator[Found]:
    if seen.used:
        return
    names = [n.name for n in seen.norms.values() if n.training and own(n) and not any(p.requires_grad for p in own(n))]
    if names:
        yield Found(names, [number("frozen norms in train mode", str(len(names)), "0")])


@rule(
    "decay-on-frozen-norm",
    "wrong",
    "The optimizer decays gamma or beta of norms that are frozen: their gradient is a tensor, not None, and so weight "
    "decay goes on moving them.",
    "Leave them out of the optimizer, or set their grad to None.",
    f"{PAGE}decay",
    explains=("decay-on-norm", "frozen-by-requires-grad"),
)
def _decay_on_frozen_norm(seen: Seen) -> Iterator[Found]:
    decays = decayed(seen)
    found = {
        norm.name: decays[id(p)]
        for norm in seen.norms.values()
        for p in own(norm)
        if id(p) in decays and not p.requires_grad and id(p) in seen.with_grad
    }
    if found:
        yield Found(found, [number("weight decay on them", max(found.values()), "0")])


@rule(
    "decay-on-norm",
    "minor",
    "The optimizer decays gamma and beta. Behind the normalization they are the function's scale and level, and decay "
    "pulls them to 0; in front of it, decay of the weights only sets the effective learning rate.",
    "Put parameters with one dimension into a group with weight_decay=0.",
    f"{PAGE}decay",
)
def _decay_on_norm(seen: Seen) -> Iterator[Found]:
    decays = decayed(seen)
    found = {n.name: decays[id(p)] for n in seen.norms.values() for p in own(n) if p.requires_grad and id(p) in decays}
    if found:
        yield Found(found, [number("weight decay on them", max(found.values()), "0")])


def decayed(seen: Seen) -> dict[int, float]:
    """Weight decay by the parameter's id, where there is any."""
    groups = seen.optimizer.param_groups if seen.optimizer else []
    return {id(p): float(g["weight_decay"]) for g in groups if g.get("weight_decay") for p in g["params"]}


@rule(
    "growing-weights",
    "harmful",
    "At this learning rate one update turns the weights in front of these norms by a large angle, and makes them so "
    "much longer that the effective rate, which falls with the square of their length, is soon gone.",
    "Lower the learning rate, or warm it up.",
    "12_length_and_direction.html",
    explains=("not-finite",),
)
def _growing_weights(seen: Seen) -> Iterator[Found]:
    steps = [s for s in seen.trial.steps if s.angles] if seen.trial else []
    if not steps:
        return
    layers = steps[0].angles
    turned = {name: max([s.angles[name] for s in steps if s.angles[name] <= math.pi], default=0.0) for name in layers}
    grown = {name: math.prod(s.growth[name] for s in steps) for name in layers}
    fast = {name for name in layers if turned[name] > TURN and grown[name] > GROWTH}
    if fast:
        yield Found(
            [name for name in layers if name in fast],
            [
                number(
                    "largest angle of one update, in radians", max(turned[name] for name in fast), f"below {TURN:g}"
                ),
                number(
                    f"growth of the length in {len(steps)} steps",
                    max(grown[name] for name in fast),
                    f"below {GROWTH:g}",
                ),
            ],
        )


@rule(
    "dead-rate",
    "harmful",
    "The weights in front of these norms are so long that an update hardly turns them: the effective learning rate is "
    "divided by the square of their length.",
    "Divide weights and bias by c, running_mean by c and running_var by c**2: the function stays the same, and plain "
    "SGD's effective rate grows by c**2, so lower the rate first. Against growth help weight decay, or a lower rate at "
    "first.",
    "12_length_and_direction.html",
)
def _dead_rate(seen: Seen) -> Iterator[Found]:
    layers = {front.producer: front.weights.detach() for front in fronts(seen) if front.weights.requires_grad}
    squared = {name: (w.double().square().sum() / units(seen, name)).item() for name, w in layers.items()}
    found = {name: s for name, s in squared.items() if s > LONG}
    if not found or seen.used:
        return
    numbers = [number("squared length of a unit's weights", max(found.values()), "about 1 at the start")]
    steps = [s for s in seen.trial.steps if s.angles] if seen.trial else []
    if steps and (turned := [a for s in steps for n, a in s.angles.items() if n in found and not math.isnan(a)]):
        numbers.append(number("angle of one update, in radians", median(turned), balance(seen)))
    yield Found(found, numbers)


def units(seen: Seen, name: str) -> int:
    """The outputs of a layer."""
    return getattr(seen.kinds[name], "out_features", None) or getattr(seen.kinds[name], "out_channels", 1)


def balance(seen: Seen) -> str:
    """The angle in the balance of steps and decay, sqrt(2 lr weight_decay), where plain SGD has one."""
    group = seen.optimizer.param_groups[0] if seen.optimizer else {}
    if isinstance(seen.optimizer, torch.optim.SGD) and group.get("weight_decay"):
        lr = group["lr"] / (1 - group.get("momentum", 0.0))
        return f"{math.sqrt(2 * lr * group['weight_decay']):.1g}, the balance of steps and decay"
    return "1e-4 or more"
