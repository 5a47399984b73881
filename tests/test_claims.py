import dataclasses
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bnlib.claims import (
    AT_THE_MARGIN,
    DOES_NOT_HOLD,
    HOLDS,
    MIME_TYPE,
    MIXED,
    OPEN,
    OPPOSITE,
    PARTLY_OPEN,
    REGIONS,
    SAME,
    SMALLER,
    TRANSFERS,
    TURNS,
    UNFOLDED,
    WEAKER,
    Claim,
    Criterion,
    Forest,
    Part,
    judged,
    less,
    more,
    rounded,
    same,
)
from bnlib.effects import Effect, Interval, difference, mean, ratio

ABOVE_1 = Criterion(">", 1.0)
MORE = Criterion(">", 0.1, region=(-0.1, 0.1))  # margins of 0.1 in both directions
LESS = Criterion("<", -0.1, region=(-0.1, 0.1))
ALIKE = Criterion("within", 0, region=(-0.1, 0.1))


def about(criterion: Any = ABOVE_1, **kw) -> dict[str, Any]:
    return {
        "id": "faster",
        "chapter": "08_training",
        "statement": "Batch norm trains faster.",
        "source": "ioffe2015batch",
        "criterion": criterion,
    } | kw


def by_hand(low: float, high: float, n: int = 16, value: float | None = None, **kw) -> Effect:
    value = (low + high) / 2 if value is None else value
    return Effect(value, low, high, n, 0.98 if n >= 64 else 0.99, Interval(value, low, high), **kw)


def measured(low, high, criterion=ABOVE_1, n=16, value=None, **kw: Any) -> Claim:
    return Claim.measured(**about(criterion, effect=by_hand(low, high, n, value), **kw))


def with_parts(criterion: Any = MORE, transfer: Any = None, **intervals: Any) -> Claim:
    effects = {name: by_hand(*ends, n=64) for name, ends in intervals.items()}
    return Claim.measured(**about(criterion, effect=effects, transfer=transfer))


def bundle(claim):
    return claim._repr_mimebundle_()


def shown(claim):
    return bundle(claim)[MIME_TYPE]


def drawn(centre: float, spread: float = 0.008, n: int = 64, seed: int = 0) -> Effect:
    """A difference of skewed values, at exactly a centre and symmetrical about it."""
    a, b = np.random.default_rng(seed).gamma(4, spread / math.sqrt(8), size=(2, n))
    return difference(a + centre, b)


# The verdict of a part


@pytest.mark.parametrize(
    ("criterion", "low", "high", "verdict"),
    [
        (MORE, 0.11, 0.3, HOLDS),
        (MORE, 0.1, 0.3, OPEN),  # the bound itself is not above it
        (MORE, 0.05, 0.3, OPEN),
        (MORE, -0.3, 0.3, OPEN),
        (MORE, -0.1, 0.1, SAME),
        (MORE, 0.02, 0.05, SAME),
        (MORE, -0.11, 0.1, SMALLER),
        (MORE, -0.3, 0.0, SMALLER),
        (MORE, -0.3, -0.1, SMALLER),
        (MORE, -0.3, -0.11, OPPOSITE),
        (LESS, -0.3, -0.11, HOLDS),
        (LESS, -0.3, -0.1, OPEN),
        (LESS, -0.3, 0.05, OPEN),
        (LESS, -0.1, 0.1, SAME),
        (LESS, -0.05, 0.3, SMALLER),
        (LESS, 0.1, 0.3, SMALLER),
        (LESS, 0.11, 0.3, OPPOSITE),
        (ALIKE, -0.1, 0.1, HOLDS),
        (ALIKE, -0.1, 0.11, OPEN),
        (ALIKE, 0.1, 0.2, OPEN),
        (ALIKE, 0.11, 0.2, DOES_NOT_HOLD),
        (ALIKE, -0.2, -0.11, DOES_NOT_HOLD),
        # A threshold further out than the region: between the two it is smaller than asked.
        (Criterion(">", 0.5, region=(-0.1, 0.1)), 0.2, 0.4, SMALLER),
        (Criterion(">", 0.5, region=(-0.1, 0.1)), 0.0, 0.05, SAME),
        (Criterion(">", 0.5, region=(-0.1, 0.1)), 0.4, 0.6, OPEN),
        # A threshold in the region: what lies in the region on both its sides may hold.
        (Criterion(">", 0.05, region=(-0.1, 0.1)), 0.06, 0.08, HOLDS),
        (Criterion(">", 0.05, region=(-0.1, 0.1)), 0.02, 0.08, OPEN),
        (Criterion(">", 0.05, region=(-0.1, 0.1)), 0.02, 0.05, SAME),
        # Not worse by more than 0.5: what is below the region may hold.
        (Criterion(">", -0.5, region=(-0.1, 0.1)), -0.3, -0.2, HOLDS),
        (Criterion(">", -0.5, region=(-0.1, 0.1)), -0.6, -0.2, OPEN),
        (Criterion(">", -0.5, region=(-0.1, 0.1)), -0.7, -0.6, OPPOSITE),
        # A region far from equality.
        (Criterion(">", 3, region=(1, 2)), 1.2, 1.9, SAME),
        (Criterion(">", 3, region=(1, 2)), 0.2, 0.9, OPPOSITE),
        # Without a region.
        (Criterion(">", 1), 1.1, 2.0, HOLDS),
        (Criterion(">", 1), 0.5, 1.0, DOES_NOT_HOLD),
        (Criterion(">", 1), 0.5, 2.0, OPEN),
        (Criterion(">", 1, 0.5), 1.1, 1.5, DOES_NOT_HOLD),
        (Criterion(">", 1, 0.5), 1.6, 2.0, HOLDS),
        (Criterion("<", 1), 0.2, 0.9, HOLDS),
        (Criterion("<", 1), 1.0, 2.0, DOES_NOT_HOLD),
        (Criterion("<", 1, 0.5), 0.2, 0.9, OPEN),
        (Criterion("within", 1, 0.5), 0.5, 1.5, HOLDS),
        (Criterion("within", 1, 0.5), 0.1, 2.0, OPEN),
        (Criterion("within", 1, 0.5), 1.6, 2.0, DOES_NOT_HOLD),
        # Intervals without an end.
        (MORE, 0.2, math.inf, HOLDS),
        (MORE, -math.inf, math.inf, OPEN),
        (LESS, 0.2, math.inf, OPPOSITE),
        (ALIKE, -math.inf, -0.2, DOES_NOT_HOLD),
    ],
)
def test_verdict(criterion, low, high, verdict):
    assert criterion.judge(low, high) == verdict
    claim = measured(low, high, criterion, value=min(max(low, 0.0), high))
    assert claim.parts[0].verdict == shown(claim)["parts"][0]["verdict"] == verdict
    failed = verdict in ("same", "opposite", "smaller than asked")
    assert claim.headline == (f"does not hold: {verdict}" if failed else verdict)
    assert f"Verdict: {claim.headline}\n" in str(claim) + "\n"


