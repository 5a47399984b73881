"""Layers as small values: each starts its own parameters, and is applied to all replicas at once.

A layer is a frozen dataclass with three methods: ``out`` gives the shape of its output for one example, and raises if
it can do nothing with the input; ``start`` gives its parameters, the replicas first; the call is a pure function of
signal and parameters. A new layer is one class here, and nothing elsewhere. :mod:`bnlib.lab.nets` makes networks of
them.

How the values of a signal lie follows from the shape of one example, which travels with them, for R replicas and N
examples each:

- (features,): (R, features, N), with the examples last, where a mean over them is cheapest;
- (length, features), a sequence: (R, features, length, N), so that what treats every position alike sees
  (R, features, length * N);
- (channels, height, width), images: (N, R * channels, height, width), as grouped convolutions want them.

Symbols, which an :class:`Embedding` takes, are whole numbers of shape (length,).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bnlib.lab.bridge import normalized, transformed
from bnlib.normprop import normalized_relu
from bnlib.norms import Layout, Moments, batch_layout, group_layout, instance_layout
from bnlib.running import RunningStats, batch_norm_inference
from bnlib.selu import alpha_dropout
from bnlib.weightnorm import weight_layout

Shape = tuple[int, ...]
Params = dict[str, Tensor]
Stats = dict[str, RunningStats]
Tap = Callable[[str, Tensor], None]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "normprop": normalized_relu,
    "selu": functional.selu,
    "identity": lambda z: z,
    "sigmoid - 1/2": lambda z: torch.sigmoid(z) - 0.5,
    "tanh + 1": lambda z: torch.tanh(z) + 1,
}
WEIGHTS = ("plain", "normed", "standardized")
POOLS = ("mean", "last", "flat")

# What each norm shares its statistics over, for units seen as (replicas, units, N) and for images.
OF_UNITS: dict[str, Callable[[int, int, int, int], Layout]] = {
    "batch": lambda r, units, n, groups: Layout((r, units, n), (r, units, 1), (2,)),
    "mean": lambda r, units, n, groups: Layout((r, units, n), (r, units, 1), (2,), scaled=False),
    "scale": lambda r, units, n, groups: Layout((r, units, n), (r, units, 1), (2,), centred=False),
    "layer": lambda r, units, n, groups: Layout((r, units, n), (r, units, 1), (1,)),
    "rms": lambda r, units, n, groups: Layout((r, units, n), (r, units, 1), (1,), centred=False),
    "group": lambda r, units, n, groups: Layout((r, groups, units // groups, n), (r, groups, units // groups, 1), (2,)),
}
OF_IMAGES: dict[str, Callable[[Shape, int, int], Layout]] = {
    "batch": lambda shape, r, groups: batch_layout(shape),
    "mean": lambda shape, r, groups: replace(batch_layout(shape), scaled=False),
    "scale": lambda shape, r, groups: replace(batch_layout(shape), centred=False),
    "layer": lambda shape, r, groups: group_layout(shape, r),
    "rms": lambda shape, r, groups: replace(group_layout(shape, r), centred=False),
    "group": lambda shape, r, groups: group_layout(shape, r * groups),
    "instance": lambda shape, r, groups: instance_layout(shape),
}


@cache
def _layout(name: str, shape: Shape, replicas: int, groups: int) -> Layout:
    """The layout of a norm for values of this shape."""
    if len(shape) == 4:
        return OF_IMAGES[name](shape, replicas, groups)
    r, units, n = shape
    return OF_UNITS[name](r, units, n, groups)


OF_BATCHES = ("batch", "mean", "scale")  # these see other examples, and have running statistics


def units_of(shape: Shape) -> int:
    """The features, or channels, of an example of this shape."""
    return shape[0] if len(shape) == 3 else shape[-1]


class Signal(NamedTuple):
    """Values between two layers, and the shape of one example, which says how they lie."""

    values: Tensor
    shape: Shape

    @property
    def units(self) -> int:
        """Features, or channels."""
        return units_of(self.shape)


class State(NamedTuple):
    """One network, or a layer of it, between two updates: parameters, replicas first, and running statistics."""

    params: Params
    stats: Stats


@dataclass(frozen=True, eq=False)
class Draw:
    """Where initial weights come from: for each replica a generator and a scale.

    Attributes
    ----------
    generators : one for each replica
    gains : of each replica
    stds : of each replica the weights' standard deviation in place of gain / sqrt(fan_in), or None
    """

    generators: Sequence[torch.Generator]
    gains: Sequence[float]
    stds: Sequence[float | None]

    def weights(self, shape: Shape, fan_in: int) -> Tensor:
        """Normal weights, ``(replicas, *shape)``, in float64."""
        root = math.sqrt(fan_in)
        scales = [gain / root if std is None else std for gain, std in zip(self.gains, self.stds, strict=True)]
        draws = [torch.randn(*shape, generator=g, dtype=torch.float64) for g in self.generators]
        return torch.stack([scale * draw for scale, draw in zip(scales, draws, strict=True)])

    def full(self, value: float, *shape: int) -> Tensor:
        """One number everywhere, ``(replicas, *shape)``, in float64."""
        return torch.full((len(self.generators), *shape), value, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Flow:
    """What one forward pass carries beside the signal.

    Attributes
    ----------
    params : all parameters by path
    replicas : their number
    stats : running statistics, which batch norm uses in place of the batch's own; None are the batch's own
    running : the running statistics of a training so far, for norms that look at both
    generators : of each replica, for dropout and noise; without them nothing is dropped and nothing added
    tap : called as tap(path, values) with the output of each layer, and with path + ".xhat" for what a norm has
        normalized, before gamma and beta; values lie as :mod:`bnlib.lab.layers` says
    moments : filled by the pass: those of the batch in each batch norm, by path
    """

    params: Params
    replicas: int
    stats: Stats | None = None
    running: Stats = field(default_factory=dict)
    generators: Sequence[torch.Generator] = ()
    tap: Tap | None = None
    moments: dict[str, Moments] = field(default_factory=dict)

    def tapped(self, path: str, values: Tensor) -> None:
        """Show values to whoever looks on."""
        if self.tap is not None:
            self.tap(path, values)


def under(path: str, name: str) -> str:
    """The path of something within a layer; either may be empty."""
    return f"{path}.{name}" if path and name else path or name


def joined(parts: Iterable[tuple[str, State]]) -> State:
    """The state of a layer from those of its parts, by their names."""
    params: Params = {}
    stats: Stats = {}
    for own, state in parts:
        params |= {under(own, name): value for name, value in state.params.items()}
        stats |= {under(own, name): value for name, value in state.stats.items()}
    return State(params, stats)


def beside(values: Tensor, x: Signal) -> Tensor:
    """Numbers for each unit, (replicas, units) or (replicas, 1), in a shape that goes with the signal's values."""
    if len(x.shape) < 3:
        return values.reshape(*values.shape, *[1] * len(x.shape))
    return values.expand(-1, x.units).reshape(-1, 1, 1)


