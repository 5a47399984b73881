"""Small networks from a specification, many replicas at once, with norms by name.

A network is a value: its :class:`Spec` and a dict of parameters, each with the replicas as its first axis.
:func:`forward` is a pure function of both. One matrix product, one norm, one activation serve all replicas, and bnlib's
:class:`~bnlib.norms.Layout` says that no two of them share a statistic.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from bnlib.lab.bridge import normalized
from bnlib.normprop import normalized_relu
from bnlib.norms import Layout, Moments, batch_layout, group_layout, instance_layout
from bnlib.running import RunningStats, batch_norm_inference
from bnlib.selu import alpha_dropout
from bnlib.weightnorm import weight_layout

# What each norm shares its statistics over. Units lie as (replicas, units, N), with the examples last, where a mean is
# cheapest; the channels of images as (N, replicas * channels, height, width), as grouped convolutions want them.
OF_UNITS: dict[str, Callable[[int, int, int, int], Layout]] = {
    "batch": lambda r, units, n, groups: Layout((r, units, n), (r, units, 1), (2,)),
    "mean": lambda r, units, n, groups: Layout((r, units, n), (r, units, 1), (2,), scaled=False),
    "layer": lambda r, units, n, groups: Layout((r, units, n), (r, units, 1), (1,)),
    "rms": lambda r, units, n, groups: Layout((r, units, n), (r, units, 1), (1,), centred=False),
    "group": lambda r, units, n, groups: Layout((r, groups, units // groups, n), (r, groups, units // groups, 1), (2,)),
}
OF_IMAGES: dict[str, Callable[[tuple[int, ...], int, int], Layout]] = {
    "batch": lambda shape, r, groups: batch_layout(shape),
    "mean": lambda shape, r, groups: replace(batch_layout(shape), scaled=False),
    "layer": lambda shape, r, groups: group_layout(shape, r),
    "rms": lambda shape, r, groups: replace(group_layout(shape, r), centred=False),
    "group": lambda shape, r, groups: group_layout(shape, r * groups),
    "instance": lambda shape, r, groups: instance_layout(shape),
}
OF_BATCHES = ("batch", "mean")  # these see other examples, and have running statistics
WEIGHTS = ("plain", "normed", "standardized")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "normprop": normalized_relu,
    "selu": functional.selu,
    "identity": lambda z: z,
}
PLACEMENTS = ("before", "after")

Params = dict[str, Tensor]
Stats = dict[int, RunningStats]
Tap = Callable[[str, int, Tensor], None]
Norm = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a network is: hidden layers of affine map, norm and activation, then an affine output layer.

    Weights are drawn from a normal distribution with the standard deviation ``gain / sqrt(fan_in)``; biases and betas
    start at 0, gammas at 1. Two specifications with the same inputs, widths and classes give the same seed the same
    weights, but for the gain.

    Attributes
    ----------
    inputs : the shape of one example: (features,), or (channels, height, width) for convolutions
    widths : units, or channels, of the hidden layers
    classes : outputs
    norm : "none", "batch", "mean" (batch norm that only subtracts the mean), "layer", "rms", "group", or for
        convolutions "instance"
    placement : the norm stands "before" or "after" the activation
    where : the layers with a norm, counted from 0; the output layer is number ``len(widths)``; None is all hidden ones
    activation : "sigmoid", "tanh", "relu", "normprop" (ReLU brought to mean 0 and variance 1), "selu" or "identity"
    gain : of the weights
    std : where given, the weights' standard deviation in all layers, in place of gain / sqrt(fan_in)
    weights : "plain", "normed" (direction and length apart) or "standardized" (centred, direction and length apart), in
        all layers
    length : where given, the length of each unit's weights at the start, in place of that of the draw; for weights
        that are not plain
    gamma, beta : whether they are there to be learned
    groups : of group norm
    dropout : the share of activations set to zero in training, behind each hidden layer
    alpha_dropout : whether dropout is alpha dropout, which keeps mean and variance; for "selu"
    residual : whether each two hidden layers after the first form a block, to whose output its input is added before
        the last activation
    zero_gamma : whether the last norm of each block starts with gamma 0
    kernel : the width of the convolutions, an odd number; None is fully connected
    flat : whether the output layer behind convolutions has a weight for each position, or sees their mean
    eps : of the norms

    Raises
    ------
    ValueError
        If a name is unknown or the parts do not fit together.
    """

    inputs: tuple[int, ...] = (64,)
    widths: tuple[int, ...] = (100, 100, 100)
    classes: int = 10
    norm: str = "none"
    placement: str = "before"
    where: tuple[int, ...] | None = None
    activation: str = "sigmoid"
    gain: float = 1.0
    std: float | None = None
    weights: str = "plain"
    length: float | None = None
    gamma: bool = True
    beta: bool = True
    groups: int = 4
    dropout: float = 0.0
    alpha_dropout: bool = False
    residual: bool = False
    zero_gamma: bool = False
    kernel: int | None = None
    flat: bool = False
    eps: float = 1e-5

    def __post_init__(self) -> None:
        """Reject what is no network."""
        for name, value, known in (
            ("norm", self.norm, ["none", *(OF_UNITS if self.kernel is None else OF_IMAGES)]),
            ("placement", self.placement, PLACEMENTS),
            ("activation", self.activation, ACTIVATIONS),
            ("weights", self.weights, WEIGHTS),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}: choose one of {list(known)}")
        sizes = (*self.inputs, *self.widths, self.classes)
        if len(self.inputs) not in (1, 3) or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise ValueError(
                f"inputs {self.inputs}, widths {self.widths} and classes {self.classes} must be positive whole "
                "numbers, and inputs (features,) or (channels, height, width)"
            )
        if (self.kernel is not None) != (len(self.inputs) == 3) or (self.kernel or 1) % 2 == 0:
            raise ValueError(
                f"kernel is {self.kernel} for inputs {self.inputs}: "
                "an odd kernel goes with (channels, height, width), None with (features,)"
            )
        if self.flat and self.kernel is None:
            raise ValueError("flat is about the positions of images, and without a kernel there are none: leave it out")
        for name, value in (("gain", self.gain), ("std", 0.0 if self.std is None else self.std), ("eps", self.eps)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}: give a finite number that is not negative")
        if self.length is not None and not (math.isfinite(self.length) and self.weights != "plain"):
            raise ValueError(
                f"length is {self.length} and weights {self.weights!r}: give a finite number, and weights 'normed' or "
                "'standardized', which have a length to be learned"
            )
        if self.weights != "plain" and 0 in (self.gain, self.std):
            raise ValueError(f"gain is {self.gain} and std {self.std}, but weights of length 0 have no direction")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: give a share of at least 0 and below 1")
        if self.alpha_dropout and self.activation != "selu":
            raise ValueError(f"alpha_dropout is made for activation 'selu', not {self.activation!r}: leave it out")
        for layer in self.where or ():
            if layer not in range(len(self.widths) + 1):
                raise ValueError(f"where names layer {layer}, but the layers are 0 to {len(self.widths)}, the output")
        if self.residual and (
            len(self.widths) % 2 == 0 or len(set(self.widths)) > 1 or self.placement == "after" or self.dropout
        ):
            raise ValueError(
                f"residual with widths {self.widths}, placement {self.placement!r} and dropout {self.dropout}: blocks "
                "need one layer and then pairs, all of one width, the norm before the activation, and no dropout"
            )
        if self.norm == "group" and (self.groups < 1 or any(n % self.groups for n in self._normed_widths)):
            raise ValueError(f"{self.groups} groups do not divide the widths {self._normed_widths}: choose a divisor")
        if self.norm == "instance" and len(self.widths) in self.normed:
            raise ValueError(f"where names layer {len(self.widths)}, the output, which has no positions: leave it out")
        if self.zero_gamma and not (self.residual and self.norm != "none"):
            raise ValueError("zero_gamma is for residual blocks with a norm: set residual=True and a norm")

    @property
    def normed(self) -> tuple[int, ...]:
        """The numbers of the layers with a norm."""
        if self.norm == "none":
            return ()
        return tuple(range(len(self.widths))) if self.where is None else tuple(sorted(set(self.where)))

    @property
    def program(self) -> Self:
        """All but the scale of the weights, which is what the replicas of one program have in common."""
        return replace(self, gain=1.0, std=None)

    def closes(self, layer: int) -> bool:
        """Whether a residual block ends with this layer."""
        return self.residual and 0 < layer < len(self.widths) and layer % 2 == 0

    @property
    def _normed_widths(self) -> tuple[int, ...]:
        return tuple((*self.widths, self.classes)[i] for i in self.normed)


