"""Networks of the layers in :mod:`bnlib.lab.layers`: many replicas at once, as pure functions of their parameters.

A network is a value: the shape of one example, and a layer. :func:`mlp`, :func:`convnet`, :func:`rnn`,
:func:`transformer` and :func:`encoder` make those of the book in a line. :func:`start` gives the parameters, a dict by
path such as "0.affine.weight", each with the replicas as its first axis, and :func:`forward` what comes out. One matrix
product, one norm, one activation serve all replicas, and bnlib's :class:`~bnlib.norms.Layout` says that no two of them
share a statistic.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from bnlib.lab.layers import (
    OF_IMAGES,
    Activation,
    Affine,
    AlphaDropout,
    Attention,
    Chain,
    Convolution,
    Draw,
    Dropout,
    Embedding,
    Flow,
    Layer,
    Norm,
    Params,
    Pool,
    Positions,
    Recurrent,
    Residual,
    Shape,
    Signal,
    State,
    Stats,
    Tap,
    changed,
    check_name,
    under,
    walk,
)
from bnlib.norms import Moments

PLACEMENTS = ("before", "after")


@dataclass(frozen=True)
class Net:
    """A network: a layer, mostly a chain, and the shape of the examples that it takes.

    Attributes
    ----------
    inputs : (features,), (length, features), (channels, height, width), or (length,) for symbols
    body : the layer

    Raises
    ------
    ValueError
        If a layer cannot take what the one before puts out; the layer says why.
    """

    inputs: Shape
    body: Layer

    def __post_init__(self) -> None:
        """Reject what does not fit together."""
        object.__setattr__(self, "inputs", _sizes("inputs", self.inputs))  # the way of a frozen dataclass
        if not 0 < len(self.inputs) < 4 or not all(isinstance(n, int) and n > 0 for n in self.inputs):
            raise ValueError(
                f"inputs are {self.inputs}: give positive whole numbers, (features,), (length, features) or "
                "(channels, height, width)"
            )
        self.body.out(self.inputs)

    @property
    def outputs(self) -> Shape:
        """The shape of what comes out for one example; classes last."""
        return self.body.out(self.inputs)

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers that have a place of their own, by path, in their order."""
        return {path: layer for path, layer in walk(self.body) if not isinstance(layer, Chain | Residual)}

    @property
    def chains(self) -> list[str]:
        """The paths of what the outermost chain is made of, such as hidden layers and output."""
        return [name for name, _ in self.body.parts]

    @property
    def affine(self) -> list[str]:
        """The paths of affine maps and convolutions, in their order."""
        return [path for path, layer in self.layers.items() if isinstance(layer, Affine)]


def _sizes(name: str, given: Sequence[int]) -> Shape:
    if not isinstance(given, Iterable):
        raise ValueError(f"{name} is {given!r}: give a tuple, such as ({given!r},)")
    return tuple(given)


class _Known(dict[str, Tensor]):
    """Parameters by path, of which a missing one is a clear error."""

    def __missing__(self, path: str) -> Tensor:
        raise ValueError(f"there is no {path!r} among the parameters {list(self)}: give those of start(net, ...)")


def start(
    net: Net,
    seeds: Sequence[int],
    gains: Sequence[float] | None = None,
    stds: Sequence[float | None] | None = None,
    dtype: torch.dtype = torch.float32,
) -> State:
    """The initial parameters and running statistics of one replica for each seed.

    Weights are drawn from a normal distribution with the standard deviation gain / sqrt(fan_in); biases and betas start
    at 0, gammas at 1. The layers draw in their order: two networks with the same weights in the same order give the
    same seed the same draws, whatever stands between them.

    Parameters
    ----------
    net : the network
    seeds : one for each replica
    gains, stds : for each replica the gain, or in its place the weights' standard deviation in all layers; 1 and None
        where they are left out
    dtype : of the parameters
    """
    gains = [1.0] * len(seeds) if gains is None else gains
    stds = [None] * len(seeds) if stds is None else stds
    if not len(seeds) == len(gains) == len(stds) or not len(seeds):
        raise ValueError(
            f"there are {len(seeds)} seeds, {len(gains)} gains and {len(stds)} stds: give one for each replica"
        )
    for name, values in (("gain", gains), ("std", stds)):
        for value in values:
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}: give a finite number that is not negative")
    state = net.body.start(net.inputs, Draw([torch.Generator().manual_seed(seed) for seed in seeds], gains, stds))
    stats = {path: replace(own, mean=own.mean.to(dtype), var=own.var.to(dtype)) for path, own in state.stats.items()}
    return State({path: value.to(dtype) for path, value in state.params.items()}, stats)


