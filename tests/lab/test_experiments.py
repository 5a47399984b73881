"""Every experiment has a record that says what its code says now, and a command makes those that are missing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bnlib.lab import records
from bnlib.lab import train as train_module
from bnlib.lab.comparisons import Comparison
from bnlib.lab.experiments import __main__ as command
from bnlib.lab.experiments import at_rates, closer_at_first, half_decades, net_of, speed, trained
from bnlib.lab.layers import Affine, Chain, DyT, Residual
from bnlib.lab.nets import Net, convnet, described, mlp, transformer
from bnlib.lab.records import Experiment, Measurement, Settings
from bnlib.lab.train import Hold, Hook, Run, train

EXPERIMENTS = list(command.EXPERIMENTS.values())
RESULTS = records.RESULTS
by_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.id)


# The book's own


def test_every_experiment_has_a_record_and_every_record_an_experiment():
    """But a comparison stands with its criteria before it is run for the first time."""
    records_of = {path.name.removesuffix(".json") for path in RESULTS.iterdir()}
    assert records_of <= {e.id for e in EXPERIMENTS}
    assert {e.id for e in EXPERIMENTS if isinstance(e, Experiment)} <= records_of


def test_two_experiments_of_one_name_are_a_clear_error():
    first, second = EXPERIMENTS[:2]
    with pytest.raises(ValueError, match=f"two experiments are called '{second.id}', and would share a record"):
        command.by_id([second, first, second])


@pytest.mark.parametrize(
    "experiment", [e for e in EXPERIMENTS if (RESULTS / f"{e.id}.json").exists()], ids=lambda e: e.id
)
def test_a_record_has_its_experiments_settings_and_cases_and_its_slice_agrees(experiment: Measurement):
    assert command.state(experiment) == ""
    record = records.load(experiment.id)
    assert record["id"] == experiment.id
    wanted = [records.plain(labels) for labels, _ in experiment.cases(**experiment.settings)]
    if isinstance(experiment, Experiment):
        assert [case["labels"] for case in record["values"]] == wanted
    else:
        assert [pick["labels"] for pick in record["picks"]] == wanted
        arms = [{k: v for k, v in case["labels"].items() if k != "seeds"} for case in record["values"]]
        assert [arm for i, arm in enumerate(arms) if arm not in arms[:i]] == wanted


@pytest.mark.parametrize("comparison", [e for e in EXPERIMENTS if isinstance(e, Comparison)], ids=lambda e: e.id)
def test_what_a_question_compares_is_an_arm_each(comparison: Comparison):
    arms = [labels for labels, _ in comparison.cases(**comparison.settings)]
    assert comparison.questions
    for question in comparison.questions:
        assert 1 <= len(question.parts) <= 3
        assert {condition for there in question.transfers.values() for condition in there} <= {*question.parts}
        for pairs in (question.parts, question.others, *question.transfers.values()):
            for pair in pairs.values():
                for labels in pair:
                    own = {name: value for name, value in records.plain(labels).items() if name != "of"}
                    fitting = [arm for arm in arms if {**arm, **own} == arm]
                    assert len(fitting) == 1, labels


def test_no_claim_is_asked_twice():
    ids = [question.id for e in EXPERIMENTS if isinstance(e, Comparison) for question in e.questions]
    assert len(set(ids)) == len(ids) > 0


@by_experiment
def test_the_cases_of_an_experiment_differ_and_are_json(experiment: Measurement):
    for settings in (experiment.settings, {**experiment.settings, **experiment.live}):
        cases = records.plain(list(experiment.cases(**settings)))
        assert cases
        labels = [json.dumps(labels, sort_keys=True, allow_nan=False) for labels, _ in cases]
        arguments = [json.dumps(how, sort_keys=True, allow_nan=False) for _, how in cases]
        assert len(set(labels)) == len(cases)
        if isinstance(experiment, Experiment):  # two arms may have the same middle of their grids
            assert len(set(arguments)) == len(cases)
        assert all({*own} == {*cases[0][0]} for own, _ in cases)


@by_experiment
def test_the_slice_is_small_and_exact(experiment: Measurement):
    slice_ = {**experiment.settings, **experiment.live}
    assert slice_.keys() == experiment.settings.keys()
    assert slice_.get("dtype", "float64") == "float64"  # where there is no such setting, all is float64
    assert len(list(experiment.cases(**slice_))) < len(list(experiment.cases(**experiment.settings)))


def test_ids_are_unique():
    assert [e.id for e in EXPERIMENTS] == list(command.EXPERIMENTS)
    assert len({id(e) for e in EXPERIMENTS}) == len(EXPERIMENTS)


# What experiments are made of


def test_half_decades():
    assert half_decades(0.1, 10) == [0.1, 0.316, 1, 3.16, 10]
    assert half_decades(0.00316, 0.0316) == [0.00316, 0.01, 0.0316]
    assert half_decades(1, 1) == [1]


def test_net_of_takes_fields_as_a_record_has_them():
    fields = {"widths": [9, 7], "where": [1], "norm": "batch", "gain": 2.0, "std": None, "beta": False}
    net = mlp(widths=(9, 7), where=(1,), norm="batch", beta=False)
    assert net_of(fields) == net_of(json.loads(json.dumps(fields))) == (net, {"gain": 2.0, "std": None})
    assert hash(net_of(fields)[0]) == hash(net)  # as the programs of replicas want it
    assert fields["gain"] == 2.0  # they are a record's own
    assert net_of({}) == (mlp(), {})
    fields = {"inputs": [1, 8, 8], "widths": [4], "kernel": 5, "flat": True, "norm": "group", "groups": 2}
    assert net_of(fields) == (convnet(widths=(4,), kernel=5, flat=True, norm="group", groups=2), {})
    assert net_of({"norm": {"layer": "DyT", "alpha": 2.0}})[0] == mlp(norm=DyT(2.0))
    for net in (transformer(10, 32, norm="rms"), Net((64,), Chain((Residual(Affine(64), 0.0), Affine(10))))):
        assert net_of(json.loads(json.dumps({**described(net), "gain": 1.41}))) == (net, {"gain": 1.41})
    with pytest.raises(TypeError, match="depth"):
        net_of({"depth": 3})
    with pytest.raises(ValueError, match="norm is 'bacth'"):
        net_of({"norm": "bacth"})


RUNS: list[Settings] = [{"seed": 0, "lr": 0.3}, {"seed": 1, "lr": 1.0, "gain": 2.0}]


@pytest.mark.parametrize("exact", [False, True])
def test_trained_sums_up_what_train_gives(exact: bool):
    spec = {"widths": [9, 7], "norm": "batch"}
    values = trained(spec=spec, runs=RUNS, steps=40, every=5, until=0.6, exact=exact, dtype="float64")
    net = mlp(widths=(9, 7), norm="batch")
    runs = [Run(net=net, lr=0.3, steps=40), Run(net=net, gain=2.0, seed=1, lr=1.0, steps=40)]
    histories = train(runs, every=5, until=0.6, dtype=train_module.torch.float64, exact=exact)
    np.testing.assert_array_equal(values["val"], [h.val_accuracy[-1] for h in histories])
    np.testing.assert_array_equal(values["test"], [h.test_accuracy for h in histories])
    np.testing.assert_array_equal(values["start"], [h.loss[:10].mean() for h in histories])
    np.testing.assert_array_equal(values["end"], [h.loss[-10:].mean() for h in histories])
    np.testing.assert_array_equal(values["steps_to"], [h.steps_to(0.6) for h in histories])
    assert "steps_to" not in trained(spec={"widths": [5]}, runs=RUNS, steps=2)


@pytest.mark.parametrize(
    "how",
    [{"optimizer": "adam"}, {"batch": 20}, {"hold": True}, {"dtype": "float32"}, {"inputs": "centred"},
     {"data": "mnist-1d", "spec": {"inputs": [40]}}, {"decay": 0.1}, {"factors": [["weight", 0.1]]},
     {"decay": 0.1, "decayed": ["bias"]}],
    ids=lambda how: " ".join(how),
)  # fmt: skip
def test_trained_passes_on_how(how: dict[str, object]):
    base = {"spec": {"widths": [9], "norm": "batch"}, "runs": RUNS, "steps": 20, "dtype": "float64"}
    assert trained(**base)["end"] == trained(**base)["end"]
    assert trained(**base)["end"] != trained(**(base | how))["end"]  # type: ignore[arg-type]


def test_a_scale_is_the_specs_unless_a_run_has_its_own():
    specs = [{"widths": [9]}, {"widths": [9], "gain": 2.0}, {"widths": [9], "std": 0.1}]
    one, two, std = (trained(spec=spec, runs=RUNS, steps=5, dtype="float64")["end"] for spec in specs)
    assert one[0] not in (two[0], std[0])
    assert one[1] == two[1]  # whose run says so
    assert std[1] != one[1]  # a std takes the gain's place


def test_epochs_are_those_of_the_data_set():
    class Steps(Hook):
        def after(self, step: int) -> dict[str, Tensor]:
            return {"steps": torch.tensor([step])}

    for data, inputs, steps in (("mnist-1d", 40, 2 * 60), ("wine", 13, 2 * 2)):
        net, how = mlp((inputs,), (3,)), {"seeds": 1, "batch": 50, "epochs": 2, "dtype": "float64"}
        assert at_rates(net, [0.1], data=data, hooks=[Steps], **how)["steps"] == [[steps]]


def test_a_case_that_is_stopped_gives_no_values(monkeypatch: pytest.MonkeyPatch):
    step, calls = train_module.Program._step, iter(range(1, 99))

    def stepping(self, number: int) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt
        step(self, number)

    monkeypatch.setattr(train_module.Program, "_step", stepping)
    with pytest.raises(KeyboardInterrupt):
        trained(spec={"widths": [9]}, runs=RUNS, steps=5)


# The command


def cases(n: int, dtype: str):
    """Cases. Criterion: none."""
    for k in range(n):
        yield {"k": k}, {"k": k}


def double(*, k: int) -> dict[str, list[float]]:
    return {"value": [2.0 * k]}


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Experiment]:
    """Two experiments in place of the book's, with folders of their own."""
    names = ("one", "two")
    toys = {id: Experiment(id, cases, double, {"n": 3, "dtype": "float64"}, {"n": 1}) for id in names}
    monkeypatch.setattr(command, "EXPERIMENTS", toys)
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(records, "UNFINISHED", tmp_path / "unfinished")
    measure = records.measure
    monkeypatch.setattr(records, "measure", lambda experiment, **how: measure(experiment, jobs=1, **how))
    return toys


