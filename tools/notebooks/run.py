"""Execute chapters in place, so that a run without a change writes the same bytes."""

import base64
import copy
import io
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from PIL import Image

from tools.notebooks.files import (
    FIRST_CELL,
    KERNEL,
    ROOT,
    RUN,
    code_cells,
    code_hash,
    folded,
    images,
    is_normal,
    normalize,
    read,
    write,
)
from tools.notebooks.guard import MENDED_BY_RUN

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
ALIKE_PIXELS, ALIKE_LEVELS = 100, 64  # a contour differed in 15 pixels by 35 of 255 levels; a figure has 400,000


class CellFailure(Exception):
    """A cell raised, hung, or took the kernel with it."""


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
