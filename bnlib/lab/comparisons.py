"""Arms compared fairly: each at the rate and gain picked for it, over as many paired seeds as its questions need.

A rate is picked on selection seeds, and reported on others. So what is run on many seeds is the pick alone, and 64 of
them cost less than a whole grid on a few.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from bnlib.claims import OPEN, Claim, Criterion
from bnlib.effects import LOOKS, Effect, difference, mean, ratio
from bnlib.lab.records import Labels, Record, Runner, Settings, Values, plain, read

SELECTION = range(1000, 1008)  # seeds that pick rates and gains, and are not reported
OTHERS = 16  # seeds of arms that decide nothing

Pair = tuple[Labels, Labels] | tuple[Labels]  # the labels of two arms, or of one


@dataclass(frozen=True)
class Arm:
    """A variant of a network or of its training.

    Attributes
    ----------
    labels : what it is called by
    arguments : what its run is called with, beside "runs": of each run its seed and its point of the grid
    grid : the values to pick from, in rising order, such as {"gain": [1.0, 2.0], "lr": [0.1, 1.0]}; the last of them
        goes through one case
    by : the values that are picked by: those of the largest mean, or of "steps_to" those of the smallest geometric
        mean, where a run that does not get there counts as all of the arguments' "steps"
    """

    labels: Labels
    arguments: Settings
    grid: Mapping[str, Sequence[float]]
    by: str = "val"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A claim with its criterion, as it is written down before the run.

    Attributes
    ----------
    id, chapter, statement, source, criterion, unit, overlap : as in :class:`bnlib.claims.Claim`
    of : the name of the values that it judges; where one training is judged in several ways, an "of" among the labels
        of a pair says so of that one
    how : "difference" of two arms, their "ratio", or the "mean" of one
    parts : by condition, at most three: the labels of the two arms, or of the one, that decide
    others : by condition, arms that are shown and decide nothing
    transfers : by the name of other data, arms there by the conditions of the parts
    learned : an accuracy below which a run counts as failed
    budget : of steps, how many there were
    grid : the step of values that come in steps
    """

    id: str
    chapter: str
    statement: str
    source: str
    criterion: Criterion
    of: str = "test"
    how: str = "difference"
    parts: Mapping[str, Pair]
    others: Mapping[str, Pair] = field(default_factory=dict)
    transfers: Mapping[str, Mapping[str, Pair]] = field(default_factory=dict)
    unit: str = ""
    overlap: float = 0.0
    learned: float | None = None
    budget: float | None = None
    grid: float = 0.0

    def effect(self, record: Record, pair: Pair) -> Effect:
        """The effect of a pair of arms, over the seeds that both have."""
        values = [self.values(record, labels) for labels in pair]
        n = min(len(v) for v in values)
        values = [v[:n] for v in values]
        match self.how:
            case "difference":
                return difference(*values, learned=self.learned, grid=self.grid)
            case "ratio":
                return ratio(*values, budget=self.budget)
            case "mean":
                return mean(*values, learned=self.learned, grid=self.grid)
        raise ValueError(f"how is {self.how!r}: choose 'difference', 'ratio' or 'mean'")

    def values(self, record: Record, labels: Labels) -> np.ndarray:
        """The values of an arm that it judges, for each seed."""
        return record.get(labels.get("of", self.of), **_of_arm(labels))

    def judge(self, record: Record) -> Claim:
        """The claim, with what a record says of it."""
        effects = {c: self.effect(record, pair) for c, pair in {**self.parts, **self.others}.items()}
        moved = {d: {c: self.effect(record, p) for c, p in there.items()} for d, there in self.transfers.items()}
        return Claim.measured(
            id=self.id,
            chapter=self.chapter,
            statement=self.statement,
            source=self.source,
            criterion=self.criterion,
            unit=self.unit,
            overlap=self.overlap,
            effect=effects,
            primary=list(self.parts),
            transfer=moved,
            notes=self.notes(record),
        )

    def notes(self, record: Record) -> tuple[str, ...]:
        """Which of the arms that decide were picked at the edge of their grid."""
        pairs = [pair for there in (self.parts, *self.transfers.values()) for pair in there.values()]
        found = []
        arms = [_of_arm(labels) for pair in pairs for labels in pair]
        for labels in {str(labels): labels for labels in arms}.values():
            pick = record.picked(**labels)
            if pick["edge"]:
                name = ", ".join(map(str, labels.values()))
                found.append(f"{name}: {' and '.join(pick['edge'])} picked at the edge of the grid")
        return tuple(found)

    def open(self, record: Record) -> list[Labels]:
        """The arms that its open parts need."""
        claim = self.judge(record)
        pairs = [self.parts[part.condition] for part in claim.parts if part.verdict == OPEN]
        pairs += [self.transfers[part.data][part.condition] for part in claim.transfers if part.verdict == OPEN]
        return [labels for pair in pairs for labels in pair]