def drawn(x: Signal, flow: Flow, how: Callable[..., Tensor] = torch.rand, *, each: bool = True) -> Tensor:
    """Random numbers in float32 beside a signal's values, from the replicas' own generators.

    Parameters
    ----------
    how : torch.rand or torch.randn
    each : one for each value, or one for each unit
    """
    if not each:
        numbers = torch.stack([how(x.units, generator=g) for g in flow.generators])
        return beside(numbers.to(x.values.device), x)
    if len(x.shape) < 3:
        shape = tuple(x.values.shape[1:])
        return torch.stack([how(*shape, generator=g) for g in flow.generators]).to(x.values.device)
    channels, *space = x.shape
    numbers = torch.stack([how(channels, len(x.values), *space, generator=g) for g in flow.generators])
    return numbers.permute(2, 0, 1, 3, 4).flatten(1, 2).to(x.values.device)


@dataclass(frozen=True)
class Layer:
    """What a layer is; the defaults are those of one without parameters that keeps the shape."""

    def __init_subclass__(cls) -> None:
        """Each prints as it would be written."""
        cls.__repr__ = Layer.__repr__

    def __repr__(self) -> str:
        """Its class, and what differs from the class's defaults."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed(self).items())})"

    @property
    def kind(self) -> str:
        """Its name in a chain."""
        return type(self).__name__.lower()

    @property
    def parts(self) -> Sequence[tuple[str, "Layer"]]:
        """The layers that it is made of, with their names."""
        return ()

    @property
    def fixed(self) -> Sequence[str]:
        """The names of its parameters that training leaves as they are, such as gamma where an attribute says so."""
        return [name for name in ("gamma", "beta") if not getattr(self, name, True)]

    def out(self, shape: Shape) -> Shape:
        """The shape of its output for one example of this shape; a ValueError if it cannot take it."""
        return shape

    def start(self, shape: Shape, draw: Draw) -> State:
        """Its parameters and running statistics before the first step.

        The names of weights, and of nothing else, end in "weight": so decay finds them.
        """
        return State({}, {})

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Its output; path is where its parameters stand in flow."""
        raise NotImplementedError


