"""What is wrong with what a chapter shows, each fault with its remedy.

The guard reads only the file: that its outputs are also reproducible is nbval's to say.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from nbformat import NotebookNode

from tools.notebooks.files import (
    FIRST_CELL,
    RUN,
    Fault,
    Finding,
    code_cells,
    code_hash,
    folded,
    images,
    is_normal,
    read,
)

LONGEST_CELL = 20  # lines
WIDEST_CELL = 79  # characters in a line, as wide as the page's column
FOLDED = ("hide-input", "hide-cell", "remove-cell")

# Written so that the patterns do not match themselves.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|Users)/|\b[A-Z]:\\(?=\w)")
MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
IMAGE_FILE = re.compile(r"\S+\.(?:png|jpe?g|svg|gif|webp)", re.IGNORECASE)
UNGATED_EXERCISE = re.compile(r"^\s*(?:`{3,}|~{3,}|:{3,})\s*\{(exercise|solution)\}", re.MULTILINE)
FOLD = re.compile(r"^<details\b.*?^</details>$", re.MULTILINE | re.DOTALL)
GOOD_FOLD = re.compile(
    r'<details class="bn-fold">\n<summary>[^\n<]+</summary>\n\n(?:(?!<details).)+\n\n</details>', re.DOTALL
)
NOTE_WITHOUT_TEXT = re.compile(r'<div class="bn-note" role="note">[^\n]*</div>\s*(?:\Z|#|```|<)')
# nbval obeys a comment only if it is nothing but the marker, so the reason stands in the next line.
NBVAL_COMMENT = re.compile(r"\s*#+\s*((?:NBVAL|PYTEST_VALIDATE)_(?:IGNORE_OUTPUT|SKIP))\s*")
NBVAL_TAG = re.compile(r"(?:nbval|pytest-validate)-(?:ignore-output|skip)")


def check_executed(nb: NotebookNode) -> Iterator[Finding]:
    """Every code cell has run, in order, from a fresh kernel, and the outputs are still there."""
    cells = code_cells(nb)
    if cells and not any(cell.outputs for _, cell in cells):
        yield None, f"no outputs at all (stripped, or never run): {RUN}"
    for position, (number, cell) in enumerate(cells, 1):
        if cell.execution_count is None:
            yield number, f"not executed: {RUN}"
        elif cell.execution_count != position:
            yield number, f"run as [{cell.execution_count}], but it is code cell {position}: out of order; {RUN}"


def check_fresh(nb: NotebookNode) -> Iterator[Finding]:
    """The outputs belong to the code that stands here."""
    if nb.metadata.get("bnlib", {}).get("code") != code_hash(nb):
        yield None, f"the code has changed since the last run (stale outputs): {RUN}"


def check_first_cell(nb: NotebookNode) -> Iterator[Finding]:
    """The second cell is the one that says what to install."""
    second = nb.cells[1] if len(nb.cells) > 1 else None
    if second is None or second.source != FIRST_CELL or second.metadata.get("tags") != ["remove-cell"]:
        yield 2, f"not the cell that says what to install (tools/first_cell.py): {RUN}"


def check_clean_outputs(nb: NotebookNode) -> Iterator[Finding]:
    """No output is an error or went to stderr."""
    for number, cell in code_cells(nb):
        for output in cell.outputs:
            if output.output_type == "error":
                yield number, f"error output ({output.ename}): mend it, or catch the exception and print its message"
            elif output.output_type == "stream" and output.name == "stderr":
                yield number, f"output on stderr ({folded(output.text)[:60]!r}): remove what warns"


def check_alt_text(nb: NotebookNode) -> Iterator[Finding]:
    """Every figure has the alt text that its own output gives."""
    for number, cell in code_cells(nb):
        for data in images(cell):
            text = folded(data.get("text/plain", ""))
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            if not text or text.startswith("<Figure size"):
                yield number, "a figure whose output has no text of its own: end the cell with bnlib.plots.show(...)"
            elif not alt.strip():
                yield number, f"a figure without alt text (mystnb.image.alt): {RUN}"
            elif IMAGE_FILE.fullmatch(alt.strip()):
                yield number, f"the alt text is a file name ({alt!r}): give bnlib.plots.show a sentence and {RUN}"
            elif alt != text:
                yield number, f"the alt text {alt!r} differs from the figure's text {text!r}: {RUN}"


def check_figure(nb: NotebookNode) -> Iterator[Finding]:
    """Every figure stands alone in its cell and has a caption and a name to refer to."""
    for number, cell in code_cells(nb):
        figures = images(cell)
        if len(figures) > 1:
            yield number, f"{len(figures)} figures in one cell, which has one caption and one alt text: split the cell"
        options = cell.metadata.get("mystnb", {}).get("figure", {})
        for key in ("caption", "name"):
            if figures and not str(options.get(key, "")).strip():
                yield number, f"a figure without a {key}: write it into the cell's metadata, mystnb.figure.{key}"


def check_without_widgets(nb: NotebookNode) -> Iterator[Finding]:
    """No output names a widget: its id differs in every run."""
    for number, cell in code_cells(nb):
        if any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in cell.outputs):
            yield number, f"a widget's id in the output, from a run in a notebook: {RUN}"


def strings(value: object) -> Iterator[str]:
    """Every string inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def check_portable_outputs(nb: NotebookNode) -> Iterator[Finding]:
    """No output tells where it was made."""
    for number, cell in code_cells(nb):
        for output in cell.outputs:
            data = {kind: value for kind, value in output.get("data", {}).items() if kind != "image/png"}
            for text in strings([data, output.get("text", "")]):
                for name, pattern in (("machine path", MACHINE_PATH), ("memory address", MEMORY_ADDRESS)):
                    if match := pattern.search(text):
                        found = text[match.start() : match.start() + 40].split("\n")[0]
                        yield number, f"a {name} in the output ({found!r}): print something that is true elsewhere too"


