"""The page for practitioners: its code prints what stands there, and its tables say what PyTorch does."""

import contextlib
import copy
import inspect
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.ao.nn.intrinsic import qat
from torch.export import export
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint

from bnlib.lab.doctor.report import SEVERITIES
from bnlib.lab.doctor.rules import RULES
from bnlib.lab.launch import launch
from bnlib.running import RunningStats

PAGE = (Path(__file__).parents[1] / "chapters/practice.md").read_text("utf-8")
SHAPE = (5, 4, 3, 2)  # as few values as make biased and unbiased differ, and no two axes alike


def blocks() -> list[tuple[str, str]]:
    """The page's Python blocks, each with the output that stands below it."""
    block = r"^```python\n(.*?)^```\n(?:\n(?:</details>\n\n)?^```text\n(.*?)^```\n)?"
    return re.findall(block, PAGE, re.DOTALL | re.MULTILINE)


def table(name: str) -> dict[str, dict[str, str]]:
    """The rows of the table whose header contains ``name``: by first cell, each by the other headers."""
    text = PAGE.replace("`", "")
    tables = re.findall(r"^(\|.*)\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    cells = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in f"{a}\n{b}".splitlines()] for a, b in tables
    ]
    [(header, *rows)] = [lines for lines in cells if name in lines[0]]
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


BATCH_NORM = table("PyTorch nn.BatchNorm2d")
LAYERS = table("one mean for each")
OTHERS = table("Flax")


def x_of(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.randn(shape, generator=generator, dtype=torch.float64) + 3).to(dtype)


