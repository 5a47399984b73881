"""Networks are what their specification says; how they train is compared with plain PyTorch in test_train."""

import math
from dataclasses import replace

import pytest
import torch

from bnlib.lab.nets import (
    OF_BATCHES,
    OF_IMAGES,
    OF_UNITS,
    Params,
    Spec,
    data_init,
    forward,
    learned,
    masks,
    start,
    start_stats,
)
from bnlib.running import RunningStats

UNITS = Spec(inputs=(6,), widths=(8, 8, 8), classes=4)
IMAGES = Spec(inputs=(2, 4, 4), widths=(6, 6, 6), classes=4, kernel=3, groups=2)
KINDS = [(UNITS, norm) for norm in ("none", *OF_UNITS)] + [(IMAGES, norm) for norm in ("none", *OF_IMAGES)]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def randomized(spec: Spec, generator: torch.Generator, replicas: int = 2) -> Params:
    """Parameters of which none is 0 or 1."""
    params = start([spec] * replicas, range(replicas), torch.float64)
    return {n: p + 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in params.items()}


def examples(spec: Spec, generator: torch.Generator, n: int = 5, replicas: int = 2) -> torch.Tensor:
    return torch.randn(replicas, n, *spec.inputs, generator=generator, dtype=torch.float64)


# The start


def test_weights_have_the_standard_deviation_of_gain_by_the_root_of_the_inputs():
    spec = Spec(inputs=(64,), widths=(400, 400), gain=1.7)
    params = start([spec, replace(spec, gain=0.1), replace(spec, std=0.01)], [0, 1, 2], torch.float64)
    for i, fan_in in enumerate((64, 400, 400)):
        stds = params[f"weight{i}"].std((1, 2))
        expected = torch.tensor([1.7 / math.sqrt(fan_in), 0.1 / math.sqrt(fan_in), 0.01], dtype=torch.float64)
        torch.testing.assert_close(stds, expected, rtol=0.05, atol=0)
        assert abs(params[f"weight{i}"].mean()) < 0.01


def test_a_convolutions_inputs_are_its_channels_and_its_window():
    spec = Spec(inputs=(8, 4, 4), widths=(64, 64), kernel=3)
    weight = start([spec], [0], torch.float64)["weight1"]
    assert weight.shape == (1, 64, 64, 3, 3)
    assert weight.std().item() == pytest.approx(1 / math.sqrt(64 * 9), rel=0.05)


def test_a_flat_output_layer_sees_every_position_of_its_own_replica(generator: torch.Generator):
    spec = replace(IMAGES, flat=True, norm="batch")
    params, x, seen = randomized(spec, generator), examples(spec, generator), {}
    assert params["weight3"].shape == (2, 4, 6 * 16)
    logits, _ = forward(spec, params, x, tap=lambda place, i, value: seen.__setitem__((place, i), value))
    h = seen["a", 2].reshape(5, 2, 96)
    for r in range(2):
        torch.testing.assert_close(logits[r], h[:, r] @ params["weight3"][r].T + params["bias3"][r])
    weight = start([replace(IMAGES, widths=(64, 64), flat=True)], [0], torch.float64)["weight2"]
    assert weight.std().item() == pytest.approx(1 / math.sqrt(64 * 16), rel=0.05)


@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_another_norm_takes_the_place_of_the_specifications(spec: Spec, generator: torch.Generator):
    spec = replace(spec, norm="batch", where=(0, 2))
    params, x, seen, calls = randomized(spec, generator), examples(spec, generator), {}, {}

    def double(layer, z, gamma, beta):
        calls[layer] = z, gamma, beta
        return 2 * z

    _, moments = forward(spec, params, x, tap=lambda place, i, value: seen.__setitem__((place, i), value), norm=double)
    assert moments == {}
    assert set(calls) == {0, 2}
    for i in calls:
        assert torch.equal(calls[i][0], seen["z", i])
        assert torch.equal(seen["pre", i], 2 * seen["z", i])
        assert calls[i][1] is params[f"gamma{i}"]
        assert calls[i][2] is params[f"beta{i}"]


def test_the_names_and_shapes_of_the_parameters():
    shapes = {
        name: tuple(p.shape) for name, p in start([replace(UNITS, norm="batch", where=(1,))] * 3, range(3)).items()
    }
    assert shapes == {
        "weight0": (3, 8, 6), "bias0": (3, 8), "weight1": (3, 8, 8), "gamma1": (3, 8), "beta1": (3, 8),
        "weight2": (3, 8, 8), "bias2": (3, 8), "weight3": (3, 4, 8), "bias3": (3, 4),
    }  # fmt: skip


