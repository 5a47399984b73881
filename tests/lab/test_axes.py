"""The recurrent network of chapter 13 against PyTorch's own norms, and its training against plain loops."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, cross_entropy, layer_norm, rms_norm

from bnlib.data import load
from bnlib.lab import experiments, nets
from bnlib.lab.experiments import at_rates, axes
from bnlib.lab.experiments.axes import Across, read
from bnlib.lab.layers import Params, State
from bnlib.lab.nets import Net, rnn
from bnlib.lab.train import History, Hook, Run, batches, train
from bnlib.running import RunningStats

ARMS = ["none", "batch", "layer", "rms"]
ROWS, EPS = 8, 1e-5


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def draw(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(arm: str, generator: torch.Generator) -> tuple[Net, Params]:
    """Two replicas with random gammas, betas and biases, because 1 and 0 would hide a lot."""
    net = rnn(units=7, norm=arm)
    params = nets.start(net, [0, 1], dtype=torch.float64).params
    return net, {name: p + 0.3 * draw(*p.shape, generator=generator) for name, p in params.items()}


def running(units: int) -> list[tuple[Tensor, Tensor]]:
    """Running mean and variance of each step, which PyTorch changes in place."""
    return [(torch.zeros(units, dtype=torch.float64), torch.ones(units, dtype=torch.float64)) for _ in range(ROWS)]


def one_by_one(
    own: Params, x: Tensor, arm: str, stats: list[tuple[Tensor, Tensor]] | None = None, training: bool = True
) -> Tensor:
    """The logits of one replica (N, 10) by PyTorch's norms, from x (N, 8, 8)."""
    stats = stats or running(own["recurrent.recurrent.weight"].shape[0])
    h = torch.zeros(len(x), len(own["recurrent.recurrent.weight"]), dtype=x.dtype)
    gamma, beta = own.get("recurrent.norm.gamma"), own.get("recurrent.norm.beta")
    for row, (mean, var) in zip(x.unbind(1), stats, strict=True):
        z = row @ own["recurrent.input.weight"].T + h @ own["recurrent.recurrent.weight"].T
        match arm:
            case "none":
                z = z + own["recurrent.bias"]
            case "batch":
                z = batch_norm(z, mean, var, gamma, beta, training, 0.1, EPS)
            case "layer":
                z = layer_norm(z, z.shape[1:], gamma, beta, EPS)
            case _:
                z = rms_norm(z, z.shape[1:], gamma, EPS) + own["recurrent.norm.beta"]
        h = torch.tanh(z)
    return h @ own["affine.weight"].T + own["affine.bias"]


def of_one(params: Params, r: int = 0) -> Params:
    return {name: p[r].clone() for name, p in params.items()}


@pytest.mark.parametrize("arm", ARMS)
def test_the_replicas_are_networks_of_pytorchs_norms(arm, generator):
    (net, params), x = network(arm, generator), draw(2, 5, 8, 8, generator=generator)
    logits, _ = nets.forward(net, params, x)
    for r in range(2):
        torch.testing.assert_close(logits[r], one_by_one(of_one(params, r), x[r], arm))


def test_batch_norms_own_statistics_given_back_change_nothing(generator):
    (net, params), x = network("batch", generator), draw(2, 5, 8, 8, generator=generator)
    logits, moments = nets.forward(net, params, x)
    seen = {path: RunningStats(m.mean, m.var) for path, m in moments.items()}
    torch.testing.assert_close(nets.forward(net, params, x, seen)[0], logits)
    assert list(seen) == [f"recurrent.norm.{step}" for step in range(ROWS)]
    first, second, *_ = seen.values()
    assert not torch.allclose(first.mean, second.mean), "each step has its own"


@pytest.mark.parametrize("arm", ["none", "layer", "rms"])
def test_an_example_does_not_see_the_others(arm, generator):
    (net, params), x = network(arm, generator), draw(2, 5, 8, 8, generator=generator)
    alone, _ = nets.forward(net, params, x[:, :1])
    torch.testing.assert_close(alone, nets.forward(net, params, x)[0][:, :1])


def trained(arm: str, steps: int) -> list[History]:
    """Two seeds, each with its own rate, from the record's start."""
    net = rnn(units=7, norm=arm)
    runs = [Run(net=net, seed=seed, lr=lr, batch=49, steps=steps) for seed, lr in ((0, 0.3), (1, 1.0))]
    return train(runs, every=steps, keep=(0, steps), dtype=torch.float64, hooks=[Across])


@pytest.mark.parametrize("arm", ARMS)
def test_descent_is_that_of_one_network_at_a_time(arm):
    for history in trained(arm, 3):
        run, split = history.run, load("digits", history.run.seed)
        x, y = torch.as_tensor(split.x_train).reshape(-1, ROWS, 8), torch.as_tensor(split.y_train)
        own, average = of_one(history.states[0].params), running(7)
        optimizer = torch.optim.SGD([p.requires_grad_() for p in own.values()], run.lr)
        for rows, _ in zip(batches(len(x), 49, run.seed), range(3), strict=False):
            optimizer.zero_grad()
            cross_entropy(one_by_one(own, x[rows], arm, average), y[rows]).backward()
            optimizer.step()
        end: State = history.states[3]
        for name, p in own.items():
            torch.testing.assert_close(end.params[name][0], p.detach())
        for step, (mean, var) in enumerate(average if arm == "batch" else []):
            torch.testing.assert_close(end.stats[f"recurrent.norm.{step}"].mean, mean)
            torch.testing.assert_close(end.stats[f"recurrent.norm.{step}"].var, var)
        x_test = torch.as_tensor(split.x_test).reshape(-1, ROWS, 8)
        right = one_by_one(own, x_test, arm, average, training=False).argmax(-1).numpy() == split.y_test
        np.testing.assert_allclose(history.test_accuracy, right.mean())


