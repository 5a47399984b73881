"""The norms of chapter 10 against closed forms, and what its training is judged by."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab import train as train_module
from bnlib.lab.experiments import batches
from bnlib.lab.experiments.batches import (
    EPS,
    BatchNorm,
    Ghosts,
    Renorm,
    corrections,
    ghost_layout,
    judged,
    norm_of,
)
from bnlib.lab.layers import Draw, Flow, Norm, Signal
from bnlib.lab.nets import convnet, mlp
from bnlib.lab.train import Run, train
from bnlib.norms import Moments, batch_norm
from bnlib.running import RunningStats

FIELDS = {
    "MLP": {"inputs": [64], "widths": [12, 8]},
    "conv": {"inputs": [1, 8, 8], "widths": [4, 8], "kernel": 3, "flat": True},
}
MAKE = {"MLP": mlp, "conv": convnet}
SHAPES = [(2, 3, 8), (8, 6, 4, 4)]  # (replicas, units, N), and (N, replicas * channels, height, width)
LRS = [0.1, 0.3]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 1.7 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4


def parameters(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return draw((2, 3), generator), draw((2, 3), generator)


def fresh(norm: Norm) -> RunningStats:
    """The running statistics of two replicas of three units."""
    return norm.fresh(Draw([torch.Generator()] * 2, [1.0] * 2, [None] * 2), 3)


def normed(
    norm: Norm, x: Tensor, gamma: Tensor, beta: Tensor, running: RunningStats | None = None
) -> tuple[Tensor, RunningStats]:
    """What a norm makes of x in a step of a training, and its running statistics after it."""
    running = running or fresh(norm)
    flow = Flow({"gamma": gamma, "beta": beta}, 2, running={"": running})
    y = norm(Signal(x, (3, *x.shape[2:]) if x.ndim == 4 else (3,)), "", flow).values
    return y, running.update(flow.moments[""])


def by_channel(x: Tensor) -> Tensor:
    """(N, C, ...) as batch_norm wants it."""
    return x if x.ndim == 4 else x.reshape(6, -1).T


def some_stats(generator: torch.Generator) -> RunningStats:
    return RunningStats(draw((6,), generator), draw((6,), generator) ** 2 + 0.1)


@pytest.mark.parametrize("shape", SHAPES, ids=["units", "images"])
def test_without_ghosts_it_is_batch_norm(shape, generator):
    x, (gamma, beta) = draw(shape, generator), parameters(generator)
    y, after = normed(BatchNorm(), x, gamma, beta)
    expected, cache = batch_norm(by_channel(x), gamma.flatten(), beta.flatten(), EPS)
    torch.testing.assert_close(by_channel(y), expected)
    zero = torch.zeros(6, dtype=torch.float64)
    stats = RunningStats(zero, zero + 1, momentum=0.1, unbiased=True).update(cache.moments)
    torch.testing.assert_close(after.mean, stats.mean)
    torch.testing.assert_close(after.var, stats.var)


@pytest.mark.parametrize("shape", SHAPES, ids=["units", "images"])
def test_each_ghost_is_a_batch_of_its_own(shape, generator):
    x, (gamma, beta), norm = draw(shape, generator), parameters(generator), Ghosts(size=4)
    (y, after), moments = normed(norm, x, gamma, beta), []
    for rows in (slice(0, 4), slice(4, 8)):
        part = x[..., rows] if x.ndim == 3 else x[rows]
        own, cache = batch_norm(by_channel(part), gamma.flatten(), beta.flatten(), EPS)
        torch.testing.assert_close(by_channel(y[..., rows] if x.ndim == 3 else y[rows]), own)
        moments.append(cache.moments)
    a, b = moments
    mean = fresh(norm).update(Moments((a.mean + b.mean) / 2, (a.var + b.var) / 2, a.count))
    torch.testing.assert_close(after.mean, mean.mean)
    torch.testing.assert_close(after.var, mean.var)


@pytest.mark.parametrize("shape", SHAPES, ids=["units", "images"])
def test_a_ghost_of_the_whole_batch_has_as_many_values(shape):
    assert ghost_layout(shape, 8).count == 8 * (16 if len(shape) == 4 else 1)
    assert ghost_layout(shape, 2).count == 2 * (16 if len(shape) == 4 else 1)


@pytest.mark.parametrize("shape", SHAPES, ids=["units", "images"])
def test_renormalized_and_not_clipped_it_is_the_running_statistics(shape, generator, monkeypatch):
    monkeypatch.setattr(batches, "RMAX", 1e9)
    monkeypatch.setattr(batches, "DMAX", 1e9)
    x, (gamma, beta), stats = draw(shape, generator), parameters(generator), some_stats(generator)
    y = by_channel(normed(Renorm(), x, gamma, beta, stats)[0])
    across = (1, 6) + (1,) * (y.ndim - 2)
    mean, std = stats.mean.reshape(across), (stats.var + EPS).sqrt().reshape(across)
    expected = gamma.reshape(across) * (by_channel(x) - mean) / std + beta.reshape(across)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=["units", "images"])
def test_renormalized_it_averages_the_batchs_own_moments(shape, generator):
    x, (gamma, beta), stats = draw(shape, generator), parameters(generator), some_stats(generator)
    _, cache = batch_norm(by_channel(x), gamma.flatten(), beta.flatten(), EPS)
    _, after = normed(Renorm(), x, gamma, beta, stats)
    torch.testing.assert_close(after.mean, stats.update(cache.moments).mean)
    torch.testing.assert_close(after.var, stats.update(cache.moments).var)


def test_the_corrections_are_clipped():
    batch = Moments(torch.tensor([10.0, -10.0, 1.0]), torch.tensor([100.0, 0.0001, 4.0]), 8)
    r, d = corrections(batch, RunningStats(torch.zeros(3), torch.ones(3)))
    torch.testing.assert_close(r, torch.tensor([3.0, 1 / 3, 2.0]), rtol=1e-4, atol=0)
    torch.testing.assert_close(d, torch.tensor([5.0, -5.0, 1.0]), rtol=1e-4, atol=0)


def test_the_corrections_are_constants_to_the_gradient(generator):
    x, (gamma, beta), dy = draw((2, 3, 8), generator), parameters(generator), draw((2, 3, 8), generator)
    stats = some_stats(generator)
    x.requires_grad_()
    (dx,) = torch.autograd.grad(normed(Renorm(), x, gamma, beta, stats)[0], x, dy)
    var, mean = torch.var_mean(x.detach(), 2, correction=0)
    r, _ = corrections(Moments(mean.flatten(), var.flatten(), 8), stats)
    (plain,) = torch.autograd.grad(normed(BatchNorm(), x, gamma * r.reshape(2, 3), beta)[0], x, dy)
    torch.testing.assert_close(dx, plain)


def test_one_value_is_beta_and_gives_no_gradient(generator):
    x, (gamma, beta) = draw((2, 3, 1), generator).requires_grad_(), parameters(generator)
    y, after = normed(BatchNorm(unbiased=False), x, gamma, beta)
    torch.testing.assert_close(y, beta[..., None])
    assert not torch.autograd.grad(y, x, torch.ones_like(y))[0].any()
    torch.testing.assert_close(after.var, torch.full((6,), 0.9, dtype=torch.float64))
    torch.testing.assert_close(after.mean, 0.1 * x.detach().flatten())
    assert not after.mean.requires_grad


def test_one_value_is_renormalized_to_the_shift_alone(generator):
    x, (gamma, beta), stats = draw((2, 3, 1), generator), parameters(generator), some_stats(generator)
    stats = RunningStats(stats.mean, stats.var, unbiased=False)
    _, d = corrections(Moments(x.flatten(), torch.zeros(6, dtype=torch.float64), 1), stats)
    y, _ = normed(Renorm(unbiased=False), x, gamma, beta, stats)
    torch.testing.assert_close(y[..., 0], beta + gamma * d.reshape(2, 3))


@pytest.mark.parametrize("arm", ["batch", "renorm"])
def test_a_network_learns_from_batches_of_one(arm):
    net = mlp(widths=(4,), norm=norm_of(arm, 1, 1))
    (history,) = train([Run(net=net, batch=1, steps=3)], every=3, keep=[0, 3], dtype=torch.float64)
    start, end = (history.states[step] for step in (0, 3))
    assert np.isfinite(history.loss).all()
    assert not torch.equal(start.params["1.affine.weight"], end.params["1.affine.weight"])
    assert torch.equal(start.params["0.affine.weight"], end.params["0.affine.weight"])  # in front of what gives none


@pytest.mark.parametrize(("batch", "programs"), [(1, [50]), (4, [50]), (16, [32, 18]), (33, [16, 16, 16, 2])])
def test_the_smaller_the_batches_the_more_replicas_train_at_once(batch, programs):
    runs = [Run(seed=seed, batch=batch) for seed in range(50)]
    assert [len(indices) for indices in train_module._programs(runs)] == programs


@pytest.mark.parametrize(
    ("arm", "batch", "momentum"),
    [("batch", 2, 0.1), ("batch", 256, 0.1), ("renorm", 2, 2 / 640), ("renorm", 16, 0.025), ("renorm", 256, 0.1)],
)
def test_how_far_the_running_averages_look_back(arm, batch, momentum):
    norm = norm_of(arm, batch, 1)
    assert isinstance(norm, BatchNorm)
    assert fresh(norm).momentum == pytest.approx(momentum)
    assert isinstance(norm, Renorm) == (arm == "renorm")


def test_only_of_a_single_value_the_variance_stays_biased():
    for positions, batch, unbiased in ((1, 1, False), (1, 2, True), (64, 1, True)):
        for arm in ("batch", "renorm"):
            norm = norm_of(arm, batch, positions)
            assert isinstance(norm, BatchNorm)
            assert fresh(norm).unbiased == unbiased


def test_the_norms_of_the_arms():
    assert [norm_of(arm, 4, 1) for arm in ("none", "group", "layer")] == ["none", "group", "layer"]
    assert norm_of("batch", 256, 1, 16) == Ghosts(size=16)
    assert norm_of("batch", 256, 1) == BatchNorm()


# What the comparisons run


def kept(network: str, arm: str, **how: Any) -> dict[str, Any]:
    """Arguments of judged for two rates and two seeds, for two epochs and a few examples too few for another update."""
    runs = [{"seed": seed, "lr": lr} for lr in LRS for seed in (0, 1)]
    return {"spec": FIELDS[network], "arm": arm, "batch": 98, "runs": runs, "examples": 22 * 98 + 5,
            "inputs": "centred", "dtype": "float64", **how}  # fmt: skip


@pytest.mark.parametrize("network", FIELDS)
@pytest.mark.parametrize("arm", ["none", "batch", "group", "layer"])
def test_it_trains_as_bnlib_does(network, arm):
    values = judged(**kept(network, arm))
    net = MAKE[network](**FIELDS[network], norm=arm, activation="relu")
    runs = [
        Run(net=net, seed=seed, lr=lr, gain=1.41, batch=98, steps=22, inputs="centred") for lr in LRS for seed in (0, 1)
    ]
    histories = train(runs, every=22, dtype=torch.float64)
    np.testing.assert_allclose(values["val"], [h.val_accuracy[-1] for h in histories], atol=1e-12)
    np.testing.assert_allclose(values["test"], [h.test_accuracy for h in histories], atol=1e-12)
    assert np.ptp(values["test"]) > 0.01  # the runs differ, so there was something to compare


@pytest.mark.parametrize("network", FIELDS)
@pytest.mark.parametrize("how", [{"arm": "batch"}, {"arm": "batch", "ghost": 14}, {"arm": "renorm"}], ids=str)
def test_exact_statistics_are_those_of_each_replicas_own_split_in_one_batch(network, how):
    arguments = kept(network, **how)
    values = judged(**arguments, statistics="exact")
    norm = norm_of(how["arm"], 98, 1 if network == "MLP" else 64, how.get("ghost"))
    plain, net = (MAKE[network](**FIELDS[network], norm=own, activation="relu") for own in ("batch", norm))
    about: dict[str, Any] = {"gain": 1.41, "batch": 98, "steps": 22, "inputs": "centred"}
    histories = train([Run(net=net, **about, **run) for run in arguments["runs"]], keep=[22], dtype=torch.float64)
    for i, history in enumerate(histories):
        split, params = load("digits", history.run.seed, "centred"), history.states[22].params
        x, x_val, x_test = (torch.as_tensor(a).reshape(1, -1, *net.inputs) for a in split[::2])
        stats = {path: RunningStats(m.mean, m.var) for path, m in nets.forward(plain, params, x)[1].items()}
        for part, images, labels in (("val", x_val, split.y_val), ("test", x_test, split.y_test)):
            logits, _ = nets.forward(plain, params, images, stats)
            assert values[part][i] == pytest.approx((logits[0].argmax(-1).numpy() == labels).mean(), abs=1e-12)
    assert values["test"] != judged(**arguments)["test"]
    assert len(set(values["test"])) > 2


@pytest.mark.parametrize("arm", ["none", "group"])
def test_where_no_example_sees_another_there_are_no_statistics_to_choose(arm):
    assert judged(**kept("MLP", arm), statistics="exact") == judged(**kept("MLP", arm))


@pytest.mark.parametrize("how", [{"ghost": 14}, {"arm": "renorm"}, {"batch": 49}, {"examples": 980}], ids=str)
def test_what_changes_the_training(how):
    base = kept("MLP", "batch", statistics="exact")
    assert judged(**base) == judged(**base)
    assert judged(**base) != judged(**(base | how))


def test_replicas_at_once_or_in_turn_are_the_same(monkeypatch):
    how = kept("conv", "renorm", examples=980)
    together = judged(**how)
    monkeypatch.setattr(train_module, "REPLICAS", 1)
    apart = judged(**how)
    for name in together:
        np.testing.assert_allclose(together[name], apart[name], atol=1e-12)


def test_centred_inputs_of_other_data_are_judged():
    about: dict[str, Any] = {"spec": {"inputs": [196], "widths": [4]}, "arm": "batch", "batch": 64, "dtype": "float64"}
    runs, data = [{"seed": 5, "lr": 0.3}], "mnist 14x14"
    found = [judged(runs=runs, examples=640, data=data, inputs=x, **about)["test"] for x in ("raw", "centred")]
    net = mlp((196,), (4,), norm=BatchNorm(), activation="relu")
    (run,) = (Run(net=net, gain=1.41, batch=64, steps=10, data=data, inputs="centred", **run) for run in runs)
    (history,) = train([run], every=10, dtype=torch.float64)
    assert found[1] == [history.test_accuracy] != found[0]


@pytest.mark.parametrize("arm", ["none", "batch"])
def test_what_diverged_is_judged_by_no_number(arm):
    values = judged(**kept("MLP", arm, runs=[{"seed": 0, "lr": 1e300}, {"seed": 0, "lr": 0.1}], examples=980))
    for name in ("val", "test"):
        assert np.isnan(values[name]).tolist() == [True, False]
