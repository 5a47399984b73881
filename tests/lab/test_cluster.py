"""A cluster gives the record that this machine gives, and whatever dies, nothing is lost and nothing counted twice."""

import _thread
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from threadpoolctl import threadpool_info

import bnlib
from bnlib.lab import cluster, records
from bnlib.lab.cluster import Cluster, ClusterError, connected
from bnlib.lab.experiments import __main__ as command
from bnlib.lab.experiments import trained
from bnlib.lab.records import Experiment, measure

LONG = 120.0  # seconds that a busy machine may take


def cases(folder: str, n: int):
    """n cases. Criterion: none."""
    for k in range(n):
        yield {"k": k}, {"k": k, "folder": folder}


def run(*, k: int, folder: str) -> dict[str, list[float]]:
    """What is run is noted, with its process; by files a test makes case k fail, die or wait."""
    there = Path(folder)
    with (there / "calls").open("a") as file:
        file.write(f"{k} {os.getpid()}\n")
    if (there / f"fail-{k}").exists():
        raise ValueError(f"case {k} cannot be run")
    if (there / f"die-{k}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for(lambda: not (there / f"hold-{k}").exists())
    threads = {torch.get_num_threads()} | {pool["num_threads"] for pool in threadpool_info()}
    return {"value": [k / 7], "threads": sorted(threads)}


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


class Folder:
    """Where the cases of a test note what they do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.toy = Experiment("toy", cases, run, {"folder": str(path), "n": 4}, {"n": 1})

    def calls(self) -> list[tuple[int, int]]:
        """The cases that were begun, each with its process; the first is the slice's."""
        text = (self.path / "calls").read_text() if (self.path / "calls").exists() else ""
        return [(int(k), int(process)) for k, process in map(str.split, text.splitlines()[1:])]

    def begun(self) -> list[int]:
        return sorted(k for k, _ in self.calls())

    def process(self, k: int) -> int:
        """The process in which case k has begun."""
        wait_for(lambda: k in self.begun())
        return dict(self.calls())[k]

    def forget(self) -> None:
        (self.path / "calls").unlink(missing_ok=True)

    def order(self, name: str) -> Path:
        (self.path / name).touch()
        return self.path / name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(records, "UNFINISHED", tmp_path / "unfinished")
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def local() -> Iterator[Cluster]:
    """Two processes of this machine, which are started again when they die; a case may take two of them with it."""
    import dask.config

    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), connected("local", workers=2) as there:
        yield there


def tasks(local: Cluster) -> dict[object, object]:
    """What the scheduler knows, which is a part of this process."""
    return cast(Any, local.client).cluster.scheduler.tasks