@pytest.mark.parametrize(("low", "high"), [(-0.3, 0.3), (0.1, 0.2), (0.05, 0.15)])
def test_what_is_open_after_64_seeds_is_at_the_margin(low, high):
    verdicts = [measured(low, high, MORE, n=n).parts[0].verdict for n in (8, 63, 64, 100)]
    assert verdicts == [OPEN, OPEN, AT_THE_MARGIN, AT_THE_MARGIN]


@pytest.mark.parametrize(
    ("a", "b", "criterion"),
    [
        (30, 20, more("ratio")),  # exp(log(30) - log(20)) is not quite 1.5
        (np.linspace(30, 60, 8), np.linspace(20, 40, 8), more("ratio")),
        (20, 30, less("ratio")),
        (np.linspace(20, 40, 8), np.linspace(30, 60, 8), less("ratio")),
    ],
)
def test_a_ratio_of_the_threshold_itself_does_not_hold(a, b, criterion):
    effect = ratio(a + np.zeros(8), b + np.zeros(8))
    assert judged(effect, criterion) == SAME
    for noise in (1e-13, -1e-13):
        assert judged(replace(effect, low=effect.low + noise, high=effect.high + noise), criterion) == SAME


def test_an_accuracy_of_the_threshold_itself_does_not_hold():
    values: Any = np.arange(600, 1000, 10) / 1000  # a - 0.01 is rounded up for some and down for others
    assert len({a - b > 0.01 for a, b in zip(values[1:], values, strict=False)}) == 2
    for at in range(0, 32, 8):
        effect = difference(values[at + 1 :][:8], values[at:][:8])
        assert judged(effect, more("accuracy")) == SAME


# Looks


def test_it_stops_at_the_first_look_that_settles():
    effect = drawn(0.018, n=100, seed=3)
    verdicts = [judged(look, more("accuracy")) for look in effect.looks]
    assert verdicts == [OPEN, HOLDS, HOLDS, HOLDS]
    part = Claim.measured(**about(more("accuracy"), effect=effect)).parts[0]
    assert (part.n, part.verdict, part.value, part.interval) == (
        16,
        HOLDS,
        effect.first(16).value,
        (effect.first(16).low, effect.first(16).high),
    )


@pytest.mark.parametrize(("n", "looked", "verdict"), [(12, 8, OPEN), (40, 32, OPEN), (64, 64, AT_THE_MARGIN)])
def test_an_open_part_shows_the_last_look(n, looked, verdict):
    part = Claim.measured(**about(more("accuracy"), effect=drawn(0.01, n=n))).parts[0]
    assert (part.n, part.verdict) == (looked, verdict)


def test_what_does_not_decide_shows_all_its_seeds_and_no_verdict():
    effects = {"a": drawn(0.03), "b": drawn(0.0, n=12), "c": drawn(0.03, n=100)}
    claim = Claim.measured(**about(more("accuracy"), effect=effects, primary=["a"]))
    assert [(part.condition, part.n, part.verdict) for part in claim.others] == [("b", 12, ""), ("c", 100, "")]
    assert (claim.verdict, claim.headline) == (HOLDS, HOLDS)
    assert str(claim).count("holds") == 2
    assert [part["verdict"] for part in shown(claim)["others"]] == ["", ""]


# The whole procedure, on effects exactly where verdicts change


def settled(effects, criterion):
    verdicts = [Claim.measured(**about(criterion, effect=e)).parts[0].verdict for e in effects]
    return {verdict: verdicts.count(verdict) / len(verdicts) for verdict in set(verdicts)}


def steps(seed: int) -> Effect:
    a, b = np.random.default_rng(seed).gamma(4, 60, size=(2, 64))
    return ratio(*(np.where(v > 400, np.inf, v) for v in (a, b)), budget=400)


@pytest.mark.parametrize(
    ("effect", "criterion"),
    [
        (lambda seed: drawn(0.01, seed=seed), more("accuracy")),  # the threshold, and an edge of the region
        (lambda seed: drawn(-0.01, seed=seed), less("accuracy")),
        (lambda seed: drawn(0.01, seed=seed), same("accuracy")),
        (steps, ABOVE_1),  # steps of two equal variants of which each may run out of its budget
    ],
)
def test_exactly_on_the_threshold_at_most_five_percent_are_settled(effect, criterion):
    """On the threshold "holds" is wrong, and a hair above it all other verdicts are.

    Over 40,000 draws 3.9 % are settled, half of them on either side: of 400 up to 7.8 % are no sign of more than 5 %.
    """
    found = settled(map(effect, range(400)), criterion)
    assert found.get(HOLDS, 0) <= 0.05
    assert 1 - found[AT_THE_MARGIN] - found.get(HOLDS, 0) <= 0.05
    assert 1 - found[AT_THE_MARGIN] <= stats.binom.ppf(0.99, 400, 0.05) / 400


def test_on_the_far_edge_of_the_region_at_most_five_percent_are_called_opposite_or_same():
    found = settled((drawn(-0.01, seed=seed) for seed in range(300)), more("accuracy", than=0.0))
    assert found.get(HOLDS, 0) + found.get(OPPOSITE, 0) + found.get(SAME, 0) <= 0.05
    assert found[SMALLER] >= 0.9


