"""A small good notebook, executed once, for tests that break copies of it."""

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.notebooks import files, run

FIGURE = """\
import base64

class Figure:
    def _repr_mimebundle_(self, include=None, exclude=None):
        pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        return {"image/png": base64.b64decode(pixel), "text/plain": "Densities before and after;\\n  skew 0.41"}

Figure()"""

CARD = """\
class Card:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {
            "text/plain": "holds",
            "text/html": "<p>effect 0.412</p>",
            "application/vnd.bnlib.claim+json": {"effect": 0.273, "interval": [0.25, 0.29]},
        }

Card()"""


NOTE = '<div class="bn-note" role="note">A remark.</div>'
FOLD = """\
<details class="bn-fold">
<summary>The answer</summary>

So, and *therefore*.

</details>"""


def good_source() -> NotebookNode:
    nb = new_notebook(
        cells=[
            new_markdown_cell("# A title\n\nOne question."),
            new_code_cell("x = 0.125\nprint('x is', x)"),
            new_markdown_cell("```{exercise-start}\n:label: ex-a\n```\nWhy?\n```{exercise-end}\n```"),
            new_code_cell("x + 1"),
            new_code_cell(
                FIGURE,
                metadata={"tags": ["hide-input"], "mystnb": {"figure": {"caption": "A pixel.", "name": "fig-pixel"}}},
            ),
            new_code_cell(CARD, metadata={"tags": ["hide-input"]}),
            new_markdown_cell(f"{NOTE}\n\nText.\n\n{FOLD}\n\nMore text.\n\n{FOLD}"),
        ],
        metadata={"myst": {"html_meta": {"description": "A page made for tests."}}},
    )
    for number, cell in enumerate(nb.cells):
        cell.id = f"cell-{number}"
    return nb


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    return run.executed(good_source(), tmp_path_factory.mktemp("run"))


@pytest.fixture
def good(executed: NotebookNode) -> NotebookNode:
    """A copy that a test may break."""
    return copy.deepcopy(executed)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[NotebookNode], Path]:
    def save_notebook(nb: NotebookNode) -> Path:
        nbformat.validate(nb)
        path = tmp_path / "chapter.ipynb"
        files.write(nb, path)
        return path

    return save_notebook


@pytest.fixture
def commit(
    save: Callable[[NotebookNode], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[NotebookNode], Path]:
    """Make a repository whose only commit holds this chapter."""

    def commit_notebook(nb: NotebookNode) -> Path:
        path = save(nb)
        settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        for command in (["init", "-q"], ["add", path.name], [*settings, "commit", "-q", "-m", "A chapter"]):
            subprocess.run(["git", *command], cwd=tmp_path, check=True)
        monkeypatch.setattr(files, "ROOT", tmp_path)
        return path

    return commit_notebook