@pytest.fixture
def said(toys, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Call the command; its exit code and what it prints."""

    def call(*arguments: str) -> tuple[int, list[str]]:
        status = command.main(list(arguments))
        return status, capsys.readouterr().out.splitlines()

    return call


def test_by_default_what_is_missing_or_stale_is_measured(said, toys: dict[str, Experiment]):
    assert said("two") == (0, ["two -> two.json", "1 measured"])
    assert said() == (0, ["one -> one.json", "1 measured"])
    assert said() == (0, ["every record stands"])
    toys["two"] = replace(toys["two"], settings={"n": 4, "dtype": "float64"})
    assert said() == (0, ["two -> two.json", "1 measured"])
    toys["one"] = replace(toys["one"], run=lambda k: {"value": [2.0 * k + 1]})
    assert said() == (0, ["one -> one.json", "1 measured"])
    (records.RESULTS / "one.json").write_text("{")
    assert said() == (0, ["one -> one.json", "1 measured"])
    assert said() == (0, ["every record stands"])


def test_all_measures_all(said):
    expected = (0, ["one -> one.json", "two -> two.json", "2 measured"])
    assert said("--all") == expected
    assert said("--all") == expected


def test_all_goes_on_where_it_was_stopped(said, toys: dict[str, Experiment], monkeypatch: pytest.MonkeyPatch):
    whole = records.measure

    def stopped(experiment: Experiment, **how: Any) -> Path:
        if experiment.id == "two":
            raise KeyboardInterrupt
        return whole(experiment, **how)

    monkeypatch.setattr(records, "measure", stopped)
    assert said("--all") == (130, ["one -> one.json"])
    monkeypatch.setattr(records, "measure", whole)
    assert said("--all", "one") == (0, ["one -> one.json", "1 measured"])  # one by name is no part of it
    assert said("--all") == (0, ["two -> two.json", "1 measured"])
    assert said("--all") == (0, ["one -> one.json", "two -> two.json", "2 measured"])
    monkeypatch.setattr(records, "measure", stopped)
    assert said("--all")[0] == 130
    monkeypatch.setattr(records, "measure", whole)
    monkeypatch.setattr(records, "_library", lambda: "changed")
    assert said("--all")[1][:2] == ["one -> one.json", "two -> two.json"]


def test_list_says_how_each_stands_and_measures_nothing(said, toys: dict[str, Experiment]):
    said("one")
    status, lines = said("--list")
    assert (status, lines[0]) == (0, "one: stands")
    assert lines[1].startswith("two: there is no record of 'two': run `python -m bnlib.lab.experiments two`")
    toys["one"] = replace(toys["one"], run=lambda k: {"value": [2.0 * k + 1]})
    assert "one: the slice of 'one' gives value = [1.]" in said("--list")[1][0]
    assert [path.name for path in records.RESULTS.iterdir()] == ["one.json"]


def test_an_unknown_id_is_a_clear_error(toys, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        command.main(["one", "three"])
    assert stopped.value.code == 2
    assert "no experiment is called three: choose among one, two" in capsys.readouterr().err
    assert not records.RESULTS.exists()


def test_ctrl_c_says_that_what_is_done_is_kept(
    toys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def stop(experiment: Experiment, **how: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "measure", stop)
    assert command.main(["--all"]) == 130
    assert "stopped; the cases that are done are kept" in capsys.readouterr().err


def test_workers_leave_the_bar_to_their_parent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train_module, "tqdm", lambda **about: about)  # what the bar is told
    monkeypatch.setattr(train_module.sys, "stderr", SimpleNamespace(isatty=lambda: True))
    assert train_module.progress(total=1) == {"total": 1, "delay": 1, "leave": False}  # the environment decides
    monkeypatch.setattr(train_module.multiprocessing, "parent_process", lambda: object())
    assert train_module.progress(total=1) == {"total": 1, "delay": 1, "leave": False, "disable": True}


# What chapter 8's comparisons run


def test_evaluations_are_closer_at_first():
    times = closer_at_first(500)
    assert times[:20] == list(range(1, 21))
    assert times[-1] == 500
    steps = np.diff(times)
    assert (steps >= 1).all()
    assert (steps[20:] <= 0.05 * np.array(times[20:-1])).all()
    assert closer_at_first(3) == [1, 2, 3]


NARROW: dict[str, Any] = {"steps": 30, "target": 0.4, "dtype": "float64", "inputs": "centred"}


@pytest.mark.parametrize(("over", "held"), [("lr", "gain"), ("gain", "lr")])
def test_widths_count_half_a_decade_for_each_value_that_trains(over: str, held: str):
    values, runs = [0.001, 1.0, 3.16], [{"seed": 3, held: 1.0}, {"seed": 4, held: 0.5}, {"seed": 5, held: 1e-3}]
    how = {"spec": {"widths": [20]}, **NARROW}
    found = speed.widths(runs=runs, over=over, values=values, **how)
    del how["target"]
    alone = [
        [trained(runs=[{**run, over: value}], **how)["val"][0] >= 0.4 for value in values]  # pyright: ignore[reportArgumentType]
        for run in runs
    ]
    assert found["decades"] == [0.5 * sum(reached) for reached in alone]
    assert len(set(found["decades"])) > 1


def test_widths_may_hold_the_weights(monkeypatch: pytest.MonkeyPatch):
    asked: list[object] = []

    def watched(runs: list[Run], **how: Any) -> list[SimpleNamespace]:
        asked.append(how["hooks"])
        return [SimpleNamespace(val_accuracy=[0.5]) for _ in runs]

    monkeypatch.setattr(speed, "train", watched)
    how: dict[str, Any] = {"spec": {"norm": "batch"}, "over": "lr", "values": [1.0], **NARROW}
    for hold in (False, True):
        speed.widths(runs=[{"seed": 0, "gain": 1.0}], hold=hold, **how)
    assert asked == [[], [Hold]]


def test_each_random_setting_has_a_seed_of_its_own_and_is_the_same_for_all_norms(monkeypatch: pytest.MonkeyPatch):
    asked: list[list[Run]] = []

    def watched(runs: list[Run], **how: object) -> list[SimpleNamespace]:
        asked.append(runs)
        return [SimpleNamespace(val_accuracy=[0.5 + 0.1 * (run.batch == 20)]) for run in runs]

    monkeypatch.setattr(speed, "train", watched)
    how: dict[str, Any] = {"depths": [1, 3], "batches": [20, 60], "lr": [0.01, 1.0], "gain": [2.0, 4.0], "steps": 5}
    for norm in speed.NORMS:
        runs = [{"seed": 0}, {"seed": 7}]
        found = speed.searched(spec={"norm": norm}, runs=runs, target=0.55, dtype="float32", data="digits", **how)
        assert found == {"share": [0.5, 0.5]}
    without, with_ = asked
    assert [run.seed for run in without] == [0, 1, 2, 3, 28, 29, 30, 31]
    assert [(len(run.net.affine) - 1, run.batch) for run in without[:4]] == [(1, 20), (1, 60), (3, 20), (3, 60)]
    assert all(0.01 <= run.lr <= 1 and 2 <= run.gain <= 4 for run in without)
    assert len({run.lr for run in without} | {run.gain for run in without}) == 16
    assert [replace(run, net=mlp()) for run in with_] == [replace(run, net=mlp()) for run in without]