def learned(net: Net, params: Params) -> list[str]:
    """The paths of the parameters that training changes, in their order."""
    fixed = {under(path, name) for path, layer in walk(net.body) for name in layer.fixed}
    return [path for path in params if path not in fixed]


def forward(
    net: Net,
    params: Params,
    x: Tensor,
    stats: Stats | None = None,
    *,
    running: Stats | None = None,
    generators: Sequence[torch.Generator] = (),
    tap: Tap | None = None,
) -> tuple[Tensor, dict[str, Moments]]:
    """The logits (replicas, N, ..., classes), and the moments of the batch in each batch norm, by its path.

    There is no train or eval mode: batch norm, also that of the mean only, uses the batch's own statistics unless it is
    given others.

    Parameters
    ----------
    net, params : the network, and its parameters from :func:`start`
    x : ``(replicas, N, *inputs)``
    stats : running statistics, which batch norm then uses in place of the batch's own
    running : those of a training so far, for layers that look at them beside the batch
    generators : of each replica, for dropout and noise; without them there is neither
    tap : called as tap(path, values) with the output of each layer, and with path + ".xhat" for what a norm has
        normalized; values lie as :mod:`bnlib.lab.layers` says

    Raises
    ------
    ValueError
        If x does not have the inputs' shape or the parameters' dtype, or the batch is too small for a norm.
    """
    first = next(iter(params.values()), x)  # an activation alone has none
    replicas = len(first)
    if tuple(x.shape[2:]) != net.inputs or len(x) != replicas:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but ({replicas}, N, *{net.inputs}) is needed: replicas first, then examples"
        )
    symbols = not x.is_floating_point() and any(isinstance(layer, Embedding) for layer in net.layers.values())
    if x.dtype != first.dtype and not symbols:
        raise ValueError(f"x is {x.dtype}, but the parameters are {first.dtype}: pass x.to({first.dtype})")
    flow = Flow(_Known(params), replicas, stats, running or {}, generators, tap)
    values = x.transpose(0, 1).flatten(1, 2) if x.ndim == 5 else x.movedim(1, -1)
    values = values.transpose(1, 2) if x.ndim == 4 else values  # a sequence: (replicas, features, length, N)
    y = net.body(Signal(values, net.inputs), "", flow)
    if not isinstance(net.body, Chain):
        flow.tapped("", y.values)  # as a chain shows what it is made of
    if len(y.shape) == 3:
        return y.values.unflatten(1, (replicas, -1)).transpose(0, 1), flow.moments
    out = y.values.transpose(1, 2) if len(y.shape) == 2 else y.values
    return out.movedim(-1, 1), flow.moments


def seen(net: Net, state: State, x: Tensor, *, exact: bool = True) -> dict[str, Tensor]:
    """What :func:`forward` shows a tap, by path: the output of each layer, and what its norms have normalized.

    Parameters
    ----------
    net, state : the network
    x : ``(replicas, N, *inputs)``, also without its gradient
    exact : whether batch norm uses the statistics of x itself, or the state's running ones
    """
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        forward(net, state.params, x, None if exact else state.stats, tap=found.__setitem__)
    return found


