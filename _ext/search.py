"""Makes the search: the text of every section, symptom, term, function and exercise, indexed, with its address.

Sphinx's own search knows whole pages, and is not built. Here the site gets, under ``_static/search``, one script that
holds MiniSearch (from npm), a stemmer (Sphinx's), our ranking and the box, and one file with the index. A page loads
them when a reader opens the search, see ``_static/book.js``.
"""

import html
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.search.en import SearchEnglish

from _ext.mathml import node_binary

HERE = Path(__file__).resolve().parent
MINISEARCH = HERE.parent / "node_modules/minisearch"
SCRIPTS = [MINISEARCH / "dist/umd/index.js", HERE / "search.js", HERE / "search_box.js"]
# The section of the notation whose table says, in its second column, where what has these names elsewhere is treated.
NAMES = "chapters/notation", "known-elsewhere-as"
# What Sphinx's search needs and its theme brings all the same.
UNUSED = ["searchtools.js", "sphinx_highlight.js", "language_data.js"]

GREEK_NAMES = "alpha beta gamma delta epsilon varepsilon eta kappa lambda mu nu rho sigma tau phi varphi chi omega"
GREEK: dict[str, str] = dict(zip(GREEK_NAMES.split(), "αβγδεεηκλμνρστφφχω", strict=True))
NO_TEXT = (nodes.title, nodes.term, nodes.math_block, nodes.Invisible, addnodes.desc_signature, addnodes.index)


@dataclass
class Entry:
    """A place that a search can lead to, and what stands there."""

    titles: list[str]  # below the page's
    anchor: str
    kind: str
    text: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)  # what links to it may name
    also: list[str] = field(default_factory=list)  # its names elsewhere


def plain_maths(tex: str) -> str:
    """Return a short formula as it can stand in a line of results: Greek letters, no commands."""
    tex = re.sub(r"\\([A-Za-z]+)\s*", lambda command: GREEK.get(command[1], ""), tex)
    tex = re.sub(r"[{}\\\s]", "", tex)
    return tex if len(tex) <= 20 else "…"


def place(node: nodes.Element) -> tuple[str, str, str] | None:
    """Return title, anchor and kind of a node that a search can lead to, and None for any other."""
    if not node.children or not isinstance(head := node.children[0], nodes.Element):
        return None
    match node:
        case nodes.section() if isinstance(head, nodes.title):
            return head.astext(), node["ids"][0], "section"
        case nodes.definition_list_item() if head["ids"]:
            return head.astext(), head["ids"][0], "entry"
        case addnodes.desc() if head["ids"]:
            return head["ids"][0].removeprefix("bnlib."), head["ids"][0], "function"
        case nodes.citation():
            return node.children[-1].astext(), node["ids"][0], "source"
        case _ if "exercise" in node["classes"] and node["ids"]:
            return f"Exercise: {head.children[-1].astext()}", node["ids"][0], "exercise"
    return None


