"""Gives each coded exercise an editor on its page, whose code runs in the reader's browser.

An exercise that names a check gets one with a stub made of the exercise's arguments; one of the class ``bn-try`` gets
an empty one. A code cell tagged ``runs-here`` can be changed and run, too. What runs is Pyodide, from npm, with NumPy's
build for it (``tools/numpy_wheel.py``) and bnlib; nothing of it is fetched before a reader asks. Without NumPy's build
the pages have no editors, and the build says so.
"""

import gzip
import html
import json
import os
import re
import shutil
import subprocess
import textwrap
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.logging import getLogger
from sphinx_exercise.nodes import is_exercise_enumerable_node, is_exercise_node

from _ext.mathml import node_binary
from bnlib.catalogue import EXERCISES

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "_ext/editor"
NPM = ROOT / "node_modules/pyodide"
FOLDER = "python"  # below _static
CHECK = re.compile(r'check\("([\w-]+)", (\w+)\)')
TRY = "bn-try"
RUNS = "tag_runs-here"
# bnlib's modules that need nothing but NumPy.
OURS = [
    *("__init__", "_array", "check", "deep_linear", "exercises", "norms", "running", "selu", "weightnorm"),
    "catalogue/*",
]

logger = getLogger(__name__)


# --- NumPy's build ----------------------------------------------------------------------------------------------------


def lock() -> dict[str, Any]:
    """Pyodide's lock file, and its version beside what it says of itself."""
    said = json.loads((NPM / "pyodide-lock.json").read_text("utf-8"))
    said["info"]["version"] = json.loads((NPM / "package.json").read_text("utf-8"))["version"]
    return said


def cached_wheel() -> Path:
    """Where NumPy's build is kept, outside of the tree, which is made anew."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "batch-normalization-measured" / lock()["packages"]["numpy"]["file_name"]


def is_genuine(wheel: bytes) -> bool:
    """Whether this is the build that Pyodide's lock file means."""
    return sha256(wheel).hexdigest() == lock()["packages"]["numpy"]["sha256"]


# --- what stands in the page ------------------------------------------------------------------------------------------


def stub(checks: list[tuple[str, str]]) -> str:
    """The code that an editor begins with: each function of the exercise, with its arguments, and its check."""
    return "\n\n\n".join(
        f"def {function}({', '.join(EXERCISES[name].draws[0])}):\n"
        + textwrap.indent(_comment(name), "    ")
        + f'\n    ...\n\n\ncheck("{name}", {function})'
        for name, function in checks
    )


def _comment(name: str) -> str:
    exercise = EXERCISES[name]
    words = f"{exercise.shapes}; return {', '.join(exercise.outputs)}"
    return textwrap.fill(words.replace("``", ""), 70, initial_indent="# ", subsequent_indent="# ")


def add_places(app: Sphinx, document: nodes.document) -> None:
    """Into each coded exercise, behind its text."""
    if app.builder.format != "html":
        return
    for node in document.findall(nodes.Element):
        if not (is_exercise_node(node) or is_exercise_enumerable_node(node)):
            continue
        checks = CHECK.findall(node.astext())
        if not checks and TRY not in node["classes"]:
            continue
        code = stub(checks) if checks else "# Try it here: np is NumPy.\n"
        place = (
            f'<div class="bn-code noprint" data-id="{node["label"]}" hidden'
            f' data-checks="{" ".join(name for name, _ in checks)}"><pre>{html.escape(code)}</pre></div>'
        )
        node += nodes.raw("", place, format="html")


# --- what is served ---------------------------------------------------------------------------------------------------


def parts() -> Iterator[tuple[str, bytes]]:
    """Pyodide's core, its WebAssembly, Python's library, NumPy and our own modules, by the names they are served by."""
    core, wasm, library = (NPM / name for name in ("pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip"))
    for path in (core, wasm):
        yield _hashed(path.name, path.read_bytes(), ".gz")
    yield _hashed(library.name, library.read_bytes())
    yield cached_wheel().name, cached_wheel().read_bytes()
    yield _hashed("bnlib.zip", ours())


