"""SELU against PyTorch, its moments against quadrature and sampling, its constants against the published ones."""

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch.nn import functional

from bnlib.check import check_vjp
from bnlib.selu import ALPHA, LAMBDA, alpha_dropout, dropout_affine, fixed_point, jacobian, moments, selu
from bnlib.selu import selu_derivative as derivative

POINTS = [(0.0, 1.0), (0.7, 2.3), (-1.4, 0.3), (3.0, 9.0)]
OTHERS = [(ALPHA, LAMBDA), (0.6, 1.9)]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1.7, shape)


def by_quadrature(mean: float, var: float, alpha: float, scale: float) -> tuple[float, float]:
    def moment(power: int) -> float:
        def integrand(x: float) -> float:
            return float(selu(x, alpha, scale)) ** power * float(norm.pdf(x, mean, var**0.5))

        reach = mean - 12 * var**0.5, mean + 12 * var**0.5
        return quad(integrand, *reach, points=[0.0], epsabs=1e-12, limit=200)[0]

    return moment(1), moment(2) - moment(1) ** 2


# The function


def test_the_function_and_its_derivative_are_pytorchs():
    x = draw(50)
    x[:2] = 0.0, -0.0
    t = torch.tensor(x, requires_grad=True)
    y, dy = functional.selu(t), draw(50, seed=1)
    np.testing.assert_allclose(selu(x), y.detach().numpy(), rtol=1e-12, atol=1e-15)
    (grad,) = torch.autograd.grad(y, t, torch.tensor(dy))
    np.testing.assert_allclose(dy * derivative(x), grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize(("alpha", "scale"), OTHERS)
def test_the_derivative_is_that_of_the_function(alpha: float, scale: float):
    def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return selu(x, alpha, scale), x

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (dy * derivative(x, alpha, scale),)

    check_vjp(forward, backward, draw(6, 5), rng=np.random.default_rng(2))


def test_tensors_pass_through_and_autograd_agrees():
    x = torch.tensor(draw(9), requires_grad=True)
    y = selu(x, 0.6, 1.9)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(x))
    torch.testing.assert_close(grad, derivative(x.detach(), 0.6, 1.9))
    np.testing.assert_allclose(y.detach().numpy(), selu(x.detach().numpy(), 0.6, 1.9), rtol=1e-12)


@pytest.mark.parametrize("function", [selu, derivative])
def test_the_dtype_and_the_argument_stay(function):
    for x in (draw(7).astype(np.float32), torch.tensor(draw(7), dtype=torch.float32)):
        before = x + 0
        assert function(x).dtype == x.dtype
        np.testing.assert_array_equal(x, before)
    assert abs(selu(np.array([-1e4]))[0] + ALPHA * LAMBDA) < 1e-12  # and no overflow on the way
    assert np.isfinite(function(np.array([1e4]))).all()


@pytest.mark.parametrize("library", [np.array, torch.tensor])
def test_near_zero_no_digit_is_lost(library):
    x = -np.geomspace(1e-300, 1.0, 61)
    np.testing.assert_allclose(np.asarray(selu(library(x))), LAMBDA * ALPHA * np.expm1(x), rtol=1e-15)
    small = x[:-8]  # here expm1(x) is x + x ** 2 / 2
    np.testing.assert_allclose(np.asarray(selu(library(small))), LAMBDA * ALPHA * (small + small**2 / 2), rtol=1e-2)
    np.testing.assert_allclose(np.asarray(selu(library(x[:20]))) / x[:20], LAMBDA * ALPHA, rtol=1e-12)


