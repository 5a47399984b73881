"""Values that hold arrays are compared by identity: two arrays have no one answer, and no hash."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from bnlib.catalogue.exercise import Blind, Exercise, Far
from bnlib.lab.records import Record
from bnlib.lab.train import History
from bnlib.norms import Moments
from bnlib.running import RunningStats


def filled(kind: type) -> Any:
    """One of that kind with an array in each field, whatever its constructor asks for."""
    value = object.__new__(kind)
    for field in fields(kind):
        object.__setattr__(value, field.name, np.arange(3.0))
    return value


@pytest.mark.parametrize("kind", [Moments, RunningStats, History, Record, Exercise, Far, Blind])
def test_what_holds_arrays_equals_itself_alone_and_can_be_a_key(kind: type):
    one, other = filled(kind), filled(kind)
    assert one == one
    assert one != other
    assert len({one, other}) == 2
