"""Execute the chapters in one fixed environment, and find what is wrong with what they show.

`run` executes changed chapters in place; `guard` reports every fault with its remedy and exits with 1 if there is one.
The guard reads only the file: that its outputs are also reproducible is nbval's to say. `verdicts` prints what became
of every claim, and compares it with another commit; `compare` compares all that the chapters say.
"""

from __future__ import annotations

import argparse
import base64
import copy
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from PIL import Image

from bnlib._files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
LIBRARY = ROOT / "bnlib"
RESULTS = LIBRARY / "results"

# Threads and the hash seed change the last digits and the order of sets. The Makefile exports the same values, but for
# the progress bars: they are for whoever waits, and a page must not show them.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "TQDM_DISABLE": "1",
}
CELL_TIMEOUT = 600  # seconds; far above what a chapter may take, so that only a hanging cell meets it
SLOW_CHAPTER = 20  # seconds
LONGEST_CELL = 20  # lines
WIDEST_CELL = 79  # characters in a line, as wide as the page's column
FOLDED = ("hide-input", "hide-cell", "remove-cell")
PICTURES = ("image/png", "image/jpeg")  # nbval leaves these out, too: a pixel differs between processors
ALIKE_PIXELS, ALIKE_LEVELS = 100, 64  # a contour differed in 15 pixels by 35 of 255 levels; a figure has 400,000
FIRST_CELL = (Path(__file__).parent / "first_cell.py").read_text("utf-8").rstrip("\n")  # of every chapter's code

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
NOTEBOOK_METADATA = ("myst", "mystnb", "bnlib")
CELL_METADATA = ("tags", "mystnb")

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

RUN = "run `make notebooks`"


class Fault(NamedTuple):
    """What is wrong, where (`cell` counts all cells from 1; None is the whole notebook), and the remedy."""

    path: Path
    cell: int | None
    message: str

    def __str__(self) -> str:
        """One line for the terminal."""
        place = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{place}: {self.message}" if self.cell is None else f"{place}: cell {self.cell}: {self.message}"


class CellFailure(Exception):
    """A cell raised, hung, or took the kernel with it."""


# --- reading and writing -----------------------------------------------------------------------------------------


def read(path: Path) -> NotebookNode:
    """Read a notebook in nbformat 4."""
    return nbformat.read(path, as_version=4)


def serialize(nb: NotebookNode) -> str:
    """The one text of a notebook: keys sorted, indent 1, newline at the end."""
    return nbformat.writes(nb).rstrip("\n") + "\n"


def write(nb: NotebookNode, path: Path) -> None:
    """Write a notebook in its one form."""
    write_atomically(path, serialize(nb))


