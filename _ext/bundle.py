"""Joins the stylesheets of a page into one file, and the scripts that wait for the page into another.

Each is a request less on a first visit, and they pack better together. Pages with the same files share the joined one.
"""

import posixpath
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from _ext.purge import purge, used

FILE = r'"(?P<before>[^"]*?)_static/(?P<name>[^"?]+)[^"]*"'
SHEET = re.compile(rf'<link rel="stylesheet"(?: type="text/css")? href={FILE} ?/>\s*')
SCRIPT = re.compile(rf"<script defer src={FILE}></script>\s*")
URL = re.compile(r"""url\((["']?)(?![a-z]+:|[/#])([^)"']+)\1\)""")
# A script that asks where it stands stays there.
PLACED = re.compile(r"""\bcurrentScript\b|\bimport\b *[({"'*]""")


def join_sheets(static: Path, names: tuple[str, ...]) -> str:
    """Return the stylesheets one after the other, their addresses relative to ``static``."""

    def read(name: str) -> str:
        def moved(url: re.Match[str]) -> str:
            return f"url({url[1]}{posixpath.normpath(posixpath.join(posixpath.dirname(name), url[2]))}{url[1]})"

        return URL.sub(moved, (static / name).read_text("utf-8"))

    return "\n".join(map(read, names))


def join_scripts(static: Path, names: tuple[str, ...]) -> str:
    """Return the scripts one after the other."""
    # The semicolon in front keeps a "use strict" in one of them from meaning all.
    text = "".join(f";\n{(static / name).read_text('utf-8')}\n" for name in names)
    return re.sub(r"^//# sourceMappingURL=.*\n", "", text, flags=re.MULTILINE)


def bundle(site: Path) -> None:
    """Join the files of every page, and take out of the stylesheets what no page uses."""
    static = site / "_static"
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html") if static not in path.parents}
    present = used(pages.values(), (path.read_text("utf-8") for path in static.rglob("*.js")))
    done: dict[tuple[str, ...], str] = {}

    def joined(names: tuple[str, ...], join: Callable[[Path, tuple[str, ...]], str]) -> str:
        if names not in done:
            text = join(static, names)
            text = purge(text, present) if join is join_sheets else text
            done[names] = f"site-{sha256(text.encode()).hexdigest()[:8]}{Path(names[0]).suffix}"
            (static / done[names]).write_text(text, "utf-8")
        return done[names]

    for path, page in pages.items():
        text = page
        for pattern, join in ((SHEET, join_sheets), (SCRIPT, join_scripts)):
            found = [match for match in pattern.finditer(text) if _may_move(static / match["name"])]
            if not found:
                continue
            first, *others = found
            name = joined(tuple(match["name"] for match in found), join)
            for match in reversed(others):
                text = text[: match.start()] + text[match.end() :]
            text = text[: first.start()] + re.sub(r'_static/[^"]*', f"_static/{name}", first[0]) + text[first.end() :]
        pages[path] = text
        path.write_text(text, "utf-8")

    left = "".join(pages.values())
    for name in {name for names in done for name in names}:
        if f"_static/{name}" not in left:
            (static / name).unlink()


def _may_move(path: Path) -> bool:
    return path.is_file() and not (path.suffix == ".js" and PLACED.search(path.read_text("utf-8")))
