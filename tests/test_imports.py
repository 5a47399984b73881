"""Importing the package stays light, and nothing imports upward."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import bnlib

HEAVY = {"torch", "matplotlib", "sklearn", "joblib", "tqdm"}
# plots draws, and the modules of lab train: these may import what they are made of.
LIGHT = ["bnlib", *(f"bnlib.{module.name}" for module in pkgutil.iter_modules(bnlib.__path__))]
LIGHT = [name for name in LIGHT if name != "bnlib.plots"]

FOLDER = Path(bnlib.__file__).parent
MODULES = {path.relative_to(FOLDER): path for path in FOLDER.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("name", LIGHT)
def test_an_import_does_not_bring_a_heavy_package(name: str):
    code = f"import sys, {name}; print(*sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_torch_is_imported_in_the_laboratory_alone():
    users = {path.parts[0] for path, file in MODULES.items() if "torch" in {n.split(".")[0] for n in imported(file)}}
    assert users == {"lab"}


def test_nothing_imports_upward():
    """The core knows nothing of the laboratory, and the laboratory nothing of its experiments."""
    for path, file in MODULES.items():
        inside = path.parts[0] == "lab"
        above = "bnlib.lab.experiments" if inside else "bnlib.lab"
        if "experiments" not in path.parts:
            assert not [name for name in imported(file) if name.startswith(above)], path
    assert not [name for name in imported(FOLDER / "norms.py") if name.startswith("bnlib.running")]