def moments(x: torch.Tensor, correction: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each channel of (N, C, H, W)."""
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=correction)


def normalized(x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    return (x - mean.view(-1, 1, 1)) / (var.view(-1, 1, 1) + eps).sqrt()


def norm(**arguments) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(SHAPE[1], dtype=torch.float64, **arguments)


def running(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.get_buffer("running_mean"), layer.get_buffer("running_var")


# The blocks


class Run(NamedTuple):
    """What the blocks printed, in order, and the names they left behind."""

    printed: list[str]
    names: dict[str, Any]


@pytest.fixture(scope="module")
def run() -> Run:
    printed: list[str] = []
    names: dict[str, Any] = {}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # from the exporter's own copying
        for code, _ in blocks():
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(code, "practice.md", "exec"), names)
            printed.append(out.getvalue())
    return Run(printed, names)


def test_every_block_prints_what_stands_below_it(run: Run):
    found = blocks()
    assert len(found) == PAGE.count("```python") > 10
    assert sum(bool(text) for _, text in found) == PAGE.count("```text")
    for (code, text), printed in zip(found, run.printed, strict=True):
        assert printed == text, code


def test_the_fourth_check_bears_a_channel_without_spread(run: Run):
    model, x = nn.Sequential(nn.BatchNorm1d(3)).double(), x_of(20, 3)
    x[:, 0] = 0
    update_bn([x], model)  # stores the variance 0
    distance, ratio, flat = run.names["fit"](model, x)["0"]
    assert (distance, ratio, flat) == pytest.approx((0, 1, 1))


def test_code_is_as_narrow_as_in_the_chapters():
    assert [line for code, _ in blocks() for line in code.splitlines() if len(line) > 79] == []


# The table of batch norm in three frameworks


def momentum_weighs(cell: str) -> None:
    layer, x = norm(), x_of(*SHAPE)
    layer(x)
    momentum = layer.momentum or 0.0
    weight = {"the new batch": momentum, "the old average": 1 - momentum}[cell]
    torch.testing.assert_close(running(layer)[0], weight * moments(x)[0])


def newest_counts(cell: str) -> None:
    layer, x = norm(), x_of(*SHAPE)
    layer(x)
    torch.testing.assert_close(layer.running_mean, float(cell) * moments(x)[0])


def constant(cell: str) -> None:
    name, value = cell.split("=")
    assert getattr(norm(), name) == float(value)
    x = x_of(*SHAPE) / 1000  # small enough for eps to matter
    torch.testing.assert_close(norm()(x), normalized(x, *moments(x), eps=float(value)))


CORRECTION = {"biased": 0, "unbiased": 1}


def batch_variance(cell: str) -> None:
    x = x_of(*SHAPE)
    torch.testing.assert_close(norm()(x), normalized(x, *moments(x, CORRECTION[cell])))


def running_variance(cell: str) -> None:
    layer, x = norm(momentum=1.0), x_of(*SHAPE)
    layer(x)
    torch.testing.assert_close(layer.running_var, moments(x, CORRECTION[cell])[1])


def start(cell: str) -> None:
    mean, var = map(float, cell.split(" and "))
    assert (norm().running_mean == mean).all()
    assert (norm().running_var == var).all()


def channel_axis(cell: str) -> None:
    x = x_of(*SHAPE)
    others = {0, 1, 2, 3} - {int(cell)}
    assert norm()(x).mean(tuple(others)).abs().max() < 1e-12
    assert norm().num_features == x.shape[int(cell)]


def parameter_names(cell: str) -> None:
    layer, x = norm(), x_of(*SHAPE)
    xhat = layer(x)
    gamma, beta = cell.split(", ")
    nn.init.constant_(getattr(layer, gamma), 2.0)
    nn.init.constant_(getattr(layer, beta), 5.0)
    torch.testing.assert_close(layer(x), 2 * xhat + 5)


def without_parameters(cell: str) -> None:
    name, value = cell.split("=")
    assert list(norm(**{name: {"False": False}[value]}).parameters()) == []
    assert len(list(norm().parameters())) == 2


def new_layer_uses(cell: str) -> None:
    x = x_of(*SHAPE)
    zero, one = torch.zeros(SHAPE[1]).double(), torch.ones(SHAPE[1]).double()
    statistics = {"batch statistics": moments(x), "running statistics": (zero, one)}
    torch.testing.assert_close(norm()(x), normalized(x, *statistics[cell]))


def call(cell: str, **objects: nn.Module) -> None:
    """Do what the cell says, such as "model.eval()"."""
    [(name, method)] = re.findall(r"^(\w+)\.(\w+)\(\)$", cell)
    getattr(objects[name], method)()


def uses_running_statistics(model: nn.Module, layer: nn.BatchNorm2d) -> None:
    x = x_of(*SHAPE)
    mean, var = (buffer.clone() for buffer in running(layer))
    torch.testing.assert_close(model(x), normalized(x, mean, var))
    torch.testing.assert_close(running(layer), (mean, var), rtol=0, atol=0)


def evaluation(cell: str) -> None:
    layer = norm()
    model = nn.Sequential(layer)
    model(x_of(*SHAPE))
    call(cell, model=model)
    uses_running_statistics(model, layer)


def one_value(cell: str) -> None:
    assert cell == "error"
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        norm()(x_of(1, SHAPE[1], 1, 1))


def freezing(cell: str) -> None:
    layer = norm()
    model = nn.Sequential(layer)
    model(x_of(*SHAPE))
    model.train()
    call(cell, layer=layer)
    uses_running_statistics(model, layer)
    assert layer.weight.requires_grad


def half_precision(cell: str) -> None:
    dtype = getattr(torch, cell)
    for half in (torch.float16, torch.bfloat16):
        layer = nn.BatchNorm2d(SHAPE[1], momentum=1.0)
        x = (x_of(*SHAPE) + 300).to(half)  # its square overflows float16; bfloat16 has steps of 2 there
        assert layer(x).dtype == half
        for ours, theirs in zip(moments(x.double(), 1), running(layer), strict=True):
            assert theirs.dtype == dtype
            torch.testing.assert_close(theirs, ours.to(dtype), rtol=1e-5, atol=1e-6)


def several_devices(cell: str) -> None:
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(norm())
    assert f"nn.{type(converted).__name__}" == cell


CHECKS: dict[str, Callable[[str], None]] = {
    "momentum by default": lambda cell: _same(norm().momentum, float(cell)),
    "momentum is the weight of": momentum_weighs,
    "so the new batch counts": newest_counts,
    "the constant in the root": constant,
    "variance that normalizes a batch": batch_variance,
    "running variance": running_variance,
    "running statistics start at": start,
    "channel axis by default": channel_axis,
    "gamma and beta are called": parameter_names,
    "without gamma and beta": without_parameters,
    "a new layer, just called, uses": new_layer_uses,
    "evaluation": evaluation,
    "training on one value per channel": one_value,
    "freezing the statistics": freezing,
    "statistics of a half-precision input": half_precision,
    "several devices": several_devices,
}


def _same(a: object, b: object) -> None:
    assert a == b


@pytest.mark.parametrize("row", BATCH_NORM)
def test_batch_norm_is_as_its_row_says(row: str):
    CHECKS[row](BATCH_NORM[row]["PyTorch nn.BatchNorm2d"])


def test_no_row_has_gone():
    assert BATCH_NORM.keys() == CHECKS.keys()


def test_the_frameworks_momenta_agree_with_their_meaning():
    for framework, default in BATCH_NORM["momentum by default"].items():
        old = BATCH_NORM["momentum is the weight of"][framework] == "the old average"
        newest = 1 - float(default) if old else float(default)
        assert newest == pytest.approx(float(BATCH_NORM["so the new batch counts"][framework]))


@pytest.mark.parametrize("framework", ["PyTorch nn.BatchNorm2d", "Keras BatchNormalization"])
def test_bnlib_knows_the_frameworks_conventions(framework: str):
    unbiased = BATCH_NORM["running variance"][framework] == "unbiased"
    momentum = float(BATCH_NORM["so the new batch counts"][framework])
    text = inspect.getdoc(RunningStats) or ""
    assert (momentum, unbiased) == (0.1, True) or f"is {momentum} here" in text


# The table of PyTorch's norms

MAKE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), (5, 4, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), SHAPE),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(4), SHAPE),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(4), (5, 4, 3)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4), SHAPE),
    "LayerNorm": (lambda: nn.LayerNorm([*SHAPE[1:]]), SHAPE),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), SHAPE),
}
# Which outputs feel the very first input: those that share its mean.
SHARE = {
    "channel": (slice(None), 0),
    "example and channel": (0, 0),
    "example": (0,),
    "example and group": (0, slice(0, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_norm_is_as_its_row_says(name: str):
    row, (make, shape) = LAYERS[name], MAKE[name]
    defaults = {key: value.default for key, value in inspect.signature(getattr(nn, name)).parameters.items()}
    assert defaults["eps"] == float(row["eps"])
    assert str(defaults.get("momentum", "none")) == row["momentum"]
    layer, x = make().double(), x_of(*shape)
    assert len(list(layer.parameters())) == {"yes": 2, "no": 0}[row["gamma and beta"]]
    stored = getattr(layer, "running_mean", None) is not None
    assert stored == (row["running statistics"] == "yes")
    moved = x.clone()
    moved.view(-1)[0] += 1
    expected = torch.zeros(shape, dtype=torch.bool)
    expected[SHARE[row["one mean for each"]]] = True
    before, after = layer(x), layer(moved)
    torch.testing.assert_close((before - after).abs() > 1e-12, expected)
    same = torch.allclose(layer.train()(x), layer.eval()(x))
    assert same == (row["running statistics"] == "no")


def test_no_norm_has_gone():
    assert LAYERS.keys() == MAKE.keys()


# The table of the other norms


def default(kind: type, name: str) -> object:
    return inspect.signature(kind).parameters[name].default


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("layer norm: constant in the root", default(nn.LayerNorm, "eps")),
        ("group norm: constant in the root", default(nn.GroupNorm, "eps")),
        ("instance norm: constant in the root", default(nn.InstanceNorm2d, "eps")),
    ],
)
def test_constants_of_the_other_norms(row: str, value: object):
    assert float(OTHERS[row]["PyTorch"]) == value


def test_the_rest_of_the_other_norms():
    needed = inspect.Parameter.empty
    assert default(nn.LayerNorm, OTHERS["layer norm: averages over"]["PyTorch"]) is needed
    assert (OTHERS["group norm: groups by default"]["PyTorch"] == "none") == (
        default(nn.GroupNorm, "num_groups") is needed
    )
    assert (OTHERS["instance norm: gamma and beta"]["PyTorch"] == "yes") == default(nn.InstanceNorm2d, "affine")
    assert len(OTHERS) == 6


def test_layer_norm_averages_over_the_last_axes():
    assert nn.LayerNorm([*SHAPE[-2:]]).double()(x_of(*SHAPE)).mean((2, 3)).abs().max() < 1e-12


# The doctor's rules


def test_the_table_of_rules_is_the_doctors_catalogue_worst_first():
    listed = {name: row["Severity"] for name, row in table("What it finds").items()}
    assert listed == {rule.name: rule.severity for rule in RULES}
    assert sorted(listed.values(), key=SEVERITIES.index) == list(listed.values())


def test_rules_named_behind_a_symptom_exist():
    entries = re.findall(r"^: .*$", PAGE, re.MULTILINE)
    named = re.findall(r" Doctor: (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*)\.$", "\n".join(entries), re.MULTILINE)
    assert len(named) == PAGE.count(" Doctor: ") > 20
    assert set(re.findall("`(.+?)`", "\n".join(named))) <= {rule.name for rule in RULES}


@pytest.mark.parametrize("link", sorted({rule.link for rule in RULES if rule.link.startswith("practice.html")}))
def test_the_place_a_rule_links_to_is_on_the_page(link: str):
    page, label = link.split("#")
    assert page == "practice.html"
    assert f"\n({label})=\n" in PAGE


# The error messages

X = x_of(6, 4, dtype=torch.float32)
MAPS = x_of(*SHAPE, dtype=torch.float32)


def statistics_missing() -> None:
    nn.BatchNorm1d(4).load_state_dict(nn.BatchNorm1d(4, track_running_stats=False).state_dict())


def input_changed() -> None:
    h = nn.Linear(4, 4)(X)
    h += nn.BatchNorm1d(4)(h)
    h.sum().backward()


def step_between() -> None:
    layer = nn.BatchNorm1d(4)
    losses = [layer(x).square().sum() for x in (X.clone().requires_grad_(), (X + 1).requires_grad_())]
    losses[0].backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    losses[1].backward()


def branch_beside() -> None:
    h = nn.Linear(4, 4)(X)
    (nn.BatchNorm1d(4)(h) + nn.ReLU(inplace=True)(h)).sum().backward()


def compiled_plain_average() -> None:
    torch.compile(nn.BatchNorm1d(4, momentum=None), backend="eager", fullgraph=True)(X)


RAISES: dict[str, list[Callable[[], object]]] = {
    "Expected more than 1 value per channel when training, got input size ...": [
        lambda: nn.BatchNorm1d(4)(X[:1]),
        lambda: nn.BatchNorm2d(4)(MAPS[:1, :, :1, :1]),
    ],
    "Expected more than 1 spatial element when training, got input size ...": [
        lambda: nn.InstanceNorm2d(4)(MAPS[:, :, :1, :1])
    ],
    "running_mean should contain ... elements not ...": [
        lambda: nn.BatchNorm1d(5)(X),
        lambda: nn.BatchNorm1d(4)(x_of(2, 7, 4, dtype=torch.float32)),
        lambda: nn.BatchNorm2d(4)(MAPS.permute(0, 2, 3, 1)),
    ],
    "expected 4D input (got 2D input)": [lambda: nn.BatchNorm2d(4)(X)],
    "mixed dtype (CPU): expect parameter to have scalar type of Float": [lambda: nn.BatchNorm1d(4).double()(X)],
    "mixed dtype (CPU): all inputs must share same datatype.": [lambda: nn.BatchNorm1d(4)(X.double())],
    "batch_norm eps must be positive during training, but got ...": [lambda: nn.BatchNorm1d(4, eps=0)(X)],
    'Missing key(s) in state_dict: "running_mean", "running_var"': [statistics_missing],
    "one of the variables needed for gradient computation has been modified by an inplace operation": [
        input_changed,
        step_between,
        branch_beside,
    ],
    "SyncBatchNorm expected input tensor to be on GPU": [lambda: nn.SyncBatchNorm(4)(X)],
    "DistributedDataParallel is not needed when a module doesn't have any parameter that requires a gradient.": [
        lambda: DistributedDataParallel(nn.BatchNorm1d(4).requires_grad_(False))
    ],
    "Batch norm got a batched tensor as input while the running_mean or running_var, which will be updated in place, "
    "were not batched.": [lambda: torch.func.vmap(nn.BatchNorm1d(4))(x_of(3, 6, 4, dtype=torch.float32))],
    "Fusion only for eval!": [lambda: fuse_conv_bn_eval(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))],
    "Calling eval() is not supported yet.": [lambda: export(nn.BatchNorm1d(4), (X,)).module().eval()],
    "Could not guard on data-dependent expression": [compiled_plain_average],
}


def written_messages() -> list[str]:
    section = PAGE.split("## Error messages\n")[1].split("(practice-defaults)=")[0]
    return re.findall(r"^`(.+)`\n: ", section, re.MULTILINE)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    meet = f"file://{tmp_path}/meet"
    torch.distributed.init_process_group("gloo", init_method=meet, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # from the exporter's own copying
@pytest.mark.parametrize("message", RAISES)
def test_message_is_raised_as_it_is_written(message: str):
    pattern = ".*".join(map(re.escape, message.split("...")))
    for case in RAISES[message]:
        with pytest.raises(Exception, match=pattern):
            case()


def test_no_message_has_gone():
    assert written_messages() == list(RAISES)


def test_remedies_of_the_messages():
    h = nn.Linear(4, 4)(X)
    (h + nn.BatchNorm1d(4)(h)).sum().backward()
    assert nn.BatchNorm1d(4)(x_of(2, 7, 4, dtype=torch.float32).transpose(1, 2)).shape == (2, 4, 7)
    assert nn.BatchNorm2d(4)(MAPS.permute(0, 2, 3, 1).permute(0, 3, 1, 2)).equal(nn.BatchNorm2d(4)(MAPS))
    layer = nn.BatchNorm1d(4)
    layer.load_state_dict(nn.BatchNorm1d(4, track_running_stats=False).state_dict(), strict=False)
    assert (running(layer)[0] == 0).all()
    assert (running(layer)[1] == 1).all()
    many, model = x_of(3, 6, 4, dtype=torch.float32), nn.Sequential(nn.BatchNorm1d(4))
    for able in (
        nn.BatchNorm1d(4).eval(),
        nn.BatchNorm1d(4, track_running_stats=False),
        torch.func.replace_all_batch_norm_modules_(model),
    ):
        assert torch.func.vmap(able)(many).shape == many.shape


@pytest.mark.usefixtures("alone")
def test_sync_batch_norm_on_a_cpu_in_eval_mode_is_batch_norm():
    assert torch.equal(nn.SyncBatchNorm(4).eval()(MAPS), nn.BatchNorm2d(4).eval()(MAPS))


def test_sync_batch_norm_without_processes_is_batch_norm():
    assert torch.equal(nn.SyncBatchNorm(4)(MAPS), nn.BatchNorm2d(4)(MAPS))


# What the text says and no block shows


def test_no_grad_does_not_keep_the_statistics():
    layer = norm()
    with torch.no_grad():
        layer(x_of(*SHAPE))
    assert running(layer)[0].abs().min() > 0


def test_statistics_are_saved_with_the_state_but_are_no_parameters():
    assert {"running_mean", "running_var"} <= norm().state_dict().keys()
    assert {name for name, _ in norm().named_parameters()} == {"weight", "bias"}


def test_without_running_statistics_evaluation_uses_the_batch():
    x = x_of(*SHAPE)
    torch.testing.assert_close(norm(track_running_stats=False).eval()(x), normalized(x, *moments(x)))


def test_bias_in_front_has_no_gradient_and_a_flat_channel_gives_beta():
    linear, layer = nn.Linear(3, 4).double(), nn.BatchNorm1d(4).double()
    nn.init.normal_(layer.bias)
    (layer(linear(x_of(6, 3))) * x_of(6, 4)).sum().backward()
    assert linear.bias.grad is not None
    assert linear.bias.grad.abs().max() < 1e-12
    torch.testing.assert_close(layer(torch.full((6, 4), 7.0).double()), layer.bias.expand(6, 4))


def test_averaged_statistics_are_plain_averages_over_one_pass():
    layer, x = nn.BatchNorm1d(4).double(), x_of(30, 4)
    layer(x)
    update_bn(x.split(10), layer)
    torch.testing.assert_close(layer.running_mean, x.mean(0))
    torch.testing.assert_close(layer.running_var, torch.stack([part.var(0) for part in x.split(10)]).mean(0))
    assert layer.training is True
    assert layer.momentum == 0.1


def test_dropout_without_probability_leaves_the_averaged_statistics_alone():
    dropout, layer, x = nn.Dropout(0.5), nn.BatchNorm1d(4).double(), x_of(30, 4)
    dropout.p = 0.0
    update_bn([x], nn.Sequential(dropout, layer))
    torch.testing.assert_close(running(layer), (x.mean(0), x.var(0)))


def test_averaged_model_takes_the_last_statistics():
    layer = nn.BatchNorm1d(4).double()
    average = AveragedModel(layer)
    for _ in range(3):
        layer(x_of(30, 4))
        average.update_parameters(layer)
    torch.testing.assert_close(average.module.running_mean, layer.running_mean)
    x = x_of(20, 4) + 1
    update_bn([x], average)
    torch.testing.assert_close(average.module.running_mean, x.mean(0))


def test_averaged_model_with_buffers_averages_the_statistics_as_it_averages_the_weights():
    layer, seen = nn.BatchNorm1d(4).double(), []
    average = AveragedModel(layer, use_buffers=True)
    for n in range(3):
        layer(x_of(30, 4) * (n + 1))
        seen.append([a.clone() for a in running(layer)])
        average.update_parameters(layer)
    means, variances = zip(*seen, strict=True)
    torch.testing.assert_close(running(average.module), (torch.stack(means).mean(0), torch.stack(variances).mean(0)))
    assert (running(average.module)[0] - running(layer)[0]).abs().min() > 0.01


def test_in_a_first_layer_averaged_means_are_right_and_averaged_variances_too_large():
    nets = [nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4, momentum=1.0)).double() for _ in range(3)]
    x, average = x_of(50, 3), AveragedModel(nets[0], use_buffers=True)
    for net in nets:
        net(x)  # exact statistics of these weights
        average.update_parameters(net)
    [norm] = [layer for layer in average.modules() if isinstance(layer, nn.BatchNorm1d)]
    mean, var = (a.clone() for a in running(norm))
    average.train()(x)
    right_mean, right_var = running(norm)
    torch.testing.assert_close(mean, right_mean)
    assert (var / right_var).min() > 1.01


@pytest.mark.parametrize("training", [True, False])
def test_re_estimation_does_not_spare_frozen_norms(training: bool):
    model, x = nn.Sequential(nn.BatchNorm1d(4)).double().train(training), x_of(30, 4)
    model[0].eval()
    update_bn([x], model)
    torch.testing.assert_close(model[0].running_mean, x.mean(0))
    assert model[0].training is training


@pytest.mark.filterwarnings("ignore::FutureWarning")  # from the exporter's own copying
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_exported_graph_keeps_its_mode(mode: bool):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double().train(mode)
    x = x_of(6, 3)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},)).module()
    assert torch.allclose(exported(x)[0], exported(x[:2])[0]) == (not mode)


@pytest.mark.usefixtures("alone")
def test_buffers_are_copied_by_default():
    assert DistributedDataParallel(nn.BatchNorm2d(4)).forward_sync_buffers is True
    with pytest.warns(FutureWarning, match="`broadcast_buffers` is deprecated. Use `forward_sync_buffers`"):
        assert DistributedDataParallel(nn.BatchNorm2d(4), broadcast_buffers=False).forward_sync_buffers is False
    assert {"broadcast_buffers", "forward_sync_buffers"} <= inspect.signature(DistributedDataParallel).parameters.keys()


def running_means(rank: int, copied: bool | None) -> dict[str, torch.Tensor]:
    """One process: a norm's running mean after training on its own share, called directly, and after a wrapped call."""
    layer, share = nn.BatchNorm1d(4).double(), x_of(6, 4) + 10 * rank
    model = DistributedDataParallel(layer, forward_sync_buffers=copied)
    for _ in range(5):
        model(share).sum().backward()
    found = {"own": (1 - 0.9**5) * share.mean(0), "trained": running(layer)[0].clone()}
    with torch.no_grad():
        model.module.eval()(share)
        found["called directly"] = running(layer)[0].clone()
        model.eval()(share)
    return {**found, "wrapped": running(layer)[0].clone()}


def wrapped_means(rank: int) -> dict[str, torch.Tensor]:
    """One process: the running mean of a norm right after it was wrapped, where the processes started differently."""
    found = {}
    arguments: dict[str, Any] = {"broadcast_buffers": False, "forward_sync_buffers": False}
    for argument, copied in arguments.items():
        layer = nn.BatchNorm1d(4).double()
        running(layer)[0].fill_(rank)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the deprecated one
            DistributedDataParallel(layer, **{argument: copied})
        found[argument] = running(layer)[0].clone()
    return found


def unequal_parts(rank: int) -> dict[str, torch.Tensor]:
    """One process of two, with 2 and 6 of 8 examples: the gradient of the mean loss, and of the weighted one."""
    x, found = x_of(8, 4), {}
    share = x[:2] if rank == 0 else x[2:]
    for name, weight in {"plain": 1.0, "weighted": len(share) * 2 / 8}.items():
        layer = nn.Linear(4, 1).double()
        nn.init.constant_(layer.weight, 1.0)
        nn.init.zeros_(layer.bias)
        model = DistributedDataParallel(layer)  # named: if it were gone before backward, nobody would average
        (model(share).square().mean() * weight).backward()
        assert layer.weight.grad is not None
        found[name] = layer.weight.grad.clone()
    found["whole"] = 2 * (x.sum(1, keepdim=True) * x).mean(0, keepdim=True)
    found["examples"] = torch.stack([2 * (p.sum(1, keepdim=True) * p).mean(0) for p in (x[:2], x[2:])]).mean(0)[None]
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).double())
    (model(x).square().sum() + model(x + 1).square().sum()).backward()  # a GAN's two passes: no error on CPUs
    return found


