"""Gives the pictures of a page their size, so that nothing shifts when they come, and lets all but the first wait.

A picture that waits is fetched when the reader comes near it. The first may be on the first screen.
"""

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.images import get_image_size

IMAGE = re.compile(r'<img\b(?P<attributes>[^>]*\bsrc="[^"]*?_images/(?P<name>[^"/]+)"[^>]*?)\s*/?>')


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
        return f"<img{image['attributes']}{extra} />"

    context["body"] = IMAGE.sub(finish, context.get("body", ""))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the step to the build."""
    app.connect("html-page-context", finish_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
