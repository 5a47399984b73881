"""The laboratory: networks that train by the lines of :mod:`bnlib.norms`; the only part that imports torch."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

NEEDS = ("platformdirs", "torch", "tqdm")  # beyond what bnlib by itself brings

if missing := [name for name in NEEDS if find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"bnlib.lab needs {', '.join(missing)}, which bnlib alone does not bring: pip install {' '.join(missing)}",
        name=missing[0],
    )

# The extra "lab" brings a torch that is new enough; one that was there before may not be. It is not imported for that.
with suppress(PackageNotFoundError):  # the site is built with a stand-in for it
    _installed = version("torch")
    if [int(part) for part in _installed.split(".")[:2]] < [2, 6]:
        raise ImportError(
            f'bnlib.lab needs torch 2.6 or newer, not {_installed}: pip install "torch>=2.6", then restart Python'
        )
