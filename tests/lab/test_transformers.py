"""What chapter 16 measures, on small cases that can be written out."""

import numpy as np
import pytest
import torch

from bnlib.lab import nets
from bnlib.lab.comparisons import Comparison
from bnlib.lab.experiments.transformers import flips, future, guessed, placements
from bnlib.lab.layers import Norm
from bnlib.lab.nets import made
from bnlib.lab.train import each_loss

SMALL = {"batch": 5, "length": 6, "blocks": 1, "units": 8, "steps": 3, "last": 2, "dtype": "float64"}


def test_each_flip_is_followed_by_what_is_to_be_guessed():
    rngs = [np.random.default_rng(seed) for seed in (3, 4)]
    x, y = flips(rngs, 500, 7)
    assert x.shape == y.shape == (2, 500, 7)
    assert torch.equal(x[..., 1:], y[..., :-1])
    assert set(x.unique().tolist()) == {0, 1}
    assert y.double().mean().item() == pytest.approx(0.5, abs=0.03)
    assert not torch.equal(x[0], x[1])
    again, _ = flips([np.random.default_rng(4)], 500, 7)
    assert torch.equal(again[0], x[1])


def test_a_loss_is_each_replicas_mean_over_examples_and_positions():
    logits, y = torch.randn(2, 3, 4, 2, dtype=torch.float64), torch.randint(2, (2, 3, 4))
    chances = logits.exp() / logits.exp().sum(-1, keepdim=True)
    expected = -chances.gather(-1, y[..., None]).log().mean((1, 2, 3))
    torch.testing.assert_close(each_loss(logits, y), expected)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_guessing_is_adam_on_fresh_flips(norm: str):
    (run, other) = {"seed": 3, "lr": 0.01}, {"seed": 4, "lr": 0.03}
    values = guessed(norm=norm, runs=[run, other], **SMALL)
    alone = guessed(norm=norm, runs=[run], **SMALL)
    assert values["excess"][0] == pytest.approx(alone["excess"][0], rel=1e-9)
    assert values["used"][0] == pytest.approx(alone["used"][0], rel=1e-9)
    assert values["picked"] == [-v for v in values["excess"]]

    net, rng = nets.transformer(2, 6, 8, 1, norm=norm), np.random.default_rng([3, 5])
    params, stats = nets.start(net, [3], dtype=torch.float64)
    optimizer = torch.optim.Adam([value.requires_grad_() for value in params.values()], lr=0.01)
    seen = []
    for _ in range(3):
        tokens = torch.tensor(rng.integers(0, 2, (5, 7)))
        logits, moments = nets.forward(net, params, tokens[None, :, :-1])
        loss = torch.nn.functional.cross_entropy(logits[0].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stats = {path: stats[path].update(own) for path, own in moments.items()}
        seen.append(loss.item())
    assert values["excess"][0] == pytest.approx(np.mean(seen[-2:]) - np.log(2), rel=1e-7)
    later = []
    with torch.no_grad():
        for _ in range(2):
            tokens = torch.tensor(rng.integers(0, 2, (5, 7)))
            logits, _ = nets.forward(net, params, tokens[None, :, :-1], stats or None)
            later.append(torch.nn.functional.cross_entropy(logits[0].flatten(0, 1), tokens[:, 1:].flatten()).item())
    assert values["used"][0] == pytest.approx(np.mean(later) - np.log(2), rel=1e-7)


@pytest.mark.parametrize(("norm", "sees"), [("batch", True), ("layer", False), ("rms", False)])
def test_only_a_norm_over_time_lets_a_causal_network_see_the_future(norm: str, sees: bool):
    net = nets.transformer(2, 6, 8, 2, norm=norm)
    params, _ = nets.start(net, [0], dtype=torch.float64)
    x, _ = flips([np.random.default_rng(0)], 4, 6)
    later = x.clone()
    later[0, 0, 5] = 1 - later[0, 0, 5]
    with torch.no_grad():
        before, after = (nets.forward(net, params, tokens)[0][0, 0, :5] for tokens in (x, later))
    assert torch.equal(before, after) is not sees


@pytest.mark.parametrize("comparison", [future, placements], ids=lambda comparison: comparison.id)
def test_what_is_asked_for_is_an_arm(comparison: Comparison):
    settings = {name: value for name, value in comparison.settings.items() if name != "seeds"}
    arms = [arm.labels for arm in comparison.arms(**settings)]
    asked = [arm for q in comparison.questions for pair in {**q.parts, **q.others}.values() for arm in pair]
    assert all(arms.count(labels) == 1 for labels in asked)


def test_a_placements_network_has_its_norms_and_its_warm_up():
    settings = {name: value for name, value in placements.settings.items() if name != "seeds"}
    for arm in placements.arms(**settings):
        labels, net = arm.labels, made(arm.arguments["spec"])
        norms = [path for path, layer in net.layers.items() if isinstance(layer, Norm)]
        each = {"pre": 2, "post": 2, "peri": 4}[labels["placement"]]
        assert len(norms) == each * labels["blocks"] + (labels["placement"] != "post")
        assert {net.layers[path].name for path in norms} == {labels["norm"]}
        assert arm.arguments["warm_up"] == labels["warm_up"]
