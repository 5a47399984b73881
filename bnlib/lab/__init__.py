"""The laboratory: networks that train by the lines of :mod:`bnlib.norms`; the only part that imports torch."""

from importlib.util import find_spec

NEEDS = ("platformdirs", "torch", "tqdm")  # beyond what bnlib by itself brings

if missing := [name for name in NEEDS if find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"bnlib.lab needs {', '.join(missing)}, which bnlib alone does not bring: pip install {' '.join(missing)}",
        name=missing[0],
    )

import torch  # noqa: E402

# The extra "lab" brings one that is new enough; one that was there before may not be. The string compares as versions
# do. While the site is built it is none, since that has a stand-in for torch.
if isinstance(torch.__version__, str) and torch.__version__ < "2.6":
    raise ImportError(
        f'bnlib.lab needs torch 2.6 or newer, not {torch.__version__}: pip install "torch>=2.6", then restart Python'
    )
