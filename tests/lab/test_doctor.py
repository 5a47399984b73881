"""The doctor names planted faults, is silent on healthy models, and leaves no trace."""

import copy
import json
import math
import random
import re
import runpy
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import FAULTS, Fault, pairs, sgd, trained
from faults import chain as fresh_chain
from ranks import examined
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F

from bnlib.lab.doctor import Report, examine
from bnlib.lab.doctor.look import together
from bnlib.lab.doctor.rules import RULES
from bnlib.lab.doctor.rules.statistics import misfit
from bnlib.lab.launch import launch

# What is named as well, and is true.
BESIDES = {
    "fine-tuned on inverted images with the statistics of the others": ["dead-units"],
    "float32 weights of some 1e37 in front of a norm": ["dead-rate"],
}
# Planted elsewhere: it takes processes.
WITH_PROCESSES = {"no-sync"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.rule}, {f.what}")
def test_a_planted_fault_is_named_first(fault: Fault):
    report = examine(**fault.sick())
    named = [finding.rule for finding in report.findings]
    assert named[:1] == [fault.rule], report
    assert named[1:] == BESIDES.get(fault.what, []), report


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.rule}, {f.what}")
def test_on_the_healthy_twin_it_is_silent(fault: Fault):
    report = examine(**fault.healthy())
    assert not report.findings, report


def test_every_rule_has_a_planted_fault():
    assert {rule.name for rule in RULES} == {fault.rule for fault in FAULTS} | WITH_PROCESSES
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_without_synchronization_it_names_small_shares():
    for share, expected in ((4, ["no-sync"]), (40, [])):
        assert launch(examined, 2, share) == [expected] * 2


# Leaving no trace


