"""What chapter 15 measures: signals in a hundred layers of SELU, and deep networks trained on digits.

Centred digits are bnlib.data.load's, with inputs="centred".

The comparison ``deeper`` judges the claims about training. Its criteria were written down before its first run, when
the results of ``depth`` were known, whose seeds are its first eight. ``depth`` has further networks, and judges none.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnlib.claims import Criterion, more
from bnlib.data import load
from bnlib.lab.comparisons import Arm, Comparison, Pair, Question
from bnlib.lab.experiments import Cases, by_rate, half_decades, net_of, trained
from bnlib.lab.experiments.design import LEARNED
from bnlib.lab.experiments.speed import OVERLAP, SIZES
from bnlib.lab.layers import State
from bnlib.lab.nets import Net, seen
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import Run, train
from bnlib.selu import alpha_dropout, selu

PHI = {"selu": selu, "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}


def _signal(
    seeds: int,
    inputs: list[str],
    networks: dict[str, Settings],
    gains: list[float],
    widths: list[int],
    **how: Any,
) -> Cases:
    """SELU drives mean and variance to 0 and 1: networks at their start, without training, 100 layers.

    Weights are normal with mean 0 and variance gain**2 / inputs, biases 0; mean and standard deviation are those of the
    last layer's output over all units and 200 examples, at width 400 unless said. Gain 1 is LeCun's initialization.

    Criterion: the larger of |mean| and |std - 1| < 0.1, for SELU from each of three inputs that are far off (mean 3 and
    standard deviation 0.1; mean 0 and standard deviation 5; raw digits, all with 64 features). From raw digits width
    50, He's gain, and the gain of PyTorch's linear layers, 1 / sqrt(3), stand beside it and decide nothing.

    Criterion for "alpha dropout keeps mean 0 and variance 1 in a SELU network": the same, from raw digits, for alpha
    dropout behind each layer, with shares dropped of 0.1 and of 0.5. Plain dropout stands beside it, deciding nothing.

    The bound was set before the first run; which conditions decide was set when the results were known.
    """  # fmt: skip
    first, *others = networks
    wide, narrow = widths
    for x, (network, fields) in product(inputs, networks.items()):
        if network == first or x == "raw digits":
            yield {"inputs": x, "network": network, "width": wide}, {
                "inputs": x, "width": wide, "seeds": seeds, **fields, **how,
            }  # fmt: skip
    for network in (first, *others[:2]):
        yield {"inputs": "raw digits", "network": network, "width": narrow}, {
            "inputs": "raw digits", "width": narrow, "seeds": seeds, **networks[network], **how,
        }  # fmt: skip
    for gain in gains:
        yield {"inputs": "raw digits", "network": f"SELU, gain {gain:g}", "width": wide}, {
            "inputs": "raw digits", "width": wide, "seeds": seeds, **networks[first], "gain": gain, **how,
        }  # fmt: skip


def _depth(seeds: int, depths: list[int], width: int, arms: dict[str, Settings], lrs: list[float], **how: Any) -> Cases:
    """Deep networks of SELUs and of other kinds, trained on digits: hidden layers of 50 units, at three depths.

    Plain gradient descent, mini-batches of 60, 300 updates; rates from one grid, picked for each arm and depth by the
    mean validation accuracy at the end (residual networks without a norm: rate and gain). The inputs are centred
    digits, for all arms but one. Batch norm is judged with running averages (momentum 0.1). No claim is judged by it.
    """
    for depth, (arm, fields) in product(depths, arms.items()):
        yield {"depth": depth, "arm": arm}, {
            "spec": {"widths": [width] * depth, **fields}, "lrs": lrs, "seeds": seeds, **how,
        }  # fmt: skip


def draw_inputs(name: str, examples: int, seed: int) -> np.ndarray:
    """(examples, 64) "raw digits", "centred digits", or Gaussian numbers, "mean 3, std 0.1" or "std 5"."""
    if name in ("raw digits", "centred digits"):
        return load("digits", seed, name.removesuffix(" digits")).x_train[:examples]
    mean, std = {"mean 3, std 0.1": (3, 0.1), "std 5": (0, 5)}[name]
    return np.random.default_rng([seed, 14]).normal(mean, std, (examples, 64))


def draw_weights(rng: np.random.Generator, inputs: int, units: int, gain: float, balanced: bool) -> np.ndarray:
    """(inputs, units) normal weights; if balanced, those of each unit sum to 0, and their squares to gain**2."""
    weights = rng.normal(0, gain / inputs**0.5, (inputs, units))
    if balanced:
        weights -= weights.mean(0)
        weights *= gain / (weights**2).sum(0) ** 0.5
    return weights


def described(h: np.ndarray) -> dict[str, float]:
    """Of a layer's output (N, units) the mean, the standard deviation, the units' share of it, and the cosine.

    The share is the variance of the units' own means (over the examples) in the variance of all values; the cosine is
    the mean over pairs of different examples.
    """
    n, rows = len(h), h / np.linalg.norm(h, axis=1, keepdims=True)
    together = np.sum(rows.sum(0) ** 2)
    return {
        "mean": h.mean(),
        "std": h.std(),
        "share": h.mean(0).var() / h.var(),
        "cosine": (together - n) / (n * (n - 1)),
    }


def passed(
    *,
    inputs: str,
    width: int,
    seeds: int,
    examples: int,
    layers: list[int],
    activation: str,
    gain: float,
    balanced: bool = False,
    dropout: float = 0.0,
    alpha: bool = False,
) -> Values:
    """Send examples through one random network for each seed.

    Parameters
    ----------
    inputs, examples : as in :func:`draw_inputs`
    layers : the layers that are described, counted from 1; 0 is the input; the last is the network's depth
    activation : "selu", "relu" or "tanh"
    gain, balanced : as in :func:`draw_weights`
    dropout, alpha : the share that is dropped behind each layer, and whether by alpha dropout

    Returns
    -------
    values : for each name in :func:`described` a list for each seed, with a number for each of the layers
    """
    seen: list[list[dict[str, float]]] = []
    for seed in range(seeds):
        rng, h = np.random.default_rng(seed), draw_inputs(inputs, examples, seed)
        found = {0: described(h)}
        for layer in range(1, layers[-1] + 1):
            h = PHI[activation](h @ draw_weights(rng, h.shape[1], width, gain, balanced))
            if dropout:
                kept = rng.random(h.shape) >= dropout
                h = alpha_dropout(h, kept, 1 - dropout) if alpha else h * kept / (1 - dropout)
            if layer in layers:
                found[layer] = described(h)
        seen.append([found[layer] for layer in layers])
    return {name: [[layer[name] for layer in own] for own in seen] for name in seen[0][0]}


def ended(*, spec: Settings, lrs: list[float], seeds: int, steps: int, batch: int, dtype: str) -> Values:
    """Train one network for each rate and seed.

    Parameters
    ----------
    spec : as :func:`bnlib.lab.experiments.net_of` takes it, and "raw" for digits that are not centred
    lrs : learning rates
    seeds, steps, batch, dtype : as in :class:`bnlib.lab.train.Run`

    Returns
    -------
    values : for each rate a list with a number for each seed. "val" and "test", the accuracy at the end, 0 where a
        loss was not finite; "mean" and "std" of the last hidden layer over units and validation set; and of the units
        above the first layer "omega", the root mean square of the sum of their weights, and "tau", the mean of the sum
        of their weights' squares
    """
    net, scale = net_of({name: value for name, value in spec.items() if name != "raw"})
    inputs, kind = "raw" if spec.get("raw") else "centred", getattr(torch, dtype)
    runs = [
        Run(net=net, seed=seed, lr=lr, batch=batch, steps=steps, inputs=inputs, **scale)
        for lr, seed in product(lrs, range(seeds))
    ]
    histories = train(runs, every=steps, keep=[steps], dtype=kind, whole=True)
    values = {"val": [h.val_accuracy[-1] for h in histories], "test": [h.test_accuracy for h in histories]}
    found = [
        _summed_up(net, h.states[steps], torch.as_tensor(load("digits", h.run.seed, inputs).x_val, dtype=kind))
        for h in histories
    ]
    values |= {name: [one[name] for one in found] for name in found[0]}
    return {name: by_rate(numbers, lrs) for name, numbers in values.items()}


def _summed_up(net: Net, state: State, x: Tensor) -> dict[str, float]:
    """Of one network mean and std of the last hidden layer, omega and tau."""
    last = seen(net, state, x[None], exact=False)[net.chains[-2]].double()
    hidden = torch.cat([state.params[f"{path}.weight"][0] for path in net.affine[1:-1]]).double()  # (units, inputs)
    values = {
        "mean": last.mean(),
        "std": last.std(),
        "omega": hidden.sum(1).square().mean().sqrt(),
        "tau": hidden.square().sum(1).mean(),
    }
    return {name: value.item() for name, value in values.items()}


_NETWORKS = {
    "SELU": {"activation": "selu", "gain": 1.0},
    "ReLU, He": {"activation": "relu", "gain": 2**0.5},
    "tanh": {"activation": "tanh", "gain": 1.0},
    "SELU, He": {"activation": "selu", "gain": 2**0.5},
    "SELU, He, balanced": {"activation": "selu", "gain": 2**0.5, "balanced": True},
    "SELU, PyTorch": {"activation": "selu", "gain": 3**-0.5},
    "alpha dropout 0.1": {"activation": "selu", "gain": 1.0, "dropout": 0.1, "alpha": True},
    "alpha dropout 0.5": {"activation": "selu", "gain": 1.0, "dropout": 0.5, "alpha": True},
    "dropout 0.1": {"activation": "selu", "gain": 1.0, "dropout": 0.1},
    "dropout 0.5": {"activation": "selu", "gain": 1.0, "dropout": 0.5},
}
_RELU = {"activation": "relu", "gain": 1.41}
_SELU = {"activation": "selu", "gain": 1.0}
_ARMS = {
    "SELU": _SELU,
    "ReLU": _RELU,
    "tanh": {"activation": "tanh", "gain": 1.0},
    "BN-ReLU": {**_RELU, "norm": "batch"},
    "residual, gain 0.5": {**_RELU, "residual": True, "gain": 0.5},
    "residual, gain 1": {**_RELU, "residual": True, "gain": 1.0},
    "residual, gain 1.41": {**_RELU, "residual": True},
    "residual BN-ReLU": {**_RELU, "residual": True, "norm": "batch"},
    "SELU, He": {**_SELU, "gain": 1.41},
    "SELU, raw digits": {**_SELU, "raw": True},
    "SELU, alpha dropout": {**_SELU, "dropout": 0.1, "alpha_dropout": True},
    "SELU, dropout": {**_SELU, "dropout": 0.1},
}


def _deeper(
    steps: int, width: int, arms: dict[str, Settings], places: dict[str, list[int]], lrs: list[float], **how: Any
) -> Iterator[Arm]:
    """Networks of SELU, of ReLU with and without batch norm, and of residual blocks; depths by data."""
    for (data, depths), (arm, fields) in product(places.items(), arms.items()):
        for depth in depths:
            own = {name: value for name, value in fields.items() if name != "gain"}
            spec = {"inputs": SIZES[data], "widths": [width] * depth, **own}
            arguments = {"spec": spec, "steps": steps, "data": data, "inputs": "centred", **how}
            grid = {"gain": [fields["gain"]], "lr": lrs}
            yield Arm({"data": data, "depth": depth, "arm": arm}, arguments, grid)


def _deepened(depth: int, other: str, data: str = "digits") -> Pair:
    labels = {"data": data, "depth": depth}
    return labels | {"arm": "SELU"}, labels | {"arm": other}


_LAYERS = (9, 17, 33)
_ABOUT: dict[str, Any] = {"chapter": "15_selu", "learned": LEARNED, "overlap": OVERLAP}
EXPERIMENTS = [
    signal := Experiment(
        "selu-signal", _signal, passed,
        {"seeds": 8, "examples": 200, "widths": [400, 50], "layers": [0, 1, 2, 3, 5, 8, 13, 20, 32, 50, 70, 100],
         "inputs": ["mean 3, std 0.1", "std 5", "raw digits"], "networks": _NETWORKS,
         "gains": [0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4]},
        {"seeds": 2, "examples": 20, "widths": [20, 10], "layers": [0, 3, 5], "gains": [1.2]},
    ),
    depth := Experiment(
        "selu-depth", _depth, ended,
        {"seeds": 8, "depths": [9, 17, 33], "width": 50, "arms": _ARMS, "lrs": half_decades(0.001, 3.16),
         "steps": 300, "batch": 60, "dtype": "float32"},
        {"seeds": 2, "depths": [3], "width": 10, "lrs": [0.1], "steps": 5, "dtype": "float64"},
    ),
    deeper := Comparison(
        "deeper", _deeper, trained,
        {"seeds": 64, "steps": 300, "width": 50, "lrs": half_decades(0.001, 3.16), "dtype": "float32",
         "arms": {name: _ARMS[name] for name in ("SELU", "ReLU", "BN-ReLU", "residual BN-ReLU")},
         "places": {"digits": list(_LAYERS), "mnist 14x14": [9, 17]}},
        {"seeds": 2, "steps": 5, "width": 10, "lrs": [0.1], "places": {"digits": [3]}, "dtype": "float64"},
        [
            Question(
                id="selu-depth", **_ABOUT, criterion=more("accuracy"), unit="test accuracy, SELU - ReLU",
                statement="Dense networks of 9 to 33 layers of 50 units without normalization are more accurate with "
                "SELU than with ReLU (digits, centred inputs, 300 steps of SGD, each at its best rate).",
                source="Klambauer and others (2017)",
                parts={f"{d} layers": _deepened(d, "ReLU") for d in _LAYERS},
                transfers={"MNIST 14 x 14": {f"{d} layers": _deepened(d, "ReLU", "mnist 14x14") for d in (9, 17)}},
            ),
            Question(
                id="selu-rivals", **_ABOUT, criterion=Criterion(">", -0.01), unit="test accuracy, SELU - other",
                statement="Dense SELU networks of 9 to 33 layers of 50 units without normalization are as accurate as "
                "ReLU networks with batch norm (digits, centred inputs, 300 steps of SGD, each at its best rate).",
                source="Klambauer and others (2017)",
                parts={f"{d} layers": _deepened(d, "BN-ReLU") for d in _LAYERS},
                others={f"{d} layers, residual blocks": _deepened(d, "residual BN-ReLU") for d in _LAYERS},
                transfers={"MNIST 14 x 14": {f"{d} layers": _deepened(d, "BN-ReLU", "mnist 14x14") for d in (9, 17)}},
            ),
        ],
    ),
]  # fmt: skip
