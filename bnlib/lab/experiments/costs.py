"""What chapter 17 measures of costs: ratios of times within repetitions, numbers kept, and parameters.

Times are taken at one thread, float32, with PyTorch's own operations; what is compared runs one after the other in each
repetition, so that whatever slows the machine slows both. Nothing is claimed of them: they are one machine's, and the
chapter prints them coarsely. Parameters and kept numbers are exact, and are what the slice of the record compares.

- "pass": forward and backward of one norm over an array, against one copy of the array; "batch, bnlib" and "layer,
  bnlib" are the lines of this package over NumPy's arrays.
- "step": forward and backward of a network with the norm, against the same network without.
- "use": forward alone, as a trained model is used, against the same network without; "batch, folded" has its batch norm
  folded into the maps.
"""

import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

import bnlib
from bnlib.lab.experiments import Cases
from bnlib.lab.records import Experiment, Values

CHANNELS = {"dense": 512, "images": 32, "transformer": 128}
INPUTS = {"dense": (64, 512), "images": (16, 32, 28, 28), "transformer": (8, 64, 128)}
ARRAYS = {"dense": (8192, 512), "images": (64, 32, 28, 28), "transformer": (64, 64, 128)}  # of "pass"
METHODS = {
    "dense": ["batch", "layer", "rms", "group", "weight norm", "DyT"],
    "images": ["batch", "layer", "group", "instance", "weight norm", "DyT"],
    "transformer": ["batch", "layer", "rms", "DyT"],
}


BY_HAND = {"dense": "batch", "images": "batch", "transformer": "layer"}


class DyT(nn.Module):
    """Dynamic tanh over the last axis, or over channels."""

    def __init__(self, units: int, images: bool) -> None:
        super().__init__()
        shape = (units, 1, 1) if images else (units,)
        self.alpha = nn.Parameter(torch.full((1,), 0.5))
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Squash, scale and shift."""
        return self.gamma * torch.tanh(self.alpha * x) + self.beta


class OverPlaces(nn.BatchNorm1d):
    """Batch norm of (N, T, D) over examples and positions."""

    def forward(self, input: Tensor) -> Tensor:
        """As of N * T examples."""
        return super().forward(input.flatten(0, 1)).reshape(input.shape)


def norm(kind: str, method: str) -> nn.Module:
    """A norm by name, for the units of a kind of network; weight norm and none have none."""
    units, images = CHANNELS[kind], kind == "images"
    batch = {"dense": nn.BatchNorm1d, "images": nn.BatchNorm2d, "transformer": OverPlaces}[kind]
    made: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: batch(units),
        "layer": lambda: nn.GroupNorm(1, units) if images else nn.LayerNorm(units),
        "rms": lambda: nn.RMSNorm(units),
        "group": lambda: nn.GroupNorm(8, units),
        "instance": lambda: nn.InstanceNorm2d(units, affine=True),
        "DyT": lambda: DyT(units, images),
    }
    return made.get(method, nn.Identity)()


class Block(nn.Module):
    """A pre-norm transformer block with four heads."""

    def __init__(self, method: str) -> None:
        super().__init__()
        units = CHANNELS["transformer"]
        self.first, self.second = norm("transformer", method), norm("transformer", method)
        self.qkv, self.out = nn.Linear(units, 3 * units, bias=False), nn.Linear(units, units, bias=False)
        self.dense = nn.Sequential(nn.Linear(units, 4 * units), nn.GELU(), nn.Linear(4 * units, units))

    def forward(self, h: Tensor) -> Tensor:
        """Attention, then the dense layers."""
        q, k, v = self.qkv(self.first(h)).unflatten(-1, (3, 4, -1)).movedim(-3, 0).transpose(-2, -3)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(mixed.transpose(1, 2).flatten(2))
        return h + self.dense(self.second(h))


def network(kind: str, method: str, depth: int = 4) -> nn.Sequential:
    """Layers of one width, each a map, the norm and a ReLU; or transformer blocks."""
    if kind == "transformer":
        return nn.Sequential(*(Block(method) for _ in range(depth)))
    units, bias = CHANNELS[kind], method in ("none", "rms", "weight norm", "DyT")
    parts: list[nn.Module] = []
    for _ in range(depth):
        shape = {"dense": lambda: nn.Linear(units, units, bias=bias),
                 "images": lambda: nn.Conv2d(units, units, 3, padding=1, bias=bias)}  # fmt: skip
        layer = shape[kind]()
        parts += [parametrizations.weight_norm(layer) if method == "weight norm" else layer, norm(kind, method)]
        parts.append(nn.ReLU())
    return nn.Sequential(*(part for part in parts if not isinstance(part, nn.Identity)))


def by_hand(method: str, x: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    """Forward and backward of this package's batch or layer norm."""
    forward = {"batch": bnlib.batch_norm, "layer": bnlib.layer_norm}[method]
    units = x.shape[1 if method == "batch" else -1]
    gamma, beta = np.ones((2, units), np.float32)
    return lambda: bnlib.normalize_backward(dy, forward(x, gamma, beta)[1])


