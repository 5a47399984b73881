"""Each layer is what plain PyTorch makes of one network, forward and backward, and no replica sees another."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from small import examples, generator, one_of, randomized
from torch import Tensor, nn
from torch.nn import functional

from bnlib.lab import train
from bnlib.lab.layers import (
    ACTIVATIONS,
    OF_BATCHES,
    OF_IMAGES,
    OF_UNITS,
    Activation,
    Affine,
    AlphaDropout,
    Attention,
    Chain,
    Convolution,
    Dropout,
    DyT,
    Embedding,
    Flow,
    Layer,
    Noise,
    Norm,
    Params,
    Pool,
    Positions,
    Recurrent,
    Residual,
    Scale,
    Shape,
    Signal,
)
from bnlib.lab.nets import Net, forward, seen, start
from bnlib.running import RunningStats

UNITS, SEQUENCE, IMAGES = (4,), (3, 4), (4, 3, 2)
SHAPES = {"units": UNITS, "sequence": SEQUENCE, "images": IMAGES}
Plain = Callable[[Params, Tensor], Tensor]


class Case(NamedTuple):
    """A layer, the shape of its examples, those of its parameters, and one network of it as plain PyTorch has it."""

    layer: Layer
    inputs: Shape
    shapes: dict[str, Shape]
    plain: Plain


def by_unit(x: Tensor, numbers: Tensor) -> Tensor:
    """Numbers for each unit beside x (N, ...)."""
    return numbers[:, None, None] if x.ndim == 4 else numbers


def channels(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Of x with its units last, for a function that wants them on axis 1."""
    return lambda x: f(x.transpose(1, 2)).transpose(1, 2) if x.ndim == 3 else f(x)


def plain_norm(name: str, p: Params, x: Tensor, groups: int = 2, eps: float = 1e-5) -> Tensor:
    gamma, beta = p["gamma"], p["beta"]
    over = tuple(axis for axis in range(x.ndim) if axis != (1 if x.ndim == 4 else x.ndim - 1))
    match name:
        case "batch":
            return channels(lambda v: functional.batch_norm(v, None, None, gamma, beta, training=True, eps=eps))(x)
        case "mean":
            return (x - x.mean(over, keepdim=True)) * by_unit(x, gamma) + by_unit(x, beta)
        case "scale":
            size = (x.square().mean(over, keepdim=True) + eps).sqrt()
            return x / size * by_unit(x, gamma) + by_unit(x, beta)
        case "layer" if x.ndim == 4:
            return functional.group_norm(x, 1, gamma, beta, eps)
        case "layer":
            return functional.layer_norm(x, x.shape[-1:], gamma, beta, eps)
        case "rms":
            kept = x.shape[1:] if x.ndim == 4 else x.shape[-1:]
            return functional.rms_norm(x, kept, eps=eps) * by_unit(x, gamma) + by_unit(x, beta)
        case "group" if x.ndim == 3:
            return functional.group_norm(x.flatten(0, 1), groups, gamma, beta, eps).reshape(x.shape)
        case "group":
            return functional.group_norm(x, groups, gamma, beta, eps)
        case _:
            return functional.instance_norm(x, weight=gamma, bias=beta, eps=eps)


def rows(p: Params, weights: str) -> Tensor:
    """Weights with a length of their own."""
    v = p["weight"].flatten(1)
    v = v - v.mean(1, keepdim=True) if weights == "standardized" else v
    return (p["length"][:, None] * functional.normalize(v, eps=0.0)).reshape(p["weight"].shape)


def plain_recurrent(norm: str | None, every: bool, activation: str = "tanh") -> Plain:
    def run(p: Params, x: Tensor) -> Tensor:
        h, states = torch.zeros(len(x), len(p["input.weight"]), dtype=x.dtype), []
        own = {name.removeprefix("norm."): value for name, value in p.items()}
        for step in range(x.shape[1]):
            z = x[:, step] @ p["input.weight"].T + h @ p["recurrent.weight"].T
            z = z + p["bias"] if norm is None else plain_norm(norm, own, z)
            h = ACTIVATIONS[activation](z)
            states.append(h)
        return torch.stack(states, 1) if every else h

    return run


