"""All that the chapters say can be compared with a commit; of a picture only whether it is there."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from bnlib.claims import MIME_TYPE
from tests.notebooks.test_nbval import change_a_claim, change_a_result, change_html
from tools.notebooks import compare
from tools.notebooks.__main__ import main

TITLE, PRINT, RESULT, FIGURE, CARD = 0, 2, 4, 5, 6
Save = Callable[[NotebookNode], Path]


@pytest.fixture
def chapter(good: NotebookNode, commit: Save) -> Path:
    return commit(good)


def test_a_chapter_that_says_the_same_passes(chapter: Path, capsys):
    assert main(["compare", str(chapter)]) == 0
    assert tuple(capsys.readouterr()) == ("1 notebooks, 0 differences\n", "")


def test_a_chapter_that_says_something_else_fails(chapter: Path, good: NotebookNode, save: Save, capsys):
    change_a_result(good)
    save(good)
    assert main(["compare", str(chapter), "--against", "HEAD"]) == 1
    message = "chapter.ipynb: cell 5: outputs.0.data.text/plain: '1.125', now '1.126'\n"
    assert tuple(capsys.readouterr()) == ("1 notebooks, 1 differences\n", message)


def test_pixels_may_differ(executed: NotebookNode, good: NotebookNode):
    good.cells[FIGURE].outputs[0].data["image/png"] = "AAAA"
    assert list(compare.differences(executed, good)) == []


def change_a_digit(nb):
    nb.cells[PRINT].outputs[0].text = "first\nx is 0.126\n"


def change_a_summary(nb):
    nb.cells[FIGURE].outputs[0].data["text/plain"] += "; kurtosis 3"


def change_an_alt_text(nb):
    nb.cells[FIGURE].metadata.mystnb.image.alt = "Other densities."


def remove_a_picture(nb):
    del nb.cells[FIGURE].outputs[0].data["image/png"]


def add_a_picture(nb):
    nb.cells[RESULT].outputs[0].data["image/png"] = "AAAA"


def change_the_text(nb):
    nb.cells[TITLE].source = "# A title\n\nTwo questions."


def change_the_order_of_runs(nb):
    nb.cells[PRINT].execution_count = 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_a_digit, "cell 3: outputs.0.text: 'x is 0.125\\n', now 'first\\n'"),
        (change_a_result, "cell 5: outputs.0.data.text/plain: '1.125', now '1.126'"),
        (change_html, "cell 7: outputs.0.data.text/html: '<p>effect 0.412</p>', now '<p>effect 0.413</p>'"),
        (change_a_claim, f"cell 7: outputs.0.data.{MIME_TYPE}.interval.0: 0.25, now 0.26"),
        (
            change_a_summary,  # the end of the line, in which the two differ
            "cell 6: outputs.0.data.text/plain: '  skew 0.41', now '  skew 0.41; kurtosis 3'",
        ),
        (
            change_an_alt_text,
            "cell 6: metadata.mystnb.image.alt: 'Densities before and after; skew 0.41', now 'Other densities.'",
        ),
        (remove_a_picture, "cell 6: outputs.0.data.image/png: gone"),
        (add_a_picture, "cell 5: outputs.0.data.image/png: new"),
        (change_the_text, "cell 1: source: 'One question.', now 'Two questions.'"),
        (change_the_order_of_runs, "cell 3: execution_count: 2, now 7"),
    ],
)
def test_a_difference_is_named_with_its_place(
    executed: NotebookNode, good: NotebookNode, change: Callable[[NotebookNode], None], message: str
):
    change(good)
    ((cell, found),) = compare.differences(executed, good)
    assert f"cell {cell}: {found}" == message


def test_an_output_that_is_gone_is_a_difference(executed: NotebookNode, good: NotebookNode):
    good.cells[PRINT].outputs = []
    assert list(compare.differences(executed, good)) == [(3, "outputs: 1, now 0")]


def test_the_notebooks_own_metadata_count(executed: NotebookNode, good: NotebookNode):
    good.metadata.bnlib.code = "0"
    ((cell, message),) = compare.differences(executed, good)
    assert (cell, message.partition(":")[0]) == (None, "bnlib.code")


@pytest.mark.parametrize(
    ("then", "now", "shown"),
    [
        ("0.41", "0.42", "long 0.41', now '"),
        ("0.4", "0.41", "long 0.4', now '"),
        ("0.41\n", "0.41", "long 0.41\\n', now '"),
        ("0.41" + " tail" * 100, "0.42" + " tail" * 100, "long 0.41 tail"),
    ],
)
def test_a_long_line_is_shown_where_it_parts(then: str, now: str, shown: str):
    message = compare.first_difference(f"same\n{'long ' * 100}{then}", f"same\n{'long ' * 100}{now}")
    assert shown in message
    assert len(message) < 250


@pytest.mark.parametrize("change", ["remove", "add", "swap"])
def test_other_cells_are_a_difference(executed: NotebookNode, good: NotebookNode, change: str):
    if change == "remove":
        del good.cells[-1]
    elif change == "add":
        good.cells.append(new_markdown_cell("More."))
    else:
        good.cells[0], good.cells[1] = good.cells[1], good.cells[0]
    found = [(None, f"other cells, or in another order: 8, now {len(good.cells)}")]
    assert list(compare.differences(executed, good)) == found


def test_a_chapter_that_the_commit_does_not_have_fails(chapter: Path, tmp_path: Path):
    new = tmp_path / "new.ipynb"
    new.write_bytes(chapter.read_bytes())
    assert [str(fault) for fault in compare.compare([new, chapter], "HEAD")] == ["new.ipynb: not in HEAD"]


def test_a_commit_that_is_not_there_is_an_error(chapter: Path):
    with pytest.raises(subprocess.CalledProcessError):
        main(["compare", str(chapter), "--against", "nowhere"])
