"""To look at a model and leave no trace: what it was is put back, bit for bit, whatever happens in between."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

_HOOKS = "_post_accumulate_grad_hooks"


@contextmanager
def untouched(*roots: nn.Module, more: Iterable[Tensor] = ()) -> Iterator[None]:
    """Put parameters, buffers, gradients, modes, hooks and global random states back at the end, also after an error.

    What a module keeps beside them is put back as well, if it is a plain value, or a tensor in an attribute or in a
    list, tuple or dict there. Only what has changed is written.
    """
    modules = [_Kept(m) for m in {id(m): m for root in roots for m in root.modules()}.values()]
    tensors = {id(t): t for t in [*(t for kept in modules for t in kept.tensors()), *more]}.values()
    hooks = [(t, own) for t in tensors if t.is_leaf and (own := getattr(t, _HOOKS)) is not None]
    values = [(t, t.detach().clone(), t.grad if t.is_leaf else None, t.requires_grad) for t in tensors]
    devices = sorted({t.device.index for t in tensors if t.device.type == "cuda" and t.device.index is not None})
    others = sorted({t.device.type for t in tensors} - {"cpu", "cuda"})
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (models use the old one)
    on_cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices]
    on_others = [(kind, getattr(torch, kind).get_rng_state()) for kind in others if hasattr(torch, kind)]
    for t in tensors:
        if t.is_leaf:
            t.grad = None  # nothing is added to a gradient that is waiting for its step
    for t, _ in hooks:
        setattr(t, _HOOKS, OrderedDict())  # some step an optimizer; None would leave them in place
    try:
        yield
    finally:
        for kept in modules:
            kept.put_back()
        for t, value, grad, wanted in values:
            if t.shape != value.shape:
                t.data = value
            elif not _alike(t, value):
                t.data.copy_(value)  # by data, a graph that was made before can still be followed backward
            if t.is_leaf:
                t.grad = grad
                if t.requires_grad != wanted:
                    t.requires_grad_(wanted)
        for t, own in hooks:
            setattr(t, _HOOKS, own)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        for device, state in on_cuda:
            torch.cuda.set_rng_state(state, device)
        for kind, state in on_others:
            getattr(torch, kind).set_rng_state(state)


class _Kept:
    """What one module holds: its attributes, and the entries of its own dicts (parameters, buffers, hooks)."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training = module, module.training
        self.attributes = dict(module.__dict__)
        self.entries = {name: d.copy() for name, d in self.attributes.items() if isinstance(d, dict)}
        self.lists = {name: list(values) for name, values in self.attributes.items() if isinstance(values, list)}

    def tensors(self) -> Iterator[Tensor]:
        for value in [*self.attributes.values(), *self.module.parameters(recurse=False), *self.module.buffers(False)]:
            inside = (
                value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            )
            yield from (v for v in inside if isinstance(v, Tensor))

    def put_back(self) -> None:
        if isinstance(self.module, torch.jit.ScriptModule):  # keeps its state elsewhere
            self.module.train(self.training)
            return
        for name, entries in self.entries.items():
            self.attributes[name].clear()
            self.attributes[name].update(entries)
        for name, values in self.lists.items():
            self.attributes[name][:] = values
        self.module.__dict__.clear()
        self.module.__dict__.update(self.attributes)


def _alike(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, so that NaN is like itself and -0 is not like 0."""
    if a.is_sparse or a.is_quantized:
        return False
    return torch.equal(a.detach().contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))
