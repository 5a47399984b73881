"""The norms against PyTorch, finite differences, each other and their own algebra."""

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from bnlib import batch_norm, group_norm, instance_norm, layer_norm, normalize, normalize_backward, rms_norm
from bnlib.check import check_vjp
from bnlib.norms import Layout, batch_layout, group_layout, instance_layout, layer_layout

C = 12
SHAPES = [(7, C), (5, C, 4), (3, C, 4, 5)]


def batch_cases():
    for shape in SHAPES:
        yield pytest.param(
            shape, (C,), batch_norm, lambda x, g, b: F.batch_norm(x, None, None, g, b, True), id=f"batch{shape}"
        )


def layer_cases():
    for shape in SHAPES:
        for trailing in range(1, len(shape) + 1):
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
        for trailing in range(1, len(shape) + 1):
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
    assert y.dtype == dtype
    assert {a.dtype for a in normalize_backward(dy, cache)} == {np.dtype(dtype)}
    wide = np.dtype(np.result_type(dtype, np.float32))
    assert {a.dtype for a in (cache.xhat, cache.rstd, cache.moments.mean, cache.moments.var)} == {wide}


# Every dtype, layout and library, against the definition in float64

ROUNDING = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 0.0, "float64": 0.0}  # of the result, once
ARITHMETIC = {"float16": 1e-5, "bfloat16": 1e-5, "float32": 1e-5, "float64": 1e-12}  # half precision's is float32
KINDS = [f"numpy {code}{size}" for code in "<>" for size in ("f2", "f4", "f8")]
KINDS += [f"torch {name}" for name in ROUNDING]
LAYOUTS = ["batch", "layer", "instance", "group", "rms", "mean only"]


def of_kind(a: np.ndarray, kind: str) -> Any:
    """A copy of the values as an array or tensor of a dtype."""
    library, dtype = kind.split()
    return a.astype(dtype) if library == "numpy" else torch.tensor(a).to(getattr(torch, dtype))


def exact(a: Any) -> np.ndarray:
    """A copy of the values, in float64."""
    return a.double().clone().numpy() if isinstance(a, torch.Tensor) else a.astype(np.float64)


def dtype_of(a: Any) -> str:
    """The dtype's name, whatever its byte order."""
    return np.dtype(a.dtype).name if isinstance(a, np.ndarray) else str(a.dtype).removeprefix("torch.")


@st.composite
def a_layout(draw: Any, name: str) -> tuple[tuple[int, ...], Layout]:
    """A shape, and a layout of the name for it."""
    least = 1 if name == "instance" else 0
    positions = draw(st.lists(st.integers(1 + least, 4), min_size=least, max_size=2))
    groups = draw(st.integers(1, 3))
    shape = (draw(st.integers(3, 6)), groups * draw(st.integers(2, 3)), *positions)
    trailing = draw(st.integers(1, len(shape)))
    if math.prod(shape[-trailing:]) < 2:
        trailing = len(shape)
    layouts = {
        "batch": lambda: batch_layout(shape),
        "mean only": lambda: replace(batch_layout(shape), scaled=False),
        "layer": lambda: layer_layout(shape, trailing),
        "rms": lambda: replace(layer_layout(shape, trailing), centred=False),
        "group": lambda: group_layout(shape, groups),
        "instance": lambda: instance_layout(shape),
    }
    return shape, layouts[name]()


