"""Weights, their effective number and the domain classifier against closed forms."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from bnlib.shift import density_ratio, domain_auc, effective_sample_size, gaussian_ratio

BAD = [np.ones(4), np.ones((4, 3)), np.empty((0, 2)), np.array([[1.0, np.nan]] * 4)]


def normal(n: int, d: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, size=(n, d))


def test_the_gaussian_ratio_is_the_ratio_of_the_densities():
    x, shift = normal(9, 3), np.array([0.3, -1.2, 0.8])
    written = stats.norm.pdf(x, shift).prod(1) / stats.norm.pdf(x).prod(1)
    np.testing.assert_allclose(gaussian_ratio(x, shift), written, rtol=1e-12)
    np.testing.assert_allclose(gaussian_ratio(x, 0.7), gaussian_ratio(x, np.full(3, 0.7)), rtol=1e-12)


@pytest.mark.parametrize("shift", [np.ones(2), np.ones((3, 1))])
def test_a_shift_of_another_shape_is_a_clear_error(shift: np.ndarray):
    with pytest.raises(ValueError, match=r"give a number or an array \(3,\)"):
        gaussian_ratio(normal(5, 3), shift)


def test_weights_turn_the_sources_mean_into_the_targets():
    x = normal(100_000, 2)
    w = gaussian_ratio(x, [0.5, -0.3])
    np.testing.assert_allclose(w.mean(), 1, atol=0.02)
    np.testing.assert_allclose((w[:, None] * x).mean(0), [0.5, -0.3], atol=0.02)


def test_the_effective_size_by_hand_and_of_any_scale():
    w = np.array([1, 1, 1, 3, 3, 9]) / 3
    assert effective_sample_size(w) == pytest.approx(36 / (34 / 3), rel=1e-12)
    assert effective_sample_size(w * 1e200) == pytest.approx(36 / (34 / 3), rel=1e-12)
    assert effective_sample_size(np.full(7, 0.2)) == pytest.approx(7, rel=1e-12)
    assert effective_sample_size([0, 5, 0]) == 1


@pytest.mark.parametrize("d", [1, 5])
def test_the_effective_share_of_a_moved_gaussian(d: int):
    shift = 0.6 / d**0.5
    share = effective_sample_size(gaussian_ratio(normal(200_000, d), shift)) / 200_000
    assert share == pytest.approx(np.exp(-0.36), rel=0.02)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([], "one weight"), ([[1.0]], "one weight"), ([1, -1], "weight 1 is -1"), ([np.inf], "inf"), ([0, 0], "zero")],
)
def test_what_is_no_weight_is_a_clear_error(weights: list, message: str):
    with pytest.raises(ValueError, match=message):
        effective_sample_size(weights)


@pytest.mark.parametrize("sizes", [(4000, 4000), (6000, 2000)])
def test_the_classifiers_odds_are_the_ratio(sizes: tuple[int, int]):
    source, target = normal(sizes[0], 2), normal(sizes[1], 2, 0.4, seed=1)
    found = density_ratio(source, target)
    np.testing.assert_allclose(np.log(found), np.log(gaussian_ratio(source, 0.4)), atol=0.35)
    assert found.mean() == pytest.approx(1, abs=0.03)


def test_the_ratio_does_not_depend_on_the_columns_units_and_a_strong_penalty_makes_it_one():
    source, target = normal(300, 2), normal(300, 2, 0.4, seed=1)
    units = np.array([1e3, 1e-3])
    np.testing.assert_allclose(density_ratio(source * units, target * units), density_ratio(source, target), rtol=1e-3)
    np.testing.assert_allclose(density_ratio(source, target, strength=1e-8), 1, atol=1e-3)


@pytest.mark.parametrize("strength", [0, -1, np.nan])
def test_a_strength_that_is_none_is_a_clear_error(strength: float):
    with pytest.raises(ValueError, match=f"strength is {strength}"):
        density_ratio(normal(5, 2), normal(5, 2), strength)


def test_the_area_of_a_moved_gaussian_is_the_closed_form():
    found = domain_auc(normal(3000, 1), normal(3000, 1, 1.0, seed=1))
    assert found == pytest.approx(stats.norm.cdf(1 / 2**0.5), abs=0.02)  # P(target's score > source's)
    assert domain_auc(normal(3000, 3), normal(3000, 3, seed=1)) == pytest.approx(0.5, abs=0.04)


def test_the_folds_are_shuffled():
    blocks = np.repeat([0.0, 10.0, 20.0, 30.0, 40.0], 40)
    source = np.column_stack([blocks, normal(200, 1)[:, 0]])
    target = np.column_stack([blocks + 5, normal(200, 1, seed=1)[:, 0]])
    assert domain_auc(source, target) == pytest.approx(0.6, abs=0.06)  # in order, whole blocks would be held out
    assert domain_auc(source, target, seed=1) != domain_auc(source, target, seed=2)


def test_two_folds_of_two_rows_are_enough():
    assert domain_auc([[0.0], [1.0]], [[10.0], [11.0]], folds=2) == 1


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("function", [density_ratio, domain_auc])
def test_what_are_no_rows_is_a_clear_error(function, bad: np.ndarray):
    with pytest.raises(ValueError, match=r"\(n, d\)|not finite"):
        function(bad, np.ones((6, 2)))


@pytest.mark.parametrize(("folds", "rows"), [(1, 6), (5, 4)])
def test_too_few_folds_or_rows_are_a_clear_error(folds: int, rows: int):
    with pytest.raises(ValueError, match=f"{folds} folds"):
        domain_auc(normal(rows, 2), normal(8, 2), folds)


def test_masked_and_complex_inputs_are_refused():
    x = np.random.default_rng(0).normal(size=(20, 2))
    masked = np.ma.masked_array(x, x > 1)
    for call in (
        lambda a: gaussian_ratio(a, 1.0),
        lambda a: density_ratio(a, x),
        lambda a: domain_auc(a, x),
        lambda a: effective_sample_size(a[:, 0]),
    ):
        with pytest.raises(ValueError, match=r"of shape \(20.*\) is a masked array"):
            call(masked)
        with pytest.raises(ValueError, match=r"of shape \(20.*\) holds complex128"):
            call(x * 1j)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folds": "3"}, "'3' folds of"),
        ({"folds": 2.5}, r"2\.5 folds of"),
        ({"folds": None}, "None folds of"),
        ({"seed": None}, "seed is None: give a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 0.5}, r"seed is 0\.5"),
    ],
)
def test_folds_and_seed_are_whole_numbers(change, words):
    with pytest.raises(ValueError, match=words):
        domain_auc(normal(8, 2), normal(8, 2), **change)


@pytest.mark.parametrize("function", [density_ratio, domain_auc])
def test_the_small_fits_take_one_thread_and_give_back_those_that_were(function, monkeypatch: pytest.MonkeyPatch):
    seen, fit = [], LogisticRegression.fit

    def watched(self, *data):
        seen.append({pool["num_threads"] for pool in threadpool_info()})
        return fit(self, *data)

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    with threadpool_limits(2):
        function(normal(20, 2), normal(20, 2, 0.5, seed=1))
        assert {pool["num_threads"] for pool in threadpool_info()} == {2}
    assert seen
    assert all(now == {1} for now in seen)