def plain_attention(heads: int, causal: bool) -> Plain:
    def run(p: Params, x: Tensor) -> Tensor:
        units, length = x.shape[-1], x.shape[1]
        module = nn.MultiheadAttention(units, heads, bias=False, batch_first=True).double()
        own = {"in_proj_weight": p["qkv.weight"], "out_proj.weight": p["out.weight"]}
        mask = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
        how = {"need_weights": False, "attn_mask": mask}
        return torch.func.functional_call(module, own, (x, x, x), how)[0]

    return run


GAMMA_BETA = {"gamma": (4,), "beta": (4,)}
QKV_OUT = {"qkv.weight": (12, 4), "out.weight": (4, 4)}
CASES = {
    "affine": Case(Affine(5), UNITS, {"weight": (5, 4), "bias": (5,)},
                   lambda p, x: functional.linear(x, p["weight"], p["bias"])),
    "affine, no bias": Case(Affine(5, bias=False), UNITS, {"weight": (5, 4)}, lambda p, x: x @ p["weight"].T),
    "affine in a sequence": Case(Affine(5), SEQUENCE, {"weight": (5, 4), "bias": (5,)},
                                 lambda p, x: functional.linear(x, p["weight"], p["bias"])),
    "convolution": Case(Convolution(5), IMAGES, {"weight": (5, 4, 3, 3), "bias": (5,)},
                        lambda p, x: functional.conv2d(x, p["weight"], p["bias"], padding=1)),
    "convolution, wide": Case(Convolution(2, bias=False, kernel=5), IMAGES, {"weight": (2, 4, 5, 5)},
                              lambda p, x: functional.conv2d(x, p["weight"], padding=2)),
    "dyt": Case(DyT(), UNITS, {"alpha": (1,), **GAMMA_BETA},
                lambda p, x: p["gamma"] * torch.tanh(p["alpha"] * x) + p["beta"]),
    "dyt in a sequence": Case(DyT(0.7), SEQUENCE, {"alpha": (1,), **GAMMA_BETA},
                              lambda p, x: p["gamma"] * torch.tanh(p["alpha"] * x) + p["beta"]),
    "dyt of images": Case(DyT(), IMAGES, {"alpha": (1,), **GAMMA_BETA},
                          lambda p, x: by_unit(x, p["gamma"]) * torch.tanh(p["alpha"] * x) + by_unit(x, p["beta"])),
    "embedding": Case(Embedding(7, 4), (3,), {"weight": (7, 4)}, lambda p, x: functional.embedding(x, p["weight"])),
    "positions": Case(Positions(), SEQUENCE, {"weight": (4, 3)}, lambda p, x: x + p["weight"].T),
    "attention, causal": Case(Attention(2), SEQUENCE, QKV_OUT, plain_attention(2, True)),
    "attention": Case(Attention(1, causal=False), SEQUENCE, QKV_OUT, plain_attention(1, False)),
    "recurrent": Case(Recurrent(5), SEQUENCE, {"input.weight": (5, 4), "recurrent.weight": (5, 5), "bias": (5,)},
                      plain_recurrent(None, every=False)),
    "recurrent, every state": Case(Recurrent(5, activation="relu", every=True), SEQUENCE,
                                   {"input.weight": (5, 4), "recurrent.weight": (5, 5), "bias": (5,)},
                                   plain_recurrent(None, every=True, activation="relu")),
    "pool, mean": Case(Pool(), SEQUENCE, {}, lambda p, x: x.mean(1)),
    "pool, last": Case(Pool("last"), SEQUENCE, {}, lambda p, x: x[:, -1]),
    "pool, flat": Case(Pool("flat"), SEQUENCE, {}, lambda p, x: x.transpose(1, 2).flatten(1)),
    "pool, mean of images": Case(Pool(), IMAGES, {}, lambda p, x: x.mean((2, 3))),
    "pool, flat images": Case(Pool("flat"), IMAGES, {}, lambda p, x: x.flatten(1)),
    "skipinit": Case(Residual(Affine(4), 0.0), UNITS, {"affine.weight": (4, 4), "affine.bias": (4,), "scale": (1,)},
                     lambda p, x: x + p["scale"] * functional.linear(x, p["affine.weight"], p["affine.bias"])),
    "residual in a sequence": Case(Residual(Attention(2), 0.2), SEQUENCE,
                                   {**{f"attention.{name}": own for name, own in QKV_OUT.items()}, "scale": (1,)},
                                   lambda p, x: x + p["scale"] * plain_attention(2, True)(
                                       {name: p[f"attention.{name}"] for name in QKV_OUT}, x)),
    "residual images": Case(Residual(Chain((Convolution(4), Activation("tanh")))), IMAGES,
                            {"convolution.weight": (4, 4, 3, 3), "convolution.bias": (4,)},
                            lambda p, x: x + torch.tanh(functional.conv2d(
                                x, p["convolution.weight"], p["convolution.bias"], padding=1))),
    "chain": Case(Chain((Affine(5), Activation("tanh"), Affine(3), Chain((Scale(),)))), UNITS,
                  {"0.weight": (5, 4), "0.bias": (5,), "2.weight": (3, 5), "2.bias": (3,),
                   "3.scale.gamma": (3,), "3.scale.beta": (3,)},
                  lambda p, x: p["3.scale.gamma"] * functional.linear(
                      torch.tanh(functional.linear(x, p["0.weight"], p["0.bias"])), p["2.weight"], p["2.bias"])
                  + p["3.scale.beta"]),
    **{f"{weights} rows": Case(Affine(5, weights=weights), SEQUENCE, {"weight": (5, 4), "length": (5,), "bias": (5,)},
                               lambda p, x, w=weights: functional.linear(x, rows(p, w), p["bias"]))
       for weights in ("normed", "standardized")},
    **{f"{weights} windows": Case(Convolution(5, weights=weights), IMAGES,
                                  {"weight": (5, 4, 3, 3), "length": (5,), "bias": (5,)},
                                  lambda p, x, w=weights: functional.conv2d(x, rows(p, w), p["bias"], padding=1))
       for weights in ("normed", "standardized")},
    **{f"{name} norm of {kind}": Case(Norm(name, groups=2, eps=eps), shape, GAMMA_BETA,
                                      lambda p, x, n=name, e=eps: plain_norm(n, p, x, eps=e))
       for kind, shape, eps in (("units", UNITS, 1e-5), ("sequence", SEQUENCE, 0.1), ("images", IMAGES, 1e-5))
       for name in (OF_IMAGES if kind == "images" else OF_UNITS)},
    **{f"recurrent, {name} norm": Case(Recurrent(4, Norm(name, groups=2), every=name == "layer"), SEQUENCE,
                                       {"input.weight": (4, 4), "recurrent.weight": (4, 4), "norm.gamma": (4,),
                                        "norm.beta": (4,)},
                                       plain_recurrent(name, every=name == "layer"))
       for name in OF_UNITS},
    **{f"scale of {kind}": Case(Scale(), shape, GAMMA_BETA,
                                lambda p, x: x * by_unit(x, p["gamma"]) + by_unit(x, p["beta"]))
       for kind, shape in SHAPES.items()},
    **{f"{layer.kind} without generators, {kind}": Case(layer, shape, {}, lambda p, x: x)
       for layer in (Dropout(0.4), AlphaDropout(0.4), Noise(0.1, 0.2, 0.3)) for kind, shape in SHAPES.items()},
    **{name: Case(Activation(name), SEQUENCE, {}, lambda p, x, f=f: f(x)) for name, f in {
        "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "gelu": functional.gelu,
        "normprop": lambda z: (torch.relu(z) - (2 * math.pi) ** -0.5) / (0.5 - 0.5 / math.pi) ** 0.5,
        "selu": functional.selu, "identity": lambda z: z, "sigmoid - 1/2": lambda z: torch.sigmoid(z) - 0.5,
        "tanh + 1": lambda z: torch.tanh(z) + 1}.items()},
}  # fmt: skip
RANDOM = {
    f"{layer.kind} of {kind}": (layer, shape)
    for layer in (Dropout(0.4), AlphaDropout(0.4), Noise(0.1, 0.2, 0.3), Noise(0.5))
    for kind, shape in SHAPES.items()
}
by_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_the_table_has_every_layer():
    kinds: list[type[Layer]] = list(Layer.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind for kind in kinds if kind.__module__ == Layer.__module__} == {type(c.layer) for c in CASES.values()}
    assert {case.layer.name for case in CASES.values() if isinstance(case.layer, Activation)} == set(ACTIVATIONS)


