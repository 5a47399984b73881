"""Networks are what their presets say; what a layer does is tested in test_layers, how they train in test_train."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from small import examples, generator, one_of, randomized
from torch import Tensor

from bnlib.lab import nets
from bnlib.lab.layers import (
    OF_BATCHES,
    OF_IMAGES,
    OF_UNITS,
    Activation,
    Affine,
    Attention,
    Chain,
    Dropout,
    DyT,
    Embedding,
    Flow,
    Norm,
    Recurrent,
    Residual,
    State,
)
from bnlib.lab.nets import (
    Net,
    convnet,
    data_init,
    described,
    encoder,
    forward,
    learned,
    made,
    mlp,
    rnn,
    seen,
    start,
    transformer,
)
from bnlib.norms import Layout, Moments
from bnlib.running import RunningStats


def units(widths: Sequence[int] = (8, 8, 8), **how: Any) -> Net:
    return mlp((6,), widths, 4, groups=4, **how)


def images(widths: Sequence[int] = (6, 6, 6), **how: Any) -> Net:
    return convnet((2, 4, 4), widths, 4, groups=2, **how)


PRESETS = {"units": units, "images": images}
KINDS = [("units", norm) for norm in ("none", *OF_UNITS)] + [("images", norm) for norm in ("none", *OF_IMAGES)]
by_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)


def maps(net: Net) -> list[str]:
    """The paths of the weights."""
    return [f"{path}.weight" for path in net.affine]


def values_of(z: Tensor, replicas: int = 2) -> Tensor:
    """(replicas, units, values) of what a tap is shown."""
    return z if z.ndim == 3 else z.transpose(0, 1).reshape(replicas, -1, len(z) * z[0, 0].numel())


# The start


def test_weights_have_the_standard_deviation_of_gain_by_the_root_of_the_inputs():
    net = mlp((64,), (200, 200))
    params, _ = start(net, [0, 1, 2], [1.7, 0.1, 1.0], [None, None, 0.01], torch.float64)
    for path, fan_in in zip(maps(net), (64, 200, 200), strict=True):
        expected = torch.tensor([1.7 / math.sqrt(fan_in), 0.1 / math.sqrt(fan_in), 0.01], dtype=torch.float64)
        torch.testing.assert_close(params[path].std((1, 2)), expected, rtol=0.05, atol=0)
        assert abs(params[path].mean()) < 0.01


def test_a_convolutions_inputs_are_its_channels_and_its_window():
    weight = start(convnet((8, 4, 4), (64, 64)), [0], dtype=torch.float64).params["1.convolution.weight"]
    assert weight.shape == (1, 64, 64, 3, 3)
    assert weight.std().item() == pytest.approx(1 / math.sqrt(64 * 9), rel=0.05)


def test_a_flat_output_layer_sees_every_position_of_its_own_replica():
    net = images(flat=True, norm="batch")
    state, x = randomized(net), examples(net)
    assert state.params["3.affine.weight"].shape == (2, 4, 6 * 16)
    logits, _ = forward(net, state.params, x)
    h = seen(net, state, x)["2"].reshape(5, 2, 96)
    for r in range(2):
        weight, bias = (state.params[f"3.affine.{name}"][r] for name in ("weight", "bias"))
        torch.testing.assert_close(logits[r], h[:, r] @ weight.T + bias)
    weight = start(images(widths=(64, 64), flat=True), [0], dtype=torch.float64).params["2.affine.weight"]
    assert weight.std().item() == pytest.approx(1 / math.sqrt(64 * 16), rel=0.05)


@dataclass(frozen=True)
class Doubled(Norm):
    """In a norm's place, twice its input; what it is called with is written on ``calls``."""

    def transformed(
        self, values: Tensor, gamma: Tensor, beta: Tensor, layout: Layout, path: str, flow: Flow
    ) -> tuple[Tensor, Moments]:
        CALLS[path] = values, gamma, beta
        return 2 * values, Moments(gamma.flatten(), beta.flatten(), layout.count)


CALLS: dict[str, tuple[Tensor, Tensor, Tensor]] = {}


@by_preset
def test_a_norm_of_ones_own_takes_the_place_of_one_by_name(preset: Callable[..., Net]):
    net = preset(norm=Doubled("batch"), where=(0, 2))
    state, x = randomized(net), examples(net)
    CALLS.clear()
    found, (_, moments) = seen(net, state, x), forward(net, state.params, x)
    assert list(CALLS) == list(moments) == ["0.doubled", "2.doubled"]
    for path, (values, gamma, beta) in CALLS.items():
        i = path[0]
        assert torch.equal(values, found[next(p for p in net.affine if p.startswith(i))])
        assert torch.equal(found[path], 2 * values)
        assert gamma is state.params[f"{path}.gamma"]
        assert beta is state.params[f"{path}.beta"]
    assert preset(norm=Doubled("layer", eps=0.1), eps=0.2).layers["0.doubled"] == Doubled("layer", eps=0.2, groups=(
        4 if preset is units else 2))  # fmt: skip


