"""What the probes say about a layer is what PyTorch and NumPy say about a plain network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bnlib.lab.nets import Params, Spec, start
from bnlib.lab.probes import signals

UNITS = Spec(inputs=(6,), widths=(9, 7), classes=4, activation="tanh")
IMAGES = Spec(inputs=(2, 4, 4), widths=(3, 5), classes=4, kernel=3, activation="sigmoid")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def network(spec: Spec, generator: torch.Generator) -> Params:
    params = start([spec], [0], torch.float64)
    return {n: p + 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in params.items()}


def batch(spec: Spec, generator: torch.Generator, n: int = 11):
    x = 2 * torch.randn(n, *spec.inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(spec.classes, (n,), generator=generator)


def plain(spec: Spec, params: Params, x: torch.Tensor, y: torch.Tensor):
    """Activation inputs and gradients of a plain network: inputs (layers, N, units, ...), dz and dw by layer."""
    weights = [params[f"weight{i}"][0].clone().requires_grad_() for i in range(3)]
    h, zs, pres = x, [], []
    for i in range(2):
        bias = None if (b := params.get(f"bias{i}")) is None else b[0]
        if spec.kernel:
            z = torch.nn.functional.conv2d(h, weights[i], bias, padding=1)
        else:
            z = torch.nn.functional.linear(h, weights[i], bias)
        pre = z
        if spec.norm == "batch":
            gamma, beta = params[f"gamma{i}"][0], params[f"beta{i}"][0]
            pre = torch.nn.functional.batch_norm(z, None, None, gamma, beta, training=True)
        zs.append(z)
        pres.append(pre.detach().numpy())
        h = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": torch.clone}[
            spec.activation
        ](pre)
    h = h.mean((2, 3)) if spec.kernel else h
    loss = torch.nn.functional.cross_entropy(h @ weights[2].T + params["bias2"][0], y)
    grads = [g.numpy() for g in torch.autograd.grad(loss, [*zs, *weights])]
    return pres, grads[:2], grads[2:]


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_the_numbers_of_each_layer(spec: Spec, norm: str, generator: torch.Generator):
    spec = replace(spec, norm=norm)
    params, (x, y) = network(spec, generator), batch(spec, generator)
    seen = signals(spec, params, x, y)
    pres, dz, dw = plain(spec, params, x, y)
    for i, pre in enumerate(pres):
        assert seen.mean[i] == pytest.approx(pre.mean(), abs=1e-12)
        assert seen.std[i] == pytest.approx(pre.std())
        np.testing.assert_allclose(seen.percentiles[i], np.percentile(pre, [15, 50, 85]))
        assert seen.unit_std[i] == pytest.approx(pre.std(0).mean())
        assert seen.signal_grad[i] == pytest.approx(11 * np.sqrt((dz[i] ** 2).mean()))
    for i, gradient in enumerate(dw):
        weight = params[f"weight{i}"].numpy()
        assert seen.weight_grad[i] == pytest.approx(np.sqrt((gradient**2).mean()))
        assert seen.update_ratio[i] == pytest.approx(np.linalg.norm(gradient) / np.linalg.norm(weight))
    shapes = {name: value.shape for name, value in vars(seen).items()}
    layers = dict.fromkeys(("mean", "std", "saturated", "unit_std", "signal_grad"), (2,))
    assert shapes == layers | {"percentiles": (2, 3), "weight_grad": (3,), "update_ratio": (3,)}


def test_units_that_all_examples_share_tell_nothing_apart(generator: torch.Generator):
    params, (x, y) = network(UNITS, generator), batch(UNITS, generator)
    seen = signals(UNITS, params, x[:1].expand(11, -1), y)
    np.testing.assert_allclose(seen.unit_std, 0, atol=1e-12)
    assert (seen.std > 0.1).all()  # the units still differ from each other


def sigmoid_edge(share: float) -> float:
    """Where the slope of the sigmoid, s (1 - s), is that share of its largest, 1/4."""
    s = (1 + math.sqrt(1 - share)) / 2
    return math.log(s / (1 - s))


@pytest.mark.parametrize(
    ("activation", "flat"),
    [
        ("sigmoid", lambda z: np.abs(z) > sigmoid_edge(0.05)),
        ("tanh", lambda z: np.cosh(z) ** -2.0 < 0.05),
        ("relu", lambda z: z <= 0),
        ("identity", lambda z: np.zeros_like(z, dtype=bool)),
    ],
)
def test_saturated_is_the_share_with_hardly_any_slope(activation: str, flat, generator: torch.Generator):
    spec = replace(UNITS, activation=activation)
    params, (x, y) = network(spec, generator), batch(spec, generator, 200)
    params["weight0"] *= 3
    params["weight1"] *= 9
    seen, (pres, _, _) = signals(spec, params, x, y), plain(spec, params, x, y)
    np.testing.assert_allclose(seen.saturated, [flat(pre).mean() for pre in pres], atol=1e-12)
    if activation != "identity":
        assert (seen.saturated > 0.05).all()


def test_nothing_that_it_is_given_changes(generator: torch.Generator):
    spec = replace(UNITS, norm="batch", gamma=False)
    params, (x, y) = network(spec, generator), batch(spec, generator)
    before = {name: value.clone() for name, value in params.items()}
    signals(spec, params, x, y)
    assert all(torch.equal(before[name], params[name]) and not params[name].requires_grad for name in params)


def test_one_network_at_a_time(generator: torch.Generator):
    params, (x, y) = start([UNITS] * 3, range(3), torch.float64), batch(UNITS, generator)
    with pytest.raises(ValueError, match="there are 3 replicas: pass the parameters of one, with a leading 1"):
        signals(UNITS, params, x, y)