def data_init(net: Net, params: Params, x: Tensor) -> Params:
    """Parameters whose affine maps put out mean 0 and standard deviation 1 in each unit, over the examples x.

    The data-dependent initialization of :cite:`salimans2016weight`, layer by layer from below, in all layers: the
    weights (or their lengths, where they are not plain) are divided by the standard deviation of z, and the bias takes
    the mean away, where there is one. A unit that puts out the same for all examples keeps its weights.

    Parameters
    ----------
    net, params : the network, and its parameters from :func:`start`
    x : ``(replicas, N, *inputs)``, such as the first mini-batch

    Raises
    ------
    ValueError
        If the network normalizes its layers by more than the mean, or x does not have the inputs' shape.
    """
    for layer in net.layers.values():
        if isinstance(layer, Norm) and layer.name != "mean":
            raise ValueError(
                f"norm {layer.name!r} sets the scale of each layer by itself: choose no norm, or norm 'mean'"
            )
    params = dict(params)
    for path in net.affine:
        z = seen(net, State(params, {}), x)[path]  # the layers above are computed in vain: plain, and fast enough
        if z.ndim == 4:
            z = z.transpose(0, 1).reshape(len(x), -1, len(z) * z[0, 0].numel())  # (replicas, channels, values)
        std, mean = torch.std_mean(z, 2, correction=0)  # (replicas, units)
        std = torch.where(std > 0, std, 1.0)
        rows = f"{path}.length" if f"{path}.length" in params else f"{path}.weight"
        params[rows] = params[rows] / std.reshape(*std.shape, *[1] * (params[rows].ndim - 2))
        if f"{path}.bias" in params:
            params[f"{path}.bias"] = (params[f"{path}.bias"] - mean) / std
    return params


# The networks of the book


def stack(
    inputs: Shape,
    hidden: Sequence[Affine],
    output: Chain,
    *,
    norm: str | Layer = "none",
    activation: str = "sigmoid",
    placement: str = "before",
    where: Sequence[int] | None = None,
    residual: bool = False,
    zero_gamma: bool = False,
    dropout: float = 0.0,
    alpha_dropout: bool = False,
    **of_norm: Any,
) -> Net:
    """Hidden layers of map, norm, activation and dropout, and then the output.

    Layer i is the chain "i", with "i.affine" or "i.convolution", "i.norm", "i.activation" and "i.dropout" or
    "i.alphadropout", so far as they are there; the output is the last. A map in front of a norm has no bias: beta takes
    its place.
    Residual, chain 0 is one layer and chain i a block of two, "i.residual.0" and "i.residual.1", with "i.activation"
    behind the sum.

    Parameters
    ----------
    inputs : the shape of one example
    hidden : the maps
    output : the output layer, whose last part is a map
    norm : the name of a :class:`~bnlib.lab.layers.Norm`, or "none"; or a layer as it is, a norm or what is to stand in
        its place, such as :class:`~bnlib.lab.layers.DyT`, then called "i.dyt"
    activation : a name in ``bnlib.lab.layers.ACTIVATIONS``
    placement : the norm stands "before" or "after" the activation
    where : the layers with a norm, counted from 0; the output layer is number ``len(hidden)``; None is all hidden ones
    residual : whether each two hidden layers after the first form a block, to whose output its input is added before
        the last activation
    zero_gamma : whether the last norm of each block starts with gamma 0
    dropout, alpha_dropout : the share that is dropped behind each activation, and whether in SELU's way
    of_norm : the other attributes of the norm, such as groups

    Raises
    ------
    ValueError
        If a name is unknown or the parts do not fit together.
    """
    if placement not in PLACEMENTS:
        raise ValueError(f"placement is {placement!r}: choose one of {list(PLACEMENTS)}")
    if alpha_dropout and activation != "selu":
        raise ValueError(f"alpha_dropout is made for activation 'selu', not {activation!r}: leave it out")
    if residual and placement == "after":
        raise ValueError("placement is 'after' in residual blocks, whose norms stand before the sum: choose 'before'")
    if residual and len(hidden) % 2 == 0:
        raise ValueError(f"residual with {len(hidden)} hidden layers: blocks need one layer and then pairs")
    own = _norm(norm, **of_norm)
    if zero_gamma and not (isinstance(own, Norm) and residual):
        raise ValueError("zero_gamma is for residual blocks with a norm: set residual=True and a norm")
    for number in where or ():
        if number not in range(len(hidden) + 1):
            raise ValueError(f"where names layer {number}, but the layers are 0 to {len(hidden)}, the output")
    normed = range(len(hidden)) if where is None else where
    norms = [own if i in normed else None for i in range(len(hidden) + 1)]
    dropping = (AlphaDropout if alpha_dropout else Dropout)(dropout)

    def layer(i: int, active: bool = True, **first: Any) -> Chain:
        """Hidden layer i, with its activation or without."""
        norm = norms[i]
        norm = replace(norm, **first) if norm is not None and first else norm
        early = norm if placement == "before" or not active else None
        late = [Activation(activation), norm if early is None else None, dropping if dropout else None]
        parts = [replace(hidden[i], bias=not isinstance(early, Norm)), early, *(late if active else [])]
        return Chain(tuple(part for part in parts if part is not None))

    if residual:
        end = [Activation(activation), *([dropping] if dropout else [])]
        zero = {"first": 0.0} if zero_gamma else {}
        pairs = [Residual(Chain((layer(i), layer(i + 1, False, **zero)))) for i in range(1, len(hidden), 2)]
        chains = [layer(0), *(Chain((pair, *end)) for pair in pairs)]
    else:
        chains = [layer(i) for i in range(len(hidden))]
    if (last := norms[-1]) is not None:
        *before, final = output.layers
        assert isinstance(final, Affine)
        output = Chain((*before, replace(final, bias=not isinstance(last, Norm)), last))
    return Net(inputs, Chain((*chains, output)))