def collect(node: nodes.Element, entry: Entry, found: list[Entry]) -> None:
    """Put the text of ``node`` into ``entry``, and what stands at a place of its own into new entries in ``found``."""
    entry.ids += node["ids"]
    for child in node.children:
        if isinstance(child, nodes.Text):
            entry.text.append(child.astext())
        elif not isinstance(child, nodes.Element) or "solution" in child["classes"]:
            continue  # a solution's text would give it away
        elif there := place(child):
            title, anchor, kind = there
            found.append(Entry([*entry.titles, title], anchor, kind))
            if kind != "source":  # its title says it all
                collect(child, found[-1], found)
        elif isinstance(child, NO_TEXT):
            entry.ids += child["ids"]
        elif isinstance(child, nodes.math):
            entry.text.append(plain_maths(child.astext()))
        elif isinstance(child, nodes.literal_block):
            entry.code.append(child.astext())
        elif isinstance(child, nodes.raw):
            entry.text.append(html.unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", child.astext(), flags=re.DOTALL)))
        else:
            collect(child, entry, found)
            if not isinstance(child, nodes.Inline):
                entry.text.append("\n")


def other_names(doctree: nodes.document, section: str) -> Iterator[tuple[str, str]]:
    """Yield, for every link in the second column of the table in ``section``, its address and the words of its row."""
    for node in doctree.findall(nodes.section):
        if section in node["ids"]:
            for row in node.findall(nodes.row):
                here, where, *others = row.children
                for link in where.findall(nodes.reference):
                    target = link.get("refuri") or f"#{link['refid']}"
                    yield target, " ".join(name.astext() for name in (here, *others))


class Search:
    """Gathers the entries of all pages while they are written, and then writes the index."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, list[Entry]]] = {}
        self.names: list[tuple[str, str]] = []

    def begin(self, app: Sphinx) -> None:
        """Tell Sphinx to make no search of its own."""
        app.builder.search = False  # type: ignore[attr-defined]

    def name_definitions(self, app: Sphinx, doctree: nodes.document) -> None:
        """Give an anchor to every entry of a definition list that has none, such as a symptom."""
        for term in doctree.findall(nodes.term):
            if not term["ids"]:
                term["ids"].append(f"entry-{nodes.make_id(term.astext())[:60].strip('-')}")

    def add(
        self, app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
    ) -> None:
        """Keep the entries of a page."""
        if doctree is None:
            return
        entries: list[Entry] = []
        collect(doctree, Entry([], "", ""), entries)
        [title, *_] = entries[0].titles
        if number := app.env.toc_secnumbers.get(page, {}).get(""):
            title = f"{number[0]}. {title}"
        self.pages[page] = title, entries
        if page == NAMES[0]:
            for entry in entries:
                entry.kind = entry.kind.replace("section", "symbols")
            self.names = list(other_names(doctree, NAMES[1]))

    def pages_of_its_own(self, app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Yield the page that searches for what stands in its address."""
        yield "search", {"title": "Search"}, "search.html"

    def data(self, app: Sphinx) -> dict[str, list[dict[str, Any]]]:
        """Return pages and entries as the scripts want them."""
        order = list(app.env.collect_relations())  # as one reads
        addresses = {page: app.builder.get_target_uri(page) for page in order}
        places = {}
        for page, (_, entries) in self.pages.items():
            places[addresses[page]] = entries[0]
            places |= {f"{addresses[page]}#{anchor}": entry for entry in entries for anchor in entry.ids}
        for target, names in self.names:
            places[urljoin(addresses[NAMES[0]], target)].also.append(names)
        return {
            "pages": [{"address": addresses[page], "title": self.pages[page][0]} for page in order],
            "entries": [
                {
                    "page": number,
                    "titles": [" ".join(title.split()) for title in entry.titles[1:]],
                    "anchor": entry.anchor,
                    "kind": entry.kind,
                    "text": " ".join("".join(entry.text).split()),
                    "code": names_in(entry.code),
                    "also": " ".join(entry.also),
                }
                for number, page in enumerate(order)
                for entry in self.pages[page][1]
            ],
        }

    def write_script(self, app: Sphinx, exception: Exception | None) -> None:
        """Write the one script, and take out what Sphinx's search would need."""
        if exception or app.builder.format != "html":
            return
        static = Path(app.outdir) / "_static"
        for name in UNUSED:
            (static / name).unlink(missing_ok=True)
        folder = static / "search"
        folder.mkdir(exist_ok=True)
        engine, *ours = (script.read_text("utf-8") for script in SCRIPTS)
        script = "\n".join([engine, SearchEnglish.js_stemmer_code, *ours])
        (folder / "search.js").write_text(script, "utf-8")
        (folder / "LICENSE.txt").write_bytes((MINISEARCH / "LICENSE.txt").read_bytes())

    def write_index(self, app: Sphinx, exception: Exception | None) -> None:
        """Have node make the index with that script."""
        if exception or app.builder.format != "html":
            return
        folder = Path(app.outdir) / "_static/search"
        command = [node_binary(), HERE / "search_index.mjs", folder / "search.js"]
        done = subprocess.run(
            command, input=json.dumps(self.data(app)), capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode:
            raise ExtensionError(f"node could not make the search's index:\n{done.stderr}")
        (folder / "sections.js").write_text(done.stdout, "utf-8")


def names_in(code: list[str]) -> str:
    """Return the names and the long numbers in some code, each once: they are looked for, never shown."""
    return " ".join(dict.fromkeys(re.findall(r"[^\W\d_]\w+|\d+\.\d{3,}", " ".join(code))))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    search = Search()
    app.connect("builder-inited", search.begin)
    app.connect("doctree-read", search.name_definitions, priority=600)  # the notation's have theirs then
    app.connect("html-page-context", search.add)
    app.connect("html-collect-pages", search.pages_of_its_own)
    # Before what no page uses is taken out of the styles, and after: the index has all the book's words.
    app.connect("build-finished", search.write_script, priority=800)
    app.connect("build-finished", search.write_index, priority=950)
    # The entries of all pages come together in one process.
    return {"parallel_read_safe": True, "parallel_write_safe": False}