@pytest.mark.parametrize(("centre", "right"), [(0.005, {SAME, SMALLER}), (0.015, {HOLDS})])
def test_half_a_point_from_the_threshold_64_seeds_settle(centre, right):
    found = settled((drawn(centre, seed=seed) for seed in range(200)), more("accuracy"))
    assert found.get(AT_THE_MARGIN, 0) <= 0.05
    assert sum(found.get(verdict, 0) for verdict in right) >= 0.95


# Failures


def failing(a_fails: int, b_fails: int, n: int = 8, centre: float = 0.0) -> Effect:
    a, b = 0.7 + np.random.default_rng(0).gamma(4, 0.002, size=(2, n))
    a[:a_fails], b[n - b_fails :] = 0.1, 0.1
    return difference(a + centre, b, learned=0.5)


NO_REGION = Criterion(">", 0.1)


@pytest.mark.parametrize(
    ("a_fails", "b_fails", "n", "criterion", "verdict"),
    [
        (8, 0, 8, MORE, OPPOSITE),
        (0, 8, 8, MORE, HOLDS),
        (8, 0, 8, LESS, HOLDS),
        (0, 8, 8, LESS, OPPOSITE),
        (8, 0, 8, ALIKE, DOES_NOT_HOLD),
        (8, 0, 8, Criterion("within", 1, 0.5), OPEN),  # it does not ask for equality
        (8, 0, 8, NO_REGION, DOES_NOT_HOLD),
        (0, 8, 8, NO_REGION, HOLDS),
        (7, 0, 8, MORE, OPEN),  # p = 0.016
        (1, 0, 8, MORE, OPEN),
        (4, 4, 8, MORE, OPEN),
        (8, 8, 8, MORE, OPEN),  # both arms, in all pairs
        (2, 9, 16, MORE, OPEN),
        (1, 12, 16, MORE, HOLDS),
        (8, 0, 16, MORE, SAME),  # eight pairs are left: they decide
    ],
)
def test_failures_decide_where_fewer_than_eight_pairs_are_left(a_fails, b_fails, n, criterion, verdict):
    effect = failing(a_fails, b_fails, n)
    assert judged(effect, criterion) == verdict
    claim = Claim.measured(**about(criterion, effect=effect))
    json.dumps(bundle(claim), allow_nan=False)
    assert f"; failed: {a_fails} and {b_fails} of" in str(claim)


def test_without_a_threshold_it_is_not_known_who_fails_worse():
    assert judged(difference(np.full(8, np.nan), np.ones(8)), MORE) == OPEN
    assert judged(by_hand(-math.inf, math.inf, 8, failed=(8, 0), left_out=8), MORE) == OPEN


@pytest.mark.parametrize(("late", "criterion", "verdict"), [
    ("a", more("ratio"), HOLDS), ("b", more("ratio"), OPPOSITE), ("b", less("ratio"), HOLDS),
    ("a", same("ratio"), DOES_NOT_HOLD),
])  # fmt: skip
def test_failures_of_ratios_decide(late, criterion, verdict):
    """Nine of 16 seeds do not get there at all; of the others a, or b, never does. Seven seeds: p = 0.016."""
    a = np.full((2, 64), 100.0)
    a[:, :57] = np.inf
    a[0 if late == "a" else 1] = np.inf
    effect = ratio(*a, budget=500)
    assert effect.pairs == 7
    assert judged(effect, criterion) == verdict
    assert judged(effect.first(32), criterion) == OPEN


@pytest.mark.parametrize(
    ("fails", "n", "criterion", "verdict"),
    [
        (8, 8, Criterion(">", 0.9), DOES_NOT_HOLD),
        (8, 8, Criterion("<", 0.6), HOLDS),  # below the 0.5 of having learned
        (8, 8, Criterion("<", 0.2), OPEN),
        (9, 16, Criterion(">", 0.9), OPEN),  # seven of 16 may well be above it
        (15, 16, Criterion(">", 0.9), DOES_NOT_HOLD),
        (1, 8, Criterion(">", 0.9), OPEN),
    ],
)
def test_of_a_mean_failures_say_that_it_is_below_what_has_learned(fails, n, criterion, verdict):
    a = np.full(n, 0.95)
    a[:fails] = 0.1
    effect = mean(a, learned=0.5)
    assert judged(effect, criterion) == verdict
    claim = Claim.measured(**about(criterion, effect=effect))
    assert f"; failed: {fails} of {n}, 8 seeds" in str(claim) or n > 8


def test_unequal_failures_are_said_also_where_the_effect_decides():
    claim = Claim.measured(**about(more("accuracy"), effect=failing(0, 20, 64, 0.03)))
    assert claim.verdict == HOLDS
    text = str(Claim.measured(**about(MORE, effect=failing(20, 0, 64), primary=[""])))
    assert "failed: 8 and 0 of 8 (p = 0.008), 8 seeds: opposite" in text
    spread = failing(0, 0, 64, 0.1)
    assert "failed" not in str(Claim.measured(**about(MORE, effect=spread)))
    part = Claim.measured(**about(MORE, effect=failing(10, 1, 64))).parts[0]
    assert part.verdict == OPPOSITE


# The verdict of a claim

YES, NO, LEFT = (0.15, 0.2), (0.0, 0.05), (0.05, 0.2)


