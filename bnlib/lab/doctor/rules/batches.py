"""What the batches are made of, and how large they are."""

from __future__ import annotations

import math
from collections.abc import Iterator

from scipy.stats import f

from bnlib.lab.doctor.look import EVAL, QUIET, TRAIN, Seen
from bnlib.lab.doctor.report import number
from bnlib.lab.doctor.rules.rule import PAGE, Found, rule

FEW = 8  # values behind a mean, counted as independent ones
UNEQUAL = 4.0  # variance of the batches' means over what sampling allows
CHANCE = 1e-6
NOISE = 1.3  # variance with train mode's noise over that without


@rule(
    "batch-of-one",
    "wrong",
    "A batch holds a single example: in train mode {what}.",
    "If it is the last batch, use DataLoader(..., drop_last=True); else larger batches, or frozen norms (eval mode).",
    f"{PAGE}small",
    explains=(
        "small-batch",
        "stale-statistics",
        "modes-apart",
        "company",
        "sorted-batches",
        "dead-units",
        "flat-units",
    ),
)
def _batch_of_one(seen: Seen) -> Iterator[Found]:
    if seen.used and not seen.was_training:
        return
    if seen.raised:
        first = [name for name, norm in seen.norms.items() if norm.training][:1]
        yield Found(
            first, [number("values behind a mean", "1", f"{FEW} or more")], what="the batch norm raises an error"
        )
        return
    alone = {n.name: m for n, m in seen.using() if n.training and m.examples == 1}
    if alone:
        least = min(m.values for m in alone.values())
        count = number("values behind a mean, all of one example", least, f"{FEW} examples or more")
        yield Found(alone, [count], what="it is normalized by itself, in eval mode by what is stored")


@rule(
    "small-batch",
    "harmful",
    "The statistics are taken over few values, and are noise in good part.",
    "Use larger batches, group norm or layer norm; freeze the norms in fine-tuning; use SyncBatchNorm with "
    "several processes; accumulating gradients does not help.",
    f"{PAGE}small",
)
def _small_batch(seen: Seen) -> Iterator[Found]:
    if seen.used and not seen.was_training:
        return
    few = {}
    for norm, moments in seen.using():
        varies = moments.varies
        if norm.training and varies.any() and moments.examples > 1:
            worth = (moments.each / moments.between * moments.examples)[varies].median().item()
            if math.isfinite(worth) and min(worth, moments.values) < FEW:
                few[norm.name] = min(worth, moments.values)
    if few:
        yield Found(few, [number("independent values behind a mean", min(few.values()), f"{FEW} or more")])


@rule(
    "sorted-batches",
    "harmful",
    "The batches differ more than random ones of these examples can: they are sorted, by class or by source, and batch "
    "norm takes away what a batch has in common.",
    "Shuffle: DataLoader(..., shuffle=True), and each batch from all sources.",
    f"{PAGE}bad-training",
    explains=("stale-statistics", "modes-apart", "other-source"),
)
def _sorted_batches(seen: Seen) -> Iterator[Found]:
    norm = next((n for n in seen.norms.values() if n.calls.get(EVAL)), None)
    m = norm.moments(EVAL, turn=0) if norm else None
    if norm is None or m is None or seen.batches < 3:
        return
    varies = (m.varies) & (m.between > 0)
    if not varies.any() or m.examples < 2:
        return
    ratio = (m.examples * m.spread / m.between)[varies].median().item()
    chance = f.sf(ratio, m.calls - 1, m.calls * (m.examples - 1))
    one_class = bool(seen.classes) and max(seen.classes) == 1 < seen.kinds_of_labels and ratio > 1
    if (ratio > UNEQUAL and chance < CHANCE) or one_class:
        found = [
            number(
                "variance of the batches' means / what random batches would have", ratio, f"about 1, below {UNEQUAL:g}"
            )
        ]
        if seen.classes:
            found.append(number("classes in a batch", sum(seen.classes) / len(seen.classes), "as many as in the data"))
        yield Found([norm.name], found)


@rule(
    "dropout-before-norm",
    "harmful",
    "The noise of train mode, such as dropout's, reaches these norms: they store variances that contain it, and eval "
    "mode has none of it.",
    "Move dropout behind the last batch norm, or re-estimate the statistics with dropout off.",
    f"{PAGE}dropout",
    explains=("modes-apart",),
)
def _dropout_before_norm(seen: Seen) -> Iterator[Found]:
    quiet = {n.name: m for n, m in seen.using(QUIET)}
    found = {}
    for norm, loud in seen.using(TRAIN):
        if norm.training and norm.name in quiet:
            varies = quiet[norm.name].each > norm.eps
            if varies.any():
                ratio = (loud.each / quiet[norm.name].each)[varies].median().item()
                if ratio > NOISE:
                    found[norm.name] = ratio
    if found:
        worst = max(found.values())
        yield Found(found, [number("variance with the noise / without", worst, f"about 1, below {NOISE:g}")])
