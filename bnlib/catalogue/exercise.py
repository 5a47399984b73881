"""What a coded exercise is: a reference in named steps, and the known mistakes beside it.

The reference is a row of named steps, small functions of the values so far. A mistake is what is seen of it, and its
remedy, beside the steps that it replaces, so several mistakes at once are the union of their steps.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np

Step = Callable[[SimpleNamespace], Any]
Outputs = dict[str, np.ndarray]
Arguments = dict[str, Any]


class Mistake:
    """A known mistake: what is seen and where to look, the remedy, and the steps that a function with it takes instead.

    There is no remedy where what is seen says it all. A step may also stand for an argument, such as eps.
    """

    def __init__(self, seen: str, remedy: str | None = None, **steps: Step):
        self.seen = seen
        self.remedy = remedy
        self.steps = steps


@dataclass(frozen=True, eq=False)
class Far:
    """A call in single precision, far from zero, where a variance from mean squares is lost.

    Attributes
    ----------
    around : arguments of the exercise whose values lie around a given number, with standard deviations near 1
    tolerance : what rounding explains there, relative to an output's largest entry; measured, in the tests
    remedy : how the variance is kept
    """

    around: Callable[[float], Arguments]
    tolerance: float
    remedy: str


@dataclass(frozen=True, eq=False)
class Blind:
    """A view of an output that is blind to a mistake, where a function may make it in more ways than can be listed."""

    view: Callable[[np.ndarray], np.ndarray]
    mistake: Mistake


@dataclass(frozen=True, eq=False)
class Exercise:
    """What the reader's function must compute.

    Attributes
    ----------
    shapes : of the arguments and outputs, in words; gamma, beta and their gradients are (C,) without a word
    draws : arguments by name, in the function's order; each draw has other shapes
    outputs : the names of the steps that the function returns, in order
    steps : the reference, in the order of computation; a step sees the arguments and the steps before it
    mistakes : the catalogue; of two entries with the same outputs the first is named
    far : the call far from zero, where there is a variance
    blind : a view in which outputs are compared once more, if nothing else explains them
    """

    shapes: str
    draws: tuple[Arguments, ...]
    outputs: tuple[str, ...]
    steps: dict[str, Step]
    mistakes: tuple[Mistake, ...]
    far: Far | None = None
    blind: Blind | None = None

    @property
    def signature(self) -> str:
        """The function's arguments and what it returns, such as ``f(x, eps) -> white``."""
        outputs = ", ".join(self.outputs)
        return f"f({', '.join(self.draws[0])}) -> {outputs if len(self.outputs) == 1 else f'({outputs})'}"

    def run(self, *mistakes: Mistake, draws: Iterable[Arguments] | None = None) -> list[Outputs]:
        """The outputs for each draw, by the reference, or with mistakes made."""
        steps = dict(self.steps)
        for mistake in mistakes:
            steps |= mistake.steps
        runs = []
        with np.errstate(all="ignore"):  # a mistake may divide by zero
            for arguments in self.draws if draws is None else draws:
                v = SimpleNamespace(**arguments)
                for name in (*arguments, *self.steps):
                    if name in steps:
                        setattr(v, name, steps[name](v))
                runs.append({name: getattr(v, name) for name in self.outputs})
        return runs

    @cached_property
    def candidates(self) -> list[tuple[tuple[Mistake, ...], Outputs]]:
        """Each mistake, then each pair that can be made together, with the outputs for the first draw; all finite."""
        several = [mistakes for count in (1, 2) for mistakes in together((), self.mistakes, count)]
        made = [(mistakes, self.run(*mistakes, draws=self.draws[:1])[0]) for mistakes in several]
        return [
            (mistakes, outputs) for mistakes, outputs in made if all(np.isfinite(a).all() for a in outputs.values())
        ]

    @cached_property
    def first_entries(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Of each output the candidates' first entries, and the size of their largest ones."""
        made = [outputs for _, outputs in self.candidates]
        return {
            name: (np.array([a[name].flat[0] for a in made]), np.array([abs(a[name]).max() for a in made]))
            for name in self.outputs
        }


def together(found: Iterable[Mistake], pool: Iterable[Mistake], more: int) -> Iterator[tuple[Mistake, ...]]:
    """The mistakes found and so many more from the pool, wherever all of them replace different steps."""
    found = tuple(found)
    for others in combinations([m for m in pool if m not in found], more):
        steps = [name for mistake in (*found, *others) for name in mistake.steps]
        if len(set(steps)) == len(steps):
            yield *found, *others


def eps_mistakes(remedy: str) -> Iterator[Mistake]:
    """eps is forgotten, or is a number of the function's own, for every exercise that takes eps."""
    yield Mistake("eps is forgotten: it has no effect on the result.", remedy, eps=lambda v: 0.0)
    for number in ("1e-3", "1e-5", "1e-6", "1e-7", "1e-8", "1e-12"):
        value = float(number)
        yield Mistake(
            f"eps is fixed at {number}, whatever is passed.",
            f"Use the argument eps. {remedy}",
            eps=lambda v, value=value: value,
        )