@pytest.mark.parametrize(
    ("parts", "verdict", "headline", "conditions"),
    [
        ({"a": YES, "b": YES}, HOLDS, "holds", ("a", "b")),
        ({"a": NO, "b": NO}, DOES_NOT_HOLD, "does not hold", ()),
        ({"a": NO, "b": (-0.3, -0.2), "c": (-0.3, 0.05)}, DOES_NOT_HOLD, "does not hold", ()),
        ({"a": LEFT, "b": LEFT}, OPEN, "open", ()),
        ({"a": YES, "b": NO}, MIXED, "holds for a; fails for b", ("a",)),
        ({"a": NO, "b": YES, "c": YES}, MIXED, "holds for b and c; fails for a", ("b", "c")),
        ({"a": NO, "b": LEFT, "c": YES}, MIXED, "holds for c; fails for a; open: b", ("c",)),
        ({"a": YES, "b": LEFT}, PARTLY_OPEN, "holds in 1 of 2; open: b", ("a",)),
        ({"a": YES, "b": LEFT, "c": YES}, PARTLY_OPEN, "holds in 2 of 3; open: b", ("a", "c")),
        ({"a": LEFT, "b": YES, "c": LEFT}, PARTLY_OPEN, "holds in 1 of 3; open: a and c", ("b",)),
        ({"a": NO, "b": LEFT}, PARTLY_OPEN, "fails for a; open: b", ()),
        ({"a": YES}, HOLDS, "holds", ("a",)),
        ({"a": LEFT}, OPEN, "at the margin", ()),
        ({"a": NO}, DOES_NOT_HOLD, "does not hold: same", ()),
    ],
)
def test_verdict_of_parts(parts, verdict, headline, conditions):
    claim = with_parts(**parts)
    assert (claim.verdict, claim.headline, claim.conditions) == (verdict, headline, conditions)
    data = shown(claim)
    assert (data["verdict"], data["headline"], tuple(data["conditions"])) == (verdict, headline, conditions)
    for text in (str(claim), bundle(claim)["text/html"]):
        assert f"Verdict: {headline}" in text


def test_a_claim_without_conditions_names_none():
    assert measured(2, 3).conditions == ()


@pytest.mark.parametrize(
    ("here", "there", "moved"),
    [
        (YES, YES, TRANSFERS),
        (YES, NO, WEAKER),
        (YES, (-0.3, 0.05), WEAKER),
        (YES, (-0.3, -0.2), TURNS),
        (NO, YES, TURNS),
        (NO, NO, TRANSFERS),
        (YES, LEFT, AT_THE_MARGIN),
        (LEFT, YES, HOLDS),
        (LEFT, NO, SAME),
    ],
)
def test_on_other_data(here, there, moved):
    claim = with_parts(a=here, b=YES, transfer={"MNIST": {"a": by_hand(*there, n=64)}})
    (part,) = claim.transfers
    assert claim.moved(part) == shown(claim)["transfers"][0]["moved"] == moved
    assert shown(claim)["transfers"][0]["data"] == "MNIST"
    assert f"  a, on MNIST  {claim._effect_text(part)}, 64 seeds: {moved}\n" in str(claim)
    assert claim.verdict == with_parts(a=here, b=YES).verdict  # there it decides nothing


def test_equality_that_does_not_hold_elsewhere_turns():
    claim = with_parts(ALIKE, {"MNIST": {"a": by_hand(*YES)}}, a=NO)
    assert claim.moved(claim.transfers[0]) == TURNS


@pytest.mark.parametrize(
    ("criterion", "effect", "verdict"),
    [
        (Criterion("<", 1e-12), 1e-16, HOLDS),
        (Criterion("<", 1e-12), 1e-12, DOES_NOT_HOLD),
        (Criterion("within", 1, 1e-12), 1 + 1e-11, DOES_NOT_HOLD),  # an identity knows no ties
        (Criterion("<", 1e-12), {"a": 1e-16, "b": 0.2}, MIXED),
        (more("accuracy"), 0.005, DOES_NOT_HOLD),  # and no "same" or "smaller"
        (more("accuracy"), -0.5, DOES_NOT_HOLD),
    ],
)
def test_exact_claims(criterion, effect, verdict):
    claim = Claim.exact(**about(criterion, effect=effect, n=5))
    assert claim.verdict == verdict
    assert {part.verdict for part in claim.parts} <= {HOLDS, DOES_NOT_HOLD}
    assert {part["n"] for part in shown(claim)["parts"]} == {5}
    many = Claim.exact(**about(criterion, effect={str(i): 1e-20 for i in range(9)}))
    assert len(many.parts) == 9  # of identities all decide


# Criteria


def test_the_book_has_one_region_for_each_measure():
    assert REGIONS == {"accuracy": (-0.01, 0.01), "ratio": (1 / 1.5, 1.5), "decades": (-0.5, 0.5), "share": (-0.1, 0.1)}
    for measure, (low, high) in REGIONS.items():
        assert more(measure).bounds == (high, math.inf)
        assert less(measure).bounds == (-math.inf, low)
        assert same(measure).bounds == more(measure).region == less(measure).region == (low, high)
    assert more("accuracy", than=0.05).bounds == (0.05, math.inf)
    assert less("ratio", than=0.5).bounds == (-math.inf, 0.5)
    assert less("ratio", than=0.5).region == (1 / 1.5, 1.5)


@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        (Criterion(">", 1), "> 1"),
        (Criterion(">", 1, 0.25), "> 1 by more than 0.25"),
        (Criterion("<", 1, 0.25), "< 1 by more than 0.25"),
        (Criterion("<", 1e-12), "< 1e-12"),
        (Criterion("within", 0, 0.5), "within 0 ± 0.5"),
        (more("accuracy"), "> 0.01"),
        (same("ratio"), "between 0.667 and 1.5"),
    ],
)
def test_text_of_a_criterion(criterion, text):
    assert str(criterion) == text


# How likely it is by chance


@pytest.mark.parametrize(
    ("criterion", "centre", "tests"),
    [
        (more("accuracy"), 0.03, [(0.01, "greater")]),
        (more("accuracy", than=0.02), 0.015, [(0.02, "less")]),
        (more("accuracy"), 0.0, [(-0.01, "greater"), (0.01, "less")]),
        (more("accuracy"), -0.03, [(-0.01, "less")]),
        (less("accuracy"), -0.03, [(-0.01, "less")]),
        (less("accuracy"), 0.03, [(0.01, "greater")]),
        (same("accuracy"), 0.0, [(-0.01, "greater"), (0.01, "less")]),
        (Criterion(">", 0.05), 0.03, [(0.05, "less")]),
        (Criterion("<", 0.05), 0.08, [(0.05, "greater")]),
    ],
)
def test_chance_is_that_of_the_test_that_the_verdict_rejects(criterion, centre, tests):
    effect = drawn(centre, n=64, seed=1)
    claim = Claim.measured(**about(criterion, effect=effect, overlap=1 / 3))
    (part,) = claim.parts
    assert part.verdict not in (OPEN, AT_THE_MARGIN)
    d = effect.first(part.n).samples.kept()  # pyright: ignore
    each: list[Any] = [stats.ttest_1samp(d, at, alternative=side) for at, side in tests]
    assert claim.chance(part) == pytest.approx(max(t.pvalue for t in each), rel=1e-6)
    wide = max(stats.t.sf(abs(t.statistic) / math.sqrt(1 + part.n / 3), part.n - 1) for t in each)
    assert claim.chance(part, 1 / 3) == pytest.approx(wide, rel=1e-6)
    data = shown(claim)["parts"][0]
    assert data["chance"] == pytest.approx(max(t.pvalue for t in each), rel=0.06, abs=1e-9)
    assert data["chance, resampled"] == pytest.approx(wide, rel=0.06)


