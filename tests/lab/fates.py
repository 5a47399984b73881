"""How the ranks of test_launch.py end: functions that a new process can import."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist


def fate(rank: int, folder: str, how: str) -> None:
    """Rank 1 ends as told, while the others wait for it in an all-reduce."""
    Path(folder, f"{rank}").write_text(str(os.getpid()))
    if how == "both raise":
        dist.all_reduce(torch.ones(3))
        time.sleep(0 if rank == 1 else 0.25)
        raise ValueError(f"rank {rank} is the cause")
    if rank == 1:
        if how == "exits":
            os._exit(3)
        if how == "raises":
            raise ValueError("this rank's data are missing")
        time.sleep(600)
    try:
        dist.all_reduce(torch.ones(3))
    except RuntimeError as error:
        Path(folder, "error.part").write_text(str(error))
        Path(folder, "error.part").rename(Path(folder, "error"))
        raise


def alone(rank: int, how: str) -> Any:
    """One rank that is killed, or that returns what cannot be pickled."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return lambda: rank
