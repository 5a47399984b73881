"""The norms against PyTorch, finite differences, each other and their own algebra."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from bnlib import batch_norm, group_norm, instance_norm, layer_norm, normalize, normalize_backward, rms_norm
from bnlib.check import check_vjp
from bnlib.norms import batch_layout

C = 12
SHAPES = [(7, C), (5, C, 4), (3, C, 4, 5)]


def batch_cases():
    for shape in SHAPES:
        yield pytest.param(
            shape, (C,), batch_norm, lambda x, g, b: F.batch_norm(x, None, None, g, b, True), id=f"batch{shape}"
        )


def layer_cases():
    for shape in SHAPES:
        for trailing in range(1, len(shape)):
            tail = shape[-trailing:]
            yield pytest.param(
                shape, tail, layer_norm, lambda x, g, b, t=tail: F.layer_norm(x, t, g, b), id=f"layer{shape}over{tail}"
            )


def instance_cases():
    for shape in SHAPES[1:]:
        yield pytest.param(
            shape, (C,), instance_norm, lambda x, g, b: F.instance_norm(x, weight=g, bias=b), id=f"instance{shape}"
        )


def group_cases():
    for shape in SHAPES:
        for groups in (1, 2, 3):
            yield pytest.param(
                shape,
                (C,),
                lambda x, g, b, k=groups: group_norm(x, g, b, k),
                lambda x, g, b, k=groups: F.group_norm(x, k, g, b),
                id=f"group{shape}by{groups}",
            )


def rms_cases():
    for shape in SHAPES:
        for trailing in range(1, len(shape)):
            tail = shape[-trailing:]
            yield pytest.param(
                shape,
                tail,
                rms_norm,
                lambda x, g, b, t=tail: F.rms_norm(x, t, g, 1e-5) + b,
                id=f"rms{shape}over{tail}",
            )


def mean_cases():
    """Mean-only batch norm, by a layout of its own."""
    for shape in SHAPES:
        others, params = (0, *range(2, len(shape))), (1, C, *[1] * (len(shape) - 2))
        yield pytest.param(
            shape,
            (C,),
            lambda x, g, b, s=shape: normalize(x, g, b, replace(batch_layout(s), scaled=False)),
            lambda x, g, b, o=others, p=params: g.reshape(p) * (x - x.mean(o, keepdim=True)) + b.reshape(p),
            id=f"mean{shape}",
        )


CENTRED = [*batch_cases(), *layer_cases(), *instance_cases(), *group_cases()]
ALL = [*CENTRED, *rms_cases(), *mean_cases()]


def draw(shape, params, dtype: type = float, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(m, s, size).astype(dtype)
        for m, s, size in ((3, 2, shape), (1, 1, params), (0, 1, params), (0, 1, shape))
    ]


@pytest.mark.parametrize(("shape", "params", "ours", "theirs"), ALL)
def test_forward_and_all_gradients_equal_pytorch(shape, params, ours, theirs):
    x, gamma, beta, dy = draw(shape, params)
    y, cache = ours(x, gamma, beta)
    grads = normalize_backward(dy, cache)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    expected = theirs(*leaves)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-9, atol=1e-12)
    for name, got, want in zip(
        grads._fields, grads, torch.autograd.grad(expected, leaves, torch.tensor(dy)), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize(("shape", "params", "ours", "theirs"), ALL)
def test_gradients_equal_finite_differences(shape, params, ours, theirs):
    x, gamma, beta, _ = draw(shape, params)
    check_vjp(ours, normalize_backward, x, gamma, beta, rng=np.random.default_rng(1))


@pytest.mark.parametrize(("shape", "params", "ours", "theirs"), ALL)
def test_the_same_lines_carry_tensors_and_autograd_agrees(shape, params, ours, theirs):
    x, gamma, beta, dy = draw(shape, params)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    y, cache = ours(*leaves)
    by_autograd = torch.autograd.grad(y, leaves, torch.tensor(dy))
    with torch.no_grad():
        by_hand = normalize_backward(torch.tensor(dy), cache)
    for name, got, want in zip(by_hand._fields, by_hand, by_autograd, strict=True):
        assert isinstance(got, torch.Tensor)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_group_is_layer_norm_with_a_gamma_shared_by_all_features(shape):
    x, gamma, beta, dy = draw(shape, (C,))
    wide_gamma, wide_beta = (np.broadcast_to(a.reshape(C, *[1] * (len(shape) - 2)), shape[1:]) for a in (gamma, beta))
    y, cache = group_norm(x, gamma, beta, 1)
    expected, layer_cache = layer_norm(x, wide_gamma, wide_beta)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    got, want = normalize_backward(dy, cache), normalize_backward(dy, layer_cache)
    np.testing.assert_allclose(got.dx, want.dx, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got.dgamma, want.dgamma.reshape(C, -1).sum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_a_group_per_channel_is_instance_norm(shape):
    x, gamma, beta, dy = draw(shape, (C,))
    y, cache = group_norm(x, gamma, beta, C)
    expected, instance_cache = instance_norm(x, gamma, beta)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    for got, want in zip(normalize_backward(dy, cache), normalize_backward(dy, instance_cache), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("shape", "params", "ours", "theirs"), CENTRED)
def test_float32_far_from_zero_keeps_its_digits(shape, params, ours, theirs):
    rows = 1024 // math.prod(shape[2:]) if ours is batch_norm else shape[0]
    shape = (rows, *shape[1:])
    x, gamma, beta, dy = draw(shape, params, np.float32)
    x = (1e4 + (x - 3) / 2).astype(np.float32)
    y, cache = ours(x, gamma, beta)
    grads = normalize_backward(dy, cache)
    exact, exact_cache = ours(*(a.astype(float) for a in (x, gamma, beta)))
    exact_grads = normalize_backward(dy.astype(float), exact_cache)
    for got, want in ((y, exact), (grads.dx, exact_grads.dx), (cache.moments.var, exact_cache.moments.var)):
        assert got.dtype == np.float32
        assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_a_first_slice_that_misleads_the_rough_mean_costs_no_digits():
    rng = np.random.default_rng(2)
    x = (1e4 + rng.normal(size=(1024, 3))).astype(np.float32)
    x[:8] = -1e3
    gamma, beta = np.ones(3, np.float32), np.zeros(3, np.float32)
    y, _ = batch_norm(x, gamma, beta)
    exact, _ = batch_norm(x.astype(float), gamma, beta)
    assert np.abs(y - exact).max() <= 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_of_x_is_kept_whatever_gamma_is(dtype):
    x, gamma, beta, dy = draw((7, C), (C,))
    y, cache = batch_norm(x.astype(dtype), gamma, list(beta))
    assert {a.dtype for a in (y, cache.xhat, cache.moments.mean, cache.moments.var)} == {np.dtype(dtype)}
    assert {a.dtype for a in normalize_backward(dy.astype(dtype), cache)} == {np.dtype(dtype)}


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e4])
def test_a_constant_column_gives_beta_and_finite_gradients(value):
    x, gamma, beta, dy = draw((7, C), (C,), np.float32)
    x[:, 2] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, cache = batch_norm(x, gamma, beta)
        grads = normalize_backward(dy, cache)
    np.testing.assert_allclose(y[:, 2], beta[2], rtol=1e-6)
    assert all(np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize(("shape", "params", "ours", "theirs"), ALL)
def test_nothing_is_mutated(shape, params, ours, theirs):
    given_arrays = draw(shape, params)
    before = [a.copy() for a in given_arrays]
    x, gamma, beta, dy = given_arrays
    _, cache = ours(x, gamma, beta)
    xhat = cache.xhat.copy()
    first, second = normalize_backward(dy, cache), normalize_backward(dy, cache)
    for a, b in zip((*given_arrays, cache.xhat, first.dx), (*before, xhat, second.dx), strict=True):
        np.testing.assert_array_equal(a, b)


def test_moments_are_the_batchs_mean_and_biased_variance():
    x, gamma, beta, _ = draw((3, C, 4, 5), (C,))
    _, cache = batch_norm(x, gamma, beta)
    np.testing.assert_allclose(cache.moments.mean, x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(cache.moments.var, x.var((0, 2, 3)), rtol=1e-12)
    assert cache.moments.count == 3 * 4 * 5
    assert type(cache.moments.count) is int


batches = hnp.arrays(float, st.tuples(st.integers(3, 9), st.integers(1, 4)), elements=st.floats(-10, 10, width=32))


def spread(x):
    """Move the rows of x apart, so that no column is nearly constant."""
    return x + 25.0 * np.arange(len(x))[:, None]


@settings(deadline=None)
@given(batches, st.floats(-1e3, 1e3))
def test_a_shift_of_the_input_changes_nothing(x, shift):
    x = spread(x)
    gamma, beta = np.random.default_rng(3).normal(size=(2, x.shape[1]))
    np.testing.assert_allclose(batch_norm(x + shift, gamma, beta)[0], batch_norm(x, gamma, beta)[0], atol=1e-8)


@settings(deadline=None)
@given(batches, st.floats(0.01, 100), st.booleans())
def test_without_eps_a_scale_of_the_input_changes_only_the_sign(x, scale, negative):
    x, scale = spread(x), -scale if negative else scale
    gamma, beta = np.random.default_rng(4).normal(size=(2, x.shape[1]))
    expected, _ = batch_norm(x, math.copysign(1, scale) * gamma, beta, eps=0)
    np.testing.assert_allclose(batch_norm(scale * x, gamma, beta, eps=0)[0], expected, atol=1e-8)
    # and the limit is reached smoothly: with a small eps the two differ by about eps / var
    np.testing.assert_allclose(batch_norm(scale * x, gamma, beta, eps=1e-12)[0], expected, atol=1e-6)


@settings(deadline=None)
@given(batches, st.integers(0, 2**32 - 1))
def test_the_gradient_has_no_component_along_one_and_along_xhat(x, seed):
    x = spread(x)
    rng = np.random.default_rng(seed)
    gamma, beta = rng.normal(size=(2, x.shape[1]))
    dy = rng.normal(size=x.shape)
    _, cache = batch_norm(x, gamma, beta, eps=0)
    dx = normalize_backward(dy, cache).dx
    np.testing.assert_allclose(dx.sum(0), 0, atol=1e-10)
    np.testing.assert_allclose((dx * cache.xhat).sum(0), 0, atol=1e-10)


X = np.random.default_rng(5).normal(size=(4, 6))
ONE, ZERO = np.ones(6), np.zeros(6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: batch_norm(X, np.ones(5), ZERO), [r"gamma", r"\(5,\)", r"\(4, 6\)", r"6 values"]),
        (lambda: batch_norm(X, ONE, np.zeros(5)), [r"beta", r"\(5,\)", r"6 values"]),
        (lambda: batch_norm(X, ONE, ZERO.reshape(2, 3)), [r"beta", r"\(2, 3\)", r"same shape"]),
        (lambda: batch_norm(X[:1], ONE, ZERO), [r"\(1, 6\)", r"1 value per statistic", r"larger batch"]),
        (lambda: batch_norm(X[:0], ONE, ZERO), [r"\(0, 6\)", r"empty"]),
        (lambda: batch_norm(X.astype(int), ONE, ZERO), [r"\(4, 6\)", r"int64", r"convert"]),
        (lambda: batch_norm([[1, 2], [3, 4]], [1, 1], [0, 0]), [r"\(2, 2\)", r"int64"]),
        (lambda: batch_norm(X[:, 0], ONE, ZERO), [r"\(4,\)", r"\(N, C, \.\.\.\)", r"reshape\(-1, 1\)"]),
        (lambda: batch_norm(X, ONE, ZERO, eps=-1e-5), [r"-1e-05", r"small positive"]),
        (lambda: batch_norm(X, ONE, ZERO, eps=math.nan), [r"nan"]),
        (lambda: layer_norm(X, np.ones(5), np.zeros(5)), [r"\(5,\)", r"ends in \(6,\)"]),
        (lambda: layer_norm(X, np.ones((4, 6)), np.zeros((4, 6))), [r"2 trailing axes", r"1 to 1"]),
        (lambda: layer_norm(X[:, :1], np.ones(1), np.zeros(1)), [r"1 value per statistic"]),
        (lambda: rms_norm(X, np.ones(5), np.zeros(5)), [r"\(5,\)", r"ends in \(6,\)"]),
        (lambda: rms_norm(X[:0], ONE, ZERO), [r"\(0, 6\)", r"empty"]),
        (lambda: instance_norm(X, ONE, ZERO), [r"\(4, 6\)", r"no axis behind the channels"]),
        (lambda: instance_norm(X[:, :, None], ONE, ZERO), [r"1 value per statistic", r"positions"]),
        (lambda: group_norm(X, ONE, ZERO, 4), [r"4 groups", r"6 channels", r"\[1, 2, 3, 6\]"]),
        (lambda: group_norm(X, ONE, ZERO, 0), [r"0 groups"]),
        (lambda: group_norm(X, ONE, ZERO, 6), [r"1 value per statistic", r"fewer groups"]),
        (lambda: normalize_backward(X[:3], batch_norm(X, ONE, ZERO)[1]), [r"dy", r"\(3, 6\)", r"\(4, 6\)"]),
    ],
)
def test_bad_input_names_the_value_the_shape_and_the_remedy(call, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the words are checked below)
        call()
    for word in words:
        assert error.match(word)


def test_without_centring_the_moments_are_zero_and_the_mean_square():
    x, gamma, beta, _ = draw((5, C), (C,))
    _, cache = rms_norm(x, gamma, beta)
    np.testing.assert_array_equal(cache.moments.mean, np.zeros(5))
    np.testing.assert_allclose(cache.moments.var, (x**2).mean(1), rtol=1e-12)
    np.testing.assert_allclose((cache.xhat**2).mean(1), 1, rtol=1e-4)
    assert (np.abs(cache.xhat.mean(1)) > 0.1).all()


def test_without_scaling_the_moments_are_those_of_batch_norm():
    x, gamma, beta, _ = draw((5, C), (C,))
    _, cache = normalize(x, gamma, beta, replace(batch_layout(x.shape), scaled=False))
    _, expected = batch_norm(x, gamma, beta)
    for name in ("mean", "var"):
        np.testing.assert_array_equal(getattr(cache.moments, name), getattr(expected.moments, name))


def test_centred_examples_have_one_rms_norm_and_layer_norm():
    x, gamma, beta, dy = draw((5, C), (C,))
    x -= x.mean(1, keepdims=True)
    (y, cache), (expected, layer_cache) = rms_norm(x, gamma, beta), layer_norm(x, gamma, beta)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    along = normalize_backward(dy, cache).dx  # whose backward passes differ by the path through the mean
    np.testing.assert_allclose(along - along.mean(1, keepdims=True), normalize_backward(dy, layer_cache).dx, atol=1e-12)
    assert np.abs(along.mean(1)).max() > 0.01


def test_one_value_has_a_mean_square_but_no_variance():
    y, cache = rms_norm(np.array([[3.0], [-2.0]]), np.ones(1), np.zeros(1), eps=0)
    np.testing.assert_array_equal(y, [[1], [-1]])
    np.testing.assert_array_equal(normalize_backward(y, cache).dx, np.zeros((2, 1)))


def test_a_layout_of_ones_own_needs_no_new_backward_pass():
    x, gamma, beta, dy = draw((4, C, 8), (C,))
    per_batch = batch_layout(x.shape)
    y, cache = normalize(x, gamma, beta, per_batch)
    expected, expected_cache = batch_norm(x, gamma, beta)
    np.testing.assert_array_equal(y, expected)
    whole = replace(per_batch, axes=(0, 1, 2))  # one mean and one variance for everything
    check_vjp(
        lambda x, gamma, beta: normalize(x, gamma, beta, whole),
        normalize_backward,
        x,
        gamma,
        beta,
        rng=np.random.default_rng(6),
    )
    np.testing.assert_array_equal(normalize_backward(dy, cache).dx, normalize_backward(dy, expected_cache).dx)
