"""What chapter 17 measures: the norms and what stands in their place, side by side.

"choosing": on each task every method gets the same search. A seed draws its split of the data and its configurations,
learning rate and gain, the same for all methods; the gain is a factor of what is usual for the method's activation.
Each configuration is trained for the same number of updates with Adam, and judged on validation and test data at some
of these. A search of k configurations ends with the one of the best validation accuracy; its test accuracy is what
counts. Batch norm is judged by its running statistics.

The criteria of chapter 17 were written down before the first run:

- fair-comparison: batch norm is as accurate as the best of the other methods, which is the one of the best mean
  validation accuracy of whole searches (within a hundredth of test accuracy, whole searches); "images", "signals" and
  "transformer" decide, "table" and "residual" stand beside them.
- any-norm: a norm, the best of them by the same rule, is more accurate than no norm by more than a hundredth; the same
  tasks decide.

Where 16 seeds left a part open that decides, on images and signals, "choosing_on" adds the seeds up to 64 for the
methods that are compared there: batch norm, none, and SELU, which had the best mean validation accuracy of the other
methods on images. The criteria are the same.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bnlib.lab import nets
from bnlib.lab.experiments import Cases, net_of
from bnlib.lab.experiments.transformers import Watched
from bnlib.lab.layers import Chain, DyT, Layer, Residual
from bnlib.lab.nets import Net, described
from bnlib.lab.records import Experiment, Settings, Values
from bnlib.lab.train import DataInit, Run, train

NORMS = ("none", "batch", "layer", "group", "rms")
RELU = math.sqrt(2)


def skip_init(layer: Layer) -> Layer:
    """The same layers with a learned number in front of the sum of each residual block, which starts at 0."""
    if isinstance(layer, Chain):
        return Chain(tuple(skip_init(part) for part in layer.layers))
    return replace(layer, body=skip_init(layer.body), scale=0.0) if isinstance(layer, Residual) else layer


def _methods(preset: Any, norms: Sequence[str], groups: int, **fields: Any) -> dict[str, tuple[Net, float]]:
    """Dense or convolutional networks of ReLUs, and the gain that is usual for each."""
    own = {norm: (preset(norm=norm, activation="relu", **fields), RELU) for norm in norms if norm != "group"}
    own["group"] = preset(norm="group", groups=groups, activation="relu", **fields), RELU
    return own | {"DyT": (preset(norm=DyT(), activation="relu", **fields), RELU)}


def _without_statistics(preset: Any, **fields: Any) -> dict[str, tuple[Net, float]]:
    """Weight norm, SELU and normprop."""
    return {
        "weight norm, data start": (preset(weights="normed", activation="relu", **fields), RELU),
        "SELU": (preset(activation="selu", **fields), 1.0),
        "normprop": (preset(weights="normed", length=1.0, activation="normprop", **fields), 1.0),
    }


def networks() -> dict[str, dict[str, tuple[Net, float]]]:
    """Of each task the networks by method, and the usual gain of each."""
    images = (*NORMS, "instance")
    table = {"inputs": (30,), "widths": (50,) * 4, "classes": 2}
    plain, deep = {"widths": (8, 16, 16)}, {"widths": (16,) * 5, "residual": True}
    signals, transformer = partial(nets.rnn, (10, 4)), partial(nets.encoder, (10, 4))
    sequences = {name: name for name in NORMS} | {"DyT": DyT()}
    residual, bare = _methods(nets.convnet, images, 4, **deep), transformer(norm="none")
    quiet = residual["none"][0]
    return {
        "table": _methods(nets.mlp, NORMS, 5, **table) | _without_statistics(nets.mlp, **table),
        "images": _methods(nets.convnet, images, 4, **plain) | _without_statistics(nets.convnet, **plain),
        "residual": residual | {"SkipInit": (replace(quiet, body=skip_init(quiet.body)), RELU)},
        "signals": {norm: (signals(norm=norm), 1.0) for norm in NORMS},
        "transformer": {name: (transformer(norm=norm), 1.0) for name, norm in sequences.items()}
        | {"SkipInit": (replace(bare, body=skip_init(bare.body)), 1.0)},
    }


TASKS: dict[str, Settings] = {
    "table": {"data": "breast cancer", "inputs": "standardized"},
    "images": {"data": "digits", "inputs": "centred"},
    "residual": {"data": "digits", "inputs": "centred"},
    "signals": {"data": "mnist-1d", "inputs": "raw"},
    "transformer": {"data": "mnist-1d", "inputs": "raw"},
}


def configurations(seed: int, draws: int, lrs: Sequence[float], gains: Sequence[float]) -> list[tuple[float, float]]:
    """Learning rates and factors of the gain that a seed draws, both uniform in their logarithm."""
    rng = np.random.default_rng([seed, 17])
    low, high = np.log([lrs, gains]).T
    return [tuple(np.exp(rng.uniform(low, high)).tolist()) for _ in range(draws)]


def _cases(seeds: int, tasks: Sequence[str], methods: Sequence[str] | None, start: int = 0, **how: Any) -> Cases:
    for task, arms in networks().items():
        for method, (net, gain) in arms.items():
            if task in tasks and (methods is None or method in methods):
                arguments = {"spec": described(net), "gain": gain, "init": "data start" in method, **TASKS[task], **how}
                for first in range(start, seeds, 4):
                    own = list(range(first, min(seeds, first + 4)))
                    yield {"task": task, "method": method, "seeds": [own[0], own[-1] + 1]}, {"seeds": own, **arguments}


def searched(
    *,
    spec: Settings,
    gain: float,
    init: bool,
    seeds: Sequence[int],
    draws: int,
    lrs: Sequence[float],
    gains: Sequence[float],
    steps: int,
    every: int,
    dtype: str,
    **how: Any,
) -> Values:
    """Train a network with each of the configurations that each seed draws.

    Parameters
    ----------
    spec : as :func:`bnlib.lab.experiments.net_of` takes it
    gain : what is usual, of which a configuration has a factor
    init : whether the weights are started from the first mini-batch
    draws, lrs, gains : as in :func:`configurations`
    steps, every : updates, and after each how many of them the network is judged
    how : what else :class:`bnlib.lab.train.Run` takes

    Returns
    -------
    values : "val" and "test", the accuracies: for each seed and draw a list with a number for each look
    """
    net, scale = net_of(spec)
    runs = [
        Run(net=net, seed=seed, lr=lr, gain=gain * factor, steps=steps, **scale, **how)
        for seed in seeds
        for lr, factor in configurations(seed, draws, lrs, gains)
    ]
    hooks = [*([DataInit] if init else []), partial(Watched, every=every)]
    found = train(runs, every=steps, dtype=getattr(torch, dtype), whole=True, hooks=hooks)
    return {
        name: np.array([h.noted[name] for h in found]).round(5).reshape(len(seeds), draws, -1).tolist()
        for name in ("val", "test")
    }


def best_of(val: np.ndarray, test: np.ndarray, k: int) -> np.ndarray:
    """The expected test accuracy of the best of k configurations, by validation accuracy, drawn from those at hand.

    Parameters
    ----------
    val, test : (..., draws)
    k : configurations in a search, at most the draws; of equally good ones each is as likely to be taken

    Returns
    -------
    accuracy : (...)
    """
    draws = val.shape[-1]
    if not 1 <= k <= draws:
        raise ValueError(f"k is {k}: give a number from 1 to the {draws} configurations")
    order = np.argsort(val, -1, kind="stable")
    val, test = np.take_along_axis(val, order, -1), np.take_along_axis(test, order, -1)
    # The i-th of the sorted is the best of k with the chance C(i, k - 1) / C(draws, k); equal ones share theirs.
    chances = np.array([math.comb(i, k - 1) for i in range(draws)]) / math.comb(draws, k)
    ties = (val[..., :, None] == val[..., None, :]).astype(float)
    shared = ties @ chances / ties.sum(-1)
    return (shared * test).sum(-1)


search = Experiment(
    "choosing", _cases, searched,
    {"seeds": 16, "tasks": list(TASKS), "methods": None, "draws": 12, "lrs": [0.0001, 0.1], "gains": [0.5, 2.0],
     "steps": 300, "every": 100, "batch": 32, "optimizer": "adam", "dtype": "float32"},
    {"seeds": 1, "methods": ["batch", "SkipInit", "normprop"], "draws": 2, "steps": 2, "every": 2, "batch": 8,
     "dtype": "float64"},
)  # fmt: skip

search_on = Experiment(
    "choosing_on", _cases, searched,
    {**search.settings, "start": 16, "seeds": 64, "tasks": ["images", "signals"], "methods": ["none", "batch", "SELU"]},
    {**search.live, "seeds": 17, "methods": ["batch", "SELU"]},
)  # fmt: skip

EXPERIMENTS = [search, search_on]
