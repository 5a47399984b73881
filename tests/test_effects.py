from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bnlib.effects import LOOKS, Effect, Interval, difference, mean, ratio

EFFECTS = [difference, ratio, lambda a, b: mean(a)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def gammas(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positive values whose seeds contribute to both: skewed, as numbers of steps are."""
    common = rng.gamma(3, 20, size=n)
    return common * rng.gamma(9, 0.2, size=n), common * rng.gamma(9, 0.1, size=n)


def bounds(effect: Effect | Interval) -> tuple[float, float, float]:
    return effect.value, effect.low, effect.high


def by_t(d: np.ndarray, confidence: float) -> tuple[float, float, float]:
    low, high = stats.ttest_1samp(d, 0).confidence_interval(confidence)
    return d.mean(), low, high


# Critical values of the two-sided signed-rank test at 1 %, from a table: the bounds are the next Walsh averages.
CRITICAL = {8: 0, 9: 1, 10: 3, 12: 7, 16: 19, 20: 37, 25: 68, 30: 109}


def by_ranks(d: np.ndarray) -> tuple[float, float, float]:
    walsh = sorted((x + y) / 2 for x, y in combinations_with_replacement(d, 2))
    return float(np.median(walsh)), walsh[CRITICAL[d.size]], walsh[-1 - CRITICAL[d.size]]


# Values


@pytest.mark.parametrize("n", CRITICAL)
def test_up_to_32_pairs_the_bounds_are_walsh_averages(rng, n):
    a, b = gammas(rng, n)
    effect = difference(a, b)
    assert bounds(effect) == pytest.approx(by_ranks(a - b), rel=1e-12)
    assert bounds(effect.other) == pytest.approx(by_t(a - b, 0.99), rel=1e-10)
    assert (effect.n, effect.pairs, effect.confidence, effect.by_ranks) == (n, n, 0.99, True)


@pytest.mark.parametrize("n", [8, 12, 16, 32, 33, 64, 100])
def test_the_interval_holds_the_shifts_that_wilcoxons_test_does_not_reject(rng, n):
    a, b = gammas(rng, n)
    effect = difference(a, b)
    _, low, high = bounds(effect if n <= 32 else effect.other)
    for bound, inwards in ((low, 1e-6 * (high - low)), (high, -1e-6 * (high - low))):
        tests: list[Any] = [stats.wilcoxon(a - b - bound - s * inwards, method="exact") for s in (1, -1)]
        assert tests[1].pvalue <= 1 - effect.confidence < tests[0].pvalue


@pytest.mark.parametrize(("n", "confidence"), [(33, 0.99), (48, 0.99), (64, 0.98), (100, 0.98)])
def test_beyond_32_pairs_it_is_students(rng, n, confidence):
    a, b = gammas(rng, n)
    effect = difference(a, b)
    assert bounds(effect) == pytest.approx(by_t(a - b, confidence), rel=1e-10)
    walsh = [(x + y) / 2 for x, y in combinations_with_replacement(a - b, 2)]
    assert effect.other.value == pytest.approx(np.median(walsh), rel=1e-12)
    assert (effect.confidence, effect.by_ranks) == (confidence, False)


def test_students_interval_by_the_formula():
    d = np.array([2.0, 3, 0, 3, 1, 3, 2, 2] * 8)
    t = difference(d + 5, np.full(64, 5.0))
    reach = 2.3870 * np.sqrt(np.sum((d - 2) ** 2) / 63 / 64)  # t at 99 % with 63 degrees of freedom, from a table
    assert bounds(t) == pytest.approx((2, 2 - reach, 2 + reach), rel=1e-4)


def test_pairing_removes_what_the_seed_contributes(rng):
    seeds = rng.normal(0, 100, size=16)
    effect = difference(seeds + rng.normal(1, 0.1, size=16), seeds)
    assert 0.8 < effect.low < effect.high < 1.2


@pytest.mark.parametrize("n", [12, 64])
def test_ratio_is_geometric(rng, n):
    a, b = gammas(rng, n)
    effect, logs = ratio(a, b), difference(np.log(a), np.log(b))
    assert bounds(effect) == pytest.approx(tuple(np.exp(bounds(logs))), rel=1e-12)
    assert bounds(effect.other) == pytest.approx(tuple(np.exp(bounds(logs.other))), rel=1e-12)
    assert (effect if n > 32 else effect.other).value == pytest.approx(stats.gmean(a / b), rel=1e-12)
    inverse = ratio(b, a)
    assert (inverse.low, inverse.high) == pytest.approx((1 / effect.high, 1 / effect.low), rel=1e-12)


@pytest.mark.parametrize("n", [12, 64])
def test_mean_of_one_sample(rng, n):
    a, _ = gammas(rng, n)
    assert bounds(mean(a)) == pytest.approx(bounds(difference(a, np.zeros(n))), rel=1e-12)


def test_an_outlier_does_not_stretch_the_interval_by_ranks(rng):
    a, b = gammas(rng, 16)
    wild = a.copy()
    wild[np.argmax(a - b)] = 1e9
    effect = difference(wild, b)
    assert effect.value == pytest.approx(difference(a, b).value, rel=0.2)
    assert effect.high < 1e9 / 2 + 1e5
    assert effect.other.low < 0 < 1e7 < effect.other.value


@pytest.mark.parametrize(("effect", "at"), [(difference, 0), (ratio, 1), (lambda a, b: mean(0 * a), 0)])
@pytest.mark.parametrize("n", [8, 64])
def test_identical_pairs_give_a_point(rng, effect, at, n):
    a, _ = gammas(rng, n)
    e = effect(a, a)
    assert bounds(e) == bounds(e.other) == (at, at, at)


def test_pairs_a_constant_apart_give_a_point_up_to_rounding(rng):
    a, _ = gammas(rng, 64)
    assert bounds(difference(a + 0.1, a)) == pytest.approx((0.1, 0.1, 0.1), rel=1e-11)


@pytest.mark.parametrize(("effect", "truth"), [(difference, 0.5), (ratio, np.exp(0.5))])
@pytest.mark.parametrize("n", [8, 33])
def test_coverage_is_at_least_what_it_says(rng, effect, truth, n):
    def drawn():
        d = rng.gamma(2, 1, size=n) - rng.gamma(2, 1, size=n) + 0.5  # heavier tails than the normal distribution's
        return effect(np.exp(d), np.ones(n)) if effect is ratio else effect(d, np.zeros(n))

    covered = np.mean([e.low <= truth <= e.high for e in (drawn() for _ in range(400))])
    assert 0.99 - 4 * np.sqrt(0.99 * 0.01 / 400) < covered < 1


# Looks


def test_looks_are_at_8_16_32_and_64_seeds_and_leave_out_five_percent_together(rng):
    assert LOOKS == {8: 0.99, 16: 0.99, 32: 0.99, 64: 0.98}
    a, b = gammas(rng, 100)
    looks = difference(a, b).looks
    assert [(e.n, e.confidence) for e in looks] == list(LOOKS.items())
    for e in looks:
        assert bounds(e) == bounds(difference(a[: e.n], b[: e.n]))


@pytest.mark.parametrize(("n", "expected"), [(8, [8]), (12, [8]), (31, [8, 16]), (63, [8, 16, 32]), (64, [*LOOKS])])
def test_as_many_looks_as_the_seeds_allow(rng, n, expected):
    assert [e.n for e in ratio(*gammas(rng, n)).looks] == expected


def test_the_first_seeds_have_their_own_failures(rng):
    a, b = gammas(rng, 64)
    a[[3, 20]], b[[40, 20]] = np.nan, np.inf
    effect = difference(a, b)
    assert (effect.failed, effect.left_out, effect.pairs, effect.failures) == ((1, 1), 3, 61, (2, 2))
    assert [(e.failed, e.left_out, e.pairs) for e in effect.looks] == [
        ((1, 0), 1, 7),
        ((1, 0), 1, 15),
        ((1, 0), 2, 30),
        ((1, 1), 3, 61),
    ]


def test_an_effect_made_by_hand_has_one_look():
    effect = Effect(1.0, 0.5, 1.5, 16, 0.99, Interval(1.0, 0.4, 1.6))
    assert effect.looks == [effect]
    assert effect.first(16) is effect


# Failures


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.05])
def test_failures_are_counted_and_leave_the_effect_of_the_others(rng, bad):
    a, b = rng.gamma(40, 0.02, size=(2, 20))  # accuracies around 0.8
    a[[2, 5, 6]], b[[6, 7]] = bad, bad
    kept = np.delete(np.arange(20), [2, 5, 6, 7])
    effect = difference(a, b, learned=0.2)
    assert bounds(effect) == bounds(difference(a[kept], b[kept]))
    assert (effect.failed, effect.failures, effect.left_out, effect.n, effect.pairs) == ((2, 1), (3, 2), 4, 20, 16)
    alone = mean(a, learned=0.2)
    assert (alone.failed, alone.failures, alone.left_out) == ((3, 0), (3,), 3)
    assert bounds(alone) == bounds(mean(np.delete(a, [2, 5, 6])))


def test_without_a_threshold_a_finite_run_has_not_failed():
    assert difference(np.full(8, 0.05), np.full(8, 0.9)).failed == (0, 0)
    assert difference(np.full(8, 0.2), np.full(8, 0.9), learned=0.2).failed == (0, 0)  # the threshold is enough


@pytest.mark.parametrize("left", [7, 1, 0])
def test_fewer_than_eight_pairs_have_no_interval(rng, left):
    a, b = gammas(rng, 12)
    a[left:] = np.nan
    for effect in (difference(a, b), ratio(a, b), mean(a)):
        assert (effect.pairs, effect.failed) == (left, (12 - left, 0))
        assert effect.low == effect.other.low == (0 if effect.samples and effect.samples.ratio else -np.inf)
        assert effect.high == effect.other.high == np.inf
        assert np.isnan(effect.value) == (left == 0)


@pytest.mark.parametrize(("a_fails", "b_fails"), [(0, 0), (7, 0), (8, 0), (0, 8), (9, 1), (3, 5)])
def test_mcnemar_is_the_sign_test_of_the_pairs_in_which_one_failed(rng, a_fails, b_fails):
    a, b = gammas(rng, 32)
    a[:a_fails], b[a_fails : a_fails + b_fails] = np.nan, np.nan
    a[-3:] = b[-3:] = np.nan  # those in which both failed do not count
    effect = difference(a, b)
    expected = stats.binomtest(a_fails, a_fails + b_fails).pvalue if a_fails + b_fails else 1
    assert effect.mcnemar == pytest.approx(expected, rel=1e-12)
    tail = sum(stats.binom.pmf(k, a_fails + b_fails, 0.5) for k in range(max(a_fails, b_fails), a_fails + b_fails + 1))
    assert effect.mcnemar == pytest.approx(min(1, 2 * tail), rel=1e-9)


def test_of_a_mean_the_failures_are_compared_with_half_of_the_runs():
    a = np.full(16, 0.9)
    a[:9] = 0.1
    assert mean(a, learned=0.5).mcnemar == pytest.approx(stats.binomtest(9, 16).pvalue)


@pytest.mark.parametrize(
    ("effect", "leaning"),
    [
        (lambda bad, good: difference(bad, good, learned=0.2), -1),  # who fails is less accurate
        (lambda bad, good: difference(good, bad, learned=0.2), 1),
        (lambda bad, good: mean(bad, learned=0.2), -1),
        (lambda bad, good: ratio(bad, good, budget=500), 1),  # who does not get there is slower
        (lambda bad, good: ratio(good, bad, budget=500), -1),
        (lambda bad, good: difference(bad, good), 0),  # a loss or an accuracy? That is not known
        (lambda bad, good: ratio(bad, good), 0),
        (lambda bad, good: difference(bad, bad, learned=0.2), 0),
    ],
)
def test_on_which_side_failures_lie(effect, leaning):
    bad, good = np.full(8, np.nan), np.full(8, 0.9)
    assert effect(bad, good).leaning == leaning


# Budgets


def test_a_budget_by_hand():
    """Of 16 pairs that are 2 apart but for the first, the bounds are the 20th Walsh averages from either end."""
    a, b = np.full(16, 200.0), np.full(16, 100.0)
    a[0] = np.inf
    effect = ratio(a, b, budget=500)
    assert (effect.at_budget, effect.failed, effect.left_out, effect.failures) == ((1, 0), (1, 0), 0, (1, 0))
    assert bounds(effect) == pytest.approx((2, 2, 2))  # 16 of 136 Walsh averages have no upper limit
    a[1] = np.inf
    assert bounds(ratio(a, b, budget=500)) == pytest.approx((2, 2, np.inf))  # of two pairs 31 have none
    a[0] = a[1] = 200
    b[:2] = np.nan
    assert bounds(ratio(a, b, budget=500)) == pytest.approx((2, 0, 2))


@pytest.mark.parametrize("n", [8, 16, 64])
def test_the_interval_holds_that_of_whatever_lay_beyond_the_budget(rng, n):
    for _ in range(20):
        a, b = gammas(rng, n)
        budget = np.quantile(np.minimum(a, b), 0.9)
        seen = [np.where(v > budget, np.inf, v) for v in (a, b)]
        effect, neither = ratio(*seen, budget=budget), np.isinf(seen).all(0)
        if effect.pairs < 8:
            continue
        assert effect.left_out == neither.sum()
        true = ratio(a[~neither], b[~neither], budget=1e9)
        whole = true if true.by_ranks else true.other
        if LOOKS[max(look for look in LOOKS if look <= true.n)] == effect.confidence:
            assert effect.low <= whole.low * (1 + 1e-12)
            assert whole.high <= effect.high * (1 + 1e-12)
        assert effect.by_ranks
        assert (effect.other.high == np.inf) == (effect.at_budget[0] > 0)  # nor has a mean a limit there
        assert (effect.other.low == 0) == (effect.at_budget[1] > 0)


def test_what_is_slower_counts_as_the_budget_and_where_neither_gets_there_the_pair_is_left_out(rng):
    a, b = rng.uniform(50, 400, size=(2, 12))
    a[:2], b[1:3] = np.inf, np.nan
    effect = ratio(a, b, budget=500)
    assert (effect.at_budget, effect.failed, effect.failures, effect.left_out) == ((1, 1), (1, 1), (2, 2), 1)
    a[0] = b[2] = 500
    kept = np.delete(np.arange(12), 1)
    assert effect.value == pytest.approx(ratio(a[kept], b[kept]).value, rel=1e-12)


def test_without_a_budget_what_is_infinite_failed(rng):
    a, b = gammas(rng, 12)
    a[0] = np.inf
    effect = ratio(a, b)
    assert (effect.at_budget, effect.failed, effect.left_out) == ((0, 0), (1, 0), 1)
    assert bounds(effect) == bounds(ratio(a[1:], b[1:]))


# Steps


@pytest.mark.parametrize("n", [8, 64])
def test_the_interval_is_as_wide_as_the_step_of_the_measure(rng, n):
    a = np.full(n, 2.5)
    effect = difference(a, a - 0.5, grid=0.5)
    assert bounds(effect) == bounds(effect.other) == (0.5, 0.25, 0.75)
    assert bounds(mean(a, grid=1)) == (2.5, 2, 3)
    wide, b = difference(*gammas(rng, n), grid=1e-9), gammas(np.random.default_rng(0), n)
    assert bounds(wide) == bounds(difference(*b))


# Chance


@pytest.mark.parametrize("n", [8, 64])
@pytest.mark.parametrize(("side", "alternative"), [(">", "greater"), ("<", "less")])
def test_chance_is_students_one_sided_test(rng, n, side, alternative):
    a, b = gammas(rng, n)
    for at in (0.0, 20.0, 70.0):
        expected: Any = stats.ttest_1samp(a - b, at, alternative=alternative)
        assert difference(a, b).chance(at, side) == pytest.approx(expected.pvalue, rel=1e-9)
    expected = stats.ttest_1samp(np.log(a / b), np.log(1.5), alternative=alternative)
    assert ratio(a, b).chance(1.5, side) == pytest.approx(expected.pvalue, rel=1e-9)


def test_overlapping_splits_have_the_variance_of_nadeau_and_bengio():
    d = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])  # mean 4.5, variance 6
    effect = difference(d, np.zeros(8))
    t = 4.5 / np.sqrt((1 / 8 + 1 / 3) * 6)
    assert effect.chance(0, ">", 1 / 3) == pytest.approx(stats.t.sf(t, 7), rel=1e-12)
    assert 2.365 < t < 2.998  # of seven degrees of freedom at 2.5 and at 1 %, from a table
    assert 0.01 < effect.chance(0, ">", 1 / 3) < 0.025
    assert effect.chance(0, ">") < effect.chance(0, ">", 0.1) < effect.chance(0, ">", 1)
    assert effect.chance(0, ">", 1) + effect.chance(0, "<", 1) == pytest.approx(1)


def test_chance_where_nothing_varies():
    a = np.linspace(0.8, 0.9, 8)
    constant = difference(a + 0.1, a)  # but for rounding
    assert [constant.chance(at, side) for at in (0.05, 0.1, 0.2) for side in "<>"] == [1, 0, 1, 1, 0, 1]
    twice = ratio(3 * a, 2 * a)
    assert [twice.chance(at, side) for at in (1, 1.5, 2) for side in "<>"] == [1, 0, 1, 1, 0, 1]
    equal = ratio(0.1 * a * 3, 0.3 * a)
    assert [equal.chance(1, side) for side in "<>"] == [1, 1]


def test_chance_of_a_measure_in_steps_is_that_of_an_interval_one_step_wide():
    effect = difference(np.full(16, 1.5), np.full(16, 0.5), grid=0.5)
    assert effect.chance(effect.low, ">") == pytest.approx(0.005)
    assert effect.chance(effect.high, "<") == pytest.approx(0.005)


def test_chance_knows_no_limit_beyond_a_budget(rng):
    a, b = rng.uniform(100, 110, size=(2, 16))
    a[0] = np.inf
    assert ratio(a, b, budget=120).chance(3, "<") == 1
    assert ratio(a, b, budget=120).chance(0.5, ">") < 1e-6
    assert ratio(b, a, budget=120).chance(0.5, ">") == 1


def test_chance_of_few_pairs_or_out_of_range(rng):
    a, b = gammas(rng, 8)
    assert ratio(a, b).chance(0.0, ">") == 0
    assert ratio(a, b).chance(-1.0, "<") == 1
    a[0] = np.nan
    assert ratio(a, b).chance(0.001, ">") == 1


# Bad input


@pytest.mark.parametrize("effect", [difference, ratio])
def test_rejects_shapes_that_differ(effect):
    with pytest.raises(ValueError, match=r"shapes differ.*\(9,\).*\(8,\).*same seeds in the same order"):
        effect(np.ones(9), np.ones(8))


@pytest.mark.parametrize("effect", EFFECTS)
def test_rejects_few_seeds(effect):
    with pytest.raises(ValueError, match=r"a has shape \(7,\).*at least 8 seeds"):
        effect(np.ones(7), np.ones(7))
    with pytest.raises(ValueError, match=r"a has shape \(8, 2\).*one value per seed"):
        effect(np.ones((8, 2)), np.ones((8, 2)))


@pytest.mark.parametrize("bad", [0.0, -2.0])
def test_ratio_rejects_what_has_no_logarithm(bad):
    a = np.ones(8)
    a[3] = bad
    with pytest.raises(ValueError, match=rf"a is {bad} at seed index 3.*use difference"):
        ratio(a, np.ones(8))
    with pytest.raises(ValueError, match=rf"b is {bad} at seed index 3"):
        ratio(np.ones(8), a)


@pytest.mark.parametrize(
    ("a", "words"),
    [
        (np.ma.masked_array(np.arange(8.0), np.arange(8) > 6), r"a of shape \(8,\) is a masked array"),
        ([*np.ma.masked_array(np.arange(8.0), np.arange(8) > 6)], "a is a list of 8 with masked"),
        (np.arange(8) + 1j, "a of shape .* holds complex128"),
        ([str(i) for i in range(8)], "a of shape .* holds <U1: convert it to float first"),
        ([None] * 8, "a of shape .* holds object"),
    ],
)
@pytest.mark.parametrize("effect", EFFECTS)
def test_values_are_real_and_not_masked(effect, a, words):
    with pytest.raises(ValueError, match=words):
        effect(a, np.ones(8))


ONES = np.ones(8)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        *((lambda b=b: ratio(ONES, ONES, budget=b), "budget is .*: give the number of steps")  # pyright: ignore
          for b in (0, -1, np.nan, np.inf, "9", True)),
        (lambda: ratio(9 * ONES, ONES, budget=8), "a is 9.0 at seed index 0, beyond a budget of 8"),
        (lambda: ratio(ONES, 9 * ONES, budget=8), "b is 9.0 at seed index 0, beyond"),
        *((lambda x=x: difference(ONES, ONES, learned=x), "learned is .*: give the least value")  # pyright: ignore
          for x in (np.nan, np.inf, "1", True)),
        *((lambda x=x: mean(ONES, grid=x), "grid is .*: give the step") for x in (-1, np.nan, np.inf, None)),  # pyright: ignore
        (lambda: mean(ONES).chance(0, ">="), "side is '>=': choose"),
        (lambda: mean(ONES).chance(np.nan, ">"), "bound is nan and overlap 0.0: give numbers"),
        (lambda: mean(ONES).chance(0, ">", -0.1), "overlap -0.1"),
        (lambda: Effect(1, 0, 2, 8, 0.99, Interval(1, 0, 2)).chance(0, ">"), "made by hand"),
        (lambda: Effect(1, 0, 2, 16, 0.99, Interval(1, 0, 2)).first(8), "n is 8: this effect has 16 seeds"),
        *((lambda n=n: mean(np.ones(9)).first(n), "n is .*: this effect has 9 seeds, give 8 of them")  # pyright: ignore
          for n in (7, 10, -1, 8.5)),
    ],
)  # fmt: skip
def test_what_is_out_of_range_names_value_and_remedy(call: Callable[[], Any], words: str):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_values_are_not_changed(rng):
    a, b = gammas(rng, 64)
    a[0] = np.inf
    copies = a.copy(), b.copy()
    ratio(a, b, budget=1e9).chance(1, ">")
    np.testing.assert_array_equal((a, b), copies)
    assert ratio(a.tolist(), b.tolist(), budget=1e9).value == ratio(a, b, budget=1e9).value