def test_a_layer_that_is_normalized_later_keeps_its_bias():
    after = start([replace(UNITS, norm="batch", placement="after", where=(0, 3))], [0])
    assert {"bias0", "gamma0", "beta0", "gamma3", "beta3"} <= after.keys()
    assert "bias3" not in after  # the output is normalized at once, wherever the others are


@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_the_same_seed_gives_the_same_weights_with_and_without_a_norm(spec: Spec):
    none, batch = (start([replace(spec, norm=norm)] * 2, [7, 3]) for norm in ("none", "batch"))
    for i in range(4):
        assert torch.equal(none[f"weight{i}"], batch[f"weight{i}"])
        assert torch.equal(start([spec], [3])[f"weight{i}"][0], none[f"weight{i}"][1])
    assert not torch.equal(none["weight0"][0], none["weight0"][1])


def test_a_gain_scales_the_same_draw():
    one, two = (start([replace(UNITS, gain=gain)], [3], torch.float64)["weight1"] for gain in (1.0, 2.5))
    torch.testing.assert_close(two, 2.5 * one, rtol=1e-14, atol=0)


def test_norms_start_as_the_identity_and_biases_at_zero():
    params = start([replace(UNITS, norm="batch", where=(0, 1))], [0])
    assert all((params[f"gamma{i}"] == 1).all() and (params[f"beta{i}"] == 0).all() for i in (0, 1))
    assert all((params[f"bias{i}"] == 0).all() for i in (2, 3))


def test_what_is_learned():
    spec = replace(UNITS, norm="layer", where=(0,))
    params = start([spec], [0])
    assert learned(spec, params) == list(params)
    assert learned(replace(spec, gamma=False), params) == [name for name in params if name != "gamma0"]
    without = learned(replace(spec, gamma=False, beta=False), params)
    assert without == [name for name in params if name not in ("gamma0", "beta0")]


def test_replicas_of_one_program_differ_in_scale_alone():
    start([UNITS, replace(UNITS, gain=2.0), replace(UNITS, std=0.1)], [0, 1, 2])
    with pytest.raises(ValueError, match="replicas of one program may differ in gain and std only"):
        start([UNITS, replace(UNITS, norm="batch")], [0, 1])


# The forward pass


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize(("spec", "norm"), KINDS, ids=lambda v: v if isinstance(v, str) else f"{len(v.inputs)}d")
def test_no_replica_sees_another(spec: Spec, norm: str, placement: str, generator: torch.Generator):
    spec = replace(spec, norm=norm, placement=placement)
    params, x = randomized(spec, generator, 3), examples(spec, generator, replicas=3)
    together, moments = forward(spec, params, x)
    assert together.shape == (3, 5, 4)
    for r in range(3):
        alone, own = forward(spec, {name: p[r : r + 1] for name, p in params.items()}, x[r : r + 1])
        torch.testing.assert_close(together[r], alone[0], rtol=1e-12, atol=1e-12)
        for i in own:
            torch.testing.assert_close(moments[i].var.reshape(3, -1)[r], own[i].var, rtol=1e-12, atol=1e-12)
    assert set(moments) == (set(spec.normed) if norm in OF_BATCHES else set())


@pytest.mark.parametrize(("spec", "norm"), [kind for kind in KINDS if kind[1] not in OF_BATCHES])
def test_only_batch_norm_looks_at_the_other_examples(spec: Spec, norm: str, generator: torch.Generator):
    x = examples(spec, generator)
    one = replace(spec, norm=norm)
    params = randomized(one, generator)
    torch.testing.assert_close(forward(one, params, x)[0][:, :2], forward(one, params, x[:, :2])[0])
    batch = replace(spec, norm="batch")
    params = randomized(batch, generator)
    assert not torch.allclose(forward(batch, params, x)[0][:, :2], forward(batch, params, x[:, :2])[0])


@pytest.mark.parametrize("norm", OF_BATCHES)
@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_with_statistics_batch_norm_does_not_look_at_the_batch(spec: Spec, norm: str, generator: torch.Generator):
    spec = replace(spec, norm=norm, where=(0, 2))
    params, x = randomized(spec, generator), examples(spec, generator)
    stats = {i: s.update(forward(spec, params, x)[1][i]) for i, s in start_stats(spec, params).items()}
    whole, moments = forward(spec, params, x, stats)
    assert moments == {}
    for n in range(5):
        torch.testing.assert_close(forward(spec, params, x[:, n : n + 1], stats)[0][:, 0], whole[:, n])


