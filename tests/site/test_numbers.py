"""Chapters have the numbers of their files, whatever stands before them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONF = """\
extensions = ["_ext.numbers"]
html_theme = "basic"
numfig = True
"""
INDEX = """\
Book
====

.. toctree::
   :numbered:

   chapters/06_transform

.. toctree::
   :numbered:

   chapters/12_axes
   chapters/remarks
"""
CHAPTER = """\
{name}
======

Section
-------

.. _fig-{name}:
.. figure:: /dot.png

   A dot.

See :numref:`fig-{name}`.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "chapters").mkdir()
    (tmp_path / "conf.py").write_text(CONF, "utf-8")
    (tmp_path / "index.rst").write_text(INDEX, "utf-8")
    (tmp_path / "dot.png").write_bytes(b"")
    for file, name in (("06_transform", "transform"), ("12_axes", "axes"), ("remarks", "remarks")):
        (tmp_path / f"chapters/{file}.rst").write_text(CHAPTER.format(name=name), "utf-8")
    return tmp_path


def build(folder: Path) -> dict[str, str]:
    command = [sys.executable, "-m", "sphinx", "-q", str(folder), str(folder / "html")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return {path.stem: path.read_text("utf-8") for path in (folder / "html").rglob("*.html")}


def test_title_section_figure_and_reference_have_the_number_of_the_file(folder: Path) -> None:
    pages = build(folder)
    for page, number in (("06_transform", 6), ("12_axes", 12)):
        text = pages[page].replace('<span class="section-number">', "")
        assert f"<h1>{number}. " in text
        assert f"<h2>{number}.1. " in text
        assert pages[page].count(f"Fig. {number}.1") == 2  # under the figure, and where the text names it
        assert f">{number}. " in pages["index"].replace('<span class="section-number">', "")


def test_a_page_without_a_number_in_its_name_is_counted_by_sphinx(folder: Path) -> None:
    assert "<h1>2. " in build(folder)["remarks"].replace('<span class="section-number">', "")


def test_a_chapter_that_is_renamed_is_numbered_anew(folder: Path) -> None:
    build(folder)
    (folder / "chapters/12_axes.rst").rename(folder / "chapters/13_axes.rst")
    (folder / "index.rst").write_text(INDEX.replace("12_axes", "13_axes"), "utf-8")
    pages = build(folder)
    assert "13.1. " in pages["13_axes"]
    assert "13. " in pages["index"]
