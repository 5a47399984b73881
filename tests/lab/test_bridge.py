"""bnlib's own gradient passes through autograd as a gradient of PyTorch's would."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bnlib.lab.bridge import normalized
from bnlib.norms import Layout, batch_layout, group_layout, instance_layout, layer_layout

LAYOUTS = {
    "batch": batch_layout((7, 3)),
    "batch of images": batch_layout((4, 3, 2, 2)),
    "replicas of batches": Layout((2, 3, 5), (2, 3, 1), (2,)),
    "layer": layer_layout((5, 6)),
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_stays(random, dtype: torch.dtype):
    layout = batch_layout((5, 3))
    x, gamma, beta = (leaf.detach().to(dtype).requires_grad_() for leaf in inputs(random, layout))
    y, _ = normalized(x, gamma, beta, layout)
    assert {y.dtype, *(g.dtype for g in torch.autograd.grad(y.sum(), [x, gamma, beta]))} == {dtype}


def test_bad_input_is_the_error_of_the_norm(random):
    with pytest.raises(ValueError, match="leaves 1 value per statistic"):
        normalized(random(1, 3), random(3), random(3), batch_layout((1, 3)))
    with pytest.raises(ValueError, match=r"gamma has shape \(4,\)"):
        normalized(random(5, 3), random(4), random(3), batch_layout((5, 3)))
    with pytest.raises(ValueError, match="eps is -1"):
        normalized(random(5, 3), random(3), random(3), batch_layout((5, 3)), -1)