def defined(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, layout: Layout, eps: float) -> torch.Tensor:
    """The transform as it is defined, by torch's own operations."""
    view = x.reshape(layout.view)
    centred = view - view.mean(layout.axes, keepdim=True) if layout.centred else view
    var = centred.square().mean(layout.axes, keepdim=True)
    xhat = centred / (var + eps).sqrt() if layout.scaled else centred
    return (gamma.reshape(layout.params) * xhat + beta.reshape(layout.params)).reshape(x.shape)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_each_dtype_layout_and_library_against_the_definition(kind: str, name: str, data: st.DataObject):
    shape, layout = data.draw(a_layout(name))
    mean, spread = data.draw(st.sampled_from([0.0, -3.0, 100.0])), data.draw(st.sampled_from([0.3, 1.0, 8.0]))
    eps = data.draw(st.sampled_from([1e-5, 0.1]))
    mixed = ("f2" in kind or "16" in kind) and data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = math.prod(layout.params)
    params_kind = f"{kind.split()[0]} float32" if mixed else kind
    x, dy = (of_kind(rng.normal(m, s, shape), kind) for m, s in ((mean, spread), (0, 1)))
    gamma, beta = (of_kind(rng.normal(m, 1, values), params_kind) for m in (1, 0))
    given_values = [x, gamma, beta, dy]
    before = [exact(a) for a in given_values]

    y, cache = normalize(x, gamma, beta, layout, eps)
    grads = normalize_backward(dy, cache)

    leaves = [torch.tensor(a, requires_grad=True) for a in before[:3]]
    expected = defined(leaves[0], leaves[1], leaves[2], layout, eps)
    by_autograd = torch.autograd.grad(expected, leaves, torch.tensor(before[3]))
    xhat, factor, rstd, shift, slope = (
        float(np.abs(exact(a)).max()) for a in (cache.xhat, gamma, cache.rstd, beta, dy)
    )
    summed = math.prod(shape) / values
    reference = 1e-15 * np.abs(before[0]).max() * rstd  # of xhat as it is defined, where few values lie far from zero
    parts = {  # beside it what it belongs to, and the size of the terms, some of which cancel
        "y": (y, expected.detach(), x, xhat * factor + shift),
        "dx": (grads.dx, by_autograd[0], x, slope * factor * rstd * (1 + xhat**2 if layout.scaled else 1)),
        "dgamma": (grads.dgamma, by_autograd[1], gamma, slope * xhat * summed),
        "dbeta": (grads.dbeta, by_autograd[2], gamma, slope * summed),
    }
    for part, (got, want, of, size) in parts.items():
        assert type(got) is type(of), part
        assert dtype_of(got) == dtype_of(of), part
        assert got.shape == of.shape, part
        rounding = ROUNDING[dtype_of(got)]
        allowed = rounding * np.abs(want.numpy()) + (ARITHMETIC[dtype_of(x)] + reference) * size + 1e-7 * (rounding > 0)
        assert (np.abs(exact(got) - want.numpy()) <= allowed).all(), part
    for got, want in zip(given_values, before, strict=True):
        np.testing.assert_array_equal(exact(got), want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("shape", "params", "ours", "theirs"), CENTRED)
def test_half_precision_beside_float32_parameters_is_pytorchs(shape, params, ours, theirs, dtype):
    """Beside parameters of half precision PyTorch (2.13, CPU) rounds its statistics too: at 100, y is off by 0.1."""
    x, gamma, beta, dy = draw(shape, params, np.float32)
    leaves = [torch.tensor(100 + x / 2).to(dtype), torch.tensor(gamma), torch.tensor(beta)]
    for leaf in leaves:
        leaf.requires_grad_()
    dy = torch.tensor(dy).to(dtype)
    y, cache = ours(*leaves)
    expected = theirs(*leaves)
    last = torch.finfo(dtype).eps
    torch.testing.assert_close(y, expected, rtol=last, atol=1e-4)
    with torch.no_grad():
        dx = normalize_backward(dy, cache).dx
    (want,) = torch.autograd.grad(expected, leaves[:1], dy)  # its layer norm sums dgamma and dbeta in half precision
    torch.testing.assert_close(dx, want, rtol=last, atol=last / 4 * float(want.abs().max()))


def test_in_float16_many_values_neither_overflow_nor_lose_the_variance():
    rng = np.random.default_rng(11)
    images = (10 * rng.normal(size=(16, 3, 40, 40))).astype(np.float16)
    rows = (100 + rng.normal(size=(4, 768))).astype(np.float16)
    for x, (y, cache), axes in (
        (images, batch_norm(images, np.ones(3), np.zeros(3)), (0, 2, 3)),
        (rows, layer_norm(rows, np.ones(768), np.zeros(768)), (1,)),
    ):
        np.testing.assert_allclose(y.astype(float).std(axes), 1, rtol=1e-3)
        np.testing.assert_allclose(y.astype(float).mean(axes), 0, atol=1e-3)
        np.testing.assert_allclose(cache.moments.var, x.astype(float).var(axes), rtol=1e-5)
    dy = rng.normal(1, 1, images.shape).astype(np.float16)
    grads = normalize_backward(dy, batch_norm(images, np.ones(3, np.float32), np.zeros(3, np.float32))[1])
    assert grads.dbeta.dtype == np.float32  # and so it holds a sum beyond float16's 65,504 where there is one
    np.testing.assert_allclose(grads.dbeta, dy.astype(float).sum((0, 2, 3)), rtol=1e-5)


