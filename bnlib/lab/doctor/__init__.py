"""A doctor for models with batch norm: it looks at a PyTorch model with a few batches, and names what is wrong.

``look.py`` sees, and the modules in ``rules`` judge. From the command line: ``python -m bnlib.lab.doctor
package.module:factory``, where the factory returns the arguments of :func:`examine`, by name, in a dict.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from bnlib._array import said
from bnlib.lab.doctor import look, rules
from bnlib.lab.doctor.keep import untouched
from bnlib.lab.doctor.look import EVAL, QUIET, TRAIN, VAL, Batch, Modes, Seen
from bnlib.lab.doctor.report import Finding, Number, Report
from bnlib.lab.train import progress

__all__ = ["Finding", "Number", "Report", "examine"]


def examine(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable[..., Tensor] | None = None,
    val_batches: Iterable[Any] | None = None,
    deployed: Callable[..., Any] | None = None,
    at_most: int = 16,
) -> Report:
    """Look at a model with batch norm, and name what is wrong, worst first, with the remedy.

    The model is left as it was, bit for bit: parameters, buffers, gradients, modes, hooks and the global random states,
    also if a batch raises an error. So are loss and deployed, if they are modules; what a function closes over is not.
    Without optimizer and loss the model is judged as it is used, in its present modes. With one of them it is judged as
    it is trained; norms that are in eval mode while the model is in train mode are then taken to be frozen. With both,
    a few steps are tried, and undone.

    Parameters
    ----------
    model : on any device; batches are moved there. Of a wrapper for several devices the module inside is examined
    batches : of the training data, as in training: tensors, ``(inputs, targets)`` or dicts of named inputs; inputs may
        be a tuple, the model's arguments. The first axis are the examples. About eight are enough; of one alone, what
        differs between batches cannot be seen
    optimizer : of the model; it is copied, not used
    loss : ``loss(output, *targets)``, one number; of a dict, ``loss(output, batch)``
    val_batches : of what the model is evaluated on
    deployed : what answers in use, such as an exported or folded model; called as the model is
    at_most : so many batches are looked at

    Returns
    -------
    report : its ``findings``; it shows itself as text and as HTML

    Raises
    ------
    ValueError
        If there is no batch, or a batch, the loss, the optimizer or ``at_most`` is not as described.
    Exception
        What the model itself raises, with a note that says in which mode and on which batch.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is {said(model)}: pass the module itself")
    if not isinstance(at_most, int) or isinstance(at_most, bool) or at_most < 1:
        raise ValueError(f"at_most is {said(at_most)}: give a number of batches, 1 or more")
    for name, value in (("loss", loss), ("deployed", deployed)):
        if value is not None and not callable(value):
            raise ValueError(f"{name} is {said(value)}: pass a function")
    if isinstance(model, DataParallel | DistributedDataParallel):
        model = model.module
    model = getattr(model, "_orig_mod", model)  # compiled
    if optimizer is not None:
        _check(model, optimizer)
    _check_tensors([*model.parameters(), *model.buffers()])
    with_grad = frozenset(id(p) for p in model.parameters() if p.grad is not None)
    params = [p for group in (optimizer.param_groups if optimizer else []) for p in group["params"]]
    keep = partial(untouched, model, *(m for m in (loss, deployed) if isinstance(m, nn.Module)), more=params)
    with keep():
        device = next((t.device for t in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
        given, val = (
            _taken(which, b, device, at_most) for which, b in (("batches", batches), ("val_batches", val_batches))
        )
        if not given:
            raise ValueError("there is no batch: give a few of the training data, such as itertools.islice(loader, 8)")
        seen = _seen(model, given, val, optimizer, loss, deployed, with_grad, keep)
        return rules.judge(seen)


def _check(model: nn.Module, optimizer: Any) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError(f"optimizer is {said(optimizer)}: pass a torch.optim.Optimizer")
    own = {id(p) for p in model.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            "optimizer has no parameter of the model: pass the one that trains it, made after model.to(...)"
        )


def _taken(name: str, batches: Iterable[Any] | None, device: torch.device, at_most: int) -> list[Batch]:
    if batches is None:
        return []
    if isinstance(batches, Tensor):
        raise ValueError(f"{name} is one tensor of shape {tuple(batches.shape)}: give a list of batches, [x]")
    if not isinstance(batches, Iterable):
        raise ValueError(f"{name} is {said(batches)}: give several batches, such as itertools.islice(loader, 8)")
    taken = [look.batch_of(batch, device) for batch in islice(batches, at_most)]
    for i, batch in enumerate(taken):
        if batch.examples == 0 or not (batch.inputs or batch.named):
            raise ValueError(f"{name}[{i}] has no example: leave it out")
    return taken


def _check_tensors(tensors: list[Tensor]) -> None:
    if any(map(is_lazy, tensors)):
        raise ValueError("the model has lazy modules without shapes: call it once before it is examined")
    if any(t.is_meta for t in tensors):
        raise ValueError("the model is on the meta device and has no numbers: load its weights first")
    if torch.is_inference_mode_enabled():
        raise ValueError("inference mode is on, where changes cannot be followed: leave torch.inference_mode() first")


def _seen(
    model: nn.Module,
    batches: list[Batch],
    val: list[Batch],
    optimizer: torch.optim.Optimizer | None,
    loss: Callable[..., Tensor] | None,
    deployed: Callable[..., Any] | None,
    with_grad: frozenset[int],
    keep: Callable[[], Any],
) -> Seen:
    used = optimizer is None and loss is None
    seen = Seen(model, optimizer, len(batches), batches[0].examples, used, model.training, with_grad=with_grad)
    seen.broken_input = sum(any(map(look.no_numbers, look.tensors(b.inputs))) for b in batches)
    seen.kinds = {name or type(m).__name__: m for name, m in model.named_modules()}
    given = {name: m.training for name, m in seen.kinds.items()}
    seen.others = {n: given[n] for n, m in seen.kinds.items() if isinstance(m, nn.modules.dropout._DropoutNd)}
    norms = [m for m in model.modules() if look.is_norm(m)]
    described = {n: look.described(n, m) for n, m in seen.kinds.items() if look.is_norm(m)}
    seen.norms = described
    seen.switchable = look.switch(model, model.training)
    for name, m in seen.kinds.items():  # an overridden train() may have changed them
        m.training = given[name]
    modes = Modes(model, model.training and not used, norms)
    averaged = any(isinstance(m, AveragedModel) for m in model.modules())  # may average the counts of batches, too
    for norm in described.values():
        norm.steps = None if averaged else norm.steps
        norm.training = modes.train[norm.module] and hasattr(norm.module, "momentum")
        norm.trained = rules.trained(seen, norm)
    labels = [b.targets[0].unique() for b in batches if _labels(b)]
    seen.classes = [len(own) for own in labels]
    seen.kinds_of_labels = len(torch.cat(labels).unique()) if labels else 0
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        seen.processes = torch.distributed.get_world_size()
    looking = _Looking(seen, modes, keep, len(batches), len(val))
    with looking.bar:
        looking.all(batches, val, loss, deployed)
    return seen


def _labels(batch: Batch) -> bool:
    y = batch.targets[0] if batch.targets else None
    return isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point() and len(y) == batch.examples > 1


class _Looking:
    """The passes over the batches, with a progress bar; what is seen goes into ``seen``."""

    def __init__(self, seen: Seen, modes: Modes, keep: Callable[[], Any], batches: int, val: int) -> None:
        self.seen, self.modes, self.model, self.keep = seen, modes, seen.model, keep
        self.bar = progress(total=3 * batches + val + 4, desc="examining", unit=" passes")

    def all(self, batches: list[Batch], val: list[Batch], loss: Callable[..., Tensor] | None, deployed: Any) -> None:
        seen = self.seen
        enough = [b for b in batches if b.examples > 1] or batches[:1]
        self.modes.set(EVAL)
        look.connect(seen, lambda: self.call(batches[0], EVAL, 0))
        self.passes(batches, EVAL)
        self.passes(val, VAL)
        self.dependence(enough[0])
        if deployed is not None:
            seen.deployed = rules.compared(seen, deployed, enough[0], lambda b: self.run(b, EVAL))
        self.bar.update()
        with self.keep():  # these move the running statistics
            self.passes(batches, TRAIN)
            if not seen.raised:
                self.passes(batches, QUIET)
        if not seen.raised and seen.switchable:
            with self.keep():
                self.biases(enough[0])
            with self.keep():
                self.modes_apart(enough[0])
                seen.leak = look.causal_leak(self.run, enough[0], look.tolerance(self.model))
        self.bar.update()
        if loss is not None and not seen.raised and seen.switchable:
            self.trial(enough[0], loss)
        self.bar.update()

    def call(self, batch: Batch, mode: str, i: int) -> Any:
        batch = look.fresh(batch)
        try:
            return self.model(*batch.inputs, **batch.named)
        except ValueError as error:
            if mode in (TRAIN, QUIET) and str(error).startswith(look.TOO_FEW):
                self.seen.raised = str(error)
                return None
            error.add_note(_note(mode, i))
            raise
        except Exception as error:
            error.add_note(_note(mode, i))
            raise

    def passes(self, batches: list[Batch], mode: str) -> None:
        norms = self.seen.norms.values()
        self.modes.set(EVAL if mode == VAL else mode)
        with look.hooked(look.watch(norms, mode)), torch.no_grad():
            for i, batch in enumerate(batches):
                for norm in norms:
                    norm.turn = 0
                self.call(batch, mode, i)
                self.bar.update()

    def run(self, batch: Batch, mode: str) -> Tensor | None:
        """The first output of a batch, each time with the same random numbers."""
        self.modes.set(mode)
        with torch.random.fork_rng(devices=_cuda(self.model)), torch.no_grad():
            _seed()
            return look.first_of(self.call(batch, mode, 0))

    def trace(self, batch: Batch, mode: str) -> look.Trace:
        self.modes.set(mode)
        return look.traced(self.model, lambda: self.call(batch, mode, 0))

    def dependence(self, batch: Batch) -> None:
        """Whether an example's output in eval mode depends on the others of its batch, and from where on."""
        seen = self.seen
        whole = self.trace(batch, EVAL)
        seen.broken = next((n for n, fine in zip(whole.names, whole.finite, strict=True) if not fine), None)
        if whole.result is None:
            seen.open.append("The model returns no tensor of floats, so its output was not looked at.")
        if batch.examples < 2 or whole.result is None:
            return
        seen.constant = bool((whole.result == whole.result[0]).all()) and self.constant_by_gamma(batch)
        try:
            other = self.trace(look.in_other_company(batch), EVAL)
        except Exception as error:
            seen.open.append(f"Company was not looked at: with other examples the model raised {type(error).__name__}.")
            return
        least = look.tolerance(self.model)
        rows = (batch.examples + 1) // 2
        if other.result is None or other.result.shape != whole.result.shape or len(other.result) < min(rows, look.KEPT):
            return
        change = look.apart(whole.result[:rows], other.result[:rows])
        pairs = zip(whole.names, whole.outputs, other.outputs, strict=False)
        first = next((n for n, x, y in pairs if x.shape == y.shape and look.apart(x[:rows], y[:rows]) > least), "")
        if isinstance(seen.kinds.get(first), nn.RNNBase) and not seen.kinds[first].batch_first:
            seen.open.append("Company was not looked at: the first axis is time.")
        elif change > least:
            seen.company = look.Company(change, first)

    def constant_by_gamma(self, batch: Batch) -> bool:
        """Whether a constant output is the doing of a gamma that is 0 all over."""
        with self.keep(), torch.no_grad():
            for norm in self.seen.norms.values():
                if norm.gamma is not None and not norm.gamma.any():
                    norm.gamma.fill_(1)
            output = self.run(batch, EVAL)
        return output is not None and not bool((output == output[0]).all())

    def biases(self, batch: Batch) -> None:
        """Which biases in front of norms have no effect: with the batch's statistics, the output stays as it was."""
        seen = self.seen
        layers = {f.producer: seen.kinds[f.producer].bias for f in look.fronts(seen)}
        layers = {name: b for name, b in layers.items() if isinstance(b, Tensor) and b.requires_grad}
        before = self.run(batch, QUIET) if layers else None
        if before is None:
            return

        def idle(names: list[str]) -> bool:
            with torch.no_grad():
                for name in names:
                    layers[name].add_(1)
                after = self.run(batch, QUIET)
                for name in names:
                    layers[name].sub_(1)
            return after is not None and look.apart(before, after) < look.tolerance(self.model)

        seen.idle = list(layers) if idle(list(layers)) else [name for name in layers if idle([name])]

    def modes_apart(self, batch: Batch) -> None:
        """How far the outputs of the modes lie apart with the batch's statistics in both, and from where on.

        What differs by the norms' running statistics is judged at the norms: there it can be told from noise.
        """
        # Train mode first: a norm of weights may go forward in it alone.
        one, other, of_eval = (self.trace(batch, mode) for mode in (TRAIN, TRAIN, QUIET))
        if of_eval.result is None or one.result is None or other.result is None or len(of_eval.result) < 4:
            return
        whole = look.distance(of_eval.result, one.result, other.result)
        if not of_eval.names == one.names == other.names:
            self.seen.apart = whole, ""
            return
        for name, a, b, c in zip(of_eval.names, of_eval.outputs, one.outputs, other.outputs, strict=True):
            if look.distance(a, b, c) > rules.APART:
                self.seen.apart = whole, name
                return
        self.seen.apart = whole, ""

    def trial(self, batch: Batch, loss: Callable[..., Tensor]) -> None:
        """A few steps; where norms are frozen and the loss grows, again with the batch's statistics."""
        seen, frozen = self.seen, [n for n in self.seen.norms.values() if not n.training and n.stored]
        self.modes.set(TRAIN)
        with self.keep():
            seen.trial = look.tried(seen, batch, loss, seen.optimizer)
        if frozen and rules.grows(seen.trial):
            with self.keep():
                for norm in frozen:
                    norm.module.train(True)
                seen.unfrozen = look.tried(seen, batch, loss, seen.optimizer)


def _note(mode: str, i: int) -> str:
    return f"examine called the model in {'train' if mode in (TRAIN, QUIET) else 'eval'} mode, on batch {i}."


def _cuda(model: nn.Module) -> list[int]:
    return sorted({t.device.index or 0 for t in model.parameters() if t.device.type == "cuda"})


def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (models use the old one)
    random.seed(0)