def start(specs: Sequence[Spec], seeds: Sequence[int], dtype: torch.dtype = torch.float32) -> Params:
    """The initial parameters of one replica for each specification and seed.

    Named by layer: weight0, bias0, gamma0, beta0, weight1, ...; of shape (replicas, out, in), with a kernel behind it
    for convolutions, and (replicas, out). A layer whose output is normalized at once has no bias: beta takes its place.
    Weights that are not plain have their lengths beside them, length0, length1, ..., of shape (replicas, out).

    Raises
    ------
    ValueError
        If the specifications differ in more than gain and std.
    """
    spec = specs[0]
    if any(other.program != spec.program for other in specs):
        raise ValueError("replicas of one program may differ in gain and std only: start the others by themselves")
    sizes, last, params = (spec.inputs[0], *spec.widths, spec.classes), len(spec.widths), {}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for i, (fan_in, out) in enumerate(pairwise(sizes)):
        kernel = () if spec.kernel is None or i == last else (spec.kernel, spec.kernel)
        fan_in *= math.prod(spec.inputs[1:]) if spec.flat and i == last else 1
        draws = [torch.randn(out, fan_in, *kernel, generator=g, dtype=torch.float64) for g in generators]
        root = math.sqrt(fan_in * math.prod(kernel))
        stds = [s.gain / root if s.std is None else s.std for s in specs]
        params[f"weight{i}"] = torch.stack([std * draw for std, draw in zip(stds, draws, strict=True)])
        shape = (len(specs), out)
        if spec.weights != "plain":
            rows = params[f"weight{i}"].flatten(2)
            rows = rows - rows.mean(2, keepdim=True) if spec.weights == "standardized" else rows
            own = torch.linalg.vector_norm(rows, dim=2)
            params[f"length{i}"] = own if spec.length is None else torch.full_like(own, spec.length)
        if i not in spec.normed or (spec.placement == "after" and i < last):
            params[f"bias{i}"] = torch.zeros(shape)
        if i in spec.normed:
            params[f"gamma{i}"] = torch.zeros(shape) if spec.zero_gamma and spec.closes(i) else torch.ones(shape)
            params[f"beta{i}"] = torch.zeros(shape)
    return {name: value.to(dtype) for name, value in params.items()}


