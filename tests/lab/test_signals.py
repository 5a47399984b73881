"""What chapter 2's measurements say about a network is what SciPy, PyTorch and a count say about a plain one."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.nn.functional import batch_norm, linear

from bnlib.data import load
from bnlib.lab.experiments.signals import _seen, distances, drifted, ended
from bnlib.lab.nets import Params, Spec
from bnlib.lab.train import History, Run, State, train

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
NETS = {
    "none": Spec(widths=(7, 5), activation="tanh"),
    "before": Spec(widths=(7, 5), activation="tanh", norm="batch"),
    "after": Spec(widths=(7, 5), activation="sigmoid", norm="batch", placement="after"),
    "in part": Spec(widths=(7, 6, 5), activation="relu", norm="batch", where=(1, 3)),
}
HOW = {"data": "digits", "dtype": "float64"}


def plain(spec: Spec, params: Params, x: Tensor) -> dict[tuple[str, int], np.ndarray]:
    """The hidden layers of a plain network with the batch's own statistics: (units, N) by place and layer."""
    own, h, found = {name: value[0].double() for name, value in params.items()}, x, {}
    for i in range(len(spec.widths)):
        found["z", i] = found["pre", i] = linear(h, own[f"weight{i}"], own.get(f"bias{i}"))
        normed = i in spec.normed
        if normed and spec.placement == "before":
            found["xhat", i], found["pre", i] = plain_norm(found["z", i], own[f"gamma{i}"], own[f"beta{i}"], spec.eps)
        h = ACTIVATIONS[spec.activation](found["pre", i])
        if normed and spec.placement == "after":
            found["xhat", i], h = plain_norm(h, own[f"gamma{i}"], own[f"beta{i}"], spec.eps)
        found["a", i] = h
    return {key: value.T.numpy() for key, value in found.items()}


def plain_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The same without and with gamma and beta."""
    xhat = batch_norm(x, None, None, training=True, eps=eps)
    return xhat, batch_norm(x, None, None, gamma, beta, training=True, eps=eps)


def images(run: Run) -> Tensor:
    return torch.tensor(load(run.data, run.seed).x_train)


def histories(spec: Spec, seeds: int, lr: float, steps: int, each: int) -> list[History]:
    """The runs as the book trains them, in float64."""
    runs = [Run(spec=spec, seed=seed, lr=lr, steps=steps) for seed in range(seeds)]
    return train(runs, every=each, keep=range(0, steps + 1, each), dtype=torch.float64)


# Distances


def test_distances_are_scipys_unit_by_unit():
    rng = np.random.default_rng(0)
    scale, shift = rng.uniform(0.1, 5, (2, 6, 1))
    a = scale * rng.normal(size=(6, 40)) + shift
    b = rng.exponential(size=(6, 40)) - shift
    raw, scaled = distances(np.sort(a), np.sort(b))
    of_units = np.array([wasserstein_distance(*unit) for unit in zip(a, b, strict=True)])
    assert raw == pytest.approx(of_units.mean())
    assert scaled == pytest.approx((of_units / a.std(axis=1)).mean())  # in stds of a, the earlier sample


# What is seen


@pytest.mark.parametrize("spec", NETS.values(), ids=NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_seen_is_every_place_of_every_hidden_layer_for_all_training_images(spec: Spec, dtype: torch.dtype):
    (history,) = train([Run(spec=spec, seed=3, steps=2)], keep=[2], dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    trained = history.states[2]  # with batch norm it has running statistics, which are not to be used
    params = {n: p + 0.5 * torch.randn(p.shape, generator=generator, dtype=dtype) for n, p in trained.params.items()}
    seen = _seen(history, State(params, trained.stats))
    expected = plain(spec, params, images(history.run))
    assert seen.keys() == expected.keys()
    for key, value in expected.items():
        assert seen[key].dtype == np.float64
        np.testing.assert_allclose(seen[key], value, rtol=1e-9, atol=1e-10, err_msg=str(key))


# Drift


@pytest.mark.parametrize(("norm", "places"), [("none", ["z"]), ("batch", ["z", "xhat", "pre"])])
def test_what_does_not_learn_does_not_drift(norm: str, places: list[str]):
    values = drifted(spec={"widths": [7, 5], "norm": norm}, seeds=2, lr=0.0, steps=6, each=2, **HOW)
    drifts = {f"{kind} {place}" for place in places for kind in ("raw", "scaled")}
    assert values.keys() == {"val", "test"} | drifts
    assert all(values[name] == [0.0, 0.0] for name in drifts)
    assert all(len(values[name]) == 2 for name in ("val", "test"))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_drift_is_scipys_distance_between_snapshots_of_the_last_hidden_layer(norm: str):
    spec = Spec(widths=(7, 5), norm=norm)
    values = drifted(spec={"widths": [7, 5], "norm": norm}, seeds=2, lr=2.0, steps=6, each=2, **HOW)
    runs = histories(spec, seeds=2, lr=2.0, steps=6, each=2)
    assert values["val"] == [h.val_accuracy[-1] for h in runs]
    assert values["test"] == [h.test_accuracy for h in runs]
    for i, history in enumerate(runs):
        nets = [plain(spec, history.states[step].params, images(history.run)) for step in (0, 2, 4, 6)]
        for place in ("z",) if norm == "none" else ("z", "xhat", "pre"):
            raw, scaled = [], []
            for net, later in pairwise(nets):
                for a, b in zip(net[place, 1], later[place, 1], strict=True):
                    raw.append(wasserstein_distance(a, b))
                    scaled.append(raw[-1] / a.std())
            assert len(raw) == 3 * 5
            assert values[f"raw {place}"][i] == pytest.approx(np.mean(raw))
            assert values[f"scaled {place}"][i] == pytest.approx(np.mean(scaled))


# The end of a training


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_saturated_is_the_share_of_inputs_beyond_4_at_the_end(norm: str):
    spec = Spec(widths=(9, 3), gain=4.0, norm=norm)
    values = ended(spec={"widths": [9, 3], "gain": 4.0, "norm": norm}, seeds=3, lr=4.0, steps=30, **HOW)
    runs = histories(spec, seeds=3, lr=4.0, steps=30, each=30)
    assert values.keys() == {"val", "test", "saturated"}
    assert values["val"] == [h.val_accuracy[-1] for h in runs]
    assert values["test"] == [h.test_accuracy for h in runs]
    for share, history in zip(values["saturated"], runs, strict=True):
        net, shares = plain(spec, history.states[30].params, images(history.run)), []
        for layer, width in enumerate(spec.widths):
            beyond = sum(1 for z in net["pre", layer].flat if z > 4 or z < -4)
            shares.append(beyond / (width * 1078))
        assert share == pytest.approx((shares[0] + shares[1]) / 2)  # a layer counts as much as another, however wide
        assert share > 0.05
