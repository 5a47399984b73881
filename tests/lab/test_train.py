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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor, nn
from tqdm import tqdm

from bnlib.data import Split, load
from bnlib.lab import nets, records
from bnlib.lab import train as train_module
from bnlib.lab.layers import (
    OF_BATCHES,
    OF_IMAGES,
    OF_UNITS,
    Activation,
    Affine,
    Chain,
    Flow,
    Noise,
    Norm,
    Params,
    Scale,
    Stats,
)
from bnlib.lab.nets import Net, convnet, mlp, rnn, transformer
from bnlib.lab.train import OPTIMIZERS, SCHEDULES, DataInit, History, Hold, Hook, Program, Run, train
from bnlib.norms import Layout
from bnlib.running import RunningStats

RATES = {"sgd": 0.3, "momentum": 0.03, "rmsprop": 0.001, "adam": 0.003}
STEPS = 20  # of batches of 60: more than an epoch, 17 of them and a remainder


@dataclass(frozen=True, kw_only=True)
class What:
    """What a network is to be, for bnlib's presets and for plain PyTorch."""

    widths: tuple[int, ...] = (16, 12)
    inputs: tuple[int, ...] = (64,)
    norm: str = "none"
    placement: str = "before"
    activation: str = "tanh"
    where: tuple[int, ...] | None = None
    gamma: bool = True
    beta: bool = True
    groups: int = 2
    eps: float = 1e-5
    dropout: float = 0.0
    alpha_dropout: bool = False
    residual: bool = False
    zero_gamma: bool = False
    weights: str = "plain"
    length: float | None = None
    kernel: int | None = None

    @property
    def net(self) -> Net:
        """As bnlib makes it."""
        how = {name: value for name, value in vars(self).items() if name != "kernel"}
        return mlp(**how) if self.kernel is None else convnet(**how, kernel=self.kernel)

    @property
    def normed(self) -> tuple[int, ...]:
        """The layers with a norm."""
        where = range(len(self.widths)) if self.where is None else self.where
        return () if self.norm == "none" else tuple(where)

    @property
    def places(self) -> list[str]:
        """Of each layer the path that bnlib gives it."""
        last = len(self.widths)
        if not self.residual:
            return [str(i) for i in range(last + 1)]
        return ["0", *(f"{(i + 1) // 2}.residual.{(i + 1) % 2}" for i in range(1, last)), str((last + 1) // 2)]

    def path(self, i: int, own: str) -> str:
        """The path of a parameter of a layer, such as "weight" or "gamma"."""
        of_map = "convolution" if self.kernel and i < len(self.widths) else "affine"
        return f"{self.places[i]}.{'norm' if own in ('gamma', 'beta') else of_map}.{own}"


UNITS = What()
IMAGES = What(inputs=(4, 4, 4), widths=(4, 6), kernel=3)


# A plain network and its training


def plain_norm(what: What, width: int, positions: bool) -> nn.Module:
    match what.norm:
        case "batch":
            return nn.BatchNorm2d(width, what.eps) if positions else nn.BatchNorm1d(width, what.eps)
        case "layer" if not positions:
            return nn.LayerNorm(width, what.eps)
        case "layer":
            return nn.GroupNorm(1, width, what.eps)
        case "group":
            return nn.GroupNorm(what.groups, width, what.eps)
        case "rms":
            return PlainRms(width, what.eps)
        case "mean":
            return PlainMean(width)
        case "scale":
            return PlainScale(width)
        case _:
            return nn.InstanceNorm2d(width, what.eps, affine=True)


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


class PlainScale(PlainMean):
    """Divides by the batch's root mean square; its running mean stays 0."""

    def forward(self, x: Tensor) -> Tensor:
        axes, shape = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
        square = x.square().mean(axes) if self.training else self.running_var
        if self.training:
            n = x.numel() / x.shape[1]
            self.running_var += 0.1 * (square.detach() * n / (n - 1) - self.running_var)  # corrected as a variance is
        return self.weight.reshape(shape) * x / (square + 1e-5).sqrt().reshape(shape) + self.bias.reshape(shape)


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
    "gelu": nn.functional.gelu,
    "normprop": lambda z: (torch.relu(z) - (2 * math.pi) ** -0.5) / (0.5 - 0.5 / math.pi) ** 0.5,
}


class Plain(nn.Module):
    """One network as one would write it in PyTorch, with the given initial parameters."""

    def __init__(self, what: What, params: Params):
        super().__init__()
        self.what, last = what, len(what.widths)
        self.act = PLAIN_ACTIVATIONS[what.activation]
        sizes = [what.inputs[0], *what.widths, 10]
        self.affine, self.norm = nn.ModuleList(), nn.ModuleList()
        for i in range(last + 1):
            positions = what.kernel is not None and i < last
            own = {
                name: params[path][0].clone()
                for name in ("weight", "bias", "length", "gamma", "beta")
                if (path := what.path(i, name)) in params
            }
            bias = "bias" in own
            layer = (
                nn.Conv2d(sizes[i], sizes[i + 1], what.kernel or 1, padding="same", bias=bias)
                if positions
                else nn.Linear(sizes[i], sizes[i + 1], bias=bias)
            )
            if "length" in own:
                layer = PlainNormed(what.weights, own["weight"], own["length"], own.get("bias"))
            norm = plain_norm(what, sizes[i + 1], positions) if "gamma" in own else nn.Identity()
            self.affine.append(layer)
            self.norm.append(norm)
            names = (
                (layer, "weight", "weight"),
                (layer, "bias", "bias"),
                (norm, "weight", "gamma"),
                (norm, "bias", "beta"),
            )
            for module, theirs, ours in names:
                if ours in own:
                    setattr(module, theirs, nn.Parameter(own[ours]))
            if not isinstance(norm, nn.Identity):
                norm.weight.requires_grad_(what.gamma)
                norm.bias.requires_grad_(what.beta)
        self.double()

    def forward(self, x: Tensor, masks: list[Callable[[Tensor], Tensor]] | None = None) -> Tensor:
        what, last, skip = self.what, len(self.what.widths), x
        for i in range(last):
            if what.placement == "after":
                h = self.norm[i](self.act(self.affine[i](x)))
            elif what.residual and i > 0 and i % 2 == 0:
                h = self.act(self.norm[i](self.affine[i](x)) + skip)
            else:
                h = self.act(self.norm[i](self.affine[i](x)))
                skip = x
            x = h if masks is None else masks[i](h)
        x = x.mean((2, 3)) if what.kernel else x
        return self.norm[last](self.affine[last](x))

    def path(self, name: str) -> str:
        """What bnlib calls a parameter."""
        module, i, own = name.split(".")
        return self.what.path(int(i), {"weight": "gamma", "bias": "beta"}[own] if module == "norm" else own)

    def named(self) -> Params:
        """The parameters by the paths that bnlib.lab.nets gives them."""
        return {self.path(name): value.detach() for name, value in self.named_parameters()}


def ends(path: str, endings: Sequence[str]) -> bool:
    return any(path.split(".")[-len(end.split(".")) :] == end.split(".") for end in endings)


def plain_optimizer(run: Run, net: Plain) -> torch.optim.Optimizer:
    params = []
    for name, value in net.named_parameters():
        if value.requires_grad:
            path = net.path(name)
            factor = next((factor for end, factor in run.factors if ends(path, [end])), 1.0)
            decay = run.decay if not run.decayed or ends(path, run.decayed) else 0.0
            params.append({"params": [value], "lr": run.lr * factor, "weight_decay": decay})
    match run.optimizer:
        case "sgd":
            return torch.optim.SGD(params, run.lr)
        case "momentum":
            return torch.optim.SGD(params, run.lr, momentum=0.9)
        case "rmsprop":
            return torch.optim.RMSprop(params, run.lr)
        case _:
            return torch.optim.AdamW(params, run.lr) if run.decoupled else torch.optim.Adam(params, run.lr)


def plain_dropout(what: What, draw: Tensor) -> Callable[[Tensor], Tensor]:
    keep = 1 - what.dropout
    kept = draw < keep
    if not what.alpha_dropout:
        return lambda h: h * (kept / keep)
    low = -1.0507009873554805 * 1.6732632423543772  # what selu gives far to the left
    a = (keep + low**2 * keep * (1 - keep)) ** -0.5  # Klambauer and others, section 3
    return lambda h: a * torch.where(kept, h, low) - a * low * (1 - keep)


def plain_training(what: What, run: Run, first: Params, hold: bool) -> tuple[Plain, list[float], float]:
    """The network after its training, the loss of each step, and the accuracy on the validation set."""
    split = load(run.data, run.seed, run.inputs)
    x, x_val = (torch.tensor(a).reshape(-1, *what.inputs) for a in (split.x_train, split.x_val))
    y, y_val = torch.tensor(split.y_train), torch.tensor(split.y_val)
    net = Plain(what, first)
    optimizer = plain_optimizer(run, net)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: run.scheduled(done + 1))
    lengths = [net.get_parameter(f"affine.{i}.weight").detach().flatten(1).norm(dim=1) for i in range(len(net.affine))]
    shuffle, drop = np.random.default_rng([run.seed, 1]), torch.Generator().manual_seed(run.seed)
    losses: list[float] = []
    while len(losses) < run.steps:
        rows = torch.tensor(shuffle.permutation(len(x)))
        for batch in rows.split(run.batch)[: len(x) // run.batch][: run.steps - len(losses)]:
            masks = None
            if what.dropout:
                draws = [torch.rand(n, run.batch, generator=drop).T for n in what.widths]
                masks = [plain_dropout(what, draw) for draw in draws]
            loss = nn.functional.cross_entropy(net(x[batch], masks), y[batch])
            optimizer.zero_grad()
            loss.backward()
            if run.clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), run.clip)
            if run.decoupled and run.optimizer != "adam":
                shrink(optimizer)
            optimizer.step()
            rates.step()
            losses.append(loss.item())
            for i, length in enumerate(lengths):
                if hold and i in what.normed:
                    weight = net.get_parameter(f"affine.{i}.weight").data.flatten(1)
                    weight *= (length / weight.norm(dim=1))[:, None]
    net.eval()
    return net, losses, (net(x_val).argmax(1) == y_val).double().mean().item()


