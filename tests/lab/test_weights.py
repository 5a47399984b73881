"""The training of chapter 13 against bnlib's own, its data, and what it watches."""

from typing import Any

import numpy as np
import pytest
import torch

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.experiments import net_of, weights
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