def state(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """All that must be the same afterwards; tensors as bytes."""

    def raw(t: Tensor | None) -> Any:
        return None if t is None else (t.data_ptr(), t.dtype, t.requires_grad, t.detach().cpu().numpy().tobytes())

    modules = list(model.modules())
    found: dict[str, Any] = {
        "tensors": [raw(t) for t in [*model.parameters(), *model.buffers()]],
        "grads": [raw(p.grad) for p in model.parameters()],
        "modes": [m.training for m in modules],
        "hooks": [{k: dict(v) for k, v in m.__dict__.items() if "hook" in k and isinstance(v, dict)} for m in modules],
        "plain": [{k: v for k, v in m.__dict__.items() if isinstance(v, int | float | str)} for m in modules],
        "random": [random.getstate(), torch.get_rng_state().numpy().tobytes()],
        "numpy": [part if isinstance(part, int | float | str) else part.tobytes() for part in np.random.get_state()],  # noqa: NPY002
    }
    if optimizer is not None:
        found["optimizer"] = [
            {k: raw(v) if isinstance(v, Tensor) else v for k, v in entry.items()} for entry in optimizer.state.values()
        ]
    return found


class Counting(nn.Module):
    """Keeps a count, a tensor and a list of tensors outside of parameters and buffers, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.last = torch.zeros(3)
        self.several = [torch.zeros(2)]

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last += x.detach().mean()
        self.several[0] += 1
        random.random()
        np.random.rand()  # noqa: NPY002
        return x + 1e-3 * torch.randn_like(x)


def busy() -> tuple[Any, torch.optim.Optimizer]:
    """A model in the middle of training, with a gradient and momentum, a hook, mixed modes and unusual modules."""
    torch.manual_seed(3)
    norms = [nn.BatchNorm1d(20), nn.BatchNorm1d(20)]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    layers = [nn.Linear(64, 20), norms[0], Counting(), nn.Dropout(0.2), nn.Linear(20, 20), norms[1], nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(20, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = pairs(count=1)[0]
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    norms[1].eval()
    model[0].register_forward_hook(lambda *args: None)
    return model, optimizer


@pytest.mark.parametrize("context", ["in use", "in training"])
def test_it_leaves_no_trace(context: str):
    model, optimizer = busy()
    if context == "in use":
        model.eval()
    more = {"optimizer": optimizer, "loss": F.cross_entropy} if context == "in training" else {}
    before = state(model, optimizer)
    deployed = copy.deepcopy(model).eval()
    examine(model, pairs(count=4), val_batches=pairs(count=2, val=True), deployed=deployed, **more)
    assert state(model, optimizer) == before
    assert model[2].several[0].tolist() == [1, 1]  # from the one step before
    assert model[2].calls == 1


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("call", range(1, 40, 6))
def test_it_leaves_no_trace_when_the_model_raises(error: type[BaseException], call: int):
    model, optimizer = busy()
    calls = 0

    def now_and_then(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error("here")

    model[6].register_forward_hook(now_and_then)
    before = state(model, optimizer)
    with pytest.raises(error, match="here") as raised:
        examine(model, pairs(count=8), optimizer=optimizer, loss=F.cross_entropy)
    assert state(model, optimizer) == before
    if error is Stop and call < 30:  # later ones are raised in a trace or in a trial step
        assert any("examine called the model in" in note for note in raised.value.__notes__)


@pytest.mark.parametrize("mode", [True, False])
def test_a_graph_made_before_can_still_be_followed(mode: bool):
    model, _ = busy()
    x, y = pairs(count=1)[0]
    model.train(mode)
    loss = F.cross_entropy(model(x), y)
    wanted = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    examine(model, pairs(count=2))
    for one, other in zip(wanted, torch.autograd.grad(loss, list(model.parameters())), strict=True):
        assert torch.equal(one, other)


def test_the_same_report_comes_out_again():
    model, optimizer = busy()
    given = {"optimizer": optimizer, "loss": F.cross_entropy}
    assert examine(model, pairs(count=4), **given) == examine(model, pairs(count=4), **given)


# Misfit in standard errors


def statistics_of(x: Tensor, momentum: float, batches: int, generator: torch.Generator) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(x.shape[1], momentum=momentum).double()
    for _ in range(batches):
        norm(x[torch.randperm(len(x), generator=generator)[:50]])
    return norm


@pytest.mark.parametrize("momentum", [0.1, 0.5])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_the_misfit_is_counted_in_standard_errors(shift: float, momentum: float):
    """Of batches of 50, with eight fresh ones: a mean's variance times m / (2 - m) + 1 / 8."""
    generator = torch.Generator().manual_seed(0)
    scale = 1 + torch.rand(200, generator=generator, dtype=torch.float64)
    x = scale * torch.randn(5000, 200, generator=generator, dtype=torch.float64) + 3
    norm = statistics_of(x, momentum, 100, generator)
    fresh = [(x[torch.randperm(5000, generator=generator)[:50]] + shift * scale, None) for _ in range(8)]
    seen = look_of(norm, [x for x, _ in fresh])
    noise = math.sqrt((momentum / (2 - momentum) + 1 / 8) / 50)
    assert seen.distance == pytest.approx(shift, abs=0.1)
    assert seen.ratio == pytest.approx(1, abs=0.1)
    if shift:
        assert seen.errors == pytest.approx(shift / noise, rel=0.25)
    else:
        assert seen.errors < 2  # of a normal distribution's absolute value the median is 0.67
    assert seen.large == (shift == 1.0)


def look_of(norm: nn.BatchNorm1d, batches: list[Tensor]) -> Any:
    from bnlib.lab.doctor.look import described, looked_at

    given = described("norm", norm)
    moments = together([looked_at(x, 0) for x in batches])
    assert moments is not None
    return misfit(given, moments)


# What it takes, and what it says


def test_batches_of_every_form():
    model = trained(fresh_chain)
    x, y = pairs(count=1)[0]
    for batch in (x, (x,), (x, y), [x, y], ((x,), y)):
        assert not examine(model.eval(), [batch] * 3).findings

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, *, image: Tensor, label: Tensor) -> dict[str, Tensor]:
            return {"logits": self.inner(image)}

    def loss(output: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(output["logits"], batch["label"])

    named = Named().train()
    report = examine(named, [{"image": x, "label": y}] * 3, loss=loss, optimizer=sgd(named, 0.01))
    assert not report.findings, report


def test_wrapped_models():
    model = trained(fresh_chain).train()
    first = model[1]
    first.running_mean += 100
    wrappers: list[Any] = [nn.DataParallel(model), torch.compile(model, backend="eager")]
    for wrapped in wrappers:
        report = examine(wrapped, pairs(), loss=F.cross_entropy)
        assert report.findings[0].rule == "stale-statistics"
        assert report.findings[0].modules == ("1",)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_models_without_modules_that_can_be_seen():
    """Traced and exported models show only by what they do."""
    model, x = trained(fresh_chain).eval(), pairs()[0][0]
    shape = ({0: Dim("batch", min=2)},)
    healthy: list[Any] = [torch.jit.trace(model, x), export(model, (x,), dynamic_shapes=shape).module()]
    for seen in healthy:
        assert not examine(seen, pairs()).findings
    sick = export(model.train(), (x,), dynamic_shapes=shape).module()
    assert [finding.rule for finding in examine(sick, pairs()).findings] == ["company"]


def test_what_cannot_be_told_is_said():
    report = examine(fresh_chain().eval(), pairs())
    assert not report.findings
    assert "Too early" in " ".join(report.unsettled)
    assert "no batch" in " ".join(report.unsettled)
    few = examine(trained(fresh_chain).eval(), pairs(count=2))
    assert "three or more" in " ".join(few.unsettled)
    assert "optimizer" in " ".join(examine(trained(fresh_chain).train(), pairs(), loss=F.cross_entropy).unsettled)
    assert "no batch norm" in " ".join(examine(nn.Linear(64, 10).eval(), pairs()).unsettled)


def bad_inputs() -> Iterator[tuple[str, dict[str, Any], str]]:
    model: Any = fresh_chain()
    yield "no module", {"model": model.forward, "batches": pairs()}, "pass the module"
    yield "no batch", {"model": model, "batches": []}, "there is no batch"
    yield "a tensor", {"model": model, "batches": pairs()[0][0]}, "give a list of batches"
    yield "an empty batch", {"model": model, "batches": [()]}, "a batch is empty"
    yield "no tensors", {"model": model, "batches": [3]}, "a batch is 3"
    yield "at_most", {"model": model, "batches": pairs(), "at_most": 0}, "at_most is 0"
    yield "loss", {"model": model, "batches": pairs(), "loss": 3}, "loss is 3"
    yield "optimizer", {"model": model, "batches": pairs(), "optimizer": "SGD"}, "optimizer is 'SGD'"
    other = sgd(fresh_chain())
    yield "another optimizer", {"model": model, "batches": pairs(), "optimizer": other}, "no parameter of the model"
    several = {"model": model, "batches": pairs(), "loss": lambda out, y: F.cross_entropy(out, y, reduction="none")}
    yield "a loss for each", several, "give one number"
    wrong = {"model": model, "batches": pairs(), "deployed": lambda x: x}
    yield "another output", wrong, "give the same outputs"
    yield "a number", {"model": model, "batches": 5}, "batches is 5"
    yield (
        "an empty tensor",
        {"model": model, "batches": [pairs()[0], torch.zeros(0, 64)]},
        r"batches\[1\] has no example",
    )
    yield "True", {"model": model, "batches": pairs(), "at_most": True}, "at_most is True"
    yield "lazy", {"model": nn.LazyLinear(3), "batches": pairs()}, "lazy modules"
    yield "meta", {"model": nn.Linear(64, 3, device="meta"), "batches": pairs()}, "meta device"


@pytest.mark.parametrize(("given", "message"), [(g, m) for _, g, m in bad_inputs()], ids=[n for n, *_ in bad_inputs()])
def test_bad_input_gets_a_clear_error(given: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        examine(given.pop("model"), given.pop("batches"), **given)


def sick_report() -> Report:
    model = trained(fresh_chain).eval()
    model[1].running_mean += 100
    return examine(model, pairs())


def test_the_report_shows_itself():
    report = sick_report()
    [finding] = report.findings
    text, html = repr(report), report._repr_html_()
    assert max(map(len, text.splitlines())) <= 79
    for part in (finding.rule, *(n.seen for n in finding.numbers), finding.remedy.split()[0]):
        assert part in text
        assert part in html
    assert html.count("<section") == html.count("</section>") == 1
    assert html.count("<li") == html.count("</li>") == len(report.findings)
    assert report.exit_code == 1
    assert examine(trained(fresh_chain).eval(), pairs()).exit_code == 0


def test_only_minor_findings_pass():
    minor = next(fault for fault in FAULTS if fault.rule == "bias-before-norm")
    report = examine(**minor.sick())
    assert report.findings
    assert report.exit_code == 0


COMMAND = """
from faults import pairs, trained, chain

def healthy():
    return {"model": trained(chain).eval(), "batches": pairs()}

def sick():
    given = healthy()
    given["model"][1].running_mean += 100
    return given

def wrong():
    return 3

def misspelt():
    return healthy() | {"losss": None}

def raises():
    raise RuntimeError("here")
"""


def run(arguments: list[str]) -> int:
    sys.argv = ["doctor", *arguments]
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("bnlib.lab.doctor", run_name="__main__")
    return int(ended.value.code or 0)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "patients.py").write_text(COMMAND)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert run(["patients:healthy"]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert run(["patients:sick", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == 1
    assert found["findings"][0]["rule"] == "stale-statistics"
    assert {"name", "seen", "expected"} == set(found["findings"][0]["numbers"][0])
    for name, message in {
        "patients": "names no function",
        "patients:nobody": "was not found",
        "nobody:healthy": "was not found",
        "patients:wrong": "returned a int",
        "patients:misspelt": "returned losss",
        "patients:raises": "RuntimeError: here",
    }.items():
        assert run([name]) == 2
        assert message in capsys.readouterr().err


# What reviews found: traces elsewhere, and healthy models that were spoken of


class Angular(nn.Module):
    """A loss with parameters and a batch norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.centres = nn.BatchNorm1d(10), nn.Parameter(torch.randn(10, 10))

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.norm(out) @ self.centres, y)


def test_what_belongs_to_loss_and_deployed_is_put_back_as_well():
    torch.manual_seed(0)
    model, loss = trained(fresh_chain).train(), Angular()
    deployed = copy.deepcopy(model).train()
    optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()])
    before = [state(module, optimizer) for module in (model, loss, deployed)]
    examine(model, pairs(), optimizer=optimizer, loss=loss, deployed=deployed)
    assert [state(module, optimizer) for module in (model, loss, deployed)] == before


def test_an_optimizer_that_steps_in_the_backward_pass_does_not():
    model = trained(fresh_chain).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: optimizer.step())
    before = state(model, optimizer)
    examine(model, pairs(), loss=F.cross_entropy)
    assert state(model, optimizer) == before
    assert not optimizer.state
    F.cross_entropy(model(pairs()[0][0]), pairs()[0][1]).backward()  # the hooks are there again
    assert optimizer.state


class Overwriting(nn.Module):
    """Standardizes its inputs in place."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.sub_(3.0).div_(2.0))


def test_a_model_that_writes_into_its_inputs():
    batches = [(2 * x + 3, y) for x, y in pairs()]
    kept = copy.deepcopy(batches)
    report = examine(Overwriting(trained(fresh_chain)).eval(), batches)
    assert not report.findings, report
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches, kept, strict=True))


def healthy() -> Iterator[tuple[str, dict[str, Any]]]:
    backbone: Any = trained(fresh_chain)
    head = nn.Sequential(nn.Linear(10, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    tuned = nn.Sequential(backbone, head)
    yield "a new head with a norm", {"model": tuned.train(), "loss": F.cross_entropy, "optimizer": sgd(tuned, 0.01)}
    new = fresh_chain()
    yield "Adagrad has a state from the start", {"model": new, "optimizer": torch.optim.Adagrad(new.parameters())}
    single = [(x[:1], y[:1]) for x, y in pairs()]
    yield "single examples in use", {"model": trained(fresh_chain).eval(), "batches": single}
    few = [(x[:4], y[:4]) for x, y in pairs()]
    yield "small batches in use", {"model": trained(fresh_chain).eval(), "batches": few}
    one = [(x, torch.zeros_like(y)) for x, y in pairs()]
    yield "data of one class", {"model": trained(fresh_chain).eval(), "batches": one}
    masked = nn.Sequential(trained(fresh_chain), Masking())
    yield "a mask of minus infinity", {"model": masked.eval()}
    lbfgs = torch.optim.LBFGS(backbone.parameters())
    yield "LBFGS", {"model": backbone.train(), "loss": F.cross_entropy, "optimizer": lbfgs}
    yield "a head and a residual block that start at 0", {"model": ZeroStart().train(), "loss": F.cross_entropy}
    recurrent = TimeFirst()
    yield "time on the first axis", {"model": recurrent.eval(), "batches": [x.view(-1, 8, 8) for x, _ in pairs()]}


class Masking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.full_like(x, -math.inf)], 1)


class ZeroStart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.head = nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.Linear(64, 10)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.norm(self.linear(x))).relu())


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(8, 5, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.recurrent(x)[0]


@pytest.mark.parametrize(("what", "given"), list(healthy()), ids=[what for what, _ in healthy()])
def test_it_is_silent_on_what_reviews_found_healthy(what: str, given: dict[str, Any]):
    report = examine(given.pop("model"), given.pop("batches", pairs()), **given)
    assert not report.findings, report
    if what in ("LBFGS", "single examples in use", "time on the first axis"):
        assert report.unsettled


def test_a_bias_that_also_goes_elsewhere_is_not_idle():
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm, self.last = nn.Linear(64, 20), nn.BatchNorm1d(20), nn.Linear(20, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = self.linear(x)
            return self.last(h + self.norm(h).relu())

    torch.manual_seed(0)
    assert not examine(Skip().train(), pairs(), loss=F.cross_entropy).findings


def test_an_output_in_a_dataclass_is_looked_at():
    @dataclass
    class Output:
        logits: Tensor

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = trained(fresh_chain)

        def forward(self, x: Tensor) -> Output:
            return Output(F.batch_norm(self.inner(x), None, None, training=True))

    assert [finding.rule for finding in examine(Wrapped().eval(), pairs()).findings] == ["company"]


# The page for practitioners

PAGE = (Path(__file__).parents[2] / "chapters/practice.md").read_text("utf-8")


def test_the_page_counts_the_planted_faults():
    """The tests above make sure that each is named first, and that the twins are silent."""
    kinds = {rule.name: rule.look.__module__.rpartition(".")[2] for rule in RULES}
    planted = Counter(kinds[fault.rule] for fault in FAULTS)
    [header] = re.findall(r"^\| Planted \| (.+) \| nothing \|$", PAGE, re.MULTILINE)
    columns = header.split(" | ")
    assert set(columns) == set(planted)
    expected = [
        f"| {kind} |{''.join(f' {planted[c] if c == kind else str()} |' for c in columns)}  |" for kind in columns
    ]
    expected.append(f"| healthy twins |{'  |' * len(columns)} {len(FAULTS)} |")
    assert "\n".join(expected) in PAGE
    assert f"{len(FAULTS)} faults were planted" in PAGE
    assert len(BESIDES) == 2
    assert "named another one twice" in PAGE