def test_the_names_and_shapes_of_the_parameters():
    shapes = {name: tuple(p.shape) for name, p in start(units(norm="batch", where=(1,)), range(3)).params.items()}
    assert shapes == {
        "0.affine.weight": (3, 8, 6), "0.affine.bias": (3, 8), "1.affine.weight": (3, 8, 8), "1.norm.gamma": (3, 8),
        "1.norm.beta": (3, 8), "2.affine.weight": (3, 8, 8), "2.affine.bias": (3, 8), "3.affine.weight": (3, 4, 8),
        "3.affine.bias": (3, 4),
    }  # fmt: skip
    residual = start(images(widths=(6,) * 3, residual=True, norm="layer", where=(0, 2, 3)), [0]).params
    assert list(residual) == [
        "0.convolution.weight", "0.norm.gamma", "0.norm.beta",
        "1.residual.0.convolution.weight", "1.residual.0.convolution.bias",
        "1.residual.1.convolution.weight", "1.residual.1.norm.gamma", "1.residual.1.norm.beta",
        "2.affine.weight", "2.norm.gamma", "2.norm.beta",
    ]  # fmt: skip


def test_the_places_of_a_network():
    net = images(widths=(6,) * 3, residual=True, norm="batch", dropout=0.1)
    assert net.chains == ["0", "1", "2"]
    assert net.affine == [
        "0.convolution", "1.residual.0.convolution", "1.residual.1.convolution", "2.affine",
    ]  # fmt: skip
    assert [path for path, layer in net.layers.items() if isinstance(layer, Dropout)] == [
        "0.dropout", "1.residual.0.dropout", "1.dropout",
    ]  # fmt: skip
    assert list(net.layers)[-4:] == ["1.activation", "1.dropout", "2.pool", "2.affine"]  # behind the sum
    assert not any(isinstance(layer, Chain | Residual) for layer in net.layers.values())
    assert list(rnn(norm="batch").layers) == ["recurrent", "recurrent.norm", "affine"]
    assert (net.outputs, transformer(5, 6).outputs, mlp().outputs) == ((4,), (6, 5), (10,))


def test_a_layer_that_is_normalized_later_keeps_its_bias():
    after = start(units(norm="batch", placement="after", where=(0, 3)), [0]).params
    assert {"0.affine.bias", "0.norm.gamma", "0.norm.beta", "3.norm.gamma", "3.norm.beta"} <= after.keys()
    assert "3.affine.bias" not in after  # the output is normalized at once, wherever the others are


@by_preset
def test_the_same_seed_gives_the_same_weights_with_and_without_a_norm(preset: Callable[..., Net]):
    none, batch, alone = (start(preset(norm=n), seeds).params for n, seeds in (
        ("none", [7, 3]), ("batch", [7, 3]), ("none", [3])))  # fmt: skip
    for path in maps(preset()):
        assert torch.equal(none[path], batch[path])
        assert torch.equal(alone[path][0], none[path][1])
        assert not torch.equal(none[path][0], none[path][1])


def test_a_gain_scales_the_same_draw():
    one, two = (start(units(), [3], [gain], dtype=torch.float64).params["1.affine.weight"] for gain in (1.0, 2.5))
    torch.testing.assert_close(two, 2.5 * one, rtol=1e-14, atol=0)


def test_norms_start_as_the_identity_and_biases_at_zero():
    params, stats = start(units(norm="batch", where=(0, 1)), [0, 1])
    assert all((params[f"{i}.norm.gamma"] == 1).all() and (params[f"{i}.norm.beta"] == 0).all() for i in (0, 1))
    assert all((params[f"{i}.affine.bias"] == 0).all() for i in (2, 3))
    assert list(stats) == ["0.norm", "1.norm"]
    for own in stats.values():
        assert (own.mean.tolist(), own.var.tolist(), own.steps) == ([0.0] * 16, [1.0] * 16, 0)
        assert own.mean.dtype == torch.float32
    assert start(units(norm="layer"), [0]).stats == {}


