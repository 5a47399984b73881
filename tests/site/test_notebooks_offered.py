"""The notebooks that the site offers are plain Markdown; the student's hold no solution."""

import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from _ext.notebooks import Page, left_over, offered
from tests.site.conftest import ROOT

CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
PAGE = Page(
    roles={("numref", "fig-a"): "Fig. 6.1", ("cite", "one,two"): "One and Two", ("doc", "how to read <index>"): "H"},
    equations={"eq-a": "6.2"},
    figures={"fig-a": "Fig. 6.1"},
    exercises={"ex-a": "6.1", "ex-b": "6.2"},
)
ENDING = [
    new_markdown_cell("```{solution-end}\n```\n\n```{exercise-start} To derive\n:label: ex-b\n```\n\nDerive it.\n\n"
                      "```{exercise-end}\n```\n\n```{solution-start} ex-b\n:class: dropdown\n```\n\nLike this.\n\n"
                      "```{solution-end}\n```", id="ending"),
]  # fmt: skip


def chapter(ending: list[NotebookNode] = ENDING) -> NotebookNode:
    """A chapter with an exercise that has code on both sides of its solution's gate."""
    printed = [new_output("stream", text="printed")]
    cells = [
        new_markdown_cell("# Title\n\nSee {numref}`fig-a`.", id="title"),
        new_code_cell('x = 1\nrepository = ""  # owner/name', id="first", execution_count=1),
        new_code_cell("figure", id="figure", execution_count=2, outputs=printed, metadata={
            "tags": ["hide-input"], "mystnb": {"figure": {"name": "fig-a", "caption": "What\n{cite}`one,two` saw.\n"}},
        }),
        new_markdown_cell("## Exercises\n\n```{exercise-start} To code\n:label: ex-a\n```\n\nCode it.", id="task"),
        new_code_cell("start_here = 1", id="start", execution_count=3, outputs=printed),
        new_markdown_cell("```{exercise-end}\n```\n\n```{solution-start} ex-a\n:class: dropdown\n```\n\nSo:", id="so"),
        new_code_cell("answer = 2", id="answer", execution_count=4, outputs=printed),
        *ending,
    ]  # fmt: skip
    return new_notebook(cells=cells, metadata={"bnlib": {"code": "a digest"}})


def sources(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells]


def test_the_chapter_is_plain() -> None:
    made = offered(chapter(), PAGE, "", student=False)
    assert sources(made) == [
        "# Title\n\nSee Fig. 6.1.",
        'x = 1\nrepository = ""  # owner/name',
        "figure",
        "**Fig. 6.1.** What One and Two saw.",
        "## Exercises",
        "### Exercise 6.1 (To code)\n\nCode it.",
        "start_here = 1",
        "#### Solution",
        "So:",
        "answer = 2",
        "### Exercise 6.2 (To derive)\n\nDerive it.",
        "#### Solution",
        "Like this.",
    ]
    assert "bnlib" not in made.metadata
    nbformat.validate(made)


def test_what_the_page_folds_is_folded() -> None:
    made = offered(chapter(), PAGE, "", student=False)
    cells = made.cells
    assert cells[2].metadata["jupyter"] == {"source_hidden": True}
    folded = [cell for cell in cells if cell.metadata.get("jp-MarkdownHeadingCollapsed")]
    assert [cell.source for cell in folded] == ["#### Solution"] * 2
    names = [cell.metadata["id"] for cell in folded]
    assert names == [cell.id for cell in folded] == made.metadata["colab"]["collapsed_sections"]


def test_the_students_has_no_solution_and_no_outputs_of_exercises() -> None:
    whole, made = (offered(chapter(), PAGE, "", student=student) for student in (False, True))
    assert sources(made) == [
        *sources(whole)[:7],
        "### Exercise 6.2 (To derive)\n\nDerive it.",
    ]
    outputs = {cell.source: (cell.execution_count, len(cell.outputs)) for cell in made.cells if "outputs" in cell}
    assert outputs["start_here = 1"] == (None, 0)
    assert outputs["figure"] == (2, 1)
    nbformat.validate(made)


def test_the_chapter_itself_stays_as_it_is() -> None:
    before, after = chapter(), chapter()
    offered(after, PAGE, "owner/name", student=True)
    assert before == after


