"""A chapter as a file: its one form, and what of it the other modules look at."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

from bnlib._files import write_atomically

ROOT = Path(__file__).resolve().parents[2]

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
NOTEBOOK_METADATA = ("myst", "mystnb", "bnlib")
CELL_METADATA = ("tags", "mystnb")
FIRST_CELL = (ROOT / "tools/first_cell.py").read_text("utf-8").rstrip("\n")  # of every chapter's code

RUN = "run `make notebooks`"
Finding = tuple[int | None, str]  # the cell (counted from 1; None is the whole notebook), a message with the remedy


class Fault(NamedTuple):
    """A finding, and the notebook that it is about."""

    path: Path
    cell: int | None
    message: str

    def __str__(self) -> str:
        """One line for the terminal."""
        place = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{place}: {self.message}" if self.cell is None else f"{place}: cell {self.cell}: {self.message}"


def chapters() -> list[Path]:
    """The book's chapters, in their order."""
    return sorted((ROOT / "chapters").glob("*.ipynb"))


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


def normalize(nb: NotebookNode) -> None:
    """Drop what differs between two runs, machines or editors; keep what authors write. In place."""
    authored = {key: nb.metadata[key] for key in NOTEBOOK_METADATA if key in nb.metadata}
    nb.metadata = nbformat.from_dict({**authored, "kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata})


def is_normal(path: Path) -> bool:
    """Whether the file's text is exactly what `run` would write for its content."""
    nb = read(path)
    normalize(nb)
    return path.read_text(encoding="utf-8") == serialize(nb)
