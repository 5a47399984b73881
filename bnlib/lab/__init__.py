"""The laboratory: networks that train by the lines of :mod:`bnlib.norms`; the only part that imports torch."""

from importlib.util import find_spec

NEEDS = ("platformdirs", "torch", "tqdm")  # beyond what bnlib by itself brings

if missing := [name for name in NEEDS if find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"bnlib.lab needs {', '.join(missing)}, which bnlib alone does not bring: pip install {' '.join(missing)}",
        name=missing[0],
    )
