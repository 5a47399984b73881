"""bnlib's own gradient passes through autograd as a gradient of PyTorch's would."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bnlib.lab.bridge import normalized
from bnlib.norms import Layout, batch_layout, group_layout, instance_layout, layer_layout, normalize

LAYOUTS = {
    "batch": batch_layout((7, 3)),
    "batch of images": batch_layout((4, 3, 2, 2)),
    "replicas of batches": Layout((2, 3, 5), (2, 3, 1), (2,)),
    "layer": layer_layout((5, 6)),
    "layer over all axes": layer_layout((3, 4), 2),
    "replicas of layers": Layout((2, 6, 3), (2, 6, 1), (1,)),
    "group": group_layout((3, 6, 2), 2),
    "instance": instance_layout((3, 2, 4)),
    "rms": replace(layer_layout((5, 6)), centred=False),
    "mean only": replace(batch_layout((7, 3)), scaled=False),
}
by_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


@pytest.fixture
def random():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def inputs(random, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    """A random x of several units' spread, gamma and beta, all to be differentiated."""
    x, gamma, beta = 3 + 2 * random(*layout.view), random(*layout.params), random(*layout.params)
    return x.requires_grad_(), gamma.requires_grad_(), beta.requires_grad_()


def by_autograd(x: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, eps: float = 1e-5) -> Tensor:
    """The same transform with nothing but torch's own derivatives."""
    view = x.reshape(layout.view)
    var, mean = torch.var_mean(view, layout.axes, correction=0, keepdim=True)
    if not layout.centred:
        mean, var = 0, view.square().mean(layout.axes, keepdim=True)
    xhat = (view - mean) / (var + eps).sqrt() if layout.scaled else view - mean
    return (gamma.reshape(layout.params) * xhat + beta.reshape(layout.params)).reshape(x.shape)


@by_layout
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_gradcheck(random, layout: Layout, eps: float):
    assert torch.autograd.gradcheck(
        lambda x, gamma, beta: normalized(x, gamma, beta, layout, eps)[0], inputs(random, layout)
    )


@by_layout
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_the_gradient_has_a_gradient_too(random, layout: Layout, eps: float):
    assert torch.autograd.gradgradcheck(
        lambda x, gamma, beta: normalized(x, gamma, beta, layout, eps)[0], inputs(random, layout)
    )


@by_layout
def test_second_and_third_derivatives_are_those_of_autograd_through_the_norms(random, layout: Layout):
    leaves, factors = inputs(random, layout), [random(*layout.view) for _ in range(3)]

    def derivatives(norm) -> list[Tensor]:
        """Of a penalty on a gradient, as in a GAN, and of a penalty on that one's."""
        y = norm(*leaves, layout)[0]
        first = torch.autograd.grad((y.tanh() * factors[0]).sum(), leaves, create_graph=True)
        second = torch.autograd.grad((first[0].square() * factors[1]).sum() + first[1].sum(), leaves, create_graph=True)
        return [*first, *second, *torch.autograd.grad((second[0].sin() * factors[2]).sum(), leaves)]

    for one, other in zip(derivatives(normalized), derivatives(normalize), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_without_a_second_derivative_the_saved_values_are_used(random, monkeypatch: pytest.MonkeyPatch):
    layout = batch_layout((7, 3))
    leaves = inputs(random, layout)
    y, _ = normalized(*leaves, layout)
    monkeypatch.setattr("bnlib.lab.bridge.transform", None)  # would raise
    dy = random(*y.shape)
    torch.autograd.grad(y, leaves, dy, retain_graph=True)
    with pytest.raises(TypeError):
        torch.autograd.grad(y, leaves, dy, create_graph=True)


@by_layout
def test_value_and_gradients_are_those_of_autograd(random, layout: Layout):
    leaves = inputs(random, layout)
    ours, theirs = normalized(*leaves, layout)[0], by_autograd(*leaves, layout)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    dy = random(*ours.shape)
    for one, other in zip(torch.autograd.grad(ours, leaves, dy), torch.autograd.grad(theirs, leaves, dy), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_it_stands_within_a_larger_graph(random):
    layout = batch_layout((6, 4))
    x, weight, (_, gamma, beta) = random(6, 5), random(5, 4).requires_grad_(), inputs(random, layout)
    grads = [
        torch.autograd.grad((norm(torch.tanh(x @ weight)).sigmoid() * x[:, :4]).sum(), [weight, gamma, beta])
        for norm in (
            lambda z: normalized(z, gamma, beta, layout)[0],
            lambda z: by_autograd(z, gamma, beta, layout),
        )
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_it_can_be_mapped_over_replicas(random):
    layout = batch_layout((6, 4))
    x, gamma, beta, dy = random(3, 6, 4), random(3, 4), random(3, 4), random(3, 6, 4)

    def loss(x, gamma, beta, dy):
        return (normalized(x, gamma, beta, layout)[0] * dy).sum()

    mapped = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)))(x, gamma, beta, dy)
    for r in range(3):
        leaves = x[r].clone().requires_grad_(), gamma[r].clone().requires_grad_(), beta[r].clone().requires_grad_()
        alone = torch.autograd.grad(by_autograd(*leaves, layout), leaves, dy[r])
        for one, other in zip(mapped, alone, strict=True):
            torch.testing.assert_close(one[r], other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["batch", "layer", "group", "rms"])