def ours() -> bytes:
    """What of bnlib travels to the page, beside the module that runs a cell; the same bytes each time."""
    paths = [path for name in OURS for path in sorted((ROOT / "bnlib").glob(f"{name}.py"))]
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (*paths, HERE / "cell.py"):
            name = path.relative_to(ROOT if path in paths else HERE)
            archive.writestr(zipfile.ZipInfo(name.as_posix()), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _hashed(name: str, body: bytes, packed: str = "") -> tuple[str, bytes]:
    stem, ending = name.rsplit(".", 1)
    digest = sha256(body).hexdigest()[:12]
    return f"{stem}-{digest}.{ending}{packed}", gzip.compress(body, mtime=0) if packed else body


def licences(packages: list[str]) -> str:
    """The terms of all that is served here and is not ours."""
    texts = [
        f"Pyodide {lock()['info']['version']}: Mozilla Public License 2.0, https://mozilla.org/MPL/2.0/\n"
        "Its source: https://github.com/pyodide/pyodide\n",
        "Python, its core and library: PSF License, https://docs.python.org/3/license.html\n",
    ]
    with zipfile.ZipFile(cached_wheel()) as wheel:
        texts += [
            f"NumPy, {name.split('/', 2)[2]}\n\n{wheel.read(name).decode()}"
            for name in wheel.namelist()
            if "/licenses/" in name
        ]
    for name in packages:
        found = next(path for path in (ROOT / "node_modules" / name).iterdir() if path.stem.upper() == "LICENSE")
        texts.append(f"{name}\n\n{found.read_text('utf-8')}")
    return f"\n{'-' * 80}\n".join(texts)


class Editors:
    """The scripts of one build."""

    page = ""  # the name of the page's script; none without NumPy's build

    def make(self, app: Sphinx) -> None:
        """Join the scripts, whose names the pages need, and lay what they fetch beside them."""
        if app.builder.format != "html":
            return
        if not NPM.exists() or not cached_wheel().exists():
            logger.info("NumPy's build for Pyodide is not there, so the pages have no editors: see CONTRIBUTING.md")
            return
        if not is_genuine(cached_wheel().read_bytes()):
            raise ExtensionError(f"{cached_wheel()} is not the build that Pyodide's lock file means: delete it")
        there = Path(app.doctreedir) / FOLDER
        shutil.rmtree(there, ignore_errors=True)
        there.mkdir(parents=True)
        files = []
        for name, body in parts():
            (there / name).write_bytes(body)
            files.append([name, len(body)])
        numpy = {**lock()["packages"]["numpy"], "depends": []}
        sheet, styles = _hashed("editor.css", (HERE / "editor.css").read_bytes())
        (there / sheet).write_bytes(styles)
        define = {"FILES": files, "NUMPY": numpy, "INFO": lock()["info"], "SHEET": sheet}
        done = subprocess.run(
            [node_binary(), HERE / "build.mjs"],
            input=json.dumps({"out": str(there), "define": define}),
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            raise ExtensionError(f"esbuild could not join the editors' scripts:\n{done.stderr}")
        made = json.loads(done.stdout)
        (there / "LICENSES.txt").write_text(licences(made["packages"]), "utf-8")
        self.page = made["page"]
        app.tags.add("editors")  # for what pages say of them

    def finish_page(self, app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
        """Add the page's script behind it, if there is something to run."""
        body = context.get("body", "")
        if self.page and ("bn-code" in body or RUNS in body):
            script = f"{context['pathto']('_static', 1)}/{FOLDER}/{self.page}"
            context["body"] = f'{body}<script type="module" src="{script}"></script>'

    def serve(self, app: Sphinx, exception: Exception | None) -> None:
        """Move it all into the site, after what no page uses has left the styles: these are not the pages' words."""
        if exception is None and self.page:
            there = Path(app.outdir) / "_static" / FOLDER
            shutil.rmtree(there, ignore_errors=True)
            shutil.move(Path(app.doctreedir) / FOLDER, there)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    editors = Editors()
    app.connect("builder-inited", editors.make)
    app.connect("doctree-read", add_places)
    app.connect("html-page-context", editors.finish_page, priority=700)
    app.connect("build-finished", editors.serve, priority=960)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
