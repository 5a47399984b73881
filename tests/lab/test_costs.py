"""What chapter 17 counts and times."""

import math
from typing import Any

import pytest
import torch

from bnlib.lab.experiments.costs import (
    ARRAYS,
    BY_HAND,
    CHANNELS,
    INPUTS,
    METHODS,
    by_hand,
    costed,
    costs,
    folded,
    kept,
    network,
    norm,
)
from bnlib.lab.experiments.costs import ratios as timed

COUNTED: dict[str, Any] = {"compiled": False, "repetitions": 0}


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_network_has_its_norms_and_no_bias_that_they_replace(kind: str):
    for method in METHODS[kind]:
        net, plain = network(kind, method), network(kind, "none")
        own, none = (sum(p.numel() for p in n.parameters()) for n in (net, plain))
        each = sum(p.numel() for p in norm(kind, method).parameters())
        units, norms = CHANNELS[kind], 8 if kind == "transformer" else 4
        biases = 0 if kind == "transformer" or method in ("rms", "DyT") else units
        expected = 4 * units if method == "weight norm" else norms * each - 4 * biases
        assert own - none == expected, method
        values = costed(what="step", kind=kind, method=method, **COUNTED)
        assert values["parameters"] == [expected]
        assert net(torch.randn(INPUTS[kind])).shape == INPUTS[kind]


def test_batch_norm_over_places_is_that_of_all_examples_and_positions():
    x = 3 + 2 * torch.randn(5, 7, CHANNELS["transformer"])
    y = norm("transformer", "batch")(x)
    torch.testing.assert_close(y, (x - x.mean((0, 1))) / (x.var((0, 1), correction=0) + 1e-5).sqrt())


@pytest.mark.parametrize("kind", ["dense", "images"])
def test_a_folded_network_puts_out_the_same(kind: str):
    net, x = network(kind, "batch"), torch.randn(INPUTS[kind])
    net(x + 1)  # so that its running statistics are not those of the start
    short = folded(net)
    torch.testing.assert_close(short(x), net.eval()(x), rtol=1e-4, atol=1e-4)
    assert len(short) == len(net) - 4


def test_what_is_kept_is_counted_once_and_without_parameters():
    x = torch.randn(6, 5, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(5, 5))
    assert kept(lambda: x @ weight) == 30
    assert kept(lambda: (x * x).exp()) == 60  # x, twice, and the exponential
    for method in ("batch", "layer"):
        (share,) = costed(what="pass", kind="dense", method=method, **COUNTED)["kept"]
        assert 1 < share < 1.01  # the array, and statistics


@pytest.mark.parametrize("kind", ["images", "transformer"])
def test_the_lines_of_this_package_do_what_they_are_compared_with(kind: str):
    x, dy = torch.randn(INPUTS[kind], requires_grad=True), torch.randn(INPUTS[kind])
    layer = norm(kind, BY_HAND[kind])
    grads = by_hand(BY_HAND[kind], x.detach().numpy(), dy.numpy())()
    for ours, theirs in zip(grads, torch.autograd.grad(layer(x), [x, *layer.parameters()], dy), strict=True):
        torch.testing.assert_close(torch.tensor(ours), theirs, rtol=1e-4, atol=1e-3)


def test_ratios_are_those_of_what_is_run():
    calls: list[str] = []
    found = timed(lambda: calls.append("ours"), lambda: calls.append("theirs"), 3)
    assert len(found) == 3
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in found)
    assert calls == ["ours", "theirs"] * 4
    assert timed(lambda: calls.append("ours"), lambda: None, 0) == []


def test_every_norm_is_asked_for_in_each_way():
    asked = [labels for labels, _ in costs.cases(**costs.settings)]
    for kind, methods in METHODS.items():
        for method in methods:
            own = [(a["what"], a.get("compiled")) for a in asked if (a["kind"], a["method"]) == (kind, method)]
            ways = {("step", False), ("step", True), ("use", False)}
            assert set(own) == ways | (set() if method == "weight norm" else {("pass", False)})
    assert all(math.prod(ARRAYS[kind]) >= 2**19 for kind in ARRAYS)
    values = costed(what="use", kind="dense", method="batch, folded", compiled=False, repetitions=2)
    assert len(values["ratio"]) == 2