@pytest.mark.parametrize("norm", OF_BATCHES)
def test_statistics_of_the_batch_itself_give_what_the_batch_gave(norm: str, generator: torch.Generator):
    spec = replace(IMAGES, norm=norm)
    params, x = randomized(spec, generator), examples(spec, generator)
    logits, moments = forward(spec, params, x)
    stats = {i: RunningStats(m.mean, m.var) for i, m in moments.items()}
    torch.testing.assert_close(forward(spec, params, x, stats)[0], logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("placement", ["before", "after"])
@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_what_a_tap_is_given(spec: Spec, placement: str, generator: torch.Generator):
    spec = replace(spec, norm="batch", placement=placement, activation="tanh", where=(0, 1))
    params, x, seen = randomized(spec, generator), examples(spec, generator), {}
    logits, _ = forward(spec, params, x, tap=lambda place, i, value: seen.__setitem__((place, i), value))
    assert {i for place, i in seen if place == "z"} == {0, 1, 2, 3}
    assert {i for place, i in seen if place == "pre"} == {0, 1, 2, 3}
    assert {i for place, i in seen if place == "a"} == {0, 1, 2}
    assert {i for place, i in seen if place == "xhat"} == set(spec.normed)
    assert torch.equal(seen["pre", 3].transpose(1, 2), logits)

    units = spec.kernel is None
    axes = 2 if units else (0, 2, 3)
    zero = torch.zeros(2, 8, dtype=x.dtype) if units else torch.zeros(12, dtype=x.dtype)
    for i in (0, 1):
        torch.testing.assert_close(seen["xhat", i].mean(axes), zero, rtol=0, atol=1e-12)
        shape = (2, 8, 1) if units else (1, 12, 1, 1)
        scaled = seen["xhat", i] * params[f"gamma{i}"].reshape(shape) + params[f"beta{i}"].reshape(shape)
        torch.testing.assert_close(seen["pre" if placement == "before" else "a", i], scaled)
    torch.testing.assert_close(seen["a", 2], torch.tanh(seen["pre", 2]))  # a layer without a norm
    assert torch.equal(seen["pre", 2], seen["z", 2])


@pytest.mark.parametrize("norm", ["batch", "layer", "group"])
@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_zero_gamma_makes_every_block_the_identity(spec: Spec, norm: str):
    spec = replace(spec, widths=(8,) * 5, activation="relu", residual=True, norm=norm, zero_gamma=True)
    outputs = {}
    generator = torch.Generator().manual_seed(1)
    params, x = start([spec] * 2, [0, 1], torch.float64), examples(spec, generator)
    forward(spec, params, x, tap=lambda place, i, value: outputs.__setitem__(i, value) if place == "a" else None)
    assert outputs[0].abs().sum() > 1
    assert torch.equal(outputs[2], outputs[0])
    assert torch.equal(outputs[4], outputs[0])
    params["gamma2"] += 0.5
    forward(spec, params, x, tap=lambda place, i, value: outputs.__setitem__(i, value) if place == "a" else None)
    assert not torch.equal(outputs[2], outputs[0])


# Weights with a length of their own


@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_normed_weights_start_as_the_plain_network(spec: Spec, generator: torch.Generator):
    normed = replace(spec, weights="normed")
    plain, own = (start([s] * 2, [3, 4], torch.float64) for s in (spec, normed))
    assert own.keys() - plain.keys() == {f"length{i}" for i in range(4)}
    x = examples(spec, generator)
    torch.testing.assert_close(forward(normed, own, x)[0], forward(spec, plain, x)[0], rtol=1e-10, atol=1e-12)
    longer = {n: p * 3 if n.startswith("weight") else p for n, p in own.items()}
    torch.testing.assert_close(forward(normed, longer, x)[0], forward(spec, plain, x)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_standardized_weights_do_not_see_a_constant_input(spec: Spec, generator: torch.Generator):
    spec = replace(spec, weights="standardized", norm="none", flat=spec.kernel is not None)
    params, x, seen = start([spec] * 2, [3, 4], torch.float64), examples(spec, generator), []
    for moved in (x, x + 5):
        forward(spec, params, moved, tap=lambda place, i, v: seen.append(v) if (place, i) == ("z", 0) else None)
    inside = (..., slice(1, -1), slice(1, -1)) if spec.kernel else ...  # the border sees zeros beside the constant
    torch.testing.assert_close(seen[0][inside], seen[1][inside], rtol=1e-10, atol=1e-10)
    assert not torch.allclose(params["length0"], params["weight0"].flatten(2).norm(dim=2))


def test_a_given_length_is_every_units(generator: torch.Generator):
    spec = replace(UNITS, weights="normed", length=0.7)
    params, seen = start([spec], [0], torch.float64), {}
    assert all((params[f"length{i}"] == 0.7).all() for i in range(4))
    eye = torch.eye(6, dtype=torch.float64)[None]
    forward(spec, params, eye, tap=lambda place, i, value: seen.__setitem__((place, i), value))
    torch.testing.assert_close(seen["z", 0].norm(dim=2), torch.full((1, 8), 0.7, dtype=torch.float64))


@pytest.mark.parametrize("fields", [{}, {"weights": "normed"}, {"weights": "standardized"}, {"norm": "mean"}])
@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_a_start_from_the_data_standardizes_every_unit(spec: Spec, fields: dict[str, str], generator: torch.Generator):
    spec = replace(spec, activation="relu", **fields)
    params, x, seen = start([spec] * 2, [3, 4], torch.float64), 2 + 3 * examples(spec, generator, 40), {}
    before = {name: value.clone() for name, value in params.items()}
    made = data_init(spec, params, x)
    forward(spec, made, x, tap=lambda place, i, value: seen.__setitem__((place, i), value))
    for i in range(4):
        z = seen["z", i]
        axes = 2 if z.ndim == 3 else (0, 2, 3)
        std, mean = torch.std_mean(z, axes, correction=0)
        torch.testing.assert_close(std, torch.ones_like(std), rtol=1e-9, atol=0)
        if f"bias{i}" in params:
            torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-9)
        if spec.weights != "plain":
            assert torch.equal(made[f"weight{i}"], params[f"weight{i}"])
    assert all(torch.equal(params[name], value) for name, value in before.items())


def test_a_unit_without_a_scale_keeps_its_weights(generator: torch.Generator):
    spec = replace(UNITS, activation="relu")
    params, x = start([spec], [3], torch.float64), examples(spec, generator, replicas=1)
    params["weight1"][:, 2] = 0
    made = data_init(spec, params, x)
    assert torch.equal(made["weight1"][:, 2], params["weight1"][:, 2])
    assert all(value.isfinite().all() for value in made.values())


def test_a_start_from_the_data_is_for_networks_that_do_not_normalize():
    spec = replace(UNITS, norm="layer")
    with pytest.raises(ValueError, match="norm 'layer' sets the scale of each layer by itself: choose norm 'none'"):
        data_init(spec, start([spec], [0]), torch.zeros(1, 5, 6))


# Dropout


@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_masks_drop_the_right_share_and_keep_the_mean(spec: Spec):
    spec = replace(spec, dropout=0.3)
    drawn = masks(spec, 500, [torch.Generator().manual_seed(s) for s in (0, 1)], torch.float64)
    shape = (2, 8, 500) if spec.kernel is None else (500, 12, 4, 4)
    assert [mask.shape for mask in drawn] == [shape] * 3
    for mask in drawn:
        kept = mask[mask > 0]
        torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.7))
        assert (mask == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
        assert mask.mean().item() == pytest.approx(1, abs=0.03)
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("spec", [UNITS, IMAGES], ids=["units", "images"])
def test_a_replicas_masks_are_its_seeds_own(spec: Spec):
    spec = replace(spec, dropout=0.5)
    together = masks(spec, 9, [torch.Generator().manual_seed(s) for s in (4, 5)], torch.float64)
    alone = masks(spec, 9, [torch.Generator().manual_seed(5)], torch.float64)
    for both, one in zip(together, alone, strict=True):
        assert torch.equal(both[1:] if spec.kernel is None else both[:, one.shape[1] :], one)


def test_alpha_dropout_keeps_mean_and_variance(generator: torch.Generator):
    spec = Spec(inputs=(6,), widths=(2000,), activation="selu", dropout=0.3, alpha_dropout=True)
    params, x, seen = start([spec], [0], torch.float64), examples(spec, generator, 200, replicas=1), {}
    drawn = masks(spec, 200, [torch.Generator().manual_seed(0)], torch.float64)
    assert drawn[0].unique().tolist() == [0, 1]
    for name, factors in (("without", []), ("with", drawn)):
        forward(spec, params, x, masks=factors, tap=lambda place, i, value, n=name: seen.__setitem__((n, place), value))
    # mean 0 and variance 1 stay; other values come nearer to them, as far as something is dropped
    before, after = (torch.stack(torch.std_mean(seen[name, "a"])) for name in ("without", "with"))
    target = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert ((after - target).abs() < (before - target).abs() + 0.01).all()
    assert not torch.equal(seen["with", "a"], seen["without", "a"])


def test_without_dropout_there_is_no_mask():
    assert masks(UNITS, 9, [torch.Generator()], torch.float64) == []


# Bad input


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"norm": "instance"},
            r"norm is 'instance': choose one of \['none', 'batch', 'mean', 'layer', 'rms', 'group'\]",
        ),
        ({"norm": "bacth"}, "norm is 'bacth'"),
        ({"placement": "between"}, r"placement is 'between': choose one of \['before', 'after'\]"),
        (
            {"activation": "gelu"},
            r"activation is 'gelu': choose one of \['sigmoid', 'tanh', 'relu', .*'selu', 'identity'\]",
        ),
        ({"inputs": (8, 8)}, r"inputs \(8, 8\), .* must be positive whole numbers"),
        ({"widths": (100, 0)}, r"widths \(100, 0\)"),
        ({"classes": -1}, "classes -1"),
        ({"widths": (2.5,)}, r"widths \(2.5,\)"),
        ({"kernel": 3}, r"kernel is 3 for inputs \(64,\)"),
        ({"inputs": (1, 8, 8)}, r"kernel is None for inputs \(1, 8, 8\)"),
        ({"inputs": (1, 8, 8), "kernel": 4}, "kernel is 4 for .* an odd kernel"),
        ({"flat": True}, "flat is about the positions of images"),
        ({"gain": math.nan}, "gain is nan: give a finite number that is not negative"),
        ({"gain": -1.0}, "gain is -1.0"),
        ({"std": math.inf}, "std is inf"),
        ({"eps": -1e-5}, "eps is -1e-05"),
        ({"dropout": 1.0}, "dropout is 1.0: give a share of at least 0 and below 1"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"norm": "batch", "where": (0, 4)}, "where names layer 4, but the layers are 0 to 3, the output"),
        ({"norm": "batch", "where": (-1,)}, "where names layer -1"),
        ({"norm": "batch", "where": (0.5,)}, "where names layer 0.5"),
        ({"residual": True, "widths": (8, 8)}, r"residual with widths \(8, 8\), .* one layer and then pairs"),
        ({"residual": True, "widths": (8, 8, 9)}, r"residual with widths \(8, 8, 9\)"),
        ({"residual": True, "placement": "after"}, "placement 'after'"),
        ({"residual": True, "dropout": 0.5}, "dropout 0.5: .* no dropout"),
        ({"norm": "group", "groups": 3}, r"3 groups do not divide the widths \(100, 100, 100\): choose a divisor"),
        ({"norm": "group", "groups": 0}, "0 groups do not divide"),
        ({"norm": "group", "groups": 4, "where": (3,)}, r"4 groups do not divide the widths \(10,\)"),
        (
            {"norm": "instance", "inputs": (1, 8, 8), "kernel": 3, "where": (0, 3)},
            "where names layer 3, the output, which has no positions",
        ),
        ({"weights": "normal"}, r"weights is 'normal': choose one of \['plain', 'normed', 'standardized'\]"),
        ({"length": 1.0}, "length is 1.0 and weights 'plain'"),
        ({"length": math.nan, "weights": "normed"}, "length is nan"),
        ({"gain": 0.0, "weights": "normed"}, "gain is 0.0 .* have no direction"),
        ({"std": 0.0, "weights": "standardized"}, "std 0.0, but weights of length 0"),
        ({"alpha_dropout": True, "dropout": 0.5}, "alpha_dropout is made for activation 'selu', not 'sigmoid'"),
        ({"zero_gamma": True, "norm": "batch"}, "zero_gamma is for residual blocks with a norm"),
        ({"zero_gamma": True, "residual": True}, "set residual=True and a norm"),
    ],
)
def test_what_is_no_network_is_a_clear_error(fields: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        Spec(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, 5, 7), (3, 5, 6), (5, 6)])
def test_examples_of_another_shape_are_a_clear_error(shape: tuple[int, ...]):
    params = start([UNITS] * 2, [0, 1])
    with pytest.raises(ValueError, match=r"x has shape .*, but \(2, N, \*\(6,\)\) is needed: replicas first"):
        forward(UNITS, params, torch.zeros(shape))