class Found(NamedTuple):
    """What a process of two finds, in all that is asked of it: starting it takes seconds."""

    means: dict[bool | None, dict[str, torch.Tensor]]  # by whether buffers are copied; None: as by default
    wrapped: dict[str, torch.Tensor]
    unequal: dict[str, torch.Tensor]


def found_by(rank: int) -> Found:
    return Found(
        means={copied: running_means(rank, copied) for copied in (None, False)},
        wrapped=wrapped_means(rank),
        unequal=unequal_parts(rank),
    )


@pytest.fixture(scope="module")
def both() -> list[Found]:
    """What two processes find."""
    return launch(found_by, 2)


@pytest.mark.parametrize("copied", [None, False], ids=["default", "not copied"])
def test_statistics_of_process_0_overwrite_the_others(both: list[Found], copied: bool | None):
    first, second = (found.means[copied] for found in both)
    torch.testing.assert_close(first["trained"], first["own"])  # nothing of the second's share
    assert (first["called directly"] - second["called directly"]).abs().min() > 0.5
    if copied is False:
        torch.testing.assert_close(second["wrapped"], second["own"])
    else:
        torch.testing.assert_close(second["wrapped"], first["own"])


def test_the_argument_that_replaces_broadcast_buffers_still_copies_at_the_wrapping(both: list[Found]):
    second = both[1].wrapped
    assert (second["broadcast_buffers"] == 1).all()
    assert (second["forward_sync_buffers"] == 0).all()


