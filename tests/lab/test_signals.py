"""What chapter 2's measurements say about a network is what SciPy, PyTorch and a count say about a plain one."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.nn.functional import batch_norm, linear

from bnlib.data import load
from bnlib.lab.experiments.signals import _seen, distances, drifted, drifting, ended
from bnlib.lab.layers import Params, State
from bnlib.lab.nets import Net, mlp
from bnlib.lab.train import History, Run, train

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}


@dataclass(frozen=True, kw_only=True)
class What:
    """What a network is to be, for bnlib and for plain PyTorch."""

    widths: tuple[int, ...] = (7, 5)
    activation: str = "sigmoid"
    norm: str = "none"
    placement: str = "before"
    where: tuple[int, ...] | None = None

    @property
    def net(self) -> Net:
        """As bnlib makes it."""
        return mlp(**vars(self))


NETS = {
    "none": What(activation="tanh"),
    "before": What(activation="tanh", norm="batch"),
    "after": What(norm="batch", placement="after"),
    "in part": What(widths=(7, 6, 5), activation="relu", norm="batch", where=(1, 3)),
}
HOW = {"data": "digits", "dtype": "float64"}


def plain(what: What, params: Params, x: Tensor) -> dict[str, list[np.ndarray]]:
    """The hidden layers of a plain network with the batch's own statistics: by place, for each layer (units, N)."""
    own, h, found = {name: value[0].double() for name, value in params.items()}, x, {"z": [], "xhat": [], "pre": []}
    for i in range(len(what.widths)):
        z = pre = linear(h, own[f"{i}.affine.weight"], own.get(f"{i}.affine.bias"))
        norm = [own[f"{i}.norm.{name}"] for name in ("gamma", "beta")] if f"{i}.norm.gamma" in own else None
        if norm and what.placement == "before":
            xhat, pre = plain_norm(z, *norm)
            found["xhat"].append(xhat)
        h = ACTIVATIONS[what.activation](pre)
        if norm and what.placement == "after":
            xhat, h = plain_norm(h, *norm)
            found["xhat"].append(xhat)
        found["z"].append(z)
        found["pre"].append(pre)
    return {place: [value.T.numpy() for value in values] for place, values in found.items()}


def plain_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """The same without and with gamma and beta."""
    xhat = batch_norm(x, None, None, training=True, eps=1e-5)
    return xhat, batch_norm(x, None, None, gamma, beta, training=True, eps=1e-5)


def images(run: Run) -> Tensor:
    return torch.tensor(load(run.data, run.seed).x_train)


def histories(net: Net, seeds: int, lr: float, steps: int, each: int, gain: float = 1.0) -> list[History]:
    """The runs as the book trains them, in float64."""
    runs = [Run(net=net, seed=seed, lr=lr, steps=steps, gain=gain) for seed in range(seeds)]
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


@pytest.mark.parametrize("what", NETS.values(), ids=NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_seen_is_every_place_of_every_hidden_layer_for_all_training_images(what: What, dtype: torch.dtype):
    (history,) = train([Run(net=what.net, seed=3, steps=2)], keep=[2], dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    trained = history.states[2]  # with batch norm it has running statistics, which are not to be used
    params = {n: p + 0.5 * torch.randn(p.shape, generator=generator, dtype=dtype) for n, p in trained.params.items()}
    seen = _seen(history, State(params, trained.stats))
    expected = plain(what, params, images(history.run))
    assert seen.keys() == expected.keys()
    for place, layers in expected.items():
        for i, (own, value) in enumerate(zip(seen[place], layers, strict=True)):
            assert own.dtype == np.float64
            np.testing.assert_allclose(own, value, rtol=1e-9, atol=1e-10, err_msg=f"{place} of {i}")


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
    what = What(norm=norm)
    values = drifted(spec={"widths": [7, 5], "norm": norm}, seeds=2, lr=2.0, steps=6, each=2, **HOW)
    runs = histories(what.net, seeds=2, lr=2.0, steps=6, each=2)
    assert values["val"] == [h.val_accuracy[-1] for h in runs]
    assert values["test"] == [h.test_accuracy for h in runs]
    for i, history in enumerate(runs):
        nets = [plain(what, history.states[step].params, images(history.run)) for step in (0, 2, 4, 6)]
        for place in ("z",) if norm == "none" else ("z", "xhat", "pre"):
            raw, scaled = [], []
            for net, later in pairwise(nets):
                for a, b in zip(net[place][1], later[place][1], strict=True):
                    raw.append(wasserstein_distance(a, b))
                    scaled.append(raw[-1] / a.std())
            assert len(raw) == 3 * 5
            assert values[f"raw {place}"][i] == pytest.approx(np.mean(raw))
            assert values[f"scaled {place}"][i] == pytest.approx(np.mean(scaled))


# The end of a training


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_saturated_is_the_share_of_inputs_beyond_4_at_the_end(norm: str):
    what = What(widths=(9, 3), norm=norm)
    values = ended(spec={"widths": [9, 3], "gain": 4.0, "norm": norm}, seeds=3, lr=4.0, steps=30, **HOW)
    runs = histories(what.net, seeds=3, lr=4.0, steps=30, each=30, gain=4.0)
    assert values.keys() == {"val", "test", "saturated"}
    assert values["val"] == [h.val_accuracy[-1] for h in runs]
    assert values["test"] == [h.test_accuracy for h in runs]
    for share, history in zip(values["saturated"], runs, strict=True):
        net, shares = plain(what, history.states[30].params, images(history.run)), []
        for layer, width in enumerate(what.widths):
            beyond = sum(1 for z in net["pre"][layer].flat if z > 4 or z < -4)
            shares.append(beyond / (width * 1078))
        assert share == pytest.approx((shares[0] + shares[1]) / 2)  # a layer counts as much as another, however wide
        assert share > 0.05


# Comparisons


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_drifting_is_drifted_for_each_run_of_what_the_activation_is_given(norm: str):
    spec = {"widths": [7, 5], "activation": "tanh", "norm": norm}
    how = {"steps": 6, "each": 3, "data": "digits", "dtype": "float64"}
    found = drifting(
        spec=spec, runs=[{"seed": 1, "lr": 0.3, "gain": 1.5}, {"seed": 0, "lr": 0.3, "gain": 0.7}], inputs="raw", **how
    )
    pre, normed = ("pre", "xhat") if norm == "batch" else ("z", "z")
    for i, (seed, gain) in enumerate(((1, 1.5), (0, 0.7))):
        old = drifted(spec={**spec, "gain": gain}, seeds=2, lr=0.3, **how)
        for kind in ("raw", "scaled"):
            assert found[f"{kind} pre"][i] == pytest.approx(old[f"{kind} {pre}"][seed], rel=1e-9)
            assert found[f"{kind} norm"][i] == pytest.approx(old[f"{kind} {normed}"][seed], rel=1e-9)
        assert (found["val"][i], found["test"][i]) == (old["val"][seed], old["test"][seed])