@dataclass(frozen=True)
class Chain(Layer):
    """One layer after the other.

    A layer's name is its kind if no other of the chain has that kind, and otherwise its number, counted from 0; chains
    within chains have numbers.
    """

    layers: tuple[Layer, ...]
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Name the layers."""
        if wrong := [layer for layer in self.layers if not isinstance(layer, Layer)]:
            raise TypeError(f"{wrong[0]!r} is no layer: give values of bnlib.lab.layers, such as Affine(100)")
        kinds = [layer.kind for layer in self.layers]
        unique = (kind != "chain" and kinds.count(kind) == 1 for kind in kinds)
        names = tuple(kind if one else str(i) for i, (kind, one) in enumerate(zip(kinds, unique, strict=True)))
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "names", names)  # the way of a frozen dataclass

    @property
    def parts(self) -> Sequence[tuple[str, Layer]]:
        """The layers with their names."""
        return tuple(zip(self.names, self.layers, strict=True))

    def out(self, shape: Shape) -> Shape:
        """The last layer's."""
        for layer in self.layers:
            shape = layer.out(shape)
        return shape

    def start(self, shape: Shape, draw: Draw) -> State:
        """The layers', in their order."""
        states = []
        for layer in self.layers:
            states.append(layer.start(shape, draw))
            shape = layer.out(shape)
        return joined(zip(self.names, states, strict=True))

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Through all layers."""
        for name, layer in zip(self.names, self.layers, strict=True):
            own = under(path, name)
            x = layer(x, own, flow)
            flow.tapped(own, x.values)
        return x


@dataclass(frozen=True)
class Residual(Layer):
    """A chain whose input is added to its output.

    Attributes
    ----------
    body : the chain; a single layer becomes one
    scale : where given, the output is first multiplied by a learned number that starts here; with 0 this is the
        SkipInit of :cite:`de2020batch`
    """

    body: Layer
    scale: float | None = None

    def __post_init__(self) -> None:
        """Give the body's parameters a path of their own."""
        if not isinstance(self.body, Chain):
            object.__setattr__(self, "body", Chain((self.body,)))

    @property
    def parts(self) -> Sequence[tuple[str, Layer]]:
        """The body, in whose place it stands."""
        return (("", self.body),)

    def out(self, shape: Shape) -> Shape:
        """The input's."""
        if (found := self.body.out(shape)) != shape:
            raise ValueError(f"a residual block makes {found} of {shape}, and they cannot be added: keep the shape")
        return shape

    def start(self, shape: Shape, draw: Draw) -> State:
        """The body's, and the scale."""
        own = {} if self.scale is None else {"scale": draw.full(self.scale, 1)}
        return joined([("", self.body.start(shape, draw)), ("", State(own, {}))])

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """X plus what the body makes of it."""
        y = self.body(x, path, flow).values
        y = y if self.scale is None else y * beside(flow.params[under(path, "scale")], x)
        return x._replace(values=y + x.values)


