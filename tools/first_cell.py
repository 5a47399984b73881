# What the notebook needs: named where it is missing, installed on Colab.
import sys
from importlib.util import find_spec

needed = [name for name in ("bnlib", "torch", "tqdm") if not find_spec(name)]
repository = ""  # owner/name on GitHub, in the notebooks that the site offers
if needed:
    url = f"'bnlib @ git+https://github.com/{repository}'" if repository else "."
    line = " ".join(["install", *(url if name == "bnlib" else name for name in needed)])
    if repository and "google.colab" in sys.modules:
        get_ipython().run_line_magic("pip", line)
    else:
        where = ", in the folder of the book's repository," if url in line else ""
        raise ModuleNotFoundError(
            f"{' and '.join(needed)} not found (bnlib is the book's own package). "
            f"Run `pip {line}`{where} and restart the kernel."
        )