def learned(spec: Spec, params: Params) -> list[str]:
    """The names of the parameters that training changes: all, or without gamma or beta."""
    fixed = tuple(name for name, there in (("gamma", spec.gamma), ("beta", spec.beta)) if not there)
    return [name for name in params if not name.startswith(fixed or ("?",))]


def start_stats(spec: Spec, params: Params) -> Stats:
    """Running statistics before the first batch, mean 0 and variance 1, for replicas * units channels of each layer."""
    if spec.norm not in OF_BATCHES:
        return {}
    flat = {i: params[f"gamma{i}"].flatten() for i in spec.normed}
    return {i: RunningStats(torch.zeros_like(g), torch.ones_like(g)) for i, g in flat.items()}


def masks(spec: Spec, batch: int, generators: Sequence[torch.Generator], dtype: torch.dtype) -> list[Tensor]:
    """Dropout's factors of each hidden layer for one batch: 0, or 1 / (1 - dropout); none without dropout.

    Of alpha dropout booleans: what is kept.
    """
    if not spec.dropout:
        return []
    keep, space = 1 - spec.dropout, spec.inputs[1:]
    draws = [[torch.rand(n, batch, *space, generator=g) for n in spec.widths] for g in generators]
    stacked = (torch.stack(layer) for layer in zip(*draws, strict=True))  # (replicas, units, N) or with positions
    kept = (layer < keep for layer in stacked)
    factors = kept if spec.alpha_dropout else (layer.to(dtype) / keep for layer in kept)
    return [f.transpose(1, 2).movedim(1, 0).flatten(1, 2) if space else f for f in factors]


