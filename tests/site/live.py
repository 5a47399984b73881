"""Live figures in Chromium: where they are, how one is opened, and what it says."""

import json
import re
from functools import cache
from typing import Any

from playwright.sync_api import Locator, Page, expect

from _ext.live import live_figures
from tests.site.conftest import ROOT
from tools import browser

LIVE = {
    name: (path.stem, figure)
    for path in sorted((ROOT / "chapters").glob("*.ipynb"))
    for name, figure in live_figures(json.loads(path.read_text("utf-8"))).items()
}  # of each live figure its chapter, and its module and state
CHAPTERS = {name: chapter for name, (chapter, _) in LIVE.items()}
STATES: dict[str, Any] = {name: figure["state"] for name, (_, figure) in LIVE.items()}


@cache
def _alone(name: str) -> str:
    """Of a figure's page the head, the figure and the script that mounts it: what is left loads in no time."""
    head, body = (browser.SITE / f"chapters/{CHAPTERS[name]}.html").read_text("utf-8").split("<body", 1)
    head = re.sub("<script defer[^>]*></script>", "", head)  # it wants the parts of a whole page
    figure = re.search(rf'<figure\b[^>]*\bid="{name}".*?</figure>', body, re.DOTALL)
    host = re.search(r"<script[^>]*host\.js[^>]*></script>", body)
    assert figure
    assert host
    return f'{head}<body><main class="bd-article"><h1>{name}</h1>{figure[0]}</main>{host[0]}</body></html>'


def live(page: Page, address: str, name: str, *, alone: bool = True, state: str = "") -> Locator:
    """A figure, live: alone on a light page with the chapter's head and styles, or in its whole chapter.

    ``state`` is what stands in the address behind the figure's name.
    """
    chapter = f"{address}/chapters/{CHAPTERS[name]}.html"
    if alone:
        page.route(
            f"{chapter}*", lambda route: route.fulfill(body=_alone(name), content_type="text/html; charset=utf-8")
        )
    page.goto("about:blank")  # else another state of the same page loads nothing
    page.goto(f"{chapter}#{name}~{state}" if state else chapter)
    figure = page.locator(f"#{name}")
    figure.scroll_into_view_if_needed()
    expect(figure.locator(".bn-live")).to_be_visible(timeout=30_000)  # on a busy machine it takes a while
    expect(figure.locator(".bn-words")).to_have_text(re.compile(r"\S"))  # which it tells when it has been drawn
    return figure


def words(figure: Locator) -> str:
    """What the figure says of the state that it shows."""
    return figure.locator(".bn-words").inner_text()


def number(text: str) -> float:
    """A number as a figure tells it."""
    return float(text.replace("−", "-"))


def drag(page: Page, handle: Locator, right: float, down: float = 0) -> None:
    """Take a handle with the mouse, move it by so many pixels, and let it go."""
    box = handle.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=3)
    page.mouse.up()