def _norm(norm: str | Layer, **of_norm: Any) -> Layer | None:
    """A norm, by its name or as it is; none with the name "none", but the attributes must be a norm's."""
    if not isinstance(norm, Layer):
        check_name("norm", norm, ("none", *OF_IMAGES))
    known = [part.name for part in fields(norm if isinstance(norm, Layer) else Norm)]
    if unknown := [name for name in of_norm if name not in known]:
        raise TypeError(
            f"neither the network nor its norm has an argument {unknown}: a norm has {known}, a network those of its "
            "own function and of stack"
        )
    if isinstance(norm, Layer):
        return replace(norm, **of_norm)
    return None if norm == "none" else Norm(norm, **of_norm)


def mlp(
    inputs: Shape = (64,),
    widths: Sequence[int] = (100, 100, 100),
    classes: int = 10,
    *,
    weights: str = "plain",
    length: float | None = None,
    **how: Any,
) -> Net:
    """Dense hidden layers and a dense output layer.

    Parameters
    ----------
    inputs, widths, classes : (features,), the hidden units of each layer, and the outputs
    weights, length : of all layers, as in :class:`~bnlib.lab.layers.Affine`
    how : norm, activation and what else :func:`stack` takes
    """
    maps = [Affine(units, weights=weights, length=length) for units in (*_sizes("widths", widths), classes)]
    return stack(inputs, maps[:-1], Chain((maps[-1],)), **how)


def convnet(
    inputs: Shape = (1, 8, 8),
    widths: Sequence[int] = (8, 16),
    classes: int = 10,
    *,
    kernel: int = 3,
    flat: bool = False,
    weights: str = "plain",
    length: float | None = None,
    **how: Any,
) -> Net:
    """Convolutions that keep the size of the image, and a dense output layer.

    Parameters
    ----------
    inputs, widths, classes : (channels, height, width), the channels of each hidden layer, and the outputs
    kernel : the width of the windows, an odd number
    flat : whether the output layer has a weight for each position, or sees their mean
    weights, length, how : as in :func:`mlp`
    """
    maps = [Convolution(units, weights=weights, length=length, kernel=kernel) for units in _sizes("widths", widths)]
    output = Chain((Pool("flat" if flat else "mean"), Affine(classes, weights=weights, length=length)))
    return stack(inputs, maps, output, **how)


def rnn(inputs: Shape = (8, 8), units: int = 64, classes: int = 10, *, norm: str | Norm = "none") -> Net:
    """A recurrent layer of tanh, with a norm in each step or without, and a dense output behind its last state.

    Parameters
    ----------
    inputs, units, classes : (length, features), the units of the state, and the outputs
    norm : a norm, its name, or "none"
    """
    return Net(inputs, Chain((Recurrent(units, _norm(norm)), Affine(classes))))  # type: ignore[arg-type]


