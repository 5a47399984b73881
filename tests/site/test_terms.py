"""Terms lead to the notation, and the formula card shows the chapters' own formulas."""

import json
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from _ext.from_chapter import find_formula
from tests.site.checker import parse
from tests.site.conftest import ROOT


def page(site: Path, name: str) -> BeautifulSoup:
    return parse(site / f"chapters/{name}.html")


def test_a_bold_term_leads_to_its_entry_once(site: Path):
    entries = {term["id"]: term.get_text() for term in page(site, "notation").select("dt[id]")}
    links = [a for a in page(site, "06_transform").select("article a") if "notation.html#term-" in str(a["href"])]
    assert len(links) > 10
    for link in links:
        assert link.strong is not None
        assert entries[str(link["href"]).partition("#")[2]].lower().startswith(link.get_text().lower())
    targets = [str(link["href"]) for link in links]
    assert len(set(targets)) == len(targets)


def test_the_contents_beside_a_page_name_its_headings(site: Path):
    notation = page(site, "notation")
    links = notation.select(".page-toc a")
    assert len(links) > 10
    for link in links:
        heading = notation.select_one(f"[id='{str(link['href'])[1:]}'] > :is(h2, h3)")
        assert heading is not None
        assert link.get_text(strip=True) == heading.get_text(strip=True).removesuffix("#")


def test_the_card_shows_the_formulas_of_the_chapters(site: Path):
    card = [formula.get_text() for formula in page(site, "formulas").select("div.math math")]
    chapter = page(site, "06_transform").select_one("#equation-eq-bias math")
    assert chapter is not None
    assert chapter.get_text().rstrip(".") in card
    sources = page(site, "formulas").select("p.formula-source a")
    assert len(sources) == len(card)


def test_a_label_that_no_equation_has_is_an_error():
    notebook = json.loads((ROOT / "chapters/06_transform.ipynb").read_text("utf-8"))
    assert find_formula(notebook, "eq-bias").startswith("(z_i + b)")
    with pytest.raises(LookupError, match="'eq-nowhere'"):
        find_formula(notebook, "eq-nowhere")


def test_a_formula_within_a_quoted_derivation_is_found_without_its_marks():
    text = "> **Derivation.** Since\n>\n> $$\n> a = b ,\n> \\quad c > d\n> $$ (eq-quoted)\n>\n> it follows.\n"
    notebook = {"cells": [{"cell_type": "markdown", "source": text.splitlines(keepends=True)}]}
    assert find_formula(notebook, "eq-quoted") == "a = b ,\n\\quad c > d"
