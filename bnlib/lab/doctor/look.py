"""What is seen of a model: the moments at every batch norm in each mode, who depends on whom, and a few trial steps."""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from bnlib._array import said

EVAL, TRAIN, QUIET = "eval", "train", "quiet"  # quiet: the batch's statistics, and nothing else of train mode
VAL = "val"  # the validation batches, in eval mode
STEP = "step"  # one step's way forward, the loss included
KEPT = 16  # examples of which outputs are kept, to compare
SHOWN = 1024  # numbers of each
STEPS = 5  # of a trial
TOO_FEW = "Expected more than 1 value per channel"


class Call(NamedTuple):
    """What one batch norm was given in one call: (C,) each where nothing else is said."""

    mean: Tensor
    var: Tensor  # unbiased
    between: Tensor  # unbiased variance of the examples' means; nan for a single example
    examples: int
    values: int  # values behind each mean
    largest: Tensor  # (), the largest absolute value
    dtype: torch.dtype
    turn: int  # of the calls in this batch, from 0


class Moments(NamedTuple):
    """Of several calls together: means over them, in float64, (C,) each."""

    mean: Tensor
    each: Tensor  # the batches' variances, averaged, as running statistics are
    spread: Tensor  # the variance of the batches' means; nan for one batch
    between: Tensor
    calls: int
    examples: float
    values: float
    largest: float

    @property
    def varies(self) -> Tensor:
        """The channels whose values are not all the same, but for rounding."""
        return ~(self.each <= 1e-12 * (1 + self.mean.square()))


@dataclass
class Norm:
    """One batch norm, or another module with running_mean and running_var.

    Attributes
    ----------
    training : whether it uses the batch as the model is trained
    mean, var, steps : what it had stored when it was handed over; None where it stores nothing
    calls : what it was given, by mode, in order
    producer : the module whose output it is given, as it is
    consumers : the modules that are given its output, as it is
    highest, pinned : of its output by channel: the maximum, and the least share beyond 6 in a batch, in quiet mode
    trained : whether there is a sign that the weights around it have been trained
    turn : how often it has been called with the present batch
    """

    name: str
    module: Any
    training: bool
    was_training: bool
    mean: Tensor | None
    var: Tensor | None
    steps: int | None
    calls: dict[str, list[Call]] = field(default_factory=dict)
    producer: str | None = None
    consumers: list[str] = field(default_factory=list)
    highest: Tensor | None = None
    pinned: Tensor | None = None
    turn: int = 0
    trained: bool = False

    @property
    def momentum(self) -> float | None:
        """The weight of the newest batch; None for the plain average."""
        return getattr(self.module, "momentum", 0.1)

    @property
    def eps(self) -> float:
        """What is added to the variance."""
        return getattr(self.module, "eps", 1e-5)

    @property
    def gamma(self) -> Tensor | None:
        """The scale, (C,)."""
        return getattr(self.module, "weight", None)

    @property
    def beta(self) -> Tensor | None:
        """The shift, (C,)."""
        return getattr(self.module, "bias", None)

    @property
    def stored(self) -> bool:
        """Whether it stores statistics."""
        return self.mean is not None and self.var is not None

    @property
    def start_left(self) -> float:
        """The share of the start that the running average still has."""
        if self.steps is None:
            return 0.0
        if self.momentum is None:
            return float(self.steps == 0)
        return (1 - self.momentum) ** self.steps

    def moments(self, mode: str, turn: int | None = None) -> Moments | None:
        """What it was given in a mode, by all calls or by one of each batch; None if it was not called."""
        return together([call for call in self.calls.get(mode, []) if turn in (None, call.turn)])


def together(calls: Sequence[Call]) -> Moments | None:
    """The moments of several calls."""
    if not calls:
        return None
    means, each, between = (
        torch.stack([getattr(call, name) for call in calls]).double().cpu() for name in ("mean", "var", "between")
    )
    mean = means.mean(0)
    known = between[~between.isnan().any(1)]
    counts = [call.values for call in calls]
    return Moments(
        mean,
        each.mean(0),
        means.var(0) if len(calls) > 1 else torch.full_like(mean, math.nan),
        known.mean(0) if len(known) else torch.full_like(mean, math.nan),
        len(calls),
        sum(call.examples for call in calls) / len(calls),
        sum(counts) / len(counts),
        max(call.largest.item() for call in calls),
    )


