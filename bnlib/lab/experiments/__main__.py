"""Make records: ``python -m bnlib.lab.experiments [--list] [--all] [--scheduler ADDRESS] [ID ...]``."""

import argparse
import sys
from collections.abc import Iterable
from contextlib import nullcontext

from bnlib._files import write_atomically
from bnlib.lab import records
from bnlib.lab.cluster import ClusterError, connected
from bnlib.lab.comparisons import Comparison
from bnlib.lab.experiments import (
    axes,
    batches,
    choosing,
    costs,
    design,
    direction,
    dispute,
    fixes,
    selu,
    serving,
    signals,
    speed,
    training,
    transformers,
    weights,
)
from bnlib.lab.records import Measurement, StaleRecordError
from bnlib.lab.train import progress


def by_id(experiments: Iterable[Measurement]) -> dict[str, Measurement]:
    """Experiments by their ids, which are the names of their records; a ValueError if two have the same."""
    found: dict[str, Measurement] = {}
    for experiment in experiments:
        if experiment.id in found:
            raise ValueError(f"two experiments are called {experiment.id!r}, and would share a record: rename one")
        found[experiment.id] = experiment
    return found


EXPERIMENTS = by_id(
    experiment
    for module in (
        signals,
        batches,
        fixes,
        training,
        speed,
        design,
        serving,
        dispute,
        direction,
        axes,
        weights,
        selu,
        transformers,
        choosing,
        costs,
    )
    for experiment in module.EXPERIMENTS
)


def state(experiment: Measurement) -> str:
    """What is the matter with an experiment's record; empty if it can be used."""
    try:
        record = records.measured(experiment, **experiment.settings)
    except StaleRecordError as fault:
        return str(fault)
    lacking = experiment.lacking(record, experiment.settings["seeds"]) if isinstance(experiment, Comparison) else []
    return f"{', '.join(lacking)} could be settled by more seeds: `make measure` goes on" if lacking else ""


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for, by default what has no record or a stale one."""
    parser = argparse.ArgumentParser(
        prog="python -m bnlib.lab.experiments", description="Run experiments and write their records."
    )
    parser.add_argument("id", nargs="*", help=f"one of {', '.join(EXPERIMENTS)}; by default those that need it")
    parser.add_argument("--all", action="store_true", help="all of them, from the start or from where it was stopped")
    parser.add_argument("--list", action="store_true", help="say how each record stands, and run nothing else")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster that runs the cases, or 'local': one on this machine"
    )
    given = parser.parse_args(arguments)
    if unknown := [id for id in given.id if id not in EXPERIMENTS]:
        parser.error(f"no experiment is called {', '.join(unknown)}: choose among {', '.join(EXPERIMENTS)}")
    if given.list:
        for id, experiment in EXPERIMENTS.items():
            print(f"{id}: {state(experiment) or 'stands'}")
        return 0
    try:
        with connected(given.scheduler) if given.scheduler else nullcontext() as engine:
            note, whole = records.note_of_all(), given.all and not given.id
            made = note.read_text(encoding="utf-8").split() if whole and note.exists() else []
            chosen = given.id or [id for id, e in EXPERIMENTS.items() if (id not in made if given.all else state(e))]
            with progress(total=len(made) + len(chosen), initial=len(made), desc="records", unit="record") as bar:
                for id in chosen:
                    bar.write(f"{id} -> {records.measure(EXPERIMENTS[id], engine=engine, again=given.all).name}")
                    bar.update()
                    if whole:
                        made.append(id)
                        write_atomically(note, "\n".join(made))
            if whole:
                note.unlink()
    except KeyboardInterrupt:
        print("stopped; the cases that are done are kept for the next time", file=sys.stderr)
        return 130
    except (PermissionError, ClusterError) as error:
        print(error, file=sys.stderr)
        return 1
    print("every record stands" if not chosen else f"{len(chosen)} measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
