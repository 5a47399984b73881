"""A chapter runs alone, beside bnlib from a wheel; the wheel holds what it needs, and an error names what it lacks."""

import importlib.util
import os
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from nbformat import NotebookNode
from packaging.requirements import Requirement

from bnlib import lab
from tools import alone
from tools.notebooks import files

ROOT = Path(__file__).parents[2]
EMPTY = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def folder(executed: NotebookNode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, and one notebook laid out beside it."""
    path = tmp_path_factory.mktemp("source") / "chapter.ipynb"
    files.write(executed, path)
    folder = tmp_path_factory.mktemp("alone")
    alone.lay_out(folder, [path])
    return folder


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=EMPTY | environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(folder: Path):
    tracked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "bnlib"]
    names = subprocess.run(tracked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    assert held == {name for name in names if (ROOT / name).is_file()}
    assert "bnlib/results/lr-gain.json" in held


def test_a_copy_lies_in_an_empty_folder(folder: Path):
    assert [path.name for path in (folder / "chapters").iterdir()] == ["chapter"]
    assert [path.name for path in (folder / "chapters/chapter").iterdir()] == ["chapter.ipynb"]


@pytest.mark.parametrize("whose", ["the wheel's", "another"])
def test_a_copy_passes_with_the_wheels_bnlib_and_fails_with_another(folder: Path, whose: str):
    place = folder / "wheel" if whose == "the wheel's" else ROOT
    how = ["--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-q", "-c", str(ROOT / "pyproject.toml")]
    done = python("-m", "pytest", *how, str(folder / "chapters"), cwd=ROOT, PYTHONPATH=str(place))
    assert done.returncode == (whose != "the wheel's"), done.stdout
    assert (f"bnlib comes from {ROOT}" in done.stdout) == (whose != "the wheel's")


def test_records_and_their_command_come_with_the_wheel(folder: Path, tmp_path: Path):
    code = """if True:
        from bnlib.lab import records
        from bnlib.lab.experiments.__main__ import EXPERIMENTS, main
        there = [records.load(id) for id in EXPERIMENTS if (records.RESULTS / f"{id}.json").exists()]
        print(len(there) > 30, records.UNFINISHED)
        main(["--help"])"""
    cache = tmp_path / "cache"
    done = python("-c", code, cwd=tmp_path, PYTHONPATH=str(folder / "wheel"), XDG_CACHE_HOME=str(cache))
    assert done.stdout.splitlines()[0] == f"True {cache / 'bnlib' / 'measure'}", done.stderr
    assert "usage: python -m bnlib.lab.experiments" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_laboratory_without_its_packages_says_which_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "tqdm") else name)
    message = "bnlib.lab needs torch, tqdm, which bnlib alone does not bring: pip install torch tqdm"
    with pytest.raises(ModuleNotFoundError, match=message):
        importlib.reload(lab)


def test_the_laboratory_with_an_older_torch_says_which_to_install(monkeypatch: pytest.MonkeyPatch):
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["lab"]
    (needed,) = [line for line in extra if line.startswith("torch")]
    oldest = needed.removeprefix("torch>=")
    monkeypatch.setattr(metadata, "version", lambda name: f"{oldest}.0+cpu")
    importlib.reload(lab)
    monkeypatch.setattr(metadata, "version", lambda name: "2.5.1+cu124")
    message = rf"bnlib.lab needs torch {oldest} or newer, not 2.5.1\+cu124: pip install \"{needed}\""
    with pytest.raises(ImportError, match=message):
        importlib.reload(lab)


def test_the_laboratory_asks_for_what_its_extra_brings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = {Requirement(line).name for line in project["optional-dependencies"]["lab"]}
    assert set(lab.NEEDS) <= brought
