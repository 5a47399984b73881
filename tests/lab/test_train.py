"""Replicas train as single networks do, written here with torch.nn, torch.optim and loss.backward()."""

import io
import math
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor, nn
from tqdm import tqdm

from bnlib.data import load
from bnlib.lab import nets, records
from bnlib.lab import train as train_module
from bnlib.lab.nets import Params, Spec
from bnlib.lab.train import OPTIMIZERS, History, Run, train

RATES = {"sgd": 0.3, "momentum": 0.03, "rmsprop": 0.001, "adam": 0.003}
STEPS = 50
UNITS = Spec(widths=(16, 12), activation="tanh", groups=2)
IMAGES = Spec(inputs=(4, 4, 4), widths=(4, 6), kernel=3, activation="tanh", groups=2)


# A plain network and its training


def plain_norm(spec: Spec, width: int, positions: bool) -> nn.Module:
    match spec.norm:
        case "batch":
            return nn.BatchNorm2d(width, spec.eps) if positions else nn.BatchNorm1d(width, spec.eps)
        case "layer" if not positions:
            return nn.LayerNorm(width, spec.eps)
        case "layer":
            return nn.GroupNorm(1, width, spec.eps)
        case "group":
            return nn.GroupNorm(spec.groups, width, spec.eps)
        case "rms":
            return PlainRms(width, spec.eps)
        case "mean":
            return PlainMean(width)
        case _:
            return nn.InstanceNorm2d(width, spec.eps, affine=True)


