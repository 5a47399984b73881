"""What became of every claim."""

import sys
from collections.abc import Iterable
from pathlib import Path

from nbformat import NotebookNode

from bnlib.claims import MIME_TYPE
from tools.notebooks.compare import committed
from tools.notebooks.files import code_cells, read


def verdicts(nb: NotebookNode) -> list[str]:
    """A line for each claim in the outputs: its id and its verdict."""
    outputs = [output for _, cell in code_cells(nb) for output in cell.outputs]
    claims = [data[MIME_TYPE] for output in outputs if MIME_TYPE in (data := output.get("data", {}))]
    return [f"{claim['id']}: {claim['headline']}" for claim in claims]


def print_verdicts(paths: Iterable[Path], commit: str | None = None) -> int:
    """Print all verdicts; where a commit is given, also what it says otherwise. The number of notebooks that differ.

    Raises subprocess.CalledProcessError if there is no such commit.
    """
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
