"""What the chapters say otherwise than in another commit; pictures count by their text."""

import subprocess
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.notebooks.files import Fault, Finding, read

PICTURES = ("image/png", "image/jpeg")  # nbval leaves these out, too: a pixel differs between processors


def committed(path: Path, commit: str) -> NotebookNode | None:
    """A notebook as it stands in a commit, or None if it is not there.

    Raises subprocess.CalledProcessError if there is no such commit.
    """
    git = ["git", "-C", str(path.parent)]
    known = [*git, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    subprocess.run(known, check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([*git, "show", f"{commit}:./{path.name}"], capture_output=True, text=True, check=False)
    return nbformat.reads(done.stdout, as_version=4) if done.returncode == 0 else None


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
    faults = []
    for path in paths:
        then = committed(path, commit)
        found = [(None, f"not in {commit}")] if then is None else differences(then, read(path))
        faults += [Fault(path, number, message) for number, message in found]
    return faults
