"""The training of chapter 14 against bnlib's own, and what it watches."""

from typing import Any

import numpy as np
import pytest
import torch

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.experiments import net_of, trained, weights
from bnlib.lab.experiments.weights import started
from bnlib.lab.train import DataInit, Run, train

SMALL: dict[str, Any] = {"widths": [10, 10], "activation": "relu", "gain": 1.41}
RUNS = [{"seed": seed, "lr": lr} for lr in (0.03, 0.3) for seed in (0, 1)]
HOW: dict[str, Any] = {"runs": RUNS, "steps": 12, "dtype": "float64"}
STILL: dict[str, Any] = HOW | {"runs": [{**run, "lr": 0.0} for run in RUNS]}


def images() -> torch.Tensor:
    """Of the seeds of the runs."""
    return torch.tensor(np.stack([load("digits", run["seed"], "centred").x_train for run in RUNS]))


def first(fields: dict[str, Any]) -> nets.Params:
    """The parameters at the start."""
    net, scale = net_of(fields)
    return nets.start(net, [run["seed"] for run in RUNS], [scale["gain"]] * len(RUNS), dtype=torch.float64).params


@pytest.mark.parametrize(
    ("arm", "init"),
    [
        *((arm, init) for arm in ("plain", "normed", "normprop", "normed and mean") for init in (False, True)),
        *((arm, False) for arm in ("batch", "group", "standardized and group")),  # norms that set the scale
    ],
)
def test_it_trains_as_bnlib_does(arm: str, init: bool):
    fields = SMALL | dict(weights._FIELDS[arm])
    values = started(spec=fields, init=init, **HOW)
    net, scale = net_of(fields)
    runs = [Run(net=net, steps=12, inputs="centred", **run, **scale) for run in RUNS]
    histories = train(runs, dtype=torch.float64, hooks=[DataInit] if init else [])
    np.testing.assert_allclose(values["val"], [h.val_accuracy[-1] for h in histories])
    np.testing.assert_allclose(values["test"], [h.test_accuracy for h in histories])
    assert np.ptp(values["test"]) > 0.01  # the runs differ, so there was something to compare


def test_what_diverges_counts_as_no_accuracy():
    values = started(spec=SMALL | {"activation": "identity"}, **dict(HOW, runs=[{"seed": 0, "lr": 1e30}]))
    assert values["val"] == values["test"] == [0]


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


def test_what_is_watched_are_the_sums_of_the_first_and_the_last_hidden_layer():
    fields = SMALL | {"widths": [9, 5, 10]} | dict(weights._FIELDS["normprop"])
    values = started(spec=fields, watched=True, **STILL)
    a, params = images(), first(fields)
    for i in range(3):
        v = params[f"{i}.affine.weight"]
        z = (a @ (v / v.square().sum(2, keepdim=True).sqrt()).mT).numpy()
        if i != 1:
            np.testing.assert_allclose(values["first" if i == 0 else "last"], z.std(1).mean(1))
        a = torch.tensor((np.maximum(z, 0) - 1 / np.sqrt(2 * np.pi)) / np.sqrt((1 - 1 / np.pi) / 2))
    trained = started(spec=fields, watched=True, **HOW)
    assert not np.isclose(trained["first"], values["first"]).any()


def test_what_is_watched_stands_in_front_of_a_norm():
    values = started(spec=SMALL | dict(weights._FIELDS["batch"]), watched=True, **STILL)
    z = images() @ first(SMALL)["0.affine.weight"].mT
    np.testing.assert_allclose(values["first"], z.std(1, correction=0).mean(1))
