"""Train many small networks at once: replicas of one program, each with its own seed, learning rate and gain."""

import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.nets import Params, Spec, Stats

# With a learning rate of 1: the rate of each replica multiplies the step, since torch.optim has none per replica.
OPTIMIZERS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda steps: torch.optim.SGD(steps, lr=1.0),
    "momentum": lambda steps: torch.optim.SGD(steps, lr=1.0, momentum=0.9),
    "rmsprop": lambda steps: torch.optim.RMSprop(steps, lr=1.0),
    "adam": lambda steps: torch.optim.Adam(steps, lr=1.0),
}
REPLICAS = 16  # of one program: with more, their parameters leave the processor's cache


class State(NamedTuple):
    """One network between two updates: parameters with a replica axis of length 1, and running statistics."""

    params: Params
    stats: Stats


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: a network, a seed and how it is trained.

    The seed gives the split of the data, the initial weights and the order of the examples, each by itself: runs with
    the same seed are paired, whatever else differs.

    Attributes
    ----------
    spec : the network
    seed : of split, weights, batches and dropout
    lr : the learning rate
    optimizer : a name in ``OPTIMIZERS``
    batch : examples in a mini-batch; an epoch's remainder is left out
    steps : updates
    data, inputs : what :func:`bnlib.data.load` is to give
    hold : whether the weights of each unit in front of a norm are brought back to their first length after each update
    data_init : whether each layer's scale and bias are first set from the first mini-batch, as ``nets.data_init`` does
    factors : of the learning rate, for single parameters, such as (("weight0", 0.1), ("bias0", 0.1)); elsewhere 1
    """

    spec: Spec = field(default_factory=Spec)
    seed: int = 0
    lr: float = 0.1
    optimizer: str = "sgd"
    batch: int = 60
    steps: int = 500
    data: str = "digits"
    inputs: str = "raw"
    hold: bool = False
    data_init: bool = False
    factors: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Reject what cannot be run."""
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}: choose one of {list(OPTIMIZERS)}")
        if not (math.isfinite(self.lr) and self.lr >= 0):
            raise ValueError(f"lr is {self.lr}: give a finite number that is not negative")
        if self.batch < 1 or self.steps < 1:
            raise ValueError(f"batch is {self.batch} and steps {self.steps}: both must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: give a whole number from 0 on")
        for name, factor in self.factors:
            if not (math.isfinite(factor) and factor >= 0):
                raise ValueError(f"the factor of {name!r} is {factor}: give a finite number that is not negative")


@dataclass(frozen=True, eq=False)
class History:
    """What one run gave; it may have fewer steps than asked for, if it was stopped.

    Attributes
    ----------
    run : what was run
    loss : (steps,) the mean cross-entropy of each mini-batch, in nats, before its update
    at : (evaluations,) the numbers of updates after which the network was evaluated
    val_loss, val_accuracy : (evaluations,) on the validation set; batch norm uses its running statistics
    test_accuracy : after the last update
    failed : the step (counted from 1) whose loss was not finite, or None; from there on nothing is a number but the
        accuracy, which counts as 0
    states : parameters and running statistics after the numbers of updates that were to be kept
    """

    run: Run
    loss: np.ndarray
    at: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray
    test_accuracy: float
    failed: int | None
    states: Mapping[int, State] = field(repr=False)

    def steps_to(self, accuracy: float) -> float:
        """The first number of updates after which the validation accuracy was reached; infinite if it never was."""
        reached = self.at[self.val_accuracy >= accuracy]
        return float(reached[0]) if reached.size else math.inf


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core, as the records were: in matrices this small, several threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # PyTorch's own MKL is out of threadpoolctl's reach
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train(
    runs: Sequence[Run],
    *,
    every: int = 1,
    until: float | None = None,
    keep: Iterable[int] = (),
    dtype: torch.dtype = torch.float32,
    whole: bool = False,
) -> list[History]:
    """Train all runs, and return their histories in the same order.

    Runs that differ in nothing but seed, learning rate and gain are replicas of one program, in which every operation
    is done for all of them at once; they do not see each other. A progress bar shows on a terminal and in a live
    notebook. Ctrl-C ends the training and returns what is done: a run that was not reached is left out, and the
    histories of those under way are shorter.

    Parameters
    ----------
    runs : what to train
    every : evaluate after each so many updates, and after the last
    until : where given, a program stops once all its replicas have reached this validation accuracy or failed
    keep : the numbers of updates after which parameters and running statistics are kept; 0 is the start
    dtype : torch.float32, or torch.float64 where trajectories are compared
    whole : let Ctrl-C raise, in place of returning what is done: for measurements, where a part is worth nothing

    Raises
    ------
    ValueError
        If ``every`` is below 1, if there are no such data or inputs, if their examples or classes do not fit the
        network, or if a batch is larger than the training set or smaller than the norm needs.
    KeyboardInterrupt
        With ``whole``, on Ctrl-C.
    """
    if every < 1:
        raise ValueError(f"every is {every}: evaluate after each 1, 2, ... updates")
    histories: dict[int, History] = {}
    chunks, kept = list(_programs(runs)), set(keep)
    total = sum(runs[chunk[0]].steps * len(chunk) for chunk in chunks)
    with progress(total=total, unit="step", desc="train") as bar:
        for chunk in chunks:
            program = None
            try:
                program = _Program([runs[i] for i in chunk], kept, dtype)
                program.train(every, until, bar)
                histories.update(zip(chunk, program.histories(), strict=True))
            except KeyboardInterrupt:
                if whole:
                    raise
                if program is not None:
                    histories.update(zip(chunk, program.histories(), strict=False))  # none, if there was no step
                break
    return [histories[i] for i in sorted(histories)]


