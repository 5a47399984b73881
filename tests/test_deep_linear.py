"""The expansion of an update against the direct product, against written-out sums, and against the binomial."""

from itertools import combinations, pairwise
from math import comb, prod

import numpy as np
import pytest
import torch

from bnlib.deep_linear import update_expansion


@pytest.mark.parametrize("depth", [1, 2, 3, 7])
@pytest.mark.parametrize("lr", [0.0, 0.1, -0.7, 3.0])
def test_the_terms_of_scalars_add_up_to_the_product_of_the_updated_weights(depth: int, lr: float):
    w, s = np.random.default_rng(depth).normal(size=(2, depth))
    terms = update_expansion(w, s, lr)
    assert terms.shape == (depth + 1,)
    np.testing.assert_allclose(terms.sum(), prod(w - lr * s), rtol=1e-12)
    np.testing.assert_allclose(terms[0], prod(w), rtol=1e-12)


def test_each_term_of_scalars_is_the_sum_over_all_subsets_of_its_size():
    w, s = np.random.default_rng(0).normal(size=(2, 6))
    terms = update_expansion(w, s, 0.3)
    for k, term in enumerate(terms):
        chosen = combinations(range(6), k)
        written = sum(prod(-0.3 * s[i] if i in subset else w[i] for i in range(6)) for subset in map(set, chosen))
        np.testing.assert_allclose(term, written, rtol=1e-12)


def test_equal_weights_and_steps_give_the_binomial():
    terms = update_expansion(np.ones(9), np.ones(9), 0.2)
    np.testing.assert_allclose(terms, [comb(9, k) * (-0.2) ** k for k in range(10)], rtol=1e-12)


def test_the_terms_of_matrices_keep_the_order_of_the_layers():
    rng, sizes = np.random.default_rng(1), (3, 5, 2, 4)
    w, s = ([rng.normal(size=shape) for shape in pairwise(sizes)] for _ in range(2))
    terms = update_expansion(w, s, 0.4)
    a, b, c = (x - 0.4 * y for x, y in zip(w, s, strict=True))
    np.testing.assert_allclose(terms.sum(0), a @ b @ c, rtol=1e-12)
    first = -0.4 * (s[0] @ w[1] @ w[2] + w[0] @ s[1] @ w[2] + w[0] @ w[1] @ s[2])
    np.testing.assert_allclose(terms[1], first, rtol=1e-12)
    np.testing.assert_allclose(terms[3], -(0.4**3) * s[0] @ s[1] @ s[2], rtol=1e-12)


def test_the_first_term_is_what_the_gradient_predicts():
    w = np.random.default_rng(2).normal(size=4)
    gradient = prod(w) / w
    h = 1e-6
    slope = (update_expansion(w, gradient, h).sum() - update_expansion(w, gradient, -h).sum()) / 2
    np.testing.assert_allclose(update_expansion(w, gradient, h)[1], slope, rtol=1e-8)


def test_scalars_are_matrices_of_one_number():
    w, s = np.random.default_rng(3).normal(size=(2, 5))
    terms = update_expansion(w.reshape(5, 1, 1), s.reshape(5, 1, 1), 0.2)
    np.testing.assert_allclose(terms[:, 0, 0], update_expansion(w, s, 0.2), rtol=1e-12)


def test_the_dtype_is_kept_and_whole_numbers_become_fractions():
    w, s = np.random.default_rng(3).normal(size=(2, 5)).astype(np.float32)
    assert update_expansion(w, s, 0.2).dtype == np.float32
    matrices = w.reshape(5, 1, 1), s.reshape(5, 1, 1)
    assert update_expansion(*matrices, 0.2).dtype == np.float32
    np.testing.assert_allclose(update_expansion([1, 2, 3], [6, 3, 2], 0.1), [6, -4.9, 0.84, -0.036], rtol=1e-12)


@pytest.mark.parametrize(
    ("weights", "steps", "message"),
    [
        ([], [], "l >= 1"),
        ([1.0, 2.0], [1.0], "one step for each"),
        ([np.ones((2, 3))], [np.ones((3, 2))], r"\(3, 2\).*\(2, 3\)"),
        ([np.ones((2, 3)), np.ones((2, 3))], [np.ones((2, 3))] * 2, "n1, n2"),
        ([np.ones(3)], [np.ones(3)], "scalars, or matrices"),
        ([1.0, np.ones((1, 1))], [1.0, np.ones((1, 1))], "scalars, or matrices"),
    ],
)
def test_what_is_no_network_is_a_clear_error(weights: list, steps: list, message: str):
    with pytest.raises(ValueError, match=message):
        update_expansion(weights, steps, 0.1)


def test_masked_and_complex_layers_are_refused():
    w = np.ones((2, 3, 3))
    for weights, steps, message in (
        (np.ma.masked_array(w, w > 2), w, r"layer 0 of shape \(3, 3\) is a masked array"),
        (w, [w[0], np.ma.masked_array(w[1], w[1] > 2)], r"step 1 of shape \(3, 3\) is a masked array"),
        (w, w * 1j, r"step 0 of shape \(3, 3\) holds complex128"),
    ):
        with pytest.raises(ValueError, match=message):
            update_expansion(weights, steps, 0.1)


@pytest.mark.parametrize("lr", ["0.1", None, np.ones(2), np.nan])
def test_the_rate_is_a_number(lr):
    with pytest.raises(ValueError, match=r"lr is .*: give the learning rate"):
        update_expansion([2.0], [1.0], lr)


def test_tensors_become_arrays():
    w, s = np.eye(2), np.ones((2, 2))
    got = update_expansion([torch.tensor(w), w], [torch.tensor(s), s], 0.1)  # pyright: ignore
    np.testing.assert_array_equal(got, update_expansion([w, w], [s, s], 0.1))
    with pytest.raises(ValueError, match="layer 0 is a tensor that autograd follows"):
        update_expansion([torch.eye(2, requires_grad=True)], [s], 0.1)  # pyright: ignore