@contextmanager
def process(*arguments: str, python_path: Path = Path(bnlib.__file__).parents[1]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of `dask`, in which bnlib is found there and this file, too; it is killed in the end."""
    path = [str(python_path), str(Path(__file__).parent), *filter(None, sys.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "2"}
    command, nothing = [sys.executable, "-m", "dask", *arguments], subprocess.DEVNULL
    # -m looks into the working directory first
    with subprocess.Popen(command, cwd=python_path, env=environment, stdout=nothing, stderr=nothing) as started:
        try:
            yield started
        finally:
            started.kill()


def absent(where: Path) -> Path:
    """A bnlib that cannot be imported."""
    (where / "bnlib.py").write_text("raise ModuleNotFoundError('No module named bnlib')")
    return where


@contextmanager
def scheduler(where: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler, which has no bnlib: its address and its process."""
    said = where / "scheduler.json"
    said.unlink(missing_ok=True)
    options = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    with process("scheduler", *options, "--scheduler-file", str(said), python_path=absent(where)) as it:
        wait_for(lambda: said.exists() and said.read_text().rstrip().endswith("}"))
        yield json.loads(said.read_text())["address"], it


def worker(address: str, *more: str, **how: Path):
    return process("worker", address, "--no-nanny", "--no-dashboard", *(more or ("--nthreads", "1")), **how)


# What comes out


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_cluster_writes_the_record_that_this_machine_writes(local: Cluster, folder: Folder, dtype: str):
    def learn(seeds: int, dtype: str):
        for norm in ("none", "batch"):
            runs = [{"seed": seed, "lr": 0.3} for seed in range(seeds)]
            yield {"norm": norm}, {"spec": {"widths": [9], "norm": norm}, "runs": runs, "steps": 30, "dtype": dtype}

    experiment = Experiment("learn", learn, trained, {"seeds": 3, "dtype": dtype}, {"seeds": 1, "dtype": "float64"})
    here = measure(experiment, jobs=1).read_bytes()
    assert measure(experiment, engine=local).read_bytes() == here


def test_each_case_is_run_once_on_one_thread_and_the_bar_says_where(
    local: Cluster, folder: Folder, monkeypatch: pytest.MonkeyPatch
):
    bars = []
    progress = records.progress
    monkeypatch.setattr(records, "progress", lambda **about: bars.append(about) or progress(**about))
    path = measure(folder.toy, engine=local)
    assert folder.begun() == [0, 1, 2, 3]
    assert os.getpid() not in dict(folder.calls()).values()
    values = [case["values"] for case in records.load("toy")["values"]]
    assert values == [{"value": [round(k / 7, 9)], "threads": [1]} for k in range(4)]
    assert list(records.UNFINISHED.iterdir()) == []
    assert path == records.RESULTS / "toy.json"
    where = f"{local.address} ({local.client.dashboard_link})"
    assert bars == [{"total": 4, "initial": 0, "desc": f"toy on {where}", "unit": "case"}]


# What dies


def test_a_case_whose_worker_was_killed_is_run_again_and_counted_once(local: Cluster, folder: Folder):
    expected = measure(folder.toy, jobs=1).read_bytes()
    folder.forget()
    hold = folder.order("hold-2")

    def kill() -> None:
        victim = folder.process(2)
        wait_for(lambda: len(tasks(local)) == 1)  # the others are done, and their results fetched
        os.kill(victim, signal.SIGKILL)
        hold.unlink()

    with ThreadPoolExecutor() as pool:
        killing = pool.submit(kill)
        assert measure(folder.toy, engine=local).read_bytes() == expected
        killing.result()
    assert folder.begun() == [0, 1, 2, 2, 3]


def test_a_case_that_kills_its_workers_ends_in_an_error_that_names_it(local: Cluster, folder: Folder):
    order = folder.order("die-3")
    with pytest.raises(ClusterError, match=r"case 3 of 'toy' was given up: 2 workers died while they had it.*are kept"):
        measure(folder.toy, engine=local)
    begun = folder.begun()
    assert {*begun} == {0, 1, 2, 3}
    assert begun.count(3) == 2  # of the others one may run again, whose result was still on the worker that died
    order.unlink()
    folder.forget()
    measure(folder.toy, engine=local)
    assert folder.begun() == [3]


def test_what_a_case_raises_is_raised_here(local: Cluster, folder: Folder):
    folder.order("fail-1")
    with pytest.raises(ValueError, match="case 1 cannot be run"):
        measure(folder.toy, engine=local)


@pytest.fixture
def own_handler() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, whatever a loop that another test has left running would do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_keeps_what_is_done_and_leaves_the_cluster_to_others(local: Cluster, folder: Folder, own_handler: None):
    holds = [folder.order("hold-2"), folder.order("hold-3")]

    def stop() -> None:
        for k in (2, 3):
            folder.process(k)
        wait_for(lambda: len(list(records.UNFINISHED.glob("toy.*.json"))) == 2)
        _thread.interrupt_main()

    with ThreadPoolExecutor() as pool:
        stopping = pool.submit(stop)
        with pytest.raises(KeyboardInterrupt):
            measure(folder.toy, engine=local)
        stopping.result()
    for hold in holds:
        hold.unlink()
    folder.forget()
    measure(folder.toy, engine=local)
    assert folder.begun() == [2, 3]


def test_a_scheduler_that_was_killed_loses_only_what_was_under_way(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    expected = measure(folder.toy, jobs=1).read_bytes()
    monkeypatch.setattr(command, "EXPERIMENTS", {"toy": folder.toy})
    folder.forget()
    hold = folder.order("hold-2")

    def kill(scheduler: subprocess.Popen[bytes]) -> None:
        folder.process(2)
        wait_for(lambda: len(list(records.UNFINISHED.glob("toy.*.json"))) == 2)
        scheduler.kill()

    with scheduler(folder.path) as (address, it), worker(address), ThreadPoolExecutor() as pool:
        killing = pool.submit(kill, it)
        assert command.main(["toy", "--scheduler", address]) == 1
        killing.result()
    assert "the scheduler was lost: the cases that are done are kept" in capsys.readouterr().err

    assert command.main(["toy", "--scheduler", address]) == 1
    assert f"no Dask scheduler answers at '{address}'" in capsys.readouterr().err
    assert folder.begun() == [0, 1, 2]

    hold.unlink()
    folder.forget()
    with scheduler(folder.path) as (address, _), worker(address):
        assert command.main(["toy", "--scheduler", address]) == 0
    assert folder.begun() == [2, 3]
    assert (records.RESULTS / "toy.json").read_bytes() == expected


# What is refused


@pytest.fixture(scope="module")
def scheduler_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scheduler(tmp_path_factory.mktemp("scheduler")) as (address, _):
        yield address


def changed(where: Path) -> Path:
    """A copy of bnlib that differs from it by a comment."""
    shutil.copytree(records.LIBRARY, where / "bnlib", ignore=shutil.ignore_patterns("results", "__pycache__"))
    with (where / "bnlib" / "norms.py").open("a") as file:
        file.write("# changed\n")
    return where


REFUSED = {
    "other code": (
        changed,
        (),
        r"at tcp://\S+ has bnlib \S+ \(code \w+\), not bnlib \S+ \(code \w+\): install",
    ),
    "no bnlib": (absent, (), r"at tcp://\S+ cannot import the laboratory of bnlib .*No module named bnlib"),
    "two threads": (
        None,
        ("--nthreads", "2"),
        r"at tcp://\S+ would run 2 cases in one .* --nworkers 2 --nthreads 1",
    ),
}


@pytest.mark.parametrize(("make", "options", "message"), REFUSED.values(), ids=list(REFUSED))
def test_a_worker_of_another_kind_runs_nothing_whenever_it_joins(
    scheduler_alone: str,
    folder: Folder,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], Path] | None,
    options: tuple[str, ...],
    message: str,
):
    (folder.path / "other").mkdir()
    other = {"python_path": make(folder.path / "other")} if make else {}
    with connected(scheduler_alone) as there, ThreadPoolExecutor() as pool:
        early = pool.submit(measure, folder.toy, engine=there)
        wait_for(lambda: "has no worker yet" in capsys.readouterr().err)
        with worker(scheduler_alone, *options, **other):
            with pytest.raises(ClusterError, match=message):  # the cases were there before the worker
                early.result()
            with pytest.raises(ClusterError, match=message):  # and now it is there before them
                measure(folder.toy, engine=there)
        wait_for(lambda: there.check() == 0)
    assert folder.begun() == [0]  # which is the second slice


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"torch": "2.6.0", "Python": "3.12"},
            "has Python 3.12, torch 2.6.0, not Python 3.11, torch 2.7.0: inst",
        ),
        ({"threads": "4"}, "start it as `dask worker ... --nworkers 4 --nthreads 1`"),
        ({}, ""),
    ],
)
def test_a_worker_is_told_what_it_lacks(told: dict[str, str], message: str):
    wanted = {"bnlib": "0.1.0 (code 12)", "Python": "3.11", "torch": "2.7.0"}
    fault = cluster._fault("tcp://10.0.0.5:1", {**wanted, "threads": "1", **told}, wanted)
    assert message in fault
    assert bool(message) == bool(fault)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nonsense", "missing port"),
        ("http://10.0.0.5:80", "unknown address scheme"),
        ("tcp://127.0.0.1:9", "Timed out"),
    ],
)
def test_an_address_without_a_scheduler_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, address: str, reason: str):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with pytest.raises(ClusterError, match=rf"no Dask scheduler answers at '{address}' \({reason}.*give its address"):  # noqa: SIM117
        with connected(address):
            pass


def test_without_distributed_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match="needs distributed: pip install distributed"), connected("local"):
        pass