@by_case
def test_shapes_and_names(case: Case):
    net = Net(case.inputs, case.layer)
    params, _ = start(net, [0, 1, 2])
    assert {name: tuple(value.shape[1:]) for name, value in params.items()} == case.shapes
    assert {len(value) for value in params.values()} <= {3}
    assert {value.dtype for value in params.values()} <= {torch.float32}
    y, _ = forward(net, randomized(net).params, examples(net))
    assert y.shape == (2, 5, *net.outputs)


@by_case
@pytest.mark.parametrize("n", [3, 5])  # as many examples as replicas, and others
def test_values_and_gradients_are_those_of_plain_torch_for_each_replica(case: Case, n: int):
    net = Net(case.inputs, case.layer)
    params, x = randomized(net, 3).params, examples(net, n, 3)
    leaves = [value.requires_grad_() for value in params.values()]
    leaves += [x.requires_grad_()] if x.is_floating_point() else []
    y, _ = forward(net, params, x)
    dy = torch.randn(y.shape, generator=generator(3), dtype=y.dtype)
    plain = torch.stack([case.plain({name: p[r] for name, p in params.items()}, x[r]) for r in range(3)])
    torch.testing.assert_close(y, plain, rtol=1e-11, atol=1e-12)
    ours, theirs = (torch.autograd.grad(out, leaves, dy) for out in (y, plain))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-11)