def test_an_array_beside_a_tensor_and_a_tensor_beside_an_array_are_converted():
    x, gamma, beta, dy = draw((5, C), (C,))
    want, cache = batch_norm(x, gamma, beta)
    mixed, mixed_cache = batch_norm(torch.tensor(x), gamma[::-1][::-1], list(beta))
    np.testing.assert_allclose(mixed.numpy(), want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(normalize_backward(dy, mixed_cache).dx, normalize_backward(dy, cache).dx, atol=1e-12)
    np.testing.assert_array_equal(batch_norm(x, torch.tensor(gamma), torch.tensor(beta))[0], want)
    dx = normalize_backward(torch.tensor(dy), cache).dx
    assert isinstance(dx, np.ndarray)
    np.testing.assert_array_equal(batch_norm(x, torch.tensor(gamma).bfloat16(), beta)[0].dtype, x.dtype)
    gamma32, half = gamma.astype(np.float32), x.astype(np.float16)
    grads = normalize_backward(dy, batch_norm(half, torch.tensor(gamma32), beta)[1])
    assert (grads.dx.dtype, grads.dgamma.dtype) == (np.float16, np.float32)
    grads = normalize_backward(dy, batch_norm(torch.tensor(half), gamma32, beta)[1])
    assert (grads.dx.dtype, grads.dgamma.dtype) == (torch.float16, torch.float32)


@pytest.mark.parametrize("norm", [layer_norm, rms_norm])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 6), (6, 1)])
def test_all_axes_may_be_one_example(norm, shape):
    x, gamma, beta, dy = draw(shape, shape)
    y, cache = norm(x, gamma, beta)
    assert cache.moments.mean.shape == cache.moments.var.shape == ()
    rows = tuple(a.reshape(1, 6) for a in (x, gamma, beta, dy))
    expected, expected_cache = norm(rows[0], *(a[0] for a in rows[1:3]))
    np.testing.assert_array_equal(y, expected.reshape(shape))
    dx, dgamma, dbeta = normalize_backward(dy, cache)
    for got, want in zip((dx, dgamma, dbeta), normalize_backward(rows[3], expected_cache), strict=True):
        np.testing.assert_allclose(got, want.reshape(shape), rtol=1e-14, atol=1e-15)
    assert not np.shares_memory(dbeta, dy)


def test_rms_norm_without_beta_is_the_published_one():
    x, gamma, _, dy = draw((5, C), (C,))
    for kind in (np.asarray, torch.tensor):
        (y, cache), (expected, _) = rms_norm(kind(x), kind(gamma)), rms_norm(kind(x), kind(gamma), kind(0 * gamma))
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_allclose(normalize_backward(kind(dy), cache).dbeta, dy.sum(0), rtol=1e-12)
    theirs = F.rms_norm(torch.tensor(x), (C,), torch.tensor(gamma), 1e-3)
    np.testing.assert_allclose(rms_norm(x, gamma, eps=1e-3)[0], theirs, rtol=1e-12)


