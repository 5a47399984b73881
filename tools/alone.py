"""Lay each chapter into an empty folder of its own, beside bnlib as a wheel brings it: as a reader has them.

``_build/alone/wheel`` is the unpacked wheel, which the Makefile puts first on PYTHONPATH where it runs the copies under
``_build/alone/chapters``. A last cell of each copy says if bnlib came from elsewhere.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from nbformat.v4 import new_code_cell

from tools.notebooks.files import chapters, read, write

ROOT = Path(__file__).resolve().parent.parent
ALONE = ROOT / "_build" / "alone"
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"  # as pip calls it

WHICH = """\
from pathlib import Path

import bnlib

place = Path(bnlib.__file__).parents[1]
assert place == Path("../../wheel").resolve(), f"bnlib comes from {place}"\
"""


def build(into: Path) -> Path:
    """The wheel of the working tree, built from a copy: what lies about from another build stays out of it."""
    with tempfile.TemporaryDirectory() as source:
        shutil.copytree(ROOT / "bnlib", Path(source, "bnlib"), ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        command = [sys.executable, "-c", BUILD, str(into)]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"no wheel was built:\n{done.stdout}{done.stderr}")
    (wheel,) = into.glob("*.whl")
    return wheel


def lay_out(folder: Path, paths: Iterable[Path]) -> None:
    """The wheel, unpacked, and a copy of each of these notebooks in a folder where nothing else lies."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with zipfile.ZipFile(build(folder)) as wheel:
        wheel.extractall(folder / "wheel")
    for path in paths:
        copy = folder / "chapters" / path.stem / path.name
        copy.parent.mkdir(parents=True)
        nb = read(path)
        nb.cells.append(new_code_cell(WHICH, id="which-bnlib"))
        write(nb, copy)


if __name__ == "__main__":
    lay_out(ALONE, chapters())
