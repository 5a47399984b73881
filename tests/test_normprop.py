"""Normalization propagation's constants and closed forms, against integrals, samples and autograd."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from bnlib.check import check_vjp
from bnlib.normprop import GAIN, MEAN, STD, normalized_relu, relu_moments


def integral(f, mean: float = 0.0, std: float = 1.0) -> float:
    """The mean of f(relu(z)) for a Gaussian z, by quadrature on both sides of the kink."""
    below = f(0.0) * norm.cdf(0, mean, std)
    above, _ = quad(lambda z: f(z) * norm.pdf(z, mean, std), 0, max(mean, 0) + 40 * std, points=[max(mean, std)])
    return below + above


def test_the_constants_are_the_moments_of_the_relu_of_a_standard_gaussian():
    np.testing.assert_allclose(MEAN, integral(lambda a: a), rtol=1e-8)
    np.testing.assert_allclose(STD**2, integral(lambda a: (a - MEAN) ** 2), rtol=1e-8)
    np.testing.assert_allclose([MEAN, STD], [0.3989, 0.5838], atol=5e-5)
    assert round(GAIN, 2) == 1.21  # as in the paper


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.0, 3.0), (1.5, 0.5), (-1.5, 0.5), (4.0, 1.0), (-2.0, 2.0)])
def test_the_moments_behind_a_relu_are_the_integrals(mean: float, std: float):
    moments = relu_moments(mean, std**2)
    first = integral(lambda a: a, mean, std)
    np.testing.assert_allclose(moments.mean, first, rtol=1e-7)
    np.testing.assert_allclose(moments.var, integral(lambda a: (a - first) ** 2, mean, std), rtol=1e-7)


def test_the_moments_of_a_standard_gaussian_are_the_constants():
    moments = relu_moments([0.0, 0.0], 1.0)
    np.testing.assert_allclose(moments.mean, [MEAN, MEAN], rtol=1e-12)
    np.testing.assert_allclose(moments.var, [STD**2, STD**2], rtol=1e-12)


def test_far_from_zero_the_relu_passes_all_or_nothing():
    moments = relu_moments([1e6, -1e6], [4.0, 4.0])
    np.testing.assert_allclose(moments.mean, [1e6, 0.0], rtol=1e-12)
    np.testing.assert_allclose(moments.var, [4.0, 0.0], rtol=1e-12)


def test_the_moments_hold_for_samples_of_every_unit_of_a_layer():
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=5), rng.uniform(0.3, 3, 5)
    a = np.maximum(mean + std * rng.normal(size=(400_000, 5)), 0)
    moments = relu_moments(mean, std**2)
    np.testing.assert_allclose(moments.mean, a.mean(0), rtol=0.02)
    np.testing.assert_allclose(moments.var, a.var(0), rtol=0.02)


def test_normalized_relu_has_mean_0_variance_1_and_a_slope_of_root_mean_square_gain():
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    a = normalized_relu(z)
    (slope,) = torch.autograd.grad(a.sum(), z)
    np.testing.assert_allclose([a.mean().item(), a.var().item()], [0, 1], atol=0.01)
    np.testing.assert_allclose(slope.square().mean().sqrt().item(), GAIN, rtol=0.01)


def test_the_gradient_is_the_step_over_the_standard_deviation():
    rng = np.random.default_rng(1)

    def forward(z):
        return normalized_relu(z), z

    def backward(dy, z):
        return [np.where(z > 0, dy / STD, 0)]

    check_vjp(forward, backward, rng.normal(size=(7, 5)), rng=rng)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_and_tensors_give_the_same_in_their_own_dtype(dtype: str):
    z = np.random.default_rng(2).normal(size=(4, 3, 2)).astype(dtype)
    a, t = normalized_relu(z), normalized_relu(torch.as_tensor(z))
    assert a.dtype == z.dtype
    assert t.dtype == getattr(torch, dtype)
    np.testing.assert_allclose(a, t.numpy(), rtol=1e-6)
    np.testing.assert_allclose(normalized_relu(-2.0), -MEAN / STD)


def test_the_argument_stays_as_it_was():
    z = np.array([-1.0, 2.0])
    normalized_relu(z)
    assert z.tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("var", [0.0, -1.0, float("nan"), [1.0, 0.0]])
def test_a_variance_that_is_not_positive_is_a_clear_error(var):
    with pytest.raises(ValueError, match=r"smallest variance.*leave such units out"):
        relu_moments(0.0, var)


def test_half_precision_is_rounded_once_and_masks_are_refused():
    z = np.random.default_rng(3).normal(size=300).astype(np.float16)
    want = normalized_relu(z.astype(float))
    for half in (z, torch.tensor(z)):
        a = normalized_relu(half)
        assert a.dtype == half.dtype
        np.testing.assert_allclose(np.asarray(a, float), want, rtol=2**-11)
    half = torch.tensor(z).bfloat16()
    np.testing.assert_allclose(normalized_relu(half).double(), normalized_relu(half.double()), rtol=2**-8)
    masked = np.ma.masked_array(z, z > 1)
    with pytest.raises(ValueError, match=r"a of shape \(300,\) is a masked array"):
        normalized_relu(masked)
    with pytest.raises(ValueError, match=r"a of shape \(2,\) holds int64: convert it to float first"):
        normalized_relu([1, 2])
    with pytest.raises(ValueError, match=r"mean of shape \(300,\) is a masked array"):
        relu_moments(masked, 1.0)


def test_what_does_not_fit_together_is_a_clear_error():
    with pytest.raises(ValueError, match=r"mean has shape \(2,\) and var has shape \(3,\), which do not fit together"):
        relu_moments([0, 1], [1, 2, 3])
