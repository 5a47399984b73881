# What the notebook needs: named where it is missing, installed on Colab.
import os
import sys
from importlib.util import find_spec

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # the arrays are small: more threads would wait for each other
repository = ""  # owner/name on GitHub, in the notebooks that the site offers
needed = [name for name in ("bnlib", "torch", "tqdm") if not find_spec(name)]
if needed:
    source = f'"bnlib[live] @ git+https://github.com/{repository or "OWNER/NAME"}"'
    line = " ".join(["install", *(source if name == "bnlib" else name for name in needed)])
    if repository and "google.colab" in sys.modules:
        get_ipython().run_line_magic("pip", line)
    else:
        message = f"{' and '.join(needed)} not found. Run `%pip {line}` in a new cell, then go on."
        if "OWNER" in line:
            message += " bnlib is the book's package, OWNER/NAME the repository that the notebook is from"
            message += " (with a clone, give its folder in place of what stands in quotes)."
        raise ModuleNotFoundError(message)
