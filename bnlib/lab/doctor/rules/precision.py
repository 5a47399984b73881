"""Numbers that are not finite, and half precision."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from bnlib.lab.doctor.look import TRAIN, Seen
from bnlib.lab.doctor.report import number
from bnlib.lab.doctor.rules.rule import PAGE, Found, rule

HALF = {torch.float16: 65504.0, torch.bfloat16: 3.4e38}
DIGITS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}  # half a step, relative


@rule(
    "not-finite",
    "wrong",
    "{where} NaN or infinite.",
    "In the data: drop such examples, and look for a division by 0 in their preparation. In a layer: look at its input "
    "and weights. In half precision it is usually an overflow (fp16 ends at 65,504): use bf16, or float32. In "
    "float32: a rate that diverged, or 0/0, as of a row of zeros with weight norm.",
    f"{PAGE}nan",
    explains=("stale-statistics", "modes-apart", "eps-dominates", "frozen-drifting", "half-range", "flat-units"),
)
def _not_finite(seen: Seen) -> Iterator[Found]:
    if seen.broken_input:
        found = [number("batches with NaN or infinity", str(seen.broken_input), "0")]
        yield Found([], found, where="Numbers of the data, as it is given, are")
    elif seen.broken is not None:
        yield Found([seen.broken], where=f"Numbers that come out of {seen.broken} are")


@rule(
    "eps-below-resolution",
    "harmful",
    "These norms are no PyTorch ones, and their eps is so small that {dtype} rounds it to 0: a channel without spread "
    "gives 0/0. (PyTorch's own add eps in float32.)",
    "Set eps to 1e-5, and keep the norm in float32.",
    f"{PAGE}precision",
    explains=("half-statistics",),
)
def _eps_below_resolution(seen: Seen) -> Iterator[Found]:
    found = {}
    for norm in seen.norms.values():
        own = norm.stored and not isinstance(norm.module, nn.modules.batchnorm._BatchNorm)
        dtype = norm.module.get_buffer("running_var").dtype if own else torch.float32
        if dtype in HALF and torch.tensor(norm.eps, dtype=dtype) == 0:
            found[norm.name] = str(dtype).removeprefix("torch.")
    if found:
        least = min(seen.norms[name].eps for name in found)
        yield Found(found, [number("eps", least, "1e-5")], dtype=next(iter(found.values())))


@rule(
    "half-statistics",
    "harmful",
    "These norms keep their running statistics in {dtype}: each update is rounded, so the average stops on its way, "
    "and in fp16 a variance above 65,504 becomes infinite.",
    "Keep batch norms in float32: norm.float() for each, after converting a new model. A trained one: fold first, or "
    "copy the float32 statistics back.",
    f"{PAGE}precision",
    explains=("stale-statistics", "half-range"),
)
def _half_statistics(seen: Seen) -> Iterator[Found]:
    low = [n for n in seen.norms.values() if n.stored and n.module.running_var.dtype in HALF]
    if low:
        dtype = str(low[0].module.running_var.dtype).removeprefix("torch.")
        yield Found([n.name for n in low], [number("dtype of the statistics", dtype, "float32")], dtype=dtype)


@rule(
    "half-range",
    "harmful",
    "In half precision these norms are given values that {what}.",
    "Run the layer in front in float32, or in bf16 if its values are close to overflow.",
    f"{PAGE}nan",
)
def _half_range(seen: Seen) -> Iterator[Found]:
    large, coarse = {}, {}
    for norm, m in seen.using(TRAIN):
        dtype = norm.calls[TRAIN][0].dtype
        if dtype not in HALF:
            continue
        if m.largest > HALF[dtype] / 4:
            large[norm.name] = m.largest
        step = (m.mean.abs() * DIGITS[dtype] / (m.each + norm.eps).sqrt()).median().item()
        if step > 0.1:
            coarse[norm.name] = step
    if large:
        top = max(large.values())
        yield Found(
            large, [number("largest value", top, "below a quarter of the largest number")], what="are close to overflow"
        )
    elif coarse:
        worst = max(coarse.values())
        step = number("rounding error, in standard deviations", worst, "below 0.1")
        yield Found(coarse, [step], what="lie so far from 0 that their differences are rounded away")
