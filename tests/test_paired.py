from typing import Any

import numpy as np
import pytest
from scipy import stats

from bnlib.paired import Effect, difference, mean, median_difference, ratio, signed_rank


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def pairs(rng):
    b = rng.uniform(5, 50, size=12)
    return b * rng.uniform(1.0, 1.5, size=12), b


# Values


def test_difference_is_the_paired_t_interval(pairs):
    a, b = pairs
    theirs = stats.ttest_rel(a, b)
    for confidence in (0.95, 0.8):
        effect = difference(a, b, confidence)
        assert effect.value == pytest.approx(np.mean(a - b), rel=1e-12)
        assert effect[1:3] == pytest.approx(tuple(theirs.confidence_interval(confidence)), rel=1e-10)
        assert effect.n == 12


def test_difference_by_the_formula():
    a, b = np.array([3.0, 5, 4, 6, 2, 7, 5, 4]), np.array([1.0, 2, 4, 3, 1, 4, 3, 2])
    d = np.array([2.0, 3, 0, 3, 1, 3, 2, 2])
    reach = 2.3646 * np.sqrt(np.sum((d - 2) ** 2) / 7 / 8)  # t at 97.5 % with 7 degrees of freedom, from a table
    assert difference(a, b) == pytest.approx((2, 2 - reach, 2 + reach, 8), rel=1e-4)


def test_pairing_removes_what_the_seed_contributes(rng):
    seeds = rng.normal(0, 100, size=16)
    effect = difference(seeds + rng.normal(1, 0.1, size=16), seeds)
    assert 0.9 < effect.low < effect.high < 1.1


def test_ratio_is_geometric(pairs):
    a, b = pairs
    effect = ratio(a, b)
    logs = difference(np.log(a), np.log(b))
    assert effect[:3] == pytest.approx(tuple(np.exp(logs[:3])), rel=1e-12)
    assert effect.value == pytest.approx(stats.gmean(a / b), rel=1e-12)
    inverse = ratio(b, a)
    assert (inverse.low, inverse.high) == pytest.approx((1 / effect.high, 1 / effect.low), rel=1e-12)


def test_mean_of_one_sample(pairs):
    a, _ = pairs
    assert mean(a)[:3] == pytest.approx(difference(a, np.zeros(12))[:3], rel=1e-12)
    theirs = stats.ttest_1samp(a, 0).confidence_interval(0.9)
    assert mean(a, 0.9)[1:3] == pytest.approx(tuple(theirs), rel=1e-10)


@pytest.mark.parametrize(("n", "rank"), [(8, 0), (9, 1), (12, 2), (15, 3), (20, 5)])
def test_median_interval_ends_at_the_tabulated_ranks(rng, n, rank):
    a, b = rng.normal(size=n), rng.normal(size=n)
    ordered = np.sort(a - b)
    assert median_difference(a, b) == (pytest.approx(np.median(ordered)), ordered[rank], ordered[-1 - rank], n)


def test_median_does_not_follow_an_outlier(pairs):
    a, b = pairs
    wild = a.copy()
    wild[np.argmax(a - b)] = 1e9
    assert median_difference(wild, b).value == median_difference(a, b).value
    assert difference(wild, b).value > 1e7


@pytest.mark.parametrize(("n", "critical"), [(8, 3), (12, 13), (16, 29), (25, 89)])
def test_signed_rank_interval_ends_at_the_tabulated_ranks(rng, n, critical):
    """The critical values of the two-sided test at 5 %, from a table: the bounds are the next Walsh averages."""
    a, b = rng.normal(size=n), rng.normal(size=n)
    walsh = sorted((x + y) / 2 for i, x in enumerate(a - b) for y in (a - b)[i:])
    expected = (np.median(walsh), walsh[critical], walsh[-1 - critical], n)
    assert signed_rank(a, b) == pytest.approx(expected, rel=1e-12)


def test_signed_rank_interval_holds_the_shifts_that_the_test_does_not_reject(pairs):
    a, b = pairs
    for confidence in (0.95, 0.8):
        _, low, high, _ = signed_rank(a, b, confidence)
        width = high - low
        for bound, inwards in ((low, 1e-6 * width), (high, -1e-6 * width)):
            tests: list[Any] = [stats.wilcoxon(a - b - bound - s * inwards, method="exact") for s in (1, -1)]
            assert tests[1].pvalue <= 1 - confidence < tests[0].pvalue


def test_signed_rank_stays_within_the_range_of_the_differences(pairs):
    a, b = pairs
    wild = a.copy()
    wild[np.argmax(a - b)] = 1e9
    effect = signed_rank(wild, b)
    assert 0 < effect.low < effect.high < 1e9
    assert difference(wild, b).low < 0


