"""What strict nbval sees, and what only the guard sees: together they leave no way to a wrong output.

The cells of the good notebook and of its broken copies stand in one notebook, so that one kernel judges them all.
"""

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_notebook

from tools.notebooks import files, guard

ROOT = Path(__file__).parents[2]
PRINT, RESULT, FIGURE, CARD = 2, 4, 5, 6
CLAIM = "application/vnd.bnlib.claim+json"
Break = Callable[[NotebookNode], object]


def change_nothing(nb):
    pass


def change_a_printed_digit(nb):
    nb.cells[PRINT].outputs[0].text = "x is 0.126\n"


def change_a_result(nb):
    nb.cells[RESULT].outputs[0].data["text/plain"] = "1.126"


def change_html(nb):
    nb.cells[CARD].outputs[0].data["text/html"] = "<p>effect 0.413</p>"


def change_a_claim(nb):
    nb.cells[CARD].outputs[0].data[CLAIM]["interval"][0] = 0.26


def remove_a_claim(nb):
    del nb.cells[CARD].outputs[0].data[CLAIM]


def change_a_figures_text(nb):
    nb.cells[FIGURE].outputs[0].data["text/plain"] = "Densities before and after;\n  skew 0.42"
    nb.cells[FIGURE].metadata.mystnb.image.alt = "Densities before and after; skew 0.42"


def raise_an_error(nb):
    nb.cells[RESULT].source = "x / 0"
    nb.metadata.bnlib.code = files.code_hash(nb)


def strip(nb):
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def run_out_of_order(nb):
    nb.cells[PRINT].execution_count, nb.cells[RESULT].execution_count = 3, 2


def change_pixels(nb):
    nb.cells[FIGURE].outputs[0].data["image/png"] = "AAAA"


def ignore_a_changed_output(nb):
    nb.cells[RESULT].metadata["tags"] = ["nbval-ignore-output"]
    nb.cells[RESULT].outputs[0].data["text/plain"] = "1.126"


SEEN_BY_NBVAL: list[Break] = [
    change_a_printed_digit,
    change_a_result,
    change_html,
    change_a_claim,
    remove_a_claim,
    change_a_figures_text,
    raise_an_error,
]
SEEN_BY_THE_GUARD_ALONE: list[Break] = [strip, run_out_of_order, ignore_a_changed_output]
SEEN_BY_NEITHER: list[Break] = [change_nothing, change_pixels]


def name(break_it: Break) -> str:
    return break_it.__name__  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def copies(executed: NotebookNode) -> dict[str, NotebookNode]:
    """The copies, each broken in its way."""
    copies = {}
    for break_it in [*SEEN_BY_NBVAL, *SEEN_BY_THE_GUARD_ALONE, *SEEN_BY_NEITHER]:
        copies[name(break_it)] = nb = copy.deepcopy(executed)
        break_it(nb)
    return copies


@pytest.fixture(scope="module")
def failed(copies: dict[str, NotebookNode], tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The copies in which nbval, called as the Makefile calls it, finds a failing cell."""
    together, owners = new_notebook(), list[str]()
    for copied, nb in copies.items():
        code = [copy.deepcopy(cell) for cell in nb.cells if cell.cell_type == "code"]
        for cell in code:
            cell.id = f"{len(owners)}"
            owners.append(copied)
        together.cells += code
    folder = tmp_path_factory.mktemp("nbval")
    files.write(together, folder / "copies.ipynb")
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^NBVAL = .* -m (pytest .*) _build/alone/chapters (.*)$", makefile, re.MULTILINE)
    assert recipe, "the Makefile's NBVAL is not of the form that this test reads"
    command = [
        sys.executable,
        "-m",
        *recipe[1].split(),
        str(folder),
        *recipe[2].split(),
        "-n0",
        "-rf",
        "-c",
        "pyproject.toml",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    return {owners[int(cell)] for cell in re.findall(r"^FAILED .*::Cell (\d+)", result.stdout, re.MULTILINE)}


@pytest.mark.parametrize("break_it", SEEN_BY_NBVAL, ids=name)
def test_nbval_fails(failed: set[str], break_it: Break):
    assert name(break_it) in failed


@pytest.mark.parametrize("break_it", SEEN_BY_THE_GUARD_ALONE, ids=name)
def test_nbval_passes_but_the_guard_fails(
    failed: set[str], copies: dict[str, NotebookNode], save: Callable[[NotebookNode], Path], break_it: Break
):
    assert name(break_it) not in failed
    assert guard.guard([save(copies[name(break_it)])])


@pytest.mark.parametrize("break_it", SEEN_BY_NEITHER, ids=name)
def test_what_is_right_or_only_pixels_passes_both(
    failed: set[str], copies: dict[str, NotebookNode], save: Callable[[NotebookNode], Path], break_it: Break
):
    assert name(break_it) not in failed
    assert guard.guard([save(copies[name(break_it)])]) == []