@dataclass(frozen=True)
class Affine(Layer):
    """Weights and a bias, at each position of a sequence alike.

    Weights are normal, with the standard deviation gain / sqrt(fan_in); biases start at 0.

    Attributes
    ----------
    units : outputs
    bias : whether there is one; in front of a norm that subtracts the mean it would do nothing
    weights : "plain", "normed" (direction and length apart) or "standardized" (centred, direction and length apart)
    length : where given, the length of each unit's weights at the start, in place of that of the draw; for weights that
        are not plain
    """

    units: int
    bias: bool = True
    weights: str = "plain"
    length: float | None = None

    def __post_init__(self) -> None:
        """Reject what has no weights."""
        check_size("units", self.units)
        check_name("weights", self.weights, WEIGHTS)
        if self.length is not None and not (math.isfinite(self.length) and self.weights != "plain"):
            raise ValueError(
                f"length is {self.length} and weights {self.weights!r}: give a finite number, and weights 'normed' or "
                "'standardized', which have a length to be learned"
            )

    def out(self, shape: Shape) -> Shape:
        """The input's, with other units."""
        if len(shape) > 2:
            raise ValueError(
                f"an affine map cannot take images of shape {shape}: put a Pool in front of it, or a Convolution in "
                "its place"
            )
        return *shape[:-1], self.units

    def window(self, shape: Shape) -> Shape:
        """The shape of one unit's weights."""
        return shape[-1:]

    def start(self, shape: Shape, draw: Draw) -> State:
        """Weight ``(replicas, units, *window)``, and bias and length (replicas, units) where there are any."""
        window = self.window(shape)
        params = {"weight": draw.weights((self.units, *window), math.prod(window))}
        if self.weights != "plain":
            rows = params["weight"].flatten(2)
            rows = rows - rows.mean(2, keepdim=True) if self.weights == "standardized" else rows
            own = torch.linalg.vector_norm(rows, dim=2)
            if not (own > 0).all():
                raise ValueError(
                    f"gain is {list(draw.gains)} and std {list(draw.stds)}, but weights {self.weights!r} of length 0 "
                    "have no direction: give every replica a positive one"
                )
            params["length"] = own if self.length is None else torch.full_like(own, self.length)
        if self.bias:
            params["bias"] = draw.full(0.0, self.units)
        return State(params, {})

    def weight(self, path: str, flow: Flow) -> Tensor:
        """The weights that are used."""
        v = flow.params[under(path, "weight")]
        if self.weights == "plain":
            return v
        g, inputs = flow.params[under(path, "length")].flatten(), math.prod(v.shape[2:])
        layout = weight_layout(len(g), inputs, centred=self.weights == "standardized")
        return normalized(v, g / math.sqrt(inputs), torch.zeros_like(g), layout, eps=0.0)[0]

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Weights times x, plus bias."""
        weight, bias = self.weight(path, flow), flow.params.get(under(path, "bias"))
        flat = x.values if x.values.ndim == 3 else x.values.flatten(2)
        y = torch.bmm(weight, flat) if bias is None else torch.baddbmm(bias[:, :, None], weight, flat)
        return Signal(y.reshape(*y.shape[:2], *x.values.shape[2:]), (*x.shape[:-1], self.units))


@dataclass(frozen=True)
class Convolution(Affine):
    """Weights and a bias for each window of an image, which keeps its size; what is outside of it counts as 0.

    Attributes
    ----------
    units : output channels
    kernel : the width of the window, an odd number
    """

    kernel: int = 3

    def __post_init__(self) -> None:
        """Reject what has no middle."""
        super().__post_init__()
        check_size("kernel", self.kernel)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}: give an odd number, so that a window has a middle")

    def out(self, shape: Shape) -> Shape:
        """The input's, with other channels."""
        if len(shape) != 3:
            raise ValueError(f"a convolution cannot take inputs of shape {shape}: give (channels, height, width)")
        return self.units, *shape[1:]

    def window(self, shape: Shape) -> Shape:
        """Input channels and kernel."""
        return shape[0], self.kernel, self.kernel

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """The replicas as groups of channels."""
        weight, bias = self.weight(path, flow), flow.params.get(under(path, "bias"))
        flat = None if bias is None else bias.flatten()
        y = functional.conv2d(x.values, weight.flatten(0, 1), flat, padding="same", groups=flow.replicas)
        return Signal(y, (self.units, *x.shape[1:]))