@torch.no_grad()
def shrink(optimizer: torch.optim.Optimizer) -> None:
    """Decoupled decay, as AdamW has it, for the others; they are to have no decay of their own."""
    for group in optimizer.param_groups:
        group["decoupled"] = group.pop("decoupled", None) or group["weight_decay"]
        group["weight_decay"] = 0.0
        for value in group["params"]:
            value.mul_(1 - group["lr"] * group["decoupled"])


def assert_like_plain(what: What, history: History, *, hold: bool = False, rtol: float = 1e-7) -> None:
    run = history.run
    assert history.failed is None
    net, losses, accuracy = plain_training(what, run, history.states[0].params, hold)
    np.testing.assert_allclose(history.loss, losses, rtol=rtol)
    params, stats = history.states[run.steps]
    expected = net.named()
    assert params.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(params[name][0], value, rtol=10 * rtol, atol=rtol, msg=lambda m, n=name: f"{n}: {m}")
    assert history.val_accuracy[-1] == pytest.approx(accuracy, abs=1e-12)
    where = {f"{what.places[i]}.norm": net.norm[i] for i in what.normed if what.norm in OF_BATCHES}
    assert stats.keys() == where.keys()
    for path, layer in where.items():
        assert stats[path].steps == run.steps
        torch.testing.assert_close(stats[path].mean, layer.running_mean, rtol=10 * rtol, atol=rtol)
        torch.testing.assert_close(stats[path].var, layer.running_var, rtol=10 * rtol, atol=rtol)


def replicas(what: What, optimizer: str = "sgd", n: int = 3, **how) -> list[Run]:
    """Up to three that differ in seed, learning rate and gain."""
    lr = RATES[optimizer]
    settings = [(0, lr, 1.0), (1, 0.3 * lr, 1.7), (2, 0.1 * lr, 0.6)][:n]
    return [
        Run(**{"net": what.net, "seed": seed, "lr": rate, "gain": gain, "optimizer": optimizer, "steps": STEPS} | how)
        for seed, rate, gain in settings
    ]


def train_exactly(runs: list[Run], **how) -> list[History]:
    steps = runs[0].steps
    return train(runs, **{"every": steps, "keep": [0, steps], "dtype": torch.float64} | how)


# Like plain PyTorch


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("norm", ["none", *OF_UNITS])
def test_a_replica_is_a_plain_run(norm: str, optimizer: str):
    what = replace(UNITS, norm=norm)
    for history in train_exactly(replicas(what, optimizer, 2)):
        assert_like_plain(what, history)


@pytest.mark.parametrize("inputs", ["centred", "standardized"])
def test_inputs_are_those_of_the_data_set(inputs: str):
    what = replace(UNITS, norm="batch")
    for history in train_exactly(replicas(what, n=2, inputs=inputs)):
        assert_like_plain(what, history)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("norm", ["none", *OF_IMAGES])
def test_a_convolutional_replica_is_a_plain_run(norm: str, optimizer: str):
    what = replace(IMAGES, norm=norm)
    for history in train_exactly(replicas(what, optimizer, 2, batch=8, steps=10)):
        assert_like_plain(what, history)


@pytest.mark.parametrize(
    "what",
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
        replace(UNITS, widths=(12,) * 3, residual=True, norm="batch", dropout=0.3, where=(0, 2, 3)),
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
        replace(UNITS, activation="gelu"),
    ],
    ids=lambda what: what.norm + "".join(f" {n}={v}" for n, v in vars(what).items() if v != getattr(UNITS, n))[:60],
)
def test_every_part_of_a_network_is_what_it_says(what: What):
    calm: dict[str, Any] = {"lr": 0.03} if what.activation == "selu" else {}  # where rounding does not grow
    for history in train_exactly(replicas(what, n=2, batch=20, **calm)):
        assert_like_plain(what, history)


