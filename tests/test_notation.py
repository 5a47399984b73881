"""What the notation says that PyTorch calls things, PyTorch has."""

import re
from functools import reduce
from pathlib import Path

import pytest
import torch
from torch import nn, optim
from torch.nn import parallel
from torch.nn.utils import fusion

NOTATION = (Path(__file__).parents[1] / "chapters/notation.md").read_text("utf-8")
TABLE = NOTATION.partition("## Known elsewhere as")[2].partition("\n## ")[0]
ROWS = [line.split("|")[1:-1] for line in TABLE.splitlines() if line.startswith("|")][2:]
NAMES = [name.partition("(")[0] for row in ROWS for name in re.findall(r"`([^`]+)`", row[2])]
NORM = nn.BatchNorm2d(3)
PLACES = {"torch": torch, "nn": nn, "model": nn.Sequential(NORM), "norm": NORM}


def test_the_table_is_there():
    assert len(ROWS) > 20
    assert {len(row) for row in ROWS} == {6}


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_has(name: str):
    first, *rest = name.split(".")
    if rest:
        assert reduce(getattr, rest, PLACES[first])
    else:
        group = optim.SGD(NORM.parameters()).param_groups[0]
        assert name in group or any(hasattr(place, name) for place in (NORM, fusion, parallel))