def test_what_is_learned():
    params, _ = start(net := units(norm="layer", where=(0,)), [0])
    assert learned(net, params) == list(params)
    for how in ({"gamma": False}, {"beta": False}, {"gamma": False, "beta": False}):
        own = units(norm=Norm("layer", groups=4, **how), where=(0,))
        by_name = units(norm="layer", where=(0,), gamma=how.get("gamma", True), beta=how.get("beta", True))
        assert own == by_name
        assert learned(own, params) == [name for name in params if name.rpartition(".")[2] not in how]
    steps = rnn(norm=Norm("batch", gamma=False))
    params = start(steps, [0]).params
    assert set(params) - set(learned(steps, params)) == {"recurrent.norm.gamma"}


@pytest.mark.parametrize(
    ("seeds", "gains", "stds"), [([], None, None), ([0, 1], [1.0], None), ([0], [1.0], [None, None]), ([0], [], None)]
)
def test_every_replica_has_a_seed_a_gain_and_a_std(seeds: list[int], gains: list | None, stds: list | None):
    with pytest.raises(ValueError, match=rf"there are {len(seeds)} seeds, . gains and . stds: give one for each"):
        start(units(), seeds, gains, stds)


# The forward pass


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize(("preset", "norm"), KINDS)
def test_no_replica_sees_another(preset: str, norm: str, placement: str):
    net = PRESETS[preset](norm=norm, placement=placement)
    params, x = randomized(net, 3).params, examples(net, replicas=3)
    together, moments = forward(net, params, x)
    assert together.shape == (3, 5, 4)
    for r in range(3):
        alone, own = forward(net, one_of(params, r), x[r : r + 1])
        torch.testing.assert_close(together[r], alone[0], rtol=1e-12, atol=1e-12)
        for path in own:
            torch.testing.assert_close(moments[path].var.reshape(3, -1)[r], own[path].var, rtol=1e-12, atol=1e-12)
    assert set(moments) == ({f"{i}.norm" for i in range(3)} if norm in OF_BATCHES else set())


@pytest.mark.parametrize(("preset", "norm"), [kind for kind in KINDS if kind[1] not in OF_BATCHES])
def test_only_batch_norm_looks_at_the_other_examples(preset: str, norm: str):
    one, batch = (PRESETS[preset](norm=n) for n in (norm, "batch"))
    x = examples(one)
    params = randomized(one).params
    torch.testing.assert_close(forward(one, params, x)[0][:, :2], forward(one, params, x[:, :2])[0])
    params = randomized(batch).params
    assert not torch.allclose(forward(batch, params, x)[0][:, :2], forward(batch, params, x[:, :2])[0])


@pytest.mark.parametrize("norm", OF_BATCHES)
@by_preset
def test_with_statistics_batch_norm_does_not_look_at_the_batch(preset: Callable[..., Net], norm: str):
    net = preset(norm=norm, where=(0, 2))
    (params, fresh), x = randomized(net), examples(net)
    stats = {path: s.update(forward(net, params, x)[1][path]) for path, s in fresh.items()}
    whole, moments = forward(net, params, x, stats)
    assert moments == {}
    for n in range(5):
        torch.testing.assert_close(forward(net, params, x[:, n : n + 1], stats)[0][:, 0], whole[:, n])
    looked = seen(net, State(params, stats), x, exact=False)
    torch.testing.assert_close(looked["3.affine"].transpose(1, 2), whole)


