"""A record cannot be quoted after its settings or its code have changed, and a run that was killed goes on."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import platformdirs
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from bnlib._files import write_atomically
from bnlib.lab import records
from bnlib.lab.records import Experiment, Record, StaleRecordError, load, measure, measured, stale
from tools.notebooks.run import CellFailure, executed

FACTOR = 2.0  # stands for the code that is measured: a test changes it


def cases(seeds: int, n: int, **how: object):
    """n cases with the same seeds."""
    for k in range(n):
        yield {"k": k, "kind": "even" if k % 2 == 0 else "odd"}, {"k": k, "seeds": seeds, **how}


def run(*, k: int, seeds: int, power: float) -> dict[str, list[float]]:
    """Some numbers for each seed; what is run is noted, and case HANG hangs, in whatever process this is."""
    with Path(os.environ["CALLS"]).open("a") as file:
        file.write(f"{k}\n")
    if os.environ.get("HANG") == str(k):
        time.sleep(600)
    value = [FACTOR * (k + seed / 7) ** power for seed in range(seeds)]
    return {"value": value, "steps": [math.inf if k == 1 else float(k)] * seeds}


REMEDY = "run `python -m bnlib.lab.experiments toy`, or give live=True"  # of a clone's reader and of a wheel's
TOY = Experiment("toy", cases, run, {"seeds": 3, "n": 4, "power": 0.5}, {"seeds": 2, "n": 2})


@pytest.fixture(autouse=True)
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of the test's own; the value is the file in which the runs of cases are noted."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(records, "UNFINISHED", tmp_path / "unfinished")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("HANG", raising=False)
    return tmp_path / "calls"


def count(calls: Path) -> list[int]:
    """The cases that were run since the last call."""
    found = [int(line) for line in calls.read_text().split()] if calls.exists() else []
    calls.unlink(missing_ok=True)
    return found


def change_the_code(monkeypatch: pytest.MonkeyPatch, factor: float = 3.0) -> None:
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", factor)


# Making and reading


def test_a_record_holds_settings_slice_and_the_values_of_every_case_and_seed(calls: Path):
    path = measure(TOY, jobs=1)
    assert path == records.RESULTS / "toy.json"
    assert count(calls) == [0, 1, 0, 1, 2, 3]  # the slice, then all
    record = json.loads(path.read_text())
    assert (record["id"], record["settings"]) == ("toy", TOY.settings)
    assert [case["labels"]["k"] for case in record["values"]] == [0, 1, 2, 3]
    assert [len(case["values"]["value"]) for case in record["values"]] == [3] * 4
    assert [len(case["values"]["value"]) for case in record["slice"]] == [2] * 2
    assert list(records.UNFINISHED.glob("*")) == []

    found = measured(TOY, **TOY.settings)
    assert count(calls) == [0, 1]  # the slice alone
    np.testing.assert_allclose(found.get("value", k=2), 2 * (2 + np.arange(3) / 7) ** 0.5, rtol=1e-8)


def test_what_is_not_finite_is_null_in_the_file_and_infinite_when_read():
    assert "null" in measure(TOY, jobs=1).read_text()
    found = measured(TOY, **TOY.settings)
    np.testing.assert_array_equal(found.get("steps", k=1), [math.inf] * 3)
    np.testing.assert_array_equal(found.get("steps", k=3), [3] * 3)
    assert found.get("steps", k=1).dtype == float


def test_the_file_has_a_line_for_each_case_and_the_same_bytes_each_time():
    path = measure(TOY, jobs=1)
    text = path.read_text()
    assert measure(TOY, jobs=1).read_text() == text
    assert sum(line.startswith('{"labels"') for line in text.splitlines()) == 6
    assert text.endswith("}\n")


def test_several_processes_give_what_one_gives():
    text = measure(TOY, jobs=1).read_text()
    assert measure(TOY, jobs=2).read_text() == text


def test_live_runs_any_settings_and_writes_nothing():
    found = measured(TOY, live=True, seeds=2, n=3, power=2)
    np.testing.assert_allclose(found.get("value", k=2), [8, 2 * (2 + 1 / 7) ** 2], rtol=1e-8)
    assert not records.RESULTS.exists()
    assert not records.UNFINISHED.exists()


def test_tuples_ranges_and_numpy_numbers_are_settings_as_json_has_them():
    toy = replace(
        TOY, cases=lambda ks, **how: cases(n=len(ks), **how), settings={"seeds": 3, "ks": (5, 6), "power": 1.0}
    )
    toy = replace(toy, live={"seeds": 1})
    measure(toy, jobs=1)
    for ks in ((5, 6), [5, 6], range(5, 7), np.array([5, 6])):
        assert len(measured(toy, seeds=np.int64(3), ks=ks, power=1).values) == 2


RECORD = Record(
    "toy",
    [
        ({"arm": "a", "lr": 0.1}, {"val": [0.1, 0.9], "steps": [4, 2]}),
        ({"arm": "a", "lr": 1.0}, {"val": [0.6, 0.7], "steps": [9, math.inf]}),
        ({"arm": "b", "lr": 0.1}, {"val": [0.6, 0.7], "steps": [3, 3]}),
    ],
)


def test_get_finds_one_case():
    np.testing.assert_array_equal(RECORD.get("val", arm="b"), [0.6, 0.7])
    np.testing.assert_array_equal(RECORD.get("steps", arm="a", lr=np.float64(1.0)), [9, math.inf])


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("val", {"arm": "c"}, r"record 'toy' has 0 cases with {'arm': 'c'}; the first are \[{'arm': 'a', 'lr': 0.1}"),
        ("val", {"arm": "a"}, "has 2 cases with {'arm': 'a'}"),
        ("val", {"batch": 4}, "has 0 cases with {'batch': 4}"),
        ("loss", {"arm": "b"}, r"has 1 cases with .*, whose values are \['steps', 'val'\], not 'loss'"),
    ],
)
def test_get_says_what_there_is(name: str, labels: dict[str, object], message: str):
    with pytest.raises(KeyError, match=message):
        RECORD.get(name, **labels)


def test_best_picks_among_the_cases_with_these_labels():
    assert RECORD.best("val", arm="a") == {"arm": "a", "lr": 1.0}
    assert RECORD.best(lambda values: -max(values["steps"]), arm="a") == {"arm": "a", "lr": 0.1}
    assert RECORD.best("val", lr=0.1) == {"arm": "b", "lr": 0.1}
    assert RECORD.best("val") == {"arm": "a", "lr": 1.0}  # of equals the first
    with pytest.raises(KeyError, match=r"record 'toy' has no case with {'arm': 'c'}; the first is {'arm': 'a'"):
        RECORD.best("val", arm="c")


# What is refused


def test_a_record_with_other_settings_is_refused_and_the_difference_named():
    measure(TOY, jobs=1)
    with pytest.raises(StaleRecordError, match=r"was made with power = 0.5, not 0.25, seeds = 3, not 4: .*live=True"):
        measured(TOY, seeds=4, n=4, power=0.25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 3, "n": 4}, r"has the settings \['n', 'power', 'seeds'\]: missing \['power'\], unknown \[\]"),
        ({"seeds": 3, "n": 4, "power": 0.5, "lr": 1}, r"missing \[\], unknown \['lr'\]"),
        ({}, r"missing \['n', 'power', 'seeds'\]"),
    ],
)
@pytest.mark.parametrize("live", [False, True])
def test_missing_and_unknown_settings_are_a_clear_error(live: bool, settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        measured(TOY, live=live, **settings)


def test_without_a_record_the_remedy_is_named():
    with pytest.raises(StaleRecordError, match="there is no record of 'toy': " + REMEDY):
        measured(TOY, **TOY.settings)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_record_is_refused_with_the_remedy(share: float):
    path = measure(TOY, jobs=1)
    text = path.read_text().rstrip("\n")
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(StaleRecordError, match=r"toy\.json is not JSON \(.*\): " + REMEDY):
        measured(TOY, **TOY.settings)


@pytest.mark.parametrize("text", ["[]", "3", '{"id": "toy"}', '{"id": "toy", "settings": {}, "values": [], "more": 1}'])
def test_other_json_is_no_record(text: str):
    records.RESULTS.mkdir()
    (records.RESULTS / "toy.json").write_text(text)
    with pytest.raises(StaleRecordError, match=r"toy\.json is no record: " + REMEDY):
        load("toy")


@pytest.mark.parametrize(("factor", "agrees"), [(2 * (1 + 1e-8), True), (2 * (1 + 1e-5), False), (math.nan, False)])
def test_changed_code_makes_the_slice_disagree(monkeypatch: pytest.MonkeyPatch, factor: float, agrees: bool):
    measure(TOY, jobs=1)
    change_the_code(monkeypatch, factor)
    if agrees:
        measured(TOY, **TOY.settings)
        return
    with pytest.raises(StaleRecordError, match=r"the slice of 'toy' gives value = (.|\n)*" + REMEDY):
        measured(TOY, **TOY.settings)


def test_a_slice_with_other_cases_or_values_disagrees(monkeypatch: pytest.MonkeyPatch):
    measure(TOY, jobs=1)
    record = load("toy")
    assert stale(TOY, record) == ""
    assert "has other cases" in stale(replace(TOY, live={"seeds": 2, "n": 3}), record)
    assert "gives steps = " in stale(replace(TOY, live={"seeds": 1, "n": 2}), record)
    assert "gives more = " in stale(replace(TOY, run=lambda **how: run(**how) | {"more": [1.0]}), record)
    assert "gives steps = " in stale(replace(TOY, run=lambda **how: run(**how) | {"steps": [0.0, 0.0]}), record)


CELL = """\
import os
from pathlib import Path
from bnlib.lab import records
from bnlib.lab.records import Experiment, measured
os.environ.update({environment})
records.RESULTS = Path({results!r})