def test_unequal_parts_count_equally_unless_the_loss_is_weighted(both: list[Found]):
    for found in (process.unequal for process in both):
        torch.testing.assert_close(found["plain"], found["examples"])
        torch.testing.assert_close(found["weighted"], found["whole"])
        assert (found["plain"] - found["whole"]).abs().max() > 0.1


def test_momentum_averages_over_as_many_batches_as_the_page_says():
    assert "averages over about $2/m - 1$ batches" in PAGE
    for m in (0.99, 0.1, 0.01):
        layer, means = nn.BatchNorm1d(2000, momentum=m).double(), torch.randn(2, 2000).double()
        weights = []
        for age in range(round(20 / m)):  # the weight that each batch has by its age
            weights.append(m * (1 - m) ** age)
        assert 1 / sum(w * w for w in weights) == pytest.approx(2 / m - 1, rel=0.01)
        layer(means)
        torch.testing.assert_close(running(layer)[0], m * means.mean(0))


def test_weights_divided_by_1024_leave_the_output_and_multiply_the_gradient():
    linear, layer, dy = nn.Linear(3, 4).double(), nn.BatchNorm1d(4).double(), x_of(60, 4)
    nn.init.normal_(linear.weight, std=1e6)  # beside which eps is nothing, divided or not
    found = []
    for _ in range(2):
        out = layer(linear(x_of(60, 3)))
        found.append((out, *torch.autograd.grad(out, linear.weight, dy)))
        with torch.no_grad():
            for parameter in linear.parameters():
                parameter /= 1024
    torch.testing.assert_close(found[1][0], found[0][0])
    torch.testing.assert_close(found[1][1], 1024 * found[0][1])