@pytest.mark.parametrize("what", [replace(UNITS, norm="batch"), replace(IMAGES, norm="batch", where=(1,))])
def test_hold_keeps_the_length_of_each_unit_in_front_of_a_norm(what: What):
    for history in train_exactly(replicas(what, n=2, batch=20), hooks=[Hold]):
        assert_like_plain(what, history, hold=True)
        first, last = (history.states[step].params for step in (0, STEPS))
        for i in range(3):
            before, after = (p[what.path(i, "weight")].flatten(2).norm(dim=2) for p in (first, last))
            assert torch.allclose(before, after, rtol=1e-12) == (i in what.normed)
            assert not torch.equal(first[what.path(i, "weight")], last[what.path(i, "weight")])


def test_hold_finds_the_maps_of_a_chain_without_chains():
    affine, norm = Affine(10, bias=False), Norm("batch")
    chain = Chain(
        (affine, norm, Activation("tanh"), affine, Activation("tanh"), norm, nets.Residual(Chain((norm, affine))))
    )
    for body, held in ((Chain((affine, norm)), {"affine.weight"}), (chain, {"0.weight"})):
        (history,) = train_exactly([Run(net=Net((64,), body), steps=3)], hooks=[Hold])
        first, last = (history.states[step].params for step in (0, 3))
        weights = [path for path in first if path.endswith("weight")]
        lengths = {path: [own[path].norm(dim=2) for own in (first, last)] for path in weights}
        assert {path for path, pair in lengths.items() if torch.allclose(*pair, rtol=1e-12, atol=0)} == held


def test_where_nothing_can_be_held_is_a_clear_error():
    for what in (UNITS, replace(UNITS, norm="batch", placement="after")):
        with pytest.raises(ValueError, match="no affine map stands in front of a norm, so no weights can be held"):
            train(replicas(what, n=1), hooks=[Hold])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_factors_slow_or_stop_the_parameters_that_they_name(optimizer: str):
    factors = (("0.affine.weight", 0.1), ("1.norm.gamma", 0.0), ("2.affine.bias", 2.0))
    what = replace(UNITS, norm="batch")
    for history in train_exactly(replicas(what, optimizer, 2, batch=20, factors=factors)):
        assert_like_plain(what, history)
        first, last = (history.states[step].params for step in (0, STEPS))
        assert {name for name in first if torch.equal(first[name], last[name])} == {"1.norm.gamma"}


def test_the_first_factor_that_fits_counts_and_endings_are_whole_names():
    factors = (("0.norm.gamma", 3.0), ("gamma", 0.0), ("weight", 0.5))
    what = replace(UNITS, norm="batch")
    for history in train_exactly(replicas(what, n=2, batch=20, factors=factors)):
        assert_like_plain(what, history)
    with pytest.raises(ValueError, match=r"factors names \['amma'\]"):
        train([Run(net=what.net, factors=(("amma", 0.0),))])


@pytest.mark.parametrize(
    "what", [UNITS, replace(UNITS, weights="normed"), replace(UNITS, weights="normed", norm="mean", gamma=False)]
)
def test_a_start_from_the_data_is_that_of_the_first_mini_batch(what: What):
    runs = replicas(what, n=2, batch=20)
    for run, history in zip(runs, train_exactly(runs, hooks=[DataInit]), strict=True):
        assert_like_plain(what, history)
        rows = next(train_module.batches(len(load("digits", run.seed).x_train), 20, run.seed))
        x = torch.tensor(load("digits", run.seed).x_train)[None, rows]
        first = nets.start(run.net, [run.seed], [run.gain], dtype=torch.float64).params
        expected = nets.data_init(run.net, first, x)
        for name, value in history.states[0].params.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-14)


LOOKED: list[tuple[str, RunningStats | None]] = []


@dataclass(frozen=True)
class Looking(Norm):
    """Batch norm that writes down the running statistics so far."""

    def transformed(self, values: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, path: str, flow: Flow):
        LOOKED.append((path, flow.running.get(path)))
        return super().transformed(values, gamma, beta, layout, path, flow)


@pytest.mark.parametrize(
    ("net", "places"),
    [
        (mlp(widths=(9,), norm=Looking("batch")), ["0.looking"]),
        (rnn((4, 16), 5, norm=Looking("mean")), [f"recurrent.norm.{step}" for step in range(4)]),
    ],
    ids=["units", "rnn"],
)
def test_a_step_hands_on_the_running_statistics_so_far(net: Net, places: list[str]):
    LOOKED.clear()
    (history,) = train_exactly([Run(net=net, steps=3)], keep=range(4))
    assert [path for path, _ in LOOKED] == places * 3  # not when it is evaluated
    for step in range(3):
        for path, own in LOOKED[step * len(places) : (step + 1) * len(places)]:
            assert own is not None
            assert own.steps == step
            assert torch.equal(own.mean, history.states[step].stats[path].mean)
            assert torch.equal(own.var, history.states[step].stats[path].var)


@pytest.mark.parametrize("fixed", [("gamma",), ("beta",), ("gamma", "beta")])
def test_what_is_not_learned_stays_put(fixed: tuple[str, ...]):
    (run,) = replicas(replace(UNITS, norm="batch", **dict.fromkeys(fixed, False)), n=1, steps=5)
    (history,) = train_exactly([run])
    first, last = (history.states[step].params for step in (0, 5))
    for name in first:
        assert torch.equal(first[name], last[name]) == name.endswith(fixed)


# Decay, schedules, clipping


