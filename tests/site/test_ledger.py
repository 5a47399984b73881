"""The ledger holds every claim of the chapters once, says what their cards say, and can be searched and downloaded."""

import copy
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, expect

from _ext import ledger
from bnlib.claims import MIME_TYPE, Claim, more
from bnlib.effects import difference
from tests.site.conftest import ROOT

CHAPTERS = ROOT / "chapters"


def claim(id: str = "toy", shift: float = 0.1, **about: Any) -> Claim:
    """A claim whose parts "a" and "b" lie at the shift and at nothing."""
    noise = np.random.default_rng(0).normal(0, 0.002, (3, 16))
    effects = {"a": difference(0.5 + shift + noise[0], 0.5 + noise[1]), "b": difference(0.5 + noise[2], 0.5 + noise[1])}
    how = {"chapter": "08_training", "statement": f"Claim <{id}>.", "source": "T. & Co.", "criterion": more("accuracy")}
    return Claim.measured(id=id, effect=effects, **{**how, **about})


def notebook(folder: Path, name: str, *claims: Claim) -> None:
    outputs = [{"data": json.loads(json.dumps(c._repr_mimebundle_()))} for c in claims]
    cells = [{"source": ["# A title\n"], "cell_type": "markdown"}, {"source": ["x"], "outputs": outputs}]
    (folder / f"{name}.ipynb").write_text(json.dumps({"cells": cells}), "utf-8")


@pytest.fixture
def claims(tmp_path: Path) -> list[ledger.CLAIM]:
    moved = {"MNIST": {"a": difference(np.full(8, 0.5), np.linspace(0.6, 0.61, 8))}}
    notebook(tmp_path, "02_b", claim("two", primary=["a"], transfer=moved, overlap=1 / 3), claim("three", -0.1))
    notebook(tmp_path, "01_a", claim("one", 0.0))
    return ledger.gather(tmp_path)


# What is gathered


def test_claims_come_in_the_order_of_the_chapters(claims: list[ledger.CLAIM]):
    assert [(c["id"], c["page"], c["title"], c["anchor"]) for c in claims] == [
        ("one", "01_a", "A title", "claim-one"),
        ("two", "02_b", "A title", "claim-two"),
        ("three", "02_b", "A title", "claim-three"),
    ]


def test_an_id_that_stands_twice_is_an_error(tmp_path: Path):
    notebook(tmp_path, "01_a", claim("one"))
    notebook(tmp_path, "02_b", claim("one"))
    with pytest.raises(LookupError, match="claim 'one' stands in 01_a and 02_b"):
        ledger.gather(tmp_path)


def test_every_card_of_the_chapters_is_there():
    found = ledger.gather(CHAPTERS)
    cards = [
        output["data"][MIME_TYPE]["id"]
        for path in sorted(CHAPTERS.glob("*.ipynb"))
        for cell in json.loads(path.read_text("utf-8"))["cells"]
        for output in cell.get("outputs", [])
        if MIME_TYPE in output.get("data", {})
    ]
    assert [c["id"] for c in found] == cards
    assert len(cards) > 10
    assert all(c["chapter"] == c["page"] for c in found)


# What is said


def test_counts_and_doubts_are_those_of_the_claims(claims: list[ledger.CLAIM]):
    assert ledger.counts(claims) == {"holds": 1, "does not hold": 2, "mixed": 0, "partly open": 0, "open": 0}
    assert ledger.counted(claims) == "Of 3 claims 1 holds and 2 do not hold."
    parts = ledger.settled(claims)
    assert len(parts) == 5  # two's "b" decides nothing
    assert "Each of the 5 settled parts" in ledger.doubt(claims)
    assert ledger.strength({"chance": 0.001, "chance, resampled": 0.02}, 10) == "survives both"
    assert ledger.strength({"chance": 0.003, "chance, resampled": 0.02}, 10) == "survives resampling, not Bonferroni"
    assert ledger.strength({"chance": 0.001, "chance, resampled": 0.03}, 10) == "survives Bonferroni, not resampling"
    assert ledger.strength({"chance": 0.003, "chance, resampled": 0.03}, 10) == "survives neither"
    assert ledger.strength({"chance": None}, 10) == ""
    changed = copy.deepcopy(claims)
    changed[1]["parts"][0]["chance, resampled"] = 0.5
    assert ledger.doubt(changed) != ledger.doubt(claims)


def test_a_row_says_what_the_card_says_and_escapes_it(claims: list[ledger.CLAIM]):
    page = BeautifulSoup(ledger.table(claims, 5), "html.parser")
    rows = page.select("tbody > tr")
    assert [row["id"] for row in rows] == ["claim-one", "claim-two", "claim-three"]
    two = rows[1]
    link = two.select_one("th a")
    assert link
    assert (link["href"], link.text) == ("02_b.html#claim-two", "Claim <two>.")
    text = two.get_text(" ")
    part = claims[1]["parts"][0]
    for words in (part["text"], f"n = {part['n']}: holds", "MNIST: turns", claims[1]["headline"], "T. & Co."):
        assert words in text
    assert "not run" in rows[0].get_text(" ")
    assert [row["data-verdict"] for row in rows] == ["does not hold", "holds", "does not hold"]
    assert "same" in rows[0].get_text(" ")
    assert "opposite" in rows[2].get_text(" ")


