"""The directive chapter-formula: a numbered equation of a chapter, shown on another page, with its number as a link.

The TeX is read from the notebook's text, so that a formula stands in one place only:

    ```{chapter-formula} 07_backpropagation eq-dx
    ```
"""

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx


def find(notebook: dict[str, Any], label: str) -> str:
    """The TeX of the equation with that label; LookupError if there is none."""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and (end := text.find(f"\n$$ ({label})")) >= 0:
            return text[:end].rpartition("$$\n")[2]
    raise LookupError(f"no equation is labelled {label!r}")


class ChapterFormula(Directive):
    """Takes a chapter's file name without its ending, and an equation's label."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return the formula and a line that leads to it, or report what is missing."""
        chapter, label = self.arguments
        env = self.state.document.settings.env
        notebook = Path(env.srcdir) / "chapters" / f"{chapter}.ipynb"
        env.note_dependency(str(notebook))
        try:
            tex = find(json.loads(notebook.read_text("utf-8")), label)
        except (OSError, LookupError) as error:
            raise self.error(f"chapter-formula {chapter} {label}: {error}") from error
        # The sentence's full stop or comma belongs to the chapter.
        tex = re.sub(r"\s*[.,]\s*$", "", tex.rstrip())
        formula = nodes.math_block(tex, tex, nowrap=False, number=None, label=None)
        text, messages = self.state.inline_text(f"Equation {{eq}}`{label}`", self.lineno)
        return [formula, nodes.paragraph("", "", *text, classes=["formula-source"]), *messages]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("chapter-formula", ChapterFormula)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
