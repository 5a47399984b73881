"""What chapter 8 measures of speed and of the range of settings that train: 100 units a layer, mini-batches of 60.

All inputs are centred, for both arms, where "raw" is not said: each pixel less its mean over the training set, all
divided by one number. The criteria were written down before the first run of these measurements. Earlier ones were
known, on raw pixels, over 8 seeds and mostly with the sigmoid alone; and a trial with centred inputs (steps without /
with batch norm at the best rates: three layers ReLU 1.2, tanh 1.3, sigmoid 2.0; eight layers 2.3, 1.2).
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch

from bnlib.claims import more
from bnlib.lab.comparisons import Arm, Comparison, Question
from bnlib.lab.experiments import closer_at_first, half_decades, net_of, trained
from bnlib.lab.records import Settings, Values
from bnlib.lab.train import Hold, Run, train

CHAPTER = "08_training"
OVERLAP = 1 / 3  # test examples / training examples, of digits and of MNIST alike
SIZES = {"digits": [64], "mnist 14x14": [196], "mnist-1d": [40]}  # of an input
NORMS = ("none", "batch")
NAMES = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
SLICE = {"seeds": 2, "steps": 10, "dtype": "float64"}

# Wide enough that the best lies inside; Ioffe and Szegedy's "small random" start is in the small one.
GAINS = {"sigmoid": [1.0, 2.0, 4.0, 8.0, 12.0], "tanh": [0.5, 1.0, 1.5, 2.0], "relu": [0.5, 1.0, 1.41, 2.0]}
RATES = {
    "sigmoid": half_decades(0.0316, 100),
    "tanh": half_decades(0.01, 10),
    "relu": half_decades(0.01, 10),
}


def arms_of(norm: str, **labels: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The labels of batch norm's arm, or of another norm's, and those of the arm without."""
    return labels | {"norm": "none"}, labels | {"norm": norm}


def _speed(
    steps: int,
    target: float,
    depths: dict[str, list[list[Any]]],
    gains: dict[str, list[float]],
    lrs: dict[str, list[float]],
    std: float,
    **how: Any,
) -> Iterator[Arm]:
    """Steps to the target; rate and gain are picked by their geometric mean.

    The network is evaluated after each of the first 20 steps, and then each time that a twentieth more have been made:
    a ratio is known to that share.

    ``depths`` holds for each number of layers pairs of data and inputs. On digits the sigmoid also starts from small
    normal weights of one standard deviation in all layers, in place of a gain.
    """
    common = {"steps": steps, "every": closer_at_first(steps), "until": target, **how}
    for depth, places in depths.items():
        for (data, inputs), activation, norm in product(places, gains, NORMS):
            labels = {"data": data, "inputs": inputs, "depth": int(depth), "activation": activation, "norm": norm}
            spec = {"inputs": SIZES[data], "widths": [100] * int(depth), "activation": activation, "norm": norm}
            arguments = {"spec": spec, "data": data, "inputs": inputs, **common}
            grid = {"gain": gains[activation], "lr": lrs[activation]}
            yield Arm(labels | {"start": "gain"}, arguments, grid, "steps_to")
            if (data, inputs, activation, int(depth)) == ("digits", "centred", "sigmoid", 3):
                small = arguments | {"spec": spec | {"std": std}}
                yield Arm(labels | {"start": "small"}, small, {"lr": lrs[activation]}, "steps_to")