class PlainRms(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        flat = nn.functional.rms_norm(x, x.shape[1:], eps=self.eps)
        shape = (-1, *[1] * (x.ndim - 2))
        return self.weight.reshape(shape) * flat + self.bias.reshape(shape)


class PlainMean(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        axes, shape = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
        mean = x.mean(axes) if self.training else self.running_mean
        if self.training:
            self.running_mean += 0.1 * (mean.detach() - self.running_mean)
            self.running_var += 0.1 * (x.detach().var(axes) - self.running_var)
        return self.weight.reshape(shape) * (x - mean.reshape(shape)) + self.bias.reshape(shape)


class PlainNormed(nn.Module):
    """An affine map whose weights have a direction and a length of their own."""

    def __init__(self, kind: str, weight: Tensor, length: Tensor, bias: Tensor | None):
        super().__init__()
        self.kind, self.weight, self.length = kind, nn.Parameter(weight), nn.Parameter(length)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.flatten(1)
        if self.kind == "standardized":
            rows = rows - rows.mean(1, keepdim=True)
        weight = (self.length[:, None] * nn.functional.normalize(rows, eps=0.0)).reshape(self.weight.shape)
        if weight.ndim == 2:
            return nn.functional.linear(x, weight, self.bias)
        return nn.functional.conv2d(x, weight, self.bias, padding="same")


PLAIN_ACTIVATIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "selu": torch.selu,
    "normprop": lambda z: (torch.relu(z) - (2 * math.pi) ** -0.5) / (0.5 - 0.5 / math.pi) ** 0.5,
}


class Plain(nn.Module):
    """One network as one would write it in PyTorch, with the given initial parameters."""

    def __init__(self, spec: Spec, params: Params):
        super().__init__()
        self.spec, last = spec, len(spec.widths)
        self.act = PLAIN_ACTIVATIONS[spec.activation]
        sizes = [spec.inputs[0], *spec.widths, spec.classes]
        self.affine, self.norm = nn.ModuleList(), nn.ModuleList()
        for i in range(last + 1):
            positions = spec.kernel is not None and i < last
            bias = f"bias{i}" in params
            layer = (
                nn.Conv2d(sizes[i], sizes[i + 1], spec.kernel or 1, padding="same", bias=bias)
                if positions
                else nn.Linear(sizes[i], sizes[i + 1], bias=bias)
            )
            if f"length{i}" in params:
                own = params[f"bias{i}"][0].clone() if bias else None
                weight, length = (params[f"{name}{i}"][0].clone() for name in ("weight", "length"))
                layer = PlainNormed(spec.weights, weight, length, own)
            norm = plain_norm(spec, sizes[i + 1], positions) if f"gamma{i}" in params else nn.Identity()
            self.affine.append(layer)
            self.norm.append(norm)
            for module, own, name in ((layer, "weight", "weight"), (layer, "bias", "bias"), (norm, "weight", "gamma"),
                                      (norm, "bias", "beta")):  # fmt: skip
                if f"{name}{i}" in params:
                    setattr(module, own, nn.Parameter(params[f"{name}{i}"][0].clone()))
            if not isinstance(norm, nn.Identity):
                norm.weight.requires_grad_(spec.gamma)
                norm.bias.requires_grad_(spec.beta)
        self.double()

    def forward(self, x: Tensor, masks: list[Callable[[Tensor], Tensor]] | None = None) -> Tensor:
        spec, last, skip = self.spec, len(self.spec.widths), x
        for i in range(last):
            if spec.placement == "after":
                h = self.norm[i](self.act(self.affine[i](x)))
            elif spec.residual and i > 0 and i % 2 == 0:
                h = self.act(self.norm[i](self.affine[i](x)) + skip)
            else:
                h = self.act(self.norm[i](self.affine[i](x)))
                skip = x
            x = h if masks is None else masks[i](h)
        x = x.mean((2, 3)) if spec.kernel else x
        return self.norm[last](self.affine[last](x))

    def named(self) -> Params:
        """The parameters by the names that bnlib.lab.nets gives them."""
        modules = [("weight", "bias", self.affine), ("gamma", "beta", self.norm)]
        return {
            f"{name}{i}": value.detach()
            for weight, bias, layers in modules
            for i, layer in enumerate(layers)
            for name, own in ((weight, "weight"), ("length", "length"), (bias, "bias"))
            if (value := getattr(layer, own, None)) is not None
        }


def plain_optimizer(run: Run, net: nn.Module) -> torch.optim.Optimizer:
    factors, params = dict(run.factors), []
    for name, value in net.named_parameters():
        module, i, own = name.split(".")
        own = {"weight": "gamma", "bias": "beta"}[own] if module == "norm" else own
        if value.requires_grad:
            params.append({"params": [value], "lr": run.lr * factors.get(own + i, 1.0)})
    match run.optimizer:
        case "sgd":
            return torch.optim.SGD(params, run.lr)
        case "momentum":
            return torch.optim.SGD(params, run.lr, momentum=0.9)
        case "rmsprop":
            return torch.optim.RMSprop(params, run.lr)
        case _:
            return torch.optim.Adam(params, run.lr)


def plain_dropout(spec: Spec, draw: Tensor) -> Callable[[Tensor], Tensor]:
    keep = 1 - spec.dropout
    kept = draw < keep
    if not spec.alpha_dropout:
        return lambda h: h * (kept / keep)
    low = -1.0507009873554805 * 1.6732632423543772  # what selu gives far to the left
    a = (keep + low**2 * keep * (1 - keep)) ** -0.5  # Klambauer and others, section 3
    return lambda h: a * torch.where(kept, h, low) - a * low * (1 - keep)


def plain_training(run: Run, first: Params) -> tuple[Plain, list[float], float]:
    """The network after its training, the loss of each step, and the accuracy on the validation set."""
    spec, split = run.spec, load(run.data, run.seed, run.inputs)
    x, x_val = (torch.tensor(a).reshape(-1, *spec.inputs) for a in (split.x_train, split.x_val))
    y, y_val = torch.tensor(split.y_train), torch.tensor(split.y_val)
    net = Plain(spec, first)
    optimizer = plain_optimizer(run, net)
    lengths = [net.get_parameter(f"affine.{i}.weight").detach().flatten(1).norm(dim=1) for i in range(len(net.affine))]
    shuffle, drop = np.random.default_rng([run.seed, 1]), torch.Generator().manual_seed(run.seed)
    losses: list[float] = []
    while len(losses) < run.steps:
        rows = torch.tensor(shuffle.permutation(len(x)))
        for batch in rows.split(run.batch)[: len(x) // run.batch][: run.steps - len(losses)]:
            masks = None
            if spec.dropout:
                draws = [torch.rand(n, run.batch, generator=drop).T for n in spec.widths]
                masks = [plain_dropout(spec, draw) for draw in draws]
            loss = nn.functional.cross_entropy(net(x[batch], masks), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            for i, length in enumerate(lengths):
                if run.hold and i in spec.normed:
                    weight = net.get_parameter(f"affine.{i}.weight").data.flatten(1)
                    weight *= (length / weight.norm(dim=1))[:, None]
    net.eval()
    return net, losses, (net(x_val).argmax(1) == y_val).double().mean().item()


def assert_like_plain(history: History) -> None:
    run = history.run
    assert history.failed is None
    net, losses, accuracy = plain_training(run, history.states[0].params)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-7)
    params, stats = history.states[run.steps]
    expected = net.named()
    assert params.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(params[name][0], value, rtol=1e-6, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
    assert history.val_accuracy[-1] == pytest.approx(accuracy, abs=1e-12)
    assert stats.keys() == (set(run.spec.normed) if run.spec.norm in nets.OF_BATCHES else set())
    for i, own in stats.items():
        layer = net.norm[i]
        assert own.steps == run.steps
        torch.testing.assert_close(own.mean, layer.running_mean, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(own.var, layer.running_var, rtol=1e-6, atol=1e-8)


def replicas(spec: Spec, optimizer: str = "sgd", **how) -> list[Run]:
    """Three that differ in seed, learning rate and gain."""
    lr = RATES[optimizer]
    settings = [(0, lr, 1.0), (1, 0.3 * lr, 1.7), (2, 0.1 * lr, 0.6)]
    return [
        Run(
            **{"spec": replace(spec, gain=gain), "seed": seed, "lr": rate, "optimizer": optimizer, "steps": STEPS} | how
        )
        for seed, rate, gain in settings
    ]


def train_exactly(runs: list[Run], **how) -> list[History]:
    steps = runs[0].steps
    return train(runs, **{"every": steps, "keep": [0, steps], "dtype": torch.float64} | how)


# Like plain PyTorch


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("norm", ["none", *nets.OF_UNITS])
def test_a_replica_is_a_plain_run(norm: str, optimizer: str):
    for history in train_exactly(replicas(replace(UNITS, norm=norm), optimizer)):
        assert_like_plain(history)


@pytest.mark.parametrize("inputs", ["centred", "standardized"])
def test_inputs_are_those_of_the_data_set(inputs: str):
    for history in train_exactly(replicas(replace(UNITS, norm="batch"), inputs=inputs)):
        assert_like_plain(history)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("norm", ["none", *nets.OF_IMAGES])
def test_a_convolutional_replica_is_a_plain_run(norm: str, optimizer: str):
    for history in train_exactly(replicas(replace(IMAGES, norm=norm), optimizer, batch=8)[:2]):
        assert_like_plain(history)


@pytest.mark.parametrize(
    "spec",
    [
        replace(UNITS, norm="batch", placement="after"),
        replace(UNITS, norm="layer", placement="after", activation="relu"),
        replace(UNITS, norm="batch", where=(1,)),
        replace(UNITS, norm="batch", where=(0, 2), activation="sigmoid"),
        replace(UNITS, norm="batch", where=(0, 1, 2), placement="after"),
        replace(UNITS, norm="batch", where=()),
        replace(UNITS, norm="batch", gamma=False),
        replace(UNITS, norm="group", beta=False),
        replace(UNITS, norm="batch", gamma=False, beta=False, eps=1e-3),
        replace(UNITS, norm="batch", dropout=0.3),
        replace(UNITS, dropout=0.5),
        replace(UNITS, widths=(12,) * 5, activation="relu", residual=True),
        replace(UNITS, widths=(12,) * 5, activation="relu", residual=True, norm="batch"),
        replace(UNITS, widths=(12,) * 5, residual=True, norm="layer", zero_gamma=True),
        replace(IMAGES, widths=(4,) * 3, residual=True, norm="batch", zero_gamma=True),
        replace(IMAGES, norm="batch", placement="after", kernel=5),
        replace(IMAGES, norm="batch", where=(0, 1, 2)),
        replace(UNITS, weights="normed"),
        replace(UNITS, weights="normed", norm="mean", gamma=False),
        replace(UNITS, weights="standardized", norm="group"),
        replace(UNITS, weights="normed", length=1.0, activation="normprop"),
        replace(IMAGES, weights="normed", norm="mean", gamma=False),
        replace(IMAGES, weights="standardized", length=-0.5),
        replace(UNITS, activation="selu"),
        replace(UNITS, activation="selu", dropout=0.3),
        replace(UNITS, activation="selu", dropout=0.3, alpha_dropout=True),
    ],
    ids=lambda spec: spec.norm + "".join(f" {n}={v}" for n, v in vars(spec).items() if v != getattr(UNITS, n))[:60],
)
def test_every_part_of_a_specification_is_what_it_says(spec: Spec):
    calm: dict[str, Any] = {"lr": 0.03} if spec.activation == "selu" else {}  # where rounding does not grow
    for history in train_exactly(replicas(spec, steps=25, batch=20, **calm)[:2]):
        assert_like_plain(history)


@pytest.mark.parametrize("spec", [replace(UNITS, norm="batch"), replace(IMAGES, norm="batch", where=(1,))])
def test_hold_keeps_the_length_of_each_unit_in_front_of_a_norm(spec: Spec):
    for history in train_exactly(replicas(spec, steps=25, batch=20, hold=True)[:2]):
        assert_like_plain(history)
        first, last = (history.states[step].params for step in (0, 25))
        for i in range(3):
            before, after = (p[f"weight{i}"].flatten(2).norm(dim=2) for p in (first, last))
            assert torch.allclose(before, after, rtol=1e-12) == (i in spec.normed)
            assert not torch.equal(first[f"weight{i}"], last[f"weight{i}"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_factors_slow_or_stop_the_parameters_that_they_name(optimizer: str):
    factors = (("weight0", 0.1), ("gamma1", 0.0), ("bias2", 2.0))
    spec = replace(UNITS, norm="batch")
    for history in train_exactly(replicas(spec, optimizer, steps=25, batch=20, factors=factors)[:2]):
        assert_like_plain(history)
        first, last = (history.states[step].params for step in (0, 25))
        still = {name for name in first if torch.equal(first[name], last[name])}
        assert still == {"gamma1"}


@pytest.mark.parametrize(
    "spec", [UNITS, replace(UNITS, weights="normed"), replace(UNITS, weights="normed", norm="mean", gamma=False)]
)
def test_a_start_from_the_data_is_that_of_the_first_mini_batch(spec: Spec):
    runs = replicas(spec, data_init=True, steps=25, batch=20)[:2]
    for run, history in zip(runs, train_exactly(runs), strict=True):
        assert_like_plain(history)
        rows = next(train_module.batches(len(load("digits", run.seed).x_train), 20, run.seed))
        x = torch.tensor(load("digits", run.seed).x_train)[None, rows]
        expected = nets.data_init(spec, nets.start([run.spec], [run.seed], torch.float64), x)
        for name, value in history.states[0].params.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fixed", [("gamma",), ("beta",), ("gamma", "beta")])
def test_what_is_not_learned_stays_put(fixed: tuple[str, ...]):
    (run, *_) = replicas(replace(UNITS, norm="batch", **dict.fromkeys(fixed, False)), steps=5)
    (history,) = train_exactly([run])
    first, last = (history.states[step].params for step in (0, 5))
    for name in first:
        assert torch.equal(first[name], last[name]) == name.startswith(fixed)


# Together and apart


def same_numbers(a: History, b: History) -> bool:
    arrays = [(getattr(a, name), getattr(b, name)) for name in ("loss", "at", "val_loss", "val_accuracy")]
    arrays += [(v.numpy(), b.states[s].params[n].numpy()) for s, state in a.states.items() for n, v in state[0].items()]
    arrays += [(v.var, b.states[s].stats[i].var) for s, state in a.states.items() for i, v in state.stats.items()]
    return a.test_accuracy == b.test_accuracy and all(np.array_equal(x, y, equal_nan=True) for x, y in arrays)


@pytest.mark.parametrize(
    "spec",
    [*(replace(UNITS, norm=norm) for norm in ("none", "batch", "layer")), replace(IMAGES, norm="batch")],
    ids=["none", "batch", "layer", "images"],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_another_learning_rate_of_one_replica_leaves_the_others_bit_for_bit(spec: Spec, optimizer: str):
    runs = replicas(spec, optimizer, steps=8)
    changed = [runs[0], replace(runs[1], lr=3 * runs[1].lr), runs[2]]
    one, other = (train(r, every=4, keep=[8]) for r in (runs, changed))
    assert [same_numbers(a, b) for a, b in zip(one, other, strict=True)] == [True, False, True]


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_replica_that_fails_is_marked_and_leaves_the_others_bit_for_bit(norm: str, optimizer: str):
    runs = replicas(replace(UNITS, activation="relu", norm=norm), optimizer, steps=12)
    changed = [runs[0], replace(runs[1], lr=1e38), runs[2]]
    one, other = (train(r, every=1, keep=[12]) for r in (runs, changed))
    assert same_numbers(one[0], other[0])
    assert same_numbers(one[2], other[2])
    assert [h.failed for h in one] == [None] * 3

    lost = other[1]
    assert lost.failed is not None
    assert 1 < lost.failed <= 12  # the loss of the first step comes before the first update
    before = slice(0, lost.failed - 1)
    assert np.isfinite(lost.loss[before]).all()
    assert np.isnan(lost.loss[lost.failed - 1 :]).all()
    np.testing.assert_array_equal(lost.val_accuracy[lost.failed - 1 :], 0)
    assert np.isnan(lost.val_loss[lost.failed - 1 :]).all()
    assert lost.test_accuracy == 0
    assert [h.failed for h in (other[0], other[2])] == [None, None]


def test_programs_give_the_histories_in_the_order_of_the_runs():
    batch, none = replace(UNITS, norm="batch"), UNITS
    runs = [Run(spec=spec, seed=seed, steps=3) for seed in (3, 1) for spec in (batch, none, batch)]
    histories = train(runs)
    assert [h.run for h in histories] == runs
    assert same_numbers(histories[0], histories[2])
    assert not same_numbers(histories[0], histories[3])


def test_more_runs_than_one_program_takes_are_the_same_runs(monkeypatch: pytest.MonkeyPatch):
    runs = [Run(spec=replace(UNITS, norm="batch"), seed=seed, steps=4) for seed in range(5)]
    together = train(runs, dtype=torch.float64)
    monkeypatch.setattr(train_module, "REPLICAS", 2)
    for a, b in zip(together, train(runs, dtype=torch.float64), strict=True):
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-12)


def test_runs_with_one_seed_are_paired():
    none, batch = train([Run(spec=replace(UNITS, norm=n), seed=4, steps=1) for n in ("none", "batch")], keep=[0])
    for i in range(3):
        assert torch.equal(none.states[0].params[f"weight{i}"], batch.states[0].params[f"weight{i}"])
    fast, slow = train([Run(spec=UNITS, seed=4, steps=1, lr=lr) for lr in (1.0, 0.1)])
    assert fast.loss[0] == slow.loss[0]
    (other,) = train([Run(spec=UNITS, seed=5, steps=1)])
    assert other.loss[0] != fast.loss[0]


def test_dropout_is_the_same_for_a_seed_whatever_its_companions():
    runs = [Run(spec=replace(UNITS, dropout=0.4), seed=seed, steps=4, lr=1.0) for seed in (0, 1, 2)]
    together, alone = train(runs, dtype=torch.float64), train(runs[1:2], dtype=torch.float64)
    np.testing.assert_allclose(together[1].loss, alone[0].loss, rtol=1e-12)
    without = train([replace(run, spec=UNITS) for run in runs], dtype=torch.float64)
    assert abs(without[1].loss[0] - together[1].loss[0]) > 1e-3


# What is measured, and when


def test_every_says_after_which_updates_the_network_is_evaluated():
    run = Run(spec=UNITS, steps=7)
    (all_of_them,), (some,), (last,) = (train([run], every=n) for n in (1, 3, 100))
    assert all_of_them.at.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert some.at.tolist() == [3, 6, 7]
    assert last.at.tolist() == [7]
    np.testing.assert_array_equal(some.val_loss, all_of_them.val_loss[[2, 5, 6]])
    np.testing.assert_array_equal(last.val_accuracy, all_of_them.val_accuracy[[6]])
    assert len(some.loss) == 7


def test_an_accuracy_is_exact_in_single_precision_too():
    (history,) = train([Run(spec=replace(UNITS, activation="relu"), steps=40, lr=0.3)])
    right = history.val_accuracy * 360
    assert (abs(right - right.round()) < 1e-9).all()  # 324 of 360 is 0.9, where float32's would lie below


def test_until_stops_a_program_once_all_replicas_are_there_or_have_failed():
    spec = replace(UNITS, activation="relu", norm="batch")
    runs = [Run(spec=spec, seed=0, lr=1.0, steps=200), Run(spec=spec, seed=1, lr=0.3, steps=200)]
    runs += [Run(spec=spec, seed=2, lr=1e38, steps=200)]
    histories = train(runs, until=0.8)
    fast, slow, lost = histories
    assert lost.failed is not None
    assert lost.steps_to(0.8) == math.inf
    reached = max(fast.steps_to(0.8), slow.steps_to(0.8))
    assert reached < 200
    assert [len(h.loss) for h in histories] == [reached] * 3
    assert [h.at[-1] for h in histories] == [reached] * 3
    first = int(fast.steps_to(0.8)) - 1
    assert fast.val_accuracy[first] >= 0.8
    assert (fast.val_accuracy[:first] < 0.8).all()
    assert len(train(runs[:1], until=0.8)[0].loss) == fast.steps_to(0.8)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_kept_state_is_the_network_at_that_step(norm: str):
    runs = replicas(replace(UNITS, norm=norm), steps=6)
    for history in train(runs, keep=[0, 2, 6, 99]):
        assert sorted(history.states) == [0, 2, 6]
        split = load("digits", history.run.seed)
        x, y = torch.tensor(split.x_val, dtype=torch.float32)[None], torch.tensor(split.y_val)
        for step in (2, 6):
            logits, moments = nets.forward(history.run.spec, *_of(history, step, x))
            assert moments == {}
            accuracy = (logits[0].argmax(1) == y).double().mean().item()
            assert accuracy == pytest.approx(history.val_accuracy[step - 1])
    with pytest.raises(AttributeError):
        history.loss = None  # type: ignore[misc]


def _of(history: History, step: int, x: Tensor):
    params, stats = history.states[step]
    return params, x, stats or {}


def test_the_test_set_is_used_at_the_end_and_with_the_running_statistics():
    (history,) = train_exactly(replicas(replace(UNITS, norm="batch"), steps=20)[:1])
    split, net = load("digits", 0), Plain(history.run.spec, history.states[20].params)
    for i, own in history.states[20].stats.items():
        net.norm[i].running_mean, net.norm[i].running_var = own.mean, own.var
    right = net.eval()(torch.tensor(split.x_test)).argmax(1) == torch.tensor(split.y_test)
    assert history.test_accuracy == pytest.approx(right.double().mean().item(), abs=1e-12)


# Ctrl-C


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch):
    """Press Ctrl-C in place of the step with that number, counted over all programs."""

    def at(number: int) -> None:
        step, calls = train_module._Program._step, iter(range(1, 1000))

        def stepping(self, which: int) -> None:
            if next(calls) == number:
                raise KeyboardInterrupt
            step(self, which)

        monkeypatch.setattr(train_module._Program, "_step", stepping)

    return at


RUNS = [Run(spec=replace(UNITS, norm=norm), seed=s, steps=6) for norm in ("none", "batch", "layer") for s in (0, 1)]


def test_ctrl_c_returns_what_is_done(interrupt):
    whole = train(RUNS)
    interrupt(6 + 4)
    histories = train(RUNS)
    assert [h.run for h in histories] == RUNS[:4]
    assert [len(h.loss) for h in histories] == [6, 6, 3, 3]
    assert [h.at.tolist() for h in histories[2:]] == [[1, 2, 3]] * 2
    for part, all_of_it in zip(histories, whole, strict=False):
        np.testing.assert_array_equal(part.loss, all_of_it.loss[: len(part.loss)])
        np.testing.assert_array_equal(part.val_accuracy, all_of_it.val_accuracy[: len(part.loss)])
        assert 0 <= part.test_accuracy <= 1


def test_ctrl_c_before_the_first_step_or_the_first_evaluation(interrupt):
    interrupt(1)
    assert train(RUNS) == []
    interrupt(4)
    (first, second) = train(RUNS, every=5)
    assert [len(h.loss) for h in (first, second)] == [3, 3]
    assert first.at.shape == first.val_loss.shape == first.val_accuracy.shape == (0,)
    assert first.steps_to(0.0) == math.inf


def test_ctrl_c_while_evaluating_leaves_arrays_of_one_length(monkeypatch: pytest.MonkeyPatch):
    evaluate, calls = train_module._Program._evaluate, iter(range(1, 1000))

    def evaluating(self, x: Tensor, y: Tensor):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(self, x, y)

    monkeypatch.setattr(train_module._Program, "_evaluate", evaluating)
    history = train(RUNS)[0]
    assert (len(history.loss), history.at.tolist(), len(history.val_loss), len(history.val_accuracy)) == (
        3,
        [1, 2],
        2,
        2,
    )


def test_ctrl_c_raises_where_a_part_is_worth_nothing(interrupt):
    interrupt(6 + 4)
    with pytest.raises(KeyboardInterrupt):
        train(RUNS, whole=True)


# Bad input


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer", "adamw", r"optimizer is 'adamw': choose one of \['sgd', 'momentum', 'rmsprop', 'adam'\]"),
        ("lr", -0.1, "lr is -0.1: give a finite number that is not negative"),
        ("lr", math.inf, "lr is inf"),
        ("lr", math.nan, "lr is nan"),
        ("batch", 0, "batch is 0 and steps 500: both must be at least 1"),
        ("steps", 0, "batch is 60 and steps 0"),
        ("seed", -1, "seed is -1"),
        ("factors", (("weight0", -1.0),), "the factor of 'weight0' is -1.0: give a finite number"),
        ("factors", (("weight0", math.nan),), "the factor of 'weight0' is nan"),
    ],
)
def test_a_run_that_cannot_be_is_a_clear_error(field: str, value: object, message: str):
    with pytest.raises(ValueError, match=message):
        Run(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run(data="cifar"), r"no data set is called 'cifar': choose one of \[.*'digits'"),
        (Run(inputs="whitened"), r"""inputs is 'whitened': choose "raw", "centred" or "standardized\""""),
        (Run(batch=1079), "batch is 1079, but 'digits' has 1078 examples to train: choose at most 1078"),
        (
            Run(spec=Spec(inputs=(65,))),
            r"inputs are \(65,\) and classes 10, but an example of 'digits' has shape \(64,\)",
        ),
        (Run(spec=Spec(inputs=(1, 8, 9), kernel=3, widths=(2,))), r"inputs are \(1, 8, 9\)"),
        (Run(spec=Spec(classes=9)), "one of 10 classes: choose inputs of that size and at least so many classes"),
        (Run(factors=(("gamma0", 0.1),)), r"factors names \['gamma0'\], but what is learned are \['bias0'"),
        (Run(spec=Spec(norm="batch"), batch=1), "leaves 1 value per statistic, whose variance is 0"),
    ],
)
def test_training_that_cannot_be_is_a_clear_error(run: Run, message: str):
    with pytest.raises(ValueError, match=message):
        train([run])


def test_every_is_at_least_one():
    with pytest.raises(ValueError, match="every is 0: evaluate after each 1, 2"):
        train([Run()], every=0)


def test_nothing_to_train():
    assert train([]) == []


# The progress bar


class Ipykernel(io.StringIO):
    """What a live notebook has for stderr, as far as the bar can see."""


Ipykernel.__module__ = "ipykernel.iostream"


def watch(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a training writes to stderr whose steps take 0.4 s by the bar's clock, whatever TQDM_DISABLE says."""
    now, step = [time.time()], train_module._Program._step

    def slow_step(self, number: int) -> None:
        step(self, number)
        now[0] += 0.4

    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # no thread that draws the bar by another clock
    monkeypatch.setattr(train_module, "tqdm", partial(tqdm, disable=False))
    monkeypatch.setattr(train_module._Program, "_step", slow_step)
    train([Run(spec=UNITS, steps=4)])
    return stream.getvalue()


def test_the_bar_is_silent_where_nobody_watches(monkeypatch: pytest.MonkeyPatch):
    assert watch(io.StringIO(), monkeypatch) == ""


def test_the_bar_shows_in_a_live_notebook(monkeypatch: pytest.MonkeyPatch):
    shown = watch(Ipykernel(), monkeypatch)
    assert "train: " in shown
    assert "4/4" in shown


BAR = """
import time
from bnlib.lab.train import progress
with progress(total=3, desc="train", unit="step") as bar:
    time.sleep(1.1)
    bar.update(2)
print("done")
"""


def in_terminal(**environment: str) -> tuple[subprocess.Popen[str], list[bytes], threading.Thread]:
    """Start the program with a terminal for stderr; what the terminal shows is gathered."""
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))
    shown: list[bytes] = []

    def gather() -> None:
        try:
            while data := os.read(main, 1024):
                shown.append(data)
        except OSError:  # a terminal that nobody writes to any longer
            pass
        os.close(main)

    inherited = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    command = [sys.executable, "-c", BAR]
    process = subprocess.Popen(command, env=inherited | environment, stdout=subprocess.PIPE, stderr=side, text=True)
    os.close(side)
    thread = threading.Thread(target=gather)
    thread.start()
    return process, shown, thread