def cases(seeds, n, **how):
    for k in range(n):
        yield {{"k": k, "kind": "odd" if k % 2 else "even"}}, {{"k": k, "seeds": seeds, **how}}

def run(*, k, seeds, power):
    return {{"value": [{factor} * (k + seed / 7) ** power for seed in range(seeds)],
            "steps": [float("inf") if k == 1 else k] * seeds}}"""


def test_a_chapters_cell_that_quotes_a_stale_record_fails(tmp_path: Path):
    measure(TOY, jobs=1)

    def chapter(factor: float) -> nbformat.NotebookNode:
        source = CELL.format(environment={}, results=str(records.RESULTS), factor=factor)
        quote = f'toy = Experiment("toy", cases, run, {TOY.settings}, {TOY.live})\nmeasured(toy, **{TOY.settings}).id'
        return new_notebook(cells=[new_markdown_cell("# A"), new_code_cell(source), new_code_cell(quote)])

    fresh = executed(chapter(2.0), tmp_path)
    assert fresh.cells[-1].outputs[0].data["text/plain"] == "'toy'"
    with pytest.raises(
        CellFailure, match=r"cell 4 fails:(.|\n)*StaleRecordError(.|\n)*python -m bnlib.lab.experiments toy"
    ):
        executed(chapter(3.0), tmp_path)


# Where records lie, in a clone and from a wheel


def test_unfinished_cases_lie_in_a_clones_build_folder_and_never_beside_an_installed_package(tmp_path: Path):
    (tmp_path / "_toc.yml").touch()
    assert records.unfinished(tmp_path / "bnlib") == tmp_path / "_build" / "measure"
    installed = records.unfinished(tmp_path / "site-packages" / "bnlib")
    assert installed == platformdirs.user_cache_path("bnlib", appauthor=False) / "measure"


@pytest.mark.parametrize("name", ["RESULTS", "UNFINISHED"])
def test_where_nothing_can_be_written_nothing_is_run(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / "file").touch()  # whoever may write everywhere cannot make a folder below it either
    monkeypatch.setattr(records, name, tmp_path / "file" / "results")
    message = r"written into .*results, where you may not write \(.+\): install bnlib into .*venv.*live=True"
    with pytest.raises(PermissionError, match=message):
        measure(TOY, jobs=1)
    assert count(calls) == []


# Half-written files


@pytest.mark.parametrize("crash", [OSError("no space left"), KeyboardInterrupt()])
def test_a_crash_in_the_middle_of_writing_leaves_the_old_record(monkeypatch: pytest.MonkeyPatch, crash: BaseException):
    path = measure(TOY, jobs=1)
    before = path.read_bytes()

    def fail(self, target):
        raise crash

    change_the_code(monkeypatch)
    with monkeypatch.context() as during:
        during.setattr(Path, "replace", fail)
        with pytest.raises(type(crash)):
            write_atomically(path, "half of")
    assert path.read_bytes() == before
    assert [file.name for file in records.RESULTS.iterdir()] == ["toy.json"]


def test_what_a_killed_writer_leaves_behind_is_no_record(calls: Path):
    records.RESULTS.mkdir()
    records.UNFINISHED.mkdir()
    program = """