@dataclass(frozen=True)
class Norm(Layer):
    """A norm by name, with gamma and beta.

    Batch norm, also a half of it, uses the batch's own statistics unless the flow has others; in a sequence
    they are taken over examples and positions. The others normalize each example, in a sequence each position.

    Attributes
    ----------
    name : "batch", "mean" (batch norm that only subtracts the mean), "scale" (that only divides, by the root mean
        square), "layer", "rms", "group" or, for images, "instance"
    groups : of group norm
    gamma, beta : whether they are learned
    first : gamma at the start
    eps : added to the variance
    momentum : of the running statistics, the weight of the newest batch
    """

    name: str
    groups: int = 4
    gamma: bool = True
    beta: bool = True
    first: float = 1.0
    eps: float = 1e-5
    momentum: float | None = 0.1

    def __post_init__(self) -> None:
        """Reject what is no norm."""
        check_name("norm", self.name, OF_IMAGES)
        check_size("groups", self.groups)
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"eps is {self.eps}: give a finite number that is not negative")

    def out(self, shape: Shape) -> Shape:
        """The input's."""
        units = units_of(shape)
        if self.name == "group" and units % self.groups:
            raise ValueError(f"{self.groups} groups do not divide the {units} units of {shape}: choose a divisor")
        if self.name not in (OF_IMAGES if len(shape) == 3 else OF_UNITS):
            raise ValueError(
                f"norm {self.name!r} is for images, and cannot take {shape}: choose one of {list(OF_UNITS)}"
            )
        return shape

    def start(self, shape: Shape, draw: Draw) -> State:
        """Gamma and beta (replicas, units); running means 0 and variances 1 for replicas * units channels."""
        units = units_of(shape)
        params = {"gamma": draw.full(self.first, units), "beta": draw.full(0.0, units)}
        return State(params, {"": self.fresh(draw, units)} if self.name in OF_BATCHES else {})

    def fresh(self, draw: Draw, units: int) -> RunningStats:
        """Running statistics that have seen no batch."""
        zeros, ones = (draw.full(value, units).flatten() for value in (0.0, 1.0))
        return RunningStats(zeros, ones, momentum=self.momentum)

    def __call__(self, x: Signal, path: str, flow: Flow, known: str = "") -> Signal:
        """Normalize, scale by gamma and shift by beta; known is where the statistics stand, if not at path."""
        gamma, beta = flow.params[under(path, "gamma")], flow.params[under(path, "beta")]
        images, known = len(x.shape) == 3, known or path
        values = x.values if x.values.ndim == 3 or images else x.values.flatten(2)
        if self.name in OF_BATCHES and flow.stats is not None:
            if known not in flow.stats:
                raise ValueError(
                    f"there are running statistics of {list(flow.stats)}, but none of {known!r}: give those of this "
                    "network's state, or None for the batch's own"
                )
            seen = values if images else values.reshape(1, -1, values.shape[-1])  # (N, C, H, W), or (1, C, L)
            y = batch_norm_inference(
                seen, gamma.flatten(), beta.flatten(), flow.stats[known], self.eps, scaled=self.name != "mean"
            )
            return x._replace(values=y.reshape(x.values.shape))
        layout = _layout(self.name, tuple(values.shape), flow.replicas, self.groups)
        y, moments = self.transformed(x.values, gamma, beta, layout, known, flow)
        if self.name in OF_BATCHES:
            flow.moments[known] = moments
        return x._replace(values=y)

    def transformed(
        self, values: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, path: str, flow: Flow
    ) -> tuple[Tensor, Moments]:
        """What the norm makes of the values, and the moments of each channel of all replicas, or of each example.

        Path is where the statistics stand, in a recurrent layer with the step.
        """
        y, cache = transformed(values, gamma, beta, layout, self.eps)
        flow.tapped(under(path, "xhat"), cache.xhat.reshape(values.shape))
        m = cache.moments
        return y, Moments(m.mean.flatten(), m.var.flatten(), m.count)


@dataclass(frozen=True)
class DyT(Layer):
    """Dynamic tanh, gamma * tanh(alpha * x) + beta, in a norm's place: :cite:`zhu2025transformers`.

    Attributes
    ----------
    alpha : at the start; one number for all units is learned
    """

    alpha: float = 0.5

    def start(self, shape: Shape, draw: Draw) -> State:
        """Alpha (replicas, 1), gamma and beta (replicas, units)."""
        units = units_of(shape)
        params = {"alpha": draw.full(self.alpha, 1), "gamma": draw.full(1.0, units), "beta": draw.full(0.0, units)}
        return State(params, {})

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Squash, scale and shift."""
        alpha, gamma, beta = (beside(flow.params[under(path, name)], x) for name in ("alpha", "gamma", "beta"))
        return x._replace(values=gamma * torch.tanh(alpha * x.values) + beta)


@dataclass(frozen=True)
class Scale(Layer):
    """Gamma * x + beta for each unit: what stands behind a norm, without the norm."""

    gamma: bool = True
    beta: bool = True

    def start(self, shape: Shape, draw: Draw) -> State:
        """Gamma and beta (replicas, units)."""
        units = units_of(shape)
        return State({"gamma": draw.full(1.0, units), "beta": draw.full(0.0, units)}, {})

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Scale and shift."""
        gamma, beta = (beside(flow.params[under(path, name)], x) for name in ("gamma", "beta"))
        return x._replace(values=gamma * x.values + beta)


