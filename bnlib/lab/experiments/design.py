"""What chapter 8 measures of where batch norm stands, of gamma and beta, and of networks deep and easy.

As in :mod:`bnlib.lab.experiments.speed`: 100 units a layer, mini-batches of 60, centred inputs for both arms, criteria
written down before the first run; earlier measurements, on raw pixels over 8 seeds, were known. What speaks of quality
has two budgets, since after the shorter speed still mixes in. Networks with batch norm have gains to choose from, too.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from bnlib.claims import more, same
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import half_decades, trained
from bnlib.lab.experiments.speed import CHAPTER, NAMES, NORMS, OVERLAP, SIZES, SLICE, arms_of

LEARNED = 0.2  # twice what guessing reaches: a run whose accuracy stays below has failed

_accuracy: dict[str, Any] = {"chapter": CHAPTER, "learned": LEARNED, "overlap": OVERLAP}


def _where(lrs: dict[str, list[float]], gains: list[float], places: list[list[Any]], **how: Any) -> Iterator[Arm]:
    """Batch norm before or behind the activation; ``places``: data, updates, layers."""
    for (data, steps, depth), (activation, rates) in product(places, lrs.items()):
        for placement in ("before", "after"):
            spec = {
                "inputs": SIZES[data], "widths": [100] * depth, "activation": activation, "norm": "batch",
                "placement": placement,
            }  # fmt: skip
            yield Arm(
                {"data": data, "steps": steps, "depth": depth, "activation": activation, "placement": placement},
                {"spec": spec, "steps": steps, "data": data, "inputs": "centred", **how},
                {"gain": gains, "lr": rates},
            )


def _placed(activation: str, **to: Any) -> Pair:
    labels = {"data": "digits", "steps": 300, "depth": 3, "activation": activation} | to
    return labels | {"placement": "before"}, labels | {"placement": "after"}


WIDE = {
    "sigmoid": half_decades(0.1, 100),
    "tanh": half_decades(0.01, 10),
    "relu": half_decades(0.01, 10),
}

placement = Comparison(
    "where", _where, trained,
    {"seeds": 64, "lrs": WIDE, "gains": [1.0], "dtype": "float32",
     "places": [["digits", 300, 3], ["digits", 300, 8], ["digits", 1500, 3], ["mnist 14x14", 300, 3]]},
    {"seeds": 2, "places": [["digits", 10, 3]], "lrs": {"sigmoid": [1.0]}, "dtype": "float64"},
    [
        Question(
            id="placement", **_accuracy, criterion=same("accuracy"), unit="test accuracy, before - behind",
            statement="Normalizing before or behind the nonlinearity gives the same accuracy in dense networks of "
            "three layers of 100 units (digits, centred inputs, SGD, gain 1, 300 updates).",
            source="a common claim in courses",
            parts={name: _placed(a) for a, name in NAMES.items()},
            others={f"{name}, 8 layers": _placed(a, depth=8) for a, name in NAMES.items()}
            | {f"{name}, 1,500 updates": _placed(a, steps=1500) for a, name in NAMES.items()},
            transfers={"MNIST 14 x 14": {name: _placed(a, data="mnist 14x14") for a, name in NAMES.items()}},
        ),
    ],
)  # fmt: skip


def _part(
    steps: int, depth: int, activations: dict[str, list[float]], gains: dict[str, list[float]], **how: Any
) -> Iterator[Arm]:
    """Batch norm in a part of the hidden layers, or in the output layer too."""
    parts = {
        "none": [],
        "first": [0],
        "last": [depth - 1],
        "every second": list(range(1, depth, 2)),
        "all": list(range(depth)),
        "all and output": list(range(depth + 1)),
    }
    for activation, lrs in activations.items():
        for part, where in parts.items():
            norm = {"norm": "batch", "where": where} if where else {}
            spec = {"widths": [100] * depth, "activation": activation, **norm}
            arguments = {"spec": spec, "steps": steps, "inputs": "centred", **how}
            yield Arm({"activation": activation, "part": part}, arguments, {"gain": gains[activation], "lr": lrs})


def _less_all(activation: str, part: str) -> Pair:
    return {"activation": activation, "part": part}, {"activation": activation, "part": "all"}


subset = Comparison(
    "part", _part, trained,
    {"seeds": 64, "steps": 300, "depth": 6, "data": "digits", "dtype": "float32",
     "activations": {"sigmoid": half_decades(0.0316, 100), "relu": half_decades(0.01, 10)},
     "gains": {"sigmoid": [1.0, 4.0, 8.0], "relu": [1.0, 1.41, 2.0]}},
    SLICE | {"depth": 3, "activations": {"sigmoid": [1.0]}, "gains": {"sigmoid": [1.0]}},
    [
        Question(
            id="subset", **_accuracy, criterion=same("accuracy"), unit="test accuracy, part - all hidden layers",
            statement="With six layers of 100 sigmoid units, normalizing some layers does as well as normalizing all "
            "hidden ones (digits, centred inputs, SGD, each at its best rate and gain, 300 updates).",
            source="Ioffe and Szegedy (2015), section 3.2, let a subset be chosen",
            parts={part: _less_all("sigmoid", part) for part in ("first", "last", "every second")},
            others={part: _less_all("sigmoid", part) for part in ("none", "all and output")}
            | {f"{part}, ReLU": _less_all("relu", part)
               for part in ("none", "first", "last", "every second", "all and output")},
        ),
    ],
)  # fmt: skip


def _scales(steps: list[int], lrs: dict[str, list[float]], places: list[str], **how: Any) -> Iterator[Arm]:
    """Three hidden layers with batch norm, without gamma, beta or both."""
    left_out = {"nothing": {}, "gamma": {"gamma": False}, "beta": {"beta": False}}
    left_out["both"] = left_out["gamma"] | left_out["beta"]
    for data in places:
        for budget in steps if data == "digits" else steps[:1]:
            for activation, rates in lrs.items():
                for without, fields in left_out.items():
                    spec = {"inputs": SIZES[data], "activation": activation, "norm": "batch", **fields}
                    yield Arm(
                        {"data": data, "steps": budget, "activation": activation, "without": without},
                        {"spec": spec, "steps": budget, "data": data, "inputs": "centred", **how},
                        {"lr": rates},
                    )


def _without(activation: str, what: str = "both", **to: Any) -> Pair:
    labels = {"data": "digits", "steps": 300, "activation": activation} | to
    return labels | {"without": "nothing"}, labels | {"without": what}


gamma_beta = Comparison(
    "scales", _scales, trained,
    {"seeds": 64, "steps": [300, 1500], "lrs": WIDE, "places": ["digits", "mnist 14x14"], "dtype": "float32"},
    {"seeds": 2, "steps": [10], "lrs": {"sigmoid": [1.0]}, "places": ["digits"], "dtype": "float64"},
    [
        Question(
            id="gamma-beta", **_accuracy, criterion=more("accuracy"), unit="test accuracy, with both - without",
            statement="Dense networks of three layers of 100 units with batch normalization need gamma and beta "
            "(digits, centred inputs, SGD, gain 1, each at its best rate, 300 updates).",
            source="a common reading of Ioffe and Szegedy (2015), section 3",
            parts={name: _without(a) for a, name in NAMES.items()},
            others={f"{name}, {what} alone": _without(a, what)
                    for a, name in NAMES.items() for what in ("gamma", "beta")}
            | {f"{name}, 1,500 updates": _without(a, steps=1500) for a, name in NAMES.items()},
            transfers={"MNIST 14 x 14": {name: _without(a, data="mnist 14x14") for a, name in NAMES.items()}},
        ),
    ],
)  # fmt: skip


def _deep(
    steps: int,
    width: int,
    lrs: list[float],
    gains: dict[str, list[float]],
    places: list[list[Any]],
    **how: Any,
) -> Iterator[Arm]:
    """Deep networks of saturating units. ``places`` are triples of data, inputs, and the depths there."""
    for data, inputs, depths_ in places:
        for depth in depths_:
            for activation, scales in gains.items():
                for norm in NORMS:
                    spec = {
                        "inputs": SIZES[data], "widths": [width] * depth, "activation": activation, "norm": norm
                    }  # fmt: skip
                    yield Arm(
                        {"data": data, "inputs": inputs, "activation": activation, "depth": depth, "norm": norm},
                        {"spec": spec, "steps": steps, "data": data, "inputs": inputs, **how},
                        {"gain": scales, "lr": lrs},
                    )


def _saturated(activation: str, depth: int, **to: Any) -> Pair:
    without, with_ = arms_of(
        "batch", **{"data": "digits", "inputs": "centred", "activation": activation, "depth": depth} | to
    )
    return with_, without


deep = Comparison(
    "deep", _deep, trained,
    {"seeds": 64, "steps": 300, "width": 50, "lrs": half_decades(0.01, 10),
     "gains": {"sigmoid": [1.0, 4.0, 8.0, 12.0], "tanh": [1.0, 1.5, 2.0]},
     "places": [["digits", "centred", [12, 30]], ["digits", "raw", [12]], ["mnist 14x14", "centred", [12]]],
     "dtype": "float32"},
    SLICE | {"places": [["digits", "centred", [12]]], "lrs": [0.1], "gains": {"sigmoid": [1.0], "tanh": [1.0]}},
    [
        Question(
            id="saturating-nonlinearities", **_accuracy, criterion=more("accuracy"),
            unit="test accuracy, with - without",
            statement="With batch normalization, deep networks of 50 sigmoid or tanh units a layer are more accurate "
            "(digits, centred inputs, SGD, each at its best rate and gain, 300 updates).",
            source="Ioffe and Szegedy (2015), sections 1 and 4.2",
            parts={"sigmoid, 12 layers": _saturated("sigmoid", 12), "sigmoid, 30 layers": _saturated("sigmoid", 30),
                   "tanh, 12 layers": _saturated("tanh", 12)},
            others={"tanh, 30 layers": _saturated("tanh", 30)}
            | {f"{a}, 12 layers, raw pixels": _saturated(a, 12, inputs="raw") for a in ("sigmoid", "tanh")},
            transfers={"MNIST 14 x 14": {f"{a}, 12 layers": _saturated(a, 12, data="mnist 14x14")
                                         for a in ("sigmoid", "tanh")}},
        ),
    ],
)  # fmt: skip


def _ease(examples: int, gains: list[float], lrs: list[float], places: list[list[Any]], **how: Any) -> Iterator[Arm]:
    """Where it may not help: shallow ReLU networks, equal numbers of examples. ``places``: data, depth, batch."""
    for data, depth, batch in places:
        for norm in NORMS:
            spec = {"inputs": SIZES[data], "widths": [100] * depth, "activation": "relu", "norm": norm}
            yield Arm(
                {"data": data, "depth": depth, "batch": batch, "norm": norm},
                {"spec": spec, "steps": examples // batch, "batch": batch, "data": data, "inputs": "centred", **how},
                {"gain": gains, "lr": lrs},
            )


def _eased(depth: int, batch: int, data: str = "digits") -> Pair:
    without, with_ = arms_of("batch", data=data, depth=depth, batch=batch)
    return with_, without


easy = Comparison(
    "ease", _ease, trained,
    {"seeds": 64, "examples": 18000, "gains": [1.0, 1.41, 2.0], "lrs": half_decades(0.00316, 10), "dtype": "float32",
     "places": [["digits", 1, 60], ["digits", 3, 60], ["digits", 1, 4], ["digits", 3, 4], ["mnist 14x14", 1, 60],
                ["mnist 14x14", 3, 60]]},
    {"seeds": 2, "examples": 240, "lrs": [0.1], "gains": [1.41], "places": [["digits", 1, 60]], "dtype": "float64"},
    [
        Question(
            id="easy-networks", **_accuracy, criterion=more("accuracy"), unit="test accuracy, with - without",
            statement="With batch normalization, ReLU networks of one and three layers of 100 units are more accurate "
            "in the end (digits, centred inputs, SGD, each at its best rate and gain, 18,000 examples).",
            source="implied where it is recommended without conditions",
            parts={"1 layer, batches of 60": _eased(1, 60), "3 layers, batches of 60": _eased(3, 60),
                   "3 layers, batches of 4": _eased(3, 4)},
            others={"1 layer, batches of 4": _eased(1, 4)},
            transfers={"MNIST 14 x 14": {"1 layer, batches of 60": _eased(1, 60, "mnist 14x14"),
                                         "3 layers, batches of 60": _eased(3, 60, "mnist 14x14")}},
        ),
    ],
)  # fmt: skip

EXPERIMENTS = [placement, subset, gamma_beta, deep, easy]