def test_the_plot_has_a_line_for_each_part_that_decides(claims: list[ledger.CLAIM]):
    page = BeautifulSoup(ledger.forest(claims), "html.parser")
    assert [row.select("td")[-1].text for row in page.select("tr")] == ["same", "same", "holds", "opposite", "same"]
    assert len(page.select("svg circle")) == 5
    assert len(page.select("table")) == 1


def test_the_files_hold_every_effect(claims: list[ledger.CLAIM]):
    rows = list(csv.DictReader(io.StringIO(ledger.as_csv(claims))))
    assert [(r["id"], r["role"], r["data"], r["condition"], r["verdict"]) for r in rows][2:5] == [
        ("two", "part", "", "a", "holds"),
        ("two", "transfer", "MNIST", "a", "turns"),
        ("two", "other", "", "b", ""),
    ]
    part = claims[1]["parts"][0]
    assert [float(rows[2][name]) for name in ("effect", "low", "high")] == [part["effect"], *part["interval"]]


# On the page


def test_the_readme_and_the_first_page_count_as_the_ledger_does(site: Path):
    sentence = ledger.counted(ledger.gather(CHAPTERS))
    readme = (ROOT / "README.md").read_text("utf-8")
    assert sentence in readme, f"README.md must say: {sentence}"
    page = BeautifulSoup((site / "chapters/index.html").read_text("utf-8"), "html.parser")
    assert sentence in page.get_text()
    surprising = page.select(".bn-verdicts li")
    assert len(surprising) == 5
    for item in surprising:
        name, _, anchor = str(item.select("a")[0]["href"]).partition("#")
        assert BeautifulSoup((site / "chapters" / name).read_text("utf-8"), "html.parser").find(id=anchor)


def test_the_page_is_complete_and_its_links_lead_to_the_cards(site: Path):
    page = BeautifulSoup((site / "chapters/ledger.html").read_text("utf-8"), "html.parser")
    found = ledger.gather(CHAPTERS)
    assert [row["id"] for row in page.select(".bn-ledger > tbody > tr")] == [c["anchor"] for c in found]
    assert ledger.counted(found) in page.get_text()
    for claim in found:
        assert f'id="{claim["anchor"]}"' in (site / f"chapters/{claim['page']}.html").read_text("utf-8")
    assert json.loads((site / "_static/ledger.json").read_text("utf-8")) == found
    assert (site / "_static/ledger.csv").read_text("utf-8") == ledger.as_csv(found)


def test_where_a_chapter_names_a_claim_it_leads_to_its_card(site: Path):
    known = {c["id"]: c for c in ledger.gather(CHAPTERS)}
    page = BeautifulSoup((site / "chapters/17_choosing.html").read_text("utf-8"), "html.parser")
    named = [code for code in page.select("td code, article ol code") if ledger.NAME.fullmatch(code.get_text())]
    assert len(named) > 60
    for code in named:
        claim, link = known[code.get_text()], code.find_parent("a")
        assert link is not None
        assert link["href"] == f"{claim['page']}.html#{claim['anchor']}"
        assert f"Verdict: {claim['headline']}." in str(link["title"])
    symbols = BeautifulSoup((site / "chapters/notation.html").read_text("utf-8"), "html.parser")
    (name,) = [code for code in symbols.select("td code") if code.get_text() == "penalty"]
    assert name.find_parent("a") is None, "outside the chapters a name may be that of something else"


def test_it_can_be_filtered(chromium: Browser, address: str):
    page = chromium.new_page()
    page.goto(f"{address}/chapters/ledger.html")
    found = ledger.gather(CHAPTERS)
    rows, status = page.locator(".bn-ledger > tbody > tr:visible"), page.locator(".bn-ledger-filters [role=status]")
    expect(status).to_have_text(f"{len(found)} of {len(found)} claims")
    holding = [c for c in found if c["verdict"] == "holds"]
    page.get_by_label("Verdict").select_option("holds")
    expect(rows).to_have_count(len(holding))
    page.get_by_label("Chapter").select_option(holding[0]["title"])
    expect(rows).to_have_count(sum(c["title"] == holding[0]["title"] for c in holding))
    page.get_by_label("Verdict").select_option("all")
    page.get_by_label("Chapter").select_option("all")
    page.get_by_label("Words").fill("SIGMOID gradient")
    wanted = [c["anchor"] for c in found if all(w in json.dumps(c).lower() for w in ("sigmoid", "gradient"))]
    assert 0 < rows.count() <= len(wanted) < len(found)
    expect(status).to_have_text(f"{rows.count()} of {len(found)} claims")
    page.close()
