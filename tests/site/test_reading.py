"""Each chapter says under its question how long it takes to read."""

import re
from pathlib import Path

from bs4 import BeautifulSoup
from docutils import nodes
from docutils.core import publish_doctree

from _ext import reading

TEXT = """
Title of three
==============

Four words stand here.

::

    code = "is not read"

- one two
"""


def test_prose_is_counted_and_code_is_not():
    document = publish_doctree(TEXT)
    assert reading.words(document) == 3 + 4 + 2
    assert reading.minutes(document) == 1
    document += nodes.paragraph("", "word " * (3 * reading.PACE))
    document += nodes.container("", nodes.paragraph("", "output " * 999), classes=["cell"])
    document += nodes.math_block("", "a " * 999)
    assert reading.minutes(document) == 3


def test_each_chapter_says_it_between_its_question_and_what_it_needs(site: Path):
    chapters = sorted((site / "chapters").glob("[0-9][0-9]_*.html"))
    assert len(chapters) == 17
    for path in chapters:
        first, second, third, *_ = BeautifulSoup(path.read_text("utf-8"), "html.parser").select("article h1 ~ p")
        assert first.find("strong", recursive=False)
        found = re.fullmatch(r"(\d+) minutes to read, half a minute to run", second.get_text())
        assert found
        assert 8 < int(found[1]) < 40
        assert third.get_text().startswith("You need")
    assert "minutes to read" not in (site / "chapters/practice.html").read_text("utf-8")
