"""Writes the notebooks that the site offers: each chapter, and the same without solutions for those who learn.

Outside the site nobody reads MyST: Colab, GitHub, VS Code and JupyterLab show a role as code, a gate as a code block,
and a caption, which stands in the metadata, not at all. So these notebooks are plain Markdown. What a role says
("Figure 6.2") is read off the finished page, never worked out again.
"""

import copy
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urldefrag, urljoin

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx_exercise.nodes import exercise_enumerable_node

from _ext.address import LAUNCHED, button, read

FOLDER = "notebooks"
STUDENT = "-student"

ROLE = re.compile(r"\{(eq|numref|cite|doc)\}`([^`]+)`")
EQUATION = re.compile(r"^((?:> ?)*)\$\$ \(([\w-]+)\)$", re.MULTILINE)
QUOTED = re.compile(r"^((?:> ?)+)(.*)\$\$\n((?:\1.*\n)+?)\1\$\$$", re.MULTILINE)
NOTE = re.compile(r'<div class="bn-note" role="note">([^\n]*)</div>')
ADMONITION = re.compile(r"^(`{3,}|:{3,})\{(admonition|note|tip|warning|important)\} ?([^\n]*)\n(.*?)\n\1$", re.M | re.S)
OPTIONS = re.compile(r"\A(?::[\w-]+:.*\n)*\n*")
GATE = re.compile(
    r"^(`{3,}|:{3,})\{(?P<kind>exercise|solution)-(?P<end>start|end)\} ?(?P<title>.*)\n(?P<options>(?::.*\n)*)\1$\n*",
    re.MULTILINE,
)
LABEL = re.compile(r"^:label: *(\S+)", re.MULTILINE)
LEFT_OVER = re.compile(r"\{[a-z:]+\}`[^`]+`|^(?:`{3,}|:{3,})\{.*", re.MULTILINE)
REPOSITORY = re.compile(r'^repository = ""', re.MULTILINE)

SOLUTION = "#### Solution"

Key = tuple[str, str]
logger = getLogger(__name__)


class Page(NamedTuple):
    """What a finished page says: the text of each role, and the numbers of its equations, figures and exercises."""

    roles: dict[Key, str]
    equations: dict[str, str]
    figures: dict[str, str]
    exercises: dict[str, str]


class Part(NamedTuple):
    """A cell, and what it belongs to: "exercise", "solution", or ""."""

    inside: str
    cell: NotebookNode


# --- from a chapter to what is offered -------------------------------------------------------------------------------


def offered(chapter: NotebookNode, page: Page, repository: str, student: bool) -> NotebookNode:
    """The chapter in plain Markdown; for students without solutions and without the outputs of exercises.

    Raises ValueError if something that is no solution would be folded with one.
    """
    parts = list(split(chapter, page))
    for before, after in pairwise(parts):
        if before.inside == "solution" != after.inside and not after.cell.source.startswith("#"):
            raise ValueError(f"a solution folds what stands below it, {after.cell.source!r}: begin that with a heading")
    if student:
        parts = [part for part in parts if part.inside != "solution"]
        for part in parts:
            if part.inside == "exercise" and part.cell.cell_type == "code":
                part.cell.outputs, part.cell.execution_count = [], None
    cells = [part.cell for part in parts]
    first = next((cell for cell in cells if cell.cell_type == "code"), None)
    if first is not None and repository:
        # With the branch, so that Colab's bnlib is the one that these notebooks were made with.
        first.source = REPOSITORY.sub(f'repository = "{repository}@{LAUNCHED}"', first.source, count=1)
    # What the guard compares the chapter's code with does not belong to this copy.
    metadata = {name: value for name, value in chapter.metadata.items() if name != "bnlib"}
    if not student:  # JupyterLab reads at the heading that it is folded, Colab here
        metadata["colab"] = {"collapsed_sections": [cell.id for cell in cells if cell.source == SOLUTION]}
    return NotebookNode({**chapter, "metadata": NotebookNode(metadata), "cells": cells})


