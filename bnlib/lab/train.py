"""Train many small networks at once: replicas of one program, each with its own seed, learning rate and gain."""

import math
import multiprocessing
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from bnlib.data import load
from bnlib.lab import nets
from bnlib.lab.layers import Affine, Chain, Norm, State, Stats, under, walk
from bnlib.lab.nets import Net, mlp
from bnlib.running import RunningStats

# With a learning rate of 1: the rate of each replica multiplies the step, since torch.optim has none per replica. Plain
# gradient descent needs none: its step is the gradient.
OPTIMIZERS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer] | None] = {
    "sgd": None,
    "momentum": lambda steps: torch.optim.SGD(steps, lr=1.0, momentum=0.9),
    "rmsprop": lambda steps: torch.optim.RMSprop(steps, lr=1.0),
    "adam": lambda steps: torch.optim.Adam(steps, lr=1.0),
}
# The factor of the learning rate when so much of the training after the warm-up is done, from 0 to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}
REPLICAS = 16  # of one program: with more, their parameters leave the processor's cache
SMALL = 32  # a batch; of smaller ones so many times more replicas, since a step then costs what its calls cost
EVALUATED = 2**21  # numbers of input at a time: what a wide convolution makes of those of all examples fills the memory


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: a network, a seed and how it is trained.

    The seed gives the split of the data, the initial weights and the order of the examples, each by itself: runs with
    the same seed are paired, whatever else differs.

    Attributes
    ----------
    net : the network
    seed : of split, weights, batches, dropout and noise
    gain : of the weights at the start, whose standard deviation is gain / sqrt(fan_in)
    std : where given, their standard deviation in all layers instead
    lr : the learning rate
    optimizer : a name in ``OPTIMIZERS``
    batch : examples in a mini-batch; an epoch's remainder is left out
    steps : updates
    data, inputs : a data set of :func:`bnlib.data.load`, and how its inputs are prepared there
    factors : of the learning rate, for parameters whose path ends so, such as (("0.affine.weight", 0.1), ("bias", 0));
        the first that fits counts; elsewhere 1
    decay : of the weights, lambda: lambda times the parameter is added to its gradient
    decoupled : whether lambda times the parameter is instead taken from it at the learning rate, beside what the
        optimizer does :cite:`loshchilov2019decoupled`; with "adam" this is AdamW
    decayed : the endings of the paths of the parameters that decay: "weight" are all weights, none are all parameters
    schedule : a name in ``SCHEDULES``: how the learning rate falls
    warm_up : so many updates in which the learning rate first rises, in equal steps, to its height
    clip : where given, the length to which a longer gradient, of all of a network's parameters, is cut
    device : where it is trained, a name that torch knows
    """

    net: Net = field(default_factory=mlp)
    seed: int = 0
    gain: float = 1.0
    std: float | None = None
    lr: float = 0.1
    optimizer: str = "sgd"
    batch: int = 60
    steps: int = 500
    data: str = "digits"
    inputs: str = "raw"
    factors: tuple[tuple[str, float], ...] = ()
    decay: float = 0.0
    decoupled: bool = False
    decayed: tuple[str, ...] = ("weight",)
    schedule: str = "constant"
    warm_up: int = 0
    clip: float | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Reject what cannot be run."""
        if not isinstance(self.net, Net):
            raise TypeError(f"net is a {type(self.net).__name__}: give a Net, such as mlp(), or Net(inputs, layer)")
        if isinstance(self.factors, Mapping):
            raise TypeError(f"factors is {self.factors}: give pairs, {tuple(self.factors.items())}")
        if isinstance(self.decayed, str):
            raise TypeError(f"decayed is {self.decayed!r}: give a tuple, ({self.decayed!r},)")
        object.__setattr__(self, "factors", tuple(map(tuple, self.factors)))  # JSON has lists, which are no keys
        object.__setattr__(self, "decayed", tuple(self.decayed))
        if self.optimizer == "adamw":
            raise ValueError("optimizer is 'adamw': give 'adam' with decoupled=True and a decay")
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}: choose one of {list(known)}")
        factors = [(f"the factor of {name!r}", factor) for name, factor in self.factors]
        std, clip = (0.0 if value is None else value for value in (self.std, self.clip))
        named = [("gain", self.gain), ("std", std), ("lr", self.lr), ("decay", self.decay), ("clip", clip)]
        for name, value in (*named, *factors):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}: give a finite number that is not negative")
        for name in ("seed", "batch", "steps", "warm_up"):
            if not isinstance(value := getattr(self, name), Integral):
                raise ValueError(f"{name} is {value!r}: give a whole number")
            object.__setattr__(self, name, int(value))  # torch takes no NumPy one as a seed
        if self.batch < 1 or self.steps < 1:
            raise ValueError(f"batch is {self.batch} and steps {self.steps}: both must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: give a whole number from 0 on")
        if not 0 <= self.warm_up <= self.steps:
            raise ValueError(f"warm_up is {self.warm_up}: give a whole number from 0 to the {self.steps} steps")

    @property
    def program(self) -> "Run":
        """All but what the replicas of one program may differ in."""
        return replace(self, seed=0, lr=0.0, gain=1.0, std=None, decay=0.0)

    def scheduled(self, step: int) -> float:
        """The factor of the learning rate in an update, counted from 1."""
        if step <= self.warm_up:
            return step / self.warm_up
        return SCHEDULES[self.schedule]((step - 1 - self.warm_up) / max(1, self.steps - self.warm_up))