@pytest.mark.parametrize("decoupled", [False, True], ids=["coupled", "decoupled"])
@pytest.mark.parametrize(
    ("optimizer", "decayed"),
    [*((name, ("weight",)) for name in OPTIMIZERS), ("momentum", ("1.affine.weight", "gamma")), ("adam", ())],
)
def test_decay_is_plain_decay_of_the_parameters_that_are_named(
    optimizer: str, decoupled: bool, decayed: tuple[str, ...]
):
    """Different decays are replicas of one program; no decay is one of them."""
    what = replace(UNITS, norm="batch")
    how = {"decoupled": decoupled, "decayed": decayed, "steps": 10, "factors": (("bias", 0.5),)}
    runs = replicas(what, optimizer, **how)
    runs = [replace(run, decay=decay) for run, decay in zip(runs, (0.1, 0.0, 2.0), strict=True)]
    assert len({run.program for run in runs}) == 1
    first = 1 + torch.rand(1, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Random(Hook):
        """Gammas and betas that are neither 1 nor 0, so that their decay shows."""

        def __init__(self, program: Program) -> None:
            super().__init__(program)
            for name in ("gamma", "beta"):
                program.params[f"1.norm.{name}"].copy_(first)

    for history in train_exactly(runs, hooks=[Random]):
        assert_like_plain(what, history)


def test_decay_acts_at_the_learning_rate_of_the_moment():
    what, how = UNITS, {"decay": 0.5, "schedule": "cosine", "warm_up": 4, "clip": 0.3}
    for decoupled in (False, True):
        for history in train_exactly(replicas(what, "adam", 2, decoupled=decoupled, **how)):
            assert_like_plain(what, history, rtol=3e-6)  # clip_grad_norm_ adds a millionth to the length


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warm_up", [0, 1, 5, 20])
def test_schedules_are_those_of_torch(schedule: str, warm_up: int):
    run = Run(net=UNITS.net, steps=20, schedule=schedule, warm_up=warm_up)
    left = max(1, run.steps - warm_up)
    schedulers = torch.optim.lr_scheduler
    later: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
        "constant": lambda optimizer: schedulers.ConstantLR(optimizer, factor=1.0),
        "linear": lambda optimizer: schedulers.LinearLR(optimizer, 1.0, 0.0, total_iters=left),
        "cosine": lambda optimizer: schedulers.CosineAnnealingLR(optimizer, left),
    }
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    rates = []
    if warm_up:
        rising = schedulers.LinearLR(optimizer, 1 / warm_up, 1.0, total_iters=max(1, warm_up - 1))
        for _ in range(warm_up):
            rates.append(optimizer.param_groups[0]["lr"] if warm_up > 1 else 1.0)
            optimizer.step()
            rising.step()
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    falling = later[schedule](optimizer)
    while len(rates) < run.steps:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        falling.step()
    assert [run.scheduled(step) for step in range(1, 21)] == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_scales_every_update(schedule: str):
    for history in train_exactly(replicas(UNITS, "momentum", 2, schedule=schedule, warm_up=6)):
        assert_like_plain(UNITS, history)


def test_clipping_is_that_of_torch_and_each_replicas_own():
    what = replace(UNITS, norm="batch")
    runs = replicas(what, clip=0.8)
    runs[0] = replace(runs[0], gain=4.0)
    clipped, free = train_exactly(runs), train_exactly([replace(run, clip=None) for run in runs])
    for history in clipped:
        assert_like_plain(what, history, rtol=3e-6)
    assert not np.allclose(clipped[0].loss, free[0].loss, rtol=1e-3)
    for run, together in zip(runs, clipped, strict=True):  # that another replica is cut does not cut this one
        np.testing.assert_allclose(train_exactly([run])[0].loss, together.loss, rtol=1e-10)


def test_a_gradient_is_cut_to_its_length_over_all_parameters():
    g = torch.Generator().manual_seed(0)
    grads = [torch.randn(3, *shape, generator=g, dtype=torch.float64) for shape in ((4, 2), (5,))]
    grads[0][1] *= 0.01
    grads[1][1] *= 0.01
    for grad in grads:
        grad[2] = 0
    before = [grad.clone() for grad in grads]
    train_module.clip(grads, 0.7)
    lengths = torch.stack([grad.square().flatten(1).sum(1) for grad in grads]).sum(0).sqrt()
    assert lengths[0].item() == pytest.approx(0.7, rel=1e-12)
    for grad, own in zip(grads, before, strict=True):
        assert torch.equal(grad[1:], own[1:])  # what is shorter stays; 0 stays 0
        torch.testing.assert_close(grad[0] / grad[0].norm(), own[0] / own[0].norm())
    train_module.clip(grads, 0.0)
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_is_cut_for_its_replica_alone(value: float):
    grads = [torch.ones(3, 4), torch.ones(3, 2, 2)]
    grads[0][1, 2] = value
    train_module.clip(grads, 1.0)
    for grad in grads:
        torch.testing.assert_close(grad[[0, 2]], torch.full_like(grad[[0, 2]], 8**-0.5))
    assert grads[0][1].isnan().any()


# Together and apart


def same_numbers(a: History, b: History) -> bool:
    arrays = [(getattr(a, name), getattr(b, name)) for name in ("loss", "at", "val_loss", "val_accuracy")]
    arrays += [(v.numpy(), b.states[s].params[n].numpy()) for s, state in a.states.items() for n, v in state[0].items()]
    arrays += [(v.var, b.states[s].stats[i].var) for s, state in a.states.items() for i, v in state.stats.items()]
    return a.test_accuracy == b.test_accuracy and all(np.array_equal(x, y, equal_nan=True) for x, y in arrays)


@pytest.mark.parametrize(
    "what",
    [*(replace(UNITS, norm=norm) for norm in ("none", "batch", "layer")), replace(IMAGES, norm="batch")],
    ids=["none", "batch", "layer", "images"],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_another_learning_rate_of_one_replica_leaves_the_others_bit_for_bit(what: What, optimizer: str):
    runs = replicas(what, optimizer, steps=8)
    changed = [runs[0], replace(runs[1], lr=3 * runs[1].lr), runs[2]]
    one, other = (train(r, every=4, keep=[8]) for r in (runs, changed))
    assert [same_numbers(a, b) for a, b in zip(one, other, strict=True)] == [True, False, True]


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("how", [{"optimizer": "sgd"}, {"optimizer": "adam"}, {"clip": 1.0}], ids=str)
def test_a_replica_that_fails_is_marked_and_leaves_the_others_bit_for_bit(norm: str, how: dict[str, Any]):
    runs = replicas(replace(UNITS, activation="relu", norm=norm), steps=12, **how)
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
    batch, none = replace(UNITS, norm="batch").net, UNITS.net
    runs = [Run(net=net, seed=seed, steps=3) for seed in (3, 1) for net in (batch, none, batch)]
    histories = train(runs)
    assert [h.run for h in histories] == runs
    assert same_numbers(histories[0], histories[2])
    assert not same_numbers(histories[0], histories[3])


def test_more_runs_than_one_program_takes_are_the_same_runs(monkeypatch: pytest.MonkeyPatch):
    runs = [Run(net=replace(UNITS, norm="batch").net, seed=seed, steps=4) for seed in range(5)]
    together = train(runs, dtype=torch.float64)
    monkeypatch.setattr(train_module, "REPLICAS", 2)
    for a, b in zip(together, train(runs, dtype=torch.float64), strict=True):
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-12)


def test_what_replicas_may_differ_in_is_one_program(monkeypatch: pytest.MonkeyPatch):
    run = Run(net=UNITS.net)
    others = {"seed": 1, "lr": 1.0, "gain": 2.0, "std": 0.1, "decay": 0.5}
    assert {replace(run, **{name: value}).program for name, value in others.items()} == {run.program}
    for name, value in {"net": mlp(), "optimizer": "adam", "batch": 9, "steps": 9, "data": "wine", "clip": 1.0,
                        "factors": (("bias", 0.0),), "decoupled": True, "decayed": (), "schedule": "linear",
                        "warm_up": 3, "device": "meta"}.items():  # fmt: skip
        assert replace(run, **{name: value}).program != run.program
    sizes, step = [], Program._step

    def stepping(self, number: int) -> None:
        sizes.append(len(self.runs))
        step(self, number)

    monkeypatch.setattr(Program, "_step", stepping)
    train([replace(run, steps=1, **{name: value}) for name, value in others.items()])
    assert sizes == [5]