@pytest.mark.parametrize("norm", OF_BATCHES)
def test_statistics_of_the_batch_itself_give_what_the_batch_gave(norm: str):
    net = images(norm=norm)
    params, x = randomized(net).params, examples(net)
    logits, moments = forward(net, params, x)
    stats = {path: RunningStats(m.mean, m.var) for path, m in moments.items()}
    torch.testing.assert_close(forward(net, params, x, stats)[0], logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("placement", ["before", "after"])
@by_preset
def test_what_a_tap_is_given(preset: Callable[..., Net], placement: str):
    net = preset(norm="batch", placement=placement, activation="tanh", where=(0, 1))
    state, x = randomized(net), examples(net)
    logits, _ = forward(net, state.params, x)
    found, affine = seen(net, state, x), net.affine
    assert {path for path in found if path.endswith("xhat")} == {"0.norm.xhat", "1.norm.xhat"}
    assert {*net.layers, *net.chains} == {path for path in found if not path.endswith("xhat")}
    assert torch.equal(found["3"].transpose(1, 2), logits)
    assert not any(value.requires_grad for value in found.values())

    axes, shape = (2, (2, 8, 1)) if preset is units else ((0, 2, 3), (1, 12, 1, 1))
    for i in (0, 1):
        xhat = found[f"{i}.norm.xhat"]
        torch.testing.assert_close(xhat.mean(axes), torch.zeros_like(xhat.mean(axes)), rtol=0, atol=1e-12)
        gamma, beta = (state.params[f"{i}.norm.{name}"].reshape(shape) for name in ("gamma", "beta"))
        torch.testing.assert_close(found[f"{i}.norm"], xhat * gamma + beta)
        z, last = found[affine[i]], "activation" if placement == "before" else "norm"
        torch.testing.assert_close(
            found[f"{i}.activation"], torch.tanh(found[f"{i}.norm"] if placement == "before" else z)
        )
        assert found[f"{i}"] is found[f"{i}.{last}"]
    torch.testing.assert_close(found["2"], torch.tanh(found[affine[2]]))  # a layer without a norm


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])
@by_preset
def test_zero_gamma_makes_every_block_the_identity(preset: Callable[..., Net], norm: str):
    net = preset(widths=(8,) * 5, activation="relu", residual=True, norm=norm, zero_gamma=True)
    state, x = start(net, [0, 1], dtype=torch.float64), examples(net)
    found = seen(net, state, x)
    assert found["0"].abs().sum() > 1
    assert torch.equal(found["1"], found["0"])
    assert torch.equal(found["2"], found["0"])
    state.params["1.residual.1.norm.gamma"] += 0.5
    assert not torch.equal(seen(net, state, x)["1"], found["0"])


def test_symbols_and_sequences_and_states():
    net = transformer(5, 6, 8, heads=2)
    params, x = randomized(net).params, examples(net, 4)
    logits, moments = forward(net, params, x)
    assert (logits.shape, moments) == ((2, 4, 6, 5), {})
    later = x.clone()
    later[:, :, 4] = (later[:, :, 4] + 1) % 5
    other, _ = forward(net, params, later)
    assert torch.equal(other[:, :, :4], logits[:, :, :4])  # predicts from what is before
    assert not torch.isclose(other[:, :, 4:], logits[:, :, 4:]).all(-1).any()


def test_in_an_encoder_every_position_sees_all_others_and_no_company():
    net = encoder((6, 3), 8, 2, 5, heads=2)
    state, x = randomized(net), examples(net, 4)
    logits, moments = forward(net, state.params, x)
    assert (logits.shape, moments) == ((2, 4, 5), {})
    before = seen(net, state, x)["2"]  # (replicas, features, positions, N), behind the first block
    for position in range(6):
        other = x.clone()
        other[:, 0, position] += 1
        changed = seen(net, state, other)["2"]
        assert not torch.isclose(changed[..., 0], before[..., 0]).all(1).any()
        assert torch.allclose(changed[..., 1:], before[..., 1:])
        assert torch.allclose(forward(net, state.params, other)[0][:, 1:], logits[:, 1:])


def test_a_transformers_norms_stand_where_it_says():
    pre, post, peri, none = (
        transformer(5, 6, 8, 1, norm=norm, placement=where)
        for norm, where in (("layer", "pre"), ("layer", "post"), ("layer", "peri"), ("none", "pre"))
    )
    order = {
        name: [path for path, layer in net.layers.items() if isinstance(layer, Norm | Attention)]
        for name, net in (("pre", pre), ("post", post), ("peri", peri), ("none", none))
    }
    assert order == {
        "pre": ["2.0.residual.norm", "2.0.residual.attention", "2.1.residual.norm", "norm"],
        "post": ["2.0.residual.attention", "2.0.norm", "2.1.norm"],
        "peri": [
            *("2.0.residual.0", "2.0.residual.attention", "2.0.residual.2"),
            *("2.1.residual.0", "2.1.residual.4", "norm"),
        ],
        "none": ["2.0.residual.attention"],
    }
    for net in (pre, post, peri, none):
        assert forward(net, randomized(net).params, examples(net))[0].shape == (2, 5, 6, 5)
    found = seen(post, randomized(post), examples(post))
    assert torch.equal(found["2.1"], found["2.1.norm"])


def test_a_network_without_parameters_or_without_a_chain():
    x = torch.randn(2, 5, 3, generator=generator())
    assert torch.equal(forward(Net((3,), Activation("relu")), {}, x)[0], torch.relu(x))
    net = Net((3,), Affine(2))
    state = start(net, [0, 1])
    assert torch.equal(seen(net, state, x)[""].mT, forward(net, state.params, x)[0])


# Weights with a length of their own


