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
from bnlib.lab.experiments.signals import _seen, distances, drifting, ended
from bnlib.lab.layers import Params, State
from bnlib.lab.nets import Net, mlp
from bnlib.lab.train import Run, train

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
    own, h, found = {name: value[0].double() for name, value in params.items()}, x, {"xhat": [], "pre": []}
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
        found["pre"].append(pre)
    return {place: [value.T.numpy() for value in values] for place, values in found.items()}


def plain_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """The same without and with gamma and beta."""
    xhat = batch_norm(x, None, None, training=True, eps=1e-5)
    return xhat, batch_norm(x, None, None, gamma, beta, training=True, eps=1e-5)


def images(run: Run) -> Tensor:
    return torch.tensor(load(run.data, run.seed, run.inputs).x_train)


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


DRIFTS = {f"{kind} {name}" for kind in ("raw", "scaled") for name in ("pre", "norm")}


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_what_does_not_learn_does_not_drift(norm: str):
    runs = [{"seed": seed, "lr": 0.0} for seed in range(2)]
    values = drifting(spec={"widths": [7, 5], "norm": norm}, runs=runs, steps=6, each=2, inputs="centred", **HOW)
    assert values.keys() == {"val", "test"} | DRIFTS
    assert all(values[name] == [0.0, 0.0] for name in DRIFTS)
    assert all(len(values[name]) == 2 for name in ("val", "test"))


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("inputs", ["raw", "centred"])
def test_drift_is_scipys_distance_between_snapshots_of_what_the_last_activation_is_given(norm: str, inputs: str):
    what = What(activation="tanh", norm=norm)
    runs = [{"seed": 1, "lr": 0.5, "gain": 1.5}, {"seed": 0, "lr": 2.0, "gain": 0.7}]
    spec = {"widths": [7, 5], "activation": "tanh", "norm": norm}
    values = drifting(spec=spec, runs=runs, steps=6, each=2, inputs=inputs, **HOW)
    own = [Run(net=what.net, steps=6, inputs=inputs, **run) for run in runs]
    histories = train(own, every=6, keep=range(0, 7, 2), dtype=torch.float64)
    assert values["val"] == [h.val_accuracy[-1] for h in histories]
    assert values["test"] == [h.test_accuracy for h in histories]
    for i, history in enumerate(histories):
        nets = [plain(what, history.states[step].params, images(history.run)) for step in (0, 2, 4, 6)]
        for name, place in {"pre": "pre", "norm": "xhat" if norm == "batch" else "pre"}.items():
            raw, scaled = [], []
            for net, later in pairwise(nets):
                for a, b in zip(net[place][1], later[place][1], strict=True):
                    raw.append(wasserstein_distance(a, b))
                    scaled.append(raw[-1] / a.std())
            assert len(raw) == 3 * 5
            assert values[f"raw {name}"][i] == pytest.approx(np.mean(raw))
            assert values[f"scaled {name}"][i] == pytest.approx(np.mean(scaled))


# The end of a training


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_saturated_is_the_share_of_inputs_beyond_4_at_the_end(norm: str):
    what = What(widths=(9, 3), norm=norm)
    values = ended(spec={"widths": [9, 3], "gain": 4.0, "norm": norm}, seeds=3, lr=4.0, steps=30, **HOW)
    own = [Run(net=what.net, seed=seed, lr=4.0, steps=30, gain=4.0) for seed in range(3)]
    runs = train(own, every=30, keep=[30], dtype=torch.float64)
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
