"""Makes Jupyter Book's pages into this book's site.

Adds what the book's templates ask for, a page for wrong addresses and one for the site's root. When everything is
written it takes out what no page uses: the theme brings 397 kB of styles and 2.5 MB of scripts and fonts for icons,
and the math font is 403 kB; the pages need a few per cent of that. What is in use is read off the built pages, so
nothing is listed by hand. What remains of styles and scripts is joined.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import docname_join

from _ext.bundle import bundle
from _ext.fonts import icon_characters, math_characters, subset_font

STIX = Path(__file__).resolve().parents[1] / "node_modules/@fontsource/stix-two-math"
# By these the browser shrinks indices, takes the dot off an i under a hat and flattens accents; ss04: primes.
MATH_FEATURES = ["ssty", "dtls", "flac", "ss04"]


logging.getLogger("fontTools").setLevel(logging.WARNING)


def extra_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the page that the server shows for a wrong address, and the root, which leads to the first page."""
    first = app.builder.get_target_uri(app.config.root_doc)
    title = app.config.html_title
    yield "404", {"title": "Page not found", "first_page": first, "book_title": title}, "404.html"
    yield "index", {"title": title, "first_page": first}, "redirect.html"


def name_contents(app: Sphinx, env: BuildEnvironment) -> None:
    """Call a heading that is a link to a page by that page's title in the contents, too, not by the file's name."""
    for name, contents in env.tocs.items():
        for text in list(contents.findall(nodes.Text)):
            if (page := docname_join(name, text)) in env.titles:  # Sphinx has kept no more of the link
                text.parent.replace(text, nodes.Text(env.titles[page].astext()))


def _for_paper(sheet: Any) -> bool:
    return str(sheet.filename).endswith("print.css")


def finish_page(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Tell the template whether the page shows maths, and take roles that ARIA does not allow off citations."""
    # The styles for paper come last, and no screen waits for them.
    context["css_files"].sort(key=_for_paper)
    for sheet in filter(_for_paper, context["css_files"]):
        sheet.attributes["media"] = "print"
    body = context.get("body", "")
    # Only a page with maths fetches the math font before its styles have been read.
    context["has_maths"] = "<math" in body
    context["body"] = body.replace(' role="list" class="citation-list"', "").replace(' role="doc-biblioentry"', "")


def trim(app: Sphinx, exception: Exception | None) -> None:
    """Take out of the built site what its pages do not use, and put in the math font that they do use."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    icon_fonts = static / "vendor/fontawesome/webfonts"
    scripts = [static / "scripts/fontawesome.js", static / "scripts/bootstrap.js"]
    for unused in [*scripts, *icon_fonts.glob("*.ttf"), *static.rglob("*.map")]:
        unused.unlink(missing_ok=True)

    bundle(Path(app.outdir))
    pages = [path.read_text("utf-8") for path in Path(app.outdir).rglob("*.html")]
    icons = icon_characters(path.read_text("utf-8") for path in static.rglob("*.css"))
    for font in icon_fonts.glob("*.woff2"):
        font.write_bytes(subset_font(font, icons))

    fonts = static / "fonts"
    fonts.mkdir(exist_ok=True)
    source = STIX / "files/stix-two-math-latin-400-normal.woff2"
    (fonts / "stix-two-math.woff2").write_bytes(subset_font(source, math_characters(pages), MATH_FEATURES))
    (fonts / "LICENSE.txt").write_bytes((STIX / "LICENSE").read_bytes())


def skip_fields(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out "Alias for field number 0", which is all that a NamedTuple's fields say; its docstring says more."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("env-updated", name_contents)
    app.connect("html-collect-pages", extra_pages)
    app.connect("html-page-context", finish_page)
    # After the theme, which writes the colours of the code at the same event.
    app.connect("build-finished", trim, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
