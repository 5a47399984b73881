"""The first cell is silent where all is installed; elsewhere it names what is missing, or installs it on Colab."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from bnlib import lab
from tools.notebooks import files

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
NEEDED = re.findall(r'"(\w+)"', files.FIRST_CELL.partition("needed =")[2].partition("\n")[0])
GIT = "git+https://github.com/"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Run in a kernel that has only what a test gives it; the value is the magics that the cell calls."""
    for name in THREADS:
        monkeypatch.setenv(name, "1")
    return []


def run(
    calls: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], repository: str
) -> None:
    class Shell:
        def run_line_magic(self, name: str, line: str) -> None:
            calls.append((name, line))

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else name)
    cell = files.FIRST_CELL.replace('repository = ""', f'repository = "{repository}"')
    exec(cell, {"get_ipython": Shell})


@pytest.mark.parametrize("colab", [False, True])
def test_where_all_is_installed_nothing_is_said_or_done_but_threads(colab: bool, calls, monkeypatch, capsys):
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    for name in THREADS:
        monkeypatch.setenv(name, "16")
    run(calls, monkeypatch, (), "owner/name")
    assert (calls, *capsys.readouterr()) == ([], "", "")
    assert [os.environ[name] for name in THREADS] == ["1"] * 3


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        (("bnlib",), f'install "bnlib[live] @ {GIT}owner/name@notebooks"'),
        (("bnlib", "torch", "tqdm"), f'install "bnlib[live] @ {GIT}owner/name@notebooks" torch tqdm'),
        (("tqdm",), "install tqdm"),
    ],
)
def test_on_colab_what_is_missing_is_installed(missing: tuple[str, ...], line: str, calls, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    run(calls, monkeypatch, missing, "owner/name@notebooks")
    assert (calls, *capsys.readouterr()) == ([("pip", line)], "", "")


@pytest.mark.parametrize(
    ("missing", "repository", "colab", "message"),
    [
        (("torch",), "", False, "torch not found. Run `%pip install torch` in a new cell, then go on."),
        (
            ("bnlib", "tqdm"),
            "owner/name@notebooks",
            False,
            f'Run `%pip install "bnlib[live] @ {GIT}owner/name@notebooks" tqdm` in',
        ),
        (("bnlib",), "", False, "OWNER/NAME the repository that the notebook is from (with a clone, give its folder"),
        (("bnlib",), "", True, f'bnlib not found. Run `%pip install "bnlib[live] @ {GIT}OWNER/NAME"` in a new cell'),
    ],
)
def test_elsewhere_the_remedy_is_named(missing, repository: str, colab: bool, message: str, calls, monkeypatch):
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
        run(calls, monkeypatch, missing, repository)
    assert calls == []


def test_a_python_that_has_nothing_says_so_in_one_line(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", files.FIRST_CELL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert "\nModuleNotFoundError: bnlib and torch and tqdm not found. Run `%pip install " in done.stderr


def test_what_the_cell_looks_for_is_all_that_the_chapters_and_the_laboratory_need():
    dependencies = tomllib.loads((files.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    brought = {Requirement(line).name for line in dependencies}
    brought |= {"sklearn" if name == "scikit-learn" else "PIL" if name == "pillow" else name for name in brought}
    assert "platformdirs" in {
        Requirement(line).name for line in metadata.requires("jupyter_core") or ()
    }  # the kernel's
    assert "ipython" in {Requirement(line).name.lower() for line in metadata.requires("ipykernel") or ()}
    used = {*lab.NEEDS, "joblib"} - {"platformdirs"}
    assert "joblib" in {Requirement(line).name for line in metadata.requires("scikit-learn") or ()}
    for path in files.chapters():
        for _, cell in files.code_cells(files.read(path)):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Import):
                    used |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    used.add(str(node.module).partition(".")[0])
    assert used - brought - {"joblib", "IPython"} - sys.stdlib_module_names == set(NEEDED)
