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
TRIED = 2  # of them run all points of a grid
AT_ONCE = 8  # points in one case
OTHERS = 16  # seeds of arms that decide nothing

Pair = tuple[Labels, Labels] | tuple[Labels]  # the labels of two arms, or of one


@dataclass(frozen=True)
class Arm:
    """A variant of a network or of its training.

    Attributes
    ----------
    labels : what it is called by
    arguments : what its run is called with, beside "runs": of each run its seed and its point of the grid
    grid : the values to pick from, in rising order, such as {"gain": [1.0, 2.0], "lr": [0.1, 1.0]}
    by : the values that are picked by: those of the largest mean, or of "steps_to" those of the smallest geometric
        mean, where a run that does not get there counts as all of the arguments' "steps"; of other values one that
        is not finite counts as 0
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
            picked=self.picked(record),
        )

    def picks(self, record: Record) -> dict[str, dict[str, Any]]:
        """What was picked for the arms that decide, here and on other data, by what each is called.

        An arm is called by those of its labels in which these arms differ.
        """
        pairs = [pair for there in (self.parts, *self.transfers.values()) for pair in there.values()]
        arms = {str(_of_arm(labels)): _of_arm(labels) for pair in pairs for labels in pair}.values()
        differ = [name for name in next(iter(arms)) if len({str(arm.get(name)) for arm in arms}) > 1]
        return {", ".join(_word(n, arm[n]) for n in differ) or "all": record.picked(**arm) for arm in arms}

    def notes(self, record: Record) -> tuple[str, ...]:
        """Which of the arms that decide were picked at the edge of their grid."""
        edges: dict[str, list[str]] = {}
        for name, pick in self.picks(record).items():
            if pick["edge"]:
                edges.setdefault(" and ".join(pick["edge"]), []).append(name)
        return tuple(f"{what} picked at the edge of the grid: {'; '.join(names)}" for what, names in edges.items())

    def picked(self, record: Record) -> tuple[str, ...]:
        """What was picked for each arm that decides, and how much worse the next rate is: no claim hangs on a tie."""
        return tuple(f"{name}: {self._pick(pick)}" for name, pick in self.picks(record).items() if _point(pick))

    def _pick(self, pick: Mapping[str, Any]) -> str:
        point, near = _point(pick), pick["near"]
        told = ", ".join(f"{name} {value:g}" for name, value in point.items())
        if near is None:
            return told
        worse = f"{math.exp(near):.2f} times the updates" if self.of == "steps_to" else f"{near:.3f} less"
        return f"{told} (at the next {list(point)[-1]} {worse})"

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

        Two of the selection seeds run all points, and the others the best quarter of them, or the best four. "edge"
        names what was picked at the edge of its values; "near" is how much worse the better neighbour is along the last
        of the grid, over the seeds that both ran; "grid" are the scores of all points, over the seeds that each ran.
        """
        tables = [np.full((math.prod(map(len, arm.grid.values())), len(SELECTION)), np.nan) for arm in arms]
        for what, seeds in (("all rates", range(TRIED)), ("the best", range(TRIED, len(SELECTION)))):
            cases, places = [], []
            for arm, table in zip(arms, tables, strict=True):
                points = list(product(*arm.grid.values()))
                if len(points) == 1:
                    continue
                who = list(range(len(points))) if seeds.start == 0 else _best(table)
                for at in range(0, len(who), AT_ONCE):
                    place = list(product(who[at : at + AT_ONCE], seeds))
                    runs = [{"seed": SELECTION[k], **dict(zip(arm.grid, points[i], strict=True))} for i, k in place]
                    cases.append(({**arm.labels, "stage": what}, {**arm.arguments, "runs": runs}))
                    places.append((arm, table, place))
            for (arm, table, place), case in zip(places, run(what, plain(cases)), strict=True):
                table[tuple(zip(*place, strict=True))] = _scores(arm, case["values"])
        return [_pick(arm, table) for arm, table in zip(arms, tables, strict=True)]


def middle(grid: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The point in the middle of a grid; of an even number the higher of the two."""
    return {name: values[len(values) // 2] for name, values in grid.items()}


def _scores(arm: Arm, values: Mapping[str, Sequence[float | None]]) -> np.ndarray:
    """Of each run the score; the larger the better."""
    found = np.array(values[arm.by], dtype=float)  # None becomes nan
    if arm.by == "steps_to":
        return -np.log(np.where(np.isfinite(found), found, arm.arguments["steps"]))
    return np.where(np.isfinite(found), found, 0.0)


def _best(table: np.ndarray) -> list[int]:
    """The points that are run over all selection seeds, in their order: the best by the seeds that have run."""
    order = np.argsort(-np.nanmean(table, 1), kind="stable")
    return sorted(order[: max(4, math.ceil(len(table) / 4))].tolist())


def _pick(arm: Arm, table: np.ndarray) -> dict[str, Any]:
    """What is picked by the scores of the points, one row each, over the selection seeds; nan where it was not run."""
    sizes = [len(values) for values in arm.grid.values()]
    if len(table) == 1:  # nothing was run
        table = np.zeros_like(table)
    means = np.where(np.isfinite(table).all(1), table.mean(1), -np.inf)
    best = np.unravel_index(int(np.argmax(means)), sizes)
    point = {name: values[int(i)] for (name, values), i in zip(arm.grid.items(), best, strict=True)}
    edge = [name for name, size, i in zip(arm.grid, sizes, best, strict=True) if size > 1 and i in (0, size - 1)]
    scores = table.reshape([*sizes, -1])
    row, j = (scores[best[:-1]], int(best[-1])) if sizes else (scores[None], 0)
    near = [np.nanmean(row[j] - row[k]) for k in (j - 1, j + 1) if 0 <= k < len(row)]
    told = np.nanmean(table, 1).reshape(sizes)
    told = np.exp(-told) if arm.by == "steps_to" else told
    return plain(
        {"labels": arm.labels, **point, "edge": edge, "near": float(min(near)) if near else None, "grid": told.tolist()}
    )


def _block(arm: Arm, pick: Mapping[str, Any], seeds: range) -> tuple[Labels, Settings]:
    point = {name: pick[name] for name in arm.grid}
    runs = [{"seed": seed, **point} for seed in seeds]
    return {**arm.labels, "seeds": [seeds.start, seeds.stop]}, {**arm.arguments, "runs": runs}


def _fits(arm: Arm, labels: Labels) -> bool:
    return all(arm.labels.get(name) == plain(value) for name, value in _of_arm(labels).items())


def _point(pick: Mapping[str, Any]) -> dict[str, float]:
    """The settings of a pick."""
    return {name: value for name, value in pick.items() if name not in ("edge", "near", "grid")}


def _word(name: str, label: Any) -> str:
    if isinstance(label, bool):
        return name if label else f"not {name}"
    return ", ".join(map(str, label)) if isinstance(label, list | tuple) else str(label)


def _of_arm(labels: Labels) -> dict[str, Any]:
    return {name: value for name, value in labels.items() if name != "of"}


def _without_seeds(labels: Labels) -> dict[str, Any]:
    return {name: value for name, value in labels.items() if name != "seeds"}
