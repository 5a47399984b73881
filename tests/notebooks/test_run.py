"""`run` writes the same bytes twice, describes figures, and leaves the file alone when a cell fails."""

import base64
import copy
import io
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from nbformat import NotebookNode
from PIL import Image

from tools.notebooks import files, guard, run
from tools.notebooks.__main__ import main

ROOT = Path(__file__).parents[2]
FIRST, PRINT, FIGURE = 1, 2, 5
Save = Callable[[NotebookNode], Path]


def make_newer(path: Path, than: Path) -> None:
    time = than.stat().st_mtime + 10
    os.utime(path, (time, time))


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one old module in place of bnlib."""
    module = tmp_path / "library" / "inner" / "module.py"
    module.parent.mkdir(parents=True)
    module.touch()
    os.utime(module, (0, 0))
    monkeypatch.setattr(run, "LIBRARY", tmp_path / "library")
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    return module


def test_a_second_run_writes_the_same_bytes(good: NotebookNode, save: Save, library: Path):
    path = save(good)
    before = path.read_bytes()
    assert run.run([path], everything=True)
    assert path.read_bytes() == before
    assert before.endswith(b"}\n")
    ids = " ".join(cell.id for cell in files.read(path).cells)
    assert ids == "cell-0 install cell-1 cell-2 cell-3 cell-4 cell-5 cell-6"
    assert list(path.parent.glob(".chapter*")) == []


def test_only_what_changed_is_executed(good: NotebookNode, save: Save, library: Path, capsys):
    path = save(good)
    run.run([path])
    assert "unchanged" in capsys.readouterr().out
    good.cells[PRINT].source = "x = 0.5\nprint('x is', x)"
    run.run([save(good)])
    assert "executed in" in capsys.readouterr().out
    assert files.read(path).cells[PRINT].outputs[0].text == "x is 0.5\n"
    assert guard.guard([path]) == []


def test_a_newer_package_makes_a_chapter_outdated(good: NotebookNode, save: Save, library: Path):
    path = save(good)
    assert not run.is_outdated(path)
    make_newer(library, than=path)
    assert run.is_outdated(path)


def test_a_newer_record_makes_a_chapter_outdated(good: NotebookNode, save: Save, library: Path):
    path, record = save(good), run.RESULTS / "toy.json"
    run.RESULTS.mkdir()
    record.touch()
    os.utime(record, (0, 0))
    assert not run.is_outdated(path)
    make_newer(record, than=path)
    assert run.is_outdated(path)


def strip(nb):
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def remove_alt(nb):
    del nb.cells[FIGURE].metadata.mystnb["image"]


def leave_editor_metadata(nb):
    nb.cells[FIGURE].metadata["collapsed"] = True


def remove_first_cell(nb):
    del nb.cells[FIRST]


@pytest.mark.parametrize("break_it", [strip, remove_alt, leave_editor_metadata, remove_first_cell])
def test_run_mends_what_the_guard_says_it_mends(good: NotebookNode, save: Save, library: Path, break_it):
    path = save(good)
    before = path.read_bytes()
    break_it(good)
    save(good)
    assert guard.guard([path])
    assert run.run([path])
    assert path.read_bytes() == before


def repaint(nb, pixels: int, level: int, size: int = 20) -> None:
    """Make the picture black but for some pixels at the top."""
    picture = np.zeros((size, size), dtype=np.uint8)
    picture.flat[:pixels] = level
    memory = io.BytesIO()
    Image.fromarray(picture).save(memory, format="png")
    nb.cells[FIGURE].outputs[0].data["image/png"] = base64.b64encode(memory.getvalue()).decode()


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda nb: repaint(nb, 100, 64), True),
        (lambda nb: repaint(nb, 101, 64), False),
        (lambda nb: repaint(nb, 1, 65), False),
        (lambda nb: repaint(nb, 0, 0, size=21), False),
        (lambda nb: (repaint(nb, 1, 1), nb.cells[FIGURE].outputs[0].data.update({"text/plain": "Other"})), False),
        (lambda nb: (repaint(nb, 1, 1), nb.cells[PRINT].update(source="x = 1")), False),
    ],
    ids=["like another processor's", "many pixels", "another colour", "another size", "another text", "other code"],
)
def test_a_picture_that_another_processor_would_draw_so_is_kept(good: NotebookNode, change, kept: bool):
    repaint(good, 0, 0)
    then, drawn = copy.deepcopy(good), copy.deepcopy(good)
    change(drawn)
    now = copy.deepcopy(drawn)
    run.keep_pictures(then, now)
    assert now == (then if kept else drawn)
    assert kept or now != then


def test_a_run_keeps_such_a_picture(good: NotebookNode, save: Save, library: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "look_alike", lambda one, other: True)
    good.cells[FIGURE].outputs[0].data["image/png"] = "AAAA"
    path = save(good)
    before = path.read_bytes()
    assert run.run([path], everything=True)
    assert path.read_bytes() == before


def test_the_alt_text_is_the_figures_text_on_one_line(executed: NotebookNode):
    options = executed.cells[FIGURE].metadata.mystnb
    assert options.image.alt == "Densities before and after; skew 0.41"
    assert options.figure == {"caption": "A pixel.", "name": "fig-pixel"}


@pytest.mark.parametrize("failure", ["1 / 0", "import os; os._exit(3)"], ids=["raises", "kills the kernel"])
def test_a_failing_cell_leaves_the_file_as_it_was(good: NotebookNode, save: Save, library: Path, capsys, failure: str):
    good.cells[PRINT].source = failure
    path = save(good)
    before = path.read_bytes()
    assert main(["run", str(path)]) == 1
    assert path.read_bytes() == before
    message = capsys.readouterr().err
    assert f"chapter.ipynb: cell {PRINT + 1} fails:\n{failure}" in message


def test_the_kernel_gets_the_fixed_environment_whatever_the_shell_says(
    good: NotebookNode, save: Save, library: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in run.ENVIRONMENT:
        monkeypatch.setenv(name, "7")
    good.cells[PRINT].source = f"import os; x = 1; print(*[os.environ[name] for name in {[*run.ENVIRONMENT]}])"
    path = save(good)
    assert run.run([path])
    assert files.read(path).cells[PRINT].outputs[0].text == "1 1 1 0 1\n"


def test_the_makefile_exports_the_same_environment():
    lines = [line.split() for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("export ")]
    exports = {line[1]: line[3] for line in lines}
    assert run.ENVIRONMENT.items() - {("TQDM_DISABLE", "1")} <= exports.items()


def test_the_makefile_silences_progress_bars_where_notebooks_are_compared_and_nowhere_else():
    lines = (ROOT / "Makefile").read_text().splitlines()
    silent = [line for line in lines if "TQDM_DISABLE" in line]
    assert silent == [line for line in lines if line.startswith("\t") and "$(NBVAL)" in line]
    assert all(line.startswith("\tTQDM_DISABLE=1 ") for line in silent)
    assert len(silent) == 3
    # What is compared are copies, which must be new.
    assert {before for before, line in pairwise(lines) if line in silent} == {"\t$(BIN)/python -m tools.alone"}
