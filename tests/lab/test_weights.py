"""The training of chapter 13 against bnlib's own, its data, and what it watches."""

from typing import Any

import numpy as np
import pytest
import torch

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.experiments import net_of, trained, weights
from bnlib.lab.experiments.weights import ended
from bnlib.lab.train import DataInit, Run, train

SMALL: dict[str, Any] = {"widths": [9, 10], "activation": "relu", "gain": 1.41}
HOW: dict[str, Any] = {"lrs": [0.03, 0.3], "seeds": 2, "steps": 12, "dtype": "float64"}


def images(inputs: str) -> torch.Tensor:
    return torch.tensor(np.stack([load("digits", seed, inputs).x_train for seed in (0, 1)]))


def runs_of(fields: dict[str, Any]) -> list[Run]:
    net, scale = net_of(fields)
    return [Run(net=net, seed=seed, lr=lr, steps=12, **scale) for lr in (0.03, 0.3) for seed in (0, 1)]


def first(fields: dict[str, Any]) -> nets.Params:
    """The parameters of both seeds at the start."""
    net, scale = net_of(fields)
    return nets.start(net, [0, 1], [scale["gain"]] * 2, dtype=torch.float64).params


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("arm", ["plain", "normed", "standardized", "normprop", "mean", "normed and mean"])
def test_it_trains_as_bnlib_does(arm: str, init: bool):
    fields = SMALL | dict(weights._FIELDS[arm])
    values = ended(spec=fields, init=init, **HOW)
    histories = train(runs_of(fields), dtype=torch.float64, hooks=[DataInit] if init else [])
    np.testing.assert_allclose(np.ravel(values["val"]), [h.val_accuracy[-1] for h in histories])
    np.testing.assert_allclose(np.ravel(values["test"]), [h.test_accuracy for h in histories])


@pytest.mark.parametrize("arm", ["batch", "group", "standardized and group"])
def test_it_trains_as_bnlib_does_with_norms_that_set_the_scale(arm: str):
    fields = SMALL | {"widths": [10, 10]} | dict(weights._FIELDS[arm])
    expected = [h.test_accuracy for h in train(runs_of(fields), dtype=torch.float64)]
    np.testing.assert_allclose(np.ravel(ended(spec=fields, **HOW)["test"]), expected)


def test_what_diverges_counts_as_no_accuracy():
    values = ended(spec=SMALL | {"activation": "identity"}, **dict(HOW, lrs=[1e30]))
    assert values["val"] == values["test"] == [[0, 0]]


def test_what_is_watched_are_the_sums_of_every_hidden_layer():
    fields = SMALL | dict(weights._FIELDS["normprop"])
    values = ended(spec=fields, watched=True, inputs="centred", **HOW)
    assert np.shape(values["std start"]) == np.shape(values["mean end"]) == (2, 2, 2)  # rates, seeds, layers
    x = images("centred")
    params = first(fields)
    w = params["0.affine.weight"] / params["0.affine.weight"].square().sum(2, keepdim=True).sqrt()
    z = (x @ w.mT).numpy()
    np.testing.assert_allclose(np.array(values["std start"])[1, :, 0], z.std(1).mean(1))
    np.testing.assert_allclose(np.array(values["mean start"])[1, :, 0], 0, atol=1e-12)
    a = (np.maximum(z, 0) - 1 / np.sqrt(2 * np.pi)) / np.sqrt((1 - 1 / np.pi) / 2)
    v = params["1.affine.weight"].numpy()
    z = a @ (v / np.sqrt((v**2).sum(2, keepdims=True))).swapaxes(1, 2)
    np.testing.assert_allclose(np.array(values["std start"])[0, :, 1], z.std(1).mean(1))
    np.testing.assert_allclose(np.array(values["mean start"])[0, :, 1], np.sqrt((z.mean(1) ** 2).mean(1)))
    assert not np.allclose(values["std start"], values["std end"])
    np.testing.assert_array_equal(np.array(values["std start"])[0], np.array(values["std start"])[1])


def test_what_is_watched_stands_in_front_of_a_norm():
    values = ended(spec=SMALL | dict(weights._FIELDS["batch"]), watched=True, **HOW)
    z = images("raw") @ first(SMALL)["0.affine.weight"].mT
    np.testing.assert_allclose(np.array(values["std start"])[0, :, 0], z.std(1, correction=0).mean(1))


# Comparisons


def test_started_trains_each_run_at_its_own_gain_as_drawn_or_from_data():
    how: dict[str, Any] = {"spec": {"widths": [8], "activation": "relu"}, "steps": 20, "dtype": "float64"}
    runs = [{"seed": 0, "lr": 0.1, "gain": 0.1}, {"seed": 1, "lr": 0.3, "gain": 2.0}]
    found = weights.started(runs=runs, **how)
    for i, run in enumerate(runs):
        alone = trained(runs=[run], inputs="centred", **how)
        assert (found["val"][i], found["test"][i]) == (alone["val"][0], alone["test"][0])
    # Started from data, what was drawn counts by its direction alone.
    gains = weights.started(runs=[{**runs[1], "gain": gain} for gain in (0.1, 2.0)], init=True, **how)
    assert gains["val"][0] == gains["val"][1]
    assert found["val"][1] != gains["val"][1]
    of_spec = weights.started(runs=[{"seed": 1, "lr": 0.3}], **{**how, "spec": {**how["spec"], "gain": 2.0}})
    assert of_spec["val"] == [found["val"][1]]


def test_started_watches_the_first_and_the_last_layer():
    spec = {"widths": [8, 6, 7], "activation": "relu", "gain": 1.41}
    how: dict[str, Any] = {"spec": spec, "steps": 3, "dtype": "float64"}
    found = weights.started(runs=[{"seed": 2, "lr": 0.1}, {"seed": 3, "lr": 0.1}], watched=True, **how)
    old = weights.ended(lrs=[0.1], seeds=4, inputs="centred", watched=True, **how)
    stds = np.array(old["std end"])[0]  # (seeds, layers)
    np.testing.assert_allclose(found["first"], stds[2:, 0])
    np.testing.assert_allclose(found["last"], stds[2:, -1])
