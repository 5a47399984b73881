"""All exercises in one table, from the chapters' own gates and ``chapters/exercise_times.toml``.

    ```{exercise-list}
    ```

shows each with its kind, difficulty and minutes, and what this browser's reader has solved.
"""

import html
import json
import re
import tomllib
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from _ext.editors import CHECK, TRY
from _ext.notebooks import GATE, LABEL

LEVELS = {1: "easy", 2: "medium", 3: "hard"}
TIMES = Path("chapters/exercise_times.toml")


class Listed(NamedTuple):
    """An exercise: where it stands, what it is about, and what it takes."""

    page: str
    chapter: str
    number: str
    label: str
    title: str
    checks: list[str]
    tried: bool  # on the page, without a check
    level: int
    minutes: int

    @property
    def kind(self) -> str:
        """What it is done with: code that is checked, figures to match, or paper, and maybe code beside it."""
        if self.checks:
            return "code"
        if self.tried:
            return "paper, code"
        return "figures" if self.title.startswith("Which ") else "paper"


def is_exercise(gate: re.Match[str]) -> bool:
    """Whether an exercise begins at a gate."""
    return gate["kind"] == "exercise" and gate["end"] == "start"


def listed(folder: Path) -> Iterator[Listed]:
    """The exercises of the notebooks in a folder, in their order.

    Raises
    ------
    LookupError
        If exercise_times.toml lacks one, or has one that is not there.
    """
    times = tomllib.loads((folder / TIMES.name).read_text("utf-8"))
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        chapter = re.search(r"^# (.*)", text, re.MULTILINE)
        title = chapter[1] if chapter else path.stem
        gates = [(start, end) for start, end in pairwise(GATE.finditer(text)) if is_exercise(start)]
        for count, (start, end) in enumerate(gates, 1):
            label = LABEL.findall(start["options"])[0]
            if label not in times:
                raise LookupError(f"{TIMES} lacks {label}: add its difficulty and minutes")
            checks = [name for name, _ in CHECK.findall(text[start.end() : end.start()])]
            tried = TRY in start["options"]
            number = f"{int(path.stem[:2])}.{count}"
            yield Listed(path.stem, title, number, label, start["title"], checks, tried, *times.pop(label))
    if times:
        raise LookupError(f"{TIMES} has {', '.join(times)}, which no chapter has: take it out")


def row(one: Listed) -> str:
    """An exercise as a row of the table."""
    mark = f' <span data-solves="{one.label}"></span>' if one.checks else ""
    link = f'<a href="{one.page}.html#{one.label}">{one.number} {html.escape(one.title)}</a>{mark}'
    cells = [link, one.kind, f"{LEVELS[one.level]}, {one.minutes}\N{NO-BREAK SPACE}min"]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def table(exercises: list[Listed], editors: bool) -> str:
    """The table, the chapters as headings of its parts; of editors it speaks only where there are some."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("exercise", "with", "takes"))
    body = ""
    for page, ones in groupby(exercises, lambda one: (one.page, one.chapter)):
        head = f'<th colspan="3" scope="rowgroup"><a href="{page[0]}.html">{html.escape(page[1])}</a></th>'
        body += f"<tbody><tr>{head}</tr>{''.join(map(row, ones))}</tbody>"
    coded = sum(bool(one.checks) for one in exercises)
    where = "these run on their pages, and the mistake is named" if editors else "the notebooks check these"
    told = (
        f"{len(exercises)} exercises, {coded} of them to code: {where}. "
        "In the others figures are matched with settings, without a run, or something is derived on paper. "
        "All have solutions."
    )
    export = '<p><button type="button" class="bn-export noprint" hidden>Save what I have solved (JSON)</button></p>'
    return (
        f"<p>{told}</p>{export * editors}"
        f'<div class="pst-scrollable-table-container"><table class="table bn-exercises"><thead><tr>{heads}</tr></thead>'
        f"{body}</table></div>"
    )


class ExerciseList(Directive):
    """The table."""

    def run(self) -> list[nodes.Node]:
        """Read the chapters beside this page, which is built again when one changes."""
        env = self.state.document.settings.env
        folder = Path(env.srcdir) / TIMES.parent
        for path in (*folder.glob("[0-9][0-9]_*.ipynb"), folder / TIMES.name):
            env.note_dependency(str(path))
        try:
            return [nodes.raw("", table(list(listed(folder)), "editors" in env.app.tags), format="html")]
        except LookupError as error:
            raise self.error(str(error)) from error


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("exercise-list", ExerciseList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
