"""The measurements behind the chapters, one module for each chapter.

Where an experiment judges a claim, its docstring holds the criterion, written before the experiment was first run.
"""

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
SELECTION = range(1000, 1008)  # seeds that pick rates and gains, and are not reported


def half_decades(low: float, high: float) -> list[float]:
    """From low to high in steps of half a decade, to three digits: half_decades(0.1, 10) is 0.1, 0.316, 1, 3.16, 10."""
    first, last = (round(2 * np.log10(bound)) for bound in (low, high))
    return [float(f"{10 ** (k / 2):.3g}") for k in range(first, last + 1)]


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
    every: int | None = None,
    until: float | None = None,
    dtype: str = "float32",
    **how: Any,
) -> Values:
    """Train replicas and sum each of them up: the ``run`` of an experiment.

    Parameters
    ----------
    spec : what all replicas share, as :func:`net_of` takes it
    runs : of each replica its seed and lr, and its gain where that is not the spec's
    hold : whether :class:`bnlib.lab.train.Hold` keeps the weights' lengths
    every : evaluate after each so many updates; None is at the end alone
    until : the validation accuracy that is to be reached, after which the training of all replicas stops
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


def picked(
    *,
    lrs: list[float],
    seeds: list[int],
    gains: Sequence[float] = (1.0,),
    selection: Sequence[int] = SELECTION,
    by: str = "val",
    **how: Any,
) -> Values:
    """Pick rate and gain on the selection seeds, and run that pick alone on the seeds that are reported.

    The ``run`` of a whole arm: as nothing is reported of the seeds that it was picked on, many of those that are
    reported cost less than a whole grid of a few.

    Parameters
    ----------
    lrs, gains : the grid, in rising order
    seeds, selection : those that are reported, and those that pick
    by : "val", the largest mean validation accuracy, or "steps_to", the smallest geometric mean of steps, where a run
        that does not get there counts as all steps
    how : what else :func:`trained` takes

    Returns
    -------
    values : those of :func:`trained` for the pick, with a number for each of the seeds; "lr" and "gain", the pick;
        "edge", 1 if it lies at the edge of the grid of either, else 0; "grid", the mean (of steps the geometric) on the
        selection seeds, for each gain a list over the rates

    Raises
    ------
    ValueError
        If a seed is to pick and to be reported, or nothing can be picked by that name.
    """
    if both := sorted({*seeds} & {*selection}):
        raise ValueError(f"the seeds {both} pick and are reported: choose others, such as those below {SELECTION[0]}")
    if by not in ("val", "steps_to"):
        raise ValueError(f"by is {by!r}: choose 'val' or 'steps_to'")

    def runs(choices: Iterable[tuple[float, float]], who: Sequence[int]) -> list[Settings]:
        return [{"seed": seed, "lr": lr, "gain": gain} for gain, lr in choices for seed in who]

    found = trained(runs=runs(product(gains, lrs), selection), **how)[by]
    grid = np.reshape(np.array(found, dtype=float), (len(gains), len(lrs), len(selection)))
    if by == "steps_to":
        grid = np.log(np.minimum(grid, how["steps"]))
    means = grid.mean(-1)
    best = np.argmax(means) if by == "val" else np.argmin(means)
    i, j = (int(n) for n in np.unravel_index(best, means.shape))
    edge = any(len(of) > 1 and at in (0, len(of) - 1) for of, at in ((gains, i), (lrs, j)))
    values = trained(runs=runs([(gains[i], lrs[j])], seeds), **how)
    told = means if by == "val" else np.exp(means)
    return values | {"lr": [lrs[j]], "gain": [gains[i]], "edge": [int(edge)], "grid": told.tolist()}


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