def test_with_a_scale_for_each_channel_rounding_and_folding_commute():
    def rounded(linear: nn.Linear) -> nn.Linear:
        step = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        linear.weight.data = (linear.weight.detach() / step).round() * step
        return linear

    linear, layer = nn.Linear(30, 4).double(), nn.BatchNorm1d(4).double()
    nn.init.normal_(layer.weight)
    layer(linear(x_of(60, 30)))
    first = fuse_linear_bn_eval(rounded(copy.deepcopy(linear)).eval(), layer.eval())
    last = rounded(fuse_linear_bn_eval(linear.eval(), layer))
    torch.testing.assert_close(first.weight, last.weight)


def test_statistics_of_the_support_set_do_not_depend_on_the_queries():
    model, support, queries = nn.Sequential(nn.BatchNorm1d(4)).double(), x_of(5, 4), x_of(9, 4) + 1
    update_bn([support], model)
    model.eval()
    torch.testing.assert_close(model(queries)[:1], model(queries[:1]))
    torch.testing.assert_close(running(model[0])[0], support.mean(0))


def test_behind_a_frozen_norm_the_bias_counts_and_folding_makes_one():
    linear, layer = nn.Linear(3, 4, bias=False).eval(), nn.BatchNorm1d(4).eval()
    assert fuse_linear_bn_eval(linear, layer).bias is not None
    biased = nn.Linear(3, 4)
    layer(biased(X[:, :3])).sum().backward()
    assert biased.bias.grad is not None
    assert biased.bias.grad.abs().min() > 0.1