import os, sys
from pathlib import Path
from bnlib._files import write_atomically
Path.replace = lambda *_: os._exit(9)
write_atomically(Path(sys.argv[1]) / "{}.json", "half of")
"""
    names = [(records.RESULTS, "toy"), (records.UNFINISHED, "toy.0123456789abcdef")]
    for folder, name in names:
        done = subprocess.run([sys.executable, "-c", program.replace("{}", name), str(folder)], check=False)
        assert done.returncode == 9
        assert [file.suffix for file in folder.iterdir()] == [".tmp"]
    with pytest.raises(StaleRecordError, match="there is no record of 'toy'"):
        load("toy")
    measure(TOY, jobs=1)
    assert count(calls) == [0, 1, 0, 1, 2, 3]
    assert measured(TOY, **TOY.settings).get("value", k=0).shape == (3,)


# Going on

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_records
from bnlib.lab import records
records.RESULTS, records.UNFINISHED = Path(sys.argv[2]), Path(sys.argv[3])
records.measure(test_records.TOY, jobs=1)
"""


@pytest.fixture
def killed(calls: Path) -> list[int]:
    """What was run by a process that was killed in case 2, when two cases of four were done."""
    folders = [str(Path(__file__).parent), str(records.RESULTS), str(records.UNFINISHED)]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *folders], env=os.environ | {"HANG": "2"})
    for _ in range(1200):
        if calls.exists() and calls.read_text().split()[-1:] == ["2"]:
            break
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(records.RESULTS.iterdir()) == []
    assert len(list(records.UNFINISHED.glob("toy.*.json"))) == 2
    return count(calls)


