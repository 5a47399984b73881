"""Each fault that the guard knows is put into a good notebook once; the good one has none."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output

from tests.notebooks.conftest import NOTE
from tools.notebooks import files, guard
from tools.notebooks.__main__ import main

TEXT, FIRST, PRINT, EXERCISE, RESULT, FIGURE, CARD, ASIDES = range(8)
Save = Callable[[NotebookNode], Path]


def test_a_good_notebook_is_clean(good: NotebookNode, save: Save):
    assert guard.guard([save(good)]) == []


def strip(nb):
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def remove_outputs_only(nb):
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = []


def forget_one_cell(nb):
    nb.cells[RESULT].outputs, nb.cells[RESULT].execution_count = [], None


def run_out_of_order(nb):
    nb.cells[PRINT].execution_count, nb.cells[RESULT].execution_count = 3, 2


def run_twice(nb):
    nb.cells[CARD].execution_count = 9


def output_error(nb):
    nb.cells[RESULT].outputs = [new_output("error", ename="ZeroDivisionError", evalue="by zero", traceback=[])]


def output_stderr(nb):
    nb.cells[RESULT].outputs = [new_output("stream", name="stderr", text="RuntimeWarning: overflow")]


def change_code(nb):
    nb.cells[RESULT].source = "x + 2"


def change_first_cell(nb):
    nb.cells[FIRST].source += "\nprint()"


def show_first_cell(nb):
    nb.cells[FIRST].metadata["tags"] = []


def move_first_cell(nb):
    nb.cells.insert(PRINT, nb.cells.pop(FIRST))


def forget_hash(nb):
    del nb.metadata["bnlib"]


def keep_widget(nb):
    nb.cells[FIGURE].outputs[0].data["application/vnd.jupyter.widget-view+json"] = {"model_id": "0a1b"}


def remove_alt(nb):
    del nb.cells[FIGURE].metadata.mystnb["image"]


def empty_alt(nb):
    nb.cells[FIGURE].metadata.mystnb.image.alt = " "


def alt_is_a_file(nb):
    nb.cells[FIGURE].metadata.mystnb.image.alt = "_images/a.png"


def text_and_alt_are_a_file(nb):
    nb.cells[FIGURE].metadata.mystnb.image.alt = "_images/a.png"
    nb.cells[FIGURE].outputs[0].data["text/plain"] = "_images/a.png"


def alt_differs(nb):
    nb.cells[FIGURE].metadata.mystnb.image.alt = "Densities before and after; skew 0.42"


def default_figure_text(nb):
    nb.cells[FIGURE].metadata.mystnb.image.alt = "<Figure size 640x480 with 1 Axes>"
    nb.cells[FIGURE].outputs[0].data["text/plain"] = "<Figure size 640x480 with 1 Axes>"


def figure_without_text(nb):
    del nb.cells[FIGURE].outputs[0].data["text/plain"]


def remove_caption(nb):
    del nb.cells[FIGURE].metadata.mystnb.figure["caption"]


def remove_figure_name(nb):
    nb.cells[FIGURE].metadata.mystnb.figure.name = ""


def remove_figure_metadata(nb):
    del nb.cells[FIGURE].metadata.mystnb["figure"]


def two_figures(nb):
    nb.cells[FIGURE].outputs *= 2


def widen(nb):
    nb.cells[RESULT].source += "\n#" + 79 * "-"


def lengthen(nb):
    nb.cells[RESULT].source = "\n".join(f"line_{n} = {n}" for n in range(21))


def remove_title(nb):
    nb.cells[TEXT].source = "## A section\n\n# A later title"


def code_first(nb):
    nb.cells.insert(0, nb.cells.pop(PRINT))


def remove_description(nb):
    del nb.metadata["myst"]


def empty_description(nb):
    nb.metadata.myst.html_meta.description = ""


def plain_exercise(nb):
    nb.cells[EXERCISE].source = "```{exercise} Why?\n:label: ex-a\n```"


def plain_solution(nb):
    nb.cells[EXERCISE].source = "Text.\n\n:::{solution} ex-a\nSo.\n:::"


def note_at_the_end(nb):
    nb.cells[TEXT].source += f"\n\n{NOTE}"


def note_before_a_fold(nb):
    nb.cells[ASIDES].source = nb.cells[ASIDES].source.replace("Text.\n\n", "", 1)


def unclosed_fold(nb):
    nb.cells[ASIDES].source = nb.cells[ASIDES].source.removesuffix("\n\n</details>")


def nested_fold(nb):
    nb.cells[ASIDES].source = nb.cells[ASIDES].source.replace("So,", "<details>\n\nSo,\n\n</details>", 1)


def fold_without_blank_line(nb):
    nb.cells[ASIDES].source = nb.cells[ASIDES].source.replace("</summary>\n\n", "</summary>\n", 1)


def fold_without_class(nb):
    nb.cells[ASIDES].source = nb.cells[ASIDES].source.replace(' class="bn-fold"', "", 1)


def ignore_by_comment(nb):
    nb.cells[RESULT].source = "# NBVAL_IGNORE_OUTPUT\nx + 1"


def ignore_by_tag(nb):
    nb.cells[RESULT].metadata["tags"] = ["nbval-ignore-output"]


def skip_by_comment(nb):
    nb.cells[RESULT].source = "# NBVAL_SKIP\n# it takes long\nx + 1"


def skip_by_tag(nb):
    nb.cells[RESULT].metadata["tags"] = ["nbval-skip"]


def leave_editor_metadata(nb):
    nb.cells[RESULT].metadata["collapsed"] = True


def leave_language_version(nb):
    nb.metadata.language_info["version"] = "3.11.7"


@pytest.mark.parametrize(
    ("break_it", "cell", "message"),
    [
        (strip, None, "no outputs at all"),
        (strip, PRINT, "not executed"),
        (remove_outputs_only, None, "no outputs at all"),
        (forget_one_cell, RESULT, "not executed"),
        (run_out_of_order, PRINT, r"run as \[3\], but it is code cell 2"),
        (run_twice, CARD, r"run as \[9\], but it is code cell 5"),
        (output_error, RESULT, r"error output \(ZeroDivisionError\)"),
        (output_stderr, RESULT, "stderr .*RuntimeWarning"),
        (change_code, None, "stale"),
        (change_first_cell, FIRST, "what to install"),
        (show_first_cell, FIRST, "what to install"),
        (move_first_cell, FIRST, "what to install"),
        (forget_hash, None, "stale"),
        (remove_alt, FIGURE, "without alt text"),
        (empty_alt, FIGURE, "without alt text"),
        (alt_is_a_file, FIGURE, "alt text is a file name"),
        (text_and_alt_are_a_file, FIGURE, "alt text is a file name"),
        (alt_differs, FIGURE, "skew 0.42' differs from .*skew 0.41'"),
        (default_figure_text, FIGURE, "no text of its own"),
        (figure_without_text, FIGURE, "no text of its own"),
        (keep_widget, FIGURE, "a widget's id"),
        (remove_caption, FIGURE, "without a caption"),
        (remove_figure_name, FIGURE, "without a name"),
        (remove_figure_metadata, FIGURE, "without a caption"),
        (two_figures, FIGURE, "2 figures in one cell"),
        (widen, RESULT, "a line of 80 characters"),
        (lengthen, RESULT, "21 lines of code"),
        (remove_title, None, "title"),
        (code_first, None, "title"),
        (remove_description, None, "no description"),
        (empty_description, None, "no description"),
        (plain_exercise, EXERCISE, "plain {exercise} fence"),
        (plain_solution, EXERCISE, "plain {solution} fence"),
        (note_at_the_end, TEXT, "a margin note"),
        (note_before_a_fold, ASIDES, "a margin note"),
        (unclosed_fold, ASIDES, "not in the form of a fold"),
        (nested_fold, ASIDES, "not in the form of a fold"),
        (fold_without_blank_line, ASIDES, "not in the form of a fold"),
        (fold_without_class, ASIDES, "not in the form of a fold"),
        (ignore_by_comment, RESULT, "NBVAL_IGNORE_OUTPUT without a reason"),
        (ignore_by_tag, RESULT, "nbval-ignore-output without a reason"),
        (skip_by_comment, RESULT, "NBVAL_SKIP hides the cell"),
        (skip_by_tag, RESULT, "nbval-skip hides the cell"),
        (leave_editor_metadata, None, "editor's traces"),
        (leave_language_version, None, "editor's traces"),
    ],
)
def test_a_fault_is_reported(good: NotebookNode, save: Save, break_it, cell: int | None, message: str):
    break_it(good)
    faults = guard.guard([save(good)])
    number = None if cell is None else cell + 1
    assert [fault for fault in faults if fault.cell == number and re.search(message, fault.message)], faults


@pytest.mark.parametrize("place", ["stream", "text/html", "application/vnd.bnlib.claim+json"])
@pytest.mark.parametrize(
    ("made_here", "name"),
    [
        # The folders are put in here so that no path of a machine stands in this file.
        *[(f"File /{folder}/reader/x.py, line 3", "machine path") for folder in ("home", "root", "tmp", "Users")],
        ("C:" + r"\Users\reader", "machine path"),
        ("<function <lambda> at 0x7f3a2c1b9d00>", "memory address"),
    ],
)
def test_traces_of_a_machine_are_reported(good: NotebookNode, save: Save, place: str, made_here: str, name: str):
    if place == "stream":
        good.cells[PRINT].outputs[0].text = made_here
    else:
        good.cells[CARD].outputs[0].data[place] = {"deep": [made_here]} if place.endswith("json") else made_here
    (fault,) = guard.guard([save(good)])
    assert fault.cell == (PRINT if place == "stream" else CARD) + 1
    assert name in fault.message


def test_what_only_resembles_a_trace_is_left_alone(good: NotebookNode, save: Save):
    good.cells[PRINT].outputs[0].text = "0x1F, results/home/a, 3/tmp/4, ratio C:D, https://example.org/home/page"
    assert guard.guard([save(good)]) == []


@pytest.mark.parametrize(
    ("source", "tags"),
    [("# NBVAL_IGNORE_OUTPUT\n# the order of threads\nx + 1", []), ("# the order\nx + 1", ["nbval-ignore-output"])],
)
def test_an_ignored_output_with_a_reason_is_allowed(good: NotebookNode, save: Save, source: str, tags: list[str]):
    good.cells[RESULT].source = source
    good.cells[RESULT].metadata["tags"] = tags
    good.metadata.bnlib.code = files.code_hash(good)
    assert guard.guard([save(good)]) == []


def test_empty_code_cells_do_not_count(good: NotebookNode, save: Save):
    good.cells.insert(RESULT, new_code_cell("", id="empty"))
    assert guard.guard([save(good)]) == []


def test_the_command_names_file_and_cell_and_fails(good: NotebookNode, save: Save, capsys: pytest.CaptureFixture[str]):
    path = str(save(good))
    assert main(["guard", path]) == 0
    run_out_of_order(good)
    save(good)
    assert main(["guard", path]) == 1
    assert f"chapter.ipynb: cell {PRINT + 1}: run as [3]" in capsys.readouterr().err


def test_a_missing_file_is_an_error(tmp_path: Path):
    with pytest.raises(SystemExit):
        main(["guard", str(tmp_path / "absent.ipynb")])


@pytest.mark.parametrize("command", ["guard", "run", "verdicts", "compare"])
def test_where_there_are_no_chapters_nothing_passes(tmp_path: Path, monkeypatch, capsys, command: str):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([command])
    assert "there are no chapters (chapters/*.ipynb), and a check of nothing would pass" in capsys.readouterr().err