def _steps(condition: dict[str, Any], **to: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return arms_of("batch", **{"start": "gain", "inputs": "centred", "data": "digits"} | condition | to)


def _by_activation(**to: Any) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    return {name: _steps({"activation": activation}, **to) for activation, name in NAMES.items()}


_about: dict[str, Any] = {
    "chapter": CHAPTER, "of": "steps_to", "how": "ratio", "budget": 500, "overlap": OVERLAP,
    "unit": "updates to an accuracy of 0.90, without / with",
}  # fmt: skip

speed = Comparison(
    "speed", _speed, trained,
    {"seeds": 64, "steps": 500, "target": 0.9, "gains": GAINS, "lrs": RATES, "std": 0.01, "dtype": "float32",
     "depths": {"3": [["digits", "centred"], ["digits", "raw"], ["mnist 14x14", "centred"]],
                "8": [["digits", "centred"]]}},
    SLICE | {"depths": {"3": [["digits", "centred"]]}, "gains": {"sigmoid": [4.0]}, "lrs": {"sigmoid": [1.0]}},
    [
        Question(
            id="faster", **_about, criterion=more("ratio"),
            statement="With batch normalization, dense networks of three layers of 100 units train faster (digits, "
            "centred inputs, SGD, each at its best rate and gain).",
            source="Ioffe and Szegedy (2015), and nearly every text since",
            parts=_by_activation(depth=3),
            others={f"{n}, raw pixels": _steps({"activation": a}, depth=3, inputs="raw") for a, n in NAMES.items()}
            | {"sigmoid, small start": _steps({"activation": "sigmoid"}, depth=3, start="small")},
            transfers={"MNIST 14 x 14": _by_activation(depth=3, data="mnist 14x14")},
        ),
        Question(
            id="faster-deep", **_about, criterion=more("ratio"),
            statement="With batch normalization, dense networks of eight layers of 100 units train faster (digits, "
            "centred inputs, SGD, each at its best rate and gain).",
            source="Ioffe and Szegedy (2015), and nearly every text since",
            parts=_by_activation(depth=8),
        ),
        Question(
            id="inputs-speed", **{**_about, "unit": "updates to an accuracy of 0.90, raw / centred"},
            criterion=more("ratio"),
            statement="To centre the inputs alone, once and without batch normalization, makes dense networks of three "
            "layers of 100 units train faster (digits, SGD, each at its best rate and gain).",
            source="LeCun et al. (1998), section 4.3",
            parts={name: (_steps({"activation": a}, depth=3, inputs="raw")[0], _steps({"activation": a}, depth=3)[0])
                   for a, name in NAMES.items()},
        ),
    ],
)  # fmt: skip


def widths(
    *,
    spec: Settings,
    runs: Sequence[Settings],
    over: str,
    values: Sequence[float],
    steps: int,
    target: float,
    dtype: str,
    hold: bool = False,
    **how: Any,
) -> Values:
    """How many decades of a setting train.

    Parameters
    ----------
    spec : as :func:`bnlib.lab.experiments.net_of` takes it
    runs : of each the seed, and the rate or the gain that is held
    over, values : "lr" or "gain", and its values in steps of half a decade
    steps, target : after so many updates the validation accuracy is to be at least that
    dtype, hold, how : as for :func:`bnlib.lab.experiments.trained`

    Returns
    -------
    values : "decades", half of the number of values that get there, for each run
    """
    net, scale = net_of(spec)
    replicas = [Run(net=net, steps=steps, **{**how, **scale, **run, over: value}) for value in values for run in runs]
    hooks = [Hold] if hold else []
    histories = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True, hooks=hooks)
    reached = np.array([h.val_accuracy[-1] >= target for h in histories]).reshape(len(values), len(runs))
    return {"decades": (0.5 * reached.sum(0)).tolist()}


