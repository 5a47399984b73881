"""The measurements behind the chapters, one module for each chapter.

Where an experiment judges a claim, its docstring holds the criterion, written before the experiment was first run.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnlib.data import load
from bnlib.lab.layers import Params
from bnlib.lab.nets import Net, convnet, made, mlp
from bnlib.lab.records import Labels, Settings, Values
from bnlib.lab.train import Hold, Hook, Program, Run, train

Cases = Iterator[tuple[Labels, Settings]]  # of each case its labels, and what its run is called with


def half_decades(low: float, high: float) -> list[float]:
    """From low to high in steps of half a decade, to three digits: half_decades(0.1, 10) is 0.1, 0.316, 1, 3.16, 10."""
    first, last = (round(2 * np.log10(bound)) for bound in (low, high))
    return [float(f"{10 ** (k / 2):.3g}") for k in range(first, last + 1)]


def closer_at_first(steps: int, share: float = 0.05) -> list[int]:
    """Numbers of updates up to ``steps``, each at most that share larger than the one before, or larger by 1."""
    found = [1]
    while found[-1] < steps:
        found.append(min(steps, max(found[-1] + 1, math.floor(found[-1] * (1 + share)))))
    return found


def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each unit over the batch, (..., 1, units), of z (..., N, units)."""
    return z.mean(-2, keepdim=True), z.var(-2, correction=0, keepdim=True)


def net_of(fields: Settings) -> tuple[Net, dict[str, Any]]:
    """The network of a case, and the scale of its weights: fields as JSON has them.

    Parameters
    ----------
    fields : what :func:`bnlib.lab.nets.mlp` takes, or with a kernel :func:`~bnlib.lab.nets.convnet`, by name, such as
        {"widths": [100, 100], "norm": "batch"}; or any network as :func:`~bnlib.lab.nets.described` gives it; and the
        gain and std of :class:`bnlib.lab.train.Run`. A layer among the fields is described, too

    Raises
    ------
    TypeError
        If there is no field of a name.
    ValueError
        If the fields make no network.
    """
    own = dict(fields)
    scale = {name: own.pop(name) for name in ("gain", "std") if name in own}
    if "layer" in own:
        return made(own), scale
    own = {name: made(value) if isinstance(value, Mapping) else value for name, value in own.items()}
    return (convnet if "kernel" in own else mlp)(**own), scale


def by_layer(params: Params) -> Params:
    """The parameters of a network of chains by kind and number, as a page writes them: weight0 for 0.affine.weight."""
    return {f"{path.rpartition('.')[2]}{path.partition('.')[0]}": value for path, value in params.items()}


def trained(
    *,
    spec: Settings,
    runs: list[Settings],
    steps: int,
    hold: bool = False,
    every: int | list[int] | None = None,
    until: float | None = None,
    exact: bool = False,
    dtype: str = "float32",
    **how: Any,
) -> Values:
    """Train replicas and sum each of them up: the ``run`` of an experiment.

    Parameters
    ----------
    spec : what all replicas share, as :func:`net_of` takes it
    runs : of each replica its seed and lr, and its gain where that is not the spec's
    hold : whether :class:`bnlib.lab.train.Hold` keeps the weights' lengths
    every : evaluate after each so many updates, or after these numbers of them; None is at the end alone
    until : the validation accuracy that is to be reached, after which the training of all replicas stops
    exact : whether batch norm is judged with the statistics of the whole training set, in place of the running ones
    dtype : "float32" or "float64"
    steps, how : what else :class:`bnlib.lab.train.Run` takes, such as data, inputs or decay

    Returns
    -------
    values : lists with a number for each replica: "val" and "test", the accuracy at the end; "start" and "end", the
        mean loss of the first and the last ten mini-batches; "steps_to", the updates until ``until`` was reached
    """
    net, scale = net_of(spec)
    replicas = [Run(net=net, steps=steps, **{**how, **scale, **run}) for run in runs]
    # On Ctrl-C the case is not done: half of it must not be kept as if it were.
    histories = train(
        replicas,
        every=every or steps,
        until=until,
        dtype=getattr(torch, dtype),
        whole=True,
        exact=exact,
        hooks=[Hold] if hold else [],
    )
    values: Values = {
        "val": [h.val_accuracy[-1] for h in histories],
        "test": [h.test_accuracy for h in histories],
        "start": [h.loss[:10].mean() for h in histories],
        "end": [h.loss[-10:].mean() for h in histories],
    }
    if until is not None:
        values["steps_to"] = [h.steps_to(until) for h in histories]
    return values


def at_rates(
    net: Net,
    lrs: list[float],
    *,
    seeds: int,
    batch: int,
    epochs: int,
    dtype: str,
    data: str = "digits",
    hooks: Sequence[Callable[[Program], Hook]] = (),
    **how: Any,
) -> Values:
    """Train one network for each rate and seed.

    Parameters
    ----------
    net : the network
    lrs, seeds : learning rates, and the number of seeds
    batch, epochs : an epoch's remainder is left out
    dtype : "float32" or "float64"
    data : as :func:`bnlib.data.load` calls it
    hooks : as in :func:`bnlib.lab.train.train`
    how : what else :class:`bnlib.lab.train.Run` takes

    Returns
    -------
    values : "val" and "test", the accuracy at the end, 0 where a loss was not finite, and what the hooks have noted
        last: for each rate a list with a number for each seed
    """
    steps = epochs * (len(load(data).x_train) // batch)
    how |= {"net": net, "data": data, "batch": batch, "steps": steps}
    runs = [Run(seed=seed, lr=lr, **how) for lr, seed in product(lrs, range(seeds))]
    histories = train(runs, every=steps, dtype=getattr(torch, dtype), whole=True, hooks=hooks)
    values = {"val": [h.val_accuracy[-1] for h in histories], "test": [h.test_accuracy for h in histories]}
    values |= {name: [h.noted[name][-1] for h in histories] for name in histories[0].noted}
    return {name: by_rate(numbers, lrs) for name, numbers in values.items()}


def by_rate(values: Iterable[Any], lrs: list[float]) -> list[Any]:
    """A list for each rate with a number, or a list, for each seed, from those of all runs, rates first."""
    array = np.asarray(list(values))
    return array.reshape(len(lrs), -1, *array.shape[1:]).tolist()