class Trace(NamedTuple):
    """The outputs of leaf modules in order, of a few examples each, and whether all of the output was finite."""

    names: list[str]
    outputs: list[Tensor]
    finite: list[bool]
    result: Tensor | None


class Company(NamedTuple):
    """How far an example's output in eval mode depends on the others of its batch."""

    change: float  # relative to the largest output
    first: str  # the first module at which it does


class Step(NamedTuple):
    """One trial step: by layer in front of a batch norm."""

    loss: float  # before it, on the batch
    angles: dict[str, float]  # by which the weights turned
    growth: dict[str, float]  # of their length, as a factor


class Trial(NamedTuple):
    """A few steps on one batch, as the model is trained; undone afterwards."""

    steps: list[Step]
    last: float  # the loss after them
    updates: dict[str, tuple[int, int]]  # of each norm's statistics in one step: going forward, and going backward


@dataclass
class Seen:
    """All that the rules go by.

    Attributes
    ----------
    used : whether the model is judged as it is used, since neither optimizer nor loss was given
    switchable : whether train() and eval() work; not so for modules of torch.export
    norms : by name, in the order in which they are called
    others : modules with a mode that matters, such as dropout: whether each was in train mode
    raised : what a batch norm said that was given too few values, if it did
    classes, kinds_of_labels : how many there are in each batch, and in all
    idle : layers whose bias has no effect, because of the norm behind
    open : what could not be looked at, in sentences
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    batches: int
    examples: int
    used: bool
    was_training: bool
    switchable: bool = True
    norms: dict[str, Norm] = field(default_factory=dict)
    others: dict[str, bool] = field(default_factory=dict)
    kinds: dict[str, nn.Module] = field(default_factory=dict)
    raised: str = ""
    company: Company | None = None
    apart: tuple[float, str] | None = None
    broken: str | None = None
    broken_input: int = 0
    constant: bool = False
    with_grad: frozenset[int] = frozenset()
    leak: float | None = None
    classes: list[int] = field(default_factory=list)
    kinds_of_labels: int = 0
    idle: list[str] = field(default_factory=list)
    trial: Trial | None = None
    unfrozen: Trial | None = None
    deployed: Any = None  # of bnlib.lab.doctor.rules.deployed
    processes: int = 1
    open: list[str] = field(default_factory=list)

    def using(self, mode: str = TRAIN) -> Iterator[tuple[Norm, Moments]]:
        """The norms that were called in a mode, and what they were given."""
        for norm in self.norms.values():
            if (found := norm.moments(mode)) is not None:
                yield norm, found


def is_norm(module: nn.Module) -> bool:
    """Whether it is a batch norm, or another module that stores a running mean and variance."""
    stored = getattr(module, "running_mean", None), getattr(module, "running_var", None)
    own = all(isinstance(t, Tensor) and t.ndim == 1 for t in stored) and not isinstance(module, _InstanceNorm)
    return isinstance(module, _BatchNorm) or own


def described(name: str, module: nn.Module) -> Norm:
    """A norm as it was handed over; one without a momentum, such as a frozen or a traced one, never uses the batch."""
    mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
    count = getattr(module, "num_batches_tracked", None)
    return Norm(
        name or type(module).__name__,
        module,
        module.training and hasattr(module, "momentum"),
        module.training and hasattr(module, "momentum"),
        mean.detach().double().cpu().clone() if isinstance(mean, Tensor) else None,
        var.detach().double().cpu().clone() if isinstance(var, Tensor) else None,
        int(count) if isinstance(count, Tensor) and mean is not None else None,
    )


# Batches


class Batch(NamedTuple):
    """What the model is called with, and what the loss is given besides its output."""

    inputs: tuple[Any, ...]
    named: dict[str, Any]
    targets: tuple[Any, ...]

    @property
    def examples(self) -> int:
        """The length of the first axis."""
        return next((t.shape[0] for t in tensors((self.inputs, self.named)) if t.ndim), 1)


def batch_of(given: Any, device: torch.device) -> Batch:
    """A batch in any of its forms, on the model's device."""
    moved = over(lambda t: t.to(device), given)
    if isinstance(moved, dict):
        return Batch((), moved, (moved,))
    if isinstance(moved, tuple | list):
        if not moved:
            raise ValueError("a batch is empty: give (inputs, targets), inputs alone, or a dict of named inputs")
        inputs = tuple(moved[0]) if isinstance(moved[0], tuple | list) else (moved[0],)
        return Batch(inputs, {}, tuple(moved[1:]))
    if isinstance(moved, Tensor):
        return Batch((moved,), {}, ())
    raise ValueError(f"a batch is {said(given)}: give a tensor, (inputs, targets), or a dict of named inputs")


