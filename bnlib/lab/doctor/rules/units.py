"""Units around a batch norm: flat, dead, saturated; biases and gammas that do nothing."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from bnlib.lab.doctor.look import QUIET, TRAIN, Norm, Seen
from bnlib.lab.doctor.report import number
from bnlib.lab.doctor.rules.rule import PAGE, Found, rule

SHARE = 0.25  # of the channels
ZERO_BELOW = (nn.ReLU, nn.ReLU6)
PINNED = (nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh)
WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm)


@rule(
    "zero-gamma",
    "wrong",
    "All of gamma is 0, and no path leads around these norms: what comes out is the same for every example, and no "
    "gradient reaches the layers in front.",
    "Start gamma at 1. Zero is a start for the last norm of a residual block, where the sum passes by.",
    "08_training.html",
    explains=("flat-units", "dead-units", "modes-apart", "eps-dominates"),
)
def _zero_gamma(seen: Seen) -> Iterator[Found]:
    zero = [n for n in seen.norms.values() if n.gamma is not None and n.gamma.numel() and not n.gamma.any()]
    if names := [norm.name for norm in zero if blocks(seen, norm)]:
        yield Found(names, [number("largest |gamma|", "0", "about 1")])


def blocks(seen: Seen, norm: Norm) -> bool:
    """Whether the norm's output goes into a layer with weights as it is, or nothing comes through at all."""
    return seen.constant or any(isinstance(seen.kinds[name], WEIGHTED) for name in norm.consumers)


@rule(
    "eps-dominates",
    "harmful",
    "The variances that come in are smaller than eps: batch norm divides by the root of eps, and does not normalize.",
    "Scale the inputs up, or make eps smaller (in half precision keep the norm in float32).",
    "06_transform.html",
    explains=("dead-units", "flat-units"),
)
def _eps_dominates(seen: Seen) -> Iterator[Found]:
    found = {}
    for norm, m in seen.using(TRAIN):
        varies = m.varies
        if varies.any() and (share := (m.each[varies] < norm.eps).double().mean().item()) > 0.5:
            found[norm.name] = (share, (m.each[varies] / norm.eps).median().item())
    if found:
        name = min(found, key=lambda n: found[n][1])
        yield Found(found, [number("variance / eps", found[name][1], "100 or more")])


@rule(
    "flat-units",
    "harmful",
    "Many channels hardly vary from example to example where they come in: batch norm makes beta of them, the same "
    "number for every input.",
    "Look in front: blank inputs, dead ReLUs, a layer that has collapsed.",
    "06_transform.html",
    explains=("dead-units",),
)
def _flat_units(seen: Seen) -> Iterator[Found]:
    flat = {n.name: (~m.varies).double().mean().item() for n, m in seen.using(QUIET)}
    if found := {name: share for name, share in flat.items() if share > SHARE}:
        yield Found(found, [number("share of flat channels", max(found.values()), f"below {SHARE:g}")])


@rule(
    "dead-units",
    "harmful",
    "Behind these norms many channels are zero for every example: beta lies so far below 0, beside gamma, that ReLU "
    "lets nothing through, and their gradient is zero.",
    "Lower the learning rate, or start beta at 0 again for these channels; look for a step that threw them off.",
    "06_transform.html",
)
def _dead_units(seen: Seen) -> Iterator[Found]:
    found = {}
    for norm, m in seen.using(QUIET):
        kinds = [seen.kinds[name] for name in norm.consumers]
        behind = bool(kinds) and all(isinstance(kind, ZERO_BELOW) for kind in kinds)
        if behind and norm.highest is not None and len(norm.highest) == len(m.each):
            dead = (norm.highest <= 0) & (m.each > norm.eps)  # by beta, not because nothing comes in
            if (share := dead.double().mean().item()) > SHARE:
                found[norm.name] = share
    if found:
        yield Found(found, [number("share of dead channels", max(found.values()), f"below {SHARE:g}")])


@rule(
    "saturated-units",
    "harmful",
    "Behind these norms sigmoids or tanh are saturated, for nearly all examples: their gradient has vanished.",
    "Make gamma smaller, and start beta at 0.",
    "02_deep_signals.html",
)
def _saturated_units(seen: Seen) -> Iterator[Found]:
    found = {}
    for norm in seen.norms.values():
        kinds = [seen.kinds[name] for name in norm.consumers]
        behind = any(isinstance(kind, PINNED) for kind in kinds)
        share = (norm.pinned > 0.75).double().mean().item() if behind and norm.pinned is not None else 0.0
        if share > SHARE:
            found[norm.name] = share
    if found:
        yield Found(found, [number("share of channels that are saturated", max(found.values()), f"below {SHARE:g}")])


@rule(
    "bias-before-norm",
    "minor",
    "A bias stands in front of batch norm, which takes it away again: it costs memory and does nothing.",
    "Build them with bias=False.",
    f"{PAGE}bias",
)
def _bias_before_norm(seen: Seen) -> Iterator[Found]:
    if seen.idle:
        yield Found(seen.idle, [number("layers with such a bias", str(len(seen.idle)), "0")])


@rule(
    "mixed-eps",
    "minor",
    "The norms have different eps: {what}. Where weights were converted from another framework, some may have been "
    "trained with another one (PyTorch's default is 1e-5, Keras's 1e-3).",
    "Give each norm the eps that it was trained with.",
    f"{PAGE}defaults",
)
def _mixed_eps(seen: Seen) -> Iterator[Found]:
    by_eps: dict[float, list[str]] = {}
    for norm in seen.norms.values():
        by_eps.setdefault(norm.eps, []).append(norm.name)
    if len(by_eps) > 1:
        fewest = min(by_eps.values(), key=len)
        what = ", ".join(f"{eps:g} in {len(names)}" for eps, names in by_eps.items())
        yield Found(fewest, [number("different eps", str(len(by_eps)), "1")], what=what)