@pytest.mark.parametrize("eps", [1, 0, np.float64(1e-5), np.float32(1e-5), np.int64(1)])
def test_eps_is_any_one_number_and_leaves_the_dtype_alone(eps):
    x, gamma, beta, _ = draw((5, C), (C,), np.float32)
    y, cache = batch_norm(x, gamma, beta, eps)
    assert {y.dtype, cache.rstd.dtype} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(y, batch_norm(x, gamma, beta, float(eps))[0])


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
        (lambda: layer_norm(X, np.ones((1, 4, 6)), np.zeros((1, 4, 6))), [r"3 trailing axes", r"1 to 2"]),
        (lambda: layer_norm(X, 1.0, 0.0), [r"0 trailing axes", r"1 to 2"]),
        (lambda: layer_norm(1.0, 1.0, 0.0), [r"x has shape \(\)", r"reshape"]),
        (lambda: layer_norm(X[0, :1], ONE[:1], ZERO[:1]), [r"1 value per statistic"]),
        (lambda: layer_norm(X[:, :1], np.ones(1), np.zeros(1)), [r"1 value per statistic"]),
        (lambda: rms_norm(X, np.ones(5), np.zeros(5)), [r"\(5,\)", r"ends in \(6,\)"]),
        (lambda: rms_norm(X[:0], ONE, ZERO), [r"\(0, 6\)", r"empty"]),
        (lambda: instance_norm(X, ONE, ZERO), [r"\(4, 6\)", r"no axis behind the channels"]),
        (lambda: instance_norm(X[:, :, None], ONE, ZERO), [r"1 value per statistic", r"positions"]),
        (lambda: group_norm(X, ONE, ZERO, 4), [r"4 groups", r"6 channels", r"\[1, 2, 3, 6\]"]),
        (lambda: group_norm(X, ONE, ZERO, 0), [r"0 groups"]),
        (lambda: group_norm(X, ONE, ZERO, 6), [r"1 value per statistic", r"fewer groups"]),
        (lambda: group_norm(X, ONE, ZERO, "2"), [r"groups is '2'", r"whole number that divides the 6 channels"]),  # pyright: ignore
        (lambda: group_norm(X, ONE, ZERO, 2.0), [r"groups is 2\.0", r"whole number"]),  # pyright: ignore
        (lambda: group_norm(X, ONE, ZERO, True), [r"groups is True", r"whole number"]),
        (lambda: normalize_backward(X[:3], batch_norm(X, ONE, ZERO)[1]), [r"dy", r"\(3, 6\)", r"\(4, 6\)"]),
        (lambda: normalize_backward(X, batch_norm(X, ONE, ZERO)), [r"cache is a tuple of 2", "second of the two"]),  # pyright: ignore
        (lambda: normalize_backward(batch_norm(X, ONE, ZERO)[1], X), [r"cache is an array of shape \(4, 6\)"]),  # pyright: ignore
        (lambda: normalize_backward(X * 1j, batch_norm(X, ONE, ZERO)[1]), [r"dy of shape \(4, 6\) holds complex"]),
        (lambda: normalize(X, ONE, ZERO, X.shape), [r"layout is a tuple of 2", r"batch_layout\(tuple\(x\.shape\)\)"]),  # pyright: ignore
        (lambda: normalize(X, ONE, ZERO, batch_layout((5, 6))), [r"x has shape \(4, 6\)", r"\(5, 6\)", r"this x"]),
        (lambda: Layout((4, 6), (1, 6), (-2,)), [r"axes \(-2,\)", r"from 0 to 1"]),
        (lambda: Layout((4, 6), (1, 6), (0, 0)), [r"axes \(0, 0\)", r"each once"]),
        (lambda: Layout((4, 6), (1, 6), (2,)), [r"axes \(2,\)", r"from 0 to 1"]),
        (lambda: Layout((4, 6), (6,), (0,)), [r"params \(6,\)", r"view \(4, 6\)", r"1 or its length"]),
        (lambda: Layout((4, 6), (1, 3), (0,)), [r"params \(1, 3\)", r"view \(4, 6\)"]),
    ],
)
def test_bad_input_names_the_value_the_shape_and_the_remedy(call, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the words are checked below)
        call()
    for word in words:
        assert error.match(word)