def test_the_same_seed_starts_alike_whatever_else_is_there():
    alone, both = (nets.start(rnn(units=9), seeds).params for seeds in ([4], [1, 4]))
    for name in alone:
        torch.testing.assert_close(alone[name][0], both[name][1])
    wide = nets.start(rnn(units=400), [0]).params
    assert wide["recurrent.recurrent.weight"].std().item() == pytest.approx(1 / 20, rel=0.01)
    assert wide["affine.weight"].std().item() == pytest.approx(1 / 20, rel=0.05)
    assert wide["recurrent.input.weight"].std().item() == pytest.approx(8**-0.5, rel=0.05)


def test_the_record_starts_from_draws_with_the_inputs_first():
    for seed, history in enumerate(trained("layer", 1)):
        own, generator = of_one(history.states[0].params), torch.Generator().manual_seed(seed)
        for name, shape in (
            ("recurrent.input.weight", (8, 7)),
            ("recurrent.recurrent.weight", (7, 7)),
            ("affine.weight", (7, 10)),
        ):
            torch.testing.assert_close(own[name].T, draw(*shape, generator=generator) / shape[0] ** 0.5)


def test_an_epoch_shows_each_example_once_without_the_remainder():
    rows = [chosen for chosen, _ in zip(batches(23, 5, 0), range(8), strict=False)]
    assert all(chosen.shape == (5,) for chosen in rows)
    for epoch in (rows[:4], rows[4:]):
        assert len(torch.cat(epoch).unique()) == 20
    assert torch.equal(rows[0], next(batches(23, 5, 0)))
    assert not torch.equal(rows[0], next(batches(23, 5, 1)))


class Steps(Hook):
    """Notes the steps, in place of an accuracy."""

    def after(self, step: int) -> dict[str, Tensor]:
        return {"step": torch.tensor([step + run.seed + run.lr for run in self.program.runs])}


def test_rates_stand_before_seeds_and_epochs_are_whole(monkeypatch):
    seen: list[Run] = []
    monkeypatch.setattr(experiments, "train", lambda runs, **how: seen.extend(runs) or train(runs, **how))
    values = at_rates(rnn(units=3), [0.25, 0.5], seeds=3, batch=500, epochs=2, dtype="float64", hooks=[Steps])
    assert [(run.lr, run.seed) for run in seen] == [(lr, seed) for lr in (0.25, 0.5) for seed in range(3)]
    assert {(run.batch, run.steps) for run in seen} == {(500, 4)}
    np.testing.assert_allclose(values["step"], [[4.25, 5.25, 6.25], [4.5, 5.5, 6.5]])


@pytest.mark.parametrize("arm", ["batch", "layer"])
def test_what_is_read_is_the_accuracy_of_each_replicas_own_split(arm):
    how = {"arm": arm, "batch": 98, "seeds": 2, "epochs": 2, "units": 9, "dtype": "float64"}
    values = read(lrs=[0.3, 1.0], **how)
    assert read(lrs=[0.3, 1.0], **how) == values
    run = Run(net=rnn(units=9, norm=arm), seed=1, lr=1.0, batch=98, steps=22)
    (history,) = train([run], every=22, dtype=torch.float64, hooks=[Across])
    np.testing.assert_allclose([values[part][1][1] for part in ("val", "test")],
                               [history.val_accuracy[-1], history.test_accuracy])  # fmt: skip
    assert np.ptp(values["test"]) > 0


def test_a_network_that_has_diverged_is_right_about_nothing():
    how = {"arm": "none", "batch": 98, "seeds": 1, "epochs": 1, "units": 4, "dtype": "float64"}
    assert read(lrs=[1e308], **how) == {"val": [[0.0]], "test": [[0.0]]}


def test_batch_norm_is_not_asked_to_train_alone():
    cases = [labels for labels, _ in axes.sequences.cases(**axes.sequences.settings)]
    assert {"batch": 1, "arm": "batch"} not in cases
    assert len(cases) == 15


def test_in_order_trains_each_run_for_so_many_epochs_on_centred_examples():
    found = axes.in_order(
        runs=[{"seed": 0, "lr": 0.1}, {"seed": 3, "lr": 0.5}], data="mnist-1d", arm="rms", batch=500, epochs=2, units=5,
        dtype="float64",
    )  # fmt: skip
    net = rnn((8, 5), 5, norm="rms")
    runs = [
        Run(net=net, seed=seed, lr=lr, batch=500, steps=12, data="mnist-1d", inputs="centred")
        for seed, lr in ((0, 0.1), (3, 0.5))
    ]
    histories = train(runs, every=12, dtype=torch.float64)
    assert found == {
        "val": [h.val_accuracy[-1] for h in histories],
        "test": [h.test_accuracy for h in histories],
    }