def test_second_derivatives_can_be_mapped_over_replicas(random, name: str):
    layout = LAYOUTS[name]
    x, gamma, beta = random(3, *layout.view), random(3, *layout.params), random(3, *layout.params)
    dy, v = random(3, *layout.view), random(3, *layout.view)

    def penalty(norm):
        def loss(x, gamma, beta, dy):
            return (norm(x, gamma, beta, layout)[0].tanh() * dy).sum()

        def of_gradient(x, gamma, beta, dy, v):
            dx, dgamma, _ = torch.func.grad(loss, argnums=(0, 1, 2))(x, gamma, beta, dy)
            return (dx.square() * v).sum() + dgamma.square().sum()

        return torch.func.grad(of_gradient, argnums=(0, 1, 2))

    mapped = torch.func.vmap(penalty(normalized))(x, gamma, beta, dy, v)
    for r in range(3):
        alone = penalty(normalize)(x[r], gamma[r], beta[r], dy[r], v[r])
        for one, other in zip(mapped, alone, strict=True):
            torch.testing.assert_close(one[r], other, rtol=1e-9, atol=1e-11)


@by_layout
def test_the_cache_holds_the_statistics_and_carries_no_gradient(random, layout: Layout):
    leaves = inputs(random, layout)
    y, cache = normalized(*leaves, layout)
    view, axes = leaves[0].detach().reshape(layout.view), layout.axes
    mean = view.mean(axes) if layout.centred else torch.zeros_like(cache.moments.mean)
    torch.testing.assert_close(cache.moments.mean, mean)
    torch.testing.assert_close(cache.moments.var, view.var(axes, correction=0) + (view.mean(axes) - mean).square())
    if layout.centred:
        torch.testing.assert_close(cache.xhat.mean(axes), torch.zeros_like(mean), rtol=0, atol=1e-12)
    assert cache.moments.count == layout.count
    assert y.requires_grad
    tensors = [cache.xhat, cache.rstd, cache.moments.mean, cache.moments.var]
    assert not any(tensor.requires_grad for tensor in tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("create_graph", [False, True])
def test_the_dtype_stays(random, dtype: torch.dtype, create_graph: bool):
    layout = batch_layout((5, 3))
    x, gamma, beta = (leaf.detach().to(dtype).requires_grad_() for leaf in inputs(random, layout))
    y, _ = normalized(x, gamma, beta, layout)
    grads = torch.autograd.grad(y.sum(), [x, gamma, beta], create_graph=create_graph)
    assert {y.dtype, *(g.dtype for g in grads)} == {dtype}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("create_graph", [False, True])
def test_half_precision_is_computed_in_float32(random, dtype: torch.dtype, mixed: bool, create_graph: bool):
    layout = batch_layout((64, 3))
    x, gamma, beta = (100 + random(64, 3)).to(dtype), random(3), random(3)
    gamma, beta = (t.to(torch.float32 if mixed else dtype) for t in (gamma, beta))
    leaves = [t.requires_grad_() for t in (x, gamma, beta)]
    exact = [t.detach().double().requires_grad_() for t in leaves]
    (y, cache), want = normalized(x, gamma, beta, layout), by_autograd(exact[0], exact[1], exact[2], layout)
    assert {cache.xhat.dtype, cache.rstd.dtype, cache.moments.mean.dtype, cache.moments.var.dtype} == {torch.float32}
    dy, last = random(64, 3).to(dtype), torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), want, rtol=last, atol=1e-5)
    grads = torch.autograd.grad(y, leaves, dy, create_graph=create_graph)
    for leaf, got, expected in zip(leaves, grads, torch.autograd.grad(want, exact, dy.double()), strict=True):
        assert got.dtype == leaf.dtype
        close = 1e-5 if leaf.dtype == torch.float32 else last
        torch.testing.assert_close(got.double(), expected, rtol=close, atol=1e-4)