def split(chapter: NotebookNode, page: Page) -> Iterator[Part]:
    """The cells, those of text parted at the gates, and a caption below each figure."""
    inside = ""
    for cell in copy.deepcopy(chapter.cells):
        if cell.cell_type != "markdown":
            fold(cell)
            yield Part(inside, cell)
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if figure.get("caption"):
                number = page.figures.get(figure.get("name"))
                caption = " ".join(plain(figure["caption"], page).split())
                yield Part(inside, markdown(f"{cell.id}-caption", f"**{number}.** {caption}" if number else caption))
            continue
        count = 0
        for belongs, source in part_at_gates(cell.source, page, inside):
            inside = belongs
            if text := plain(source, page).strip():
                name = f"{cell.id}-{count}" if count else cell.id
                folds = {"jp-MarkdownHeadingCollapsed": True, "id": name} if text == SOLUTION else {}
                yield Part(inside, markdown(name, text, {**cell.metadata, **folds}))
                count += 1


def part_at_gates(source: str, page: Page, inside: str) -> Iterator[tuple[str, str]]:
    """The parts of a text, each with what it belongs to; an exercise begins with a heading, and so does a solution.

    The solution's heading stands alone: in JupyterLab it folds the cells below it.
    """
    at, heading = 0, ""
    for gate in GATE.finditer(source):
        yield inside, heading + source[at : gate.start()]
        at, heading, inside = gate.end(), "", gate["kind"] if gate["end"] == "start" else ""
        if inside == "exercise":
            label = LABEL.search(gate["options"])
            number = page.exercises.get(label[1], "") if label else ""
            heading = f"### Exercise {number} ({gate['title']})\n\n"
        elif inside == "solution":
            yield inside, SOLUTION
    yield inside, heading + source[at:]


def markdown(name: str, source: str, metadata: dict[str, Any] | None = None) -> NotebookNode:
    """A cell of text."""
    return new_markdown_cell(source, id=name, metadata=metadata or {})


def fold(cell: NotebookNode) -> None:
    """Fold in JupyterLab and Colab what the page folds or leaves out. In place."""
    tags = set(cell.metadata.get("tags", []))
    folded = {}
    if tags & {"hide-input", "hide-cell", "remove-input", "remove-cell"}:
        folded["source_hidden"] = True
        cell.metadata["cellView"] = "form"  # Colab's
    if tags & {"hide-output", "hide-cell"}:
        folded["outputs_hidden"] = True
    if folded:
        cell.metadata["jupyter"] = folded


def plain(text: str, page: Page) -> str:
    """A text in plain Markdown."""
    text = ROLE.sub(lambda role: page.roles.get(key(role[1], role[2]), role[0]), text)
    text = EQUATION.sub(lambda end: f"{end[1]}\\tag{{{page.equations.get(end[2], end[2])}}}\n{end[1]}$$", text)
    text = NOTE.sub(r"> **Note.** \1", text)
    text = ADMONITION.sub(lambda box: quoted(box[3] or box[2].capitalize(), OPTIONS.sub("", box[4] + "\n")), text)
    return QUOTED.sub(in_one_line, text)


def in_one_line(formula: re.Match[str]) -> str:
    """A formula in a quotation: JupyterLab would show the marks at the beginnings of its lines as part of it."""
    mark, before, lines = formula.groups()
    return f"{mark}{before}$${' '.join(line.removeprefix(mark) for line in lines.splitlines())}$$"


def quoted(title: str, text: str) -> str:
    """A box as a quotation with its title in bold."""
    lines = f"**{title}.** {text.strip()}".split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines)


def key(kind: str, content: str) -> Key:
    """By what the text of a role is found: its kind and its content, on one line."""
    return kind, " ".join(content.split()).lower()


def left_over(notebook: NotebookNode) -> list[str]:
    """Roles and directives that nobody outside the site can read."""
    return [
        found for cell in notebook.cells if cell.cell_type == "markdown" for found in LEFT_OVER.findall(cell.source)
    ]


# --- at the build ----------------------------------------------------------------------------------------------------


def is_chapter(app: Sphinx, page: str) -> bool:
    """Whether a page is made from a notebook."""
    return app.env.doc2path(page).endswith(".ipynb")