@pytest.mark.parametrize(
    ("effect", "at"),
    [(difference, 0), (ratio, 1), (median_difference, 0), (signed_rank, 0), (lambda a, b: mean(0 * a), 0)],
)
def test_identical_pairs_give_a_point(pairs, effect, at):
    a, _ = pairs
    assert effect(a, a) == Effect(at, at, at, 12)


def test_pairs_a_constant_apart_give_a_point_up_to_rounding(pairs):
    a, _ = pairs
    assert difference(a + 0.1, a)[:3] == pytest.approx((0.1, 0.1, 0.1), rel=1e-12)


@pytest.mark.parametrize(
    ("effect", "draw", "truth"),
    [
        pytest.param(difference, lambda rng: rng.normal(0.5, 1, size=10), 0.5, id="difference"),
        pytest.param(ratio, lambda rng: np.exp(rng.normal(0.5, 1, size=10)), np.exp(0.5), id="ratio"),
    ],
)
def test_coverage_is_what_it_says(rng, effect, draw, truth):
    for confidence in (0.95, 0.7):
        drawn = [effect(draw(rng), np.zeros(10) + (effect is ratio), confidence) for _ in range(2000)]
        covered = np.mean([e.low <= truth <= e.high for e in drawn])
        assert covered == pytest.approx(confidence, abs=4 * np.sqrt(confidence * (1 - confidence) / 2000))


def test_median_covers_under_heavy_tails(rng):
    n, runs = 12, 400
    drawn = [median_difference(rng.standard_cauchy(n), np.zeros(n)) for _ in range(runs)]
    covered = np.mean([e.low <= 0 <= e.high for e in drawn])
    exact = 1 - 2 * stats.binom.cdf(2, n, 0.5)  # between the third smallest and the third largest of twelve
    assert exact > 0.95
    assert covered == pytest.approx(exact, abs=4 * float(np.sqrt(exact * (1 - exact) / runs)))


# Bad input


@pytest.mark.parametrize("effect", [difference, ratio, median_difference, signed_rank])
def test_rejects_shapes_that_differ(effect):
    with pytest.raises(ValueError, match=r"shapes differ.*\(9,\).*\(8,\).*same seeds in the same order"):
        effect(np.ones(9), np.ones(8))


@pytest.mark.parametrize("effect", [difference, ratio, median_difference, signed_rank, lambda a, b: mean(a)])
def test_rejects_few_seeds(effect):
    with pytest.raises(ValueError, match=r"a has shape \(7,\).*at least 8 seeds"):
        effect(np.ones(7), np.ones(7))
    with pytest.raises(ValueError, match=r"a has shape \(8, 2\).*one value per seed"):
        effect(np.ones((8, 2)), np.ones((8, 2)))


@pytest.mark.parametrize("effect", [difference, ratio, median_difference, signed_rank])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_the_seed_that_is_not_finite(effect, bad):
    b = np.ones(8)
    b[5] = bad
    with pytest.raises(ValueError, match=rf"b is {bad} at seed index 5"):
        effect(np.ones(8), b)


def test_mean_names_the_seed_that_is_not_finite():
    with pytest.raises(ValueError, match="a is nan at seed index 0"):
        mean([np.nan, 1, 2, 3, 4, 5, 6, 7])


@pytest.mark.parametrize("bad", [0.0, -2.0])
def test_ratio_rejects_what_has_no_logarithm(bad):
    a = np.ones(8)
    a[3] = bad
    with pytest.raises(ValueError, match=rf"a is {bad} at seed index 3.*use difference"):
        ratio(a, np.ones(8))
    with pytest.raises(ValueError, match=rf"b is {bad} at seed index 3"):
        ratio(np.ones(8), a)


@pytest.mark.parametrize("effect", [difference, ratio, median_difference, signed_rank, lambda a, b, c: mean(a, c)])
@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_rejects_a_confidence_out_of_range(pairs, effect, confidence):
    with pytest.raises(ValueError, match=rf"confidence is {confidence}: give a number between 0 and 1"):
        effect(*pairs, confidence)


@pytest.mark.parametrize(("effect", "of"), [(median_difference, "median"), (signed_rank, "signed ranks")])
def test_says_when_the_seeds_do_not_suffice(rng, effect, of):
    with pytest.raises(ValueError, match=rf"confidence 0.999 is out of reach for the {of} of 8 seeds: use more"):
        effect(rng.normal(size=8), np.zeros(8), 0.999)


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
def test_values_are_real_and_not_masked(a, words):
    with pytest.raises(ValueError, match=words):
        mean(a)


@pytest.mark.parametrize("estimate", [mean, lambda a, confidence: signed_rank(a, 0 * a, confidence)])
@pytest.mark.parametrize("confidence", ["0.95", None, np.ones(2), True])
def test_confidence_is_a_number(estimate, confidence):
    with pytest.raises(ValueError, match=r"confidence is .*: give a number between 0 and 1"):
        estimate(np.arange(8.0), confidence)