@by_case
@pytest.mark.parametrize("n", [3, 5])
def test_no_replica_sees_another(case: Case, n: int):
    net = Net(case.inputs, case.layer)
    params, x = randomized(net, 3).params, examples(net, n, 3)
    together, moments = forward(net, params, x)
    for r in range(3):
        alone, own = forward(net, one_of(params, r), x[r : r + 1])
        torch.testing.assert_close(together[r : r + 1], alone, rtol=1e-12, atol=1e-12)
        assert own.keys() == moments.keys()
        for path, m in own.items():
            for name in ("mean", "var"):
                both = getattr(moments[path], name).reshape(3, -1)[r]
                torch.testing.assert_close(both, getattr(m, name), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("layer", "shape"), RANDOM.values(), ids=RANDOM)
@pytest.mark.parametrize("n", [3, 5])
def test_what_is_random_is_a_replicas_own(layer: Layer, shape: Shape, n: int):
    net = Net(shape, Chain((layer, layer)))
    x = examples(net, n, 1).expand(3, *[-1] * (len(shape) + 1))
    together, _ = forward(net, {}, x, generators=[generator(seed) for seed in (4, 5, 4)])
    assert torch.equal(together[0], together[2])
    assert not torch.isclose(together[0], together[1]).all()
    alone, _ = forward(net, {}, x[:1], generators=[generator(5)])
    assert torch.equal(together[1:2], alone)
    assert torch.equal(forward(net, {}, x)[0], x)


# Randomness


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_dropout_drops_the_right_share_and_keeps_the_mean(shape: Shape):
    net = Net((*shape[:-1], 40), Dropout(0.3))
    x = torch.ones(2, 500, *net.inputs, dtype=torch.float64)
    y, _ = forward(net, {}, x, generators=[generator(0), generator(1)])
    torch.testing.assert_close(y[y > 0], torch.full_like(y[y > 0], 1 / 0.7))
    assert (y == 0).double().mean((1, *range(2, y.ndim))).tolist() == pytest.approx([0.3, 0.3], abs=0.02)
    assert y.mean().item() == pytest.approx(1, abs=0.03)


def test_alpha_dropout_keeps_mean_and_variance():
    net = Net((2000,), AlphaDropout(0.3))
    x = functional.selu(torch.randn(1, 200, 2000, generator=generator(), dtype=torch.float64))
    y, _ = forward(net, {}, x, generators=[generator()])
    assert [y.mean().item(), y.std().item()] == pytest.approx([0, 1], abs=0.01)
    assert 0.29 < (y != y.clamp(y.min() + 1e-9)).double().mean() < 0.31  # what is dropped lies at one place, below
    assert not torch.equal(x, y)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_noise_has_the_moments_that_it_says(shape: Shape):
    """X = 3: what all examples share has the variance (3 * 0.5)**2 + 0.2**2, and each value's own 0.3**2."""
    shape = (2000, 2, 2) if len(shape) == 3 else (*shape[:-1], 2000)
    net = Net(shape, Noise(scale=0.5, shift=0.2, each=0.3))
    y, _ = forward(net, {}, torch.full((1, 50, *shape), 3.0), generators=[generator()])
    units = y[0].movedim(1 if len(shape) == 3 else -1, 0).flatten(1)  # (units, values)
    shared = units.mean(1)
    assert shared.mean().item() == pytest.approx(3, abs=0.15)
    assert shared.var().item() == pytest.approx(1.5**2 + 0.2**2, rel=0.1)
    assert units.var(1).mean().item() == pytest.approx(0.09, rel=0.05)
    (shift, _), (scale, _) = (forward(Net(shape, layer), {}, torch.zeros(1, 50, *shape), generators=[generator()])
                              for layer in (Noise(shift=0.2), Noise(scale=0.5)))  # fmt: skip
    assert shift.std().item() == pytest.approx(0.2, rel=0.05)
    assert torch.equal(scale, torch.zeros_like(scale))


