"""Each page says which edition it belongs to, and how to cite it and the book."""

import re
import subprocess
from datetime import date
from pathlib import Path

import pytest
from docutils import nodes
from pybtex.database import parse_string
from sphinx.errors import ConfigError

from _ext.edition import Author, Edition, cite, edition, read
from tests.site.conftest import PAGES

CITATION = """\
title: A & B
version: 1.10
date-released: 2026-02-03
authors:
  - given-names: Ada
    name-particle: van
    family-names: Ville
  - name: The R&D Office, Inc.
"""
BOOK = Edition("A & B", (Author("Ada van Ville", "van Ville, Ada"), Author("R&D", r"{R\&D}")), "1.10", date(2026, 2, 3))
TITLE = nodes.title("", "", nodes.Text("5 % of "), nodes.math("", "", nodes.Text(r"\sqrt{N}")), nodes.Text(" {a} & "))
TITLE += nodes.literal("", "", nodes.Text("b_n"))


def test_what_the_citation_file_says() -> None:
    authors = Author("Ada van Ville", "van Ville, Ada"), Author("The R&D Office, Inc.", r"{The R\&D Office, Inc.}")
    assert read(CITATION) == Edition("A & B", authors, "1.10", date(2026, 2, 3))


@pytest.mark.parametrize("line", ["title: A & B\n", "version: 1.10\n", "date-released: 2026-02-03\n", "2026-"])
def test_citation_file_that_lacks_something(line: str) -> None:
    with pytest.raises(
        ConfigError, match=r"CITATION\.cff: .* where title, authors, version and date-released are read"
    ):
        read(CITATION.replace(line, ""))


def test_citation_of_a_chapter_whose_title_has_markup() -> None:
    what, text, bibtex = cite(BOOK, "https://example.org/a_b.html", TITLE, "07_why_so", 7)
    assert what == "This chapter"
    assert text == (
        r"Ada van Ville; R&D. 5 % of $\sqrt{N}$ {a} & b_n. Chapter 7 of: A & B. Version 1.10, 3 February 2026."
        " https://example.org/a_b.html"
    )
    [(key, entry)] = parse_string(bibtex, "bibtex").entries.items()
    assert (key, entry.type) == ("a-b-why-so", "incollection")
    assert dict(entry.fields) == {
        "title": r"{5 \% of $\sqrt{N}$ \textbraceleft{}a\textbraceright{} \& \texttt{b\_n}}",
        "booktitle": r"{A \& B}",
        "chapter": "7",
        "year": "2026",
        "note": "Version 1.10",
        "url": "https://example.org/a_b.html",
    }
    assert [" ".join(person.last_names) for person in entry.persons["author"]] == ["Ville", r"{R\&D}"]


def test_citation_of_the_book_and_of_another_page() -> None:
    book, page = cite(BOOK, ""), cite(BOOK, "", TITLE, "practice")
    assert (book.what, page.what) == ("The book", "This page")
    assert book.text == "Ada van Ville; R&D. A & B. Version 1.10, 3 February 2026."
    assert " b_n. In: A & B. " in page.text
    assert "@misc{a-b,\n" in book.bibtex
    assert not re.search("url|chapter", book.bibtex + page.bibtex)


def git(*command: str, folder: Path) -> None:
    me = ("-c", "user.name=a", "-c", "user.email=a", "-c", "commit.gpgsign=false")
    environment = {"GIT_COMMITTER_DATE": "2026-03-04T12:00:00+0000", "PATH": "/usr/local/bin:/usr/bin:/bin"}
    subprocess.run(["git", *me, *command], cwd=folder, env=environment, check=True, capture_output=True)


def test_between_releases_the_last_commit_is_named(tmp_path: Path) -> None:
    root = tmp_path / "book"
    root.mkdir()
    released = "# What changed\n\n## Unreleased\n\n## Version 1.10 - 2026-02-03\n\n- A.\n"
    (root / "CITATION.cff").write_text(CITATION)
    (root / "CHANGELOG.md").write_text(released)
    assert str(edition(root)) == "Version 1.10, 3 February 2026"
    (root / "CHANGELOG.md").write_text(released.replace("Unreleased\n", "Unreleased\n\n- B.\n"))
    git("init", folder=tmp_path)
    git("commit", "--allow-empty", "-m", "Another repository", folder=tmp_path)
    assert str(edition(root)) == "Version 1.10, 3 February 2026"  # no git of its own
    git("init", folder=root)
    assert str(edition(root)) == "Version 1.10, 3 February 2026"  # no commit yet
    git("add", ".", folder=root)
    git("commit", "-m", "Begin", folder=root)
    git("clone", "--depth=1", root.as_uri(), "shallow", folder=tmp_path)
    for clone in (root, tmp_path / "shallow"):
        assert re.fullmatch(r"Version 1\.10 with changes to 4 March 2026 \([0-9a-f]{7}\)", str(edition(clone)))
    (root / "CHANGELOG.md").write_text(released + "- C.\n")
    assert str(edition(root)) == "Version 1.10, 3 February 2026"
    (root / "CITATION.cff").write_text(CITATION + "abstract: It changes.\n")
    (root / "CHANGELOG.md").write_text(released.replace("Unreleased\n", "Unreleased\n\n### Added\n\n- B.\n"))
    assert str(edition(root)).endswith(" and edits)")


@pytest.mark.parametrize("path", PAGES)
def test_each_page_shows_its_version(site: Path, path: str) -> None:
    text = (site / path).read_text("utf-8")
    [shown] = re.findall(r'<p class="bn-edition">(.*?)</p>', text, re.DOTALL)
    link = r"(?:chapters/)?(?:changes\.html)?#?"
    assert re.fullmatch(rf'\s*Version \S+.* 20\d\d.* · <a href="{link}">What changed</a>\s*', shown)
    citations = len(re.findall("@(?:misc|incollection){batch-normalization-measured", text))
    assert citations == (1 if path == "chapters/index.html" else 2 if path.startswith("chapters/") else 0)
