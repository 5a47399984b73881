"""Directives that show a chapter's figure or formula on another page.

Both are taken from the notebook, so that each stands in one place only:

    ```{notebook-figure} 06_transform fig-dots
    ```

    ```{chapter-formula} 07_backpropagation eq-dx
    ```
"""

import base64
import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

PICTURES = "_build/notebook_figures"  # below the source folder, where Sphinx looks for images


def find_figure(notebook: dict[str, Any], name: str) -> tuple[bytes, str, str]:
    """The PNG, the alt text and the caption of the figure of that name; LookupError if there is none."""
    for cell in notebook["cells"]:
        about = cell["metadata"].get("mystnb", {})
        if about.get("figure", {}).get("name") == name:
            for output in cell["outputs"]:
                if "image/png" in output.get("data", {}):
                    png = base64.b64decode(output["data"]["image/png"])
                    return png, about["image"]["alt"], about["figure"]["caption"]
    raise LookupError(f"no executed cell has a figure named {name!r}")


def find_formula(notebook: dict[str, Any], label: str) -> str:
    """The TeX of the equation with that label; LookupError if there is none."""
    for cell in notebook["cells"]:
        text = re.sub(r"(?m)^> ?", "", "".join(cell["source"]))  # derivations are set as quotations
        if cell["cell_type"] == "markdown" and (end := text.find(f"\n$$ ({label})")) >= 0:
            return text[:end].rpartition("$$\n")[2]
    raise LookupError(f"no equation is labelled {label!r}")


class FromChapter(Directive):
    """Takes a chapter's file name without its ending, and the name of something in it."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return what :meth:`show` makes of it, or report what is missing."""
        chapter, name = self.arguments
        env = self.state.document.settings.env
        notebook = Path(env.srcdir) / "chapters" / f"{chapter}.ipynb"
        env.note_dependency(str(notebook))
        try:
            return self.show(json.loads(notebook.read_text("utf-8")), name, Path(env.srcdir))
        except (OSError, LookupError) as error:
            raise self.error(f"{self.name} {chapter} {name}: {error}") from error

    def show(self, notebook: dict[str, Any], name: str, source: Path) -> list[nodes.Node]:
        """The nodes that stand for what the notebook has under that name."""
        raise NotImplementedError


class NotebookFigure(FromChapter):
    """A figure with its alt text, and its caption, if what the directive holds is not another."""

    has_content = True

    def show(self, notebook: dict[str, Any], name: str, source: Path) -> list[nodes.Node]:
        """Write the picture where Sphinx finds it, and return the figure."""
        png, alt, caption = find_figure(notebook, name)
        picture = source / PICTURES / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(png)
        text, messages = self.state.inline_text(" ".join(self.content) or " ".join(caption.split()), self.lineno)
        figure = nodes.figure("", nodes.image(uri=f"/{PICTURES}/{name}.png", alt=alt), align="default", ids=[name])
        figure += nodes.caption("", "", *text)
        return [figure, *messages]


class ChapterFormula(FromChapter):
    """A numbered equation, with a line that leads to it."""

    def show(self, notebook: dict[str, Any], name: str, source: Path) -> list[nodes.Node]:
        """Return the formula, without the full stop or comma of the chapter's sentence, and the line."""
        tex = re.sub(r"\s*[.,]\s*$", "", find_formula(notebook, name).rstrip())
        formula = nodes.math_block(tex, tex, nowrap=False, number=None, label=None)
        text, messages = self.state.inline_text(f"Equation {{eq}}`{name}`", self.lineno)
        return [formula, nodes.paragraph("", "", *text, classes=["formula-source"]), *messages]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("notebook-figure", NotebookFigure)
    app.add_directive("chapter-formula", ChapterFormula)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
