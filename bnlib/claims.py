"""A claim, the criterion that was written down before the run, what was measured, and the verdict that follows."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

from bnlib._array import number, said, whole
from bnlib.effects import LEAST, MOST, TIE, Effect
from bnlib.forest import Axis

MIME_TYPE = "application/vnd.bnlib.claim+json"

# Verdicts of a part. An exact part, and one without a region in which effects count as none, holds or does not.
HOLDS, SAME, OPPOSITE, SMALLER = "holds", "same", "opposite", "smaller than asked"
DOES_NOT_HOLD, AT_THE_MARGIN, OPEN = "does not hold", "at the margin", "open"
FAILS = (SAME, OPPOSITE, SMALLER, DOES_NOT_HOLD)
# Kinds of verdict of a claim, beside HOLDS, DOES_NOT_HOLD and OPEN: the parts disagree, or some of them are open.
MIXED, PARTLY_OPEN = "mixed", "partly open"
# What becomes of a part on other data.
TRANSFERS, WEAKER, TURNS = "transfers", "weaker", "turns"

OPERATORS = (">", "<", "within")
KINDS = ("exact", "statistical")
PRIMARY = 3  # parts at most that decide a claim
UNFOLDED = 4  # parts at most that decide nothing and stand open on the card

# Of each measure the region in which two variants count as equal, the same throughout the book.
# A share of settings has a wider one than an accuracy: each seed tries a dozen.
REGIONS = {"accuracy": (-0.01, 0.01), "ratio": (1 / 1.5, 1.5), "decades": (-0.5, 0.5), "share": (-0.1, 0.1)}


@dataclass(frozen=True)
class Criterion:
    """What the effect must be for the claim to hold.

    The margin makes ">" and "<" harder by that much, and is the half-width of "within": the effect must lie above
    value + margin, below value - margin, or between value - margin and value + margin. :func:`more`, :func:`less` and
    :func:`same` make the book's usual ones.

    Attributes
    ----------
    operator : ">", "<" or "within"
    value, margin : in the effect's unit; the margin is not negative
    region : from where to where two variants count as equal, if there is such a region; by keyword. For "within" it
        is what the effect must lie in

    Raises
    ------
    ValueError
        If the operator is unknown, if a number is not finite, if the margin is negative, or if the region is none.
    """

    operator: str
    value: float
    margin: float = 0.0
    _: KW_ONLY
    region: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Reject what no effect could be compared with."""
        if not isinstance(self.operator, str) or self.operator not in OPERATORS:
            raise ValueError(f"operator is {said(self.operator)}: choose one of {OPERATORS}")
        if not math.isfinite(number(self.value)) or not 0 <= number(self.margin) < math.inf:
            raise ValueError(
                f"value is {said(self.value)} and margin {said(self.margin)}: both must be finite, the margin >= 0"
            )
        if self.region is not None:
            if not isinstance(self.region, tuple | list) or len(self.region) != 2:
                raise ValueError(f"region is {said(self.region)}: give a pair (low, high)")
            if not -math.inf < number(self.region[0]) < number(self.region[1]) < math.inf:
                raise ValueError(f"region is {self.region}: give two finite numbers, the smaller first")

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which numbers the effect must lie; infinite where it need not."""
        above, below = self.value + self.margin, self.value - self.margin
        match self.operator:
            case ">":
                return above, math.inf
            case "<":
                return -math.inf, below
            case _:
                return self.region or (below, above)

    def judge(self, low: float, high: float) -> str:
        """The verdict on an effect that lies between low and high; a ValueError if these are not two such numbers."""
        if not number(low) <= number(high):
            raise ValueError(f"low is {said(low)} and high {said(high)}: give two numbers, the smaller first")
        least, most = self.bounds
        if self.operator == "within":
            holds, fails = least <= low and high <= most, high < least or most < low
        elif self.operator == ">":
            holds, fails = low > least, high <= least
        else:
            holds, fails = high < most, low >= most
        if holds or not fails:
            return HOLDS if holds else OPEN
        if self.operator == "within" or self.region is None:
            return DOES_NOT_HOLD
        below, above = self.region
        if below <= low and high <= above:
            return SAME
        return OPPOSITE if (high < below if self.operator == ">" else low > above) else SMALLER

    def proof(self, verdict: str) -> list[tuple[float, str]]:
        """What a verdict says of the effect: on which side of which bounds it lies; nothing if it is open."""
        least, most = self.bounds
        beyond = ">" if self.operator == ">" else "<"
        sides = {"<": ">", ">": "<"}
        match verdict:
            case "holds" if self.operator == "within":
                return [(least, ">"), (most, "<")]
            case "holds":
                return [(least if self.operator == ">" else most, beyond)]
            case "same":
                return [] if self.region is None else [(self.region[0], ">"), (self.region[1], "<")]
            case "opposite":
                return [] if self.region is None else [(self.region[0 if self.operator == ">" else 1], sides[beyond])]
            case "smaller than asked" | "does not hold" if self.operator != "within":
                return [(least if self.operator == ">" else most, sides[beyond])]
        return []

    def __str__(self) -> str:
        """Such as "> 1 by more than 0.1" or "within 0 ± 0.5"."""
        if self.operator == "within" and self.region is not None:
            return f"between {self.region[0]:.3g} and {self.region[1]:.3g}"
        sign = "±" if self.operator == "within" else "by more than"
        value = f"{self.value:g}" if self.region is None else f"{self.value:.3g}"
        return f"{self.operator} {value}" + (f" {sign} {self.margin:g}" if self.margin else "")


def more(measure: str, than: float | None = None) -> Criterion:
    """More of a measure of ``REGIONS`` than its region of equality reaches, or more than another number."""
    region = _region(measure)
    return Criterion(">", region[1] if than is None else than, region=region)


def less(measure: str, than: float | None = None) -> Criterion:
    """Less of a measure of ``REGIONS`` than its region of equality reaches, or less than another number."""
    region = _region(measure)
    return Criterion("<", region[0] if than is None else than, region=region)


def same(measure: str) -> Criterion:
    """As much of a measure of ``REGIONS``: within its region of equality."""
    region = _region(measure)
    return Criterion("within", sum(region) / 2, region=region)


def _region(measure: str) -> tuple[float, float]:
    if not isinstance(measure, str) or measure not in REGIONS:
        raise ValueError(f"measure is {said(measure)}: choose one of {list(REGIONS)}")
    return REGIONS[measure]


@dataclass(frozen=True, eq=False)
class Part:
    """The effect under one condition, such as "depth 12", and what follows from it.

    Attributes
    ----------
    condition : empty for a claim of one part
    effect : an effect of :mod:`bnlib.effects` at the look that settled it, or the last; of an exact claim a number
    n : the number of seeds or cases
    verdict : empty where the part does not decide
    data : of a part on other data, their name; its verdict is then about ``condition`` there
    """

    condition: str
    effect: Effect | float
    n: int
    verdict: str = ""
    data: str = ""

    @property
    def value(self) -> float:
        """The estimate."""
        return self.effect.value if isinstance(self.effect, Effect) else self.effect

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds of its interval; of an exact part a point."""
        return (self.effect.low, self.effect.high) if isinstance(self.effect, Effect) else (self.effect, self.effect)


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """A claim with its measurement; as the last line of a notebook cell it shows itself with its verdict.

    :meth:`measured` and :meth:`exact` make one. A claim that fails is a result: nothing is raised for it.

    Attributes
    ----------
    id, chapter : the claim's name in the ledger, and the chapter's file name
    statement : one sentence, plain text, which names architecture, data and optimizer
    source : who claims it: text or a citation key
    criterion : what the effect must be
    kind : "exact" for an identity, "statistical" for an effect over seeds
    parts : the effects that decide, at most three of them statistical
    others : effects under further conditions, which are shown and decide nothing
    transfers : of some parts the effects on other data
    unit : the effect's unit, empty for a pure number
    overlap : the ratio of test to training examples, where the seeds are splits of one data set; 0 elsewhere
    notes : what else a reader must know of the measurement
    picked : of each arm the settings that were picked for it, in words; on the card, and not in its text
    """

    id: str
    chapter: str
    statement: str
    source: str
    criterion: Criterion
    kind: str
    parts: tuple[Part, ...]
    others: tuple[Part, ...] = ()
    transfers: tuple[Part, ...] = ()
    unit: str = ""
    overlap: float = 0.0
    notes: tuple[str, ...] = ()
    picked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Reject what cannot be a measurement."""
        name = f"claim {self.id!r}"
        if self.kind not in KINDS:
            raise ValueError(f"{name} has kind {said(self.kind)}: choose one of {KINDS}")
        _checked(vars(self))
        if not 0 <= number(self.overlap) < math.inf:
            raise ValueError(f"{name} has overlap {said(self.overlap)}: give test examples / training examples")
        if not self.parts:
            raise ValueError(f"{name} has no part: give an effect, or a dict with one for each condition")
        conditions = [part.condition for part in self.parts]
        if len(self.parts) > 1 and ("" in conditions or len(set(conditions)) < len(self.parts)):
            raise ValueError(f"{name} has a condition twice, or one without a name")
        if self.kind == "statistical" and len(self.parts) > PRIMARY:
            raise ValueError(
                f"{name} has {len(self.parts)} parts: name those that decide, at most {PRIMARY}, as primary=[...]"
            )

    @classmethod
    def measured(
        cls,
        *,
        effect: Effect | Mapping[str, Effect],
        primary: Sequence[str] = (),
        transfer: Mapping[str, Mapping[str, Effect]] | None = None,
        **about: Any,
    ) -> Self:
        """A statistical claim from an effect of :mod:`bnlib.effects`, or from a dict with one for each condition.

        Each part that decides is looked at after 8, 16, 32 and 64 seeds, as many as there are, until it is settled.

        Parameters
        ----------
        effect : an effect, or effects by condition
        primary : the conditions that decide, named before the run; where none are named, all of at most three
        transfer : by the names of other data, effects there by those conditions
        about : id, chapter, statement, source, criterion, and where they apply unit and overlap

        Raises
        ------
        ValueError
            If there is no effect or one was not measured, if more than three parts would decide, if a condition is
            unknown, and as for a Claim.
        """
        effects = dict(effect) if isinstance(effect, Mapping) else {"": effect}
        transfer = transfer or {}
        for e in [*effects.values(), *(e for there in transfer.values() for e in there.values())]:
            if not isinstance(e, Effect):
                raise ValueError(
                    f"effect is {said(e)}: give what bnlib.effects returns, such as difference(a, b), "
                    "or use Claim.exact"
                )
        deciding = list(primary) or list(effects)
        named = [*deciding, *(condition for there in transfer.values() for condition in there)]
        if unknown := [condition for condition in named if condition not in effects]:
            raise ValueError(f"there are no effects for {unknown}: choose of {list(effects)}")
        criterion = _checked(about)
        parts = {c: _looked(c, effects[c], criterion) for c in deciding}
        others = tuple(Part(c, e, e.n) for c, e in effects.items() if c not in parts)
        moved = tuple(_looked(c, e, criterion, data) for data, there in transfer.items() for c, e in there.items())
        return cls(kind="statistical", parts=tuple(parts.values()), others=others, transfers=moved, **about)

    @classmethod
    def exact(cls, *, effect: float | Mapping[str, float], n: int = 1, **about: Any) -> Self:
        """An exact claim from the largest deviation found in n cases, or from a dict with one for each condition.

        ``about`` holds id, chapter, statement, source, criterion and unit.
        """
        if (whole(n) or 0) < 1:
            raise ValueError(f"n is {said(n)}: give the number of cases, a whole one from 1 up")
        effects = dict(effect) if isinstance(effect, Mapping) else {"": effect}
        for condition, value in effects.items():
            if not math.isfinite(number(value)):
                raise ValueError(f"the effect {condition or 'of the claim'} is {said(value)}: give a finite number")
        criterion = _checked(about)
        held = {c: criterion.judge(float(v), float(v)) == HOLDS for c, v in effects.items()}
        parts = tuple(Part(c, float(v), n, HOLDS if held[c] else DOES_NOT_HOLD) for c, v in effects.items())
        return cls(kind="exact", parts=parts, **about)

    @property
    def verdict(self) -> str:
        """HOLDS, DOES_NOT_HOLD, MIXED, PARTLY_OPEN or OPEN, the kind of the verdict."""
        holds, fails, left = (len(self._with(kind)) for kind in ((HOLDS,), FAILS, (OPEN, AT_THE_MARGIN)))
        if holds and fails:
            return MIXED
        if left:
            return PARTLY_OPEN if holds or fails else OPEN
        return HOLDS if holds else DOES_NOT_HOLD

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions for which the claim holds; none if it has no conditions."""
        return tuple(part.condition for part in self._with((HOLDS,)) if part.condition)

    def _with(self, verdicts: Sequence[str]) -> list[Part]:
        return [part for part in self.parts if part.verdict in verdicts]

    @property
    def headline(self) -> str:
        """The verdict in words, with the conditions where they disagree; what is open is always named."""
        names = {kind: listed([part.condition for part in self._with(kind)]) for kind in ((HOLDS,), FAILS, _LEFT)}
        if len(self.parts) == 1:
            verdict = self.parts[0].verdict
            return f"{DOES_NOT_HOLD}: {verdict}" if verdict in FAILS and verdict != DOES_NOT_HOLD else verdict
        if self.verdict in (HOLDS, DOES_NOT_HOLD, OPEN):
            return self.verdict
        if names[HOLDS,] and not names[FAILS]:
            text = f"holds in {len(self.conditions)} of {len(self.parts)}"
        else:
            told = (("holds for", (HOLDS,)), ("fails for", FAILS))
            text = "; ".join(f"{words} {names[kind]}" for words, kind in told if names[kind])
        return f"{text}; open: {names[_LEFT]}" if names[_LEFT] else text

    def moved(self, part: Part) -> str:
        """What becomes of a part on other data: TRANSFERS, WEAKER, TURNS, or its verdict there if either is open."""
        here = next((own.verdict for own in self.parts if own.condition == part.condition), "")
        if part.verdict not in (HOLDS, *FAILS) or here not in (HOLDS, *FAILS):
            return part.verdict
        if (part.verdict == HOLDS) == (here == HOLDS):
            return TRANSFERS
        turned = here != HOLDS or part.verdict == OPPOSITE or self.criterion.operator == "within"
        return TURNS if turned else WEAKER

    def chance(self, part: Part, overlap: float = 0.0) -> float | None:
        """How likely seeds would speak so clearly for a verdict if it were wrong; None where a part is open.

        By :meth:`bnlib.effects.Effect.chance`, one-sided; where failures decide, by McNemar's test. An effect made by
        hand has none.
        """
        e = part.effect
        if not isinstance(e, Effect) or e.samples is None or part.verdict not in (HOLDS, *FAILS):
            return None
        if e.pairs < LEAST:
            return e.mcnemar
        if self.criterion.operator == "within" and part.verdict == DOES_NOT_HOLD:  # it lies on either side
            least, most = self.criterion.bounds
            return min(1.0, 2 * min(e.chance(least, "<", overlap), e.chance(most, ">", overlap)))
        return max(e.chance(bound, side, overlap) for bound, side in self.criterion.proof(part.verdict))

    def __str__(self) -> str:
        """The claim as a block of plain text."""
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {text}" for name, text in rows]
        return "\n".join([f"Claim {self.id}: {self.statement}", *lines, f"  Verdict: {self.headline}"])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": str(self), "text/html": self._html(), MIME_TYPE: self._json()}

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("Criterion", self._with_unit(str(self.criterion))),
            *((self._name(part), self._told(part)) for part in self._all),
            *(("Note", note) for note in self.notes),
            ("Source", self.source),
        ]

    @property
    def _all(self) -> tuple[Part, ...]:
        return self.parts + self.transfers + self.others

    def _name(self, part: Part) -> str:
        """What the part's row is called, of a claim without conditions by what it holds."""
        return ", ".join(filter(None, (part.condition or "Effect", part.data and f"on {part.data}")))

    def _told(self, part: Part) -> str:
        """Effect, interval, number of seeds and verdict of a part, in words."""
        counted = ("seed" if self.kind == "statistical" else "case") + ("s" if part.n != 1 else "")
        text = f"{self._effect_text(part)}, {part.n} {counted}"
        verdict = self.moved(part) if part.data else part.verdict
        return f"{text}: {verdict}" if verdict else text

    def _html(self) -> str:
        def row(part: Part) -> str:
            kind = "other" if not part.verdict else "transfer" if part.data else "part"
            return (
                f'<tr class="bn-{kind}"><th scope="row">{html.escape(self._name(part))}</th><td><div class="bn-effect">'
                f"{plot.row(part)}<span>{html.escape(self._told(part))}</span></div></td></tr>\n"
            )

        def table(parts: Sequence[Part]) -> str:
            rows = "".join(map(row, parts))
            return f'<table class="bn-claim-table">\n<tbody>\n{rows}{plot.last()}</tbody>\n</table>\n'

        plot = Forest(self)
        folded = len(self.others) > UNFOLDED
        shown = self.parts + self.transfers + (() if folded else self.others)
        picks = "".join(f"<li>{html.escape(text)}</li>\n" for text in self.picked)
        return (
            f'<section class="bn-claim bn-{self.verdict.replace(" ", "-")}" id="claim-{html.escape(self.id)}">\n'
            f'<p class="bn-claim-statement">{html.escape(self.statement)}</p>\n'
            f'<p class="bn-claim-criterion">Criterion: {html.escape(self._with_unit(str(self.criterion)))}</p>\n'
            + table(shown)
            + (_fold(f"{len(self.others)} further conditions, which decide nothing", table(self.others)) * folded)
            + "".join(f'<p class="bn-claim-note">Note: {html.escape(note)}</p>\n' for note in self.notes)
            + (_fold("What was picked", f"<ul>\n{picks}</ul>\n") if picks else "")
            + f'<p class="bn-claim-source">Source: {html.escape(self.source)}</p>\n'
            f'<p class="bn-claim-verdict">Verdict: {html.escape(self.headline)}</p>\n</section>'
        )

    def _json(self) -> dict[str, Any]:
        region = self.criterion.region
        return {
            "id": self.id,
            "chapter": self.chapter,
            "statement": self.statement,
            "source": self.source,
            "criterion": {
                "operator": self.criterion.operator,
                "value": float(self.criterion.value),
                "margin": float(self.criterion.margin),
                "region": None if region is None else [float(f"{bound:.6g}") for bound in region],
                "text": self._with_unit(str(self.criterion)),
            },
            "kind": self.kind,
            "unit": self.unit,
            "overlap": float(f"{self.overlap:.6g}"),
            "parts": [self._numbers(part) for part in self.parts],
            "others": [self._numbers(part) for part in self.others],
            "transfers": [
                {"data": part.data, **self._numbers(part), "moved": self.moved(part)} for part in self.transfers
            ],
            "verdict": self.verdict,
            "conditions": list(self.conditions),
            "headline": self.headline,
            "notes": list(self.notes),
            "picked": list(self.picked),
        }

    def _numbers(self, part: Part) -> dict[str, Any]:
        numbers: dict[str, Any] = {"condition": part.condition, "verdict": part.verdict, "n": int(part.n)}
        hidden = self._is_noise(part) or (isinstance(part.effect, Effect) and part.effect.pairs < LEAST)

        def plain(value: float) -> float | None:
            return None if hidden or not math.isfinite(value) else rounded(value, self._precision(part))

        numbers |= {"effect": plain(part.value), "interval": [plain(bound) for bound in part.interval]}
        numbers["text"] = self._effect_text(part)
        if isinstance(e := part.effect, Effect):
            numbers |= {
                "confidence": e.confidence,
                "failed": list(e.failed),
                "left out": e.left_out,
                "at budget": list(e.at_budget),
                "failures": list(e.failures),
                "failures by chance": _likelihood(e.mcnemar),
                "by the other method": judged(e, self.criterion, e.other),
                "chance": _likelihood(self.chance(part)),
                "chance, resampled": _likelihood(self.chance(part, self.overlap)),
            }
        return numbers

    def _effect_text(self, part: Part) -> str:
        if self._is_noise(part):
            return f"< {self.criterion.value - self.criterion.margin:g}"
        if not isinstance(e := part.effect, Effect):
            return _shown(part.value, self._precision(part))
        text = f"fewer than {LEAST} pairs are left"
        if e.pairs >= LEAST:
            effect, low, high = (_shown(x, self._precision(part)) for x in (e.value, e.low, e.high))
            width = "of no visible width" if low == effect == high else f"{low} to {high}"
            sign = {(True, False): "≥ ", (False, True): "≤ "}.get((e.at_budget[0] > 0, e.at_budget[1] > 0), "")
            text = f"{sign}{effect} ({100 * e.confidence:g} % interval {width})"
        if any(e.failures):
            budget = e.samples is not None and e.samples.ratio and e.samples.goal is not None
            text += f"; {'not there in time' if budget else 'failed'}: {' and '.join(map(str, e.failures))} of {e.n}"
            if len(e.failures) > 1 and e.mcnemar <= 1 - e.confidence:  # also where the effect decides, it must be known
                text += f" (p = {_likelihood(e.mcnemar):.1g})"
        own, other = OPEN if part.verdict == AT_THE_MARGIN else part.verdict, judged(e, self.criterion, e.other)
        if own and own != other and e.pairs >= LEAST:
            text += f"; by {'Student’s t' if e.by_ranks else 'signed ranks'}: {other}"
        return text

    def _is_noise(self, part: Part) -> bool:
        """Whether only "below the criterion" is worth printing: how far below differs from one CPU to the next."""
        return self.kind == "exact" and self.criterion.operator == "<" and part.verdict == HOLDS

    def _precision(self, part: Part) -> float:
        """How well the effect is known: the interval's shorter side; for as good as a point, a tenth of the effect."""
        (low, high), least = part.interval, abs(part.value) * 1e-4
        sides = [side for side in (part.value - low, high - part.value) if least < side < math.inf]
        if not sides:
            return max(abs(float(f"{part.value:.4g}")) / 10, self.criterion.margin)  # 1 - 1e-9 has the digits of 1
        return min(sides)

    def _with_unit(self, text: str) -> str:
        return f"{text} ({self.unit})" if self.unit else text