def over(function: Callable[[Tensor], Any], value: Any) -> Any:
    """The same structure with a function applied to its tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: over(function, v) for key, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(over(function, v) for v in value))
    if isinstance(value, tuple | list):
        return type(value)(over(function, v) for v in value)
    return value


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of an output or an input, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from tensors(v)
    elif isinstance(value, tuple | list):
        for v in value:
            yield from tensors(v)
    elif hasattr(value, "to_tuple"):  # outputs of some libraries
        yield from tensors(value.to_tuple())
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors([getattr(value, own.name) for own in fields(value)])


def fresh(batch: Batch) -> Batch:
    """A copy, since a model may write into its inputs."""
    return over(torch.clone, batch)


def in_other_company(batch: Batch) -> Batch:
    """The first half of the examples, and once more in place of the second half."""
    n = batch.examples
    rows = torch.arange(n) % ((n + 1) // 2)
    return over(lambda t: t[rows.to(t.device)] if t.ndim and t.shape[0] == n else t, batch)


def first_of(output: Any) -> Tensor | None:
    """The first tensor of floats in an output."""
    return next((t.detach() for t in tensors(output) if t.is_floating_point() and t.ndim), None)


def no_numbers(t: Tensor) -> bool:
    """Whether there is a NaN or an infinity; a minus infinity may be a mask."""
    return t.is_floating_point() and bool((t.isnan() | (t == math.inf)).any())


# Modes


def switch(model: nn.Module, mode: bool) -> bool:
    """Train or eval mode; False if the model cannot be switched."""
    try:
        model.train(mode)
    except NotImplementedError:  # from torch.export
        return False
    return True


class Modes:
    """Sets the modes in which a model is looked at."""

    def __init__(self, model: nn.Module, as_given: bool, norms: Iterable[nn.Module]) -> None:
        self.model = model
        if not as_given:
            switch(model, True)
        self.train = {module: module.training for module in model.modules()}
        self.norms = [norm for norm in norms if self.train[norm]]

    def set(self, mode: str) -> None:
        """Set the modes of all modules."""
        if mode == TRAIN:
            switch(self.model, True)
            for module, training in self.train.items():
                if module.training != training:
                    module.training = training
            return
        switch(self.model, False)
        for norm in self.norms if mode == QUIET else ():
            norm.training = True


# Looking


@contextmanager
def hooked(handles: list[Any]) -> Iterator[None]:
    """Remove hooks at the end."""
    try:
        yield
    finally:
        stop(handles)


def stop(handles: Iterable[Any]) -> None:
    """Remove hooks."""
    for handle in handles:
        handle.remove()


def looked_at(x: Tensor, turn: int) -> Call:
    """The moments of a batch norm's input, (N, C, ...) or (N, C)."""
    z = x.detach()
    z = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
    if z.ndim < 2:
        z = z[:, None]
    rows = z.flatten(2) if z.ndim > 2 else z[:, :, None]  # (N, C, P)
    per_example = rows.mean(2)  # (N, C)
    mean = per_example.mean(0)  # (C,)
    squares = (rows - mean[:, None]).square().sum((0, 2))
    count = rows.shape[0] * rows.shape[2]
    between = per_example.var(0) if len(rows) > 1 else torch.full_like(mean, math.nan)
    largest = rows.abs().max()
    return Call(mean, squares / max(count - 1, 1), between, len(rows), count, largest, x.dtype, turn)


def watch(norms: Iterable[Norm], mode: str) -> list[Any]:
    """Hooks that note what each norm is given, and in quiet mode what comes out."""

    def before(norm: Norm) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor) and inputs[0].numel():
                norm.calls.setdefault(mode, []).append(looked_at(inputs[0], norm.turn))
                norm.turn += 1

        return hook

    def after(norm: Norm) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim > 1 and output.numel():
                rows = output.detach().transpose(0, 1).flatten(1)  # (C, values)
                highest = rows.amax(1).cpu()
                norm.highest = highest if norm.highest is None else torch.maximum(norm.highest, highest)
                pinned = (rows.abs() > 6).double().mean(1).cpu()
                norm.pinned = pinned if norm.pinned is None else torch.minimum(norm.pinned, pinned)

        return hook

    handles = [norm.module.register_forward_pre_hook(before(norm)) for norm in norms]
    if mode == QUIET:
        handles += [norm.module.register_forward_hook(after(norm)) for norm in norms]
    return handles


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    """The modules without modules inside, and norms, by name."""
    return {
        name or type(module).__name__: module
        for name, module in model.named_modules()
        if is_norm(module) or not any(True for _ in module.children())
    }


