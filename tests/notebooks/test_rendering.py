"""What the guard demands of a notebook is what the site reads: description, alt text, caption and name."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from nbformat import NotebookNode


def test_the_metadata_arrives_on_the_page(good: NotebookNode, save: Callable[[NotebookNode], Path], tmp_path: Path):
    folder = save(good).parent
    options = {
        "extensions": "myst_nb,sphinx_exercise",
        "master_doc": "chapter",
        "nb_execution_mode": "off",
        "suppress_warnings": "mystnb.unknown_mime_type",
    }
    settings = [f"-D{key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-C", *settings, str(folder), str(tmp_path / "html")]
    subprocess.run(command, check=True, capture_output=True)

    page = (tmp_path / "html" / "chapter.html").read_text(encoding="utf-8")
    assert re.search(r'<meta content="A page made for tests\." name="description"', page)
    figure = re.search(r'<figure [^>]*id="fig-pixel".*?</figure>', page, re.DOTALL)
    assert figure
    assert 'alt="Densities before and after; skew 0.41"' in figure[0]
    assert "A pixel." in figure[0]