@by_preset
def test_normed_weights_start_as_the_plain_network(preset: Callable[..., Net]):
    plain, normed = preset(), preset(weights="normed")
    first, own = (start(net, [3, 4], dtype=torch.float64).params for net in (plain, normed))
    assert own.keys() - first.keys() == {f"{path}.length" for path in normed.affine}
    x = examples(plain)
    torch.testing.assert_close(forward(normed, own, x)[0], forward(plain, first, x)[0], rtol=1e-10, atol=1e-12)
    longer = {n: p * 3 if n.endswith("weight") else p for n, p in own.items()}
    torch.testing.assert_close(forward(normed, longer, x)[0], forward(plain, first, x)[0], rtol=1e-10, atol=1e-12)


@by_preset
def test_standardized_weights_do_not_see_a_constant_input(preset: Callable[..., Net]):
    net = preset(weights="standardized")
    state, x, first = start(net, [3, 4], dtype=torch.float64), examples(net), net.affine[0]
    z, moved = (seen(net, state, inputs)[first] for inputs in (x, x + 5))
    inside = ... if preset is units else (..., slice(1, -1), slice(1, -1))  # the border sees zeros beside the constant
    torch.testing.assert_close(z[inside], moved[inside], rtol=1e-10, atol=1e-10)
    rows = state.params[f"{first}.weight"].flatten(2)
    centred = rows - rows.mean(2, keepdim=True)
    torch.testing.assert_close(state.params[f"{first}.length"], centred.norm(dim=2), rtol=1e-12, atol=0)


def test_a_given_length_is_every_units():
    net = units(weights="normed", length=0.7)
    state = start(net, [0], dtype=torch.float64)
    assert all((state.params[f"{path}.length"] == 0.7).all() for path in net.affine)
    z = seen(net, state, torch.eye(6, dtype=torch.float64)[None])["0.affine"]
    torch.testing.assert_close(z.norm(dim=2), torch.full((1, 8), 0.7, dtype=torch.float64))


@pytest.mark.parametrize("fields", [{}, {"weights": "normed"}, {"weights": "standardized"}, {"norm": "mean"}])
@by_preset
def test_a_start_from_the_data_standardizes_every_unit(preset: Callable[..., Net], fields: dict[str, str]):
    net = preset(activation="relu", **fields)
    params, x = start(net, [3, 4], dtype=torch.float64).params, 2 + 3 * examples(net, 40)
    before = {name: value.clone() for name, value in params.items()}
    own = data_init(net, params, x)
    found = seen(net, State(own, {}), x)
    for path in net.affine:
        std, mean = torch.std_mean(values_of(found[path]), 2, correction=0)
        torch.testing.assert_close(std, torch.ones_like(std), rtol=1e-9, atol=0)
        if f"{path}.bias" in params:
            torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-9)
        if "weights" in fields:
            assert torch.equal(own[f"{path}.weight"], params[f"{path}.weight"])
    assert all(torch.equal(params[name], value) for name, value in before.items())


def test_a_start_from_the_data_within_blocks():
    """A block's own map is standardized, and not what the block puts out."""
    net = Net((6,), Chain((Affine(8), Residual(Affine(8)), Affine(3))))
    own = data_init(net, start(net, [3, 4], dtype=torch.float64).params, x := 2 + 3 * examples(net, 40))
    for path, z in seen(net, State(own, {}), x).items():
        assert torch.allclose(z.std(2, correction=0), torch.ones(1, dtype=z.dtype)) == (path in net.affine)


def test_a_unit_without_a_scale_keeps_its_weights():
    net = units(activation="relu")
    params, x = start(net, [3], dtype=torch.float64).params, examples(net, replicas=1)
    params["1.affine.weight"][:, 2] = 0
    own = data_init(net, params, x)
    assert torch.equal(own["1.affine.weight"][:, 2], params["1.affine.weight"][:, 2])
    assert all(value.isfinite().all() for value in own.values())


def test_a_start_from_the_data_is_for_networks_that_do_not_normalize():
    net = units(norm="layer")
    with pytest.raises(
        ValueError, match="norm 'layer' sets the scale of each layer by itself: choose no norm, or norm"
    ):
        data_init(net, start(net, [0]).params, torch.zeros(1, 5, 6))


# Dropout