@dataclass(frozen=True)
class Comparison:
    """A measurement of arms; what :class:`bnlib.lab.records.Experiment` is to cases.

    A setting of it is "seeds", how many there are at most: 8, 16, 32 or 64. With fewer than 8 nothing is picked: each
    arm is run at the middle of its grid, as its slice is.

    Attributes
    ----------
    id : the record's name
    arms : arms(**settings), but for the seeds, yields the arms
    run : run(runs=[...], **arguments) gives lists by name with a value for each run
    settings : those of the record
    live : what the slice sets differently
    questions : what it is to answer; its open parts say which arms need more seeds
    """

    id: str
    arms: Callable[..., Iterable[Arm]]
    run: Callable[..., Values]
    settings: Settings
    live: Settings
    questions: Sequence[Question] = ()

    def cases(self, seeds: int, **settings: Any) -> list[tuple[Labels, Settings]]:
        """Every arm at the middle of its grid, for the first seeds."""
        return [
            (arm.labels, {**arm.arguments, "runs": [{"seed": seed, **middle(arm.grid)} for seed in range(seeds)]})
            for arm in self._arms(settings)
        ]

    def measured(self, settings: Settings, run: Runner, standing: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a record of these settings holds: "picks" and "values".

        Picks and values of a standing record with the same settings are taken from there; what it lacks is run.
        """
        seeds, rest = settings["seeds"], {name: value for name, value in settings.items() if name != "seeds"}
        if seeds < min(LOOKS):
            return {"picks": [], "values": run("", plain(self.cases(seeds, **rest)))}
        if seeds not in LOOKS:
            raise ValueError(f"seeds is {seeds}: choose one of {list(LOOKS)}, or fewer to run the middle of each grid")
        arms = self._arms(rest)
        picks = self._picks(arms, run) if standing is None else standing["picks"]
        known = {str(case["labels"]): case for case in (standing or {"values": []})["values"]}
        going, values, last = list(zip(arms, picks, strict=True)), [], 0
        for look in LOOKS:
            cases = plain([_block(arm, pick, range(last, look)) for arm, pick in going])
            values += [known[str(labels)] for labels, _ in cases if str(labels) in known]
            values += run(f"{look} seeds", [case for case in cases if str(case[0]) not in known])
            last = look
            record = read(self.id, {"picks": picks, "values": values})
            wanted = [labels for question in self.questions for labels in question.open(record)]
            others = [labels for q in self.questions for pair in q.others.values() for labels in pair]
            wanted += others if look < OTHERS else []
            going = [(arm, pick) for arm, pick in going if any(_fits(arm, labels) for labels in wanted)]
            if look == seeds or not going:
                break
        order = {str(plain(arm.labels)): i for i, arm in enumerate(arms)}
        values.sort(key=lambda case: (order[str(_without_seeds(case["labels"]))], case["labels"]["seeds"]))
        return {"picks": picks, "values": values}

    def lacking(self, record: Record, seeds: int) -> list[str]:
        """The questions that are open and could have more seeds, of so many at most."""
        return [
            question.id
            for question in self.questions
            if any(len(question.values(record, arm)) < seeds for arm in question.open(record))
        ]

    def claims(self, record: Record) -> dict[str, Claim]:
        """What a record says of each question, by its id."""
        return {question.id: question.judge(record) for question in self.questions}

    def _arms(self, settings: Settings) -> list[Arm]:
        arms = [Arm(plain(a.labels), plain(a.arguments), plain(a.grid), a.by) for a in self.arms(**settings)]
        for arm in arms:
            if not all(arm.grid.values()):
                raise ValueError(f"the grid of {arm.labels} is {arm.grid}: give each a value at least")
        return arms

    def _picks(self, arms: Sequence[Arm], run: Runner) -> list[dict[str, Any]]:
        """Of each arm its labels, its point of the grid, "edge", "near" and "grid".

        "edge" names what was picked at the edge of its values; "near" is how much worse the better neighbour is along
        the last of the grid; "grid" are the scores of all points.
        """
        cases, whose = [], []
        for i, arm in enumerate(arms):
            if math.prod(map(len, arm.grid.values())) > 1:
                *first, last = arm.grid
                for point in product(*(arm.grid[name] for name in first)):
                    at = dict(zip(first, point, strict=True))
                    runs = [{"seed": seed, **at, last: value} for value in arm.grid[last] for seed in SELECTION]
                    cases.append(({**arm.labels, **at, "stage": "pick"}, {**arm.arguments, "runs": runs}))
                    whose.append(i)
        found: dict[int, list[np.ndarray]] = {}
        for i, case in zip(whose, run("picks", plain(cases)), strict=True):
            found.setdefault(i, []).append(_scores(arms[i], case["values"]))
        return [_pick(arm, found.get(i)) for i, arm in enumerate(arms)]


def middle(grid: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The point in the middle of a grid; of an even number the higher of the two."""
    return {name: values[len(values) // 2] for name, values in grid.items()}


def _scores(arm: Arm, values: Mapping[str, Sequence[float | None]]) -> np.ndarray:
    """Of each value of the last of the grid the mean over the selection seeds; the larger the better."""
    found = np.array(values[arm.by], dtype=float).reshape(-1, len(SELECTION))  # None becomes nan
    if arm.by == "steps_to":
        budget = arm.arguments["steps"]
        return -np.log(np.where(np.isfinite(found), found, budget)).mean(1)
    return np.where(np.isfinite(found), found, 0.0).mean(1)


def _pick(arm: Arm, scores: list[np.ndarray] | None) -> dict[str, Any]:
    sizes = [len(values) for values in arm.grid.values()]
    table = np.zeros(sizes) if scores is None else np.reshape(scores, sizes)
    best = np.unravel_index(int(np.argmax(table)), table.shape)
    point = {name: values[int(i)] for (name, values), i in zip(arm.grid.items(), best, strict=True)}
    edge = [name for name, size, i in zip(arm.grid, sizes, best, strict=True) if size > 1 and i in (0, size - 1)]
    row = table[best[:-1]] if sizes else table
    j = int(best[-1]) if sizes else 0
    near = [row[j] - row[k] for k in (j - 1, j + 1) if 0 <= k < len(row)] if sizes else []
    told = np.exp(-table) if arm.by == "steps_to" else table
    return plain(
        {"labels": arm.labels, **point, "edge": edge, "near": float(min(near)) if near else None, "grid": told.tolist()}
    )


def _block(arm: Arm, pick: Mapping[str, Any], seeds: range) -> tuple[Labels, Settings]:
    point = {name: pick[name] for name in arm.grid}
    runs = [{"seed": seed, **point} for seed in seeds]
    return {**arm.labels, "seeds": [seeds.start, seeds.stop]}, {**arm.arguments, "runs": runs}


def _fits(arm: Arm, labels: Labels) -> bool:
    return all(arm.labels.get(name) == plain(value) for name, value in _of_arm(labels).items())


def _of_arm(labels: Labels) -> dict[str, Any]:
    return {name: value for name, value in labels.items() if name != "of"}


def _without_seeds(labels: Labels) -> dict[str, Any]:
    return {name: value for name, value in labels.items() if name != "seeds"}