# Statistics


@pytest.mark.parametrize("name", OF_BATCHES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_statistics_take_the_batchs_place(name: str, shape: Shape):
    net = Net(shape, Chain((Norm(name), Activation("tanh"), Norm(name))))
    params, x = randomized(net).params, examples(net)
    y, moments = forward(net, params, x)
    assert list(moments) == ["0", "2"]
    exact = {path: RunningStats(m.mean, m.var) for path, m in moments.items()}
    torch.testing.assert_close(forward(net, params, x, exact)[0], y, rtol=1e-10, atol=1e-12)
    stats = {path: s.update(moments[path]) for path, s in start(net, [0, 1], dtype=torch.float64).stats.items()}
    whole, none = forward(net, params, x, stats)
    assert none == {}
    assert not torch.allclose(whole, y)
    torch.testing.assert_close(forward(net, params, x[:, 2:3], stats)[0], whole[:, 2:3])


@pytest.mark.parametrize("name", OF_BATCHES)
def test_a_recurrent_layer_has_statistics_for_each_step(name: str):
    net = Net((3, 4), Chain((Recurrent(5, Norm(name, momentum=0.4)), Affine(2))))
    state, x = randomized(net), examples(net)
    steps = [f"recurrent.norm.{step}" for step in range(3)]
    y, moments = forward(net, state.params, x)
    assert list(state.stats) == list(moments) == steps
    assert {(len(s.mean), s.momentum) for s in state.stats.values()} == {(10, 0.4)}
    exact = {path: RunningStats(m.mean, m.var) for path, m in moments.items()}
    torch.testing.assert_close(forward(net, state.params, x, exact)[0], y, rtol=1e-10, atol=1e-12)
    turned = {path: exact[other] for path, other in zip(steps, [*steps[1:], steps[0]], strict=True)}
    assert not torch.allclose(forward(net, state.params, x, turned)[0], y)


def test_moments_of_a_sequence_are_over_examples_and_positions():
    net = Net((3, 4), Norm("batch"))
    x = examples(net)
    _, moments = forward(net, randomized(net).params, x)
    torch.testing.assert_close(moments[""].mean, x.mean((1, 2)).flatten())
    torch.testing.assert_close(moments[""].var, x.var((1, 2), correction=0).flatten())
    assert moments[""].count == 15


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in SHAPES for n in (OF_IMAGES if k == "images" else OF_UNITS)])
def test_what_a_norm_shows_lies_as_its_output(kind: str, name: str):
    net = Net(SHAPES[kind], Chain((Norm(name, groups=2),)))
    state, x = randomized(net), examples(net)
    found = seen(net, state, x)
    assert list(found) == ["norm.xhat", "norm"]
    gamma, beta = (state.params[f"norm.{which}"] for which in ("gamma", "beta"))
    shape = (2, 4, *[1] * len(SHAPES[kind])) if kind != "images" else (1, 8, 1, 1)
    scaled = found["norm.xhat"] * gamma.reshape(shape) + beta.reshape(shape)
    torch.testing.assert_close(scaled, found["norm"], rtol=1e-12, atol=1e-12)


