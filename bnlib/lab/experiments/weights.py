"""What chapter 14 measures: weights with a direction and a length, how they start, and normalization propagation.

Dense networks of ReLUs, plain gradient descent on mini-batches of 60 unless said, centred inputs, float32. A run whose
loss is not finite counts as an accuracy of 0, and so as one that has failed.

Every weight matrix is treated alike, the output layer's too. "init" is a start from the first mini-batch: each unit's
length (of plain weights: the weights) and bias are set, layer by layer, so that its z has mean 0 and standard deviation
1 over that batch. The gain is that of the draw, gain / sqrt(inputs); 1.41 is He's. Normed weights start with the draw
as their direction and its length as their length, so without "init" they start as the same function that plain ones do.
For normprop each unit's weights start with length 1, which is learned afterwards as batch norm's gamma is. "mean" is
mean-only batch norm, with running means at test; "group" is group norm with 5 groups; both in all hidden layers, in
front of the ReLU.

The criteria were written down before the first runs of the comparisons. Known were the results of eight seeds each: of
the starts and the relatives on raw pixels, of normalization propagation on centred ones.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from bnlib.claims import Criterion, more, same
from bnlib.data import load
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import half_decades, net_of
from bnlib.lab.experiments.design import LEARNED
from bnlib.lab.experiments.speed import OVERLAP, SIZES
from bnlib.lab.layers import State
from bnlib.lab.nets import Net, seen
from bnlib.lab.records import Measurement, Settings, Values
from bnlib.lab.train import DataInit, Run, train

HE = 1.41

_FIELDS: dict[str, Settings] = {
    "plain": {},
    "normed": {"weights": "normed"},
    "batch": {"norm": "batch"},
    "normed and mean": {"weights": "normed", "norm": "mean", "gamma": False},
    "group": {"norm": "group", "groups": 5},
    "standardized and group": {"weights": "standardized", "norm": "group", "groups": 5},
    "normprop": {"weights": "normed", "length": 1.0, "activation": "normprop", "gain": 1.0},
}


def _watch(net: Net, state: State, x: np.ndarray) -> list[float]:
    """The standard deviation of z over x in each hidden layer of one network, as a mean over its units."""
    dtype = next(iter(state.params.values())).dtype
    found = seen(net, state, torch.as_tensor(x, dtype=dtype)[None])
    return [found[path].std(2, correction=0).mean().item() for path in net.affine[:-1]]  # z is (1, units, N)


def _starts(
    depths: list[int],
    arms: dict[str, list[float]],
    width: int,
    places: dict[str, list[str]],
    lrs: list[float],
    **how: Any,
) -> Iterator[Arm]:
    """Plain and normed weights, as drawn with several gains and started from data, and their relatives.

    ``places`` are the arms on each data set; elsewhere than on digits each has its first gain alone.
    """
    for (data, names), depth in product(places.items(), depths):
        for arm in names:
            name, _, init = arm.partition(", ")
            spec = {"inputs": SIZES[data], "widths": [width] * depth, "activation": "relu", **_FIELDS[name]}
            arguments = {"spec": spec, "init": bool(init), "data": data, "inputs": "centred", **how}
            for gain in arms[arm] if data == "digits" else arms[arm][:1]:
                labels = {"data": data, "depth": depth, "arm": arm, "gain": gain}
                yield Arm(labels, arguments, {"gain": [gain], "lr": lrs})


def started(
    *,
    spec: Settings,
    runs: Sequence[Settings],
    steps: int,
    dtype: str,
    init: bool = False,
    watched: bool = False,
    data: str = "digits",
    inputs: str = "centred",
    batch: int = 60,
) -> Values:
    """Train, as drawn or started from data.

    Parameters
    ----------
    spec : as :func:`bnlib.lab.experiments.net_of` takes it
    runs : of each the seed, the rate and the gain
    steps, batch, dtype : as in :class:`bnlib.lab.train.Run`
    init : whether the weights are started from the first mini-batch
    watched : whether to return the statistics of z as well
    data, inputs : a data set of :func:`bnlib.data.load`, and how its inputs are prepared there

    Returns
    -------
    values : "val" and "test", the accuracy at the end, for each run; where z is watched, also "first" and "last", the
        standard deviation of z in the first and the last hidden layer after the training, as a mean over its units
    """
    net, scale = net_of(spec)
    replicas = [Run(net=net, batch=batch, steps=steps, data=data, inputs=inputs, **{**run, **scale}) for run in runs]
    keep = [steps] if watched else []
    hooks = [DataInit] if init else []
    histories = train(replicas, every=steps, keep=keep, dtype=getattr(torch, dtype), whole=True, hooks=hooks)
    values: Values = {"val": [h.val_accuracy[-1] for h in histories], "test": [h.test_accuracy for h in histories]}
    if watched:
        stds = [_watch(net, h.states[steps], load(data, h.run.seed, inputs).x_train) for h in histories]
        values |= {"first": [std[0] for std in stds], "last": [std[-1] for std in stds]}
    return values


def _started(depth: int, one: str, other: str, gain: float = HE, data: str = "digits") -> Pair:
    labels = {"data": data, "depth": depth, "gain": gain}
    return labels | {"arm": one}, labels | {"arm": other}


def _prop(
    arms: dict[str, int],
    images: dict[str, int],
    lrs: dict[str, list[float]],
    places: list[str],
    depth: int,
    width: int,
    **how: Any,
) -> Iterator[Arm]:
    """Normalization propagation with batches of 60 and of one, against batch norm and plain ReLUs at He's gain."""
    for data, (arm, batch) in product(places, arms.items()):
        spec = {
            "inputs": SIZES[data], "widths": [width] * depth, "activation": "relu", "gain": HE,
            **_FIELDS[arm.partition(", ")[0]],
        }  # fmt: skip
        arguments = {"spec": spec, "batch": batch, "steps": images[str(batch)] // batch, "data": data, **how}
        yield Arm({"data": data, "arm": arm}, arguments | {"watched": True}, {"lr": lrs[str(batch)]})


def _propagated(other: str, data: str = "digits") -> Pair:
    return {"data": data, "arm": "normprop"}, {"data": data, "arm": other}


_ABOUT: dict[str, Any] = {"chapter": "14_weight_norm_normprop", "learned": LEARNED, "overlap": OVERLAP}
_DENSE = "(digits, centred inputs, 300 steps of SGD, each at its best rate)"
GAINS = [0.5, HE, 4.0]
_STARTS = {
    "plain": [HE, 0.5, 4.0],
    "plain, init": [HE],
    "normed": [HE, 0.5, 4.0],
    "normed, init": [HE, 0.5, 4.0],
    "normed and mean": [HE],
    "group": [HE],
    "standardized and group": [HE],
}

EXPERIMENTS: list[Measurement] = [
    starts := Comparison(
        "starts", _starts, started,
        {"seeds": 64, "depths": [4, 16], "width": 50, "steps": 300, "lrs": half_decades(0.001, 10), "dtype": "float32",
         "places": {"digits": list(_STARTS), "mnist 14x14": ["normed", "normed, init", "plain, init"]},
         "arms": _STARTS},
        {"seeds": 2, "depths": [4], "steps": 5, "lrs": [0.01], "places": {"digits": ["normed, init", "plain"]},
         "dtype": "float64"},
        [
            Question(
                id="weight-norm-or-init", **_ABOUT, criterion=more("accuracy"), unit="test accuracy, normed - plain",
                statement="Dense ReLU networks of 4 and 16 layers of 50 units, all started from data, are more "
                f"accurate with weight norm than with plain weights {_DENSE}.",
                source="Salimans and Kingma (2016), read as a claim about weight norm alone",
                parts={f"{d} layers": _started(d, "normed, init", "plain, init") for d in (4, 16)},
                transfers={"MNIST 14 x 14": {
                    f"{d} layers": _started(d, "normed, init", "plain, init", data="mnist 14x14") for d in (4, 16)
                }},
            ),
            Question(
                id="weight-norm-init", **_ABOUT, criterion=more("accuracy"), unit="test accuracy, with - without",
                statement="Dense ReLU networks of 4 and 16 layers of 50 units with weight norm are more accurate when "
                f"started from data than as drawn with He's gain {_DENSE}.",
                source="Salimans and Kingma (2016), section 3",
                parts={f"{d} layers": _started(d, "normed, init", "normed") for d in (4, 16)},
                others={f"{d} layers, gain {g:g}": _started(d, "normed, init", "normed", g)
                        for d in (4, 16) for g in (0.5, 4.0)}
                | {f"plain weights, {d} layers": _started(d, "plain, init", "plain") for d in (4, 16)},
                transfers={"MNIST 14 x 14": {
                    f"{d} layers": _started(d, "normed, init", "normed", data="mnist 14x14") for d in (4, 16)
                }},
            ),
            Question(
                id="mean-only", **_ABOUT, criterion=more("accuracy"), unit="test accuracy, with - without",
                statement="Mean-only batch norm makes dense ReLU networks of 4 and 16 layers of 50 units with weight "
                f"norm more accurate {_DENSE}.",
                source="Salimans and Kingma (2016), section 4",
                parts={f"{d} layers": _started(d, "normed and mean", "normed") for d in (4, 16)},
            ),
            Question(
                id="weight-standardization", **_ABOUT, criterion=more("accuracy"),
                unit="test accuracy, with - without",
                statement="Weight standardization makes dense ReLU networks of 4 and 16 layers of 50 units with group "
                f"norm more accurate {_DENSE}.",
                source="Qiao and others (2019)",
                parts={f"{d} layers": _started(d, "standardized and group", "group") for d in (4, 16)},
            ),
        ],
    ),
    propagated := Comparison(
        "propagated", _prop, started,
        {"seeds": 64, "depth": 8, "width": 100, "images": {"60": 18000, "1": 3234}, "dtype": "float32",
         "places": ["digits", "mnist 14x14"],
         "arms": {"normprop": 60, "plain": 60, "batch": 60, "normprop, one": 1},
         "lrs": {"60": half_decades(0.001, 3.16), "1": half_decades(0.000316, 0.01)}},
        {"seeds": 2, "depth": 3, "images": {"60": 300, "1": 5}, "lrs": {"60": [0.01], "1": [0.001]},
         "places": ["digits"], "dtype": "float64"},
        [
            Question(
                id="normprop-accuracy", **_ABOUT, criterion=same("accuracy"), unit="test accuracy, normprop - other",
                statement="Eight layers of 100 units are as accurate with normalization propagation as with batch "
                f"norm, and as plain ReLUs {_DENSE}.",
                source="Arpit and others (2016)",
                parts={"less batch norm": _propagated("batch"), "less plain ReLU": _propagated("plain")},
                transfers={"MNIST 14 x 14": {"less batch norm": _propagated("batch", "mnist 14x14"),
                                             "less plain ReLU": _propagated("plain", "mnist 14x14")}},
            ),
            Question(
                id="normprop-one", chapter="14_weight_norm_normprop", overlap=OVERLAP, criterion=Criterion(">", 0.9),
                how="mean", unit="test accuracy",
                statement="Normalization propagation trains eight layers of 100 units with batches of one (digits, "
                "centred inputs, 3,234 steps of SGD, at its best rate).",
                source="Arpit and others (2016)",
                parts={"": ({"data": "digits", "arm": "normprop, one"},)},
            ),
            Question(
                id="normprop", chapter="14_weight_norm_normprop", criterion=Criterion("within", 1, 0.2), how="mean",
                of="last", unit="standard deviation of z, mean over units",
                statement="Normalization propagation keeps the pre-activations of the last of eight layers of 100 "
                "units at standard deviation 1 in training (digits, centred inputs, SGD, at its best rate).",
                source="Arpit and others (2016)",
                parts={"": ({"data": "digits", "arm": "normprop"},)},
                transfers={"MNIST 14 x 14": {"": ({"data": "mnist 14x14", "arm": "normprop"},)}},
            ),
        ],
    ),
]  # fmt: skip