class Offer:
    """Reads off the pages what the notebooks need, and writes them when the site is finished."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}

    def mark(self, app: Sphinx, doctree: nodes.document) -> None:
        """Put a mark with what was written around each role: once it is resolved, nothing tells."""
        if not is_chapter(app, app.env.docname):
            return
        for reference in list(doctree.findall(pending_xref)):
            kind = "cite" if reference.get("refdomain") == "cite" else str(reference.get("reftype"))
            target, title = reference["reftarget"], reference.astext() if reference.get("refexplicit") else ""
            mark = nodes.inline("", "", bn_role=key(kind, f"{title} <{target}>" if title else target))
            reference.replace_self(mark)
            mark += reference

    def read(self, app: Sphinx, doctree: nodes.document, name: str) -> None:
        """Take down what the page says, and the marks off it."""
        if not is_chapter(app, name):
            return
        page = self.pages[name] = Page({}, {}, {}, {})
        numbers = app.env.toc_fignumbers.get(name, {})

        def number(kind: str, anchor: str) -> str:
            return ".".join(map(str, numbers.get(kind, {}).get(anchor, ())))

        address_here = app.config.html_baseurl and app.config.html_baseurl + app.builder.get_target_uri(name)
        for mark in [mark for mark in doctree.findall(nodes.inline) if "bn_role" in mark]:
            page.roles[mark["bn_role"]] = "".join(linked(child, address_here) for child in mark.children)
            mark.replace_self(mark.children)
        for formula in doctree.findall(nodes.math_block):
            if formula.get("label"):
                page.equations[formula["label"]] = number("displaymath", formula["ids"][0])
        for figure in doctree.findall(nodes.figure):
            for anchor in figure["ids"]:
                page.figures[anchor] = app.config.numfig_format["figure"] % number("figure", anchor)
        for exercise in doctree.findall(exercise_enumerable_node):
            page.exercises[exercise["label"]] = number("exercise", exercise["label"])

    def link(self, app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: object) -> None:
        """Offer the notebooks in the page's menu of downloads, in place of the file as it stands in the sources."""
        if name not in self.pages:
            return
        [menu] = [button for button in context["header_buttons"] if button.get("label") == "download-buttons"]
        kept = [button for button in menu["buttons"] if button["label"] != "download-source-button"]
        path = f"{context['pathto'](FOLDER, 1)}/{Path(name).name}"
        menu["buttons"] = [
            button("notebook", f"{path}.ipynb", "Notebook", "With all outputs, solutions folded", "fas fa-file-code"),
            button("student", f"{path}{STUDENT}.ipynb", "Student's notebook", "Without solutions", "fas fa-file-pen"),
            *kept,
        ]

    def write(self, app: Sphinx, exception: Exception | None) -> None:
        """Write both notebooks of each chapter, and take away the copies that Sphinx makes of the sources."""
        if exception or app.builder.format != "html":
            return
        folder = Path(app.outdir) / FOLDER
        folder.mkdir(exist_ok=True)
        for name, page in self.pages.items():
            chapter = nbformat.read(app.env.doc2path(name), as_version=4)
            for ending, student in (("", False), (STUDENT, True)):
                notebook = offered(chapter, page, read(os.environ)[1], student)
                for found in left_over(notebook):
                    logger.warning("nobody outside the site can read %r", found, location=name)
                path = folder / f"{Path(name).name}{ending}.ipynb"
                path.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", "utf-8")
            (Path(app.outdir) / "_sources" / f"{name}.ipynb").unlink(missing_ok=True)


def linked(node: nodes.Node, here: str) -> str:
    """What a node says; where the site has an address, what leads to another of its pages is a link."""
    if isinstance(node, nodes.reference) and here and node.get("refuri"):
        there = urljoin(here, node["refuri"])
        if urldefrag(there).url != here:
            return f"[{node.astext()}]({there})"
    return "".join(linked(child, here) for child in node.children) if node.children else node.astext()


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    offer = Offer()
    app.connect("doctree-read", offer.mark)
    app.connect("doctree-resolved", offer.read, priority=900)
    app.connect("html-page-context", offer.link, priority=502)  # the theme's menu is made at 501
    app.connect("build-finished", offer.write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