def test_far_out_there_are_bounds_and_gradients_without_nan():
    far = [np.inf, 1e308, 800.0, -800.0, -1e308, -np.inf]
    bounds = [np.inf, 1e308 * LAMBDA, 800 * LAMBDA, *[-ALPHA * LAMBDA] * 3]
    np.testing.assert_allclose(selu(np.array(far)), bounds, rtol=1e-15)
    np.testing.assert_allclose(derivative(np.array(far)), [LAMBDA] * 3 + [0] * 3, atol=1e-300)
    x = torch.tensor(far, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(selu(x).sum(), x)
    np.testing.assert_allclose(grad, [LAMBDA] * 3 + [0] * 3, atol=1e-300)
    x = torch.tensor([0.0, -0.0, np.nan], requires_grad=True)
    (grad,) = torch.autograd.grad(selu(x).sum(), x)
    np.testing.assert_allclose(grad[:2], LAMBDA * ALPHA, rtol=1e-6)  # from below, as PyTorch has it
    assert grad[2].isnan()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", [selu, derivative, lambda x: alpha_dropout(x, x > 0, 0.7)])
def test_half_precision_is_rounded_once(function, dtype: str):
    half = torch.tensor(draw(400)).to(getattr(torch, dtype))
    last, want = torch.finfo(half.dtype).eps, function(half.double()).numpy()
    assert function(half).dtype == half.dtype
    np.testing.assert_allclose(function(half).double(), want, rtol=0.51 * last, atol=1e-6)
    if dtype == "float16":
        y = function(half.numpy())
        assert y.dtype == np.float16
        np.testing.assert_allclose(y.astype(float), want, rtol=0.51 * last, atol=1e-6)


def test_byte_order_does_not_matter_and_numbers_and_lists_are_arrays():
    x = draw(9)
    np.testing.assert_array_equal(selu(x.astype(">f8")), selu(x))
    np.testing.assert_array_equal(selu(x.tolist()), selu(x))
    assert selu(-0.5) == selu(np.array([-0.5]))[0]


# Moments


@pytest.mark.parametrize(("point", "constants"), [(p, c) for p in POINTS for c in OTHERS])
def test_the_moments_are_those_of_quadrature(point, constants):
    np.testing.assert_allclose(moments(*point, *constants), by_quadrature(*point, *constants), rtol=1e-8, atol=1e-10)


def test_the_moments_are_those_of_samples():
    x = np.random.default_rng(3).normal(0.7, 2.3**0.5, 400_000)
    mean, var = moments(0.7, 2.3)
    assert abs(selu(x).mean() - mean) < 5 * (var / x.size) ** 0.5
    assert selu(x).var() == pytest.approx(var, rel=0.02)


def test_moments_of_arrays_are_those_of_their_numbers():
    mean, var = np.array([[0.0], [1.0], [-2.0]]), np.array([0.2, 4.0])
    both = np.stack(moments(mean, var))
    assert both.shape == (2, 3, 2)
    for i, j in np.ndindex(3, 2):
        np.testing.assert_allclose(both[:, i, j], moments(mean[i, 0], var[j]), rtol=1e-12)


def test_far_out_the_moments_neither_overflow_nor_lose_their_digits():
    mean, var = moments(0.0, 1e6)  # nearly a ReLU with two levels: half of it on the lower bound
    second = LAMBDA**2 * (0.5e6 + ALPHA**2 / 2)
    assert mean == pytest.approx(LAMBDA * (1e3 * norm.pdf(0) - ALPHA / 2), rel=1e-4)
    assert var + mean**2 == pytest.approx(second, rel=1e-4)
    assert np.isfinite(moments([-500, 500], [1e-3, 1e5])).all()
    np.testing.assert_allclose(moments(2.0, 1e-6), (2 * LAMBDA, 1e-6 * LAMBDA**2), rtol=1e-6)


@pytest.mark.parametrize(("point", "constants"), [(p, c) for p in POINTS for c in OTHERS])
def test_the_jacobian_is_a_finite_difference(point, constants):
    (m, v), h = point, 1e-5
    by_mean = np.subtract(moments(m + h, v, *constants), moments(m - h, v, *constants)) / (2 * h)
    by_var = np.subtract(moments(m, v + h, *constants), moments(m, v - h, *constants)) / (2 * h)
    np.testing.assert_allclose(jacobian(m, v, *constants), np.stack([by_mean, by_var], 1), rtol=1e-6, atol=1e-8)


def test_at_the_fixed_point_the_jacobian_is_the_published_one():
    """Klambauer et al. print it for weights of sum 0 and sum of squares 1, where the first column is 0."""
    np.testing.assert_allclose(jacobian(0, 1)[:, 1], [0.088834, 0.782648], atol=1e-6)


# The fixed point


def test_the_constants_are_the_published_ones():
    alpha, scale = fixed_point()
    assert alpha == pytest.approx(1.6732632423543772848170429916717, abs=1e-13)
    assert scale == pytest.approx(1.0507009873554804934193349852946, abs=1e-13)
    assert (pytest.approx(alpha, abs=1e-13), pytest.approx(scale, abs=1e-13)) == (ALPHA, LAMBDA)


@pytest.mark.parametrize(("mean", "var"), [(0.0, 1.0), (0.0, 3.0), (0.4, 0.8), (-0.5, 2.0)])
def test_the_fixed_point_is_mapped_to_itself(mean: float, var: float):
    np.testing.assert_allclose(moments(0, var, *fixed_point(mean, var)), (mean, var), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mean", [3.0, -0.9, 0.69])
def test_a_mean_out_of_reach_is_a_clear_error(mean: float):
    with pytest.raises(ValueError, match=r"only means between -0\.803 and 0\.683 can be kept"):
        fixed_point(mean, 1.0)


# Dropout


@pytest.mark.parametrize(("keep_prob", "constants"), [(k, c) for k in (0.5, 0.9, 1.0) for c in OTHERS])
def test_after_dropout_mean_and_variance_are_back(keep_prob, constants):
    x = np.random.default_rng(4).normal(size=20_000)
    x = (x - x.mean()) / x.std()
    # The expectation over what is kept, written out: of each value, and of its square.
    kept, gone = (alpha_dropout(x, np.full(x.shape, k), keep_prob, *constants) for k in (True, False))
    assert (keep_prob * kept + (1 - keep_prob) * gone).mean() == pytest.approx(0, abs=1e-12)
    assert (keep_prob * kept**2 + (1 - keep_prob) * gone**2).mean() == pytest.approx(1, rel=1e-12)


def test_dropout_is_pytorchs():
    torch.manual_seed(0)
    x = torch.randn(4000, dtype=torch.float64)
    y = functional.alpha_dropout(x, 0.3, training=True)
    slope, shift = dropout_affine(0.7)
    kept = (y - (slope * x + shift)).abs() < 1e-9
    assert 0.65 < kept.double().mean() < 0.75
    torch.testing.assert_close(alpha_dropout(x, kept, 0.7), y)


def test_kept_may_be_zeros_and_ones_and_tensors_stay_tensors():
    x, kept = draw(8), np.arange(8) % 3 > 0
    expected = alpha_dropout(x, kept, 0.6)
    np.testing.assert_array_equal(alpha_dropout(x, kept.astype(np.float64), 0.6), expected)
    of_tensor = alpha_dropout(torch.tensor(x), torch.tensor(kept), 0.6)
    torch.testing.assert_close(of_tensor, torch.tensor(expected), rtol=1e-12, atol=0)
    assert alpha_dropout(x.astype(np.float32), kept, 0.6).dtype == np.float32
    np.testing.assert_allclose(alpha_dropout(x, np.ones(8, bool), 1.0), x, rtol=1e-12)


# What is wrong


@pytest.mark.parametrize("function", [selu, derivative, lambda x: alpha_dropout(x, np.ones(3, bool), 0.5)])
def test_whole_numbers_are_a_clear_error(function):
    with pytest.raises(ValueError, match=r"x of shape \(3,\) holds int64: convert it to float"):
        function(np.arange(3))


@pytest.mark.parametrize("function", [selu, derivative, lambda x: alpha_dropout(x, np.ones(3, bool), 0.5)])
def test_other_input_is_answered_in_the_words_of_the_norms(function):
    with pytest.raises(ValueError, match=r"x of shape \(3,\) is a masked array.*\.filled\(value\)"):
        function(np.ma.masked_array(np.ones(3), [True, False, False]))
    with pytest.raises(ValueError, match=r"x of shape \(3,\) holds complex128: give its real and its imaginary part"):
        function(np.ones(3) * 1j)
    with pytest.raises(ValueError, match="x is None: pass an array"):
        function(None)


def test_what_is_kept_is_true_or_false():
    with pytest.raises(ValueError, match=r"kept holds other values than 0 and 1: draw it, .* < 0\.5"):
        alpha_dropout(np.ones(3), np.array([0.2, 0.7, 1.0]), 0.5)
    with pytest.raises(ValueError, match=r"kept of shape \(3,\) is a masked array"):
        alpha_dropout(np.ones(3), np.ma.masked_array(np.ones(3), [True, False, False]), 0.5)
    with pytest.raises(ValueError, match=r"mean of shape \(3,\) is a masked array"):
        moments(np.ma.masked_array(np.ones(3), [True, False, False]), 1.0)


@pytest.mark.parametrize(("mean", "var"), [(0, 0), (0, -1.0), (np.nan, 1), (0, np.inf), ([0, 1], [1, 0])])
def test_what_is_no_gaussian_is_a_clear_error(mean, var):
    with pytest.raises(ValueError, match="the variance above 0"):
        moments(mean, var)


@pytest.mark.parametrize("keep_prob", [0.0, -0.1, 1.1, np.nan, "0.5", None])
def test_what_is_no_share_is_a_clear_error(keep_prob: float):
    with pytest.raises(ValueError, match=f"keep_prob is {keep_prob!r}"):
        alpha_dropout(np.ones(3), np.ones(3, bool), keep_prob)


def test_a_mask_of_another_shape_is_a_clear_error():
    with pytest.raises(ValueError, match=r"kept has shape \(4,\), x has shape \(2, 4\)"):
        alpha_dropout(np.ones((2, 4)), np.ones(4, bool), 0.5)


@pytest.mark.parametrize("var", [1e-4, 0.1, 1.0, 30.0])
def test_the_variance_keeps_its_digits_far_from_zero(var: float):
    """Against the same integrals with 300 digits, of which the difference of squares may lose most."""
    alpha, scale = mpmath.mpf(ALPHA), mpmath.mpf(LAMBDA)
    for mean in (-40.0, -33.5, -20.0, -3.0, -1e-6, 0.0, 1e-3, 0.7, 5.0, 1e3, 1e5, 1e8, 1e9):
        with mpmath.workdps(300):
            m, v = mpmath.mpf(mean), mpmath.mpf(var)
            std = mpmath.sqrt(v)
            above, below = mpmath.ncdf(m / std), mpmath.ncdf(-m / std)
            of_x = m * above + std * mpmath.npdf(m / std)
            of_exp, of_exp2 = (mpmath.exp(k * m + k * k * v / 2) * mpmath.ncdf(-(m + k * v) / std) for k in (1, 2))
            first = scale * (of_x + alpha * (of_exp - below))
            square = scale**2 * (v * above + m * of_x + alpha**2 * (of_exp2 - 2 * of_exp + below))
            want = float(first), float(square - first**2)
        np.testing.assert_allclose(moments(mean, var), want, rtol=1e-10, atol=1e-14 if mean == 0 else 0)


def test_no_variance_is_negative():
    mean, var = np.meshgrid(np.r_[-np.logspace(-8, 2, 60), 0, np.logspace(-8, 9, 60)], np.logspace(-12, 4, 40))
    assert (moments(mean, var)[1] >= 0).all()


@pytest.mark.parametrize("value", ["1", None, True, np.ones(2), np.inf, torch.ones(1)])
@pytest.mark.parametrize("name", ["alpha", "scale"])
def test_alpha_and_scale_are_numbers(name: str, value):
    x, change = np.ones(3), {name: value}
    for call in (
        lambda: selu(x, **change),
        lambda: derivative(x, **change),
        lambda: moments(0, 1, **change),
        lambda: jacobian(0, 1, **change),
        lambda: dropout_affine(0.5, **change),
        lambda: alpha_dropout(x, x > 0, 0.5, **change),
    ):
        with pytest.raises(ValueError, match=f"{name} is .*: give a finite number"):
            call()


def test_what_does_not_fit_together_is_a_clear_error():
    with pytest.raises(ValueError, match=r"mean has shape \(2,\) and var has shape \(3,\), which do not fit together"):
        moments([0, 1], [1, 2, 3])
    with pytest.raises(ValueError, match="var is '1': give a finite number"):
        fixed_point(0.0, "1")  # pyright: ignore