def test_every_part_of_accumulated_gradients_moves_the_running_statistics():
    layer = nn.BatchNorm1d(4)
    for part in X.chunk(3):
        layer(part).square().sum().backward()
    assert layer.num_batches_tracked == 3


def test_a_hard_copy_by_state_dict_takes_the_statistics():
    online, target = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    online(X)
    target.load_state_dict(online.state_dict())
    assert all(map(torch.equal, running(target), running(online)))


def test_which_norms_keep_channels_last():
    x = MAPS.to(memory_format=torch.channels_last)
    assert x.stride() != MAPS.stride()
    kept = {
        type(layer).__name__: layer(x).is_contiguous(memory_format=torch.channels_last)
        for layer in (nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm([*SHAPE[1:]]))
    }
    assert kept == {"BatchNorm2d": True, "GroupNorm": True, "InstanceNorm2d": False, "LayerNorm": False}
    with pytest.raises(RuntimeError, match="reshape"):
        x.view(SHAPE[0], -1)


@pytest.mark.parametrize("transpose", [False, True])
def test_convolution_with_padding_folds(transpose: bool):
    conv = (nn.ConvTranspose2d if transpose else nn.Conv2d)(4, 3, 3, padding=1).double().eval()
    layer = nn.BatchNorm2d(3).double()
    layer(conv(x_of(*SHAPE) + 1))
    layer.eval()
    folded = fuse_conv_bn_eval(conv, layer, transpose=transpose)
    torch.testing.assert_close(folded(x_of(*SHAPE)), layer(conv(x_of(*SHAPE))))