def traced(model: nn.Module, call: Callable[[], Any]) -> Trace:
    """Run, and keep a little of every leaf module's output."""
    trace = Trace([], [], [], None)

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for t in tensors(output):
                if t.is_floating_point() and t.ndim:
                    trace.names.append(name)
                    trace.outputs.append(_a_little(t))
                    trace.finite.append(not no_numbers(t))

        return hook

    handles = []
    if not isinstance(model, torch.jit.ScriptModule):
        handles = [module.register_forward_hook(keep(name)) for name, module in leaves(model).items()]
    with hooked(handles), torch.no_grad():
        output = call()
    first = first_of(output)
    return trace._replace(result=None if first is None else _a_little(first))


def _a_little(t: Tensor) -> Tensor:
    flat = t.detach()[:KEPT].flatten(1) if t.ndim > 1 else t.detach()[:KEPT, None]
    stride = max(1, flat.shape[1] // SHOWN)
    return flat[:, ::stride].double().cpu() if t.device.type != "mps" else flat[:, ::stride].cpu().double()


def connect(seen: Seen, call: Callable[[], Any]) -> None:
    """Find out whose output each norm is given as it is, and who is given the norm's."""
    made: dict[int, tuple[weakref.ref[Tensor], str, int]] = {}

    def maker(t: Tensor) -> str | None:
        for candidate in (t, t._base):  # a view of an output is that output
            if candidate is None or id(candidate) not in made:
                continue
            who, name, version = made[id(candidate)]
            if who() is candidate and candidate._version == version:
                return name
        return None

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            for t in tensors(inputs):
                if (source := maker(t)) is None:
                    continue
                if name in seen.norms:
                    seen.norms[name].producer = source
                if source in seen.norms:
                    seen.norms[source].consumers.append(name)

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if name in seen.norms and name not in order:
                order.append(name)
            if isinstance(module, nn.Identity):
                return
            for t in tensors(output):
                made[id(t)] = weakref.ref(t), name, t._version

        return hook

    order: list[str] = []
    found = leaves(seen.model)
    handles = [module.register_forward_pre_hook(before(name)) for name, module in found.items()]
    handles += [module.register_forward_hook(after(name)) for name, module in found.items()]
    with hooked(handles), torch.no_grad():
        call()
    seen.norms = {name: seen.norms[name] for name in order} | seen.norms


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest number."""
    scale = max(a.abs().max().item(), b.abs().max().item(), 1e-30)
    return (a - b).abs().max().item() / scale if a.isfinite().all() and b.isfinite().all() else math.nan


def tolerance(model: nn.Module) -> float:
    """What rounding explains, by the coarsest dtype of the model."""
    kinds = {t.dtype for t in [*model.parameters(), *model.buffers()] if t.is_floating_point()}
    return 0.05 if kinds & {torch.float16, torch.bfloat16} else 1e-3


def distance(of_eval: Tensor, one: Tensor, other: Tensor) -> float:
    """How far the output of eval mode lies from train mode's, in its spread over examples, without train mode's noise.

    one and other are two runs in train mode, which differ by its noise alone.
    """
    spread = (one - one.mean(0)).square().mean().item()
    bias = (of_eval - one).square().mean().item() - (one - other).square().mean().item() / 2
    if not math.isfinite(bias) or spread <= 1e-20:
        return 0.0
    return math.sqrt(max(bias, 0.0) / spread)


def causal_leak(run: Callable[[Batch, str], Tensor | None], batch: Batch, tolerance: float) -> float | None:
    """How far outputs in train mode depend on later positions, if in eval mode they don't; else None.

    A model counts as causal if in eval mode its output at a position depends on earlier positions and not on later
    ones. Positions are an axis that input and output share.
    """
    inputs = [t for t in tensors(batch.inputs) if t.ndim in (2, 3)]
    if len(inputs) != 1 or batch.examples < 2:
        return None
    x = inputs[0]
    plain = run(batch, EVAL)
    if plain is None or plain.ndim < 2 + (x.ndim == 3):
        return None
    for a in range(1, x.ndim):
        length = x.shape[a]
        for b in [b for b in range(1, plain.ndim) if plain.shape[b] == length and length > 2]:
            cut = length // 2

            def swapped(start: int, stop: int, a: int = a) -> Batch:
                mixed = x.clone()
                rows = (slice(None),) * a + (slice(start, stop),)
                mixed[rows] = x.roll(1, 0)[rows]
                return Batch(tuple(mixed if t is x else t for t in batch.inputs), batch.named, batch.targets)

            def change(batch_: Batch, mode: str, start: int, stop: int, b: int = b) -> float:
                ours, theirs = run(batch, mode), run(batch_, mode)
                if ours is None or theirs is None:
                    return math.nan
                return apart(ours.narrow(b, start, stop - start), theirs.narrow(b, start, stop - start))

            later, earlier = swapped(cut, length), swapped(0, cut)
            if change(later, EVAL, 0, cut) < tolerance < change(earlier, EVAL, cut, length):
                leak = change(later, TRAIN, 0, cut)
                return leak if leak > tolerance else None
    return None


def angle(a: Tensor, b: Tensor) -> float:
    """Between two weights, in radians; by the difference of the unit vectors, which is exact for small angles."""
    a, b = a.double() / a.double().norm(), b.double() / b.double().norm()
    return 2 * math.asin(min(1.0, (a - b).norm().item() / 2)) if (a - b).isfinite().all() else math.nan


def tried(
    seen: Seen,
    batch: Batch,
    loss: Callable[..., Tensor],
    optimizer: torch.optim.Optimizer | None,
) -> Trial:
    """Train for a few steps on one batch, in the modes that are set; the caller puts everything back."""
    model = seen.model
    backward = False
    calls = {name: [0, 0] for name in seen.norms}

    def count(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            calls[name][backward] += module.training

        return hook

    weights = {front.producer: front.weights for front in fronts(seen) if front.weights.requires_grad}
    found: list[Step] = []
    # A copy of the optimizer with a state of its own, on the same parameters.
    own, params = None, []
    if optimizer is not None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        own = copy.deepcopy(optimizer, {id(p): p for p in params})
    handles = [norm.module.register_forward_pre_hook(count(name)) for name, norm in seen.norms.items()]
    handles += watch(seen.norms.values(), STEP)
    updates: dict[str, tuple[int, int]] = {}

    def forward() -> Tensor:
        for norm in seen.norms.values():
            norm.turn = 0
        inputs, named, targets = fresh(batch)
        try:
            return scalar(loss(model(*inputs, **named), *targets))
        except Exception as error:
            error.add_note("examine called model and loss in a trial step.")
            raise

    with hooked(handles), torch.enable_grad():
        for _ in range(STEPS if own else 1):
            for p in model.parameters() if own is None else params:
                p.grad = None
            before = {name: w.detach().clone() for name, w in weights.items()}
            backward = False
            value = forward()
            if not found:
                stop(handles[len(seen.norms) :])
            backward = True
            if value.requires_grad:
                value.backward()
            if not found:
                updates = {name: (once, again) for name, (once, again) in calls.items()}
            if own is None:
                found.append(Step(value.item(), {}, {}))
                break
            try:
                own.step()
            except (TypeError, RuntimeError) as error:  # one that wants a closure, or sparse gradients
                seen.open.append(f"Steps were not tried: {type(own).__name__} raised {str(error).splitlines()[0]!r}.")
                return Trial([], math.nan, updates)
            angles = {name: angle(before[name], w.detach()) for name, w in weights.items()}
            growth = {name: (w.detach().norm() / before[name].norm()).item() for name, w in weights.items()}
            found.append(Step(value.item(), angles, growth))
        with torch.no_grad():
            last = forward().item()
    return Trial(found, last, updates)


def scalar(value: Any) -> Tensor:
    """The loss as a tensor of one number."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ValueError(f"the loss is {said(value)}: give one number, such as the mean over the batch")
    return value.reshape(())


class Front(NamedTuple):
    """A layer whose output a batch norm is given as it is."""

    producer: str
    norm: str
    weights: Tensor


def fronts(seen: Seen) -> Iterator[Front]:
    """The linear and convolution layers right in front of batch norms that use the batch, each once."""
    for name, norm in seen.norms.items():
        layer = seen.kinds.get(norm.producer or "")
        weights = layer.weight if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) else None
        if norm.training and isinstance(weights, nn.Parameter):  # not one that is computed
            yield Front(norm.producer or "", name, weights)