def transformer(
    symbols: int, length: int, units: int = 32, blocks: int = 2, *, heads: int = 4, qk_norm: bool = False, **how: Any
) -> Net:
    """Predicts the next symbol at each position, from those up to it.

    Parameters
    ----------
    symbols, length : of the source, and of the sequences
    units, blocks, heads : features at each position; blocks of attention and of two dense layers, four times as wide
    qk_norm : of :class:`~bnlib.lab.layers.Attention`
    how : norm, "layer" or as in :func:`stack`, such as DyT(); placement, "pre", at the start of each residual branch
        and once at the end, "post", behind each sum, or "peri", at the start and at the end of each branch, and once
        at the end; and activation, of the dense layers, "gelu" or another name
    """
    body = _blocks(units, blocks, Attention(heads, qk_norm=qk_norm), **how)
    return Net((length,), Chain((Embedding(symbols, units), Positions(), *body, Affine(symbols))))


def encoder(
    inputs: Shape = (8, 8),
    units: int = 32,
    blocks: int = 2,
    classes: int = 10,
    *,
    heads: int = 4,
    qk_norm: bool = False,
    **how: Any,
) -> Net:
    """A transformer in which every position sees all others; classes of the mean over the positions.

    Parameters
    ----------
    inputs, classes : (length, features), such as the rows of an image, and the outputs
    units, blocks, heads, qk_norm, how : as in :func:`transformer`
    """
    body = _blocks(units, blocks, Attention(heads, causal=False, qk_norm=qk_norm), **how)
    return Net(inputs, Chain((Affine(units), Positions(), *body, Pool(), Affine(classes))))


def _blocks(
    units: int,
    blocks: int,
    attention: Attention,
    *,
    norm: str | Layer = "layer",
    placement: str = "pre",
    activation: str = "gelu",
) -> tuple[Layer, ...]:
    """The blocks of a transformer, and the norm behind the last."""
    if placement not in ("pre", "post", "peri"):
        raise ValueError(f"placement is {placement!r}: choose one of ['pre', 'post', 'peri']")
    norms = () if (own := _norm(norm)) is None else (own,)
    before, inside, behind = {"pre": (norms, (), ()), "post": ((), (), norms), "peri": (norms, norms, ())}[placement]

    def branch(*layers: Layer) -> Chain:
        return Chain((Residual(Chain((*before, *layers, *inside))), *behind))

    dense = (Affine(4 * units), Activation(activation), Affine(units))
    return (*[Chain((branch(attention), branch(*dense)))] * blocks, *before)


# A network as JSON


def described(layer: Net | Layer) -> dict[str, Any]:
    """A network or layer as JSON has it: the name of its class, and what differs from the class's defaults."""
    return {"layer": type(layer).__name__} | {name: _plain(value) for name, value in changed(layer).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return described(value) if isinstance(value, Layer) else value


def made(description: Mapping[str, Any]) -> Any:
    """The network or layer of a description.

    Raises
    ------
    ValueError
        If there is no layer of a name, or it cannot be made so.
    TypeError
        If a layer has no attribute of a name.
    """
    known = {"Net": Net} | {cls.__name__: cls for cls in _kinds(Layer)}
    name = description.get("layer")
    if name not in known:
        raise ValueError(f"no layer is called {name!r}: choose one of {sorted(known)}")
    own = {key: value for key, value in description.items() if key != "layer"}
    there = [part.name for part in fields(known[name]) if part.init]
    if unknown := [key for key in own if key not in there]:
        raise TypeError(f"{name} has no attribute {unknown}: choose of {there}")
    return known[name](**{key: _made(value) for key, value in own.items()})


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_made(part) for part in value)
    return made(value) if isinstance(value, Mapping) else value


def _kinds(cls: type[Layer]) -> list[type[Layer]]:
    return [kind for own in cls.__subclasses__() for kind in (own, *_kinds(own))]