NORMS = {
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "instance_norm": instance_norm,
    "group_norm": lambda x, gamma, beta, eps=1e-5: group_norm(x, gamma, beta, 3, eps),
    "normalize": lambda x, gamma, beta, eps=1e-5: normalize(x, gamma, beta, batch_layout((4, 6, 6)), eps),
}
IMAGE = np.random.default_rng(6).normal(size=(4, 6, 6))
MASK = np.arange(6) > 4


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.ma.masked_array(IMAGE, IMAGE > 1)}, [r"x of shape \(4, 6, 6\) is a masked", r"\.filled\(value\)"]),
        ({"gamma": np.ma.masked_array(ONE, MASK)}, [r"gamma of shape \(6,\) is a masked", r"\.compressed\(\)"]),
        ({"beta": np.ma.masked_array(ONE, MASK)}, [r"beta of shape \(6,\) is a masked", "leave out the rows"]),
        ({"x": IMAGE.astype(int)}, [r"x of shape \(4, 6, 6\) holds int64: convert it to float first"]),
        ({"x": IMAGE > 0}, [r"x of shape \(4, 6, 6\) holds bool: convert"]),
        ({"x": IMAGE + 0j}, [r"x of shape \(4, 6, 6\) holds complex128: give its real and its imaginary part"]),
        ({"x": torch.tensor(IMAGE + 0j)}, [r"x of shape \(4, 6, 6\) holds torch\.complex128: give its real"]),
        ({"x": torch.tensor(IMAGE).to(torch.float8_e5m2)}, [r"holds torch\.float8_e5m2: convert it to float"]),
        ({"x": IMAGE.astype(object)}, [r"x of shape \(4, 6, 6\) holds object: convert"]),
        ({"x": None}, ["x is None: pass an array"]),
        ({"x": [[1.0, 2.0], [3.0]]}, ["x is no array", "pass a NumPy array or a tensor"]),
        ({"gamma": None}, [r"gamma is None: pass an array \(ones change nothing\)"]),
        ({"gamma": ONE * 1j}, [r"gamma of shape \(6,\) holds complex128"]),
        ({"gamma": ["a"] * 6}, [r"gamma of shape \(6,\) holds <U1"]),
        ({"gamma": torch.ones(6).requires_grad_()}, ["gamma is a tensor that autograd follows", r"gamma\.detach\(\)"]),
        ({"eps": np.full(6, 1e-5)}, [r"eps is an array of shape \(6,\)", "pass 0 or a small positive number"]),
        ({"eps": torch.tensor(1e-5)}, [r"eps is a tensor of shape \(\)", "small positive"]),
        ({"eps": None}, ["eps is None, but it keeps a root away from zero"]),
        ({"eps": "1e-5"}, ["eps is '1e-5'", "small positive"]),
        ({"eps": True}, ["eps is True", "small positive"]),
        ({"eps": 1e-5j}, ["eps is 1e-05j", "small positive"]),
        ({"eps": math.inf}, ["eps is inf", "small positive"]),
        ({"eps": math.nan}, ["eps is nan", "small positive"]),
        ({"eps": -1e-5}, ["eps is -1e-05", "small positive"]),
    ],
)
def test_what_people_pass_is_answered_in_the_same_words_everywhere(norm, change, words):
    good = {"x": IMAGE, "gamma": ONE, "beta": ZERO, "eps": 1e-5}
    norm(**good)
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the words are checked below)
        norm(**(good | change))
    for word in words:
        assert error.match(word)


@pytest.mark.parametrize("norm", [batch_norm, instance_norm, lambda x, gamma, beta: group_norm(x, gamma, beta, 3)])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_channels_last_is_seen_and_the_remedy_helps(norm, kind):
    x, gamma, beta, _ = (kind(a) for a in draw((8, 5, 5, 3), (3,)))
    with pytest.raises(
        ValueError, match=r"gamma has shape \(3,\), but x of shape \(8, 5, 5, 3\) needs 5 values"
    ) as error:
        norm(x, gamma, beta)
    assert error.match(
        r"Channels are axis 1: if yours are the last, pass (\S+\(.*\)), and move the result back by (.*)$"
    )
    there, back = str(error.value).split(" pass ")[1].split(", and move the result back by ")
    y, _ = norm(eval(there), gamma, beta)
    moved = eval(back)
    np.testing.assert_array_equal(moved[..., 1], y[:, 1])
    with pytest.raises(ValueError, match=r"in the same shape for gamma and beta$"):
        norm(x[..., :2], gamma, beta)  # no axis is as long as gamma


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


def test_a_set_that_begins_with_zero_has_its_mean_square():
    x, gamma, beta, dy = draw((5, C), (C,))
    x[2, 0] = 0
    y, cache = rms_norm(x, gamma, beta)
    np.testing.assert_allclose(y, gamma * x / ((x**2).mean(1)[:, None] + 1e-5) ** 0.5 + beta, rtol=1e-12)
    np.testing.assert_array_equal(cache.moments.mean, np.zeros(5))
    assert np.isfinite(normalize_backward(dy, cache).dx).all()


