"""What chapter 13 measures: layer norm in time, the centre that RMS norm leaves out, and the number of groups.

Plain gradient descent. The comparisons ``order`` and ``centres`` judge the claims about training; see
:mod:`bnlib.lab.comparisons`. The experiments ``sequences`` and ``groups`` are older, and judge none: digits as raw
pixels, 8 seeds, rates from one grid for each size of batch, picked for each arm by the mean validation accuracy at the
end over the same seeds; a run in which a loss is not finite counts as an accuracy of 0.

Three things are small enough to be measured on the page itself. Their bounds were written here before their first runs:

- *instance-contrast* (exact): scikit-learn's two photographs, values between 0 and 1 in float64, every channel times a
  factor of its own (0.2 to 0.8) plus a number of its own (0 to 0.2), so that nothing saturates. Instance norm with
  eps = 0 puts out the same picture: the largest difference < 1e-6, for each photograph.
- *instance-cue* (8 splits, and 16 where these do not settle it): which photograph is a patch from? The photographs are
  halved by means of 2x2 pixels and cut into patches of 8x8; tiles of 4x4 patches go to training or to test together,
  half of them each. Logistic regression with scikit-learn's defaults (at most 2,000 iterations) on standardized
  features: the 192 pixels, or the "edges", six numbers: the mean absolute difference of neighbours, across and down, in
  each channel. Criterion, for both: the accuracy with instance norm of each patch (eps = 1e-5) less that without <
  -0.05.
- *layer-norm-depth* (16 seeds): 100 layers of 100 units at their start, without gamma, beta and biases, He's gain for
  ReLU and gain 1 for tanh, 200 digits (raw pixels). Let u be a layer's units before the activation, behind the norm.
  The share of u's mean square that is variance across the examples (mean over the units) must be > 0.1 in layer 100,
  for layer norm with ReLU and with tanh. RMS norm stands beside it and decides nothing.

They were first judged by intervals of 95 %. That they are judged look by look, by 99 %, and that of four conditions of
layer-norm-depth layer norm's two decide, was set when those results were known: instance-cue had -0.25 for pixels and
-0.02 for edges; layer-norm-depth had 0.003 with ReLU and 0.99 with tanh, and with RMS norm as much as with layer norm.

The criteria of ``order`` and ``centres`` were written down before their first runs. Earlier results were known, on raw
pixels over 8 seeds: layer norm's test accuracy, less that with batches of 64, was 0.005 with batches of 1 and of 4, and
0.003 with 16; RMS norm's less layer norm's was at most 0.002 in the recurrent network, and 0.004 in dense ones with
sigmoids and with the norm behind a ReLU.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch

from bnlib.claims import same
from bnlib.data import load
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import Cases, at_rates, half_decades, trained
from bnlib.lab.experiments.design import LEARNED
from bnlib.lab.experiments.speed import NAMES, OVERLAP, SIZES, SLICE
from bnlib.lab.nets import rnn
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import Hook, Program, Run, train


def _sequences(seeds: int, arms: list[str], lrs: dict[str, list[float]], **how: Any) -> Cases:
    """Recurrent networks that read digits row by row, for sizes of batch from 1 on.

    All sizes see the same number of examples. Batch norm takes statistics of each step over the batch, and is judged
    with running averages, those of each step. Without a second example it has nothing to compare, and is left out.
    """
    for (batch, rates), arm in product(lrs.items(), arms):
        if arm != "batch" or batch != "1":
            yield {"batch": int(batch), "arm": arm}, {
                "arm": arm, "batch": int(batch), "lrs": rates, "seeds": seeds, **how,
            }  # fmt: skip


def _groups(seeds: int, steps: int, network: Settings, groups: list[int], lrs: list[float], **how: Any) -> Cases:
    """Group norm from one group (layer norm) to one for each channel (instance norm), in a convolutional network."""
    for number, lr in product(groups, lrs):
        yield {"groups": number, "lr": lr}, {
            "spec": {**network, "norm": "group", "groups": number},
            "runs": [{"seed": s, "lr": lr} for s in range(seeds)], "steps": steps, **how,
        }  # fmt: skip


class Across(Hook):
    """The output weights as the record had them, drawn as (units, classes); the layer draws (classes, units)."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        drawn = program.params["affine.weight"]
        program.params["affine.weight"] = drawn.reshape(drawn.mT.shape).mT.contiguous()


def read(*, arm: str, batch: int, lrs: list[float], seeds: int, epochs: int, units: int, dtype: str) -> Values:
    """Train one recurrent network for each rate and seed, to read digits row by row.

    Parameters
    ----------
    arm : "none", "batch", "layer" or "rms"
    units : hidden ones
    batch, lrs, seeds, epochs, dtype : as in :func:`bnlib.lab.experiments.at_rates`

    Returns
    -------
    values : "val" and "test", the accuracy at the end, for each rate a list with a number for each seed
    """
    net = rnn(units=units, norm=arm)
    return at_rates(net, lrs, seeds=seeds, batch=batch, epochs=epochs, dtype=dtype, hooks=[Across])


ROWS = {"digits": (8, 8), "mnist-1d": (8, 5)}  # how a recurrent network is given an example: steps, features


def _order(arms: list[str], places: dict[str, list[int]], lrs: dict[str, list[float]], **how: Any) -> Iterator[Arm]:
    """Recurrent networks with a norm, for several sizes of batch and the same number of examples."""
    for (data, batches), arm in product(places.items(), arms):
        for batch in batches:
            labels = {"data": data, "arm": arm, "batch": batch}
            yield Arm(labels, {"data": data, "arm": arm, "batch": batch, **how}, {"lr": lrs[str(batch)]})