def forward(
    spec: Spec,
    params: Params,
    x: Tensor,
    stats: Stats | None = None,
    masks: Sequence[Tensor] = (),
    tap: Tap = lambda place, layer, value: None,
    norm: Norm | None = None,
) -> tuple[Tensor, dict[int, Moments]]:
    """The logits (replicas, N, classes), and the moments of the batch in each batch norm, by the layer's number.

    There is no train or eval mode: batch norm, also that of the mean only, uses the batch's own statistics unless it is
    given others.

    Parameters
    ----------
    spec, params : the network, from :func:`start`
    x : (replicas, N, *inputs)
    stats : running statistics, which batch norm then uses in place of the batch's own
    masks : dropout's factors from :func:`masks`; without them nothing is dropped
    tap : called as tap(place, layer, tensor) with place "z" for the output of the affine map, "xhat" for what is
        normalized, before gamma and beta, "pre" for the input of the activation (of the last layer: the logits), and
        "a" for a hidden layer's output; tensors are (replicas, units, N), or (N, replicas * channels, height, width)
    norm : in place of the specification's norm, in the same layers: called as norm(layer, x, gamma, beta) with x as
        the tap has it and gamma and beta (replicas, units); no moments are returned then

    Raises
    ------
    ValueError
        If x does not have the inputs' shape, or the batch is too small for the norm.
    """
    if tuple(x.shape[2:]) != spec.inputs or len(x) != len(params["weight0"]):
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but ({len(params['weight0'])}, N, *{spec.inputs}) is needed: "
            "replicas first, then examples"
        )
    replicas, last, moments, skip = len(x), len(spec.widths), {}, None
    h = x.transpose(0, 1).flatten(1, 2) if spec.kernel else x.transpose(1, 2)
    for i in range(last + 1):
        if spec.kernel and i == last:
            h = h if spec.flat else h.mean((-2, -1))
            h = h.reshape(len(h), replicas, -1).movedim(0, 2)  # (replicas, channels, or with positions, N)
        normed, early = i in spec.normed, spec.placement == "before" or i == last
        z = _affine(spec, params, i, h)
        tap("z", i, z)
        pre = _norm(spec, params, i, z, stats, moments, tap, norm) if normed and early else z
        if spec.closes(i):
            assert skip is not None
            pre = pre + skip
        elif spec.residual:
            skip = h
        tap("pre", i, pre)
        if i == last:
            return pre.transpose(1, 2), moments
        h = ACTIVATIONS[spec.activation](pre)
        if normed and not early:
            h = _norm(spec, params, i, h, stats, moments, tap, norm)
        if masks:
            h = alpha_dropout(h, masks[i], 1 - spec.dropout) if spec.alpha_dropout else h * masks[i]
        tap("a", i, h)
    raise AssertionError("the last layer returns")


