"""Running statistics: whether they fit the weights and what arrives."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from bnlib.lab.doctor.look import EVAL, STEP, TRAIN, VAL, Moments, Norm, Seen
from bnlib.lab.doctor.report import Number, number
from bnlib.lab.doctor.rules.rule import PAGE, Found, rule

FAR = 0.5  # standard deviations between means, in the median over channels
RATIO = 2.0  # between variances, likewise, either way
ERRORS = 6.0  # standard errors
START = 0.05  # of the start that may be left in a running average
EARLY = 100  # updates, below which weights move too fast to judge


class Misfit(NamedTuple):
    """How far stored statistics are from others: medians over channels that vary."""

    distance: float  # of the means, in standard deviations
    ratio: float  # stored variance over the other
    of_mean: float  # distance of the means, in standard errors
    of_var: float  # likewise of the variances

    @property
    def errors(self) -> float:
        """The larger of both."""
        return max(self.of_mean, self.of_var)

    @property
    def large(self) -> bool:
        """Whether it is larger than sampling allows, and large enough to matter."""
        return self.errors > ERRORS and (self.distance > FAR or not 1 / RATIO < self.ratio < RATIO)

    def numbers(self) -> list[Number]:
        """As a finding has them."""
        return [
            number("distance of the means, in standard errors", self.of_mean, f"below {ERRORS:g}"),
            number("the same, in standard deviations", self.distance, f"below {FAR:g}"),
            number("distance of the variances, in standard errors", self.of_var, f"below {ERRORS:g}"),
            number("stored variance / variance in these batches", self.ratio, f"{1 / RATIO:g} to {RATIO:g}"),
        ]


def misfit(norm: Norm, seen: Moments) -> Misfit | None:
    """How far a norm's stored statistics are from those of its inputs; None where nothing can be said."""
    if norm.mean is None or norm.var is None or not (norm.mean.isfinite().all() and norm.var.isfinite().all()):
        return None
    if not seen.each.isfinite().all() or len(seen.mean) != len(norm.mean):
        return None
    varies = seen.varies
    if not varies.any():
        return None
    mean, var = norm.mean[varies], norm.var[varies]
    sd = (seen.each[varies] + norm.eps).sqrt()
    weight = norm.momentum if norm.momentum is not None else 1 / max(norm.steps or 1, 1)
    noise = 1 / seen.calls + weight / (2 - weight)  # of our mean over batches, and of the running one
    # Of a batch's mean: as random examples have it, or more. Behind another norm it scatters less than that, since a
    # batch has little in common there; then what a healthy average lags behind would count as many standard errors.
    of_batch = torch.fmax(seen.spread, seen.between / max(seen.examples, 1))[varies]
    error = (of_batch * noise).sqrt().clamp(min=1e-12)
    away = (mean - seen.mean[varies]).abs()
    ratio = (var + norm.eps) / (seen.each[varies] + norm.eps)
    on_var = ratio.log().abs() * math.sqrt(max(seen.examples, 2) / 2 / noise)  # for values that are about normal
    found = (away / sd, ratio, away / error, on_var)
    return Misfit(*(values.median().item() for values in found))


def misfits(
    seen: Seen, mode: str = TRAIN, norms: Iterable[Norm] | None = None, small: Collection[str] = ()
) -> dict[str, Misfit]:
    """The large ones by name; where a small one counts, too, all that are larger than sampling allows."""
    among = {norm.name for norm in seen.norms.values()} if norms is None else {norm.name for norm in norms}
    found = {n.name: misfit(n, moments) for n, moments in seen.using(mode) if n.name in among}
    return {n: m for n, m in found.items() if m is not None and (m.large or (n in small and m.errors > ERRORS))}


def worst(found: dict[str, Misfit]) -> list[Number]:
    """The numbers of the norm that is furthest off."""
    return max(found.values(), key=lambda m: m.errors).numbers()


def early(seen: Seen, norm: Norm) -> bool:
    """Whether it is too early to judge: while a network starts to learn, a healthy average lags far behind it.

    A model in use is judged all the same, if its averages still contain the start.
    """
    if not norm.steps or norm.momentum == 0:
        return False
    return norm.steps < EARLY and not (seen.used and norm.start_left > START)


def never(norm: Norm) -> bool:
    """Whether its statistics are those of the start."""
    return norm.mean is not None and norm.var is not None and bool((norm.mean == 0).all() and (norm.var == 1).all())


