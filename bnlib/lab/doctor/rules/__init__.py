"""What the doctor knows: a rule is a small function beside its sentence, one module for each kind.

A new rule is one function under :func:`bnlib.lab.doctor.rules.rule.rule`. Among equally severe findings the rule that
stands first in the catalogue is named first.
"""

from __future__ import annotations

from bnlib.lab.doctor.look import Norm, Seen
from bnlib.lab.doctor.report import SEVERITIES, Finding, Report

# Importing a module enters its rules into the catalogue, in this order.
from bnlib.lab.doctor.rules import (  # noqa: F401
    batches,
    deployed,
    modes,
    precision,
    statistics,
    training,
    units,
)
from bnlib.lab.doctor.rules.deployed import compared
from bnlib.lab.doctor.rules.modes import APART
from bnlib.lab.doctor.rules.rule import RULES, Rule
from bnlib.lab.doctor.rules.training import grows

__all__ = ["APART", "RULES", "Rule", "compared", "grows", "judge", "trained"]


# Of the model as a whole, or what one cause spreads through it.
OF_ALL = {"modes-apart", "company", "other-source", "not-finite", "deployed-disagrees", "half-range", "flat-units"}


def trained(seen: Seen, norm: Norm) -> bool:
    """Whether there is a sign that a norm has been trained: the optimizer's, or its gamma and beta.

    One without gamma and beta has been if another one has.
    """
    if norm.gamma is None or norm.beta is None:
        return any(
            trained(seen, other) for other in seen.norms.values() if other.gamma is not None and other.beta is not None
        )
    states = [seen.optimizer.state.get(p) for p in (norm.gamma, norm.beta)] if seen.optimizer is not None else []
    if any(state and float(state.get("step", 1)) > 0 for state in states):
        return True
    return bool(norm.beta.any()) and len(norm.gamma.unique()) > 1


def judge(seen: Seen) -> Report:
    """The findings of all rules, worst first, without those that another one explains."""
    found = [finding for rule in RULES for finding in rule.findings(seen)]
    rules = {rule.name: rule for rule in RULES}
    kept = [f for f in found if not any(_explained(f, rules[g.rule], g) for g in found if g is not f)]
    kept.sort(key=lambda f: SEVERITIES.index(f.severity))  # stable: the catalogue's order within
    return Report(tuple(kept), tuple(unsettled(seen)), looked(seen))


def _explained(finding: Finding, rule: Rule, by: Finding) -> bool:
    shared = set(finding.modules) & set(by.modules)
    return finding.rule in rule.explains and (finding.rule in OF_ALL or bool(shared))


def unsettled(seen: Seen) -> list[str]:
    """What cannot be judged, and why."""
    sentences = []
    if not seen.norms:
        sentences.append("There is no batch norm module: only what the model does was looked at.")
    early = [n for n in seen.norms.values() if n.training and statistics.early(seen, n)]
    fresh = [n for n in seen.norms.values() if statistics.never(n) and not n.trained]
    if fresh:
        sentences.append("Too early to tell whether the running statistics fit: they have seen no batch.")
    elif far := statistics.misfits(seen, norms=early):
        least = min(seen.norms[name].steps or 0 for name in far)
        sentences.append(
            f"Too early to tell whether the running statistics fit: after {least} updates those of {len(far)} of "
            f"{len(seen.norms)} norms do not, but then the weights move fast."
        )
    if seen.batches < 3:
        sentences.append("Whether the batches are alike was not looked at: that takes three or more.")
    if seen.optimizer is None and not seen.used:
        sentences.append("Steps were not tried: that takes the optimizer.")
    if seen.raised and seen.used and not seen.was_training:
        sentences.append("Train mode was not looked at: that takes batches of more than one example.")
    return [*sentences, *seen.open]


def looked(seen: Seen) -> str:
    """What was looked at, in words."""
    norms = f"{len(seen.norms)} batch norm{'s' * (len(seen.norms) != 1)}"
    given = f"{seen.batches} batch{'es' * (seen.batches != 1)} of {seen.examples}"
    return f"{norms}, {given}, {'as it is used' if seen.used else 'as it is trained'}"