def data_init(spec: Spec, params: Params, x: Tensor) -> Params:
    """Parameters whose affine maps put out mean 0 and standard deviation 1 in each unit, over the examples x.

    The data-dependent initialization of :cite:`salimans2016weight`, layer by layer from below, in all layers: the
    weights (or their lengths, where they are not plain) are divided by the standard deviation of z, and the bias takes
    the mean away, where there is one. A unit that puts out the same for all examples keeps its weights.

    Parameters
    ----------
    spec, params : the network, from :func:`start`
    x : (replicas, N, *inputs), such as the first mini-batch

    Raises
    ------
    ValueError
        If the network normalizes its layers by more than the mean, or x does not have the inputs' shape.
    """
    if spec.norm not in ("none", "mean"):
        raise ValueError(f"norm {spec.norm!r} sets the scale of each layer by itself: choose norm 'none' or 'mean'")
    params, rows = dict(params), "weight" if spec.weights == "plain" else "length"
    seen: dict[int, Tensor] = {}

    def tap(place: str, layer: int, value: Tensor) -> None:
        if place == "z":
            seen[layer] = value

    for i in range(len(spec.widths) + 1):
        with torch.no_grad():
            forward(spec, params, x, tap=tap)  # the layers above are computed in vain: plain, and fast enough
            z = seen[i]
            if z.ndim == 4:
                z = z.transpose(0, 1).reshape(len(x), -1, len(z) * z[0, 0].numel())  # (replicas, channels, values)
            std, mean = torch.std_mean(z, 2, correction=0)  # (replicas, units)
            std = torch.where(std > 0, std, 1.0)
            weight = params[f"{rows}{i}"]
            params[f"{rows}{i}"] = weight / std.reshape(*std.shape, *[1] * (weight.ndim - 2))
            if f"bias{i}" in params:
                params[f"bias{i}"] = (params[f"bias{i}"] - mean) / std
    return params


def _affine(spec: Spec, params: Params, i: int, h: Tensor) -> Tensor:
    weight, bias = _weight(spec, params, i), params.get(f"bias{i}")
    if weight.ndim == 3:
        return torch.bmm(weight, h) if bias is None else torch.baddbmm(bias[:, :, None], weight, h)
    flat = None if bias is None else bias.flatten()
    return functional.conv2d(h, weight.flatten(0, 1), flat, padding="same", groups=len(weight))


def _weight(spec: Spec, params: Params, i: int) -> Tensor:
    v = params[f"weight{i}"]
    if spec.weights == "plain":
        return v
    g, inputs = params[f"length{i}"].flatten(), math.prod(v.shape[2:])
    layout = weight_layout(len(g), inputs, centred=spec.weights == "standardized")
    return normalized(v, g / math.sqrt(inputs), torch.zeros_like(g), layout, eps=0.0)[0]


def _norm(
    spec: Spec,
    params: Params,
    i: int,
    x: Tensor,
    stats: Stats | None,
    moments: dict[int, Moments],
    tap: Tap,
    other: Norm | None,
) -> Tensor:
    gamma, beta, shape = params[f"gamma{i}"], params[f"beta{i}"], tuple(x.shape)
    if other is not None:
        return other(i, x, gamma, beta)
    if spec.norm in OF_BATCHES and stats is not None:
        seen, scaled = x if len(shape) == 4 else x.reshape(1, -1, shape[-1]), spec.norm == "batch"
        # seen is (N, C, H, W), or (1, C, L)
        return batch_norm_inference(seen, gamma.flatten(), beta.flatten(), stats[i], spec.eps, scaled=scaled).reshape(
            shape
        )
    if len(shape) == 4:
        layout = OF_IMAGES[spec.norm](shape, len(gamma), spec.groups)
    else:
        layout = OF_UNITS[spec.norm](shape[0], shape[1], shape[2], spec.groups)
    y, cache = normalized(x, gamma, beta, layout, spec.eps)
    tap("xhat", i, cache.xhat.reshape(shape))
    if spec.norm in OF_BATCHES:
        m = cache.moments
        moments[i] = Moments(m.mean.flatten(), m.var.flatten(), m.count)
    return y