def test_runs_with_one_seed_are_paired():
    none, batch = train([Run(net=replace(UNITS, norm=n).net, seed=4, steps=1) for n in ("none", "batch")], keep=[0])
    for i in range(3):
        path = UNITS.path(i, "weight")
        assert torch.equal(none.states[0].params[path], batch.states[0].params[path])
    fast, slow = train([Run(net=UNITS.net, seed=4, steps=1, lr=lr) for lr in (1.0, 0.1)])
    assert fast.loss[0] == slow.loss[0]
    (other,) = train([Run(net=UNITS.net, seed=5, steps=1)])
    assert other.loss[0] != fast.loss[0]


NOISY = Net((64,), Chain((Affine(9), Noise(0.3, 0.3, 0.3), Activation("tanh"), Affine(10))))
STILL = Net((64,), Chain(tuple(layer for layer in NOISY.layers.values() if not isinstance(layer, Noise))))


@pytest.mark.parametrize(
    ("net", "still"), [(replace(UNITS, dropout=0.4).net, UNITS.net), (NOISY, STILL)], ids=["dropout", "noise"]
)
def test_what_is_random_is_the_same_for_a_seed_whatever_its_companions(net: Net, still: Net):
    runs = [Run(net=net, seed=seed, steps=4, lr=1.0) for seed in (2, 1, 2)]
    together, alone = train(runs, dtype=torch.float64), train(runs[1:2], dtype=torch.float64)
    np.testing.assert_allclose(together[1].loss, alone[0].loss, rtol=1e-12)
    assert together[0].loss.tolist() == together[2].loss.tolist() != together[1].loss.tolist()
    without = train([replace(run, net=still) for run in runs], dtype=torch.float64)
    assert abs(without[1].loss[0] - together[1].loss[0]) > 1e-3
    (calm,) = train([replace(runs[1], lr=0.0)], every=1)
    assert len(set(calm.val_loss)) == 1  # evaluated without
    assert len(set(together[1].loss)) == 4


# Sequences


@cache
def chains(seed: int) -> Split:
    """60 sequences of 6 of 4 symbols, of which each mostly follows the one before, and what follows each symbol."""
    rng = np.random.default_rng(seed)
    steps = np.where(rng.random((60, 7)) < 0.8, 1, rng.integers(0, 4, (60, 7)))
    walks = steps.cumsum(1) % 4
    x, y = walks[:, :-1], walks[:, 1:]
    return Split(x[:40], y[:40], x[40:50], y[40:50], x[50:], y[50:])


@pytest.fixture
def sequences(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train_module, "load", lambda name, seed, *how: chains(seed))


