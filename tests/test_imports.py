"""Importing the package stays light: no torch, no plotting, no scikit-learn."""

import pkgutil
import subprocess
import sys

import pytest

import bnlib

HEAVY = {"torch", "matplotlib", "sklearn"}
# plots draws, and lab trains: these two may import what they are made of.
LIGHT = ["bnlib", *(f"bnlib.{module.name}" for module in pkgutil.iter_modules(bnlib.__path__))]
LIGHT = [name for name in LIGHT if name not in {"bnlib.plots", "bnlib.lab"}]


@pytest.mark.parametrize("name", LIGHT)
def test_an_import_does_not_bring_a_heavy_package(name: str):
    code = f"import sys, {name}; print(*sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
