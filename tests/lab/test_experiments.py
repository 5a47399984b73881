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
from bnlib.lab.experiments import __main__ as command
from bnlib.lab.experiments import at_rates, half_decades, net_of, picked, trained
from bnlib.lab.layers import Affine, Chain, DyT, Residual
from bnlib.lab.nets import Net, convnet, described, mlp, transformer
from bnlib.lab.records import Experiment, Settings
from bnlib.lab.train import Hook, Run, train

EXPERIMENTS = list(command.EXPERIMENTS.values())
RESULTS = records.RESULTS
by_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.id)


# The book's own


def test_every_experiment_has_a_record_and_every_record_an_experiment():
    assert sorted(path.name for path in RESULTS.iterdir()) == sorted(f"{e.id}.json" for e in EXPERIMENTS)


@pytest.mark.parametrize(
    "experiment", [e for e in EXPERIMENTS if (RESULTS / f"{e.id}.json").exists()], ids=lambda e: e.id
)
def test_a_record_has_its_experiments_settings_and_cases_and_its_slice_agrees(experiment: Experiment):
    assert command.state(experiment) == ""
    record = records.load(experiment.id)
    assert record["id"] == experiment.id
    wanted = [records._plain(labels) for labels, _ in experiment.cases(**experiment.settings)]
    assert [case["labels"] for case in record["values"]] == wanted


@by_experiment
def test_the_cases_of_an_experiment_differ_and_are_json(experiment: Experiment):
    for settings in (experiment.settings, {**experiment.settings, **experiment.live}):
        cases = records._plain(list(experiment.cases(**settings)))
        assert cases
        labels = [json.dumps(labels, sort_keys=True, allow_nan=False) for labels, _ in cases]
        arguments = [json.dumps(how, sort_keys=True, allow_nan=False) for _, how in cases]
        assert len(set(labels)) == len(set(arguments)) == len(cases)
        assert all({*own} == {*cases[0][0]} for own, _ in cases)


@by_experiment
def test_the_slice_is_small_and_exact(experiment: Experiment):
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


def test_trained_sums_up_what_train_gives():
    values = trained(spec={"widths": [9, 7], "norm": "batch"}, runs=RUNS, steps=40, every=5, until=0.6, dtype="float64")
    net = mlp(widths=(9, 7), norm="batch")
    runs = [Run(net=net, lr=0.3, steps=40), Run(net=net, gain=2.0, seed=1, lr=1.0, steps=40)]
    histories = train(runs, every=5, until=0.6, dtype=train_module.torch.float64)
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


# Picking on seeds of their own


NARROW: dict[str, Any] = {"spec": {"widths": [8]}, "steps": 25, "dtype": "float64"}


def test_a_pick_is_the_best_of_the_selection_seeds_and_is_run_on_the_others():
    grid: dict[str, Any] = {"lrs": [0.01, 1.0, 100.0], "gains": [0.3, 1.0, 3.0]}
    found = picked(**grid, seeds=[0, 1], selection=[1000, 1001, 1002], **NARROW)
    rows = [
        [np.mean(trained(runs=[{"seed": s, "lr": lr, "gain": g} for s in range(1000, 1003)], **NARROW)["val"])
         for lr in grid["lrs"]]
        for g in grid["gains"]
    ]  # fmt: skip
    means = np.array(rows, dtype=float)
    np.testing.assert_allclose(found["grid"], means)
    i, j = np.unravel_index(np.argmax(means), (3, 3))
    assert (found["gain"], found["lr"]) == ([grid["gains"][i]], [grid["lrs"][j]])
    assert found["edge"] == [int(i != 1 or j != 1)]
    own = trained(runs=[{"seed": s, "lr": found["lr"][0], "gain": found["gain"][0]} for s in (0, 1)], **NARROW)
    assert found["test"] == own["test"]


def test_a_pick_by_steps_counts_who_does_not_arrive_as_all_steps():
    how: dict[str, Any] = {**NARROW, "until": 0.3, "every": 1}
    found = picked(lrs=[1e-9, 1.0, 1e-8], seeds=[0], selection=[1000, 1001], by="steps_to", **how)
    assert found["lr"] == [1.0]
    assert found["grid"][0][0] == pytest.approx(25)
    assert found["grid"][0][1] < 25
    assert found["edge"] == [0]  # a single gain has no edge


def test_a_seed_is_not_picked_on_and_reported():
    with pytest.raises(ValueError, match=r"the seeds \[1001\] pick and are reported: choose others"):
        picked(lrs=[1.0], seeds=[0, 1001], **NARROW)
    with pytest.raises(ValueError, match="by is 'test': choose 'val' or 'steps_to'"):
        picked(lrs=[1.0], seeds=[0], by="test", **NARROW)