@pytest.mark.parametrize("norm", [layer_norm, rms_norm])
def test_a_gamma_without_axes_is_refused(norm):
    with pytest.raises(ValueError, match=r"cannot normalize over 0 trailing axes of \(5, 12\): choose 1 to 2"):
        norm(np.ones((5, C)), np.array(1.0), np.array(0.0))


def test_lists_are_arrays_in_both_passes():
    x, gamma, beta, dy = draw((7, 3), (3,))
    y, cache = batch_norm(x.tolist(), gamma.tolist(), beta.tolist())
    expected, _ = batch_norm(x, gamma, beta)
    np.testing.assert_array_equal(y, expected)
    for got, want in zip(normalize_backward(dy.tolist(), cache), normalize_backward(dy, cache), strict=True):
        np.testing.assert_array_equal(got, want)


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


X63 = np.arange(18.0).reshape(6, 3)
ROWS = [*np.ma.masked_array(X63, X63 > 15)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: batch_layout(X63), r"shape is an array of shape \(6, 3\) and no tuple of whole numbers"),  # pyright: ignore
        (lambda: batch_layout(torch.tensor(X63)), r"shape is a tensor of shape \(6, 3\)"),  # pyright: ignore
        (lambda: batch_layout(6), "shape is 6 and no tuple"),  # pyright: ignore
        (lambda: batch_layout(None), "shape is None"),  # pyright: ignore
        (lambda: instance_layout(X63), r"shape is an array of shape \(6, 3\)"),  # pyright: ignore
        (lambda: group_layout(X63, 3), r"shape is an array of shape \(6, 3\)"),  # pyright: ignore
        (lambda: layer_layout((6, 3), None), "over None trailing axes"),  # pyright: ignore
        (lambda: layer_layout((6, 3), 1.0), "over 1.0 trailing axes"),  # pyright: ignore
        (lambda: layer_layout((6, 3), torch.ones(2)), r"over a tensor of shape \(2,\) trailing axes"),  # pyright: ignore
        (lambda: group_layout((6, 3), np.ones(2, int)), r"groups is an array of shape \(2,\): give a whole number"),  # pyright: ignore
        (lambda: group_layout((6, 3), torch.ones(2)), r"groups is a tensor of shape \(2,\)"),  # pyright: ignore
        (lambda: Layout((6, 3), (1, 3), axes=0), "axes is 0 and no tuple"),  # pyright: ignore
        (lambda: Layout((6.0, 3), (1, 3), (0,)), "view is a tuple of 2 and no tuple of whole numbers"),  # pyright: ignore
        (lambda: Layout((-1, 3), (1, 3), (0,)), r"view is \(-1, 3\): give the length"),
        (lambda: Layout((6, 3), (1, 3), (0,), centred=None), "centred is None: give True or False"),  # pyright: ignore
        (lambda: batch_norm(ROWS, np.ones(3), np.zeros(3)), "x is a list of 6 with masked arrays in it"),
        (lambda: batch_norm([tuple(ROWS), ROWS], np.ones(3), np.zeros(3)), "x is a list of 2 with masked arrays"),
        (lambda: batch_norm(X63, np.ones(3), [0.0, np.ma.masked, 0.0]), "beta is a list of 3 with masked arrays"),
        (lambda: batch_norm(batch_norm(X63, np.ones(3), np.zeros(3))[1], np.ones(3), np.zeros(3)), "array but a Cache"),
        (lambda: batch_norm(X63, np.ones(3), np.zeros(3), eps=10**400), "eps is a number of 1329 bits"),
        (lambda: rms_norm(X63, np.ones(3), 1e-5), r"beta is 1e-05: .*eps goes by its name, eps=1e-05"),  # pyright: ignore
    ],
)
def test_slips_with_layouts_masks_and_places_have_their_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_layout_is_made_of_tuples_and_its_flags_go_by_name():
    layout = Layout([6, 3], np.array([1, 3]), [0])  # pyright: ignore
    assert (layout, hash(layout)) == (batch_layout((6, 3)), hash(batch_layout((6, 3))))
    assert batch_layout(torch.ones(6, 3).shape) == layout
    with pytest.raises(TypeError, match="positional"):
        Layout((6, 3), (1, 3), (0,), False)  # pyright: ignore