def progress(**about: Any) -> tqdm:
    """A progress bar for a terminal or a live notebook; silent elsewhere, in a worker and where TQDM_DISABLE is set."""
    live = sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")
    live = live and multiprocessing.parent_process() is None  # a worker shares the terminal with its parent's bar
    if not live:
        about["disable"] = True  # unset, the environment decides
    return tqdm(delay=1, leave=False, **about)


def _programs(runs: Sequence[Run]) -> Iterator[list[int]]:
    """The indices of the runs that are replicas of one program, at most ``REPLICAS`` at a time."""
    alike: dict[Run, list[int]] = {}
    for i, run in enumerate(runs):
        alike.setdefault(replace(run, seed=0, lr=0.0, spec=run.spec.program), []).append(i)
    for indices in alike.values():
        for start in range(0, len(indices), REPLICAS):
            yield indices[start : start + REPLICAS]


class _Program:
    """Replicas under way: everything has the replicas as its first axis."""

    def __init__(self, runs: list[Run], keep: set[int], dtype: torch.dtype) -> None:
        first, seeds = runs[0], sorted({run.seed for run in runs})
        self.runs, self.keep, self.spec, self.dtype = runs, keep, first.spec, dtype
        self.params = nets.start([run.spec for run in runs], [run.seed for run in runs], dtype)
        self.stats = nets.start_stats(self.spec, self.params)
        self.lr = torch.tensor([run.lr for run in runs], dtype=dtype)

        splits = [load(first.data, seed, first.inputs) for seed in seeds]
        if first.batch > (n := len(splits[0].x_train)):
            raise ValueError(
                f"batch is {first.batch}, but {first.data!r} has {n} examples to train: choose at most {n}"
            )
        shape, labels = splits[0].x_train.shape[1:], int(splits[0].y_train.max()) + 1
        if math.prod(self.spec.inputs) != math.prod(shape) or self.spec.classes < labels:
            raise ValueError(
                f"inputs are {self.spec.inputs} and classes {self.spec.classes}, but an example of {first.data!r} has "
                f"shape {shape} and one of {labels} classes: choose inputs of that size and at least so many classes"
            )
        self.who = torch.tensor([seeds.index(run.seed) for run in runs])  # the split of each replica
        x_train, y_train, x_val, y_val, x_test, y_test = (
            torch.as_tensor(np.stack(parts)) for parts in zip(*splits, strict=True)
        )
        x_train, x_val, x_test = (
            x.to(dtype).reshape(*x.shape[:2], *self.spec.inputs) for x in (x_train, x_val, x_test)
        )
        self.examples = x_train, y_train
        self.val, self.test = (x_val[self.who], y_val[self.who]), (x_test[self.who], y_test[self.who])
        if first.data_init:
            rows = torch.stack([next(batches(n, first.batch, seed)) for seed in seeds])
            self.params = nets.data_init(self.spec, self.params, self._rows(rows)[0])
        self.learned = {name: self.params[name].requires_grad_() for name in nets.learned(self.spec, self.params)}
        factors = dict(first.factors)
        if unknown := sorted(factors.keys() - self.learned.keys()):
            raise ValueError(
                f"factors names {unknown}, but what is learned are {sorted(self.learned)}: choose of those"
            )
        self.rates = [self.lr * factors.get(name, 1.0) for name in self.learned]
        self.deltas = [torch.zeros_like(value) for value in self.learned.values()]
        self.optimizer = OPTIMIZERS[first.optimizer](self.deltas)
        self.rows = [batches(n, first.batch, seed) for seed in seeds]
        self.generators = [torch.Generator().manual_seed(run.seed) for run in runs]

        held = [f"weight{i}" for i in self.spec.normed] if first.hold else []
        self.lengths = {name: _lengths(self.params[name]) for name in held}

        self.losses: list[Tensor] = []
        self.evaluated: list[tuple[int, Tensor, Tensor]] = []  # after which update, loss, accuracy
        self.failed = torch.zeros(len(runs), dtype=torch.long)  # the step, or 0
        self.states: dict[int, tuple[Params, Stats]] = {}

    def train(self, every: int, until: float | None, bar: tqdm) -> None:
        steps, reached = self.runs[0].steps, torch.zeros(len(self.runs), dtype=torch.bool)
        self._keep(0)
        for step in range(1, steps + 1):
            self._step(step)
            self._keep(step)
            if step % every == 0 or step == steps:
                loss, accuracy = self._evaluate(*self.val)
                self.evaluated.append((step, loss, accuracy))
                reached |= accuracy >= (math.inf if until is None else until)
                if bool((reached | (self.failed > 0)).all()):
                    bar.update((steps - step + 1) * len(self.runs))
                    return
            bar.update(len(self.runs))

    def histories(self) -> list[History]:
        if not self.losses:
            return []
        losses = torch.stack(self.losses).double().numpy()
        empty = np.empty((0, len(self.runs)))
        at = np.array([step for step, _, _ in self.evaluated], dtype=int)
        val_loss, val_accuracy = (
            torch.stack(values).double().numpy() if values else empty
            for values in ([loss for _, loss, _ in self.evaluated], [right for _, _, right in self.evaluated])
        )
        _, test_accuracy = self._evaluate(*self.test)
        return [
            History(
                run,
                losses[:, r],
                at,
                val_loss[:, r],
                val_accuracy[:, r],
                float(test_accuracy[r]),
                int(self.failed[r]) or None,
                {step: self._of(r, *state) for step, state in self.states.items()},
            )
            for r, run in enumerate(self.runs)
        ]

    def _step(self, step: int) -> None:
        x, y = self._rows(torch.stack([next(batches) for batches in self.rows]))
        masks = nets.masks(self.spec, x.shape[1], self.generators, self.dtype)
        logits, moments = nets.forward(self.spec, self.params, x, masks=masks)
        loss = _cross_entropy(logits, y)
        # The replicas' losses are summed, and each depends on its own parameters alone.
        grads = torch.autograd.grad(loss.sum(), list(self.learned.values()))
        for delta, grad in zip(self.deltas, grads, strict=True):
            delta.grad = grad
        self.optimizer.step()  # each delta was 0, and is now the update for a learning rate of 1
        with torch.no_grad():
            for value, delta, rate in zip(self.learned.values(), self.deltas, self.rates, strict=True):
                value.addcmul_(delta, rate.reshape(-1, *[1] * (value.ndim - 1)))
                delta.zero_()
            for name, length in self.lengths.items():
                self.params[name].mul_(length / _lengths(self.params[name]))
        self.stats = {i: stats.update(moments[i]) for i, stats in self.stats.items()}
        loss = loss.detach()
        self.failed[(self.failed == 0) & ~loss.isfinite()] = step
        self.losses.append(torch.where(self.failed > 0, math.nan, loss))

    def _rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The mini-batch (replicas, batch) of each replica, from the rows (seeds, batch) of each seed."""
        x, y = (a[self.who[:, None], rows[self.who]] for a in self.examples)
        return x, y

    @torch.no_grad()
    def _evaluate(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits, _ = nets.forward(self.spec, self.params, x, self.stats)
        loss, right = _cross_entropy(logits, y), (logits.argmax(-1) == y).double().mean(1)
        lost = (self.failed > 0) | ~loss.isfinite()
        return torch.where(lost, math.nan, loss), torch.where(lost, 0.0, right)

    def _keep(self, step: int) -> None:
        if step in self.keep:
            self.states[step] = {name: value.detach().clone() for name, value in self.params.items()}, self.stats

    def _of(self, r: int, params: Params, stats: Stats) -> State:
        n = len(self.runs)
        own = {
            i: replace(s, mean=s.mean.reshape(n, -1)[r].clone(), var=s.var.reshape(n, -1)[r].clone())
            for i, s in stats.items()
        }
        return State({name: value[r : r + 1].clone() for name, value in params.items()}, own)


@torch.no_grad()
def _lengths(weight: Tensor) -> Tensor:
    """The length of each unit's weights, with an axis of length 1 for each of theirs."""
    return weight.square().sum(tuple(range(2, weight.ndim)), keepdim=True).sqrt()


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """The mean over the examples of each replica: logits (replicas, N, classes), y (replicas, N)."""
    return cross_entropy(logits.transpose(1, 2), y, reduction="none").mean(1)


def batches(n: int, batch: int, seed: int) -> Iterator[Tensor]:
    """The rows of one mini-batch after the other: epochs in random order, without their remainder."""
    rng = np.random.default_rng([seed, 1])
    while True:
        rows = rng.permutation(n)
        for start in range(0, n - batch + 1, batch):
            yield torch.as_tensor(rows[start : start + batch])