def folded(net: nn.Sequential) -> nn.Sequential:
    """The network in use, each batch norm in the map in front of it."""
    parts: list[nn.Module] = []
    for part in net.eval():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            fuse: Any = fuse_linear_bn_eval if isinstance(parts[-1], nn.Linear) else fuse_conv_bn_eval
            parts[-1] = fuse(parts[-1], part)
        else:
            parts.append(part)
    return nn.Sequential(*parts)


def kept(run: Callable[[], Tensor]) -> int:
    """How many numbers autograd keeps for the backward pass, parameters aside, each memory counted once."""
    found: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if not isinstance(t, nn.Parameter):
            found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        alive = run()  # so that no memory is used twice
    del alive
    return sum(found.values())


def ratios(ours: Callable[[], Any], theirs: Callable[[], Any], repetitions: int) -> list[float]:
    """The time of one over that of the other, in each of the repetitions after the first."""
    found = []
    for _ in range(repetitions + 1 if repetitions else 0):
        start = perf_counter()
        ours()
        middle = perf_counter()
        theirs()
        found.append((middle - start) / (perf_counter() - middle))
    return found[1:]


def costed(*, what: str, kind: str, method: str, compiled: bool, repetitions: int) -> Values:
    """Time what the module's docstring calls "pass", "step" or "use".

    Returns
    -------
    values : "ratio", of each repetition; and but for this package's own lines "parameters" beyond those without the
        norm, and "kept", the numbers kept for the backward pass beyond those, as a share of the values of one layer
    """
    torch.manual_seed(0)
    x = torch.randn((ARRAYS if what == "pass" else INPUTS)[kind])
    if what == "pass" and method.endswith(", bnlib"):
        values, target = x.numpy(), np.empty_like(x.numpy())
        run = by_hand(method.removesuffix(", bnlib"), values, torch.randn_like(x).numpy())
        return {"ratio": ratios(run, lambda: np.copyto(target, values), repetitions)}
    if what == "pass":
        leaf, dy = x.clone().requires_grad_(), torch.randn_like(x)
        layer, target = norm(kind, method), torch.empty_like(x)
        leaves = [leaf, *layer.parameters()]
        own = ratios(lambda: torch.autograd.grad(layer(leaf), leaves, dy), lambda: target.copy_(x), repetitions)
        number = sum(p.numel() for p in layer.parameters())
        return {"ratio": own, "parameters": [number], "kept": [kept(lambda: layer(leaf)) / x.numel()]}
    plain, net = network(kind, "none"), network(kind, method.removesuffix(", folded"))
    numbers, memory = (
        [f(own) for own in (net, plain)]
        for f in (lambda own: sum(p.numel() for p in own.parameters()), lambda own: kept(lambda: own(x)))
    )
    if what == "use":
        plain, net = plain.eval(), folded(net) if "folded" in method else net.eval()
    runs: list[Callable[[], Any]] = []
    for own in (net, plain):
        call: Any = torch.compile(own) if compiled and repetitions else own
        if what == "use":
            runs.append(torch.no_grad()(lambda call=call: call(x)))
        else:
            leaves = list(own.parameters())
            runs.append(lambda call=call, leaves=leaves: torch.autograd.grad(call(x).square().mean(), leaves))
    if compiled and repetitions:
        torch.compiler.reset()  # after some eight networks of one class it would give up, and compile nothing
        runs = [warmed(run) for run in runs]
    return {
        "ratio": ratios(runs[0], runs[1], repetitions),
        "parameters": [numbers[0] - numbers[1]],
        "kept": [(memory[0] - memory[1]) / math.prod(INPUTS[kind])],
    }


def warmed(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same, run once: compiling takes its time."""
    run()
    return run


def _cases(kinds: Sequence[str], repetitions: int) -> Cases:
    for kind in kinds:
        for method in (f"{BY_HAND[kind]}, bnlib", *METHODS[kind]):
            own = {"kind": kind, "method": method, "repetitions": repetitions}
            if method != "weight norm":
                labels = {"what": "pass", "kind": kind, "method": method, "compiled": False}
                yield labels, {**own, **labels}
            if "bnlib" in method:
                continue
            for what, compiled in (("step", False), ("step", True), ("use", False)):
                labels = {"what": what, "kind": kind, "method": method, "compiled": compiled}
                yield labels, {"what": what, "compiled": compiled, **own}
        if kind != "transformer":
            labels = {"what": "use", "kind": kind, "method": "batch, folded", "compiled": False}
            yield labels, {**labels, "repetitions": repetitions}


costs = Experiment(
    "costs", _cases, costed, {"kinds": list(CHANNELS), "repetitions": 40}, {"kinds": ["dense"], "repetitions": 0}
)

EXPERIMENTS = [costs]