@dataclass(frozen=True, eq=False)
class History:
    """What one run gave; it may have fewer steps than asked for, if it was stopped.

    Attributes
    ----------
    run : what was run
    loss : (steps,) the mean cross-entropy of each mini-batch, in nats, before its update
    at : (evaluations,) the numbers of updates after which the network was evaluated
    val_loss, val_accuracy : (evaluations,) on the validation set; batch norm uses its running statistics, or
        with ``exact`` those of the training set
    test_accuracy : after the last update
    failed : the step (counted from 1) whose loss was not finite, or None; from there on nothing is a number but the
        accuracy, which counts as 0
    states : parameters and running statistics after the numbers of updates that were to be kept
    noted : (times, ...) what the hooks have noted, by name
    """

    run: Run
    loss: np.ndarray
    at: np.ndarray
    val_loss: np.ndarray
    val_accuracy: np.ndarray
    test_accuracy: float
    failed: int | None
    states: Mapping[int, State] = field(repr=False)
    noted: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

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


class Hook:
    """What happens before, in and after the steps of one program; this one does nothing.

    A hook may change ``program.params`` in place where no gradient is followed, and note numbers for each replica.
    """

    def __init__(self, program: "Program") -> None:
        """Before the first step."""
        self.program = program

    def tap(self, path: str, values: Tensor) -> None:
        """In the forward pass of a step, as :func:`bnlib.lab.nets.forward` taps it."""

    def loss(self) -> "Tensor | float":
        """In a step, after its forward pass: (replicas,) what is added to each replica's loss."""
        return 0.0

    def after(self, step: int) -> Mapping[str, Tensor] | None:
        """After an update, counted from 1: what is to be noted, the replicas first, if there is anything."""


class DataInit(Hook):
    """The initialization of :func:`bnlib.lab.nets.data_init`, from the first mini-batch."""

    def __init__(self, program: "Program") -> None:
        super().__init__(program)
        first = program.runs[0]
        own = [next(batches(program.examples[0].shape[1], first.batch, seed)) for seed in program.seeds]
        x, _ = program.rows(torch.stack(own))
        program.params.update(nets.data_init(program.net, program.params, x))


class Hold(Hook):
    """The weights of each unit in front of a norm are brought back to their first length after each update."""

    def __init__(self, program: "Program") -> None:
        super().__init__(program)
        normed = [
            under(path, name)
            for path, chain in walk(program.net.body)
            if isinstance(chain, Chain)
            for (name, layer), (_, behind) in pairwise(chain.parts)
            if isinstance(layer, Affine) and isinstance(behind, Norm)
        ]
        if not normed:
            raise ValueError("no affine map stands in front of a norm, so no weights can be held: leave it out")
        self.lengths = {f"{path}.weight": _lengths(program.params[f"{path}.weight"]) for path in normed}

    @torch.no_grad()
    def after(self, step: int) -> None:
        """Back to the first length."""
        for name, length in self.lengths.items():
            self.program.params[name].mul_(length / _lengths(self.program.params[name]))


