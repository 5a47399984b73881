"""The checker of pages sees what is wrong with broken ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.site.checker import problems
from tools import browser
from tools.browser import VIEWS, View

GOOD = "<h1>A page</h1><article><p>With <math><mi>x</mi></math> in it.</p></article>"
FONT = """<style>@font-face { font-family: "STIX Two Math"; src: url(font.woff2); }
math { font-family: "STIX Two Math"; }</style>"""

HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<title>A page</title>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
{head}
</head>
<body><main>{body}</main></body>
</html>"""

Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path, site: Path, chromium: Browser) -> Check:
    """The checker on a page with the given body."""

    def run(body: str, view: View = VIEWS["wide"], head: str = FONT) -> list[str]:
        html = HTML.format(head=head, body=body)
        (tmp_path / "page.html").write_text(html, "utf-8")
        (tmp_path / "font.woff2").write_bytes((site / "_static/fonts/stix-two-math.woff2").read_bytes())
        with browser.serve(tmp_path) as address:
            return problems(chromium, f"{address}/page.html", view)

    return run


def test_good_page_passes(check: Check) -> None:
    assert check(GOOD) == []


@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        ("<script>console.error('it went wrong')</script>", "console error: it went wrong"),
        ("<script>throw new Error('it went wrong')</script>", "script error: it went wrong"),
        ('<script src="https://example.invalid/script.js"></script>', "another host: https://example.invalid/"),
        ('<script src="https://example.invalid/script.js"></script>', "a request failed: https://example.invalid/"),
        ('<img src="missing.png" alt="a picture">', "status 404"),
        ('<article><math style="display: none"><mi>x</mi></math></article>', "a formula has no size: x"),
        ("<mjx-container>x</mjx-container>", "maths is left to a script: <mjx-container>"),
        ("<p>The mean $x$ of it.</p>", "TeX is left over: $x$"),
        (r"<p>The mean \(x\) of it.</p>", r"TeX is left over: \("),
        (r"<p>The mean \mu of it.</p>", r"TeX is left over: \mu"),
        ('<div style="width: 2000px">wide</div>', "the page scrolls sideways"),
        ('<article style="width: 9em"><p style="overflow: hidden">Unbreakable_and_long</p></article>', "cut off: <p"),
        ('<p style="color: #bbb; background: #fff">pale</p>', "axe, color-contrast"),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "axe, image-alt"),
        ('<details><summary>More</summary><p style="color: #bbb">pale</p></details>', "axe, color-contrast"),
    ],
)
def test_broken_page_is_seen(check: Check, broken: str, seen: str) -> None:
    found = check(GOOD + broken)
    assert any(seen in problem for problem in found), found


def test_page_too_wide_for_a_phone_is_seen(check: Check) -> None:
    body = GOOD + '<div style="width: 500px">wide</div>'
    assert check(body) == []
    assert any("the page scrolls sideways" in problem for problem in check(body, VIEWS["phone"]))


def test_missing_math_font_is_seen(check: Check) -> None:
    assert check(GOOD, head="") == ["the math font is not loaded"]
