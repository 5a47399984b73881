"""Says on every page which edition it belongs to, and how to cite it and the book.

CITATION.cff is the home of the title, the authors, the version and its date. Between two releases, that is while
CHANGELOG.md lists changes under "Unreleased", the day and the name of the last commit are added, if the sources are a
git repository; a shallow clone is enough.
"""

import re
import subprocess
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
UNRELEASED = re.compile(r"^## Unreleased\n\s*(?!## )\S", re.MULTILINE)
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    # BibTeX counts braces, those behind a backslash too.
    | {"{": r"\textbraceleft{}", "}": r"\textbraceright{}"}
)


class Author(NamedTuple):
    """A name as a sentence has it and as BibTeX wants it: "Family, Given", or in braces what is nobody's."""

    name: str
    bibtex: str


class Edition(NamedTuple):
    """What is cited: the book, its version and the day of that, and the commit since then, if there is one."""

    title: str
    authors: tuple[Author, ...]
    version: str
    day: date
    commit: str = ""

    def __str__(self) -> str:
        """Return the version with its day, as a reader is shown it."""
        day = f"{self.day.day} {MONTHS[self.day.month - 1]} {self.day.year}"
        return f"Version {self.version}" + (f" with changes to {day} ({self.commit})" if self.commit else f", {day}")


class Citation(NamedTuple):
    """One thing to cite: what the reader calls it, in a sentence, and as an entry for BibTeX."""

    what: str
    text: str
    bibtex: str


def read(citation: str) -> Edition:
    """Return the edition that a CITATION.cff states; raise ConfigError if it lacks something."""
    fields = yaml.load(citation, yaml.BaseLoader)  # every value stays the text that it is
    try:
        return Edition(
            fields["title"],
            tuple(_author(author) for author in fields["authors"]),
            fields["version"],
            date.fromisoformat(fields["date-released"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"CITATION.cff: {error!r} where title, authors, version and date-released are read"
        ) from error


def _author(author: Mapping[str, str]) -> Author:
    if "name" in author:  # an organization
        return Author(author["name"], f"{{{author['name'].translate(LATEX)}}}")
    given, particle, family, suffix = (
        author.get(part, "") for part in ("given-names", "name-particle", "family-names", "name-suffix")
    )
    last = f"{particle} {family}".strip()
    bibtex = ", ".join(part.translate(LATEX) for part in (last, suffix, given) if part)
    return Author(" ".join(part for part in (given, last, suffix) if part), bibtex)


def last_commit(root: Path) -> tuple[str, date] | None:
    """Return the short name and the day of the last commit in the repository ``root``; None without one, or git."""
    if not (root / ".git").exists():  # git would find the repository of a folder further up
        return None
    try:
        name, day = (
            subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
            for command in (
                ["describe", "--always", "--exclude=*", "--abbrev=7", "--dirty= and edits"],
                ["log", "-1", "--format=%cs"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return name, date.fromisoformat(day)


def edition(root: Path) -> Edition:
    """Return the edition of the sources in ``root``."""
    release = read((root / "CITATION.cff").read_text("utf-8"))
    if UNRELEASED.search((root / "CHANGELOG.md").read_text("utf-8")) and (last := last_commit(root)):
        return release._replace(commit=last[0], day=last[1])
    return release


def in_words(title: nodes.Node, latex: bool = False) -> str:
    """Return a page's title as plain text, formulas as TeX between dollars; with ``latex`` as LaTeX prints it."""
    if isinstance(title, nodes.Text):
        return title.astext().translate(LATEX) if latex else title.astext()
    if isinstance(title, nodes.math):
        return f"${title.astext()}$"
    inner = "".join(in_words(child, latex) for child in title.children)
    command = {nodes.literal: "texttt", nodes.emphasis: "emph", nodes.strong: "textbf"}.get(type(title))
    return f"\\{command}{{{inner}}}" if latex and command else inner


def cite(edition: Edition, address: str, page: nodes.title | None = None, name: str = "", number: int = 0) -> Citation:
    """Return how to cite the book, or a page of it: its title, the ``name`` of its file, and its number as a chapter.

    The address is left out where it is empty.
    """
    title = f"{{{edition.title.translate(LATEX)}}}"
    kind, key, what, where = "misc", nodes.make_id(edition.title), "The book", ""
    fields = {"author": " and ".join(author.bibtex for author in edition.authors), "title": title}
    if page:
        kind, what, where = "incollection", "This chapter" if number else "This page", "In: "
        key += "-" + nodes.make_id(re.sub(r"^\d+_", "", name))  # without the number, which may change
        fields |= {"title": f"{{{in_words(page, latex=True)}}}", "booktitle": title}
        if number:
            fields["chapter"], where = str(number), f"Chapter {number} of: "
        where = f"{in_words(page)}. {where}"
    fields["year"] = str(edition.day.year)
    fields["note"] = str(edition) if edition.commit else f"Version {edition.version}"
    if address:
        fields["url"] = address
    lines = [f"  {field} = {{{value}}}," for field, value in fields.items()]
    people = "; ".join(author.name for author in edition.authors)
    text = f"{people}. {where}{edition.title}. {edition}. {address}".strip()
    return Citation(what, text, "\n".join([f"@{kind}{{{key},", *lines, "}"]))


def configure(app: Sphinx, config: Config) -> None:
    """Let every template know the edition."""
    config["html_context"] |= {"edition": edition(ROOT)}


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Let a page of the book know how it is cited, and the book."""
    if doctree is None:
        return
    site, this = app.config.html_baseurl, context["edition"]
    context["citations"] = [cite(this, site)]
    if page != app.config.root_doc:
        number, *_ = app.env.toc_secnumbers.get(page, {}).get("") or [0]
        address = site and context["pageurl"]
        context["citations"].insert(0, cite(this, address, app.env.titles[page], page.rpartition("/")[2], number))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    app.connect("config-inited", configure)
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