def test_the_bar_shows_in_a_terminal_but_not_where_it_is_switched_off():
    started = [in_terminal(), in_terminal(TQDM_DISABLE="1")]
    texts = []
    for process, shown, thread in started:
        out, _ = process.communicate(timeout=120)
        thread.join(timeout=10)
        assert (process.returncode, out) == (0, "done\n")
        texts.append(b"".join(shown).decode())
    assert "train: " in texts[0]
    assert "2/3" in texts[0]
    assert texts[1] == ""


# Threads


def test_training_and_a_records_slice_take_one_thread_and_give_back_those_that_were(monkeypatch: pytest.MonkeyPatch):
    def threads() -> list[int]:
        return [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())]

    seen, step = [], train_module._Program._step

    def stepping(self, number: int) -> None:
        seen.append(threads())
        step(self, number)

    monkeypatch.setattr(train_module._Program, "_step", stepping)
    slice_ = records.Experiment("toy", lambda: [({}, {})], lambda: {"value": threads()}, {}, {})
    load("digits", 0)  # else scikit-learn's own threads would come in between
    ours = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with threadpool_limits(2):
            before = threads()
            train([Run(spec=UNITS, steps=1)])
            seen.append(records._in_turn(slice_, {})[0]["values"]["value"])
            with pytest.raises(ValueError, match="batch is"):
                train([Run(spec=UNITS, batch=9999)])
            assert (set(before), threads()) == ({2}, before)
    finally:
        torch.set_num_threads(ours)
    assert [set(now) for now in seen] == [{1}, {1}]