def check_cell_size(nb: NotebookNode) -> Iterator[Finding]:
    """A code cell fits on a screen, and into the page's column if it is not folded."""
    for number, cell in code_cells(nb):
        lines = cell.source.splitlines()
        if len(lines) > LONGEST_CELL:
            yield number, f"{len(lines)} lines of code; at most {LONGEST_CELL}: split the cell"
        width = max(map(len, lines), default=0)
        if width > WIDEST_CELL and not set(FOLDED) & set(cell.metadata.get("tags", [])):
            yield number, f"a line of {width} characters; the page shows {WIDEST_CELL}: break it"


def check_page(nb: NotebookNode) -> Iterator[Finding]:
    """The page has a title and a description."""
    first = nb.cells[0] if nb.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        yield None, "the first cell is not text that starts with the page's title, '# Title': add it"
    description = nb.metadata.get("myst", {}).get("html_meta", {}).get("description", "")
    if not str(description).strip():
        yield None, "no description for search engines: write notebook metadata myst.html_meta.description"


def check_exercises(nb: NotebookNode) -> Iterator[Finding]:
    """Exercises and solutions are written with gates, so that they read well outside the site."""
    for number, cell in enumerate(nb.cells, 1):
        if cell.cell_type == "markdown":
            for kind in UNGATED_EXERCISE.findall(cell.source):
                yield number, f"a plain {{{kind}}} fence: use {{{kind}-start}} and {{{kind}-end}}"


def check_notes(nb: NotebookNode) -> Iterator[Finding]:
    """A margin note stands in front of a paragraph, so that there is prose beside it."""
    for number, cell in enumerate(nb.cells, 1):
        if cell.cell_type == "markdown" and NOTE_WITHOUT_TEXT.search(cell.source):
            yield number, "a margin note (bn-note) with no text behind it: put it in front of the paragraph it is about"


def check_folds(nb: NotebookNode) -> Iterator[Finding]:
    """A fold has the one form that the site, GitHub and JupyterLab all show as a fold with Markdown in it."""
    for number, cell in enumerate(nb.cells, 1):
        if cell.cell_type == "markdown":
            folds = FOLD.findall(cell.source)
            if len(folds) != len(re.findall(r"</?details\b", cell.source)) / 2 or not all(
                GOOD_FOLD.fullmatch(fold) for fold in folds
            ):
                yield number, "a <details> that is not in the form of a fold: see CONTRIBUTING"


def check_nbval_markers(nb: NotebookNode) -> Iterator[Finding]:
    """An output is ignored only for a reason that stands beside the marker; no cell is skipped."""
    for number, cell in code_cells(nb):
        lines = [*cell.source.splitlines(), ""]
        # Each marker with the line that holds its reason: the one below a comment, the first one for a tag.
        markers = [(match[1], below) for line, below in pairwise(lines) if (match := NBVAL_COMMENT.fullmatch(line))]
        markers += [(tag, lines[0]) for tag in cell.metadata.get("tags", []) if NBVAL_TAG.fullmatch(tag)]
        for marker, reason in markers:
            if marker.lower().endswith("skip"):
                yield number, f"{marker} hides the cell from nbval: remove it"
            elif not re.match(r"\s*#\s*\w", reason) or NBVAL_COMMENT.fullmatch(reason):
                where = "the next line" if marker.isupper() else "the cell's first line"
                yield number, f"{marker} without a reason: say in a comment in {where} why the output may change"


MENDED_BY_RUN: tuple[Callable[[NotebookNode], Iterator[Finding]], ...] = (
    check_executed,
    check_fresh,
    check_first_cell,
    check_clean_outputs,
    check_alt_text,
    check_without_widgets,
)
CHECKS = (
    *MENDED_BY_RUN,
    check_figure,
    check_portable_outputs,
    check_cell_size,
    check_page,
    check_exercises,
    check_notes,
    check_folds,
    check_nbval_markers,
)


def guard(paths: Iterable[Path]) -> list[Fault]:
    """Every fault of these notebooks."""
    faults = []
    for path in paths:
        nb = read(path)
        faults += [Fault(path, number, message) for check in CHECKS for number, message in check(nb)]
        if not is_normal(path):
            faults.append(Fault(path, None, f"not in the form that a run writes (an editor's traces?): {RUN}"))
    return faults
