"""Processes that were launched together end together, whatever becomes of one of them."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import fates
import pytest

from bnlib.lab import launch


def assert_gone(folder: Path) -> None:
    """No rank is left, not even as a zombie, to which a signal could still be sent."""
    ranks = [int((folder / f"{rank}").read_text()) for rank in range(2)]
    # Other tests may have left workers of joblib, which end when they have had nothing to do for some time.
    assert not {child.pid for child in multiprocessing.active_children()} & {*ranks}
    for rank in ranks:
        with pytest.raises(ProcessLookupError):
            os.kill(rank, 0)


# A rank waits for the others as long as the launcher does, and LEEWAY: if it is negative, a rank gives up first.
@pytest.mark.parametrize(
    ("how", "timeout", "leeway", "message"),
    [
        ("exits", 600, -580, "rank 1 of 2 died with exit code 3; the other ranks were stopped"),
        (
            "raises",
            600,
            -580,
            "rank 1 of 2 raised ValueError: this rank's data are missing; the other ranks were stopped",
        ),
        ("both raise", 600, -580, "rank 1 of 2 raised ValueError: rank 1 is the cause"),
        ("hangs", 3, launch.LEEWAY, "rank 0 of 2, rank 1 of 2 had not finished after 3 s, and all ranks were stopped:"),
    ],
)
def test_the_fate_of_one_rank_ends_all(
    tmp_path, capfd, monkeypatch, how: str, timeout: float, leeway: float, message: str
):
    monkeypatch.setattr(launch, "LEEWAY", leeway)
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}") as caught:
        launch.launch(fates.fate, 2, str(tmp_path), how, timeout=timeout)
    assert_gone(tmp_path)
    if how != "exits":  # which breaks off what rank 0 waits for
        assert not (tmp_path / "error").exists(), "rank 0 was not ended, it gave up by itself"
    if how == "raises":
        (note,) = caught.value.__notes__
        assert note.splitlines()[-1] == "ValueError: this rank's data are missing"
        assert "in fate" in note
    assert capfd.readouterr() == ("", "")


def test_a_rank_gives_up_by_itself_when_the_launching_process_is_gone(tmp_path):
    call = f"launch.launch(fates.fate, 2, {str(tmp_path)!r}, 'hangs', timeout=600)"
    code = f"import fates; from bnlib.lab import launch; launch.LEEWAY = -595; {call}"
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with (tmp_path / "stderr").open("w") as stderr:
        parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": here}, stderr=stderr)
        wait_for(tmp_path / "1")
        wait_for(tmp_path / "0")
        parent.kill()
        parent.wait()
    wait_for(tmp_path / "error")
    os.kill(int((tmp_path / "1").read_text()), signal.SIGKILL)  # it only sleeps
    assert "Timed out waiting 5000ms" in (tmp_path / "error").read_text()
    assert (tmp_path / "stderr").read_text() == ""


def wait_for(path: Path) -> None:
    end = time.monotonic() + launch.START
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} did not come within {launch.START:g} s"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("killed", "rank 0 of 1 was killed by SIGKILL"),
        ("returns", "rank 0 of 1 raised TypeError: what it returned cannot be sent back"),
    ],
)
def test_a_single_rank(how: str, message: str):
    with pytest.raises(RuntimeError, match=message):
        launch.launch(fates.alone, 1, how)


def test_what_cannot_be_launched():
    with pytest.raises(ValueError, match="define the function at the top of a module"):
        launch.launch(lambda rank: rank, 2)
    with pytest.raises(ValueError, match="0 ranks"):
        launch.launch(fates.alone, 0, "killed")
    with pytest.raises(ValueError, match="in 0 s"):
        launch.launch(fates.alone, 1, "killed", timeout=0)
