"""Functions for the exercises, right and wrong; the modules beside this one enter them, one per catalogue module."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

Function = Callable[..., Any]


class Case(NamedTuple):
    """A function for an exercise, and a part of each sentence that it must get, in their order; none if it is right."""

    exercise: str
    function: Function
    says: tuple[str, ...] = ()
    change: str = ""  # by which it was made of another one

    def __str__(self) -> str:
        return f"{self.exercise}-{self.function.__name__}{self.change and ': '}{self.change}"


REFERENCES: dict[str, Function] = {}
CASES: list[Case] = []


def reference(exercise: str) -> Callable[[Function], Function]:
    """What bnlib or PyTorch computes: digit for digit the same as the catalogue's reference, and right."""

    def enter(function: Function) -> Function:
        REFERENCES[exercise] = function
        return right(exercise)(function)

    return enter


def right(exercise: str) -> Callable[[Function], Function]:
    """What is right, maybe with remarks."""
    return wrong(exercise)


def wrong(exercise: str, *says: str) -> Callable[[Function], Function]:
    """What is wrong, and a part of each sentence that it must get."""

    def enter(function: Function) -> Function:
        CASES.append(Case(exercise, function, says))
        return function

    return enter


def edited(function: Function, change: str) -> Function:
    """A function with some places of its source changed, "old -> new ;; old -> new"."""
    source = inspect.getsource(function)
    source = source[source.index("def ") :]
    for old, new in (pair.split(" -> ") for pair in change.split(" ;; ")):
        assert source.count(old) == 1, (function.__name__, old)
        source = source.replace(old, new)
    names = dict(function.__globals__)
    exec(compile(source, change, "exec"), names)
    return names[function.__name__]


def edits(exercise: str, function: Function, *rows: tuple[str, ...]) -> None:
    """A right function with each of the changes, and a part of each sentence that it then must get."""
    CASES.extend(Case(exercise, edited(function, change), tuple(says), change) for change, *says in rows)