@dataclass(frozen=True)
class Activation(Layer):
    """A function of each value, by name."""

    name: str

    def __post_init__(self) -> None:
        """Reject what is no function."""
        check_name("activation", self.name, ACTIVATIONS)

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Of each value."""
        return x._replace(values=ACTIVATIONS[self.name](x.values))


@dataclass(frozen=True)
class Dropout(Layer):
    """Set a share of the values to 0 and divide the others by what is left; without generators nothing happens."""

    share: float

    def __post_init__(self) -> None:
        """Reject what is no share."""
        if not 0 <= self.share < 1:
            raise ValueError(f"dropout is {self.share}: give a share of at least 0 and below 1")

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Drop."""
        if not (self.share and flow.generators):
            return x
        return x._replace(values=self.dropped(x.values, drawn(x, flow) < 1 - self.share))

    def dropped(self, values: Tensor, kept: Tensor) -> Tensor:
        """The values without what is not kept."""
        return values * (kept.to(values.dtype) / (1 - self.share))


@dataclass(frozen=True)
class AlphaDropout(Dropout):
    """Dropout that keeps mean 0 and variance 1 behind SELU: :cite:`klambauer2017self`."""

    def dropped(self, values: Tensor, kept: Tensor) -> Tensor:
        """What is not kept is set to SELU's lower bound."""
        return alpha_dropout(values, kept, 1 - self.share)