@rule(
    "not-finite-statistics",
    "wrong",
    "The running statistics hold {what}, and no later batch takes it out: in eval mode what comes out is useless.",
    "Mend what made it (for NaN one bad batch is enough; a negative variance comes from converting or averaging), then "
    "re-estimate the statistics with update_bn.",
    f"{PAGE}deployment",
    explains=("stale-statistics", "not-finite", "modes-apart", "frozen-drifting", "half-statistics", "other-source"),
)
def _not_finite_statistics(seen: Seen) -> Iterator[Found]:
    def bad(t: Tensor | None, least: float) -> int:
        return 0 if t is None else int((~t.isfinite() | (t < least)).sum())

    counts = {n.name: bad(n.mean, -math.inf) + bad(n.var, 0.0) for n in seen.norms.values()}
    if names := [name for name, count in counts.items() if count]:
        negative = any(n.var is not None and (n.var < 0).any() for n in seen.norms.values())
        what = "a negative variance" if negative else "NaN or infinity"
        yield Found(
            names,
            [number("numbers that are NaN, infinite, or a negative variance", sum(counts.values()), "0")],
            what=what,
        )


@rule(
    "momentum-zero",
    "wrong",
    "momentum is 0: these running statistics are never updated, and in eval mode they are those of the start or of a "
    "checkpoint.",
    "Set momentum to 0.1, and re-estimate the statistics with update_bn. To freeze a norm, put it into eval mode.",
    f"{PAGE}frozen",
    explains=("never-updated", "stale-statistics", "modes-apart"),
)
def _momentum_zero(seen: Seen) -> Iterator[Found]:
    names = [norm.name for norm in seen.norms.values() if norm.stored and norm.training and norm.momentum == 0]
    if names:
        yield Found(names, [number("momentum", "0", "0.01 to 0.3")])


@rule(
    "never-updated",
    "wrong",
    "The weights have been trained, but these running statistics are those of the start, 0 and 1.",
    "Load or copy the buffers as well (state_dict(), not parameters()), or re-estimate the statistics with update_bn.",
    f"{PAGE}target",
    explains=("stale-statistics", "too-few-updates", "modes-apart", "frozen-drifting", "other-source"),
)
def _never_updated(seen: Seen) -> Iterator[Found]:
    if names := [norm.name for norm in seen.norms.values() if never(norm) and norm.trained]:
        found = {n.name: m for n, moments in seen.using() if n.name in names and (m := misfit(n, moments))}
        yield Found(names, worst(found) if found else [number("updates", "0", "one for each step")])


@rule(
    "too-few-updates",
    "wrong",
    "With this momentum the running statistics have seen too few batches: a good part of them is still the start, 0 "
    "and 1.",
    "Re-estimate them now, torch.optim.swa_utils.update_bn(loader, model); for further training set momentum to 0.1 "
    "(Keras's 0.99 is 0.01 here).",
    f"{PAGE}checks",
    explains=("stale-statistics", "modes-apart", "frozen-drifting"),
)
def _too_few_updates(seen: Seen) -> Iterator[Found]:
    slow = [n for n in seen.norms.values() if n.steps and n.momentum and n.start_left > START and not early(seen, n)]
    slow = [n for n in slow if not never(n)]
    mostly = {n.name for n in slow if n.start_left > 0.5}
    found = misfits(seen, norms=slow, small=mostly)
    if found:
        norm = max((seen.norms[name] for name in found), key=lambda n: n.start_left)
        share = number("share of the start that is left", norm.start_left, f"below {START:g}")
        updates = number("momentum x updates", (norm.momentum or 0.0) * (norm.steps or 0), "3 or more")
        yield Found(found, [share, updates, *worst(found)])


@rule(
    "momentum-near-1",
    "harmful",
    "momentum weighs the newest batch, and here it weighs it so much that the running statistics are those of the last "
    "one to three batches.",
    "Set momentum to 0.1 for further training (Keras's is the weight of the old average, 1 minus PyTorch's), and "
    "re-estimate what is stored now with update_bn.",
    f"{PAGE}jumps",
    explains=("stale-statistics", "modes-apart"),
)
def _momentum_near_1(seen: Seen) -> Iterator[Found]:
    close = [n for n in seen.norms.values() if n.stored and n.training and n.momentum is not None and n.momentum >= 0.5]
    if close:
        m = max(n.momentum or 0.0 for n in close)
        batches = number("batches that the average is as good as", 2 / m - 1, "5 or more")
        yield Found([n.name for n in close], [number("momentum", m, "0.01 to 0.3"), batches])


@rule(
    "frozen-drifting",
    "harmful",
    "These norms are frozen (in eval mode), and what they are given has moved away from the statistics that they keep: "
    "they no longer normalize.",
    "Freeze the layers in front of them as well, or let the norms use the batch, or re-estimate the statistics.",
    f"{PAGE}frozen",
    explains=("modes-apart", "other-source"),
)
def _frozen_drifting(seen: Seen) -> Iterator[Found]:
    frozen = [n for n in seen.norms.values() if not n.training]
    if not seen.used and (found := misfits(seen, norms=frozen)):
        yield Found(found, worst(found))


