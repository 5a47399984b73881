"""Run the cases of a measurement on a Dask cluster.

A case travels as bytes, which only a worker reads, so the scheduler needs no bnlib. A worker says which code it has
loaded before it runs a case, since workers come and go, and one process may live through many versions of a file.
"""

import asyncio
import logging
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import bnlib
from bnlib.lab import records
from bnlib.lab.records import Measurement, Settings, Values

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

PATIENCE = 5.0  # seconds for a scheduler to answer, also when the connection to it was lost
LOADED = records._library()  # the code as this process has it, whatever becomes of the files
NUMERIC = ("numpy", "scipy", "scikit-learn", "torch")

# A worker is given its next case when it is done, so its death counts against the one that it ran alone.
LOCAL = {"distributed.scheduler.worker-saturation": 1.0}


class ClusterError(RuntimeError):
    """A cluster that cannot be reached, was lost, or must not run a case; the cases that are done are kept."""


@dataclass(frozen=True)
class Cluster:
    """A scheduler with its workers, of which each runs one case at a time."""

    client: "Client"
    address: str  # the scheduler's

    @property
    def where(self) -> str:
        """The scheduler's address, and its dashboard's where it has one."""
        link = ""
        with suppress(KeyError):  # which means that it has none
            link = self.client.dashboard_link
        return f"{self.address} ({link})" if link else self.address

    def check(self) -> int:
        """How many workers there are, all of which can run a case.

        Raises
        ------
        ClusterError
            If one of them has other code or packages than this process, none at all, or more than one thread.
        """
        found = cast(dict[str, dict[str, str] | Exception], self.client.run(_told, on_error="return"))
        wrong = [fault for address, said in found.items() if (fault := _fault(address, said, here()))]
        if wrong:
            more = f"\nand {len(wrong) - 3} more" if wrong[3:] else ""
            raise ClusterError("\n".join(wrong[:3]) + more)
        return len(found)

    def run(self, experiment: Measurement, cases: Sequence[tuple[int, Settings]]) -> Iterator[tuple[int, Values]]:
        """The values of each case with its number, as they come.

        A case whose worker died is run again by another, as often as the scheduler's ``allowed-failures`` say.

        Parameters
        ----------
        experiment : whose ``run`` the workers can import, or cloudpickle can carry
        cases : the number and the arguments of each

        Raises
        ------
        ClusterError
            If the scheduler was lost, if a worker has other code, or if a case ended every worker that ran it.
        """
        from cloudpickle import dumps
        from distributed import as_completed

        if not self.check():
            print(f"{self.address} has no worker yet: the cases wait for one", file=sys.stderr, flush=True)
        calls = [dumps(_Call(_case, (here(), experiment, i, arguments))) for i, arguments in cases]
        futures = self.client.map(pickle.loads, calls, key=experiment.id, pure=False)
        numbers = {future.key: i for future, (i, _) in zip(futures, cases, strict=True)}
        try:
            for future in as_completed(futures, loop=self.client.loop):
                result = self._result(future, f"case {numbers[future.key]} of {experiment.id!r}")
                future.release()  # or it would be run again when the worker that still has the result dies
                yield result
        finally:
            for future in futures:  # nobody wants what is left, and the workers are free for others
                future.release()

    def _result(self, future: "Future", case: str) -> tuple[int, Values]:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise ClusterError(
                f"{case} was given up: {error.allowed_failures + 1} workers died while they had it, the last at "
                f"{error.last_worker.address}; its log may say why (memory, a time limit). "
                "The cases that are done are kept"
            ) from None
        except ClusterError:
            raise
        except Exception as error:
            if isinstance(error, CancelledError) or self.client.status != "running":
                raise ClusterError(
                    "the scheduler was lost: the cases that are done are kept; "
                    "start it again, or another, and run the same command with its address"
                ) from None
            self.check()  # a worker that has no bnlib, or quite another, cannot even say so
            raise


@contextmanager
def connected(scheduler: str, workers: int | None = None) -> Iterator[Cluster]:
    """A cluster to run cases on.

    Parameters
    ----------
    scheduler : the address of a scheduler, such as "tcp://10.0.0.5:8786", or "local": processes of this machine
    workers : of "local"; by default one for each core

    Raises
    ------
    ClusterError
        If distributed is not installed, or no scheduler answers at that address.
    """
    if find_spec("distributed") is None:
        raise ClusterError("to run on a cluster bnlib needs distributed: pip install distributed")
    import dask.config
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if scheduler == "local":
            with dask.config.set(LOCAL):
                own = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=0,  # none, as without a cluster
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,  # what goes wrong in a case is raised here
                )
            stack.enter_context(own)
            client, address = Client(own, set_as_default=False), own.scheduler_address
        else:
            _probe(scheduler)
            client, address = Client(scheduler, timeout=PATIENCE, set_as_default=False), scheduler
        yield Cluster(stack.enter_context(client), address)


def _probe(address: str) -> None:
    """See that a scheduler answers: a Client waits forever for what is none, and one that failed does not close."""
    from distributed import Security
    from distributed.comm.core import connect

    async def ask() -> None:
        comm = await connect(address, timeout=PATIENCE, **Security().get_connection_args("client"))
        await comm.close()

    try:
        with ThreadPoolExecutor(1) as apart:  # in a notebook this thread has a running loop already
            apart.submit(asyncio.run, asyncio.wait_for(ask(), 1.5 * PATIENCE)).result()
    except (OSError, ValueError) as error:
        reason = str(error) or "something is there, and silent"
        raise ClusterError(
            f"no Dask scheduler answers at {address!r} ({reason}): give its address, such as tcp://10.0.0.5:8786, "
            "which it prints when it starts, or 'local' for processes of this machine"
        ) from None


def here() -> dict[str, str]:
    """What a case's values depend on in this process: the code of bnlib that is loaded, Python, and packages."""
    return {
        "bnlib": f"{bnlib.__version__} (code {LOADED})",
        "Python": ".".join(map(str, sys.version_info[:2])),
        **{name: _version(name) for name in NUMERIC},
    }


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]  # which device a build is for does not matter
    except PackageNotFoundError:
        return "none"


def _told(dask_worker: "Worker") -> dict[str, str]:
    """What a worker says of itself."""
    return here() | {"threads": str(dask_worker.state.nthreads)}


def _fault(address: str, told: Mapping[str, str] | Exception, wanted: Mapping[str, str]) -> str:
    """Why the worker that told this must not run a case; empty if it may."""
    if isinstance(told, Exception):
        return (
            f"the worker at {address} cannot import the laboratory of bnlib {wanted['bnlib']} ({told}): "
            "install it there, then start the worker again"
        )
    if other := [name for name in wanted if told[name] != wanted[name]]:
        theirs = ", ".join(f"{name} {told[name]}" for name in other)
        ours = ", ".join(f"{name} {wanted[name]}" for name in other)
        return f"the worker at {address} has {theirs}, not {ours}: install these there, then start the worker again"
    if (threads := told["threads"]) != "1":
        return (
            f"the worker at {address} would run {threads} cases in one process, which share its threads: "
            f"start it as `dask worker ... --nworkers {threads} --nthreads 1`"
        )
    return ""


@dataclass(frozen=True)
class _Call:
    """A call that is made where its bytes are read."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def _case(wanted: Mapping[str, str], experiment: Measurement, i: int, arguments: Settings) -> tuple[int, Values]:
    """On a worker: the case, if this worker may run it."""
    from distributed import get_worker

    worker = get_worker()
    if fault := _fault(worker.address, _told(worker), wanted):
        raise ClusterError(fault)
    return records._case(experiment, i, arguments)
