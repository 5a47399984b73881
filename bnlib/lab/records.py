"""Measurements that take too long for a page: kept with their settings, and checked by a slice that is run live.

A record is ``bnlib/results/<id>.json``: the exact settings, the values of every case and seed, and the values of a
small slice of the measurement (few seeds, few steps, float64). Whoever loads it names the settings, which must be the
record's own, and the slice is run again and must agree: so changed code cannot go on quoting old numbers.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import platformdirs

from bnlib._files import write_atomically
from bnlib.lab.train import one_thread, progress

LIBRARY = Path(__file__).resolve().parent.parent
RESULTS = LIBRARY / "results"  # package data: they travel with the code that they speak for
RTOL, ATOL = 1e-6, 1e-9  # of a slice's values: float64 on another processor, a few steps in


def unfinished(library: Path) -> Path:
    """Where the cases that are done lie until their record is: in a clone's _build, else in the user's own cache."""
    if (library.parent / "_toc.yml").is_file():
        return library.parent / "_build" / "measure"
    return platformdirs.user_cache_path("bnlib", appauthor=False) / "measure"


UNFINISHED = unfinished(LIBRARY)

Settings = Mapping[str, Any]
Labels = Mapping[str, Any]
Values = dict[str, list[Any]]
Case = tuple[Labels, Settings]
Cases = Sequence[Case]
Runner = Callable[[str, Cases], list[dict[str, Any]]]  # given what the cases are, and the cases


class StaleRecordError(RuntimeError):
    """A record that is not there, or does not say what the code or the settings now say."""


@dataclass(frozen=True)
class Experiment:
    """A measurement as a list of cases, each of which can be run by itself, in another process too.

    Attributes
    ----------
    id : the record's name
    cases : cases(**settings) yields (labels, arguments) pairs; both can be written as JSON
    run : run(**arguments) gives lists of numbers by name, for instance one number per seed
    settings : those of the record
    live : what the slice sets differently, so that it is done in a second or two
    """

    id: str
    cases: Callable[..., Iterable[tuple[Labels, Settings]]]
    run: Callable[..., Values]
    settings: Settings
    live: Settings

    def measured(self, settings: Settings, run: Runner, standing: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a record of these settings holds: "values", of each case its labels and its values; all are run."""
        cases = plain(list(self.cases(**settings)))
        return {"values": run("", cases)}