SEQUENCES = {
    "transformer": transformer(4, 6, 8, 1, heads=2),
    "post-norm transformer": transformer(4, 6, 8, 1, heads=2, norm="batch", placement="post"),
    "rnn": rnn((8, 8), 9),
    "rnn, batch norm": rnn((8, 8), 9, norm="batch"),
    "rnn, layer norm": rnn((8, 8), 9, norm="layer"),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_train_together_as_alone(name: str, request: pytest.FixtureRequest):
    if "transformer" in name:
        request.getfixturevalue("sequences")
    how: dict[str, Any] = {"net": SEQUENCES[name], "steps": 20, "batch": 10, "optimizer": "adam", "clip": 1.0}
    # In front of a norm a bias has no gradient but rounding, which Adam and a decay would blow up.
    own = 0.0 if name == "post-norm transformer" else 0.1
    runs = [Run(seed=seed, lr=lr, gain=gain, decay=decay, decayed=(), **how)
            for seed, lr, gain, decay in ((0, 0.02, 1.0, 0.0), (1, 0.01, 1.5, own), (2, 0.005, 0.7, 0.0))]  # fmt: skip
    together = train_exactly(runs)
    for run, history in zip(runs, together, strict=True):
        (alone,) = train_exactly([run])
        np.testing.assert_allclose(alone.loss, history.loss, rtol=1e-10)
        np.testing.assert_allclose(alone.val_loss, history.val_loss, rtol=1e-10)
        assert alone.states[20].params.keys() == history.states[20].params.keys()
        for path, value in alone.states[20].params.items():
            torch.testing.assert_close(history.states[20].params[path], value, rtol=1e-10, atol=1e-10)
        assert alone.states[20].stats.keys() == history.states[20].stats.keys()
        for path, own in alone.states[20].stats.items():
            torch.testing.assert_close(history.states[20].stats[path].var, own.var, rtol=1e-10, atol=1e-10)
    assert together[0].loss[-5:].mean() < together[0].loss[:5].mean() - 0.02


def test_losses_and_accuracies_are_means_over_all_positions(sequences):
    net = SEQUENCES["transformer"]
    (history,) = train_exactly([Run(net=net, steps=3, batch=40)])
    split = chains(0)
    for step, (x, y) in ((0, split[:2]), (3, split[2:4])):
        logits, _ = nets.forward(net, history.states[step].params, torch.tensor(x)[None])
        assert logits.shape == (1, len(x), 6, 4)
        loss = nn.functional.cross_entropy(logits[0].reshape(-1, 4), torch.tensor(y).reshape(-1)).item()
        right = (logits[0].argmax(-1).numpy() == y).mean()
        if step == 0:
            assert history.loss[0] == pytest.approx(loss, rel=1e-12)
        else:
            assert history.val_loss[-1] == pytest.approx(loss, rel=1e-12)
            assert history.val_accuracy[-1] == pytest.approx(right, rel=1e-12)


def test_symbols_and_targets_must_fit(sequences):
    for net, message in (
        (transformer(4, 5, 8), r"inputs are \(5,\) .*has shape \(6,\) and needs \(6, 4\)"),
        (transformer(3, 6, 8), r"classes are 3, but an example of 'digits' is one of 4: choose at least so many"),
        (mlp((6,), (5,), 4), r"outputs \(4,\), .* needs \(6, 4\): .*and a Pool where"),
        (Net((6,), Chain((nets.Embedding(3, 4), Affine(4)))), "none of 3 symbols"),
    ):
        with pytest.raises(ValueError, match=message):
            train([Run(net=net, batch=10, steps=5)])


# Hooks


def test_hooks_see_each_step_in_their_order():
    said: list[Any] = []

    def telling(name: str) -> Callable[[Program], Hook]:
        class Telling(Hook):
            def __init__(self, program: Program) -> None:
                super().__init__(program)
                said.append((name, "made", len(program.runs)))

            def tap(self, path: str, values: Tensor) -> None:
                said.append((name, "tap", path))

            def loss(self) -> Tensor | float:
                said.append((name, "loss"))
                return 0.0

            def after(self, step: int) -> dict[str, Tensor]:
                said.append((name, "after", step))
                return {}

        return Telling

    net = Net((64,), Chain((Affine(10),)))
    histories = train([Run(net=net, seed=seed, steps=2) for seed in (0, 1)], hooks=[telling("a"), telling("b")])
    step = [(name, *what) for what in (("tap", "affine"), ("loss",), ("after", 1)) for name in "ab"]
    assert said == [("a", "made", 2), ("b", "made", 2), *step, *((*s[:2], 2) if s[1] == "after" else s for s in step)]
    for own, plain in zip(histories, train([Run(net=net, seed=seed, steps=2) for seed in (0, 1)]), strict=True):
        assert same_numbers(own, plain)
        assert own.noted == {}


def test_a_tap_sees_the_forward_pass_of_the_step():
    what, seen = replace(UNITS, norm="batch", dropout=0.5), []

    class Watch(Hook):
        def tap(self, path: str, values: Tensor) -> None:
            seen.append((path, values.detach().clone(), values.requires_grad))

    runs = replicas(what, n=2, steps=2)
    histories = train_exactly(runs, keep=[1], hooks=[Watch], every=1)
    passes = len(seen) // 2
    second = {path: value for path, value, _ in seen[passes:]}
    assert [path for path, _, _ in seen[:passes]] == [path for path, _, _ in seen[passes:]]
    assert {*what.net.layers, *what.net.chains} <= second.keys()
    assert all(followed for path, _, followed in seen if not path.endswith("xhat"))
    for r, run in enumerate(runs):
        rows = train_module.batches(1078, 60, run.seed)
        x = torch.tensor(load("digits", run.seed).x_train)[[next(rows), next(rows)][1]]
        params = {name: value[0] for name, value in histories[r].states[1].params.items()}
        z = x @ params["0.affine.weight"].T  # with the parameters after the first update
        torch.testing.assert_close(second["0.affine"][r], z.T)
        dropped = (second["0.dropout"][r] == 0).double().mean()
        assert 0.3 < dropped < 0.7


def test_what_a_hook_adds_to_the_loss_is_learned_and_not_reported():
    """Half of decay times the square of a weight adds decay times the weight to its gradient."""

    class Penalty(Hook):
        def loss(self) -> Tensor:
            decays = torch.tensor([0.1, 0.0, 0.7], dtype=torch.float64)
            return decays / 2 * self.program.params["1.affine.weight"].square().sum((1, 2))

    runs = replicas(UNITS, "momentum", decayed=("1.affine.weight",))
    decaying = [replace(run, decay=decay) for run, decay in zip(runs, (0.1, 0.0, 0.7), strict=True)]
    for own, other in zip(train_exactly(runs, hooks=[Penalty]), train_exactly(decaying), strict=True):
        np.testing.assert_allclose(own.loss, other.loss, rtol=1e-10)
    assert not np.allclose(train_exactly(runs)[0].loss, train_exactly(decaying)[0].loss, rtol=1e-4)


def test_what_is_noted_arrives_as_it_was_at_its_step():
    class Notes(Hook):
        def after(self, step: int) -> dict[str, Tensor]:
            params = self.program.params
            found = {"bias": params["2.affine.bias"]}  # which goes on changing
            if step % 2:
                found["length"] = params["0.affine.weight"].square().sum((1, 2))
            return found

    histories = train_exactly(replicas(UNITS, steps=4), keep=range(5), hooks=[Notes])
    for history in histories:
        assert history.noted.keys() == {"bias", "length"}
        states = [history.states[step].params for step in range(5)]
        np.testing.assert_array_equal(history.noted["bias"], [own["2.affine.bias"][0] for own in states[1:]])
        lengths = [states[step]["0.affine.weight"].square().sum().item() for step in (1, 3)]
        assert history.noted["length"] == pytest.approx(lengths)


@pytest.mark.parametrize("shape", [(), (3,), (1, 2)])
@pytest.mark.parametrize("what", ["noted", "loss"])
def test_what_a_hook_gives_has_the_replicas_first(what: str, shape: tuple[int, ...]):
    class Wrong(Hook):
        def loss(self) -> Tensor | float:
            return torch.zeros(shape) if what == "loss" else 0.0

        def after(self, step: int) -> dict[str, Tensor]:
            return {"size": torch.zeros(shape)}

    name = "'size' of Wrong" if what == "noted" else "the loss of Wrong"
    message = rf"{name} has shape \({', '.join(map(str, shape))},?\), but \(2, ...\) is needed: replicas first"
    with pytest.raises(ValueError, match=message):
        train([Run(net=UNITS.net, seed=seed, steps=2) for seed in (0, 1)], hooks=[Wrong])


@pytest.mark.parametrize("where", ["__init__", "tap", "loss", "after"])
def test_what_a_hook_raises_is_raised(where: str):
    def fail(self, *given: object) -> None:
        raise ZeroDivisionError(where)

    broken = type("Broken", (Hook,), {where: fail})
    with pytest.raises(ZeroDivisionError, match=where):
        train([Run(net=UNITS.net, steps=2)], hooks=[broken])
    assert len(train([Run(net=UNITS.net, steps=2)])[0].loss) == 2


# Devices


def test_the_processor_is_the_default_device():
    run = Run(net=replace(UNITS, norm="batch").net, steps=3)
    one, other = (train([own], keep=[3])[0] for own in (run, replace(run, device="cpu")))
    assert same_numbers(one, other)


@pytest.mark.parametrize("device", ["meta", "gpu", "cuda:99"])
def test_what_is_no_device_to_train_on_is_a_clear_error(device: str):
    with pytest.raises(ValueError, match=rf"device is '{device}', on which nothing can be trained here .*: give 'cpu'"):
        train([Run(net=UNITS.net, steps=1, device=device)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(
    "net",
    [
        replace(UNITS, norm="batch", dropout=0.3).net,
        replace(IMAGES, norm="group", weights="normed").net,
        SEQUENCES["rnn, batch norm"],
        SEQUENCES["transformer"],
        Net((64,), Chain((Affine(9), Noise(0.1, 0.1, 0.1), Scale(), nets.Residual(Affine(9), 0.1), Affine(10)))),
    ],
    ids=["units", "images", "rnn", "transformer", "noise"],
)
def test_a_gpu_trains_as_the_processor_does(net: Net, request: pytest.FixtureRequest):
    if len(net.inputs) == 1 and net.outputs == (6, 4):
        request.getfixturevalue("sequences")
    how: dict[str, Any] = {"net": net, "steps": 10, "batch": 10, "optimizer": "adam", "lr": 0.01, "clip": 1.0}
    runs = [Run(seed=seed, decay=0.1, decoupled=True, schedule="cosine", **how) for seed in (0, 1)]
    on_gpu = [replace(run, device="cuda") for run in runs]
    for here, there in zip(train_exactly(runs, exact=True), train_exactly(on_gpu, exact=True), strict=True):
        np.testing.assert_allclose(there.loss, here.loss, rtol=1e-8)
        np.testing.assert_allclose(there.val_loss, here.val_loss, rtol=1e-8)
        assert there.states[10].params.keys() == here.states[10].params.keys()
        for path, value in here.states[10].params.items():
            torch.testing.assert_close(there.states[10].params[path].cpu(), value, rtol=1e-7, atol=1e-9)


# What is measured, and when


def test_every_says_after_which_updates_the_network_is_evaluated():
    run = Run(net=UNITS.net, steps=7)
    (all_of_them,), (some,), (last,) = (train([run], every=n) for n in (1, 3, 100))
    assert all_of_them.at.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert some.at.tolist() == [3, 6, 7]
    assert last.at.tolist() == [7]
    np.testing.assert_array_equal(some.val_loss, all_of_them.val_loss[[2, 5, 6]])
    np.testing.assert_array_equal(last.val_accuracy, all_of_them.val_accuracy[[6]])
    assert len(some.loss) == 7


def test_a_list_says_after_which_updates_the_network_is_evaluated_besides_the_last():
    run = Run(net=mlp(widths=(4,)), steps=7)
    (listed,), (each,) = train([run], every=[5, 2]), train([run], every=1)
    assert listed.at.tolist() == [2, 5, 7]
    np.testing.assert_array_equal(listed.val_loss, each.val_loss[[1, 4, 6]])
    for wrong in ([], [0, 3], 0):
        with pytest.raises(ValueError, match=r"every is .*: evaluate after each 1, 2, \.\.\. updates, or after a list"):
            train([run], every=wrong)


@pytest.mark.parametrize("net", [mlp(norm="batch"), convnet(norm="batch", widths=(4,))])
def test_many_examples_are_evaluated_in_parts(monkeypatch: pytest.MonkeyPatch, net: Net):
    program = Program([Run(net=net, seed=seed) for seed in (0, 1)], dtype=torch.float64)
    whole = program.evaluate(*program.val)
    sizes: list[int] = []
    forward = nets.forward

    def watched(net: Net, params: Params, x: Tensor, stats: Stats) -> Any:
        sizes.append(x.shape[1])
        return forward(net, params, x, stats)

    monkeypatch.setattr(nets, "forward", watched)
    monkeypatch.setattr(train_module, "EVALUATED", 100 * 2 * 64)
    for parts, of in zip(program.evaluate(*program.val), whole, strict=True):
        torch.testing.assert_close(parts, of, rtol=1e-12, atol=0)
    assert sizes == [100, 100, 100, 60]


def test_an_accuracy_is_exact_in_single_precision_too():
    (history,) = train([Run(net=replace(UNITS, activation="relu").net, steps=40, lr=0.3)])
    right = history.val_accuracy * 360
    assert (abs(right - right.round()) < 1e-9).all()  # 324 of 360 is 0.9, where float32's would lie below


def test_until_stops_a_program_once_all_replicas_are_there_or_have_failed():
    net = replace(UNITS, activation="relu", norm="batch").net
    runs = [Run(net=net, seed=0, lr=1.0, steps=200), Run(net=net, seed=1, lr=0.3, steps=200)]
    runs += [Run(net=net, seed=2, lr=1e38, steps=200)]
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
            params, stats = history.states[step]
            logits, moments = nets.forward(history.run.net, params, x, stats)
            assert moments == {}
            accuracy = (logits[0].argmax(1) == y).double().mean().item()
            assert accuracy == pytest.approx(history.val_accuracy[step - 1])
    with pytest.raises(AttributeError):
        history.loss = None  # type: ignore[misc]


def test_the_test_set_is_used_at_the_end_and_with_the_running_statistics():
    what = replace(UNITS, norm="batch")
    (history,) = train_exactly(replicas(what, n=1))
    split, net = load("digits", 0), Plain(what, history.states[STEPS].params)
    for i in what.normed:
        own = history.states[STEPS].stats[f"{i}.norm"]
        net.norm[i].running_mean, net.norm[i].running_var = own.mean, own.var
    right = net.eval()(torch.tensor(split.x_test)).argmax(1) == torch.tensor(split.y_test)
    assert history.test_accuracy == pytest.approx(right.double().mean().item(), abs=1e-12)


@pytest.mark.parametrize("net", [replace(UNITS, norm="batch", dropout=0.2).net, replace(IMAGES, norm="mean").net, rnn(
    units=9, norm="batch")], ids=["units", "images", "rnn"])  # fmt: skip
def test_exact_evaluation_takes_the_moments_of_the_whole_training_set(net: Net):
    runs = [Run(net=net, seed=seed, lr=lr, steps=4, batch=10) for seed, lr in ((0, 0.3), (1, 0.1))]
    exact, running = (train_exactly(runs, exact=how, every=2, keep=[2, 4]) for how in (True, False))
    for own, other in zip(exact, running, strict=True):
        np.testing.assert_array_equal(own.loss, other.loss)
        assert not np.isclose(own.val_loss, other.val_loss, rtol=1e-3).any()
        split = load("digits", own.run.seed)
        xs = [torch.tensor(x).reshape(1, -1, *net.inputs) for x in (split.x_train, split.x_val, split.x_test)]
        for i, step in enumerate((2, 4)):
            params = own.states[step].params
            _, moments = nets.forward(net, params, xs[0])
            stats = {path: RunningStats(m.mean, m.var) for path, m in moments.items()}
            val, test = (nets.forward(net, params, x, stats)[0][0] for x in xs[1:])
            loss = nn.functional.cross_entropy(val, torch.tensor(split.y_val)).item()
            assert own.val_loss[i] == pytest.approx(loss, rel=1e-10)
            if step == 4:
                right = test.argmax(1).numpy() == split.y_test
                assert own.test_accuracy == pytest.approx(right.mean(), abs=1e-12)


# Ctrl-C


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch):
    """Press Ctrl-C in place of the step with that number, counted over all programs."""

    def at(number: int) -> None:
        step, calls = Program._step, iter(range(1, 1000))

        def stepping(self, which: int) -> None:
            if next(calls) == number:
                raise KeyboardInterrupt
            step(self, which)

        monkeypatch.setattr(Program, "_step", stepping)

    return at


RUNS = [Run(net=replace(UNITS, norm=norm).net, seed=s, steps=6) for norm in ("none", "batch", "layer") for s in (0, 1)]


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
    evaluate, calls = Program.evaluate, iter(range(1, 1000))

    def evaluating(self, x: Tensor, y: Tensor):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(self, x, y)

    monkeypatch.setattr(Program, "evaluate", evaluating)
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
        ("optimizer", "adamw", "optimizer is 'adamw': give 'adam' with decoupled=True"),
        ("optimizer", "lion", r"optimizer is 'lion': choose one of \['sgd', 'momentum', "),
        ("schedule", "step", r"schedule is 'step': choose one of \['constant', 'linear', 'cosine'\]"),
        ("lr", -0.1, "lr is -0.1: give a finite number that is not negative"),
        ("lr", math.inf, "lr is inf"),
        ("lr", math.nan, "lr is nan"),
        ("gain", math.nan, "gain is nan: give a finite number that is not negative"),
        ("gain", -1.0, "gain is -1.0"),
        ("std", math.inf, "std is inf"),
        ("decay", -0.1, "decay is -0.1: give a finite number"),
        ("clip", math.nan, "clip is nan"),
        ("clip", -1.0, "clip is -1.0"),
        ("batch", 0, "batch is 0 and steps 500: both must be at least 1"),
        ("steps", 0, "batch is 60 and steps 0"),
        ("batch", 2.5, "batch is 2.5: give a whole number"),
        ("steps", 10.0, "steps is 10.0: give a whole number"),
        ("seed", -1, "seed is -1: give a whole number from 0 on"),
        ("seed", "0", "seed is '0': give a whole number"),
        ("warm_up", 501, "warm_up is 501: give a whole number from 0 to the 500 steps"),
        ("warm_up", -1, "warm_up is -1"),
        ("warm_up", 0.1, "warm_up is 0.1: give a whole number"),
        ("factors", (("0.affine.weight", -1.0),), "the factor of '0.affine.weight' is -1.0: give a finite number"),
        ("factors", (("bias", math.nan),), "the factor of 'bias' is nan"),
    ],
)
def test_a_run_that_cannot_be_is_a_clear_error(field: str, value: object, message: str):
    with pytest.raises(ValueError, match=message):
        Run(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("net", Chain((Affine(10),)), r"net is a Chain: give a Net, such as mlp\(\), or Net\(inputs, layer\)"),
        ("net", "mlp", "net is a str"),
        ("factors", {"bias": 0.0}, r"factors is \{'bias': 0.0\}: give pairs, \(\('bias', 0.0\),\)"),
        ("decayed", "weight", r"decayed is 'weight': give a tuple, \('weight',\)"),
    ],
)
def test_a_run_of_other_things_is_a_clear_error(field: str, value: object, message: str):
    with pytest.raises(TypeError, match=message):
        Run(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run(data="cifar"), r"no data set is called 'cifar': choose one of \[.*'digits'"),
        (Run(inputs="whitened"), r"""inputs is 'whitened': choose "raw", "centred" or "standardized\""""),
        (Run(batch=1079), "batch is 1079, but 'digits' has 1078 examples to train: choose at most 1078"),
        (Run(net=mlp((65,))), r"inputs are \(65,\) and outputs \(10,\), but an example of 'digits' has shape \(64,\)"),
        (Run(net=convnet((1, 8, 9), (2,))), r"inputs are \(1, 8, 9\)"),
        (Run(net=mlp(classes=9)), "classes are 9, but an example of 'digits' is one of 10: choose at least so many"),
        (Run(net=mlp((8, 8))), r"outputs \(8, 10\), but .* needs \(10,\): .*a Pool where there are positions"),
        (Run(net=mlp((10,), classes=400), data="diabetes"), "y of 'diabetes' is float64 and no class: choose data"),
        (Run(factors=(("gamma", 0.1),)), r"factors names \['gamma'\], but what is learned are \['0.affine.weight'"),
        (Run(decay=0.1, decayed=("wieght",)), r"decayed names \['wieght'\], but what is learned are \['0.affine.wei"),
        (Run(net=mlp(norm="batch"), batch=1), "leaves 1 value per statistic, whose variance is 0"),
    ],
)  # fmt: skip
def test_training_that_cannot_be_is_a_clear_error(run: Run, message: str):
    with pytest.raises(ValueError, match=message):
        train([run])