@pytest.mark.parametrize("student", [False, True])
@pytest.mark.parametrize("repository", ["owner/name", "a-fork/the.book_2"])
def test_the_repository_is_filled_in(repository: str, student: bool) -> None:
    made = offered(chapter(), PAGE, repository, student)
    assert sources(made)[1] == f'x = 1\nrepository = "{repository}@notebooks"  # owner/name'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$$\na\n$$ (eq-a)\n\nb", "$$\na\n\\tag{6.2}\n$$\n\nb"),
        ("> $$\n> a\n> $$ (eq-a)", "> $$a \\tag{6.2}$$"),
        ("> $$\n> a\n> = b >\n> $$\n>\n> > $$\n> > c\n> > $$", "> $$a = b >$$\n>\n> > $$c$$"),
        ("```{note} So\n$$\na\n\\\\ b\n$$\n```", "> **So.** $$a \\\\ b$$"),
        ('<div class="bn-note" role="note">Beside.</div>\n\nb', "> **Note.** Beside.\n\nb"),
        ("```{admonition} More\n:class: note\n\nOne.\n\nTwo.\n```\n\nb", "> **More.** One.\n>\n> Two.\n\nb"),
        ("```{tip}\nOne.\n```\n\n```{warning}\nTwo.\n```", "> **Tip.** One.\n\n> **Warning.** Two."),
        ("{doc}`How to\nread <index>`", "H"),
        ("```python\nx\n```", "```python\nx\n```"),
    ],
)
def test_markdown_that_only_the_site_reads_becomes_plain(text: str, expected: str) -> None:
    notebook = new_notebook(cells=[new_markdown_cell(text)])
    assert sources(offered(notebook, PAGE, "", student=False)) == [expected]


@pytest.mark.parametrize("text", ["{numref}`fig-b`", "{ref}`a`", "```{figure} a.png\n```"])
def test_what_stays_unreadable_is_found(text: str) -> None:
    notebook = new_notebook(cells=[new_markdown_cell(f"Text\n\n{text}")])
    assert len(left_over(offered(notebook, PAGE, "", student=False))) == 1


@pytest.mark.parametrize("ending", [new_markdown_cell("```{solution-end}\n```\n\nText"), new_code_cell("1")])
def test_a_solution_folds_nothing_else(ending: NotebookNode) -> None:
    end = [] if ending.source.startswith("```") else [new_markdown_cell("```{solution-end}\n```")]
    with pytest.raises(ValueError, match="begin that with a heading"):
        offered(chapter([*end, ending]), PAGE, "", student=False)


def read(site: Path, name: str) -> NotebookNode:
    notebook = nbformat.read(site / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapters_notebooks(site: Path, path: Path) -> None:
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    whole, students = read(site, path.stem), read(site, f"{path.stem}-student")
    assert left_over(whole) == left_over(students) == []
    solutions = sources(whole).count("#### Solution")
    assert solutions == text.count("{solution-start}") > 0
    assert sources(students).count("#### Solution") == 0
    assert sum("### Exercise" in source for source in sources(students)) == text.count("{exercise-start}")
    assert re.findall(r"\\tag\{(?!\d+\.\d+\}).*", "\n".join(sources(whole))) == []
    formulas = re.findall(r"(\$\$?)(?!\$)([^$]*)\1", "\n\n".join(sources(whole)))
    assert [formula for _, formula in formulas if "\n>" in formula] == []  # the mark would be read as "greater than"
    assert 'repository = ""' in "".join(sources(whole))  # the site is built without one
    assert not (site / "_sources/chapters" / path.name).exists()


def test_the_samples_student_notebook_runs(sample: Path) -> None:
    notebook = read(sample, "notebook-student")
    NotebookClient(notebook, timeout=60, kernel_name="python3", extra_arguments=["--log-level=ERROR"]).execute()
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [1, 2, 3, 4, 5, 6]


def git(*arguments: str, folder: Path) -> str:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_branch_holds_the_offered_notebooks_among_the_other_files(tmp_path: Path) -> None:
    clone, remote = tmp_path / "clone", tmp_path / "remote"
    for path in ("chapters/a.ipynb", "bnlib/b.py", ".github/workflows/w.yml", "_build/html/notebooks/a.ipynb"):
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(path)
    (clone / "Makefile").write_text((ROOT / "Makefile").read_text())
    (clone / ".gitignore").write_text("_build/\n")
    git("init", "-q", "--bare", str(remote), folder=tmp_path)
    git("init", "-q", "-b", "main", folder=clone)
    git("add", ".", folder=clone)
    git("commit", "-qm", "One", folder=clone)
    git("remote", "add", "origin", str(remote), folder=clone)
    for _ in range(2):  # the second push replaces the first
        subprocess.run(["make", "-s", "notebooks-branch"], cwd=clone, check=True, capture_output=True)
    assert git("rev-list", "--count", "notebooks", folder=remote) == "1\n"
    files = git("ls-tree", "-r", "--name-only", "notebooks", folder=remote).split()
    assert files == [".gitignore", "Makefile", "bnlib/b.py", "chapters/a.ipynb"]
    assert git("show", "notebooks:chapters/a.ipynb", folder=remote) == "_build/html/notebooks/a.ipynb"
    assert git("status", "--short", folder=clone) == ""