def test_arrays_beside_a_tensor_are_converted(random):
    layout = batch_layout((5, 3))
    x, gamma, beta = inputs(random, layout)
    y, _ = normalized(x, gamma.detach().numpy(), beta.detach().numpy(), layout, np.float64(0.1))  # pyright: ignore
    want, _ = normalized(x, gamma, beta, layout, 0.1)
    assert torch.equal(y, want)
    assert torch.equal(*(torch.autograd.grad(out.square().sum(), x)[0] for out in (y, want)))


def test_bad_input_is_the_error_of_the_norm(random):
    with pytest.raises(ValueError, match="leaves 1 value per statistic"):
        normalized(random(1, 3), random(3), random(3), batch_layout((1, 3)))
    with pytest.raises(ValueError, match=r"gamma has shape \(4,\)"):
        normalized(random(5, 3), random(4), random(3), batch_layout((5, 3)))
    with pytest.raises(ValueError, match="eps is -1"):
        normalized(random(5, 3), random(3), random(3), batch_layout((5, 3)), -1)
    with pytest.raises(ValueError, match=r"eps is a tensor of shape \(\), but"):
        normalized(random(5, 3), random(3), random(3), batch_layout((5, 3)), torch.tensor(1e-5))  # pyright: ignore
    with pytest.raises(ValueError, match=r"x is a ndarray: pass a tensor, or call bnlib\.norms\.normalize"):
        normalized(np.ones((5, 3)), random(3), random(3), batch_layout((5, 3)))  # pyright: ignore
    with pytest.raises(ValueError, match=r"holds torch\.int64: convert it to float first"):
        normalized(torch.ones(5, 3, dtype=torch.int64), random(3), random(3), batch_layout((5, 3)))


@by_layout
def test_y_may_be_changed_in_place(random, layout: Layout):
    """As by an activation with inplace=True, and whether x has the shape of the view or not."""
    x, gamma, beta = inputs(random, layout)
    flat = x.detach().flatten().requires_grad_()
    want = torch.autograd.grad(by_autograd(x, gamma, beta, layout).relu().square().sum(), (x, gamma, beta))
    for value in (x, flat):
        y = torch.nn.functional.relu(normalized(value, gamma, beta, layout)[0], inplace=True)
        assert y.shape == value.shape
        for got, expected in zip(torch.autograd.grad(y.square().sum(), (value, gamma, beta)), want, strict=True):
            torch.testing.assert_close(got.reshape(expected.shape), expected)
