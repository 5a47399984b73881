"""What chapter 15 measures says of a network what plain lines, and bnlib's own training, say of it."""

from typing import Any

import numpy as np
import pytest
import torch

from bnlib.data import load
from bnlib.lab.experiments.selu import described, draw_inputs, draw_weights, ended, passed
from bnlib.lab.nets import mlp
from bnlib.lab.train import Run, train
from bnlib.selu import moments

LRS = [0.1, 0.3]
HOW = {"examples": 30, "seeds": 2, "layers": [0, 2, 3], "width": 9}


# Signals


def test_a_description_by_hand():
    h = np.array([[1.0, 2.0], [3.0, -2.0], [2.0, 0.0]])  # units with the means 2 and 0
    said = described(h)
    assert said["mean"] == pytest.approx(1)
    assert said["std"] ** 2 == pytest.approx(np.mean((h - 1) ** 2))
    assert said["share"] * said["std"] ** 2 == pytest.approx(1)  # the variance of 2 and 0
    cosines = [-1 / 65**0.5, 1 / 5**0.5, 3 / 13**0.5]
    assert said["cosine"] == pytest.approx(np.mean(cosines))


def test_weights_have_the_gains_variance_and_balanced_ones_exact_sums():
    drawn = draw_weights(np.random.default_rng(0), 300, 200, 1.5, balanced=False)
    assert drawn.shape == (300, 200)
    assert drawn.var() == pytest.approx(1.5**2 / 300, rel=0.02)
    assert abs(drawn.sum(0)).mean() > 1
    drawn = draw_weights(np.random.default_rng(0), 300, 200, 1.5, balanced=True)
    np.testing.assert_allclose(drawn.sum(0), 0, atol=1e-12)
    np.testing.assert_allclose((drawn**2).sum(0), 2.25, rtol=1e-12)


def test_inputs_are_what_they_are_called():
    far, wide = (draw_inputs(name, 500, 3) for name in ("mean 3, std 0.1", "std 5"))
    assert far.shape == wide.shape == (500, 64)
    np.testing.assert_allclose([far.mean(), far.std(), wide.mean(), wide.std()], [3, 0.1, 0, 5], atol=0.1)
    train_set = load("digits", 3).x_train
    np.testing.assert_array_equal(draw_inputs("raw digits", 20, 3), train_set[:20])
    whole = draw_inputs("centred digits", len(train_set), 3)
    np.testing.assert_allclose(whole.mean(0), 0, atol=1e-12)
    assert (whole**2).mean() == pytest.approx(1)


@pytest.mark.parametrize("activation", ["selu", "relu", "tanh"])
def test_a_signal_passes_as_through_plain_torch(activation: str):
    values = passed(inputs="raw digits", activation=activation, gain=1.2, **HOW)
    functions = {"selu": torch.selu, "relu": torch.relu, "tanh": torch.tanh}
    for seed in range(2):
        rng, h = np.random.default_rng(seed), torch.tensor(load("digits", seed).x_train[:30])
        for _ in range(3):
            weights = torch.tensor(rng.normal(0, 1.2 / h.shape[1] ** 0.5, (h.shape[1], 9)))
            h = functions[activation](h @ weights)
        np.testing.assert_allclose(values["mean"][seed][-1], h.mean(), rtol=1e-10)
        np.testing.assert_allclose(values["std"][seed][-1], h.std(correction=0), rtol=1e-10)
    assert len(values["share"][0]) == 3


def test_a_wide_network_follows_the_map():
    values = passed(
        inputs="std 5", activation="selu", gain=1.1, examples=50, seeds=1, layers=[0, 1, 2], width=4000, balanced=False
    )
    mean, var = 0.0, 25.0
    for layer in (1, 2):
        mean, var = moments(0.0, 1.1**2 * (var + mean**2))
        assert values["mean"][0][layer] == pytest.approx(float(mean), abs=0.1)
        assert values["std"][0][layer] == pytest.approx(float(var) ** 0.5, rel=0.03)


