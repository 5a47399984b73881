"""What answers in use, beside the model: exports and folds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bnlib.lab.doctor.look import Batch, Seen, apart, first_of, fresh, in_other_company, tolerance
from bnlib.lab.doctor.report import number
from bnlib.lab.doctor.rules.rule import PAGE, Found, rule

OTHER_EPS = (1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 0.0)


class Compared(NamedTuple):
    """The deployed model beside eval mode."""

    deviation: float  # of the outputs, relative to the largest
    company: float  # by which an example's output depends on its batch
    cause: str  # in words; empty where none was found


def compared(seen: Seen, deployed: Callable[..., Any], batch: Batch, run: Callable[[Batch], Tensor | None]) -> Compared:
    """Run both on a batch, and on a part of it; where they disagree, try the usual causes."""

    def theirs(b: Batch) -> Tensor | None:
        b = fresh(b)
        with torch.no_grad():
            return first_of(deployed(*b.inputs, **b.named))

    ours, answer = run(batch), theirs(batch)
    if ours is None or answer is None or ours.shape != answer.shape:
        shapes = [None if t is None else tuple(t.shape) for t in (ours, answer)]
        raise ValueError(f"deployed gives an output of shape {shapes[1]}, the model {shapes[0]}: give the same outputs")
    answer = answer.to(ours)
    deviation = apart(ours, answer)
    other = theirs(in_other_company(batch)) if batch.examples > 1 else None
    rows = (batch.examples + 1) // 2
    company = 0.0 if other is None else apart(answer[:rows], other.to(answer)[:rows])
    cause = ""
    least = tolerance(seen.model)
    if not deviation <= least and company <= least:
        cause = next((name for name, other in causes(seen, batch, run) if apart(other, answer) < least), "")
    return Compared(deviation, company, cause)


def causes(seen: Seen, batch: Batch, run: Callable[[Batch], Tensor | None]) -> Iterator[tuple[str, Tensor]]:
    """Outputs of the model with a usual mistake made; it is put back each time."""
    norms = [norm.module for norm in seen.norms.values() if isinstance(norm.module, nn.modules.batchnorm._BatchNorm)]
    for eps in OTHER_EPS:
        before = [norm.eps for norm in norms]
        for norm in norms:
            norm.eps = eps
        other = run(batch)
        for norm, own in zip(norms, before, strict=True):
            norm.eps = own
        if other is not None:
            yield f"it agrees with eps = {eps:g}", other
    fronts = [seen.kinds[n.producer] for n in seen.norms.values() if n.producer in seen.kinds]
    biases = [p for layer in fronts if isinstance(p := getattr(layer, "bias", None), Tensor)]
    for name, parts in {
        "it agrees without the biases of the layers in front": biases,
        "it agrees without beta": [n.bias for n in norms if n.bias is not None],
        "it agrees without the running means": [n.running_mean for n in norms if n.running_mean is not None],
    }.items():
        kept = [p.detach().clone() for p in parts]
        with torch.no_grad():
            for p in parts:
                p.zero_()
            other = run(batch)
            for p, own in zip(parts, kept, strict=True):
                p.copy_(own)
        if other is not None and parts:
            yield name, other


@rule(
    "deployed-company",
    "wrong",
    "What is deployed uses the batch: an example's answer depends on the others.",
    "Call model.eval() before it is exported or folded; an exported graph keeps its mode.",
    f"{PAGE}export",
    explains=("deployed-disagrees",),
)
def _deployed_company(seen: Seen) -> Iterator[Found]:
    if seen.deployed is not None and not seen.deployed.company <= tolerance(seen.model):
        yield Found([], [number("change of an answer with its company", seen.deployed.company, "0, but for rounding")])


@rule(
    "deployed-disagrees",
    "wrong",
    "What is deployed answers differently from the model in eval mode{what}.",
    "Fold in eval mode, with each norm's own eps, and with the layer's bias; then compare again.",
    f"{PAGE}deployment",
)
def _deployed_disagrees(seen: Seen) -> Iterator[Found]:
    if seen.deployed is not None and not seen.deployed.deviation <= tolerance(seen.model):
        found = [number("difference, relative to the largest output", seen.deployed.deviation, "0, but for rounding")]
        yield Found([], found, what=f"; {seen.deployed.cause}" if seen.deployed.cause else "")