@dataclass(frozen=True)
class Noise(Layer):
    """Noise that changes with each step: ``x * (1 + scale * u) + shift * v + each * w``.

    u and v are standard normal numbers for each unit, the same for all examples; w is one for each value. Without
    generators there is none.
    """

    scale: float = 0.0
    shift: float = 0.0
    each: float = 0.0

    def __post_init__(self) -> None:
        """Reject what is no size."""
        for name in ("scale", "shift", "each"):
            if not (math.isfinite(value := getattr(self, name)) and value >= 0):
                raise ValueError(f"{name} is {value}: give a finite number that is not negative")

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Disturb."""
        if not flow.generators:
            return x
        u, v = (drawn(x, flow, torch.randn, each=False).to(x.values.dtype) for _ in range(2))
        w = drawn(x, flow, torch.randn).to(x.values.dtype) if self.each else 0.0
        return x._replace(values=x.values * (1 + self.scale * u) + self.shift * v + self.each * w)


@dataclass(frozen=True)
class Pool(Layer):
    """The positions of images or sequences become units: their "mean", the "last" one, or all of them, "flat"."""

    how: str = "mean"

    def __post_init__(self) -> None:
        """Reject what is no way."""
        check_name("pool", self.how, POOLS)

    def out(self, shape: Shape) -> Shape:
        """Units."""
        if len(shape) < 2 or (self.how == "last" and len(shape) == 3):
            raise ValueError(
                f"pool {self.how!r} cannot take {shape}: it is for images and sequences, 'last' for these alone"
            )
        return (math.prod(shape),) if self.how == "flat" else (units_of(shape),)

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """(replicas, units, N)."""
        h = x.values
        if len(x.shape) == 3:
            h = h if self.how == "flat" else h.mean((-2, -1))
            h = h.reshape(len(h), flow.replicas, -1).movedim(0, 2)
        else:
            h = h.flatten(1, 2) if self.how == "flat" else h.mean(2) if self.how == "mean" else h[:, :, -1]
        return Signal(h, (h.shape[1],))


@dataclass(frozen=True)
class Recurrent(Layer):
    """A recurrent layer over a sequence: h = activation(norm(input x + recurrent h)), from h = 0.

    With a norm this is equation 4 of :cite:`ba2016layer`: gamma and beta are the same at all steps; running statistics
    are kept for each. Without one there is a bias.

    Attributes
    ----------
    units : of the state
    norm : of the sum, or None
    activation : by name
    every : whether the output are the states of all steps, a sequence, or the last one
    """

    units: int
    norm: Norm | None = None
    activation: str = "tanh"
    every: bool = False

    def __post_init__(self) -> None:
        """Reject what is no layer."""
        check_size("units", self.units)
        check_name("activation", self.activation, ACTIVATIONS)
        if not isinstance(self.norm, Norm | None):
            raise TypeError(f"norm is {self.norm!r}: give a Norm, such as Norm('layer'), or None")

    @property
    def parts(self) -> Sequence[tuple[str, Layer]]:
        """The norm."""
        return () if self.norm is None else (("norm", self.norm),)

    def out(self, shape: Shape) -> Shape:
        """The state's, or a sequence of it."""
        if len(shape) != 2:
            raise ValueError(f"a recurrent layer cannot take {shape}: give sequences, (length, features)")
        if self.norm is not None:
            self.norm.out((self.units,))
        return (shape[0], self.units) if self.every else (self.units,)

    def start(self, shape: Shape, draw: Draw) -> State:
        """Weights input (replicas, units, features), recurrent (replicas, units, units), and the norm's or a bias."""
        own = {
            f"{name}.weight": draw.weights((fan_in, self.units), fan_in).mT.contiguous()
            for name, fan_in in (("input", shape[1]), ("recurrent", self.units))
        }
        if self.norm is None:
            return State(own | {"bias": draw.full(0.0, self.units)}, {})
        norm = self.norm.start((self.units,), draw)
        fresh = {f"norm.{step}": stats for step in range(shape[0]) for stats in norm.stats.values()}
        return joined([("", State(own, fresh)), ("norm", State(norm.params, {}))])

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Step by step."""
        length, n = x.values.shape[2:]
        driven = torch.bmm(flow.params[under(path, "input.weight")], x.values.flatten(2)).unflatten(2, (length, n))
        recurrent, states = flow.params[under(path, "recurrent.weight")], []
        h = torch.zeros_like(driven[:, :, 0])
        for step in range(length):
            z = torch.baddbmm(driven[:, :, step], recurrent, h)
            if self.norm is None:
                z = z + flow.params[under(path, "bias")][:, :, None]
            else:
                own = under(path, "norm")
                z = self.norm(Signal(z, (self.units,)), own, flow, f"{own}.{step}").values
            h = ACTIVATIONS[self.activation](z)
            states.append(h)
        if self.every:
            return Signal(torch.stack(states, 2), (x.shape[0], self.units))
        return Signal(h, (self.units,))


@dataclass(frozen=True)
class Embedding(Layer):
    """A vector for each symbol, learned; the input are whole numbers from 0 on, (length,)."""

    symbols: int
    units: int

    def __post_init__(self) -> None:
        """Reject what is no size."""
        check_size("symbols", self.symbols)
        check_size("units", self.units)

    def out(self, shape: Shape) -> Shape:
        """A sequence."""
        if len(shape) != 1:
            raise ValueError(f"an embedding cannot take {shape}: give symbols, (length,)")
        return *shape, self.units

    def start(self, shape: Shape, draw: Draw) -> State:
        """Weight (replicas, symbols, units), of variance gain**2 / units."""
        return State({"weight": draw.weights((self.symbols, self.units), self.units)}, {})

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Look up."""
        weight, own = flow.params[under(path, "weight")], torch.arange(flow.replicas, device=x.values.device)
        try:
            found = weight[own[:, None, None], x.values]
        except IndexError as error:
            raise ValueError(
                f"x of shape {tuple(x.values.shape)} and {x.values.dtype} is none of {self.symbols} symbols ({error}): "
                f"give whole numbers from 0 to {self.symbols - 1}"
            ) from error
        return Signal(found.movedim(3, 1), (*x.shape, self.units))