@pytest.mark.parametrize("alpha", [False, True])
def test_dropout_keeps_what_it_is_made_for(alpha: bool):
    how = {"inputs": "std 5", "activation": "selu", "gain": 1.0, "examples": 400, "seeds": 1, "width": 500}
    (std,) = passed(**how, layers=[0, 30], dropout=0.2, alpha=alpha)["std"]
    if alpha:
        assert std[-1] == pytest.approx(1, abs=0.05)
    else:
        assert std[-1] > 1.3


# Training


def same_as_bnlib(fields: dict, **how: Any) -> dict:
    values = ended(spec=fields, lrs=LRS, seeds=2, steps=12, batch=60, dtype="float64")
    for lr, val, test in zip(LRS, values["val"], values["test"], strict=True):
        runs = [Run(seed=seed, lr=lr, steps=12, **how) for seed in range(2)]
        histories = train(runs, every=12, dtype=torch.float64)
        np.testing.assert_allclose(val, [h.val_accuracy[-1] for h in histories], atol=1e-12)
        np.testing.assert_allclose(test, [h.test_accuracy for h in histories], atol=1e-12)
    return values


@pytest.mark.parametrize(
    "fields",
    [
        {"activation": "selu"},
        {"activation": "selu", "dropout": 0.2, "alpha_dropout": True},
        {"activation": "relu", "gain": 1.41, "norm": "batch", "residual": True},
    ],
    ids=str,
)
def test_raw_digits_train_as_bnlib_does(fields: dict):
    of_net = {name: value for name, value in fields.items() if name != "gain"}
    values = same_as_bnlib(
        {"widths": [9, 9, 9], "raw": True, **fields}, net=mlp(widths=(9, 9, 9), **of_net), gain=fields.get("gain", 1.0)
    )
    assert np.ptp(values["test"]) > 0.01  # the runs differ, so there was something to compare


def test_digits_are_centred_unless_they_are_to_be_raw():
    how = {"lrs": LRS, "seeds": 2, "steps": 3, "batch": 60, "dtype": "float64"}
    fields = {"widths": [9, 7], "activation": "selu"}
    for raw, inputs in ((False, "centred"), (True, "raw")):
        runs = [
            Run(net=mlp(widths=(9, 7), activation="selu"), seed=seed, lr=lr, steps=3, inputs=inputs)
            for lr in LRS
            for seed in (0, 1)
        ]
        expected = [history.test_accuracy for history in train(runs, every=3, dtype=torch.float64)]
        np.testing.assert_allclose(np.ravel(ended(spec=fields | {"raw": raw}, **how)["test"]), expected)
    assert ended(spec=fields, **how) == ended(spec=fields | {"raw": False}, **how)


def test_the_summary_is_that_of_the_trained_weights():
    fields = {"widths": [9, 7], "activation": "selu", "raw": True}
    values = ended(spec=fields, lrs=[0.3], seeds=2, steps=4, batch=60, dtype="float64")
    for seed in range(2):
        net = mlp(widths=(9, 7), activation="selu")
        (history,) = train([Run(net=net, seed=seed, lr=0.3, steps=4)], keep=[4], dtype=torch.float64)
        p = {name: value[0] for name, value in history.states[4].params.items()}
        h = torch.tensor(load("digits", seed).x_val)
        for i in range(2):
            h = torch.selu(h @ p[f"{i}.affine.weight"].T + p[f"{i}.affine.bias"])
        rows = p["1.affine.weight"]
        expected = {
            "mean": h.mean(),
            "std": h.std(),
            "omega": rows.sum(1).square().mean().sqrt(),
            "tau": rows.square().sum(1).mean(),
        }
        for name, value in expected.items():
            assert values[name][0][seed] == pytest.approx(float(value.detach()), rel=1e-9)


def test_a_run_that_diverges_has_no_accuracy():
    fields = {"widths": [9, 7], "activation": "relu"}
    values = ended(spec=fields, lrs=[1e6], seeds=2, steps=30, batch=60, dtype="float32")
    assert np.max(values["test"]) < 0.3