@one_thread()
def train(
    runs: Sequence[Run],
    *,
    every: int | Collection[int] = 1,
    until: float | None = None,
    keep: Iterable[int] = (),
    dtype: torch.dtype = torch.float32,
    whole: bool = False,
    exact: bool = False,
    hooks: Sequence[Callable[["Program"], Hook]] = (),
) -> list[History]:
    """Train all runs, and return their histories in the same order.

    Runs that differ in nothing but seed, learning rate, gain and decay are replicas of one program, in which every
    operation is done for all of them at once; they do not see each other. A progress bar shows on a terminal and in a
    live notebook. Ctrl-C ends the training and returns what is done: a run that was not reached is left out, and the
    histories of those under way are shorter.

    Parameters
    ----------
    runs : what to train
    every : evaluate after each so many updates, or after these numbers of updates; and after the last
    until : where given, a program stops once all its replicas have reached this validation accuracy or failed
    keep : the numbers of updates after which parameters and running statistics are kept; 0 is the start
    dtype : torch.float32, or torch.float64 where trajectories are compared
    whole : let Ctrl-C raise, in place of returning what is done: for measurements, where a part is worth nothing
    exact : whether batch norm is evaluated with the statistics of the whole training set as one batch, in place of the
        running ones
    hooks : classes, with partial(Class, size=2) for what else one takes; made for each program before its first step,
        in this order

    Raises
    ------
    ValueError
        If ``every`` is below 1 or has a number below, if there is no such data set, if its examples or classes do not
        fit the network, or if a batch is larger than the training set or smaller than the norm needs.
    KeyboardInterrupt
        With ``whole``, on Ctrl-C.
    """
    times = frozenset([every] if isinstance(every, int) else every)
    if not times or min(times) < 1:
        raise ValueError(f"every is {every}: evaluate after each 1, 2, ... updates, or after a list of such numbers")
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype is {dtype!r}: give torch.float32 or torch.float64")
    histories: dict[int, History] = {}
    chunks, kept = list(_programs(runs)), set(keep)
    total = sum(runs[chunk[0]].steps * len(chunk) for chunk in chunks)
    with progress(total=total, unit="step", desc="train") as bar:
        for chunk in chunks:
            program = None
            try:
                program = Program([runs[i] for i in chunk], kept, dtype, exact, hooks)
                program.train(every if isinstance(every, int) else times, until, bar)
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
    """The indices of the runs that are replicas of one program, at most ``REPLICAS`` at a time; small batches more."""
    alike: dict[Run, list[int]] = {}
    for i, run in enumerate(runs):
        alike.setdefault(run.program, []).append(i)
    for run, indices in alike.items():
        most = REPLICAS * max(1, SMALL // run.batch)
        for start in range(0, len(indices), most):
            yield indices[start : start + most]


class Program:
    """Replicas under way: everything has the replicas as its first axis.

    Attributes
    ----------
    runs, net, seeds : the replicas' runs, their network, and the different seeds among them
    params, stats : as they are now
    moments : of the last mini-batch, by path
    examples : x ``(seeds, N, *inputs)`` and y ``(seeds, N, ...)`` of the training set
    """

    def __init__(
        self,
        runs: list[Run],
        keep: set[int] = frozenset(),  # type: ignore[assignment]
        dtype: torch.dtype = torch.float32,
        exact: bool = False,
        hooks: Sequence[Callable[["Program"], Hook]] = (),
    ) -> None:
        first, self.seeds = runs[0], sorted({run.seed for run in runs})
        self.runs, self.keep, self.net, self.dtype, self.judged_exactly = runs, keep, first.net, dtype, exact
        own = [run.seed for run in runs]
        self.params, stats = nets.start(first.net, own, [run.gain for run in runs], [run.std for run in runs], dtype)
        device = device_of(first.device)
        self.params = {name: value.to(device) for name, value in self.params.items()}
        self.stats = {path: replace(s, mean=s.mean.to(device), var=s.var.to(device)) for path, s in stats.items()}
        self._load(first, device)
        n = self.examples[0].shape[1]
        self.moments: dict[str, Any] = {}
        self.generators = [torch.Generator().manual_seed(seed) for seed in own]
        self.batches = [batches(n, first.batch, seed) for seed in self.seeds]
        self.hooks = [make(self) for make in hooks]
        names = nets.learned(first.net, self.params)
        self.learned = {name: self.params[name].requires_grad_() for name in names}
        if unknown := [name for name, _ in first.factors if not any(ends(path, name) for path in names)]:
            raise ValueError(
                f"factors names {unknown}, but what is learned are {names}: choose of those, or their ends"
            )
        undecayed = [name for name in first.decayed if not any(ends(path, name) for path in names)]
        if undecayed and any(run.decay for run in runs):
            raise ValueError(
                f"decayed names {undecayed}, but what is learned are {names}: choose of those, or their ends"
            )
        lr, decay = (
            torch.tensor([getattr(run, of) for run in runs], dtype=dtype, device=device) for of in ("lr", "decay")
        )
        self.rates, self.decays = [], []
        for name, value in self.learned.items():
            factor = next((factor for end, factor in first.factors if ends(name, end)), 1.0)
            decays = not first.decayed or any(ends(name, end) for end in first.decayed)
            shape = -1, *[1] * (value.ndim - 1)
            self.rates.append((lr * factor).reshape(shape))
            self.decays.append(decay.reshape(shape) if decays and bool(decay.any()) else None)
        self.deltas = [torch.zeros_like(value) for value in self.learned.values()]
        make_optimizer = OPTIMIZERS[first.optimizer]
        self.optimizer = None if make_optimizer is None else make_optimizer(self.deltas)

        self.losses: list[Tensor] = []
        self.evaluated: list[tuple[int, Tensor, Tensor]] = []  # after which update, loss, accuracy
        self.failed = torch.zeros(len(runs), dtype=torch.long, device=device)  # the step, or 0
        self.states: dict[int, State] = {}
        self.noted: dict[str, list[Tensor]] = {}

    def _load(self, first: Run, device: torch.device) -> None:
        """The examples of every split."""
        splits = [load(first.data, seed, first.inputs) for seed in self.seeds]
        if first.batch > (n := len(splits[0].x_train)):
            raise ValueError(
                f"batch is {first.batch}, but {first.data!r} has {n} examples to train: choose at most {n}"
            )
        if splits[0].y_train.dtype.kind not in "iu":
            raise ValueError(f"y of {first.data!r} is {splits[0].y_train.dtype} and no class: choose data with classes")
        shape, labels = splits[0].x_train.shape[1:], int(splits[0].y_train.max()) + 1
        outputs = (*splits[0].y_train.shape[1:], labels)
        if math.prod(self.net.inputs) != math.prod(shape) or self.net.outputs[:-1] != outputs[:-1]:
            raise ValueError(
                f"inputs are {self.net.inputs} and outputs {self.net.outputs}, but an example of {first.data!r} has "
                f"shape {shape} and needs {outputs}: choose inputs of that size, and a Pool where there are positions"
            )
        if self.net.outputs[-1] < labels:
            raise ValueError(
                f"classes are {self.net.outputs[-1]}, but an example of {first.data!r} is one of {labels}: choose at "
                "least so many"
            )
        self.who = torch.tensor([self.seeds.index(run.seed) for run in self.runs], device=device)  # each one's split
        arrays = [torch.as_tensor(np.stack(parts)).to(device) for parts in zip(*splits, strict=True)]
        x_train, x_val, x_test = (
            (x.to(self.dtype) if x.is_floating_point() else x).reshape(*x.shape[:2], *self.net.inputs)
            for x in arrays[::2]
        )
        y_train, y_val, y_test = arrays[1::2]
        self.examples = x_train, y_train
        self.val, self.test = (x_val[self.who], y_val[self.who]), (x_test[self.who], y_test[self.who])

    def train(self, every: int | Collection[int], until: float | None, bar: tqdm) -> None:
        """All steps, or until all replicas are there."""
        steps, reached = self.runs[0].steps, torch.zeros_like(self.failed, dtype=torch.bool)
        self._keep(0)
        for step in range(1, steps + 1):
            self._step(step)
            self._keep(step)
            if step == steps or (step % every == 0 if isinstance(every, int) else step in every):
                loss, accuracy = self.evaluate(*self.val)
                self.evaluated.append((step, loss, accuracy))
                reached |= accuracy >= (math.inf if until is None else until)
                if bool((reached | (self.failed > 0)).all()):
                    bar.update((steps - step + 1) * len(self.runs))
                    return
            bar.update(len(self.runs))

    def histories(self) -> list[History]:
        """Of each replica, so far."""
        if not self.losses:
            return []
        losses = torch.stack(self.losses).double().numpy(force=True)
        empty = np.empty((0, len(self.runs)))
        at = np.array([step for step, _, _ in self.evaluated], dtype=int)
        val_loss, val_accuracy = (
            torch.stack(values).double().numpy(force=True) if values else empty
            for values in ([loss for _, loss, _ in self.evaluated], [right for _, _, right in self.evaluated])
        )
        _, test_accuracy = self.evaluate(*self.test)
        noted = {name: torch.stack(values, 1).numpy(force=True) for name, values in self.noted.items()}
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
                {name: values[r] for name, values in noted.items()},
            )
            for r, run in enumerate(self.runs)
        ]

    def _step(self, step: int) -> None:
        first = self.runs[0]
        x, y = self.rows(torch.stack([next(batches) for batches in self.batches]))
        logits, self.moments = nets.forward(
            self.net,
            self.params,
            x,
            running=self.stats,
            generators=self.generators,
            tap=self._tap if self.hooks else None,
        )
        loss = each_loss(logits, y)
        # The replicas' losses are summed, and each depends on its own parameters alone.
        whole = loss
        for hook in self.hooks:
            whole = whole + self._each(f"the loss of {type(hook).__name__}", hook.loss())
        grads = list(torch.autograd.grad(whole.sum(), list(self.learned.values())))
        if first.clip is not None:
            clip(grads, first.clip)
        self._move(grads, first.scheduled(step))
        self.stats = {path: stats.averaged(self.moments[path]) for path, stats in self.stats.items()}
        loss = loss.detach()
        self.failed = torch.where((self.failed == 0) & ~loss.isfinite(), step, self.failed)
        self.losses.append(torch.where(self.failed > 0, math.nan, loss))
        for hook in self.hooks:
            for name, values in (hook.after(step) or {}).items():
                noted = self._each(f"{name!r} of {type(hook).__name__}", values)
                self.noted.setdefault(name, []).append(noted.detach().clone())  # the parameters go on changing

    def _each(self, what: str, values: Any) -> Any:
        """What a hook gives, if it is zero or has a value for each replica."""
        if isinstance(values, Tensor) and values.shape[:1] != (len(self.runs),):
            raise ValueError(
                f"{what} has shape {tuple(values.shape)}, but ({len(self.runs)}, ...) is needed: replicas first"
            )
        return values

    @torch.no_grad()
    def _move(self, grads: list[Tensor], factor: float) -> None:
        """One update of all that is learned, at the learning rate times a factor."""
        values, decoupled = list(self.learned.values()), self.runs[0].decoupled
        decays = [None if decoupled else decay for decay in self.decays]
        grads = [g if d is None else g + d * v for g, d, v in zip(grads, decays, values, strict=True)]
        moves, sign = grads, -1.0
        if self.optimizer is not None:
            for delta, grad in zip(self.deltas, grads, strict=True):
                delta.zero_()
                delta.grad = grad
            self.optimizer.step()  # each delta was 0, and is now the update for a learning rate of 1
            moves, sign = self.deltas, 1.0
        for value, move, rate, decay in zip(values, moves, self.rates, self.decays, strict=True):
            if decay is not None and decoupled:
                value.addcmul_(value, decay * rate, value=-factor)
            value.addcmul_(move, rate, value=sign * factor)

    def _tap(self, path: str, values: Tensor) -> None:
        for hook in self.hooks:
            hook.tap(path, values)

    def rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The mini-batch (replicas, batch, ...) of each replica, from the rows (seeds, batch) of each seed."""
        n, (replicas, batch) = self.examples[0].shape[1], (len(self.who), rows.shape[1])
        flat = (self.who[:, None] * n + rows.to(self.who.device)[self.who]).flatten()
        x, y = (a.flatten(0, 1).index_select(0, flat).unflatten(0, (replicas, batch)) for a in self.examples)
        return x, y

    def training_set(self) -> tuple[Tensor, Tensor]:
        """The training set of each replica: x ``(replicas, N, *inputs)`` and y ``(replicas, N, ...)``."""
        x, y = (a[self.who] for a in self.examples)
        return x, y

    @torch.no_grad()
    def exact(self) -> Stats:
        """The statistics of the whole training set, as one batch: each layer is fed by layers below that use theirs."""
        _, moments = nets.forward(self.net, self.params, self.training_set()[0])
        return {path: RunningStats(m.mean, m.var) for path, m in moments.items()}

    @torch.no_grad()
    def evaluate(self, x: Tensor, y: Tensor, stats: Stats | None = None) -> tuple[Tensor, Tensor]:
        """(replicas,) loss and accuracy; of a replica that is no longer finite nan and 0.

        Parameters
        ----------
        x, y : (replicas, N, ...)
        stats : of batch norm, in place of those that the training uses for it
        """
        stats = stats if stats is not None else self.exact() if self.judged_exactly else self.stats
        at_once = max(1, EVALUATED // (x.numel() // x.shape[1]))
        logits = torch.cat([nets.forward(self.net, self.params, part, stats)[0] for part in x.split(at_once, 1)], 1)
        found = logits.max(-1).indices  # torch.argmax takes four times as long
        loss, right = each_loss(logits, y), (found == y).double().flatten(1).mean(1)
        lost = (self.failed > 0) | ~loss.isfinite()
        return torch.where(lost, math.nan, loss), torch.where(lost, 0.0, right)

    def _keep(self, step: int) -> None:
        if step in self.keep:
            self.states[step] = State({name: value.detach().clone() for name, value in self.params.items()}, self.stats)

    def _of(self, r: int, params: dict[str, Tensor], stats: Stats) -> State:
        n = len(self.runs)
        own = {
            path: replace(s, mean=s.mean.reshape(n, -1)[r].clone(), var=s.var.reshape(n, -1)[r].clone())
            for path, s in stats.items()
        }
        return State({name: value[r : r + 1].clone() for name, value in params.items()}, own)


def device_of(name: str) -> torch.device:
    """The device of that name, or a ValueError if this machine has none that computes."""
    try:
        torch.zeros(1, device=name).item()  # "meta" has no values
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"device is {name!r}, on which nothing can be trained here ({error}): give 'cpu'") from error
    return torch.device(name)


def ends(path: str, end: str) -> bool:
    """Whether a path ends with these names."""
    return path == end or path.endswith(f".{end}")


def clip(grads: list[Tensor], length: float) -> None:
    """Cut the gradient of each replica, over all its parameters, to this length where it is longer; in place."""
    squares = torch.stack([grad.square().flatten(1).sum(1) for grad in grads]).sum(0)
    factor = (length / squares.sqrt()).clamp(max=1.0)
    for grad in grads:
        grad.mul_(torch.where(squares > 0, factor, 1.0).reshape(-1, *[1] * (grad.ndim - 1)))


@torch.no_grad()
def _lengths(weight: Tensor) -> Tensor:
    """The length of each unit's weights, with an axis of length 1 for each of theirs."""
    return weight.square().sum(tuple(range(2, weight.ndim)), keepdim=True).sqrt()


def each_loss(logits: Tensor, y: Tensor) -> Tensor:
    """The mean cross-entropy of each replica, in nats: logits (replicas, N, ..., classes), y (replicas, N, ...)."""
    return cross_entropy(logits.movedim(-1, 1), y, reduction="none").flatten(1).mean(1)


def batches(n: int, batch: int, seed: int) -> Iterator[Tensor]:
    """The rows of one mini-batch after the other: epochs in random order, without their remainder."""
    rng = np.random.default_rng([seed, 1])
    while True:
        rows = rng.permutation(n)
        for start in range(0, n - batch + 1, batch):
            yield torch.as_tensor(rows[start : start + batch])
