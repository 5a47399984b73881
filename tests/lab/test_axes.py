"""The recurrent network of chapter 12 against PyTorch's own layers, and its training against plain loops."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, layer_norm, rms_norm

from bnlib.data import load
from bnlib.lab.experiments import axes
from bnlib.lab.experiments.axes import EPS, ROWS, begin, chosen_rows, descended, forward, read, updated

ARMS = ["none", "batch", "layer", "rms"]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def draw(*shape: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(generator: torch.Generator, replicas: int = 2, units: int = 7) -> dict[str, torch.Tensor]:
    """Parameters with random gammas, betas and biases, because 1 and 0 would hide a lot."""
    params = begin(list(range(replicas)), units)
    return {name: p + (0.3 * draw(*p.shape, generator=generator)) for name, p in params.items()}


def one_by_one(p: dict[str, torch.Tensor], x: torch.Tensor, arm: str) -> torch.Tensor:
    """The logits of one replica (N, 10) by PyTorch's norms, from x (N, 8, 8)."""
    h = torch.zeros(len(x), p["recurrent"].shape[-1], dtype=x.dtype)
    gamma, beta = p["gamma"][0], p["beta"][0]
    for row in x.unbind(1):
        z = row @ p["input"] + h @ p["recurrent"]
        match arm:
            case "none":
                z = z + beta
            case "batch":
                z = torch.nn.functional.batch_norm(z, None, None, gamma, beta, training=True, eps=EPS)
            case "layer":
                z = layer_norm(z, z.shape[1:], gamma, beta, EPS)
            case _:
                z = rms_norm(z, z.shape[1:], gamma, EPS) + beta
        h = torch.tanh(z)
    return h @ p["output"] + p["bias"][0]


@pytest.mark.parametrize("arm", ARMS)
def test_the_replicas_are_networks_of_pytorchs_norms(arm, generator):
    params, x = network(generator), draw(2, 5, 8, 8, generator=generator)
    logits, _ = forward(params, x, arm)
    for r in range(2):
        own = {name: p[r] for name, p in params.items()}
        torch.testing.assert_close(logits[r], one_by_one(own, x[r], arm))


def test_batch_norms_own_statistics_given_back_change_nothing(generator):
    params, x = network(generator), draw(2, 5, 8, 8, generator=generator)
    logits, seen = forward(params, x, "batch")
    torch.testing.assert_close(forward(params, x, "batch", seen)[0], logits)
    assert len(seen) == ROWS
    assert not torch.allclose(seen[0][0], seen[1][0]), "each step has its own"


@pytest.mark.parametrize("arm", ["none", "layer", "rms"])
def test_an_example_does_not_see_the_others(arm, generator):
    params, x = network(generator), draw(2, 5, 8, 8, generator=generator)
    torch.testing.assert_close(forward(params, x[:, :1], arm)[0], forward(params, x, arm)[0][:, :1])


def test_the_running_averages_are_pytorchs(generator):
    norm = torch.nn.BatchNorm1d(7, momentum=0.1, dtype=torch.float64)
    average = [(torch.zeros(1, 1, 7, dtype=torch.float64), torch.ones(1, 1, 7, dtype=torch.float64))]
    for _ in range(3):
        z = draw(1, 5, 7, generator=generator)
        norm(z[0])
        average = updated(average, [(z.mean(1, keepdim=True), z.var(1, correction=0, keepdim=True))], 5)
    torch.testing.assert_close(average[0][0][0, 0], norm.running_mean)
    torch.testing.assert_close(average[0][1][0, 0], norm.running_var)


@pytest.mark.parametrize("arm", ARMS)
def test_descent_is_that_of_one_network_at_a_time(arm, generator):
    params, x = network(generator), draw(2, 12, 8, 8, generator=generator)
    y, rows = torch.arange(24).reshape(2, 12) % 10, torch.arange(12).reshape(3, 1, 4).expand(3, 2, 4)
    lr = torch.tensor([0.1, 0.3], dtype=torch.float64)
    end, average = descended(params, x, y, arm, rows, lr)
    assert len(average) == (ROWS if arm == "batch" else 0)
    for r in range(2):
        own = {name: p[r].clone().requires_grad_() for name, p in params.items()}
        optimizer = torch.optim.SGD(own.values(), float(lr[r]))
        for chosen in rows[:, r]:
            optimizer.zero_grad()
            cross_entropy(one_by_one(own, x[r, chosen], arm), y[r, chosen]).backward()
            optimizer.step()
        for name, p in own.items():
            torch.testing.assert_close(end[name][r], p.detach())


def test_the_same_seed_starts_alike_whatever_else_is_there():
    a, b = begin([4], 9), begin([1, 4], 9)
    for name in a:
        torch.testing.assert_close(a[name][0], b[name][1])
    wide = begin([0], 400)
    assert wide["recurrent"].std().item() == pytest.approx(1 / 20, rel=0.01)
    assert wide["output"].std().item() == pytest.approx(1 / 20, rel=0.05)
    assert wide["input"].std().item() == pytest.approx(8**-0.5, rel=0.05)


def test_an_epoch_shows_each_example_once_without_the_remainder():
    rows = list(chosen_rows(23, 5, seeds=2, epochs=2, who=torch.tensor([0, 1, 1])))
    assert len(rows) == 8
    assert all(chosen.shape == (3, 5) for chosen in rows)
    first = torch.cat(rows[:4], 1)
    assert len(first[0].unique()) == 20
    assert torch.equal(first[1], first[2])
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("arm", ["batch", "layer"])
def test_what_is_read_is_the_accuracy_of_each_replicas_own_split(arm):
    how = {"arm": arm, "batch": 98, "seeds": 2, "epochs": 2, "units": 9, "dtype": "float64"}
    values = read(lrs=[0.3, 1.0], **how)
    assert read(lrs=[0.3, 1.0], **how) == values
    split = load("digits", 1)
    x, x_test = (torch.as_tensor(a)[None].reshape(1, -1, 8, 8) for a in (split.x_train, split.x_test))
    rows = chosen_rows(1078, 98, seeds=2, epochs=2, who=torch.tensor([1]))
    params, average = descended(begin([1], 9), x, torch.as_tensor(split.y_train)[None], arm, rows, torch.ones(1))
    logits, _ = forward(params, x_test, arm, average or None)
    right = (logits[0].argmax(-1).numpy() == split.y_test).mean()
    np.testing.assert_allclose(values["test"][1][1], right)
    assert np.ptp(values["test"]) > 0


def test_a_network_that_has_diverged_is_right_about_nothing():
    how = {"arm": "none", "batch": 98, "seeds": 1, "epochs": 1, "units": 4, "dtype": "float64"}
    assert read(lrs=[float("inf")], **how) == {"val": [[0.0]], "test": [[0.0]]}


def test_batch_norm_is_not_asked_to_train_alone():
    cases = [labels for labels, _ in axes.sequences.cases(**axes.sequences.settings)]
    assert {"batch": 1, "arm": "batch"} not in cases
    assert len(cases) == 15
