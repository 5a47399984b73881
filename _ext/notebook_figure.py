"""The directive notebook-figure: a chapter's figure, with its caption and its alt text, shown on another page.

The picture is taken from the notebook's committed output, so the two pages cannot differ:

    ```{notebook-figure} 06_transform fig-company
    ```
"""

import base64
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

WHERE = "_build/notebook_figures"  # below the source folder, where Sphinx looks for images


def find(notebook: dict[str, Any], name: str) -> tuple[bytes, str, str]:
    """The PNG, the alt text and the caption of the figure of that name; LookupError if there is none."""
    for cell in notebook["cells"]:
        about = cell["metadata"].get("mystnb", {})
        if about.get("figure", {}).get("name") == name:
            for output in cell["outputs"]:
                if "image/png" in output.get("data", {}):
                    png = base64.b64decode(output["data"]["image/png"])
                    return png, about["image"]["alt"], about["figure"]["caption"]
    raise LookupError(f"no executed cell has a figure named {name!r}")


class NotebookFigure(Directive):
    """Takes a chapter's file name without its ending, and a figure's name."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return the figure, or report what is missing."""
        chapter, name = self.arguments
        env = self.state.document.settings.env
        notebook = Path(env.srcdir) / "chapters" / f"{chapter}.ipynb"
        env.note_dependency(str(notebook))
        try:
            png, alt, caption = find(json.loads(notebook.read_text("utf-8")), name)
        except (OSError, LookupError) as error:
            raise self.error(f"notebook-figure {chapter} {name}: {error}") from error
        picture = Path(env.srcdir) / WHERE / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(png)
        text, messages = self.state.inline_text(" ".join(caption.split()), self.lineno)
        figure = nodes.figure("", nodes.image(uri=f"/{WHERE}/{name}.png", alt=alt), align="default")
        figure += nodes.caption("", "", *text)
        return [figure, *messages]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("notebook-figure", NotebookFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
