"""Processes that form a process group: started together, heard together, and ended together, whatever one of them does.

:func:`launch` is for a few ranks on one machine, as in a test or in a chapter.
"""

import os
import pickle
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

START = 300.0  # seconds that the processes may take to import what they need, on a busy machine
GRACE = 0.5  # seconds in which a rank's death may come to light after its consequences in other ranks
LEEWAY = 30.0  # seconds that a rank waits for the others beyond the time-out: who launched it is to end it first


def launch(function: Callable[..., Any], ranks: int, *args: Any, timeout: float = 60.0) -> list[Any]:
    """Call ``function(rank, *args)`` in so many new processes, which form a process group, and collect the results.

    The processes are started by "spawn", which imports the function anew: it must stand at the top of a module, not in
    a notebook. They talk through gloo, on this machine alone, and compute with one thread each. Where there are as many
    GPUs as ranks, tensors on them go through nccl instead, and rank r has device r as its current one (not tested).

    If a rank raises or dies, or if they have not all returned in time, all are ended before the error is raised. If
    this process is gone by then, a rank gives up by itself, 30 s after a wait for another has lasted the time-out.

    Parameters
    ----------
    function : importable; its results and ``args`` can be pickled
    ranks : how many processes
    timeout : seconds that the function may take, counted from when all processes are up (which takes some seconds)

    Returns
    -------
    results : what the function returned, in the order of the ranks

    Raises
    ------
    RuntimeError
        If a rank raises or dies, with its number and the exception, the signal or the exit code; or if ranks do not end
        in time. A rank's traceback is added to an exception's as a note.
    ValueError
        If there is no rank, if the time-out is not positive, or if the function or its arguments cannot be pickled.
    """
    if ranks < 1 or not timeout > 0:
        raise ValueError(f"{ranks} ranks in {timeout} s: at least one rank and a positive time-out are needed")
    try:
        call = pickle.dumps((function, args))  # here, because multiprocessing would share the memory of tensors
    except Exception as error:
        raise ValueError(
            f"{function} or its arguments cannot be sent to another process ({error}): "
            "define the function at the top of a module that can be imported"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        team = _Team(ranks, call, timeout + LEEWAY, str(Path(folder, "store")))
        try:
            team.hear(START, "had not started")
            team.say("go")
            results = team.hear(timeout, "had not finished")
            team.say("leave")  # only now: a rank that leaves would break off what others still receive
            team.join()
            return [pickle.loads(result) for result in results]
        finally:
            team.end()


class _Team:
    """The processes of one launch, and a pipe to each. In a collective call a rank waits ``patience`` seconds."""

    def __init__(self, ranks: int, call: bytes, patience: float, store: str) -> None:
        context = get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes: list[BaseProcess] = []
        try:
            for rank in range(ranks):
                here, there = context.Pipe()
                process = context.Process(target=_member, args=(rank, ranks, there, call, patience, store), daemon=True)
                self.pipes.append(here)
                process.start()
                self.processes.append(process)
                there.close()  # then a rank's death ends its pipe
        except BaseException:
            self.end()
            raise

    def say(self, word: str) -> None:
        """Send a word to all; who has died meanwhile is found by the next hear."""
        for pipe in self.pipes:
            try:
                pipe.send(word)
            except OSError:
                continue

    def hear(self, timeout: float, late: str) -> list[bytes]:
        """The next message of each rank, or a RuntimeError with the first cause why there is none."""
        heard: dict[int, bytes] = {}
        raised: dict[int, tuple[float, str, str]] = {}
        dead: list[int] = []
        deadline = time.monotonic() + timeout
        while len(heard) < len(self.pipes):
            waiting = {self.pipes[r]: r for r in range(len(self.pipes)) if r not in {*heard, *raised, *dead}}
            ready = wait(list(waiting), max(0.0, deadline - time.monotonic()))
            for pipe in ready:
                rank = waiting[pipe]  # type: ignore[index]
                try:
                    kind, content = self.pipes[rank].recv()
                except (EOFError, OSError):
                    dead.append(rank)
                    continue
                if kind == "raised":
                    raised[rank] = content
                else:
                    heard[rank] = content
            if dead:  # a rank that left nothing is the cause of what the others say
                raise RuntimeError(f"{self._name(dead[0])} {self._end_of(dead[0])}{self._rest()}")
            if raised and not ready:
                break
            if raised:  # others may say more, or have died before
                deadline = min(deadline, time.monotonic() + GRACE)
            elif not ready:
                missing = [rank for rank in range(len(self.pipes)) if rank not in heard]
                raise RuntimeError(
                    f"{', '.join(self._name(rank) for rank in missing)} {late} after {timeout:g} s, and all ranks were "
                    "stopped: a rank hangs, or waits in a collective call (an all-reduce, a backward pass) that "
                    "another does not make"
                )
        if raised:
            rank = min(raised, key=lambda r: raised[r][0])
            _, line, trace = raised[rank]
            error = RuntimeError(f"{self._name(rank)} raised {line}{self._rest()}")
            error.add_note(trace)
            raise error
        return [heard[rank] for rank in range(len(self.pipes))]

    def join(self) -> None:
        """Wait until all have left by themselves."""
        for process in self.processes:
            process.join(10)

    def end(self) -> None:
        """Leave no process behind, whatever it does."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
            process.close()
        for pipe in self.pipes:
            pipe.close()

    def _name(self, rank: int) -> str:
        return f"rank {rank} of {len(self.pipes)}"

    def _rest(self) -> str:
        return "; the other ranks were stopped" if len(self.pipes) > 1 else ""

    def _end_of(self, rank: int) -> str:
        process = self.processes[rank]
        process.join(10)  # its pipe may end before it does
        code = process.exitcode
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"died with exit code {code}"


def _member(rank: int, ranks: int, pipe: Connection, call: bytes, patience: float, store: str) -> None:
    """The life of one rank: its work, its message to the launching process, and no end before it is told to."""
    try:
        message = "returned", _work(rank, ranks, pipe, call, patience, store)
    except BaseException as error:
        trace = "".join(traceback.format_exception(error))
        message = "raised", (time.time(), f"{type(error).__name__}: {error}", trace)
    try:
        pipe.send(message)
        pipe.recv()  # the end of a rank that raised would make the others raise, and hide the cause
    except (EOFError, OSError):  # the launching process is gone
        os._exit(1)
    if dist.is_initialized():
        dist.destroy_process_group()


def _work(rank: int, ranks: int, pipe: Connection, call: bytes, patience: float, store: str) -> bytes:
    """Meet the other ranks and call the function."""
    function, args = pickle.loads(call)
    torch.set_num_threads(1)
    pipe.send(("ready", b""))
    pipe.recv()
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if loopback:  # the ranks share a machine: no name to look up, no port open to others
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    backend = "gloo"
    if dist.is_nccl_available() and torch.cuda.device_count() >= ranks:
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(rank)
    dist.init_process_group(
        backend,
        store=dist.FileStore(store, ranks),  # pyright: ignore[reportPrivateImportUsage]
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=patience),
    )
    result = function(rank, *args)
    try:
        return pickle.dumps(result)
    except Exception as error:
        raise TypeError(
            f"what it returned cannot be sent back ({error}): return numbers, tensors or arrays, in lists or dicts"
        ) from error