def test_equality_fails_on_either_side():
    for centre, at, side in ((0.03, 0.01, "greater"), (-0.03, -0.01, "less")):
        claim = Claim.measured(**about(same("accuracy"), effect=drawn(centre, n=8)))
        one: Any = stats.ttest_1samp(drawn(centre, n=8).samples.kept(), at, alternative=side)  # pyright: ignore
        assert (claim.verdict, claim.chance(claim.parts[0])) == (DOES_NOT_HOLD, pytest.approx(2 * one.pvalue))


def test_chance_of_what_is_open_exact_or_made_by_hand_and_where_failures_decide():
    def first(claim):
        return claim.chance(claim.parts[0])

    assert first(Claim.measured(**about(more("accuracy"), effect=drawn(0.01)))) is None
    assert first(Claim.exact(**about(effect=2.0))) is None
    assert first(measured(2, 3)) is None
    assert first(Claim.measured(**about(MORE, effect=failing(8, 0)))) == pytest.approx(2 / 256)


# What is shown


def test_text():
    claim = measured(1.98765, 2.76543, Criterion(">", 1, 0.1), unit="times", notes=("One.", "Two."))
    assert str(claim).splitlines() == [
        "Claim faster: Batch norm trains faster.",
        "  Criterion  > 1 by more than 0.1 (times)",
        "  Effect     2.38 (99 % interval 1.99 to 2.77), 16 seeds: holds",
        "  Note       One.",
        "  Note       Two.",
        "  Source     ioffe2015batch",
        "  Verdict: holds",
    ]
    assert bundle(claim)["text/plain"] == str(claim)


def test_parts_have_one_row_each():
    assert with_parts(**{"depth 3": YES, "depth 12": NO})._rows() == [
        ("Criterion", "> 0.1"),
        ("depth 3", "0.175 (98 % interval 0.150 to 0.200), 64 seeds: holds"),
        ("depth 12", "0.025 (98 % interval 0 to 0.050), 64 seeds: same"),
        ("Source", "ioffe2015batch"),
    ]


def test_both_methods_are_kept_and_a_disagreement_is_said():
    outlier = np.random.default_rng(2).gamma(20, 0.002, size=8)
    outlier[0] = 1.0  # which the interval by ranks does not follow
    claim = Claim.measured(**about(more("accuracy"), effect=mean(outlier)))
    assert "; by Student’s t: open, 8 seeds: holds\n" in str(claim)
    assert shown(claim)["parts"][0]["by the other method"] == OPEN
    wild = 0.02 + np.random.default_rng(2).gamma(20, 1e-4, size=64)
    wild[:32:4] = [2, -2] * 4
    claim = Claim.measured(**about(more("accuracy"), effect=replace(mean(wild), samples=None)))
    assert "; by signed ranks: holds, 64 seeds: at the margin\n" in str(claim)
    agreed = Claim.measured(**about(more("accuracy"), effect=drawn(0.03)))
    assert "by S" not in str(agreed)


@pytest.mark.parametrize(
    ("late", "text"),
    [
        ((1, 0), r"≥ [\d.]+ \(99 % interval [\d.]+ to [\d.]+\); not there in time: 1 and 0 of 16"),
        ((3, 0), r"≥ [\d.]+ \(99 % interval [\d.]+ to ∞\); not there in time: 3 and 0 of 16"),
        ((0, 3), r"≤ [\d.]+ \(99 % interval 0 to [\d.]+\); not there in time: 0 and 3 of 16"),
        ((3, 3), r"[\d.]+ \(99 % interval 0 to ∞\); not there in time: 3 and 3 of 16"),
    ],
)
def test_a_budget_that_ended_is_said(late, text):
    rng = np.random.default_rng(0)
    a, b = rng.gamma(8, 25, size=16), rng.gamma(8, 12, size=16)
    a[: late[0]], b[len(b) - late[1] :] = np.inf, np.inf
    claim = Claim.measured(**about(effect={"": ratio(a, b, budget=500), "x": ratio(a, b, budget=500)}, primary=["x"]))
    assert re.fullmatch(text, claim._effect_text(claim.others[0]))
    json.dumps(bundle(claim), allow_nan=False)


def test_nothing_is_said_of_an_effect_of_fewer_than_eight_pairs():
    claim = Claim.measured(**about(MORE, effect={"a": failing(1, 0), "b": failing(8, 8)}))
    a, b = shown(claim)["parts"]
    assert [a["effect"], *a["interval"], b["effect"], *b["interval"]] == [None] * 6
    assert a["text"] == "fewer than 8 pairs are left; failed: 1 and 0 of 8"
    assert b["text"] == "fewer than 8 pairs are left; failed: 8 and 8 of 8"
    assert not Forest(claim).shown


