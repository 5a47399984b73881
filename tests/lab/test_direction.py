"""What chapter 12 measures says of networks what plain lines, and bnlib's own training, say of them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from bnlib.data import load
from bnlib.lab.experiments import direction
from bnlib.lab.experiments.direction import (
    MEMORY,
    Orthogonal,
    angle,
    apart,
    cosine,
    growing,
    orthogonal,
    participation,
    reaching,
    started,
    stream,
    turning,
)
from bnlib.lab.nets import forward, mlp, start
from bnlib.lab.records import Settings
from bnlib.lab.train import Run, train

SPEC = {"widths": [7, 6], "activation": "sigmoid", "norm": "batch"}


def test_every_experiment_says_for_each_claim_what_decides():
    claims = [q.id for e in direction.EXPERIMENTS for q in getattr(e, "questions", [])]
    assert claims == ["auto-rate", "start-enough", "skip-init"]
    for name in ("decay-is-rate", "residual-identity", "uniform-margin"):
        assert f"*{name}*" in str(direction.__doc__)


# Any rate


def test_decades_are_counted_of_networks_whose_hidden_weights_have_the_rate():
    rates = [0.01, 1.0, 100.0]
    runs: list[Settings] = [{"seed": 0, "lr": 0.5}, {"seed": 1, "lr": 0.25}]
    how: dict[str, Any] = {"steps": 6, "inputs": "centred"}
    values = reaching(spec=SPEC, runs=runs, rates=rates, target=0.3, dtype="float64", **how)
    net = mlp(**SPEC)
    for seed, (own, rest) in enumerate(zip(values["val"], (0.5, 0.25), strict=True)):
        for rate, val in zip(rates, own, strict=True):
            factors = (("0.affine.weight", rate / rest), ("1.affine.weight", rate / rest))
            (history,) = train([Run(net=net, seed=seed, lr=rest, factors=factors, **how)], dtype=torch.float64)
            assert val == history.val_accuracy[-1]
        assert values["decades"][seed] == 0.5 * sum(v >= 0.3 for v in own)
    assert len(set(values["val"][0])) > 1


# The angle of an update


def test_an_angle_is_that_of_the_cosine_and_is_exact_where_it_is_small():
    a, b = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[1.0, 1.0], [-4.0, 3.0]])
    torch.testing.assert_close(angle(a, b), torch.tensor([math.pi / 4, math.pi / 2]))
    tiny = torch.tensor([[1.0, 1e-6]])
    assert angle(torch.tensor([[5.0, 0.0]]), tiny).item() == pytest.approx(1e-6, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_ratio_is_that_of_the_weights_after_each_update(optimizer: str):
    lr, decay = 0.1, 0.5
    how: dict[str, Any] = {"inputs": "centred", "batch": 60}
    found = turning(
        spec=SPEC, layer=1, seeds=2, lr=lr, decay=decay, optimizer=optimizer, times=0.5, dtype="float64", **how
    )
    decayed = ("0.affine.weight", "1.affine.weight")
    run = Run(net=mlp(**SPEC), lr=lr, decay=decay, decayed=decayed, steps=10, optimizer=optimizer, **how)
    run = replace(run, decoupled=optimizer == "adam")
    for seed in range(2):
        (history,) = train([replace(run, seed=seed)], keep=range(11), dtype=torch.float64)
        w = np.array([history.states[t].params["1.affine.weight"][0].numpy() for t in range(11)])
        unit = w / np.linalg.norm(w, axis=2, keepdims=True)
        each = np.arccos((unit[5:-1] * unit[6:]).sum(2)) / math.sqrt(2 * lr * decay) / MEMORY[optimizer]
        angles = each.mean(0)
        assert found["rms"][seed] == pytest.approx(np.sqrt((each**2).mean(0)).mean())
        assert found["ratio"][seed] == pytest.approx(angles.mean())
        assert (found["least"][seed], found["most"][seed]) == pytest.approx((angles.min(), angles.max()))
        assert found["length"][seed] == pytest.approx(np.linalg.norm(w[-1], axis=1).mean())


def test_independent_gradients_turn_by_what_the_optimizers_memory_says():
    """A weight vector in many dimensions, whose gradients are random and at right angles to it."""
    lr, decay, rng = 0.01, 1.0, np.random.default_rng(0)
    for optimizer, memory in (("momentum", 0.9), ("adam", 0.9)):
        w, mean, found = rng.normal(size=4000) / 30, 0.0, []
        for _ in range(900):
            g = rng.normal(size=4000)
            g -= (g @ w) / (w @ w) * w
            if optimizer == "adam":  # whose second moment is 1
                mean = memory * mean + (1 - memory) * g
                new = w - lr * decay * w - lr * mean
            else:
                mean = memory * mean + g / np.linalg.norm(w) + decay * w
                new = w - lr / 10 * mean
            found.append(np.arccos(w @ new / np.linalg.norm(w) / np.linalg.norm(new)))
            w = new
        rate = lr / 10 if optimizer == "momentum" else lr
        assert np.mean(found[-200:]) == pytest.approx(MEMORY[optimizer] * math.sqrt(2 * rate * decay), rel=0.02)


# Gradients and ranks


def test_orthogonal_weights_have_orthogonal_rows_of_length_one_or_columns():
    drawn = torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q = orthogonal(drawn)
    torch.testing.assert_close(q @ q.mT, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    tall = orthogonal(drawn.mT)
    torch.testing.assert_close(tall.mT @ tall, 9 / 4 * torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    assert tall.square().sum(2).mean().item() == pytest.approx(1)
    assert (q * drawn).sum(2).min() > 0  # as Gram and Schmidt have it, whatever the signs of LAPACK's


def test_rank_and_cosine_by_hand():
    h = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0]])  # eigenvalues 8, 4, 0
    assert participation(h) == pytest.approx(144 / 80)
    assert cosine(h) == pytest.approx(1 / 3)


def test_a_gradient_grows_as_pytorchs():
    kinds = ("plain", "one step", "without", "residual", "orthogonal")
    how: dict[str, Any] = {"data": "digits", "batch": 20, "width": 11, "depth": 5, "between": [2, 4], "lr": 0.3}
    for kind in kinds:
        (found,) = growing(kind=kind, seeds=1, dtype="float64", **how)["factor"]
        generator, split = torch.Generator().manual_seed(0), load("digits", 0, "centred")
        x, y = torch.tensor(split.x_train[:20]), torch.tensor(split.y_train[:20]).long()
        weights = []
        for inputs, units in ((64, 11), *[(11, 11)] * 4, (11, 10)):
            w = torch.randn(units, inputs, generator=generator, dtype=torch.float64)
            w = orthogonal(w) if kind == "orthogonal" and units == inputs else w / inputs**0.5
            weights.append((2**0.5 * w).requires_grad_())
        zs, loss = [x], x.sum()
        for last in (False, True) if kind == "one step" else (True,):
            zs = [x @ weights[0].T]
            for w in weights[1:]:
                h = zs[-1] if kind == "without" else functional.batch_norm(zs[-1], None, None, training=True)
                z = torch.relu(h) @ w.T
                zs.append(zs[-1] + z if kind == "residual" and z.shape[1] == 11 else z)
            loss = functional.cross_entropy(zs[-1], y)
            if not last:
                grads = torch.autograd.grad(loss, weights)
                weights = [(w - 0.3 * g).detach().requires_grad_() for w, g in zip(weights, grads, strict=True)]
        low, high = torch.autograd.grad(loss, [zs[1], zs[3]])
        assert found == pytest.approx((low.norm() / high.norm()).item() ** 0.5), kind


@pytest.mark.parametrize("kind", ["batch", "none", "orthogonal"])
def test_examples_are_kept_apart_as_by_plain_lines(kind: str):
    values = apart(
        data="digits", activation="tanh", kind=kind, seeds=1, examples=12, width=9, layers=[1, 3], gains={"tanh": 1.2}
    )
    generator, h = torch.Generator().manual_seed(0), torch.tensor(load("digits", 0, "centred").x_train[:12])
    for layer in (1, 2, 3):
        w = torch.randn(9, h.shape[1], generator=generator, dtype=torch.float64)
        z = h @ (1.2 * (orthogonal(w) if kind == "orthogonal" else w / h.shape[1] ** 0.5)).T
        h = torch.tanh(functional.batch_norm(z, None, None, training=True) if kind == "batch" else z)
        if layer in (1, 3):
            s = torch.linalg.svdvals(h) ** 2
            assert values["rank"][0][layer // 2] == pytest.approx((s.sum() ** 2 / (s**2).sum()).item())
            off = torch.corrcoef(torch.cat([h, -h], 1)).fill_diagonal_(0).sum() / (12 * 11)  # about 0: the cosine
            assert values["cosine"][0][layer // 2] == pytest.approx(off.item())


# Orthogonal starts, and residual blocks


def test_training_starts_from_orthogonal_weights_with_the_gain():
    run = Run(net=mlp(widths=[8, 8]), seed=3, gain=1.5, steps=4, inputs="centred")
    (history,) = train([run], keep=[0], hooks=[Orthogonal])
    for path, units in (("0", 8), ("1", 8), ("2", 10)):
        w = history.states[0].params[f"{path}.affine.weight"][0]
        if units == 8:
            torch.testing.assert_close(w @ w.T, 2.25 * torch.eye(8), rtol=1e-5, atol=1e-5)
        else:
            torch.testing.assert_close(w.T @ w, 2.25 * 10 / 8 * torch.eye(8), rtol=1e-5, atol=1e-5)
    runs: list[Settings] = [{"seed": 3, "lr": 0.1, "gain": 1.5}]
    how: dict[str, Any] = {"steps": 4, "dtype": "float32", "inputs": "centred"}
    spec = {"widths": [8, 8]}
    assert started(spec=spec, runs=runs, start="orthogonal", **how)["test"] == [history.test_accuracy]
    assert started(spec=spec, runs=runs, start="normal", **how)["test"] == [train([run])[0].test_accuracy]


def test_a_stream_is_untouched_by_branches_that_start_at_zero():
    x = torch.randn(1, 20, 5, generator=torch.Generator().manual_seed(0))
    nets = {arm: stream([5], 6, 3, arm) for arm in ("batch norm", "SkipInit", "none")}
    out = {arm: forward(net, start(net, [0]).params, x)[0] for arm, net in nets.items()}
    params = start(nets["SkipInit"], [0]).params
    weights = [value[0] for name, value in params.items() if name.endswith("weight")]
    assert len(weights) == 5
    by_hand = torch.relu(x[0] @ weights[0].T) @ weights[-1].T
    torch.testing.assert_close(out["SkipInit"][0], by_hand)
    h = x[0] @ weights[0].T
    normed = h
    for w in weights[1:-1]:
        h = h + torch.relu(h) @ w.T
        normed = normed + torch.relu(functional.batch_norm(normed, None, None, training=True)) @ w.T
    torch.testing.assert_close(out["none"][0], torch.relu(h) @ weights[-1].T)
    normed = torch.relu(functional.batch_norm(normed, None, None, training=True))
    torch.testing.assert_close(out["batch norm"][0], normed @ weights[-1].T, rtol=1e-4, atol=1e-5)
