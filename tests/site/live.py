"""Live figures in Chromium: where they are, how one is opened, and what it says."""

import json

from playwright.sync_api import Locator, Page, expect

from _ext.live import live_figures
from tests.site.conftest import ROOT

CHAPTERS = {
    name: path.stem
    for path in sorted((ROOT / "chapters").glob("*.ipynb"))
    for name in live_figures(json.loads(path.read_text("utf-8")))
}  # of each live figure


def live(page: Page, address: str, name: str) -> Locator:
    """A figure, live."""
    page.goto(f"{address}/chapters/{CHAPTERS[name]}.html")
    figure = page.locator(f"#{name}")
    figure.scroll_into_view_if_needed()
    expect(figure.locator(".bn-live")).to_be_visible()
    return figure


def words(figure: Locator) -> str:
    """What the figure says of the state that it shows."""
    return figure.locator(".bn-words").inner_text()


def number(text: str) -> float:
    """A number as a figure tells it."""
    return float(text.replace("−", "-"))