def test_a_recurrent_norm_shows_every_step():
    net = Net((3, 4), Chain((Recurrent(5, Norm("batch")),)))
    state, x = randomized(net), examples(net)
    found = seen(net, state, x)
    assert list(found) == [*(f"recurrent.norm.{step}.xhat" for step in range(3)), "recurrent"]
    first = x[:, :, 0] @ state.params["recurrent.input.weight"].mT  # (replicas, N, units), as h is 0
    centred = (first - first.mean(1, keepdim=True)) / (first.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(found["recurrent.norm.0.xhat"], centred.mT, rtol=1e-10, atol=1e-12)


# Derivatives


class Everything(NamedTuple):
    """Networks for derivatives of derivatives."""

    net: Net
    n: int


NETS = {
    "batch norm": Everything(Net((3,), Chain((Affine(4), Norm("batch"), Activation("tanh"), Affine(2)))), 5),
    "attention, DyT and SkipInit": Everything(
        Net((3, 4), Chain((Residual(Chain((DyT(), Attention(2))), 0.3), Norm("rms"), Pool(), Affine(2)))), 3
    ),
    "recurrent": Everything(Net((3, 2), Chain((Recurrent(3, Norm("batch")), Affine(2)))), 4),
    "images": Everything(Net((2, 3, 2), Chain((Convolution(2, weights="normed"), Norm("group", groups=2), Pool()))), 3),
}  # fmt: skip
by_net = pytest.mark.parametrize(("net", "n"), NETS.values(), ids=NETS)


@by_net
def test_the_gradient_has_a_gradient(net: Net, n: int):
    params, x = randomized(net).params, examples(net, n)
    leaves = [p.requires_grad_() for p in params.values()]

    def output(x: Tensor, *values: Tensor) -> Tensor:
        return forward(net, dict(zip(params, values, strict=True)), x)[0]

    assert torch.autograd.gradgradcheck(output, (x.requires_grad_(), *leaves), fast_mode=True)


@by_net
def test_functional_gradients_and_maps_over_replicas(net: Net, n: int):
    params, x = randomized(net, 3).params, examples(net, n, 3)

    def loss(own: Params, x: Tensor) -> Tensor:
        return forward(net, {name: value[None] for name, value in own.items()}, x[None])[0].square().mean()

    mapped = torch.func.vmap(torch.func.grad(loss))(params, x)
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    together = forward(net, leaves, x)[0].square().flatten(1).mean(1).sum()
    for (name, own), grad in zip(mapped.items(), torch.autograd.grad(together, list(leaves.values())), strict=True):
        torch.testing.assert_close(own, grad, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


# What single layers are


def test_causal_attention_does_not_look_ahead():
    for causal in (True, False):
        net = Net((4, 6), Attention(3, causal=causal))
        params, x = randomized(net).params, examples(net)
        moved = x.clone()
        moved[:, :, 2] += 1
        y, other = (forward(net, params, inputs)[0] for inputs in (x, moved))
        assert torch.equal(y[:, :, :2], other[:, :, :2]) == causal
        assert not torch.isclose(y[:, :, 2:], other[:, :, 2:]).all(-1).any()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_skipinit_starts_as_the_identity(shape: Shape):
    body = Convolution(4) if len(shape) == 3 else Affine(4)
    net, bare = Net(shape, Residual(body, 0.0)), Net(shape, Residual(body))
    params, x = start(net, [0, 1], dtype=torch.float64).params, examples(net)
    assert torch.equal(forward(net, params, x)[0], x)
    ones = {**params, "scale": torch.ones_like(params["scale"])}
    without = {name: value for name, value in params.items() if name != "scale"}
    torch.testing.assert_close(forward(net, ones, x)[0], forward(bare, without, x)[0])
    halves = {**params, "scale": torch.tensor([[0.5], [2.0]], dtype=torch.float64)}
    y, whole = forward(net, halves, x)[0] - x, forward(bare, without, x)[0] - x
    torch.testing.assert_close(y[0], 0.5 * whole[0])
    torch.testing.assert_close(y[1], 2.0 * whole[1])


def test_blocks_within_blocks_have_scales_of_their_own():
    net = Net(UNITS, Residual(Residual(Affine(4), 0.5), 0.25))
    params, _ = start(net, [0])
    assert {name: value.item() for name, value in params.items() if name.endswith("scale")} == {
        "scale": 0.25,
        "residual.scale": 0.5,
    }


def test_layers_have_names_of_their_own():
    affine, norm = Affine(4), Norm("batch")
    assert Chain((affine, norm, Activation("tanh"))).names == ("affine", "norm", "activation")
    assert Chain((affine, norm, affine, Chain(()))).names == ("0", "norm", "2", "3")
    assert Chain([affine, norm]) == Chain((affine, norm))  # type: ignore[arg-type]


def test_what_is_not_learned_is_named():
    for layer in (Norm("batch", gamma=False), Scale(gamma=False)):
        assert layer.fixed == ["gamma"]
    for layer in (Norm("batch", beta=False), Scale(beta=False)):
        assert layer.fixed == ["beta"]
    assert [*Norm("layer").fixed, *Scale().fixed, *Affine(3).fixed] == []


def test_what_starts_where():
    for layer, name, value in (
        (DyT(0.7), "alpha", 0.7),
        (DyT(), "alpha", 0.5),
        (DyT(), "gamma", 1.0),
        (Norm("layer", first=0.2), "gamma", 0.2),
        (Scale(), "gamma", 1.0),
        (Scale(), "beta", 0.0),
    ):
        own = start(Net(UNITS, layer), [0], dtype=torch.float64).params[name]
        assert torch.equal(own, torch.full_like(own, value))
    stats = start(Net(UNITS, Norm("batch", momentum=None)), [0, 1], dtype=torch.float64).stats[""]
    assert (stats.mean.tolist(), stats.var.tolist(), stats.momentum) == ([0.0] * 8, [1.0] * 8, None)
    assert stats.mean.dtype == torch.float64


@by_case
def test_weights_and_nothing_else_are_called_weight(case: Case):
    """They are what is drawn: so decay finds them, and leaves gammas, biases, lengths and scales alone."""
    net = Net(case.inputs, case.layer)
    one, other = (start(net, [seed]).params for seed in (0, 1))
    drawn = {name for name in one if not torch.equal(one[name], other[name]) and not train.ends(name, "length")}
    assert {name for name in one if train.ends(name, "weight")} == drawn


def test_weights_are_normal_with_the_layers_own_fan_in():
    cases: list[tuple[Layer, Shape, str, float]] = [
        (Affine(50), (80,), "weight", 80),
        (Affine(50), (3, 80), "weight", 80),
        (Convolution(40), (10, 4, 4), "weight", 90),
        (Recurrent(50), (3, 80), "input.weight", 80),
        (Recurrent(70), (3, 8), "recurrent.weight", 70),
        (Embedding(50, 80), (3,), "weight", 80),
        (Positions(), (60, 80), "weight", 80),
        (Attention(2), (3, 50), "qkv.weight", 50),
        (Attention(2), (3, 50), "out.weight", 50),
    ]
    for layer, shape, name, fan_in in cases:
        weights = start(Net(shape, layer), [0, 1, 2], [2.0, 1.0, 1.0], [None, None, 0.01], torch.float64).params[name]
        expected = [2 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), 0.01]
        assert weights.flatten(1).std(1).tolist() == pytest.approx(expected, rel=0.07), (layer, name)
        assert abs(weights[1].mean().item()) < 0.1 / math.sqrt(fan_in)


def test_a_new_layer_is_one_class():
    @dataclass(frozen=True)
    class Shifted(Layer):
        """X, and what a layer below showed of itself."""

        by: float

        def __call__(self, x: Signal, path: str, flow: Flow) -> Signal:
            return x._replace(values=x.values + self.by)

    net = Net((3,), Chain((Shifted(2.0), Affine(2))))
    x = examples(net)
    found = seen(net, randomized(net), x)
    torch.testing.assert_close(found["shifted"], (x + 2).mT)


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Affine(0), "units is 0: give a positive whole number"),
        (lambda: Affine(2.5), "units is 2.5"),  # type: ignore[arg-type]
        (lambda: Affine("3"), "units is '3'"),  # type: ignore[arg-type]
        (lambda: Affine(3, weights="normal"), r"weights is 'normal': choose one of \['plain', 'normed', 'standard"),
        (lambda: Affine(3, length=1.0), "length is 1.0 and weights 'plain': give a finite number, and weights 'norm"),
        (lambda: Affine(3, weights="normed", length=math.nan), "length is nan"),
        (lambda: Convolution(3, kernel=4), "kernel is 4: give an odd number"),
        (lambda: Convolution(3, kernel=0), "kernel is 0: give a positive whole number"),
        (lambda: Convolution(0), "units is 0"),
        (lambda: Norm("bacth"), r"norm is 'bacth': choose one of \['batch', 'mean', .*'instance'\]"),
        (lambda: Norm("batch", eps=-1e-5), "eps is -1e-05: give a finite number that is not negative"),
        (lambda: Norm("batch", eps=math.inf), "eps is inf"),
        (lambda: Norm("group", groups=0), "groups is 0: give a positive whole number"),
        (lambda: Activation("relo"), r"activation is 'relo': choose one of \['sigmoid', 'tanh'"),
        (lambda: Dropout(1.0), "dropout is 1.0: give a share of at least 0 and below 1"),
        (lambda: AlphaDropout(-0.1), "dropout is -0.1"),
        (lambda: Dropout(math.nan), "dropout is nan"),
        (lambda: Noise(scale=-1.0), "scale is -1.0: give a finite number that is not negative"),
        (lambda: Noise(shift=math.inf), "shift is inf"),
        (lambda: Noise(each=math.nan), "each is nan"),
        (lambda: Pool("max"), r"pool is 'max': choose one of \['mean', 'last', 'flat'\]"),
        (lambda: Recurrent(0), "units is 0"),
        (lambda: Recurrent(3, activation="tan"), "activation is 'tan'"),
        (lambda: Embedding(0, 3), "symbols is 0"),
        (lambda: Embedding(3, 0), "units is 0"),
        (lambda: Attention(0), "heads is 0"),
    ],
)  # fmt: skip
def test_what_is_no_layer_is_a_clear_error(make: Callable[[], Layer], message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Affine(3), IMAGES, r"an affine map cannot take images of shape \(4, 3, 2\): put a Pool in front"),
        (Convolution(3), UNITS, r"a convolution cannot take inputs of shape \(4,\): give \(channels, height, width\)"),
        (Convolution(3), SEQUENCE, r"shape \(3, 4\)"),
        (Norm("instance"), UNITS, r"norm 'instance' is for images, and cannot take \(4,\): choose one of \['batch'"),
        (Norm("instance"), SEQUENCE, r"cannot take \(3, 4\)"),
        (Norm("group", groups=3), UNITS, r"3 groups do not divide the 4 units of \(4,\): choose a divisor"),
        (Norm("group", groups=3), IMAGES, "3 groups do not divide the 4 units"),
        (Pool(), UNITS, r"pool 'mean' cannot take \(4,\): it is for images and sequences"),
        (Pool("last"), IMAGES, r"pool 'last' cannot take \(4, 3, 2\)"),
        (Recurrent(3), UNITS, r"a recurrent layer cannot take \(4,\): give sequences, \(length, features\)"),
        (Recurrent(3, Norm("instance")), SEQUENCE, "norm 'instance' is for images"),
        (Embedding(3, 2), SEQUENCE, r"an embedding cannot take \(3, 4\): give symbols, \(length,\)"),
        (Positions(), UNITS, r"positions cannot be added to \(4,\): give sequences"),
        (Attention(3), SEQUENCE, r"attention with 3 heads cannot take \(3, 4\): .* heads that divide the features"),
        (Attention(1), UNITS, r"cannot take \(4,\)"),
        (Residual(Affine(3)), UNITS, r"a residual block makes \(3,\) of \(4,\), and they cannot be added: keep the s"),
        (Chain((Affine(3), Norm("group", groups=2))), UNITS, "2 groups do not divide the 3 units"),
    ],
)
def test_what_does_not_fit_is_said_by_the_layer_that_knows_it(layer: Layer, shape: Shape, message: str):
    with pytest.raises(ValueError, match=message):
        Net(shape, layer)


