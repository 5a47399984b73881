"""The norms of chapter 10 against closed forms, and its training against bnlib's."""

import numpy as np
import pytest
import torch

from bnlib.lab import nets, records
from bnlib.lab.experiments import batches
from bnlib.lab.experiments.batches import EPS, BatchNorm, corrections, ended, ghost_layout
from bnlib.lab.nets import Spec
from bnlib.lab.train import Run, train
from bnlib.norms import Moments, batch_norm
from bnlib.running import RunningStats

FIELDS = {
    "MLP": {"inputs": [64], "widths": [9, 7]},
    "conv": {"inputs": [1, 8, 8], "widths": [4, 8], "kernel": 3, "flat": True},
}
SHAPES = [(2, 3, 8), (8, 6, 4, 4)]  # (replicas, units, N), and (N, replicas * channels, height, width)
LRS = [0.1, 0.3]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


def draw(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return 1.7 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4


def parameters(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return draw((2, 3), generator), draw((2, 3), generator)


def started(momentum: float = 0.1, unbiased: bool = True) -> dict[int, RunningStats]:
    zero = torch.zeros(6, dtype=torch.float64)
    return {0: RunningStats(zero, zero + 1, momentum=momentum, unbiased=unbiased)}


def by_channel(x: torch.Tensor) -> torch.Tensor:
    """(N, C, ...) as batch_norm wants it."""
    return x if x.ndim == 4 else x.reshape(6, -1).T


@pytest.mark.parametrize("shape", SHAPES, ids=["units", "images"])
def test_without_ghosts_it_is_batch_norm(shape, generator):
    x, (gamma, beta), norm = draw(shape, generator), parameters(generator), BatchNorm(started())
    y, cache = batch_norm(by_channel(x), gamma.flatten(), beta.flatten(), EPS)
    torch.testing.assert_close(by_channel(norm(0, x, gamma, beta)), y)
    stats = started()[0].update(cache.moments)
    torch.testing.assert_close(norm.stats[0].mean, stats.mean)
    torch.testing.assert_close(norm.stats[0].var, stats.var)


@pytest.mark.parametrize("shape", SHAPES, ids=["units", "images"])
def test_each_ghost_is_a_batch_of_its_own(shape, generator):
    x, (gamma, beta), norm = draw(shape, generator), parameters(generator), BatchNorm(started(), ghost=4)
    y, moments = norm(0, x, gamma, beta), []
    for rows in (slice(0, 4), slice(4, 8)):
        part = x[..., rows] if x.ndim == 3 else x[rows]
        own, cache = batch_norm(by_channel(part), gamma.flatten(), beta.flatten(), EPS)
        torch.testing.assert_close(by_channel(y[..., rows] if x.ndim == 3 else y[rows]), own)
        moments.append(cache.moments)
    a, b = moments
    mean = started()[0].update(Moments((a.mean + b.mean) / 2, (a.var + b.var) / 2, a.count))
    torch.testing.assert_close(norm.stats[0].mean, mean.mean)
    torch.testing.assert_close(norm.stats[0].var, mean.var)


@pytest.mark.parametrize("shape", [(1, 6, 8), (8, 6, 4, 4)])
def test_a_ghost_of_the_whole_batch_has_as_many_values(shape):
    assert ghost_layout(shape, 8).count == 8 * (16 if len(shape) == 4 else 1)
    assert ghost_layout(shape, 2).count == 2 * (16 if len(shape) == 4 else 1)


@pytest.mark.parametrize("shape", SHAPES, ids=["units", "images"])
def test_renormalized_and_not_clipped_it_is_the_running_statistics(shape, generator, monkeypatch):
    monkeypatch.setattr(batches, "RMAX", 1e9)
    monkeypatch.setattr(batches, "DMAX", 1e9)
    x, (gamma, beta) = draw(shape, generator), parameters(generator)
    stats = RunningStats(draw((6,), generator), draw((6,), generator) ** 2 + 0.1)
    y = by_channel(BatchNorm({0: stats}, renorm=True)(0, x, gamma, beta))
    across = (1, 6) + (1,) * (y.ndim - 2)
    mean, std = stats.mean.reshape(across), (stats.var + EPS).sqrt().reshape(across)
    expected = gamma.reshape(across) * (by_channel(x) - mean) / std + beta.reshape(across)
    torch.testing.assert_close(y, expected)


def test_the_corrections_are_clipped():
    batch = Moments(torch.tensor([10.0, -10.0, 1.0]), torch.tensor([100.0, 0.0001, 4.0]), 8)
    r, d = corrections(batch, RunningStats(torch.zeros(3), torch.ones(3)))
    torch.testing.assert_close(r, torch.tensor([3.0, 1 / 3, 2.0]), rtol=1e-4, atol=0)
    torch.testing.assert_close(d, torch.tensor([5.0, -5.0, 1.0]), rtol=1e-4, atol=0)


def test_the_corrections_are_constants_to_the_gradient(generator):
    x, (gamma, beta), dy = draw((2, 3, 8), generator), parameters(generator), draw((2, 3, 8), generator)
    stats = RunningStats(draw((6,), generator), draw((6,), generator) ** 2 + 0.1)
    x.requires_grad_()
    (dx,) = torch.autograd.grad(BatchNorm({0: stats}, renorm=True)(0, x, gamma, beta), x, dy)
    var, mean = torch.var_mean(x.detach(), 2, correction=0)
    r, _ = corrections(Moments(mean.flatten(), var.flatten(), 8), stats)
    (plain,) = torch.autograd.grad(BatchNorm(started())(0, x, gamma * r.reshape(2, 3), beta), x, dy)
    torch.testing.assert_close(dx, plain)


def test_one_value_is_beta_and_gives_no_gradient(generator):
    x, (gamma, beta) = draw((2, 3, 1), generator).requires_grad_(), parameters(generator)
    norm = BatchNorm(started(unbiased=False))
    y = norm(0, x, gamma, beta)
    torch.testing.assert_close(y, beta[..., None])
    assert not torch.autograd.grad(y, x, torch.ones_like(y))[0].any()
    torch.testing.assert_close(norm.stats[0].var, torch.full((6,), 0.9, dtype=torch.float64))


@pytest.mark.parametrize("network", FIELDS)
@pytest.mark.parametrize("arm", ["none", "batch", "group", "layer"])
def test_it_trains_as_bnlib_does(network, arm):
    fields = FIELDS[network] | ({"groups": 1} if network == "MLP" else {})
    values = ended(spec=fields, arm=arm, batch=98, lrs=LRS, epochs=2, seeds=2, dtype="float64")
    inputs, widths = tuple(fields["inputs"]), tuple(fields["widths"])
    more = {name: fields[name] for name in ("kernel", "groups", "flat") if name in fields}
    spec = Spec(inputs=inputs, widths=widths, norm=arm, activation="relu", gain=1.41, **more)
    for lr, val, test in zip(LRS, values["val"], values["test"], strict=True):
        runs = [Run(spec=spec, seed=seed, lr=lr, batch=98, steps=22) for seed in range(2)]
        histories = train(runs, every=22, dtype=torch.float64)
        np.testing.assert_allclose(val, [h.val_accuracy[-1] for h in histories], atol=1e-12)
        np.testing.assert_allclose(test, [h.test_accuracy for h in histories], atol=1e-12)
    assert np.ptp(values["test"]) > 0.01  # the runs differ, so there was something to compare


def test_replicas_at_once_or_in_turn_are_the_same(monkeypatch):
    how = {"spec": FIELDS["conv"], "arm": "renorm", "batch": 98, "lrs": LRS, "epochs": 1, "seeds": 2}
    together = ended(**how, dtype="float64")
    monkeypatch.setattr(batches, "AT_ONCE", 1)
    apart = ended(**how, dtype="float64")
    for name in together:
        np.testing.assert_allclose(together[name], apart[name], atol=1e-12)


@pytest.mark.parametrize("how", [{"ghost": 14}, {"arm": "renorm"}, {"batch": 49}], ids=str)
def test_what_changes_the_training(how):
    base = {"spec": FIELDS["MLP"], "arm": "batch", "batch": 98, "lrs": LRS, "epochs": 3, "seeds": 2, "dtype": "float64"}
    assert ended(**base) == ended(**base)
    assert ended(**base)["test exact"] != ended(**(base | how))["test exact"]


@pytest.mark.parametrize("network", FIELDS)
def test_exact_statistics_are_those_of_each_replicas_own_split(network, generator):
    fields = FIELDS[network]
    spec = Spec(
        inputs=tuple(fields["inputs"]), widths=tuple(fields["widths"]), kernel=fields.get("kernel"), norm="batch"
    )
    params = nets.start([spec] * 3, [0, 1, 2], torch.float64)
    x = torch.randn(2, 11, *spec.inputs, generator=generator, dtype=torch.float64)
    who = torch.tensor([0, 1, 1])
    stats = batches.exact(spec, params, x, who)
    _, moments = nets.forward(spec, params, x[who])
    for i in spec.normed:
        torch.testing.assert_close(stats[i].mean, moments[i].mean)
        torch.testing.assert_close(stats[i].var, moments[i].var)


@pytest.mark.parametrize(
    ("arm", "batch", "momentum"),
    [("batch", 2, 0.1), ("batch", 256, 0.1), ("renorm", 2, 2 / 640), ("renorm", 16, 0.025), ("renorm", 256, 0.1)],
)
def test_how_far_the_running_averages_look_back(arm, batch, momentum):
    spec = Spec(widths=(9,), norm="batch")
    norm = batches._norm(spec, nets.start([spec], [0]), arm, batch, None)
    assert norm is not None
    assert norm.stats[0].momentum == pytest.approx(momentum)
    assert norm.renorm == (arm == "renorm")


def test_only_of_a_single_value_the_variance_stays_biased():
    for inputs, kernel, batch, unbiased in (((64,), None, 1, False), ((64,), None, 2, True), ((1, 8, 8), 3, 1, True)):
        spec = Spec(inputs=inputs, widths=(9,), kernel=kernel, norm="batch")
        norm = batches._norm(spec, nets.start([spec], [0]), "batch", batch, None)
        assert norm is not None
        assert norm.stats[0].unbiased == unbiased


def test_the_longer_runs_are_the_dense_networks_of_the_others_with_more_epochs():
    kept = {tuple(labels.items()): how for labels, how in batches.sizes.cases(**batches.sizes.settings)}
    longer = list(batches.longer.cases(**batches.longer.settings))
    assert {labels["batch"] for labels, _ in longer} == {16, 64, 256}
    for labels, how in longer:
        other = kept[tuple(labels.items())]
        assert {**how, "lrs": other["lrs"], "epochs": other["epochs"]} == other
        assert how["epochs"] == 4 * other["epochs"]
        assert set(how["lrs"]) <= set(other["lrs"])


@pytest.mark.parametrize(("name", "ghosts"), [("sizes", False), ("longer", False), ("ghosts", True)])
def test_no_run_that_diverged_is_among_those_that_were_picked(name, ghosts):
    experiment = getattr(batches, name)
    for case in records.load(experiment.id)["values"]:
        values = case["values"]
        for how in ("", " exact") if "val exact" in values and not ghosts else ("",):
            best = np.mean(values["val" + how], axis=1).argmax()
            assert min(values["test" + how][best]) > 0, case["labels"]
