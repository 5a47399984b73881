"""What chapter 13 measures: weights with a direction and a length, their initialization, and normalization propagation.

Digits, dense networks of ReLUs, plain gradient descent on mini-batches of 60 unless said, float32, 8 seeds. Arms share
their initial draws and their batches; the rates lie on one grid for all arms of a record and are picked for each arm by
the mean validation accuracy at the end. A run whose loss is not finite counts as an accuracy of 0.

Every weight matrix is treated alike, the output layer's too. "init" is data-dependent initialization from the first
mini-batch: each unit's length (of plain weights: the weights) and bias are set, layer by layer, so that its z has mean
0 and standard deviation 1 over that batch. The gain is that of the draw, gain / sqrt(inputs); 1.41 is He's. Normed
weights start with the draw as their direction and its length as their length, so without "init" they start as the same
function that plain ones do.

The comparisons at the end ask the same over more seeds, with centred inputs, failures counted apart and rates picked on
seeds of their own: their criteria were written down before their first runs, when the earlier results were known.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from bnlib.claims import Criterion, more, same
from bnlib.data import load
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import Cases, by_rate, half_decades, net_of
from bnlib.lab.experiments.design import LEARNED
from bnlib.lab.experiments.speed import OVERLAP, SIZES
from bnlib.lab.layers import State
from bnlib.lab.nets import Net, seen
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import DataInit, Run, train

HE = 1.41


def _init(seeds: int, depths: list[int], arms: dict[str, list[float]], width: int, **how: Any) -> Cases:
    """Weight norm needs a good init: depths 4 and 16, gains 0.5, 1.41 (He's) and 4, with and without "init".

    Criterion for "weight norm needs a data-dependent initialization", for each depth and each gain, with and without
    at the best rate of each: weight norm's test accuracy with init less that without > 0.01.

    Criterion for "it is weight norm, not its initialization, that helps", for each depth, both at gain 1.41: the test
    accuracy of weight norm with init less that of plain weights with init > 0.01. Plain weights with init are the same
    for all gains, so they run with one; batch norm, with plain weights and no init, runs beside them without a
    criterion.
    """
    for depth, (arm, gains) in product(depths, arms.items()):
        for gain in gains:
            name, _, init = arm.partition(", ")
            yield {"depth": depth, "arm": arm, "gain": gain}, {
                "spec": {"widths": [width] * depth, "activation": "relu", "gain": gain, **_FIELDS[name]},
                "init": bool(init), "seeds": seeds, **how,
            }  # fmt: skip


def _relatives(seeds: int, depths: list[int], arms: list[str], width: int, **how: Any) -> Cases:
    """Relatives of weight norm, at He's gain and without "init", depths 4 and 16.

    "mean" is mean-only batch norm, with running means at test; "group" is group norm with 5 groups; both in all hidden
    layers, in front of the ReLU.

    Criterion for "mean-only batch norm improves weight norm", for each depth at the best rate of each: the test
    accuracy with both less that with weight norm alone > 0.01.

    Criterion for "weight standardization improves group norm", likewise: the test accuracy with both less that of
    group norm with plain weights > 0.01.
    """
    for depth, arm in product(depths, arms):
        yield {"depth": depth, "arm": arm}, {
            "spec": {"widths": [width] * depth, "activation": "relu", "gain": HE, **_FIELDS[arm]},
            "seeds": seeds, **how,
        }  # fmt: skip


_FIELDS: dict[str, Settings] = {
    "plain": {},
    "normed": {"weights": "normed"},
    "batch": {"norm": "batch"},
    "mean": {"norm": "mean"},
    "normed and mean": {"weights": "normed", "norm": "mean", "gamma": False},
    "standardized": {"weights": "standardized"},
    "group": {"norm": "group", "groups": 5},
    "standardized and group": {"weights": "standardized", "norm": "group", "groups": 5},
    "normprop": {"weights": "normed", "length": 1.0, "activation": "normprop", "gain": 1.0},
}


def _normprop(
    seeds: int,
    depth: int,
    width: int,
    images: dict[str, int],
    lrs: dict[str, list[float]],
    arms: dict[str, int],
    **how: Any,
) -> Cases:
    """Normalization propagation: 8 hidden layers of 100 units, against plain ReLUs at He's gain and batch norm.

    The inputs are centred digits. For normprop each unit's weights start with length 1, which is learned afterwards as
    batch norm's gamma is, and the biases at 0. Mini-batches of 60, and for normprop also of one, with fewer images,
    since each costs a step.

    Criterion for "normalization propagation keeps the pre-activations at standard deviation 1": in hidden layers 1 and
    8, at the start and after training with batches of 60 at the best rate, the standard deviation of z over the
    training images, as a mean over the layer's units, lies within 1 ± 0.2.

    Criterion for "it is as accurate as batch norm", at the best rate of each: its test accuracy less batch norm's, and
    less that of plain ReLUs, lies within 0 ± 0.01.

    Criterion for "it trains with batches of one", at its best rate: the test accuracy > 0.9.
    """
    for arm, batch in arms.items():
        name = arm.partition(", ")[0]
        yield {"arm": arm}, {
            "spec": {"widths": [width] * depth, "activation": "relu", "gain": HE, **_FIELDS[name]},
            "batch": batch, "steps": images[str(batch)] // batch, "lrs": lrs[str(batch)], "inputs": "centred",
            "watched": True, "seeds": seeds, **how,
        }  # fmt: skip


def ended(
    *,
    spec: Settings,
    lrs: list[float],
    seeds: int,
    steps: int,
    dtype: str,
    batch: int = 60,
    init: bool = False,
    inputs: str = "raw",
    watched: bool = False,
) -> Values:
    """Train one network for each rate and seed.

    Parameters
    ----------
    spec : as :func:`bnlib.lab.experiments.net_of` takes it
    lrs : learning rates
    seeds, steps, batch, dtype : as in :class:`bnlib.lab.train.Run`
    init : whether the weights are initialized from the first mini-batch
    inputs : of the digits, as in :func:`bnlib.data.load`
    watched : whether to return the statistics of z as well

    Returns
    -------
    values : "val" and "test", the accuracy at the end, for each rate a list with a number for each seed; where z is
        watched, also "std start", "std end", "mean start" and "mean end", for each rate and seed a list over the
        hidden layers: over the training images the standard deviation of z, as a mean over units, and its mean, as a
        root mean square over units
    """
    net, scale = net_of(spec)
    runs = [
        Run(net=net, seed=seed, lr=lr, batch=batch, steps=steps, inputs=inputs, **scale)
        for lr, seed in product(lrs, range(seeds))
    ]
    keep = {"start": 0, "end": steps} if watched else {}
    hooks = [DataInit] if init else []
    histories = train(runs, every=steps, keep=keep.values(), dtype=getattr(torch, dtype), whole=True, hooks=hooks)
    values = {"val": [h.val_accuracy[-1] for h in histories], "test": [h.test_accuracy for h in histories]}
    for when, step in keep.items():
        found = [_watch(net, h.states[step], load("digits", h.run.seed, inputs).x_train) for h in histories]
        values |= {f"std {when}": [std for std, _ in found], f"mean {when}": [mean for _, mean in found]}
    return {name: by_rate(numbers, lrs) for name, numbers in values.items()}


def _watch(net: Net, state: State, x: np.ndarray) -> tuple[list[float], list[float]]:
    """Standard deviation and mean of z over x in each hidden layer of one network."""
    dtype = next(iter(state.params.values())).dtype
    found = seen(net, state, torch.as_tensor(x, dtype=dtype)[None])
    hidden = [found[path] for path in net.affine[:-1]]  # each (1, units, N)
    stds = [z.std(2, correction=0).mean().item() for z in hidden]
    return stds, [z.mean(2).square().mean().sqrt().item() for z in hidden]


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
    runs : of each the seed, the rate and the gain
    spec, steps, batch, dtype, init, watched, inputs : as for :func:`ended`
    data : as :func:`bnlib.data.load` calls it

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
        stds = [_watch(net, h.states[steps], load(data, h.run.seed, inputs).x_train)[0] for h in histories]
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


_ABOUT: dict[str, Any] = {"chapter": "13_weight_norm_normprop", "learned": LEARNED, "overlap": OVERLAP}
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

EXPERIMENTS = [
    init := Experiment(
        "weights-init", _init, ended,
        {"seeds": 8, "depths": [4, 16], "width": 50, "steps": 300, "lrs": half_decades(0.0001, 10),
         "arms": {"plain": GAINS, "plain, init": [HE], "normed": GAINS, "normed, init": GAINS, "batch": [HE]},
         "dtype": "float32"},
        {"seeds": 2, "depths": [4], "steps": 5, "lrs": [0.01], "dtype": "float64",
         "arms": {"plain": [HE], "plain, init": [HE], "normed": [0.5], "normed, init": [0.5], "batch": [HE]}},
    ),
    relatives := Experiment(
        "weights-relatives", _relatives, ended,
        {"seeds": 8, "depths": [4, 16], "width": 50, "steps": 300, "lrs": half_decades(0.001, 10),
         "arms": ["normed", "mean", "normed and mean", "standardized", "group", "standardized and group"],
         "dtype": "float32"},
        {"seeds": 2, "depths": [4], "steps": 5, "lrs": [0.01], "dtype": "float64"},
    ),
    normprop := Experiment(
        "weights-normprop", _normprop, ended,
        {"seeds": 8, "depth": 8, "width": 100, "images": {"60": 18000, "1": 3234},
         "arms": {"normprop": 60, "plain": 60, "batch": 60, "normprop, one": 1},
         "lrs": {"60": half_decades(0.001, 3.16), "1": half_decades(0.000316, 0.01)}, "dtype": "float32"},
        {"seeds": 2, "depth": 3, "images": {"60": 300, "1": 5}, "lrs": {"60": [0.01], "1": [0.001]},
         "arms": {"normprop": 60, "batch": 60, "normprop, one": 1}, "dtype": "float64"},
    ),
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
                id="normprop-one", chapter="13_weight_norm_normprop", overlap=OVERLAP, criterion=Criterion(">", 0.9),
                how="mean", unit="test accuracy",
                statement="Normalization propagation trains eight layers of 100 units with batches of one (digits, "
                "centred inputs, 3,234 steps of SGD, at its best rate).",
                source="Arpit and others (2016)",
                parts={"": ({"data": "digits", "arm": "normprop, one"},)},
            ),
            Question(
                id="normprop", chapter="13_weight_norm_normprop", criterion=Criterion("within", 1, 0.2), how="mean",
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