@rule(
    "stale-statistics",
    "wrong",
    "The running statistics do not fit these batches with these weights: they lie further off than noise allows{what}.",
    "Re-estimate them on training data with update_bn. Look for averaged weights, buffers of another checkpoint, "
    "training data of another kind, or calls with other inputs, as in a GAN (then pass a loss that makes them).",
    f"{PAGE}deployment",
    explains=("modes-apart", "other-source"),
)
def _stale_statistics(seen: Seen) -> Iterator[Found]:
    judged = [n for n in seen.norms.values() if n.training and not early(seen, n) and not doubled(n)]
    judged = [n for n in judged if n.trained or not never(n)]
    if found := misfits(seen, norms=judged):
        what = "; what is stored as variances are standard deviations" if rooted(seen, found) else ""
        yield Found(found, worst(found), what=what)


def rooted(seen: Seen, names: Iterable[str]) -> bool:
    """Whether what is stored as variances are their roots."""
    logs = []
    for norm, moments in seen.using():
        if norm.name in names and norm.var is not None:
            logs.append((norm.var.log(), 0.5 * moments.each.log()))
    ours, roots = (torch.cat(part) for part in zip(*logs, strict=True))
    fine = ours.isfinite() & roots.isfinite()
    off = (ours - roots)[fine].abs()
    return bool(len(off) and off.median() < 0.1 and roots[fine].abs().median() > 0.3)


@rule(
    "other-source",
    "harmful",
    "The running statistics fit the training batches, and not the validation batches: those are of another kind.",
    "Prepare both in the same way. If the new kind is meant, re-estimate the statistics on it, unlabelled, and measure "
    "whether it helps.",
    "09_test_time.html",
)
def _other_source(seen: Seen) -> Iterator[Found]:
    away = misfits(seen, VAL)
    own = {n.name: misfit(n, moments) for n, moments in seen.using(EVAL)}
    first = next(iter(seen.norms), None)  # behind it, all follows
    found = {n: m for n, m in away.items() if (o := own.get(n)) and (m.distance > 2 * o.distance or n == first)}
    if found and (name := next((n for n in seen.norms if n in found), None)):
        fits = own[name]
        if fits is not None and not fits.large:
            yield Found([name], found[name].numbers())


@rule(
    "updated-twice",
    "harmful",
    "One training step updates these running statistics more than once, by the same batch: the forward pass runs again "
    "while the gradient is computed, as with checkpointing.",
    "Set momentum to 1 - (1 - momentum) ** (1 / k) for k updates, or leave the norms out of what is recomputed.",
    f"{PAGE}train-eval",
)
def _updated_twice(seen: Seen) -> Iterator[Found]:
    updates = seen.trial.updates if seen.trial else {}
    if names := [name for name, (forward, again) in updates.items() if again and seen.norms[name].stored]:
        yield Found(names, [number("updates per step", sum(updates[names[0]]), str(updates[names[0]][0]))])


def doubled(norm: Norm) -> tuple[float, float] | None:
    """How far the inputs of the calls in one step lie apart: means, in standard deviations, and ratio of variances."""
    calls = norm.calls.get(STEP) or norm.calls.get(TRAIN, [])
    calls = list({call.turn: call for call in calls}.values())
    if len(calls) < 2:
        return None
    means, variances = (torch.stack([getattr(c, n) for c in calls]).double().cpu() for n in ("mean", "var"))
    sd = (variances.mean(0) + norm.eps).sqrt()
    distance = ((means.amax(0) - means.amin(0)) / sd).median().item()
    ratio = ((variances.amax(0) + norm.eps) / (variances.amin(0) + norm.eps)).median().item()
    counts = min(call.examples for call in calls)
    return (distance, ratio) if distance > FAR + 3 / math.sqrt(counts) or ratio > 2 * RATIO else None


@rule(
    "one-norm-two-inputs",
    "harmful",
    "These norms are called more than once in a step, with inputs of different distributions: the running statistics "
    "become a mixture that fits neither.",
    "Give each input its own norm, or put both into one batch; then re-estimate what is stored with update_bn.",
    f"{PAGE}gan",
    explains=("modes-apart", "stale-statistics"),
)
def _one_norm_two_inputs(seen: Seen) -> Iterator[Found]:
    found = {n.name: d for n in seen.norms.values() if n.training and (d := doubled(n))}
    if found:
        distance, ratio = max(found.values())
        yield Found(
            found,
            [
                number("distance of the means, in standard deviations", distance, f"below {FAR:g}"),
                number("larger variance / smaller", ratio, f"below {2 * RATIO:g}"),
            ],
        )
