"""Weight norm against PyTorch, finite differences and its own geometry."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations

from bnlib.check import check_vjp
from bnlib.norms import normalize_backward
from bnlib.weightnorm import weight_norm, weight_norm_backward

SHAPES = [(5, 7), (4, 3, 3, 3), (3, 2)]
both = pytest.mark.parametrize("centred", [False, True], ids=["normed", "standardized"])


def draw(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.4, 2, shape), rng.normal(0, 2, shape[0]), rng.normal(size=shape)


def by_torch(v: torch.Tensor, g: torch.Tensor, *, centred: bool) -> torch.Tensor:
    rows = v.flatten(1)
    rows = rows - rows.mean(1, keepdim=True) if centred else rows
    return (g[:, None] * rows / rows.norm(dim=1, keepdim=True)).reshape(v.shape)


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_both_gradients_equal_autograd(shape: tuple[int, ...], centred: bool):
    v, g, dw = draw(shape)
    w, cache = weight_norm(v, g, centred=centred)
    leaves = [torch.tensor(a, requires_grad=True) for a in (v, g)]
    expected = by_torch(*leaves, centred=centred)
    np.testing.assert_allclose(w, expected.detach(), rtol=1e-10, atol=1e-13)
    grads = weight_norm_backward(dw, cache)
    for got, want in zip(grads, torch.autograd.grad(expected, leaves, torch.tensor(dw)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_forward_and_both_gradients_equal_pytorchs_own():
    v, g, dw = draw((5, 7))
    layer = parametrizations.weight_norm(torch.nn.Linear(7, 5, bias=False, dtype=torch.float64), dim=0)
    length, direction = (layer.get_parameter(f"parametrizations.weight.original{i}") for i in (0, 1))
    with torch.no_grad():
        length.copy_(torch.tensor(g[:, None]))
        direction.copy_(torch.tensor(v))
    w, cache = weight_norm(v, g)
    theirs = layer(torch.eye(7, dtype=torch.float64)).T  # the weights
    np.testing.assert_allclose(w, theirs.detach(), rtol=1e-12)
    dg, dv = torch.autograd.grad(theirs, [length, direction], torch.tensor(dw))
    grads = weight_norm_backward(dw, cache)
    np.testing.assert_allclose(grads.dv, dv, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(grads.dg, dg[:, 0], rtol=1e-9, atol=1e-12)


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_finite_differences(shape: tuple[int, ...], centred: bool):
    v, g, _ = draw(shape)
    check_vjp(lambda v, g: weight_norm(v, g, centred=centred), weight_norm_backward, v, g, rng=np.random.default_rng(1))


@both
def test_tensors_pass_through_the_same_lines(centred: bool):
    v, g, dw = draw((4, 3, 3, 3))
    leaves = [torch.tensor(a, requires_grad=True) for a in (v, g)]
    w, cache = weight_norm(*leaves, centred=centred)
    by_autograd = torch.autograd.grad(w, leaves, torch.tensor(dw))
    with torch.no_grad():
        by_hand = weight_norm_backward(torch.tensor(dw), cache)
    for got, want in zip(by_hand, by_autograd, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@both
def test_rows_have_the_length_g_and_no_mean_where_it_is_taken_away(centred: bool):
    v, g, _ = draw((4, 3, 3, 3))
    w, _ = weight_norm(v, g, centred=centred)
    np.testing.assert_allclose(np.sqrt((w**2).sum((1, 2, 3))), np.abs(g), rtol=1e-12)
    if centred:
        np.testing.assert_allclose(w.mean((1, 2, 3)), 0, atol=1e-12)


@both
def test_a_step_along_dv_is_at_right_angles_to_v(centred: bool):
    v, g, dw = draw((5, 7))
    dv = weight_norm_backward(dw, weight_norm(v, g, centred=centred)[1]).dv
    np.testing.assert_allclose((dv * v).sum(1), 0, atol=1e-12)
    assert (((v - 0.1 * dv) ** 2).sum(1) > (v**2).sum(1)).all()


@both
def test_the_length_of_v_does_not_matter(centred: bool):
    v, g, dw = draw((5, 7))
    (w, cache), (longer, longer_cache) = weight_norm(v, g, centred=centred), weight_norm(3 * v, g, centred=centred)
    np.testing.assert_allclose(longer, w, rtol=1e-12)
    one, three = weight_norm_backward(dw, cache), weight_norm_backward(dw, longer_cache)
    np.testing.assert_allclose(three.dv, one.dv / 3, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(three.dg, one.dg, rtol=1e-9, atol=1e-12)


def test_the_backward_pass_is_that_of_the_norms():
    v, g, dw = draw((5, 7))
    _, cache = weight_norm(v, g)
    np.testing.assert_array_equal(weight_norm_backward(dw, cache).dv, normalize_backward(dw, cache).dx)


def test_the_dtype_stays():
    v, g, dw = (a.astype(np.float32) for a in draw((5, 7)))
    w, cache = weight_norm(v, g)
    assert {w.dtype, *(a.dtype for a in weight_norm_backward(dw, cache))} == {np.dtype(np.float32)}


def in_dtype(a: np.ndarray, dtype: Any) -> Any:
    """An array or tensor of the dtype."""
    return torch.tensor(a).to(dtype) if isinstance(dtype, torch.dtype) else a.astype(dtype)


def in_float64(a: Any) -> np.ndarray:
    return a.double().numpy() if isinstance(a, torch.Tensor) else a.astype(float)


@both
@pytest.mark.parametrize(
    ("dtype", "length"),
    [
        *((np.float64, size) for size in (1e-300, 1e-200, 1e200, 1e306)),
        *((np.float32, size) for size in (1e-36, 1e-25, 1e25, 1e36)),
        *((np.float16, size) for size in (2e-3, 1.0, 3e3)),
        *((torch.float32, size) for size in (1e-36, 1e36)),
        *((torch.bfloat16, size) for size in (1e-36, 1.0, 1e36)),
        *((torch.float16, size) for size in (2e-3, 3e3)),
    ],
)
def test_rows_may_be_as_short_and_as_long_as_the_dtype_allows(centred: bool, dtype, length: float):
    arrays = draw((5, 700))
    info: Any = torch.finfo(dtype) if isinstance(dtype, torch.dtype) else np.finfo(dtype)
    v, g, dw = (in_dtype(a, dtype) for a in (length * arrays[0], *arrays[1:]))
    exact, last = [in_float64(a) for a in (v, g, dw)], float(info.eps)
    w, cache = weight_norm(v, g, centred=centred)
    assert (type(w), w.dtype) == (type(v), v.dtype)
    exact[0] = exact[0] / length  # w does not depend on it, and dv is divided by it
    want, want_cache = weight_norm(exact[0], exact[1], centred=centred)
    grads, want_grads = weight_norm_backward(dw, cache), weight_norm_backward(exact[2], want_cache)
    for name, got, expected in (("w", w, want), ("dg", grads.dg, want_grads.dg)):
        assert got.dtype == v.dtype
        got = in_float64(got)
        np.testing.assert_allclose(got, expected, rtol=4 * last, atol=20 * last * np.abs(expected).max(), err_msg=name)
    if length > 1e-30:  # else dv is beyond the dtype
        scaled = want_grads.dv / length
        atol = 20 * last * np.abs(scaled).max() + float(info.tiny)
        np.testing.assert_allclose(in_float64(grads.dv), scaled, rtol=4 * last, atol=atol)


def test_a_row_is_scaled_by_a_power_of_two_and_so_exactly():
    v, g, dw = draw((5, 7))
    (w, cache), (other, other_cache) = weight_norm(v, g), weight_norm(2.0**-700 * v, g)
    np.testing.assert_array_equal(w, other)
    dv, other_dv = (weight_norm_backward(dw, c).dv for c in (cache, other_cache))
    np.testing.assert_array_equal(dv, 2.0**-700 * other_dv)
    np.testing.assert_allclose(cache.moments.var, (v**2).mean(1), rtol=1e-12)


@both
def test_second_derivatives_are_right(centred: bool):
    leaves = [torch.tensor(a, requires_grad=True) for a in draw((3, 4))[:2]]
    assert torch.autograd.gradgradcheck(lambda v, g: weight_norm(v, g, centred=centred)[0], leaves)


def test_an_array_beside_a_tensor_is_converted_and_byte_order_does_not_matter():
    v, g, _ = draw((5, 7))
    want = weight_norm(v, g)[0]
    np.testing.assert_allclose(weight_norm(torch.tensor(v), g)[0], want, rtol=1e-12)
    np.testing.assert_array_equal(weight_norm(v, torch.tensor(g))[0], want)
    np.testing.assert_array_equal(weight_norm(v.astype(">f8"), g.astype(">f8"))[0], want)
    np.testing.assert_allclose(weight_norm(v.tolist(), [1, 2, 3, 4, 5])[0][4], 5 * v[4] / np.linalg.norm(v[4]))


def with_row(value: float) -> np.ndarray:
    v = draw((5, 7))[0]
    v[2] = value
    return v


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: weight_norm(np.ones(3), np.ones(3)), [r"\(3,\)", r"v.reshape\(1, -1\)"]),
        (lambda: weight_norm(np.ones((4, 3)), np.ones(3)), [r"\(3,\)", r"\(4, 3\)", "each of its rows"]),
        (lambda: weight_norm(np.ones((4, 0)), np.ones(4)), [r"\(4, 0\)", "empty"]),
        (lambda: weight_norm(np.ones((4, 3), int), np.ones(4)), ["int64", "convert"]),
        (lambda: weight_norm(with_row(0), np.ones(5)), [r"row 2 of v \(5, 7\) is zero", "draw"]),
        (lambda: weight_norm(with_row(4), np.ones(5), centred=True), [r"row 2 of v \(5, 7\) is constant", "draw"]),
        (lambda: weight_norm(np.ma.masked_array(with_row(1), with_row(1) > 2), np.ones(5)), [r"v of shape", "masked"]),
        (lambda: weight_norm(with_row(1), np.ma.masked_array(np.ones(5), np.arange(5) > 3)), [r"g of shape", "masked"]),
        (lambda: weight_norm(with_row(1), None), ["g is None: pass an array"]),
        (lambda: weight_norm(with_row(1), 1j * np.ones(5)), [r"g of shape \(5,\) holds complex128"]),
        (lambda: weight_norm(with_row(1), torch.ones(5).requires_grad_()), ["g is a tensor that autograd follows"]),
        (lambda: weight_norm_backward(with_row(1), weight_norm(with_row(1), np.ones(5))), ["cache is a tuple of 2"]),  # pyright: ignore
        (lambda: weight_norm_backward(np.ones((5, 6)), weight_norm(with_row(4), np.ones(5))[1]), [r"\(5, 6\)"]),
    ],
)
def test_bad_input_names_the_value_the_shape_and_the_remedy(call, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the words are checked below)
        call()
    for word in words:
        assert error.match(word)


def test_a_constant_row_has_a_direction_as_long_as_it_is_not_centred():
    np.testing.assert_allclose(weight_norm(with_row(4), np.ones(5))[0][2], 7**-0.5, rtol=1e-12)


def test_the_flag_goes_by_its_name_and_is_a_flag():
    v, g = np.eye(3, 4), np.ones(3)
    with pytest.raises(TypeError, match="positional"):
        weight_norm(v, g, 1e-5)  # pyright: ignore
    with pytest.raises(ValueError, match="centred is 1e-05: give True or False"):
        weight_norm(v, g, centred=1e-5)  # pyright: ignore
