"""Puts a chapter's live figures over their pictures.

A figure is live where the cell's output names a module of ``bnlib/figures`` and its state; host.js mounts it when it
comes near the screen. Until then, on paper and without scripts, there is the picture.
"""

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from bnlib import plots, widget

FOLDER = "figures"  # below _static


def live_figures(notebook: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The live figures of a notebook: of each name its module and its state."""
    found = {}
    for cell in notebook["cells"]:
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        for output in cell.get("outputs", []):
            if name and plots.LIVE in output.get("data", {}):
                found[name] = output["data"][plots.LIVE]
    return found


def page_figures(path: Path) -> dict[str, dict[str, Any]]:
    """The live figures of a page: a notebook's own, or those that another page shows of a chapter."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        return live_figures(json.loads(text))
    found = {}
    for chapter, name in re.findall(r"(?m)^```\{notebook-figure\} (\S+) (\S+)$", text):
        shown = live_figures(json.loads((path.parent / f"{chapter}.ipynb").read_text("utf-8")))
        found |= {name: shown[name]} if name in shown else {}
    return found


def finish_page(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Put the place of each live figure in front of its picture, and the script that mounts them behind the page."""
    figures = page_figures(Path(app.env.doc2path(page))) if page in app.env.found_docs else {}
    folder = f"{context['pathto']('_static', 1)}/{FOLDER}"
    body = context["body"]
    for name, live in figures.items():
        module = f"./{live['module']}.js"  # beside the script
        state = html.escape(json.dumps(live["state"]))
        place = f'<div class="bn-live" data-module="{module}" data-state="{state}" hidden></div>'
        body, count = re.subn(rf'<figure\b[^>]*\bid="{name}"[^>]*>', lambda tag, place=place: tag[0] + place, body)
        if count != 1:
            raise LookupError(f"{page} has {count} figures named {name!r}, and should have one")
    if body is not context["body"]:
        context["body"] = f'{body}<script type="module" src="{folder}/host.js"></script>'


def copy_modules(app: Sphinx, exception: Exception | None) -> None:
    """The modules travel with the package, and are served from the site."""
    if exception is None and app.builder.format == "html":
        there = Path(app.outdir) / "_static" / FOLDER
        there.mkdir(exist_ok=True)
        for path in widget.FIGURES.iterdir():
            shutil.copyfile(path, there / path.name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build: pictures get their frames first, by _ext.images."""
    app.connect("html-page-context", finish_page, priority=600)
    app.connect("build-finished", copy_modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