def test_a_network_without_weights_trains_where_nothing_is_to_decay():
    run = Run(net=Net((64,), Scale()), steps=2)
    assert len(train([run])[0].loss) == 2
    with pytest.raises(ValueError, match=r"decayed names \['weight'\], but what is learned are \['gamma', 'beta'\]"):
        train([replace(run, decay=0.1)])


def test_every_is_at_least_one():
    with pytest.raises(ValueError, match="every is 0: evaluate after each 1, 2"):
        train([Run()], every=0)


def test_a_dtype_is_torchs():
    with pytest.raises(TypeError, match=r"dtype is 'float64': give torch\.float32 or torch\.float64"):
        train([Run()], dtype="float64")  # type: ignore[arg-type]


def test_what_numpy_and_json_give_is_a_run_like_any_other():
    how: dict[str, Any] = {"steps": np.int64(2), "batch": np.int32(50), "factors": [["bias", 0.5]], "decayed": ["bias"]}
    run = Run(net=UNITS.net, seed=np.int64(3), **how)  # type: ignore[arg-type]
    assert run == Run(net=UNITS.net, seed=3, steps=2, batch=50, factors=(("bias", 0.5),), decayed=("bias",))
    assert hash(run) == hash(replace(run))
    assert [type(value) for value in (run.seed, run.steps, run.batch)] == [int] * 3
    assert len(train([run])[0].loss) == 2


