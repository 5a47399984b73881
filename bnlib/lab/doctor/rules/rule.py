"""What a rule of the doctor is: a small function beside its sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bnlib.lab.doctor.look import Seen
from bnlib.lab.doctor.report import Finding, Number

PAGE = "practice.html#practice-"


class Found:
    """What a rule has found: the modules, numbers, and the words that its sentence takes."""

    def __init__(self, modules: Iterable[str] = (), numbers: Iterable[Number] = (), **words: Any) -> None:
        self.modules, self.numbers, self.words = tuple(modules), tuple(numbers), words


@dataclass(frozen=True)
class Rule:
    """One thing that may be wrong.

    Attributes
    ----------
    name : as the report and the page for practitioners have it
    severity : see :class:`bnlib.lab.doctor.Finding`
    sentence : what is wrong; words in braces are those of what was found
    remedy : what to do
    link : the book's page
    look : yields what is found, as a rule once
    explains : rules whose findings at the same modules this one accounts for: they are then left out
    """

    name: str
    severity: str
    sentence: str
    remedy: str
    link: str
    look: Callable[[Seen], Iterator[Found]]
    explains: tuple[str, ...] = ()

    def findings(self, seen: Seen) -> Iterator[Finding]:
        """What the rule has to say of a model."""
        for found in self.look(seen):
            sentence = self.sentence.format(**found.words)
            yield Finding(self.name, self.severity, found.modules, found.numbers, sentence, self.remedy, self.link)


RULES: list[Rule] = []


def rule(
    name: str, severity: str, sentence: str, remedy: str, link: str, explains: tuple[str, ...] = ()
) -> Callable[[Callable[[Seen], Iterator[Found]]], Callable[[Seen], Iterator[Found]]]:
    """Enter the function below into the catalogue, beside its sentence."""

    def enter(look: Callable[[Seen], Iterator[Found]]) -> Callable[[Seen], Iterator[Found]]:
        RULES.append(Rule(name, severity, sentence, remedy, link, look, explains))
        return look

    return enter