def test_a_killed_run_goes_on_where_it_was_but_not_after_a_change(
    killed: list[int], calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert killed == [0, 1, 0, 1, 2]
    kept = {file.name: file.read_bytes() for file in records.UNFINISHED.iterdir()}

    path = measure(TOY, jobs=1)
    assert count(calls) == [0, 1, 2, 3]  # the slice, and what was not done
    resumed = path.read_bytes()
    assert list(records.UNFINISHED.iterdir()) == []

    for name, content in kept.items():  # again, with other settings
        (records.UNFINISHED / name).write_bytes(content)
    measure(replace(TOY, settings={**TOY.settings, "power": 2.0}), jobs=1)
    assert count(calls) == [0, 1, 0, 1, 2, 3]

    for name, content in kept.items():  # again, with other code
        (records.UNFINISHED / name).write_bytes(content)
    library = tmp_path / "library"
    library.mkdir()
    (library / "norms.py").write_text("changed")
    monkeypatch.setattr(records, "LIBRARY", library)
    assert measure(TOY, jobs=1).read_bytes() == resumed
    assert count(calls) == [0, 1, 0, 1, 2, 3]
    assert list(records.UNFINISHED.iterdir()) == []


def interrupted(*, k: int, **how) -> dict[str, list[float]]:
    if os.environ.get("INTERRUPT") == str(k):
        raise KeyboardInterrupt
    return run(k=k, **how)


def test_ctrl_c_keeps_what_is_done(calls: Path, monkeypatch: pytest.MonkeyPatch):
    toy = replace(TOY, run=interrupted)
    monkeypatch.setenv("INTERRUPT", "3")
    with pytest.raises(KeyboardInterrupt):
        measure(toy, jobs=1)
    assert count(calls) == [0, 1, 0, 1, 2]
    assert list(records.RESULTS.iterdir()) == []
    monkeypatch.delenv("INTERRUPT")
    measure(toy, jobs=1)
    assert count(calls) == [0, 1, 3]


def test_any_change_of_a_module_is_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = tmp_path / "inner" / "module.py"
    module.parent.mkdir()
    module.write_text("one")
    monkeypatch.setattr(records, "LIBRARY", tmp_path)
    before = records._library()
    assert records._library() == before
    module.write_text("two")
    assert records._library() != before