def test_a_norm_without_running_statistics_does_not_fold():
    with pytest.raises(AssertionError, match="running_mean"):
        fuse_linear_bn_eval(nn.Linear(3, 4).eval(), nn.BatchNorm1d(4, track_running_stats=False).eval())


@pytest.mark.filterwarnings("ignore:Please use quant_min", "ignore::DeprecationWarning")
def test_the_switch_of_quantization_aware_training_outlasts_train():
    model = nn.Sequential(nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3)).train()
    fused = torch.ao.quantization.fuse_modules_qat(model, [["0", "1"]])
    fused.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    with pytest.warns(DeprecationWarning, match=r"torch\.ao\.quantization is deprecated"):
        layer = torch.ao.quantization.prepare_qat(fused)[0]
    layer(MAPS)
    qat.freeze_bn_stats(layer.train())
    layer.train()
    before = layer.bn.running_mean.clone()
    layer(MAPS * 3)
    assert torch.equal(layer.bn.running_mean, before)


def test_alpha_dropout_misses_in_proportion_to_the_root_of_the_units():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spread = [nn.AlphaDropout(0.1)(x_of(1, n).sub(3).expand(2000, n)).mean(1).std() for n in (50, 5000)]
    assert spread[0] / spread[1] == pytest.approx(10, rel=0.15)


def test_start_of_the_running_statistics_is_gone_after_enough_steps():
    for momentum, steps in (0.1, 50), (0.01, 500), (0.001, 5000):
        layer = norm(momentum=momentum).train()
        for _ in range(steps):
            layer(torch.zeros(SHAPE, dtype=torch.float64))  # variance 0: what is left is the start's 1
        assert running(layer)[1].max() < math.exp(-5)


def test_momentum_changes_no_weight(run: Run):
    network, train = run.names["network"], run.names["train"]
    with torch.random.fork_rng():
        few, many = ([train(network(m), steps=20, batch=b) for m in (0.1, 0.001, 0.99)] for b in (8, 60))
    for first, *others in (few, many):
        for other in others:
            torch.testing.assert_close(dict(other.named_parameters()), dict(first.named_parameters()), rtol=0, atol=0)