def _ranges(
    places: list[list[Any]], lrs: list[float], gains: list[float], held: dict[str, dict[str, list[float]]], **how: Any
) -> Iterator[Arm]:
    """The range of rates at the best gain, and of gains at the best rate, that reach the target after the budget.

    ``places``: what ranges, data, inputs, training, units. "modern" training has a warm-up, a cosine schedule and
    weight decay, in both arms. ``held`` are the values from which the setting that is held is picked, by the width of
    the range.
    """
    modern = {"warm_up": how["steps"] // 10, "schedule": "cosine", "decay": 1e-4}
    for over, data, inputs, training, units in places:
        values, other = (lrs, "gain") if over == "lr" else (gains, "lr")
        for activation, norm in product(units, NORMS):
            spec = {"inputs": SIZES[data], "activation": activation, "norm": norm}
            arguments = {"spec": spec, "data": data, "inputs": inputs, "over": over, "values": values, **how}
            yield Arm(
                {"data": data, "inputs": inputs, "activation": activation, "norm": norm, "over": over,
                 "training": training},
                arguments | (modern if training == "modern" else {}),
                {other: held[activation][other]},
                "decades",
            )  # fmt: skip


def _range(over: str, activation: str, **to: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    without, with_ = arms_of(
        "batch",
        **{"over": over, "activation": activation, "data": "digits", "inputs": "centred", "training": "plain"} | to,
    )
    return with_, without


_wide: dict[str, Any] = {
    "chapter": CHAPTER,
    "of": "decades",
    "overlap": OVERLAP,
    "grid": 0.5,
    "criterion": more("decades"),
}
HELD = {
    "sigmoid": {"gain": [1.0, 4.0, 8.0], "lr": [1.0, 3.16, 10.0]},
    "tanh": {"gain": [0.5, 1.0, 1.5], "lr": [0.1, 0.316, 1.0]},
    "relu": {"gain": [0.5, 1.0, 1.41], "lr": [0.1, 0.316, 1.0]},
}

ranges = Comparison(
    "ranges", _ranges, widths,
    {"seeds": 64, "steps": 300, "target": 0.9, "lrs": half_decades(0.00316, 316), "gains": half_decades(0.01, 31.6),
     "held": HELD, "dtype": "float32",
     "places": [["lr", "digits", "centred", "plain", list(NAMES)], ["lr", "digits", "centred", "modern", ["relu"]],
                ["lr", "digits", "raw", "plain", ["sigmoid"]], ["lr", "mnist 14x14", "centred", "plain", list(NAMES)],
                ["gain", "digits", "centred", "plain", list(NAMES)]]},
    SLICE | {"places": [["lr", "digits", "centred", "modern", ["sigmoid"]],
                        ["gain", "digits", "centred", "plain", ["sigmoid"]]],
             "held": {"sigmoid": {"gain": [4.0], "lr": [1.0]}}, "lrs": [0.1, 1.0], "gains": [1.0, 4.0], "target": 0.1},
    [
        Question(
            id="lr-range", **_wide, unit="decades of rate, with - without",
            statement="With batch normalization, a wider range of rates trains dense networks of three layers of 100 "
            "units (digits, centred inputs, SGD, each at its best gain).",
            source="Ioffe and Szegedy (2015), section 3.3",
            parts={name: _range("lr", a) for a, name in NAMES.items()},
            others={"sigmoid, raw pixels": _range("lr", "sigmoid", inputs="raw"),
                    "ReLU, warm-up, cosine, decay": _range("lr", "relu", training="modern")},
            transfers={"MNIST 14 x 14": {name: _range("lr", a, data="mnist 14x14") for a, name in NAMES.items()}},
        ),
        Question(
            id="init-range", **_wide, unit="decades of gain, with - without",
            statement="With batch normalization, a wider range of gains trains dense networks of three layers of 100 "
            "units (digits, centred inputs, SGD, each at its best rate).",
            source="Ioffe and Szegedy (2015), section 3.3",
            parts={name: _range("gain", a) for a, name in NAMES.items()},
        ),
    ],
)  # fmt: skip


def _brakes(activations: list[str], lrs: list[float], **how: Any) -> Iterator[Arm]:
    """The range of rates with batch norm if weights may grow, or are brought back to their first length each time."""
    for activation in activations:
        for hold in (False, True):
            arguments = {"spec": {"activation": activation, "norm": "batch"}, "hold": hold, "over": "lr", "values": lrs}
            yield Arm(
                {"activation": activation, "hold": hold},
                arguments | {"inputs": "centred"} | how,
                {"gain": [1.0]},
                "decades",
            )


brakes = Comparison(
    "brakes", _brakes, widths,
    {"seeds": 64, "steps": 300, "target": 0.9, "lrs": half_decades(0.001, 1000), "activations": list(NAMES),
     "data": "digits", "dtype": "float32"},
    SLICE | {"lrs": [0.1, 1.0], "activations": ["sigmoid"], "target": 0.1},
    [
        Question(
            id="brake", **_wide, unit="decades of rate, growing - held",
            statement="Part of the range of rates of dense networks of three layers of 100 units with batch "
            "normalization comes from weights that grow (digits, centred inputs, SGD, gain 1).",
            source="follows from the orthogonality of gradient and weights",
            parts={name: ({"activation": a, "hold": False}, {"activation": a, "hold": True})
                   for a, name in NAMES.items()},
        ),
    ],
)  # fmt: skip


def searched(
    *,
    spec: Settings,
    runs: Sequence[Settings],
    depths: Sequence[int],
    batches: Sequence[int],
    lr: tuple[float, float],
    gain: tuple[float, float],
    steps: int,
    target: float,
    dtype: str,
    **how: Any,
) -> Values:
    """The share of random settings that train: for each run one setting for each depth and size of batch.

    Rate and gain are log-uniform. Each setting has a seed of its own, which is the run's and the setting's.
    """
    cells = list(product(depths, batches))
    replicas = []
    for run in runs:
        rng = np.random.default_rng([run["seed"], 2])
        draws = np.exp(rng.uniform(np.log([lr[0], gain[0]]), np.log([lr[1], gain[1]]), (len(cells), 2)))
        for i, ((depth, batch), (a, b)) in enumerate(zip(cells, draws, strict=True)):
            net, _ = net_of({**spec, "widths": [100] * depth})
            seed = run["seed"] * len(cells) + i
            replicas.append(Run(net=net, seed=seed, lr=float(a), gain=float(b), batch=batch, steps=steps, **how))
    histories = train(replicas, every=steps, dtype=getattr(torch, dtype), whole=True)
    reached = np.array([h.val_accuracy[-1] >= target for h in histories]).reshape(len(runs), len(cells))
    return {"share": reached.mean(1).tolist()}


def _search(places: list[str], activations: list[str], **how: Any) -> Iterator[Arm]:
    """Random settings, each run with and without batch norm."""
    for data, activation, norm in product(places, activations, NORMS):
        spec = {"inputs": SIZES[data], "activation": activation, "norm": norm}
        yield Arm(
            {"data": data, "activation": activation, "norm": norm},
            {"spec": spec, "data": data, "inputs": "centred", **how},
            {},
            "share",
        )


def _found(data: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    return {name: arms_of("batch", data=data, activation=a)[::-1] for a, name in NAMES.items()}  # type: ignore[misc]


search = Comparison(
    "search", _search, searched,
    {"seeds": 64, "steps": 300, "target": 0.9, "depths": [1, 2, 4, 8], "batches": [20, 60, 180], "lr": [0.001, 100.0],
     "gain": [0.1, 10.0], "places": ["digits", "mnist 14x14"], "activations": list(NAMES), "dtype": "float32"},
    {"seeds": 2, "steps": 10, "depths": [2], "batches": [60], "lr": [0.1, 1.0], "places": ["digits"], "target": 0.1,
     "activations": ["relu"], "dtype": "float64"},
    [
        Question(
            id="random-search", chapter=CHAPTER, of="share", overlap=OVERLAP, criterion=more("share"),
            unit="share of settings that reach 0.90, with - without",
            statement="With batch normalization, more random settings train dense networks of 1 to 8 layers of 100 "
            "units within 300 updates (digits, centred inputs, SGD; rate, gain, depth and batch at random).",
            source="a common claim in courses",
            parts=_found("digits"), transfers={"MNIST 14 x 14": _found("mnist 14x14")},
        ),
    ],
)  # fmt: skip


def _rules(
    steps: int, target: float, rules: dict[str, list[float]], gains: dict[str, list[float]], decay: float, **how: Any
) -> Iterator[Arm]:
    """Steps to the target by each optimizer, evaluated as for "speed"; "adamw" is Adam with decoupled decay."""
    for activation, (rule, lrs), norm in product(gains, rules.items(), NORMS):
        own = {"optimizer": "adam", "decay": decay, "decoupled": True} if rule == "adamw" else {"optimizer": rule}
        yield Arm(
            {"activation": activation, "optimizer": rule, "norm": norm},
            {"spec": {"activation": activation, "norm": norm}, "inputs": "centred", "steps": steps,
             "every": closer_at_first(steps), "until": target, **own, **how},
            {"gain": gains[activation], "lr": lrs},
            "steps_to",
        )  # fmt: skip


def _rule(activation: str, optimizer: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return arms_of("batch", activation=activation, optimizer=optimizer)


_names = {"momentum": "momentum", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}

rules = Comparison(
    "rules", _rules, trained,
    {"seeds": 64, "steps": 500, "target": 0.9, "decay": 0.01, "data": "digits", "dtype": "float32",
     "gains": {"relu": [0.5, 1.0, 1.41, 2.0], "sigmoid": [1.0, 4.0, 8.0]},
     "rules": {"momentum": half_decades(0.000316, 3.16), "rmsprop": half_decades(0.0000316, 0.1),
               "adam": half_decades(0.0001, 0.316), "adamw": half_decades(0.0001, 0.316)}},
    SLICE | {"gains": {"relu": [1.0]}, "rules": {"momentum": [0.1], "adamw": [0.01]}},
    [
        Question(
            id="optimizers", **_about, criterion=more("ratio"),
            statement="Batch normalization speeds dense ReLU networks of three layers of 100 units up with momentum, "
            "RMSprop and Adam, too (digits, centred inputs, each at its best rate and gain).",
            source="a common claim in courses",
            parts={_names[rule]: _rule("relu", rule) for rule in ("momentum", "rmsprop", "adam")},
            others={"AdamW": _rule("relu", "adamw")}
            | {f"{name}, sigmoid": _rule("sigmoid", rule) for rule, name in _names.items()},
        ),
    ],
)  # fmt: skip

EXPERIMENTS = [speed, ranges, brakes, search, rules]