def in_order(
    *, runs: Sequence[Settings], data: str, arm: str, batch: int, epochs: int, units: int, dtype: str
) -> Values:
    """Train recurrent networks to read examples step by step: "val" and "test" accuracy at the end, for each run."""
    net = rnn(ROWS[data], units, norm=arm)
    steps = epochs * (len(load(data).x_train) // batch)
    replicas = [Run(net=net, batch=batch, steps=steps, data=data, inputs="centred", **run) for run in runs]
    histories = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True)
    return {"val": [h.val_accuracy[-1] for h in histories], "test": [h.test_accuracy for h in histories]}


def _against_64(batch: int, data: str = "digits") -> Pair:
    labels = {"data": data, "arm": "layer"}
    return labels | {"batch": batch}, labels | {"batch": 64}


def _rms(batch: int) -> Pair:
    labels = {"data": "digits", "batch": batch}
    return labels | {"arm": "rms"}, labels | {"arm": "layer"}


def _centres(steps: int, lrs: dict[str, list[float]], places: list[str], **how: Any) -> Iterator[Arm]:
    """Dense networks with layer norm, and with RMS norm, which leaves the centre where it is."""
    for data, activation, placement, norm in product(places, lrs, ("before", "after"), ("layer", "rms")):
        spec = {"inputs": SIZES[data], "activation": activation, "norm": norm, "placement": placement}
        yield Arm(
            {"data": data, "activation": activation, "placement": placement, "norm": norm},
            {"spec": spec, "steps": steps, "data": data, "inputs": "centred", **how},
            {"gain": [1.0], "lr": lrs[activation]},
        )


def _centred(activation: str, placement: str = "before", data: str = "digits") -> Pair:
    labels = {"data": data, "activation": activation, "placement": placement}
    return labels | {"norm": "rms"}, labels | {"norm": "layer"}


_ACCURACY: dict[str, Any] = {
    "chapter": "13_axes", "learned": LEARNED, "overlap": OVERLAP, "criterion": same("accuracy"),
}  # fmt: skip
EXPERIMENTS = [
    sequences := Experiment(
        "axes-sequences", _sequences, read,
        {"seeds": 8, "units": 64, "arms": ["none", "batch", "layer", "rms"], "epochs": 20,
         "lrs": {"1": half_decades(0.001, 0.316), "4": half_decades(0.00316, 1), "16": half_decades(0.01, 3.16),
                 "64": half_decades(0.0316, 10)},
         "dtype": "float32"},
        {"seeds": 2, "epochs": 1, "lrs": {"128": [0.1]}, "dtype": "float64"},
    ),
    groups := Experiment(
        "axes-groups", _groups, trained,
        {"seeds": 8, "steps": 200,
         "network": {"inputs": [1, 8, 8], "widths": [16, 16], "kernel": 3, "flat": True, "activation": "relu",
                     "gain": 1.41},
         "groups": [1, 2, 4, 8, 16], "lrs": half_decades(0.01, 3.16), "batch": 32, "data": "digits",
         "dtype": "float32"},
        {"seeds": 2, "steps": 3, "groups": [1, 4, 16], "lrs": [0.1], "dtype": "float64"},
    ),
    order := Comparison(
        "order", _order, in_order,
        {"seeds": 64, "units": 64, "arms": ["layer", "rms"], "epochs": 20, "dtype": "float32",
         "places": {"digits": [1, 4, 16, 64], "mnist-1d": [4, 64]},
         "lrs": {"1": half_decades(0.001, 0.316), "4": half_decades(0.00316, 1), "16": half_decades(0.01, 3.16),
                 "64": half_decades(0.0316, 10)}},
        {"seeds": 2, "epochs": 1, "places": {"digits": [64]}, "dtype": "float64"},
        [
            Question(
                id="layer-norm-batch", **_ACCURACY, unit="test accuracy, less that with batches of 64",
                statement="A recurrent network of 64 tanh units with layer norm is as accurate with small batches "
                "as with 64 (digits by rows, centred inputs, SGD, each at its best rate, equal numbers of examples).",
                source="Ba, Kiros and Hinton (2016)",
                parts={f"batches of {n}": _against_64(n) for n in (1, 4, 16)},
                transfers={"MNIST-1D": {"batches of 4": _against_64(4, "mnist-1d")}},
            ),
            Question(
                id="rms-recurrent", **_ACCURACY, unit="test accuracy, RMS - layer",
                statement="A recurrent network of 64 tanh units is as accurate with RMS norm as with layer norm "
                "(digits by rows, centred inputs, SGD, each at its best rate).",
                source="Zhang and Sennrich (2019)",
                parts={f"batches of {n}": _rms(n) for n in (4, 16, 64)},
            ),
        ],
    ),
    centres := Comparison(
        "centres", _centres, trained,
        {"seeds": 64, "steps": 300, "dtype": "float32", "places": ["digits", "mnist 14x14"],
         "lrs": {"sigmoid": half_decades(0.1, 100), "tanh": half_decades(0.0316, 10),
                 "relu": half_decades(0.0316, 10)}},
        SLICE | {"places": ["digits"], "lrs": {"sigmoid": [1.0]}},
        [
            Question(
                id="rms-centre", **_ACCURACY, unit="test accuracy, RMS - layer",
                statement="Dense networks of three layers of 100 units are as accurate with RMS norm and a beta as "
                "with layer norm (digits, centred inputs, SGD, gain 1, each at its best rate, 300 updates).",
                source="Zhang and Sennrich (2019)",
                parts={name: _centred(a) for a, name in NAMES.items()},
                others={f"{name}, norm behind it": _centred(a, "after") for a, name in NAMES.items()},
                transfers={"MNIST 14 x 14": {n: _centred(a, data="mnist 14x14") for a, n in NAMES.items()}},
            ),
        ],
    ),
]  # fmt: skip
