"""A figure that is shown on a second page is the chapter's own."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from _ext.from_chapter import find_figure
from tests.site.checker import parse
from tests.site.conftest import ROOT


def test_the_first_page_shows_the_chapters_picture_and_alt_text(site: Path):
    notebook = json.loads((ROOT / "chapters/06_transform.ipynb").read_text("utf-8"))
    png, alt, _ = find_figure(notebook, "fig-dots")
    html = parse(site / "chapters/index.html")
    [image] = html.select("figure img")
    assert image["alt"] == alt
    assert (site / "chapters" / str(image["src"])).read_bytes() == png


def test_the_first_page_shows_it_live(live_page: Page, address: str):
    live_page.goto(f"{address}/chapters/index.html")
    figure = live_page.locator("#fig-dots")
    figure.scroll_into_view_if_needed()
    expect(figure.locator("img")).to_be_hidden()
    before = figure.locator(".bn-words").inner_text()
    figure.get_by_role("slider", name="Example 4").press("ArrowLeft")
    expect(figure.locator(".bn-words")).not_to_have_text(before)


def test_a_name_that_no_executed_cell_has_is_an_error():
    notebook = json.loads((ROOT / "chapters/06_transform.ipynb").read_text("utf-8"))
    with pytest.raises(LookupError, match="'fig-nowhere'"):
        find_figure(notebook, "fig-nowhere")


def test_the_reference_says_nothing_empty_about_fields(site: Path):
    assert "Alias for field" not in (site / "chapters/reference.html").read_text("utf-8")