@pytest.mark.parametrize("weights", ["normed", "standardized"])
@pytest.mark.parametrize(("gains", "stds"), [([1.0, 0.0], None), (None, [None, 0.0])])
def test_weights_without_a_length_have_no_direction(weights: str, gains: list[float] | None, stds: list | None):
    with pytest.raises(ValueError, match=rf"gain is .* and std .*, but weights '{weights}' of length 0 have no direct"):
        start(Net(UNITS, Affine(3, weights=weights)), [0, 1], gains, stds)


def test_what_is_no_layer_in_a_chain_is_a_clear_error():
    with pytest.raises(TypeError, match=r"'affine' is no layer: give values of bnlib.lab.layers, such as Affine\(100"):
        Chain((Affine(3), "affine"))  # type: ignore[arg-type]


def test_what_is_no_symbol_is_a_clear_error():
    net = Net((3,), Embedding(5, 2))
    params, _ = start(net, [0])
    for x, message in ((torch.full((1, 2, 3), 5), "none of 5 symbols .*: give whole numbers from 0 to 4"),
                       (torch.zeros(1, 2, 3), "torch.float32 is none of 5 symbols")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            forward(net, params, x)


def test_missing_statistics_are_a_clear_error():
    net = Net((4,), Chain((Norm("batch"), Affine(2))))
    with pytest.raises(ValueError, match=r"running statistics of \['0'\], but none of 'norm': give those of this netw"):
        forward(net, start(net, [0]).params, torch.zeros(1, 3, 4), {"0": RunningStats(torch.zeros(4), torch.ones(4))})
