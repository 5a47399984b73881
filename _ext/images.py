"""Gives the pictures of a page their size, so that nothing shifts when they come, and lets all but the first wait.

A picture that waits is fetched when the reader comes near it. The first may be on the first screen.

A figure's picture stands in a button, which opens it large (book.js), within a frame that scrolls where the screen is
narrower than the picture may become: its smallest text has to be read.
"""

import re
from math import ceil
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.images import get_image_size

from bnlib.plots import SMALLEST, STYLE

LEGIBLE = 10  # CSS pixels for the smallest text of a figure
IMAGE = re.compile(
    r'(?P<figure><figure\b[^>]*>\s*)?<img\b(?P<attributes>[^>]*\bsrc="[^"]*?_images/(?P<name>[^"/]+)"[^>]*?)\s*/?>'
)


def narrowest(width: int) -> int:
    """Return how many CSS pixels a figure of ``width`` pixels needs for its smallest text to be legible."""
    points = width * 72 / STYLE["figure.dpi"]
    return ceil(points / SMALLEST * LEGIBLE)


def finish_page(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Add width, height and loading to each picture of the page."""
    sources = {name: source for source, name in app.builder.images.items()}
    first = True

    def finish(image: re.Match[str]) -> str:
        nonlocal first
        size = get_image_size(str(app.srcdir / sources[image["name"]]))
        width, height = size or (0, 0)
        extra = f' width="{width}" height="{height}"' if size and "width=" not in image["attributes"] else ""
        extra += "" if first else ' loading="lazy"'
        first = False
        tag = f"<img{image['attributes']}{extra} />"
        if not image["figure"]:
            return tag
        frame = f'<div class="bn-figure" style="--narrowest: {narrowest(width)}px">'
        return f'{image["figure"]}{frame}<button type="button" aria-haspopup="dialog">{tag}</button></div>'

    context["body"] = IMAGE.sub(finish, context.get("body", ""))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the step to the build."""
    app.connect("html-page-context", finish_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