class Reader(HTMLParser):
    """Collects the classes, the attributes and the text, and sees that every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.classes, self.attributes, self.text = [], [], set(), []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.classes += [value for name, value in attrs if name == "class"]
        assert tag != "th" or ("scope", "row") in attrs

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.text.append(data)


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        (with_parts(a=YES, b=YES), "holds"),
        (with_parts(a=NO, b=NO), "does-not-hold"),
        (with_parts(a=LEFT, b=LEFT), "open"),
        (with_parts(a=YES, b=LEFT), "partly-open"),
        (with_parts(a=YES, b=NO), "mixed"),
    ],
)
def test_html(claim, name):
    page = Reader(bundle(claim)["text/html"])
    assert page.classes[:4] == [f"bn-claim bn-{name}", "bn-claim-statement", "bn-claim-criterion", "bn-claim-table"]
    assert page.classes.count("bn-part") == page.classes.count("bn-forest") == page.classes.count("bn-interval") == 2
    assert "style" not in page.attributes
    assert "id" in page.attributes
    rows = [text for part in claim.parts for text in (part.condition, claim._told(part))]
    assert page.text == [
        claim.statement,
        "Criterion: > 0.1",
        *rows,
        *re.findall("<span>(.*?)</span>", Forest(claim).last()),
        "Source: ioffe2015batch",
        f"Verdict: {claim.headline}",
    ]


def test_a_row_without_a_condition_has_a_name_too():
    moved = {"MNIST": {"": by_hand(*YES)}}
    page = Reader(bundle(Claim.measured(**about(MORE, effect=by_hand(*YES), transfer=moved)))["text/html"])
    assert [text for text in page.text if text.startswith("Effect")] == ["Effect", "Effect, on MNIST"]


def test_rows_that_do_not_decide_have_classes_of_their_own():
    effects = {"a": by_hand(*YES), "b": by_hand(*NO)}
    claim = Claim.measured(**about(MORE, effect=effects, primary=["a"], transfer={"MNIST": {"a": by_hand(*NO)}}))
    page = Reader(bundle(claim)["text/html"])
    assert [name for name in page.classes if name in ("bn-part", "bn-transfer", "bn-other")] == [
        "bn-part",
        "bn-transfer",
        "bn-other",
    ]


@pytest.mark.parametrize("number", [UNFOLDED, UNFOLDED + 1])
def test_many_parts_that_decide_nothing_are_folded(number: int):
    effects = {"a": by_hand(*YES)} | {f"other {i}": by_hand(*NO) for i in range(number)}
    claim = Claim.measured(**about(MORE, effect=effects, primary=["a"]))
    page = bundle(claim)["text/html"]
    open_, *folds = page.split("<details")
    assert len(folds) == (number > UNFOLDED)
    assert (">other 0<" in open_) == (number == UNFOLDED)
    assert all(f">other {i}<" in page for i in range(number))
    assert Reader(page).classes.count("bn-other") == number
    if folds:
        assert f"<summary>{number} further conditions, which decide nothing</summary>" in folds[0]
        assert open_.count("bn-axis") == folds[0].count("bn-axis") == 1


def test_html_is_escaped():
    hostile = '<script>"a" & b</script>' + "x" * 3000
    effect = {hostile: by_hand(2, 3), "else": by_hand(0, 0.5)}
    text = about(effect=effect, unit=hostile, statement=hostile, source=hostile, notes=(hostile,), picked=(hostile,))
    claim = Claim.measured(**text, transfer={hostile: {hostile: by_hand(2, 3)}})
    page = Reader(bundle(claim)["text/html"])  # as markup, the script would stand in place of the text
    assert page.text.count(hostile) == 3  # statement, condition, what was picked
    assert any(text.endswith(hostile) for text in page.text[page.text.index("else") :])  # behind the axis
    for start in ("Criterion", "Note", "Source", "Verdict", f"{hostile}, on"):
        assert any(hostile in text for text in page.text if text.startswith(start))
    assert "<script" not in bundle(claim)["text/html"]
    assert json.loads(json.dumps(bundle(claim), allow_nan=False)) == bundle(claim)


def test_json_holds_all_that_a_ledger_needs():
    effect = drawn(0.03, n=64, seed=5)
    claim = Claim.measured(
        **about(more("accuracy"), effect=effect, unit="accuracy", overlap=1 / 3, notes=("Edge.",), picked=("lr 1",))
    )
    data = shown(claim)
    (part,) = data.pop("parts")
    first = effect.first(8)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data == {
        "id": "faster",
        "chapter": "08_training",
        "statement": "Batch norm trains faster.",
        "source": "ioffe2015batch",
        "criterion": {
            "operator": ">",
            "value": 0.01,
            "margin": 0.0,
            "region": [-0.01, 0.01],
            "text": "> 0.01 (accuracy)",
        },
        "kind": "statistical",
        "unit": "accuracy",
        "overlap": 0.333333,
        "others": [],
        "transfers": [],
        "verdict": "holds",
        "conditions": [],
        "headline": "holds",
        "notes": ["Edge."],
        "picked": ["lr 1"],
    }
    precision = claim._precision(claim.parts[0])
    assert part == {
        "condition": "",
        "verdict": "holds",
        "n": 8,
        "effect": rounded(first.value, precision),
        "interval": [rounded(first.low, precision), rounded(first.high, precision)],
        "text": claim._effect_text(claim.parts[0]),
        "confidence": 0.99,
        "failed": [0, 0],
        "left out": 0,
        "at budget": [0, 0],
        "failures": [0, 0],
        "failures by chance": 1.0,
        "by the other method": "holds",
        "chance": pytest.approx(first.chance(0.01, ">"), rel=0.06),
        "chance, resampled": pytest.approx(first.chance(0.01, ">", 1 / 3), rel=0.06),
    }


def test_json_is_strict_whatever_happened():
    nan, inf = np.full(64, np.nan), np.full(64, np.inf)
    some = np.random.default_rng(0).gamma(4, 50, size=64)
    half = np.where(np.arange(64) % 2, some, np.inf)
    effects = [
        *(difference(a, b) for a in (nan, inf, some, half) for b in (nan, some)),
        *(ratio(a, b, budget=1000) for a in (nan, inf, some, half) for b in (inf, some, half[::-1])),
        mean(nan, learned=0.5),
        mean(np.zeros(64)),
        ratio(some, some),
    ]
    for criterion in (MORE, ALIKE, same("ratio"), Criterion("<", -1)):
        for effect in effects:
            claim = Claim.measured(**about(criterion, effect={"a": effect, "b": effect}, primary=["a"]))
            data = bundle(claim)
            assert json.loads(json.dumps(data, allow_nan=False)) == data
            assert not re.search(r"\bnan\b", data["text/plain"] + data["text/html"])


@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_numpy_numbers_pass_into_json(number):
    effect = by_hand(number(1.5), number(3), np.int64(16))  # pyright: ignore
    json.dumps(bundle(Claim.measured(**about(Criterion(">", number(1), number(0)), effect=effect))))
    json.dumps(bundle(Claim.exact(**about(effect=number(2), n=np.int64(3)))))


# The forest plot


def test_the_intervals_lie_to_scale():
    plot = Forest(with_parts(a=(0.2, 0.4), b=(-0.6, 0.0)))
    assert [plot.axis.at(x) for x in (-0.6, -0.1, 0.4)] == [8, 100, 192]
    assert [plot.axis.at(x) for x in (-math.inf, math.inf)] == [0, 200]
    row = plot.row(with_parts(a=(0.2, 0.4)).parts[0])
    assert '<rect x="100.0" width="36.8" height="20" class="bn-same"' in row
    assert f'<path d="M{plot.axis.at(0.1)} 0v20" class="bn-asked"' in row
    assert f'<path d="M{plot.axis.at(0.2)} 10H192.0" class="bn-interval"' in row
    assert f'<circle cx="{plot.axis.at(0.3)}" cy="10"' in row
    assert "<span>-0.6</span><span>0.4</span>" in plot.last()


def test_ratios_lie_on_a_logarithmic_axis_also_where_a_budget_ended():
    a, b = np.full((2, 64), 100.0)
    halves = {"half": ratio(a, 4 * b), "twice": ratio(4 * a, b)}
    plot = Forest(Claim.measured(**about(more("ratio"), effect=halves)))
    assert [plot.axis.at(x) for x in (0.25, 1, 4)] == [8, 100, 192]
    assert "<span>0.25</span><span>4</span>" in plot.last()
    late = b.copy()
    late[::2] = np.inf
    claim = Claim.measured(**about(more("ratio"), effect={**halves, "late": ratio(a, late, budget=500)}))
    plot = Forest(claim)
    assert plot.axis.log
    assert plot.axis.at(0.0) == 0
    assert claim.parts[2].interval[0] == 0
    assert '<path d="M0.0 10H' in plot.row(claim.parts[2])
    assert not Forest(Claim.measured(**about(Criterion(">", 0), effect=halves))).axis.log
    assert not Forest(with_parts(a=(0.2, 0.4))).axis.log


def test_an_axis_of_one_point_and_claims_without_intervals():
    plot = Forest(measured(1, 1))
    assert plot.axis.at(1.0) == 8
    exact = Claim.exact(**about(effect=2.0))
    assert (Forest(exact).last(), Forest(exact).row(exact.parts[0])) == ("", "")
    assert "<svg" not in bundle(exact)["text/html"]


# Rounding


@pytest.mark.parametrize(
    ("value", "precision", "result"),
    [
        (2.34567, 0.4, 2.35),
        (2.34567, 0.04, 2.346),
        (2.34567, 9.9, 2.3),
        (1234.5, 200, 1230),
        (0.000123456, 0.00002, 0.000123),
        (-0.0001, 0.3, 0.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_rounded(value, precision, result):
    assert rounded(value, precision) == result
    assert str(rounded(value, precision)) == str(float(result))  # no -0.0


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 0.125, 1.0, 1e5])
@pytest.mark.parametrize(
    "values",
    [
        (2.34567, 1.98765, 2.76543),
        (1.25, 1.15, 1.35),  # sides of a power of ten
        (0.125, -0.6, 0.9),  # a tie
        (1.0, 1.0, 1.0),
    ],
)
def test_the_twelfth_digit_is_not_shown(scale, values):
    def claim(noise):
        value, low, high = (scale * v * (1 + noise) for v in values)
        return measured(low, high, Criterion(">", 0.3), value=value)

    assert bundle(claim(1e-12)) == bundle(claim(-1e-12))


@pytest.mark.parametrize("n", [8, 64])
def test_another_processors_rounding_changes_nothing(n):
    rng = np.random.default_rng(4)
    a, b = rng.gamma(9, 30, size=n), rng.gamma(9, 20, size=n)
    for budget in (None, float(np.quantile(np.maximum(a, b), 0.8)) * 1.001):
        late = [v if budget is None else np.where(v > budget, np.inf, v) for v in (a, b)]
        effects = [ratio(late[0] * (1 + noise), late[1], budget=budget) for noise in (0, 1e-13, -1e-13)]
        bundles = [bundle(Claim.measured(**about(more("ratio"), effect=e, overlap=0.2))) for e in effects]
        assert bundles[0] == bundles[1] == bundles[2]
    for apart in (0.01, 0.3):  # nothing varies but by rounding
        effects = [difference(a + apart, a), difference(a, a - apart), difference(b + apart, b)]
        bundles = [bundle(Claim.measured(**about(more("accuracy"), effect=e))) for e in effects]
        assert bundles[0] == bundles[1] == bundles[2]


@pytest.mark.parametrize(
    ("effect", "low", "high", "text"),
    [
        (0.5, 0.41, 0.59, "0.500 (99 % interval 0.410 to 0.590)"),
        (1000.3, 10.2, 100000, "1000 (99 % interval 10 to 100000)"),  # the narrower side keeps the low bound alive
        (2.1e-9, 1.1e-9, 3.1e-9, "2.1e-09 (99 % interval 1.1e-09 to 3.1e-09)"),
        (2.5e7, 2.4e7, 2.6e7, "2.50e+07 (99 % interval 2.40e+07 to 2.60e+07)"),
        (0.6, 0.5, 0.7, "0.60 (99 % interval 0.50 to 0.70)"),
        (0.0, -0.031, 0.029, "0 (99 % interval -0.031 to 0.029)"),
        (0.1, 0.1, 0.1, "0.100 (99 % interval of no visible width)"),  # nothing is random
        (0.1, 0.1 - 1e-17, 0.1 + 2e-17, "0.100 (99 % interval of no visible width)"),
        (1 - 2e-9, 1 - 3e-9, 1 - 1e-9, "1.00 (99 % interval of no visible width)"),  # random far below the digits
        (0.0, 0.0, 0.0, "0 (99 % interval of no visible width)"),
        (1.0, 1.0, 1.25, "1.00 (99 % interval 1.00 to 1.25)"),  # one side alone is not a point
        (2.0, 1.5, math.inf, "2.00 (99 % interval 1.50 to ∞)"),
        (
            1 / 12,
            1 / 24,
            1 / 12 + 1e-9,
            "0.083 (99 % interval 0.042 to 0.083)",
        ),  # a side of rounding
    ],
)
def test_digits_follow_the_interval(effect, low, high, text):
    for operator in ("<", ">"):  # only an identity hides how far below it lies
        claim = measured(low, high, Criterion(operator, 0.8), 8, effect)
        assert shown(claim)["parts"][0]["text"] == text


def test_below_the_criterion_is_all_that_an_identity_shows():
    claims = [Claim.exact(**about(Criterion("<", 1e-12), effect=e, unit="nats")) for e in (3.1e-17, 8.2e-15, 0.0)]
    assert bundle(claims[0]) == bundle(claims[1]) == bundle(claims[2])
    (part,) = shown(claims[0])["parts"]
    assert (part["effect"], part["interval"], part["text"]) == (None, [None, None], "< 1e-12")
    assert "e-17" not in json.dumps(bundle(claims[0]))


@pytest.mark.parametrize(
    ("criterion", "effect", "text"),
    [
        (Criterion("<", 1e-12), 3.14159e-12, "3.14e-12"),
        (Criterion("<", 1e-12), 1e-12, "1.00e-12"),
        (Criterion("within", 0, 1e-12), 3.1e-17, "0"),
        (Criterion("within", 1, 1e-12), 1 + 2e-16, "1.00"),
        (Criterion("within", 1, 0.1), 1.0321, "1.03"),
        (Criterion(">", 0.5), 0.98765, "0.988"),
    ],
)
def test_other_exact_effects_have_three_digits(criterion, effect, text):
    claim = Claim.exact(**about(criterion, effect=effect))
    assert shown(claim)["parts"][0]["text"] == text
    assert f"  Effect     {text}, 1 case: " in str(claim)


# Bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Criterion(">=", 1), r"operator is '>=': choose one of \('>', '<', 'within'\)"),
        (lambda: Criterion(">", math.nan), "value is nan"),
        (lambda: Criterion("<", math.inf), "value is inf"),
        (lambda: Criterion("within", 1, -0.1), "margin -0.1: both must be finite, the margin >= 0"),
        (lambda: Criterion("within", 1, math.nan), "margin nan"),
        (lambda: Criterion(">", "1"), r"value is '1' and margin 0\.0: both must be finite"),  # pyright: ignore
        (lambda: Criterion(">", None), "value is None"),  # pyright: ignore
        (lambda: Criterion([], 1.0), "operator is a list of 0: choose"),  # pyright: ignore
        (lambda: Criterion(">", 1, region=1), r"region is 1: give a pair \(low, high\)"),  # pyright: ignore
        (lambda: Criterion(">", 1, region=(1, 2, 3)), "region is a tuple of 3: give a pair"),  # pyright: ignore
        (lambda: Criterion(">", 1, region=(1, 1)), r"region is \(1, 1\): give two finite numbers, the smaller first"),
        (lambda: Criterion(">", 1, region=(0, math.inf)), "region is .*: give two finite numbers"),
        (lambda: Criterion(">", 1, region=(math.nan, 1)), "region is .*: give two finite numbers"),
        (lambda: ABOVE_1.judge(2, 1), "low is 2 and high 1: give two numbers, the smaller first"),
        (lambda: ABOVE_1.judge(math.nan, 1), "low is nan"),
        (lambda: more("loss"), r"measure is 'loss': choose one of \['accuracy', 'ratio', 'decades', 'share'\]"),
        (lambda: same([]), "measure is a list of 0: choose"),  # pyright: ignore
        (lambda: Claim.measured(**about(effect=2.0)), r"effect is 2\.0: give what bnlib\.effects returns"),
        (lambda: Claim.measured(**about(effect={"a": 2.0})), r"effect is 2\.0: give what"),
        (lambda: Claim.measured(**about(effect=by_hand(1, 2), transfer={"M": {"": 2.0}})), r"effect is 2\.0"),
        (lambda: Claim.measured(**about(effect={})), "'faster' has no part: give an effect"),
        (lambda: Claim.exact(**about(effect={})), "'faster' has no part"),
        (lambda: Claim.measured(**about(effect=by_hand(1, 2), primary=["b"])), r"no effects for \['b'\]: choose of"),
        (lambda: Claim.measured(**about(effect=by_hand(1, 2), transfer={"M": {"b": by_hand(1, 2)}})), "no effects for"),
        (lambda: Claim.measured(**about(">1", effect=by_hand(1, 2))), "has criterion '>1': make one"),
        (lambda: Claim.exact(**about(">1", effect=2.0)), "has criterion '>1': make one"),
        (lambda: Claim.exact(**about(None, effect=2.0)), "has criterion None"),
        (lambda: Claim.exact(effect=2.0, id="x"), "claim 'x' has criterion None"),
        (lambda: with_parts(a=YES, b=YES, c=YES, d=YES), "'faster' has 4 parts: name those that decide, at most 3"),
        (lambda: with_parts(**{"": YES, "b": YES}), "has a condition twice, or one without a name"),
        (lambda: Claim.exact(**about(effect="2")), "the effect of the claim is '2': give a finite number"),
        (lambda: Claim.exact(**about(effect={"a": math.nan})), "the effect a is nan"),
        *((lambda n=n: Claim.exact(**about(effect=2.0, n=n)), f"n is {n!r}: give the number") for n in ("3", 0, 9.5)),
        *((lambda o=o: measured(1, 2, overlap=o), "has overlap .*: give test examples / training examples")
          for o in (-1, math.nan, "1")),
        (lambda: Claim(**about(kind="vague", parts=(Part("", 1.0, 1),))), "'faster' has kind 'vague': choose one of"),
        (lambda: Claim(**about(kind="exact", parts=(Part("a", 1.0, 1), Part("a", 1.0, 1)))), "a condition twice"),
    ],
)  # fmt: skip
def test_what_is_no_claim_names_value_and_remedy(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_claim_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        measured(2, 3).kind = "exact"  # pyright: ignore[reportAttributeAccessIssue]