_LEFT = (OPEN, AT_THE_MARGIN)


def judged(effect: Effect, criterion: Criterion, interval: tuple[float, float, float] | None = None) -> str:
    """The verdict on an effect, by its interval or by another; where fewer than eight pairs are left, by the failures.

    Failures decide if they are as unequal as chance makes them in no more cases than the interval leaves out. Of a mean
    they say that it lies below the threshold of having learned; two variants of which one fails are not the same.
    """
    _, low, high = interval or (effect.value, effect.low, effect.high)
    if effect.pairs >= LEAST:
        return criterion.judge(_tied(low, criterion), _tied(high, criterion))
    if effect.samples is None or not effect.leaning or effect.mcnemar > 1 - effect.confidence:
        return OPEN
    if len(effect.failures) == 1:
        return criterion.judge(-math.inf, effect.samples.goal or 0.0)
    if criterion.operator == "within":
        least, most = criterion.bounds
        return DOES_NOT_HOLD if least <= effect.samples.ratio <= most else OPEN  # equal are a ratio of 1, 0 otherwise
    if (effect.leaning > 0) == (criterion.operator == ">"):
        return HOLDS
    return DOES_NOT_HOLD if criterion.region is None else OPPOSITE


def _tied(bound: float, criterion: Criterion) -> float:
    """The bound of an interval; where it differs by rounding alone from a number of the criterion, that number."""
    marks = (*criterion.bounds, *(criterion.region or ()))
    return next((mark for mark in marks if math.isclose(bound, mark, rel_tol=TIE)), bound)