@by_preset
def test_dropout_stands_behind_each_activation_and_is_drawn_layer_by_layer(preset: Callable[..., Net]):
    net, x = preset(dropout=0.5, activation="tanh"), examples(preset(), 9)
    state, found = start(net, [0, 1], dtype=torch.float64), {}
    forward(net, state.params, x, generators=[generator(4), generator(5)], tap=found.__setitem__)
    drawn, space = generator(5), net.inputs[1:]
    for i in range(3):
        factors = (torch.rand(found[f"{i}"].shape[1] // (2 if space else 1), 9, *space, generator=drawn) < 0.5) * 2.0
        own = values_of(found[f"{i}.dropout"])[1] / values_of(found[f"{i}.activation"])[1]
        expected = factors.flatten(2).reshape(own.shape) if space else factors
        torch.testing.assert_close(own, expected.double())
        assert found[f"{i}"] is found[f"{i}.dropout"]
    assert "3.dropout" not in found


def test_without_dropout_nothing_is_drawn():
    net = units(dropout=0.0)
    g = generator(4)
    before = g.get_state()
    forward(net, randomized(net, 1).params, examples(net, replicas=1), generators=[g])
    assert torch.equal(g.get_state(), before)


# A network as a value


ALL = {
    "mlp": mlp(),
    "residual mlp": mlp(widths=(9,) * 3, norm="group", residual=True, zero_gamma=True, groups=3, gamma=False),
    "selu mlp": mlp(activation="selu", dropout=0.1, alpha_dropout=True),
    "normed mlp": mlp(weights="normed", length=-0.5, norm="mean", placement="after", where=(0, 3), eps=0.1),
    "convnet": convnet(norm="instance", kernel=5, flat=True, weights="standardized"),
    "rnn": rnn(norm=Norm("batch", momentum=None)),
    "plain rnn": rnn(),
    "transformer": transformer(5, 6),
    "encoder": encoder((4, 3), 8, 1, 5, heads=2, qk_norm=True),
    "post-norm transformer": transformer(5, 6, norm="rms", placement="post", activation="relu", heads=2),
    "DyT and SkipInit": Net((6,), Chain((Affine(4), Residual(Chain((DyT(), Affine(4))), 0.0), Affine(3, bias=False)))),
}


@pytest.mark.parametrize("net", ALL.values(), ids=ALL)
def test_a_network_is_json_and_comes_back(net: Net):
    text = json.dumps(described(net), allow_nan=False)
    back = made(json.loads(text))
    assert back == net
    assert hash(back) == hash(net)
    assert json.dumps(described(back)) == text
    assert [other for other in ALL.values() if other == net] == [net]
    (params, stats), (own, also) = start(net, [0]), start(back, [0])
    assert list(params) == list(own)
    assert list(stats) == list(also)
    assert all(torch.equal(params[path], own[path]) for path in params)


def test_a_description_says_what_differs_from_the_defaults():
    net = Net((6,), Chain((Affine(3, bias=False), Norm("batch", eps=0.1), Residual(Affine(3)))))
    assert described(net) == {
        "layer": "Net",
        "inputs": [6],
        "body": {
            "layer": "Chain",
            "layers": [
                {"layer": "Affine", "units": 3, "bias": False},
                {"layer": "Norm", "name": "batch", "eps": 0.1},
                {"layer": "Residual", "body": {"layer": "Chain", "layers": [{"layer": "Affine", "units": 3}]}},
            ],
        },
    }
    assert described(Affine(3)) == {"layer": "Affine", "units": 3}
    assert made({"layer": "Affine", "units": 3}) == Affine(3)


@pytest.mark.parametrize(
    ("description", "error", "message"),
    [
        ({"layer": "Afine"}, ValueError, r"no layer is called 'Afine': choose one of \['Activation', 'Affine',"),
        ({}, ValueError, "no layer is called None"),
        ({"layer": "Layer"}, ValueError, "no layer is called 'Layer'"),
        ({"layer": "Affine", "units": 3, "colour": 2}, TypeError, r"Affine has no attribute \['colour'\]: .*'units'"),
        ({"layer": "Chain", "layers": [], "names": []}, TypeError, r"Chain has no attribute \['names'\]"),
        ({"layer": "Affine"}, TypeError, "'units'"),
        ({"layer": "Affine", "units": 0}, ValueError, "units is 0"),
        ({"layer": "Net", "inputs": [4], "body": {"layer": "Affin", "units": 3}}, ValueError, "called 'Affin'"),
    ],
)
def test_what_describes_no_network_is_a_clear_error(description: dict, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        made(description)


def test_a_network_prints_as_it_would_be_written():
    net = Net((64,), Chain((Residual(Affine(64, bias=False), 0.0), Norm("batch"))))
    body = "Residual(body=Chain(layers=(Affine(units=64, bias=False),)), scale=0.0), Norm(name='batch')"
    assert repr(net) == f"Net(inputs=(64,), body=Chain(layers=({body})))"
    for net in (mlp(norm="batch", groups=2), convnet(dropout=0.1), rnn(norm="layer"), transformer(5, 6, 8)):
        assert eval(repr(net), dict(vars(nets))) == net


def test_networks_are_equal_if_their_parts_are():
    assert mlp(norm="batch") == mlp(norm=Norm("batch"))
    assert mlp([64], [100] * 3) == mlp()  # type: ignore[arg-type]
    assert len({mlp(), mlp(norm="none"), mlp(norm="batch"), mlp(norm="batch", eps=0.1)}) == 3
    assert Affine(3) != replace(Affine(3), bias=False)
    assert Recurrent(3) != Recurrent(3, every=True)
    assert Dropout(0.1) != nets.AlphaDropout(0.1)
    assert Embedding(3, 4) == Embedding(3, 4)


DYT = {
    "mlp": (mlp(widths=(9, 9), norm=DyT(0.7)), ["0.dyt", "1.dyt"]),
    "convnet": (convnet(norm=DyT(0.7), placement="after", where=(0, 2)), ["0.dyt", "2.dyt"]),
    "blocks": (mlp(widths=(9,) * 3, norm=DyT(0.7), residual=True), ["0.dyt", "1.residual.0.dyt", "1.residual.1.dyt"]),
    "transformer": (transformer(5, 6, 8, 1, norm=DyT(0.7)), ["2.0.residual.dyt", "2.1.residual.dyt", "dyt"]),
}


@pytest.mark.parametrize(("net", "places"), DYT.values(), ids=DYT)
def test_another_layer_stands_in_a_norms_place_and_leaves_the_bias(net: Net, places: list[str]):
    assert [path for path, layer in net.layers.items() if layer == DyT(0.7)] == places
    state = randomized(net)
    assert [path for path in net.affine if f"{path}.bias" not in state.params] == []
    forward(net, state.params, examples(net))


def test_a_norm_of_a_recurrent_layer_is_a_norm():
    with pytest.raises(TypeError, match=r"norm is DyT\(\): give a Norm, such as Norm\('layer'\), or None"):
        rnn(norm=DyT())  # type: ignore[arg-type]


# Bad input


@pytest.mark.parametrize(
    ("preset", "fields", "message"),
    [
        (mlp, {"norm": "instance"}, r"norm 'instance' is for images, .* choose one of \['batch', 'mean', .*'group'\]"),
        (mlp, {"norm": "bacth"}, r"norm is 'bacth': choose one of \['none', 'batch'"),
        (mlp, {"norm": None}, r"norm is None: choose one of \['none', 'batch'"),
        (mlp, {"norm": DyT(), "residual": True, "zero_gamma": True}, "zero_gamma is for residual blocks with a norm"),
        (mlp, {"placement": "between"}, r"placement is 'between': choose one of \['before', 'after'\]"),
        (mlp, {"activation": "swish"}, r"activation is 'swish': choose one of \['sigmoid', .*'selu', 'identity'"),
        (mlp, {"inputs": (0,)}, r"inputs are \(0,\): give positive whole numbers, \(features,\), \(length, features\)"),
        (mlp, {"inputs": (6.0,)}, r"inputs are \(6.0,\)"),
        (mlp, {"inputs": ()}, r"inputs are \(\)"),
        (mlp, {"inputs": (1, 2, 3, 4)}, r"inputs are \(1, 2, 3, 4\)"),
        (mlp, {"inputs": 64}, r"inputs is 64: give a tuple, such as \(64,\)"),
        (mlp, {"widths": (100, 0)}, "units is 0: give a positive whole number"),
        (mlp, {"classes": -1}, "units is -1"),
        (mlp, {"widths": (2.5,)}, "units is 2.5"),
        (mlp, {"widths": 100}, r"widths is 100: give a tuple, such as \(100,\)"),
        (convnet, {"widths": 8}, "widths is 8"),
        (mlp, {"inputs": (1, 8, 8)}, r"an affine map cannot take images of shape \(1, 8, 8\): .*a Convolution in its"),
        (convnet, {"inputs": (64,)}, r"a convolution cannot take inputs of shape \(64,\): give \(channels, height"),
        (convnet, {"inputs": (8, 8)}, r"cannot take inputs of shape \(8, 8\)"),
        (convnet, {"kernel": 4}, "kernel is 4: give an odd number"),
        (mlp, {"norm": "batch", "eps": -1e-5}, "eps is -1e-05"),
        (mlp, {"dropout": 1.0}, "dropout is 1.0: give a share of at least 0 and below 1"),
        (mlp, {"dropout": -0.1}, "dropout is -0.1"),
        (mlp, {"norm": "batch", "where": (0, 4)}, "where names layer 4, but the layers are 0 to 3, the output"),
        (mlp, {"norm": "batch", "where": (-1,)}, "where names layer -1"),
        (mlp, {"norm": "batch", "where": (0.5,)}, "where names layer 0.5"),
        (mlp, {"where": (9,)}, "where names layer 9"),
        (mlp, {"residual": True, "widths": (8, 8)}, "residual with 2 hidden layers: blocks need one layer and then"),
        (mlp, {"residual": True, "widths": (8, 8, 9)}, r"a residual block makes \(9,\) of \(8,\), .*keep the shape"),
        (mlp, {"residual": True, "placement": "after"}, "placement is 'after' in residual blocks, .*choose 'before'"),
        (mlp, {"norm": "group", "groups": 3}, "3 groups do not divide the 100 units of .*: choose a divisor"),
        (mlp, {"norm": "group", "groups": 0}, "groups is 0"),
        (mlp, {"norm": "group", "groups": 4, "where": (3,)}, "4 groups do not divide the 10 units"),
        (convnet, {"norm": "instance", "where": (0, 2)}, r"norm 'instance' is for images, and cannot take \(10,\)"),
        (mlp, {"weights": "normal"}, r"weights is 'normal': choose one of \['plain', 'normed', 'standardized'\]"),
        (mlp, {"length": 1.0}, "length is 1.0 and weights 'plain'"),
        (mlp, {"length": math.nan, "weights": "normed"}, "length is nan"),
        (mlp, {"alpha_dropout": True, "dropout": 0.5}, "alpha_dropout is made for activation 'selu', not 'sigmoid'"),
        (mlp, {"zero_gamma": True, "norm": "batch"}, "zero_gamma is for residual blocks with a norm"),
        (mlp, {"zero_gamma": True, "residual": True}, "set residual=True and a norm"),
        (rnn, {"inputs": (64,)}, r"a recurrent layer cannot take \(64,\): give sequences"),
        (rnn, {"norm": "instance"}, "norm 'instance' is for images"),
        (rnn, {"units": 0}, "units is 0"),
        (transformer, {"symbols": 5, "length": 6, "placement": "before"}, r"placement is 'before': .*'post', 'peri'"),
        (transformer, {"symbols": 5, "length": 6, "heads": 5}, "attention with 5 heads cannot take .*divide the feat"),
        (transformer, {"symbols": 5, "length": 0}, r"inputs are \(0,\)"),
        (transformer, {"symbols": 0, "length": 6}, "symbols is 0"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_a_clear_error(preset: Callable[..., Net], fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        preset(**fields)


@pytest.mark.parametrize(
    ("preset", "fields"),
    [(mlp, {"flat": True}), (mlp, {"kernel": 3}), (mlp, {"nrom": "batch"}), (mlp, {"norm": Norm("batch"), "dept": 3})],
)
def test_an_unknown_argument_is_a_clear_error(preset: Callable[..., Net], fields: dict[str, Any]):
    message = rf"neither the network nor its norm has an argument \['{list(fields)[-1]}'\]: a norm has \['name', 'group"
    with pytest.raises(TypeError, match=message):
        preset(**fields)


@pytest.mark.parametrize("name", ["gain", "std"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_scale_that_is_none_is_a_clear_error(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} is {value}: give a finite number that is not negative"):
        start(units(), [0, 1], [1.0, value] if name == "gain" else None, [1.0, value] if name == "std" else None)


@pytest.mark.parametrize("shape", [(2, 5, 7), (3, 5, 6), (5, 6)])
def test_examples_of_another_shape_are_a_clear_error(shape: tuple[int, ...]):
    params = start(units(), [0, 1]).params
    with pytest.raises(ValueError, match=r"x has shape .*, but \(2, N, \*\(6,\)\) is needed: replicas first"):
        forward(units(), params, torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_examples_of_another_dtype_are_a_clear_error(dtype: torch.dtype):
    params = start(units(), [0, 1]).params
    with pytest.raises(
        ValueError, match=rf"x is {dtype}, but the parameters are torch.float32: pass x.to\(torch.float"
    ):
        forward(units(), params, torch.zeros(2, 5, 6, dtype=dtype))


def test_parameters_of_another_network_are_a_clear_error():
    params = start(units(), [0, 1]).params
    with pytest.raises(
        ValueError, match=r"there is no '0.norm.gamma' among the parameters \['0.affine.weight', .*start"
    ):
        forward(units(norm="layer"), params, torch.zeros(2, 5, 6))