class Measurement(Protocol):
    """What has a record: an :class:`Experiment`, or a :class:`bnlib.lab.comparisons.Comparison`."""

    @property
    def id(self) -> str:
        """The record's name."""
        ...

    @property
    def cases(self) -> Callable[..., Iterable[Case]]:
        """Of the slice, called with its settings."""
        ...

    @property
    def run(self) -> Callable[..., Values]:
        """What a case is run by."""
        ...

    @property
    def settings(self) -> Settings:
        """Those of the record."""
        ...

    @property
    def live(self) -> Settings:
        """What the slice sets differently."""
        ...

    def measured(self, settings: Settings, run: Runner, standing: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a record of these settings holds; standing is one with the same settings, whose values may be taken."""
        ...


@dataclass(frozen=True, eq=False)
class Record:
    """The values of a measurement, by the labels of their case.

    Attributes
    ----------
    id : the experiment's
    values : of each case its labels and its values
    picks : of each arm of a comparison its labels, and what :class:`bnlib.lab.comparisons.Comparison` says of its pick
    """

    id: str
    values: list[tuple[Labels, Values]]
    picks: list[tuple[Labels, dict[str, Any]]] = field(default_factory=list)

    def get(self, name: str, **labels: Any) -> np.ndarray:
        """The values of that name from the one case with these labels; what was not finite is infinite.

        Cases that differ in nothing but their "seeds" are one, with the values of all of them.

        Raises
        ------
        KeyError
            If no case has these labels, or more than one.
        """
        found = [(own, v) for own, v in self.values if _has(own, labels)]
        apart = [{k: w for k, w in own.items() if k != "seeds"} for own, _ in found]
        if not found or any(own != apart[0] for own in apart) or name not in found[0][1]:
            known = [dict(own) for own, _ in self.values[:3]]
            raise KeyError(
                f"record {self.id!r} has {len(found)} cases with {labels}"
                + (f", whose values are {sorted(found[0][1])}, not {name!r}" if found else f"; the first are {known}")
            )
        parts = sorted(((own.get("seeds", [0]), v[name]) for own, v in found), key=lambda part: part[0])
        return np.concatenate([np.array(values, dtype=float) for _, values in parts])

    def picked(self, **labels: Any) -> dict[str, Any]:
        """What was picked for the one arm with these labels.

        Raises
        ------
        KeyError
            If no arm has these labels, or more than one.
        """
        found = [pick for own, pick in self.picks if _has(own, labels)]
        if len(found) != 1:
            raise KeyError(
                f"record {self.id!r} has {len(found)} picks with {labels}; the first are "
                f"{[dict(own) for own, _ in self.picks[:3]]}"
            )
        return found[0]

    def best(self, by: str | Callable[[Values], float], **labels: Any) -> dict[str, Any]:
        """The labels of the best case among those with these labels; of equals the first.

        Such as the learning rate of each arm, picked on the validation set: ``record.best("val", norm="batch")``.

        Parameters
        ----------
        by : the name of the values whose mean is to be largest, or a function of a case's values that is to be largest
        labels : what the cases have in common

        Raises
        ------
        KeyError
            If no case has these labels.
        """
        cases = [(own, v) for own, v in self.values if _has(own, labels)]
        if not cases:
            raise KeyError(f"record {self.id!r} has no case with {labels}; the first is {dict(self.values[0][0])}")
        scores = [float(np.mean(v[by])) if isinstance(by, str) else by(v) for _, v in cases]
        return dict(cases[int(np.argmax(scores))][0])


def _has(own: Labels, labels: Labels) -> bool:
    return all(own.get(k) == plain(w) for k, w in labels.items())


def measured(experiment: Measurement, *, live: bool = False, **settings: Any) -> Record:
    """The values of an experiment with these settings, from its record.

    The settings must be exactly the record's; then the slice is run and compared with the record's own.

    Parameters
    ----------
    experiment : one of :mod:`bnlib.lab.experiments`
    live : run all of it here and now instead, with any settings, on all cores
    settings : all of the experiment's settings, by name

    Raises
    ------
    ValueError
        If a setting is missing or unknown.
    StaleRecordError
        If there is no record, if it was made with other settings, or if the slice disagrees.
    """
    settings = _checked(experiment, settings)
    if live:
        return read(experiment.id, experiment.measured(settings, _runner(experiment)))
    record = load(experiment.id)
    if differences := _differences(record["settings"], settings):
        raise StaleRecordError(
            f"the record of {experiment.id!r} was made with {differences}: use its settings, "
            "or give live=True to run yours here"
        )
    if fault := stale(experiment, record):
        raise StaleRecordError(
            f"{fault}: bnlib or a package that it computes with has changed; if that is meant, {_remedy(experiment.id)}"
        )
    return read(experiment.id, record)


def read(id: str, record: Mapping[str, Any]) -> Record:
    """A record from what stands in its file."""
    picks = [(pick["labels"], {k: v for k, v in pick.items() if k != "labels"}) for pick in record.get("picks", [])]
    return Record(id, _read(record["values"]), picks)


def load(id: str) -> dict[str, Any]:
    """The record of that name as it stands in its file.

    Raises
    ------
    StaleRecordError
        If there is none, or it is no record.
    """
    path = RESULTS / f"{id}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StaleRecordError(f"there is no record of {id!r}: {_remedy(id)}") from None
    except ValueError as error:
        raise StaleRecordError(f"{path.name} is not JSON ({error}): {_remedy(id)}") from None
    if not isinstance(record, dict) or set(record) - {"picks"} != {"id", "settings", "slice", "values"}:
        raise StaleRecordError(f"{path.name} is no record: {_remedy(id)}")
    return record


def stale(experiment: Measurement, record: Mapping[str, Any]) -> str:
    """What the slice, run now, says against a record; empty if they agree."""
    now = _in_turn(experiment, _slice(experiment, record["settings"]))
    return _disagreement(experiment, now, record["slice"])


def _disagreement(experiment: Measurement, slice_: list[dict[str, Any]], records: list[dict[str, Any]]) -> str:
    """What a slice says against a record's; empty if they agree."""
    now, then = _read(slice_), _read(records)
    if [labels for labels, _ in now] != [labels for labels, _ in then]:
        return f"the slice of {experiment.id!r} has other cases than its record's"
    for (labels, new), (_, old) in zip(now, then, strict=True):
        for name in sorted(new.keys() | old.keys()):
            a, b = np.array(new.get(name, []), dtype=float), np.array(old.get(name, []), dtype=float)
            if a.shape != b.shape or not np.allclose(a, b, RTOL, ATOL):
                return f"the slice of {experiment.id!r} gives {name} = {a} for {dict(labels)}, its record {b}"
    return ""


class Engine(Protocol):
    """What runs cases elsewhere: :class:`bnlib.lab.cluster.Cluster`."""

    @property
    def where(self) -> str:
        """Its address, for the progress bar."""
        ...

    def run(self, experiment: Measurement, cases: Sequence[tuple[int, Settings]]) -> Iterator[tuple[int, Values]]:
        """The values of each case, given by its number and its arguments, with that number, as they come."""
        ...


def measure(
    experiment: Measurement, jobs: int | None = None, engine: Engine | None = None, *, again: bool = False
) -> Path:
    """Run an experiment with its settings, and write its record.

    Finished cases are kept aside until the record is written: a run that was killed, or stopped by Ctrl-C, goes on
    where it was, unless bnlib has changed since. So does a comparison whose record stands but lacks seeds.

    Parameters
    ----------
    experiment : one of :mod:`bnlib.lab.experiments`
    jobs : processes on this machine; by default one for each core
    engine : runs the cases instead of them; the slice is run here
    again : run all of it, also what a record that stands has already

    Raises
    ------
    PermissionError
        Before anything is run, if what is measured could not be written.
    """
    for folder in (RESULTS, UNFINISHED):
        _check_writable(folder)
    settings = plain(experiment.settings)
    slice_ = _in_turn(experiment, _slice(experiment, settings))
    run = _runner(experiment, jobs, UNFINISHED, engine)
    values = experiment.measured(settings, run, None if again else _standing(experiment, settings, slice_))
    record = {"id": experiment.id, "settings": settings, "slice": slice_, **values}
    path = RESULTS / f"{experiment.id}.json"
    write_atomically(path, _text(record))
    for file in UNFINISHED.glob(f"{experiment.id}.*.json"):
        file.unlink(missing_ok=True)
    return path


def _remedy(id: str) -> str:
    """What brings a record into order, for whoever has bnlib: in a clone or from a wheel."""
    return f"run `python -m bnlib.lab.experiments {id}`, or give live=True, which computes here and now"


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionError(
            f"what is measured is written into {folder}, where you may not write ({error.strerror}): install bnlib "
            "into an environment of your own (python -m venv), or call measured(..., live=True), which writes nothing"
        ) from None


def _standing(experiment: Measurement, settings: Settings, slice_: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The experiment's record, if there is one with these settings that agrees with the slice as it is now."""
    try:
        record = load(experiment.id)
    except StaleRecordError:
        return None
    return None if record["settings"] != settings or _disagreement(experiment, slice_, record["slice"]) else record


def _runner(
    experiment: Measurement,
    jobs: int | None = None,
    aside: Path | None = None,
    engine: Engine | None = None,
) -> Runner:
    """What runs cases, on several cores or by an engine; with a folder for what is done."""

    def run(what: str, cases: Cases) -> list[dict[str, Any]]:
        done: dict[int, Values] = {}
        places = {}
        if aside is not None:
            aside.mkdir(parents=True, exist_ok=True)
            library = _library()
            for i, case in enumerate(cases):
                places[i] = aside / f"{experiment.id}.{_digest([case, library])}.json"
                if places[i].exists():
                    done[i] = json.loads(places[i].read_text(encoding="utf-8"))
        left = [(i, arguments) for i, (_, arguments) in enumerate(cases) if i not in done]
        work = engine.run(experiment, left) if engine else _on_cores(experiment, left, jobs)
        title = ", ".join(filter(None, (experiment.id, what))) + (f" on {engine.where}" if engine else "")
        with progress(total=len(cases), initial=len(done), desc=title, unit="case") as bar:
            for i, values in work:
                done[i] = values
                if aside is not None:
                    write_atomically(places[i], json.dumps(values, allow_nan=False))
                bar.update()
        return [{"labels": labels, "values": done[i]} for i, (labels, _) in enumerate(cases)]

    return run


def _on_cores(
    experiment: Measurement, cases: Sequence[tuple[int, Settings]], jobs: int | None
) -> Iterator[tuple[int, Values]]:
    from joblib import Parallel, delayed

    calls = (delayed(_case)(experiment, i, arguments) for i, arguments in cases)
    work = Parallel(n_jobs=jobs or os.cpu_count() or 1, return_as="generator_unordered")(calls)
    return cast(Iterator[tuple[int, Values]], work)


@one_thread()  # the cases share the cores
def _case(experiment: Measurement, i: int, arguments: Settings) -> tuple[int, Values]:
    return i, plain(experiment.run(**arguments))


@one_thread()
def _in_turn(experiment: Measurement, settings: Settings) -> list[dict[str, Any]]:
    cases = plain(list(experiment.cases(**settings)))
    return [{"labels": labels, "values": plain(experiment.run(**arguments))} for labels, arguments in cases]


def _slice(experiment: Measurement, settings: Settings) -> dict[str, Any]:
    return {**settings, **plain(experiment.live)}


def _checked(experiment: Measurement, settings: Settings) -> dict[str, Any]:
    if settings.keys() != experiment.settings.keys():
        missing = sorted(experiment.settings.keys() - settings.keys())
        unknown = sorted(settings.keys() - experiment.settings.keys())
        raise ValueError(
            f"experiment {experiment.id!r} has the settings {sorted(experiment.settings)}: "
            f"missing {missing}, unknown {unknown}"
        )
    return plain(settings)


def _differences(theirs: Settings, ours: Settings) -> str:
    return ", ".join(
        f"{name} = {theirs.get(name)}, not {ours.get(name)}"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    )


def plain(value: Any) -> Any:
    """The value as JSON gives it back: lists for tuples and arrays, None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value


def _read(values: list[dict[str, Any]]) -> list[tuple[Labels, Values]]:
    def infinite(v: Any) -> Any:
        return [infinite(w) for w in v] if isinstance(v, list) else math.inf if v is None else v

    return [(case["labels"], {name: infinite(v) for name, v in case["values"].items()}) for case in values]


def _text(record: Mapping[str, Any]) -> str:
    """A record as JSON with one case on each line, for people and for git."""

    def dump(value: Any) -> str:
        return json.dumps(value, allow_nan=False)

    parts = [f"{dump(key)}: {dump(record[key])}" for key in ("id", "settings")]
    for key in ("slice", "picks", "values"):
        if key in record:
            parts.append(f"{dump(key)}: [\n" + ",\n".join(map(dump, record[key])) + "\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def note_of_all() -> Path:
    """Where a measurement of all notes which records it has made: a file of its own for each state of bnlib."""
    return UNFINISHED / f"all.{_digest(_library())}.txt"


def _library() -> str:
    """A digest of bnlib's code."""
    return _digest([path.read_text(encoding="utf-8") for path in sorted(LIBRARY.rglob("*.py"))])
