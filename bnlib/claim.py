"""A claim, the criterion that was written down before the run, what was measured, and the verdict that follows."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from bnlib._array import number, said, whole
from bnlib.paired import MIN_SEEDS, Effect

MIME_TYPE = "application/vnd.bnlib.claim+json"

HOLDS, HOLDS_ONLY_IF, DOES_NOT_HOLD, NOT_SETTLED = "holds", "holds only if", "does not hold", "not settled"
OPERATORS = (">", "<", "within")
KINDS = ("exact", "statistical")


@dataclass(frozen=True)
class Criterion:
    """What the effect must be for the claim to hold.

    The margin makes ">" and "<" harder by that much, and is the half-width of "within": the effect must lie above
    value + margin, below value - margin, or between value - margin and value + margin.

    Attributes
    ----------
    operator : ">", "<" or "within"
    value, margin : in the effect's unit; the margin is not negative

    Raises
    ------
    ValueError
        If the operator is unknown, if a number is not finite, or if the margin is negative.
    """

    operator: str
    value: float
    margin: float = 0.0

    def __post_init__(self) -> None:
        """Reject what no effect could be compared with."""
        if not isinstance(self.operator, str) or self.operator not in OPERATORS:
            raise ValueError(f"operator is {said(self.operator)}: choose one of {OPERATORS}")
        if not math.isfinite(number(self.value)) or not 0 <= number(self.margin) < math.inf:
            raise ValueError(
                f"value is {said(self.value)} and margin {said(self.margin)}: both must be finite, the margin >= 0"
            )

    def judge(self, low: float, high: float) -> str:
        """The verdict on an effect that lies between low and high; a ValueError if these are not two such numbers."""
        if not number(low) <= number(high):
            raise ValueError(f"low is {said(low)} and high {said(high)}: give two numbers, the smaller first")
        above, below = self.value + self.margin, self.value - self.margin
        match self.operator:
            case ">":
                holds, fails = low > above, high <= above
            case "<":
                holds, fails = high < below, low >= below
            case _:
                holds, fails = below <= low and high <= above, high < below or above < low
        return HOLDS if holds else DOES_NOT_HOLD if fails else NOT_SETTLED

    def __str__(self) -> str:
        """Such as "> 1 by more than 0.1" or "within 0 ± 0.5"."""
        sign = "±" if self.operator == "within" else "by more than"
        return f"{self.operator} {self.value:g}" + (f" {sign} {self.margin:g}" if self.margin else "")


class Part(NamedTuple):
    """The effect under one condition, such as "depth 12", with its interval and its number of seeds or cases."""

    condition: str
    effect: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim with its measurement; as the last line of a notebook cell it shows itself with its verdict.

    :meth:`measured` and :meth:`exact` are the short ways to make one. A claim that fails is a result: nothing is
    raised for it.

    Attributes
    ----------
    id, chapter : the claim's name in the ledger, and the chapter's file name
    statement : one sentence, plain text
    source : who claims it: text or a citation key
    criterion : what the effect must be
    kind : "exact" for an identity, whose interval is a point; "statistical" for an effect over seeds
    effect, interval : the effect and the bounds of its 95 % interval, in ``unit``; an exact claim needs no interval,
        a claim with parts needs neither
    n : the number of seeds (statistical) or cases (exact)
    parts : the effects under several conditions; where there are any, they alone decide the verdict
    unit : the effect's unit, empty for a pure number

    Raises
    ------
    ValueError
        If the kind is unknown, if there is no effect, if the criterion is none, if an interval is no pair or does not
        contain its effect, if the interval of an exact claim is not a point, if a number is not finite, if n is no
        whole number from 1 up, or if a statistical effect has fewer than eight seeds.
    """

    id: str
    chapter: str
    statement: str
    source: str
    criterion: Criterion
    kind: str
    effect: float | None = None
    interval: tuple[float, float] | None = None
    n: int = 1
    parts: tuple[Part, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        """Fill in the interval of an exact claim, and reject what cannot be a measurement."""
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ValueError(f"claim {self.id!r} has kind {said(self.kind)}: choose one of {KINDS}")
        if not isinstance(self.criterion, Criterion):
            raise ValueError(
                f"claim {self.id!r} has criterion {said(self.criterion)}: make one, such as Criterion('>', 1.0)"
            )
        if not isinstance(self.parts, tuple) or not all(isinstance(part, Part) for part in self.parts):
            raise ValueError(
                f"claim {self.id!r} has parts {said(self.parts)}: give a tuple of Part(condition, effect, interval, n)"
            )
        if self.kind == "exact" and self.effect is not None and self.interval is None:
            object.__setattr__(self, "interval", (self.effect, self.effect))
        if (self.effect is None) != (self.interval is None) or not (self.parts or self._whole):
            raise ValueError(
                f"claim {self.id!r} has effect {self.effect}, interval {self.interval} and {len(self.parts)} parts: "
                "give an effect with its interval, or parts"
            )
        for condition, effect, interval, n in self._whole + self.parts:
            name = f"claim {self.id!r}" + (f", {condition}," if condition else "")
            if not isinstance(interval, tuple | list) or len(interval) != 2:
                raise ValueError(f"{name} has interval {said(interval)}: give a pair (low, high)")
            if (whole(n) or 0) < 1:
                raise ValueError(f"{name} has n = {said(n)}: give the number of seeds or cases, a whole one from 1 up")
            low, high = interval
            if not all(math.isfinite(number(a)) for a in (effect, low, high)) or not low <= effect <= high:
                raise ValueError(
                    f"{name} has effect {said(effect)} and interval ({said(low)}, {said(high)}): "
                    "give finite numbers with low <= effect <= high"
                )
            if self.kind == "exact" and low != high:
                raise ValueError(f"{name} is exact, but has interval ({low}, {high}): leave the interval out")
            if self.kind == "statistical" and n < MIN_SEEDS:
                raise ValueError(f"{name} has n = {n}: a statistical claim needs at least {MIN_SEEDS} seeds")

    @classmethod
    def measured(cls, *, effect: Effect | Mapping[str, Effect], **about: Any) -> Self:
        """A statistical claim from an effect of :mod:`bnlib.paired`, or from a dict with one for each condition.

        ``about`` holds id, chapter, statement, source, criterion and unit.
        """
        for e in effect.values() if isinstance(effect, Mapping) else (effect,):
            if not isinstance(e, Effect):
                raise ValueError(
                    f"effect is {said(e)}: give what bnlib.paired returns, Effect(value, low, high, n), "
                    "or use Claim.exact"
                )
        if isinstance(effect, Mapping):
            parts = tuple(Part(condition, e.value, (e.low, e.high), e.n) for condition, e in effect.items())
            return cls(kind="statistical", parts=parts, **about)
        return cls(kind="statistical", effect=effect.value, interval=(effect.low, effect.high), n=effect.n, **about)

    @classmethod
    def exact(cls, *, effect: float | Mapping[str, float], n: int = 1, **about: Any) -> Self:
        """An exact claim from the largest deviation found in n cases, or from a dict with one for each condition.

        ``about`` holds id, chapter, statement, source, criterion and unit.
        """
        if isinstance(effect, Mapping):
            parts = tuple(Part(condition, value, (value, value), n) for condition, value in effect.items())
            return cls(kind="exact", parts=parts, **about)
        return cls(kind="exact", effect=effect, n=n, **about)

    @property
    def verdict(self) -> str:
        """HOLDS, HOLDS_ONLY_IF (the parts disagree), DOES_NOT_HOLD or NOT_SETTLED."""
        verdicts = {self._judge(part) for part in self.parts or self._whole}
        if len(verdicts) == 1:
            return verdicts.pop()
        return HOLDS_ONLY_IF if {HOLDS, DOES_NOT_HOLD} <= verdicts else NOT_SETTLED

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions of the parts for which the claim holds."""
        return tuple(part.condition for part in self.parts if self._judge(part) == HOLDS)

    @property
    def _whole(self) -> tuple[Part, ...]:
        """The claim's own effect, as a part without a condition, if it has one."""
        if self.effect is None or self.interval is None:
            return ()
        return (Part("", self.effect, self.interval, self.n),)

    def _judge(self, part: Part) -> str:
        return self.criterion.judge(*part.interval)

    def __str__(self) -> str:
        """The claim as a block of plain text."""
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {text}" for name, text in rows]
        return "\n".join([f"Claim {self.id}: {self.statement}", *lines, f"  Verdict: {self._verdict_text()}"])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": str(self), "text/html": self._html(), MIME_TYPE: self._json()}

    def _html(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(text)}</td></tr>\n'
            for name, text in self._rows()
        )
        return (
            f'<section class="bn-claim bn-{self.verdict.replace(" ", "-")}">\n'
            f'<p class="bn-claim-statement">{html.escape(self.statement)}</p>\n'
            f'<table class="bn-claim-table">\n<tbody>\n{rows}</tbody>\n</table>\n'
            f'<p class="bn-claim-verdict">Verdict: {html.escape(self._verdict_text())}</p>\n</section>'
        )

    def _json(self) -> dict[str, Any]:
        whole = [self._numbers(part) for part in self._whole]
        return {
            "id": self.id,
            "chapter": self.chapter,
            "statement": self.statement,
            "source": self.source,
            "criterion": {
                "operator": self.criterion.operator,
                "value": float(self.criterion.value),
                "margin": float(self.criterion.margin),
                "text": self._with_unit(str(self.criterion)),
            },
            "kind": self.kind,
            "unit": self.unit,
            **(whole[0] if whole else dict.fromkeys(("effect", "interval", "n", "text"))),
            "parts": [
                {"condition": part.condition, **self._numbers(part), "verdict": self._judge(part)}
                for part in self.parts
            ],
            "verdict": self.verdict,
            "conditions": list(self.conditions),
        }

    def _numbers(self, part: Part) -> dict[str, Any]:
        noise, precision = self._is_noise(part), self._precision(part)
        return {
            "effect": None if noise else rounded(part.effect, precision),
            "interval": None if noise else [rounded(bound, precision) for bound in part.interval],
            "n": int(part.n),
            "text": self._effect_text(part),
        }

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("Criterion", self._with_unit(str(self.criterion)))]
        rows += [("Effect", self._effect_text(part)) for part in self._whole]
        rows += [(part.condition, f"{self._effect_text(part)}: {self._judge(part)}") for part in self.parts]
        counts = dict.fromkeys(str(part.n) for part in self._whole + self.parts)  # each once, in order
        counted = "Seeds" if self.kind == "statistical" else "Cases"
        return [*rows, (counted, ", ".join(counts)), ("Source", self.source)]

    def _verdict_text(self) -> str:
        return f"{self.verdict}: {'; '.join(self.conditions)}" if self.verdict == HOLDS_ONLY_IF else self.verdict

    def _effect_text(self, part: Part) -> str:
        if self._is_noise(part):
            return f"< {self.criterion.value - self.criterion.margin:g}"
        effect, low, high = (_shown(x, self._precision(part)) for x in (part.effect, *part.interval))
        if self.kind == "exact":
            return effect
        return f"{effect} (95 % interval {'of no visible width' if low == effect == high else f'{low} to {high}'})"

    def _is_noise(self, part: Part) -> bool:
        """Whether only "below the criterion" is worth printing: how far below differs from one CPU to the next."""
        return self.kind == "exact" and self.criterion.operator == "<" and self._judge(part) == HOLDS

    def _precision(self, part: Part) -> float:
        """How well the effect is known: the interval's shorter side; for as good as a point, a tenth of the effect."""
        (low, high), least = part.interval, abs(part.effect) * 1e-4
        sides = [side for side in (part.effect - low, high - part.effect) if side > 0]
        if max(sides, default=0) <= least:
            return max(abs(float(f"{part.effect:.4g}")) / 10, self.criterion.margin)  # 1 - 1e-9 has the digits of 1
        return max(min(sides), least)

    def _with_unit(self, text: str) -> str:
        return f"{text} ({self.unit})" if self.unit else text


def rounded(value: float, precision: float) -> float:
    """The value rounded to the second significant digit of its precision, so that another CPU gives the same."""
    return round(_without_noise(value), _decimals(precision)) + 0.0 if precision else float(value)  # + 0.0: no -0.0


def _shown(value: float, precision: float) -> str:
    """The rounded value as text, with the zeros that its precision gives meaning to."""
    value = rounded(value, precision)
    if value == 0:
        return "0"
    decimals, exponent = _decimals(precision), math.floor(math.log10(abs(value)))
    if -5 < exponent < 6:
        return f"{value:.{max(decimals, 0)}f}"
    return f"{value:.{max(decimals + exponent, 0)}e}"


def _decimals(precision: float) -> int:
    return 1 - math.floor(math.log10(_without_noise(precision)))


def _without_noise(value: float) -> float:
    """Ten significant digits: a tie, such as 0.125, and a power of ten then fall the same way on every CPU."""
    return float(f"{value:.10g}")