def test_a_bad_batch_poisons_the_statistics_and_no_scaler_prevents_it():
    layer, x = nn.BatchNorm1d(4), x_of(60, 4, dtype=torch.float32)
    model = nn.Sequential(layer, nn.Linear(4, 2))
    weights = [p.clone() for p in model.parameters()]
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    bad = x.clone()
    bad[0, 0] = math.inf
    scaler.scale(model(bad).square().sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert all(map(torch.equal, weights, model.parameters()))  # the step was skipped
    assert scaler.get_scale() == 65536 / 2
    for _ in range(1000):
        layer(x)
    mean, var = running(layer)
    assert mean[0].isinf()
    assert var[0].isnan()
    assert not running(layer)[1].isfinite().all()
    assert model.train()(x).isfinite().all()
    assert not model.eval()(x).isfinite().any()
    update_bn([x], model)
    assert running(layer)[1].isfinite().all()
    assert model(x).isfinite().all()


def test_infinite_input_gives_nan_and_large_halves_do_not():
    x = x_of(60, 4, dtype=torch.float32)
    large = (5e3 * x).half()  # most squares overflow
    assert large.isfinite().all()
    assert (large**2).isinf().any()
    assert nn.BatchNorm1d(4)(large).isfinite().all()
    assert nn.BatchNorm1d(4, eps=1e-8)(torch.full((6, 4), 7.0).half()).isfinite().all()
    x[0, 0] = math.inf
    assert nn.BatchNorm1d(4)(x)[:, 0].isnan().all()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("wanted", [0.1, 0.01, 0.5])
def test_gradient_checkpointing_updates_twice_and_the_pages_momentum_makes_up_for_it(wanted: float, reentrant: bool):
    assert "$1 - \\sqrt{1 - m}$. For $m = 0.1$ that is 0.0513." in PAGE
    momentum = 1 - math.sqrt(1 - wanted)
    assert wanted != 0.1 or round(momentum, 4) == 0.0513
    linear, once = nn.Linear(3, 4).double(), nn.BatchNorm1d(4, momentum=wanted).double()
    twice = nn.BatchNorm1d(4, momentum=momentum).double()
    for n in range(3):
        x = x_of(6, 3).mul(n + 1).requires_grad_()
        once(linear(x))
        out = checkpoint(lambda x: twice(linear(x)), x, use_reentrant=reentrant)
        assert isinstance(out, torch.Tensor)
        out.sum().backward()
    assert (once.num_batches_tracked, twice.num_batches_tracked) == (3, 6)
    torch.testing.assert_close(running(twice), running(once))


def test_a_shared_norm_stores_a_mixture():
    layer, together, x = nn.BatchNorm1d(4).double(), nn.BatchNorm1d(4).double(), x_of(200, 4)
    kinds = [x - x.mean(0) + 5, x - x.mean(0) - 5]
    for _ in range(100):
        for kind in kinds:
            assert layer(kind).mean(0).abs().max() < 1e-9
        together(torch.cat(kinds))
    for kind in kinds:
        assert layer.eval()(kind).mean(0).abs().min() > 1
    mixed = torch.cat(kinds)
    torch.testing.assert_close(together.eval()(mixed), together.train()(mixed), rtol=0, atol=0.01)


def test_checks_know_norms_without_running_statistics(run: Run):
    bare = nn.BatchNorm1d(5, track_running_stats=False)
    model = nn.Sequential(nn.Linear(64, 5), bare, nn.BatchNorm1d(5)).double().eval()
    assert run.names["modes"](model) == "1 of 2 use the batch"
    assert run.names["company"](model, run.names["x"]) > 1e-4
    assert run.names["fit"](model, run.names["x"]).keys() == {"2"}


def test_flat_channels_are_found_at_once(run: Run):
    x, train, layer = run.names["x"], run.names["train"], nn.BatchNorm1d(64).double()
    model = nn.Sequential(layer, nn.Linear(64, 10).double())
    with torch.random.fork_rng():
        train(model, steps=50)
    flat = (x.var(0) < 1e-4).sum().item()
    assert run.names["fit"](model, x)["0"][2] == flat > 3
    assert running(layer)[1].min() > 1e-4  # they still remember their start


def test_batch_norm_takes_away_what_a_batch_has_in_common():
    x, common = x_of(60, 4), x_of(1, 4) * 5
    torch.testing.assert_close(nn.BatchNorm1d(4).double()(x + common), nn.BatchNorm1d(4).double()(x))


def test_sorted_data_harm_any_network(run: Run):
    x, y, x_test, y_test = (run.names[name] for name in ("x", "y", "x_test", "y_test"))

    def accuracy(batch_norm: bool, ordered: bool) -> float:
        model = run.names["network"]()
        if not batch_norm:
            model = nn.Sequential(*(m for m in model if not isinstance(m, nn.BatchNorm1d)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(12):
            for rows in (y.argsort(stable=True) if ordered else torch.randperm(len(x))).split(60):
                optimizer.zero_grad()
                cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
        return (model.eval()(x_test).argmax(1) == y_test).double().mean().item()

    with torch.random.fork_rng():
        for batch_norm in (True, False):
            assert accuracy(batch_norm, ordered=True) < 0.65
            assert accuracy(batch_norm, ordered=False) > 0.85


def test_effective_rate_is_largest_at_a_middling_rate(run: Run):
    found = {}
    with torch.random.fork_rng():
        for lr in (0.1, 1.0, 10.0):
            model = run.names["network"]()
            lengths = [model[3].weight.norm().item()]
            for steps in (10, 290):
                run.names["train"](model, steps=steps, lr=lr)
                lengths.append(model[3].weight.norm().item())
            found[lr] = lengths[1] / lengths[0], lr / lengths[2] ** 2
    assert found[10.0][1] < found[0.1][1] < found[1.0][1]  # so a lower rate is right at 10 and wrong at 1
    assert found[10.0][0] > 5  # multiplied within the first steps
    assert found[1.0][0] < 1.2  # creeps


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_parameters_of_half_precision_round_the_batchs_statistics(half):
    x = ((x_of(64, 12) - 3) / 2 + 100).to(half)  # standard deviation 1
    right = nn.BatchNorm1d(12).double()(x.double())
    errors = [(nn.BatchNorm1d(12).to(dtype)(x) - right).abs().max() for dtype in (half, torch.float32)]
    assert errors[0] > 10 * errors[1]


def test_bfloat16_rounds_weights_products_and_sum():
    def rounded(value: float) -> float:
        return torch.tensor(value, dtype=torch.float64).bfloat16().item()

    assert f"{rounded(0.99):.3f}" == "0.988"
    batch = torch.tensor([[1.0], [3.0], [5.0]]).bfloat16()
    assert nn.BatchNorm1d(1).momentum == 0.1
    for momentum, stop in (0.01, 2.0), (0.1, 2.9):
        layer, mean = nn.BatchNorm1d(1, momentum=momentum).bfloat16(), 0.0
        for _ in range(2000):
            layer(batch)
            mean = rounded(rounded(rounded(1 - momentum) * mean) + rounded(rounded(momentum) * 3))
            assert running(layer)[0].item() == mean
        assert round(mean, 1) == stop


def test_frozen_norm_is_a_fixed_affine_map():
    layer, dy = nn.BatchNorm1d(4).double(), x_of(6, 4)
    nn.init.normal_(layer.weight)
    layer(x_of(30, 4))
    x = (2 * x_of(8, 4)[:6] - 1).requires_grad_()
    frozen = copy.deepcopy(layer).eval()
    (dx,) = torch.autograd.grad(frozen(x), x, dy)
    torch.testing.assert_close(dx, layer.weight * (running(layer)[1] + layer.eps) ** -0.5 * dy)
    assert (frozen(2 * x) - frozen(x)).abs().max() > 0.1
    assert (layer(2 * x) - layer(x)).abs().max() < 1e-3