@dataclass(frozen=True)
class Positions(Layer):
    """A learned vector for each position of a sequence, added to what is there."""

    def out(self, shape: Shape) -> Shape:
        """The input's."""
        if len(shape) != 2:
            raise ValueError(f"positions cannot be added to {shape}: give sequences, (length, features)")
        return shape

    def start(self, shape: Shape, draw: Draw) -> State:
        """Weight (replicas, features, length)."""
        return State({"weight": draw.weights((shape[1], shape[0]), shape[1])}, {})

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Add."""
        return x._replace(values=x.values + flow.params[under(path, "weight")][..., None])


@dataclass(frozen=True)
class Attention(Layer):
    """Self-attention with several heads, of which each takes a part of the features; without biases.

    Attributes
    ----------
    heads : their number, a divisor of the features
    causal : whether a position sees only itself and what is before it
    qk_norm : whether queries and keys are divided by the root mean square of their features within a head, and
        multiplied by a gain for each of these, the same in all heads; :cite:`henry2020query` has one gain for all
    """

    heads: int = 4
    causal: bool = True
    qk_norm: bool = False

    def __post_init__(self) -> None:
        """Reject what is no number."""
        check_size("heads", self.heads)

    def out(self, shape: Shape) -> Shape:
        """The input's."""
        if len(shape) != 2 or shape[1] % self.heads:
            raise ValueError(
                f"attention with {self.heads} heads cannot take {shape}: give sequences, (length, features), and heads "
                "that divide the features"
            )
        return shape

    def start(self, shape: Shape, draw: Draw) -> State:
        """Weights qkv (replicas, 3 * features, features), of queries, keys and values, and out (replicas, f., f.).

        With a norm the gains of queries and keys, (replicas, features of a head).
        """
        units = shape[1]
        rows = {"qkv.weight": 3 * units, "out.weight": units}
        gains = ("query.gamma", "key.gamma") if self.qk_norm else ()
        return State(
            {name: draw.weights((own, units), units) for name, own in rows.items()}
            | {name: draw.full(1.0, units // self.heads) for name in gains},
            {},
        )

    def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
        """Mean of the values of all positions, weighted by the softmax of query times key.

        The logits, (replicas, heads, N, length, length), are shown to a tap under path + ".logits"; those that no
        position sees are -inf.
        """
        (length, units), n, each = x.shape, x.values.shape[-1], x.units // self.heads
        qkv = torch.bmm(flow.params[under(path, "qkv.weight")], x.values.flatten(2))
        q, k, v = qkv.reshape(-1, 3, self.heads, each, length, n).permute(1, 0, 2, 5, 4, 3)  # (R, heads, N, length, .)
        if self.qk_norm:
            q, k = (
                self.normed(part, flow.params[under(path, name)])
                for part, name in ((q, "query.gamma"), (k, "key.gamma"))
            )
        scores = q @ k.mT / math.sqrt(each)
        if self.causal:
            later = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        flow.tapped(under(path, "logits"), scores)
        mixed = (scores.softmax(-1) @ v).permute(0, 1, 4, 3, 2).reshape(-1, units, length * n)
        y = torch.bmm(flow.params[under(path, "out.weight")], mixed)
        return x._replace(values=y.reshape(x.values.shape))

    def normed(self, part: Tensor, gamma: Tensor) -> Tensor:
        """Queries or keys (replicas, heads, N, length, features) of root mean square 1 in each head, times gamma."""
        replicas, each = gamma.shape
        layout = Layout((replicas, part.numel() // gamma.numel(), each), (replicas, 1, each), (2,), centred=False)
        return transformed(part, gamma, torch.zeros_like(gamma), layout, 1e-5)[0]


def changed(value: Any) -> dict[str, Any]:
    """The attributes of a layer or network that differ from the defaults of its class."""
    own = [(part.name, getattr(value, part.name), part.default) for part in fields(value) if part.init]
    return {name: attribute for name, attribute, default in own if attribute != default}


def check_name(what: str, given: str, known: Iterable[str]) -> None:
    """Raise a ValueError that tells the names if this is none of them."""
    if given not in known:
        raise ValueError(f"{what} is {given!r}: choose one of {list(known)}")


def check_size(what: str, given: int) -> None:
    """Raise a ValueError if this is no positive whole number."""
    if not isinstance(given, int) or given < 1:
        raise ValueError(f"{what} is {given!r}: give a positive whole number")


def walk(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """A layer and all that it is made of, with their paths."""
    yield path, layer
    for name, part in layer.parts:
        yield from walk(part, under(path, name))