def code_cells(nb: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """The cells that run, each with its number."""
    return [(n, cell) for n, cell in enumerate(nb.cells, 1) if cell.cell_type == "code" and cell.source.strip()]


def code_hash(nb: NotebookNode) -> str:
    """A digest of what is run: the sources of the code cells in their order."""
    sources = json.dumps([cell.source for _, cell in code_cells(nb)])
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


def folded(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())


def images(cell: NotebookNode) -> list[NotebookNode]:
    """The data of those outputs of a cell that show a PNG."""
    return [output.data for output in cell.outputs if "image/png" in output.get("data", {})]


# --- run ---------------------------------------------------------------------------------------------------------


def normalize(nb: NotebookNode) -> None:
    """Drop what differs between two runs, machines or editors; keep what authors write. In place."""
    authored = {key: nb.metadata[key] for key in NOTEBOOK_METADATA if key in nb.metadata}
    nb.metadata = nbformat.from_dict({**authored, "kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata})


def describe_figures(nb: NotebookNode) -> None:
    """Make the text of each figure's output the alt text of its cell, where the site looks for it. In place."""
    for _, cell in code_cells(nb):
        for data in images(cell):
            options = cell.metadata.setdefault("mystnb", nbformat.from_dict({}))
            options.setdefault("image", nbformat.from_dict({}))["alt"] = folded(data.get("text/plain", ""))


def begin(nb: NotebookNode) -> None:
    """Put the first cell, which says what to install, below the title, or renew it. In place."""
    nb.cells = [cell for cell in nb.cells if cell.id != "install"]
    nb.cells.insert(1, new_code_cell(FIRST_CELL, id="install", metadata={"tags": ["remove-cell"]}))


def executed(nb: NotebookNode, folder: Path) -> NotebookNode:
    """A copy of the notebook, with its first cell, run top to bottom in `folder` by a fresh kernel, and normalized.

    Raises CellFailure with the cell's number and source if a cell fails.
    """
    nb = copy.deepcopy(nb)
    begin(nb)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        nb,
        kernel_name=KERNEL["name"],
        timeout=CELL_TIMEOUT,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # else each kernel warns that local sockets are not encrypted
        resources={"metadata": {"path": str(folder)}},
    )
    client.reset_execution_trackers()
    with client.setup_kernel(env={**os.environ, **ENVIRONMENT}):
        for number, cell in enumerate(nb.cells, 1):
            try:
                client.execute_cell(cell, number - 1)
            except (CellControlSignal, DeadKernelError) as error:
                raise CellFailure(f"cell {number} fails:\n{cell.source}\n\n{error}") from error
    normalize(nb)
    describe_figures(nb)
    nb.metadata["bnlib"] = nbformat.from_dict({"code": code_hash(nb)})
    return nb


def keep_pictures(then: NotebookNode, now: NotebookNode) -> None:
    """Where the code is the same, keep those pictures that only another processor has drawn a little otherwise.

    In place. So git shows no change where there is none to see.
    """
    if code_hash(then) != code_hash(now):
        return
    for (_, old), (_, new) in zip(code_cells(then), code_cells(now), strict=True):
        for before, after in zip(images(old), images(new), strict=False):
            if before.get("text/plain") == after.get("text/plain") and look_alike(before, after):
                after["image/png"] = before["image/png"]


def look_alike(one: NotebookNode, other: NotebookNode) -> bool:
    """Whether two pictures differ in a few pixels only, and there a little."""
    decoded = (Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB") for data in (one, other))
    a, b = (np.asarray(picture).astype(int) for picture in decoded)
    if a.shape != b.shape:
        return False
    difference = abs(a - b).max(axis=2)
    return bool(np.count_nonzero(difference) <= ALIKE_PIXELS and difference.max() <= ALIKE_LEVELS)


def is_outdated(path: Path) -> bool:
    """Whether a run is due: the package or a record is newer than the file, or it has a fault that a run may mend."""
    modified = path.stat().st_mtime
    if any(source.stat().st_mtime > modified for source in [*LIBRARY.rglob("*.py"), *RESULTS.glob("*.json")]):
        return True
    nb = read(path)
    return any(True for check in MENDED_BY_RUN for _ in check(nb)) or not is_normal(path)


def run(paths: Iterable[Path], everything: bool = False) -> bool:
    """Execute the outdated ones (or all) of these notebooks in place; whether all of them ran through.

    A notebook with a failing cell stays on the disk as it was.
    """
    succeeded = True
    for path in paths:
        if not everything and not is_outdated(path):
            print(f"{path.name}: unchanged")
            continue
        start = time.monotonic()
        before = read(path)
        try:
            nb = executed(before, path.parent)
        except CellFailure as failure:
            print(f"{path.name}: {failure}\nThe file is as it was: mend the cell and {RUN}.", file=sys.stderr)
            succeeded = False
            continue
        keep_pictures(before, nb)
        write(nb, path)
        seconds = time.monotonic() - start
        warning = f", more than the {SLOW_CHAPTER} s a chapter should take" if seconds > SLOW_CHAPTER else ""
        print(f"{path.name}: executed in {seconds:.1f} s{warning}", flush=True)
    return succeeded


# --- guard -------------------------------------------------------------------------------------------------------
# Each check yields (cell number or None, message with the remedy).

Finding = tuple[int | None, str]


def is_normal(path: Path) -> bool:
    """Whether the file's text is exactly what `run` would write for its content."""
    nb = read(path)
    normalize(nb)
    return path.read_text(encoding="utf-8") == serialize(nb)


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


# --- verdicts ----------------------------------------------------------------------------------------------------


def verdicts(nb: NotebookNode) -> list[str]:
    """A line for each claim in the outputs: its id, its verdict, and the conditions under which it holds."""
    from bnlib.claim import MIME_TYPE

    outputs = [output for _, cell in code_cells(nb) for output in cell.outputs]
    claims = [data[MIME_TYPE] for output in outputs if MIME_TYPE in (data := output.get("data", {}))]
    return [
        ": ".join([claim["id"], claim["verdict"], "; ".join(claim["conditions"])]).removesuffix(": ")
        for claim in claims
    ]


# --- another commit ----------------------------------------------------------------------------------------------


def require(commit: str) -> None:
    """Raise subprocess.CalledProcessError if there is no such commit."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def committed(path: Path, commit: str) -> NotebookNode | None:
    """A notebook as it stands in a commit, or None if it is not there."""
    name = f"{commit}:./{path.relative_to(ROOT).as_posix()}"
    done = subprocess.run(["git", "show", name], cwd=ROOT, capture_output=True, text=True, check=False)
    return nbformat.reads(done.stdout, as_version=4) if done.returncode == 0 else None


def print_verdicts(paths: Iterable[Path], commit: str | None = None) -> int:
    """Print all verdicts; where a commit is given, also what it says otherwise. The number of notebooks that differ.

    Raises subprocess.CalledProcessError if there is no such commit.
    """
    if commit is not None:
        require(commit)
    different = 0
    for path in paths:
        now = verdicts(read(path))
        for line in now:
            print(f"{path.stem}: {line}")
        if commit is None:
            continue
        nb = committed(path, commit)
        then = [] if nb is None else verdicts(nb)
        if now != then:
            different += 1
            for line in then:
                if line not in now:
                    print(f"{path.stem}: {commit} says {line}", file=sys.stderr)
            for line in now:
                if line not in then:
                    print(f"{path.stem}: {commit} does not say {line}", file=sys.stderr)
    return different


def unlike(then: object, now: object, place: str = "") -> Iterator[str]:
    """What differs between two JSON values, each with its place; a picture is there or not, whatever it shows."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *(key for key in now if key not in then)]:
            inner = f"{place}.{key}".removeprefix(".")
            if key not in then or key not in now:
                yield f"{inner}: {'gone' if key in then else 'new'}"
            elif key not in PICTURES:
                yield from unlike(then[key], now[key], inner)
    elif isinstance(then, list) and isinstance(now, list) and len(then) != len(now):
        yield f"{place}: {len(then)}, now {len(now)}"
    elif isinstance(then, list) and isinstance(now, list):
        for i, pair in enumerate(zip(then, now, strict=True)):
            yield from unlike(*pair, f"{place}.{i}")
    elif then != now:
        yield f"{place}: {first_difference(then, now)}"


def first_difference(then: object, now: object) -> str:
    """How two different values read, or two texts in the first line that differs, from shortly before they part."""
    if isinstance(then, str) and isinstance(now, str):
        lines = zip_longest(then.splitlines(keepends=True), now.splitlines(keepends=True), fillvalue="")
        then, now = next((a, b) for a, b in lines if a != b)
        same = (a == b for a, b in zip(f"{then}\0", f"{now}\0", strict=False))
        start = max(0, list(same).index(False) - 40)
        then, now = then[start:][:100], now[start:][:100]
    return f"{then!r}, now {now!r}"


def differences(then: NotebookNode, now: NotebookNode) -> Iterator[Finding]:
    """What a notebook says otherwise than before, cell by cell."""
    before = {cell.id: cell for cell in then.cells}
    numbers = {cell.id: number for number, cell in enumerate(now.cells, 1)}
    if list(before) != list(numbers):
        yield None, f"other cells, or in another order: {len(before)}, now {len(numbers)}"
    pairs = [(numbers[cell.id], before[cell.id], cell) for cell in now.cells if cell.id in before]
    for number, old, new in [(None, then.metadata, now.metadata), *pairs]:
        for message in unlike(old, new):
            yield number, message


def compare(paths: Iterable[Path], commit: str) -> list[Fault]:
    """Everything that these notebooks say otherwise than in a commit; pictures count by their text.

    Raises subprocess.CalledProcessError if there is no such commit.
    """
    require(commit)
    faults = []
    for path in paths:
        then = committed(path, commit)
        found = [(None, f"not in {commit}")] if then is None else differences(then, read(path))
        faults += [Fault(path, number, message) for number, message in found]
    return faults


# --- command line ------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """The exit code of one call."""
    parser = argparse.ArgumentParser(prog="notebooks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run_parser = commands.add_parser("run", help="execute changed chapters in place")
    run_parser.add_argument("--all", action="store_true", help="execute unchanged ones too")
    guard_parser = commands.add_parser("guard", help="report every fault of the chapters")
    verdicts_parser = commands.add_parser("verdicts", help="print the verdict of every claim")
    verdicts_parser.add_argument("--against", metavar="COMMIT", help="fail if one differs from this commit's")
    compare_parser = commands.add_parser("compare", help="fail if a chapter says something else, pictures apart")
    compare_parser.add_argument("--against", metavar="COMMIT", default="HEAD", help="than in this commit")
    for subparser in (run_parser, guard_parser, verdicts_parser, compare_parser):
        subparser.add_argument("paths", nargs="*", type=Path, help="notebooks; without any, all chapters")
    options = parser.parse_args(arguments)

    paths = [path.resolve() for path in options.paths] or sorted(CHAPTERS.glob("*.ipynb"))
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    if options.command == "run":
        return 0 if run(paths, options.all) else 1
    if options.command == "verdicts":
        return 1 if print_verdicts(paths, options.against) else 0
    comparing = options.command == "compare"
    faults = compare(paths, options.against) if comparing else guard(paths)
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(paths)} notebooks, {len(faults)} {'differences' if comparing else 'faults'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
