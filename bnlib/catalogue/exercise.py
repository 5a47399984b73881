"""What a coded exercise is: a reference in named steps, and the known mistakes beside it.

The reference is a row of named steps, small functions of the values so far. A mistake is a sentence beside the steps
that it replaces, so two mistakes at once are the union of their steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np

Step = Callable[[SimpleNamespace], Any]
Outputs = dict[str, np.ndarray]


class Mistake:
    """A known mistake: the sentence that helps, and the steps that a function which makes it takes instead."""

    def __init__(self, sentence: str, **steps: Step):
        self.sentence = sentence
        self.steps = steps


@dataclass(frozen=True, eq=False)
class Exercise:
    """What the reader's function must compute.

    Attributes
    ----------
    draws : arguments by name, in the function's order; each draw has other shapes
    outputs : the names of the steps that the function returns, in order
    steps : the reference, in the order of computation; a step sees the arguments and the steps before it
    mistakes : the catalogue; of two entries with the same outputs the first is named
    """

    draws: tuple[dict[str, Any], ...]
    outputs: tuple[str, ...]
    steps: dict[str, Step]
    mistakes: tuple[Mistake, ...]

    def run(self, *mistakes: Mistake) -> list[Outputs]:
        """The outputs for each draw, by the reference, or with mistakes made."""
        steps = dict(self.steps)
        for mistake in mistakes:
            steps |= mistake.steps
        runs = []
        for arguments in self.draws:
            v = SimpleNamespace(**arguments)
            for name, step in steps.items():
                setattr(v, name, step(v))
            runs.append({name: getattr(v, name) for name in self.outputs})
        return runs

    @cached_property
    def candidates(self) -> list[tuple[tuple[Mistake, ...], list[Outputs]]]:
        """Each mistake, then each pair that can be made together, with the outputs for each draw."""
        pairs = [(a, b) for a, b in combinations(self.mistakes, 2) if not a.steps.keys() & b.steps.keys()]
        return [(made, self.run(*made)) for made in [*((a,) for a in self.mistakes), *pairs]]