def test_nothing_to_train():
    assert train([]) == []


# The progress bar


class Ipykernel(io.StringIO):
    """What a live notebook has for stderr, as far as the bar can see."""


Ipykernel.__module__ = "ipykernel.iostream"


def watch(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a training writes to stderr whose steps take 0.4 s by the bar's clock, whatever TQDM_DISABLE says."""
    now, step = [time.time()], train_module.Program._step

    def slow_step(self, number: int) -> None:
        step(self, number)
        now[0] += 0.4

    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # no thread that draws the bar by another clock
    monkeypatch.setattr(train_module, "tqdm", partial(tqdm, disable=False))
    monkeypatch.setattr(train_module.Program, "_step", slow_step)
    train([Run(net=UNITS.net, steps=4)])
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

    seen, step = [], train_module.Program._step

    def stepping(self, number: int) -> None:
        seen.append(threads())
        step(self, number)

    monkeypatch.setattr(train_module.Program, "_step", stepping)
    slice_ = records.Experiment("toy", lambda: [({}, {})], lambda: {"value": threads()}, {}, {})
    load("digits", 0)  # else scikit-learn's own threads would come in between
    ours = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with threadpool_limits(2):
            before = threads()
            train([Run(net=UNITS.net, steps=1)])
            seen.append(records._in_turn(slice_, {})[0]["values"]["value"])
            with pytest.raises(ValueError, match="batch is"):
                train([Run(net=UNITS.net, batch=9999)])
            assert (set(before), threads()) == ({2}, before)
    finally:
        torch.set_num_threads(ours)
    assert [set(now) for now in seen] == [{1}, {1}]