def _checked(about: Mapping[str, Any]) -> Criterion:
    if not isinstance(criterion := about.get("criterion"), Criterion):
        raise ValueError(
            f"claim {about.get('id')!r} has criterion {said(criterion)}: make one, such as Criterion('>', 1.0)"
        )
    return criterion


def _looked(condition: str, effect: Effect, criterion: Criterion, data: str = "") -> Part:
    """The part at the first look that settles it; with all looks taken it is at the margin, else open."""
    look = effect
    for look in effect.looks:
        if (verdict := judged(look, criterion)) != OPEN:
            return Part(condition, look, look.n, verdict, data)
    return Part(condition, look, look.n, AT_THE_MARGIN if look.n >= MOST else OPEN, data)


def listed(names: Sequence[str]) -> str:
    """Names as a list in words."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _fold(summary: str, inside: str) -> str:
    return f'<details class="bn-claim-fold">\n<summary>{summary}</summary>\n{inside}</details>\n'


def _likelihood(value: float | None) -> float | None:
    """Two digits are enough, and below a billionth none."""
    return None if value is None else float(f"{max(value, 1e-9):.2g}")


class Forest:
    """The intervals of a claim's parts on one axis, as pictures for the rows of its card."""

    def __init__(self, claim: Claim) -> None:
        parts = [part for part in claim._all if isinstance(part.effect, Effect) and part.effect.pairs >= LEAST]
        self.claim, self.shown = claim, claim.kind == "statistical" and bool(parts)
        if self.shown:
            region = claim.criterion.region
            asked = [bound for bound in claim.criterion.bounds if math.isfinite(bound)]
            effects = [part.effect for part in parts if isinstance(part.effect, Effect)]
            ratios = all(e.samples is not None and e.samples.ratio for e in effects)
            log = ratios and min(*asked, *(region or asked)) > 0
            self.axis = Axis([x for part in parts for x in self.interval(part)], asked, region, log=log)

    def interval(self, part: Part) -> tuple[float, float, float]:
        """Estimate and bounds as the card gives them."""
        precision = self.claim._precision(part)
        value, low, high = (rounded(x, precision) if math.isfinite(x) else x for x in (part.value, *part.interval))
        return value, low, high

    def row(self, part: Part) -> str:
        """The picture of one part."""
        if not self.shown or not isinstance(part.effect, Effect):
            return ""
        return self.axis.row(self.interval(part) if part.effect.pairs >= LEAST else None)

    def last(self) -> str:
        """The last row of the card: the ends of the axis."""
        if not self.shown:
            return ""
        low, high = self.axis.ends
        return (
            f'<tr class="bn-axis"><td></td><td><span>{low}</span><span>{high}</span> '
            f"{html.escape(self.claim.unit)}</td></tr>\n"
        )


def rounded(value: float, precision: float) -> float:
    """The value rounded to the second significant digit of its precision, so that another CPU gives the same."""
    return round(_without_noise(value), _decimals(precision)) + 0.0 if precision else float(value)  # + 0.0: no -0.0


def _shown(value: float, precision: float) -> str:
    """The rounded value as text, with the zeros that its precision gives meaning to."""
    value = rounded(value, precision)
    if value == 0:
        return "0"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    decimals, exponent = _decimals(precision), math.floor(math.log10(abs(value)))
    if -5 < exponent < 6:
        return f"{value:.{max(decimals, 0)}f}"
    return f"{value:.{max(decimals + exponent, 0)}e}"


def _decimals(precision: float) -> int:
    return 1 - math.floor(math.log10(_without_noise(precision)))


def _without_noise(value: float) -> float:
    """Ten significant digits: a tie, such as 0.125, and a power of ten then fall the same way on every CPU."""
    return float(f"{value:.10g}")
