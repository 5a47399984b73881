"""The checker of pages sees what is wrong with broken ones."""

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from playwright.sync_api import Browser, Page

from tests.site.checker import Seen, file_problems, keyboard_problems, open_tab, print_problems, problems, seen
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


def test_buttons_too_small_for_a_finger_are_seen(check: Check) -> None:
    button = '<button style="border: 0; font-size: 6px; height: 12px; padding: 0; width: 12px">a</button>'
    assert any("axe, target-size" in problem for problem in check(GOOD + 3 * button, VIEWS["phone"]))


def test_missing_math_font_is_seen(check: Check) -> None:
    assert check(GOOD, head="") == ["the math font is not loaded"]


TAB = '<a href="#">first</a> <button>second</button>'


def test_good_page_passes_the_keyboard(tab: Callable[[str], list[str]]) -> None:
    assert tab(TAB) == []


@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        ("<style>button:focus { outline: none }</style>", "the focus is not seen on <button"),
        ('<button tabindex="1">third</button>', "Tab comes out of order to <button"),
        ("<script>addEventListener('keydown', event => event.preventDefault())</script>", "Tab does not reach <a"),
        (
            "<script>document.querySelector('button').onfocus = () => "
            "setTimeout(() => document.querySelector('a').focus(), 30)</script>",
            "Tab comes out of order to <a",
        ),
    ],
)
def test_what_the_keyboard_misses_is_seen(tab: Callable[[str], list[str]], broken: str, seen: str) -> None:
    found = tab(TAB + broken)
    assert any(seen in problem for problem in found), found


@pytest.fixture
def tab(tmp_path: Path, chromium: Browser) -> Callable[[str], list[str]]:
    """The keyboard's checker on a page with the given body."""
    return lambda body: on_page(keyboard_problems, tmp_path, chromium, body)


def on_page(look: Callable[[Page], list[str]], folder: Path, chromium: Browser, body: str) -> list[str]:
    (folder / "page.html").write_text(HTML.format(head="", body=body), "utf-8")
    page = chromium.new_page()
    with browser.serve(folder) as address:
        page.goto(f"{address}/page.html")
        found = look(page)
    page.close()
    return found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("<article><h1>A page</h1></article>", []),
        ("<nav>contents</nav><article><h1>A page</h1></article>", ['it prints <nav class="">']),
        ("<article><h1>A page</h1><p>x<button class='copybtn'>", ['it prints <button class="copybtn">']),
        ("<article><h1 style='display: none'>A page</h1></article>", ["it does not print the article h1"]),
        ("<article><h1>A page</h1><details><summary>More", ['it prints <details class="">']),
        ("<article><h1 style='color: #999'>A page</h1></article>", ['too pale for paper: <h1 class="">']),
        (f"<article><h1>A page</h1><pre>{'wide ' * 99}</pre>", ['wider than the paper: <pre class="">']),
        ("<article><h1>A page</h1><p style='width: 700px'>Wide", ['wider than the paper: <p class="">']),
    ],
)
def test_printing(tmp_path: Path, chromium: Browser, body: str, found: list[str]) -> None:
    assert on_page(print_problems, tmp_path, chromium, body) == found


NOTHING = Seen([], [], [], [], [])
FOLD = "<details><summary>More</summary><p>folded</p></details>"
WHOLE = f"<nav><button>first</button></nav><article>{GOOD}{FOLD}</article>"
THEME = """<style>[data-theme=dark] body { background: #111; color: #eee }
@media print { nav { display: none } }</style>
<script>const night = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.dataset.theme = night.matches ? "dark" : "light";
night.onchange = follow; follow();
addEventListener("beforeprint", () => {
    document.documentElement.dataset.theme = "light"; document.querySelector("details").open = true });
addEventListener("afterprint", () => { follow(); document.querySelector("details").open = false });</script>"""
PALE = "<pre><span class='pale'>x</span> <span class='pale'>xx</span></pre><style>.pale { color: #bbb }</style>"
FORMULAS = 3 * "<p><math><mi>y</mi></math> and <em>xx</em>, <span class='n'><span>if</span></span></p>"
WORDS = "<pre>" + "<span class='k'>if</span> <span>x</span>\n" * 9 + "</pre>"


@pytest.fixture
def look(tmp_path: Path, site: Path, chromium: Browser) -> Callable[..., Seen]:
    """One visit to a page with the given body, which follows the reader's colours."""

    def run(body: str, head: str = THEME, limit: int = 60_000) -> Seen:
        (tmp_path / "page.html").write_text(HTML.format(head=FONT + head, body=body), "utf-8")
        (tmp_path / "font.woff2").write_bytes((site / "_static/fonts/stix-two-math.woff2").read_bytes())
        with browser.serve(tmp_path) as address, open_tab(chromium) as page:
            return seen(page, f"{address}/page.html", limit)

    return run


def test_good_page_passes_one_visit(look: Callable[..., Seen]) -> None:
    assert look(f"{WHOLE}<article>{WORDS}{FORMULAS}</article>") == NOTHING


@pytest.mark.parametrize(
    ("broken", "ways", "what"),
    [
        ("<style>button:focus { outline: none }</style>", ["keyboard"], "the focus is not seen on <button"),
        ("<nav aria-label='a' style='display: block !important'>more</nav>", ["printed"], "it prints <nav"),
        ("<style>[data-theme=light] summary { color: #bbb }</style>", ["printed", "wide"], "pale for paper|contrast"),
        ("<style>[data-theme=dark] summary { color: #333 }</style>", ["dark"], "axe, color-contrast"),
        ("<style>[data-theme=dark] details p { color: #333 }</style>", ["dark"], "axe, color-contrast.*folded"),
        (WORDS + "<style>[data-theme=dark] .k:first-child { color: #333 }</style>", ["dark"], "color-contrast.*if"),
        (WORDS.replace("<span>x", "<span style='color: #bbb'>xx", 1), ["wide"], "axe, color-contrast.*xx"),
        (
            f"<article>{WORDS}</article><style>@media print {{ .k {{ color: #999 }} }}</style>",
            ["printed"],
            "too pale for paper: <span",
        ),
        (FORMULAS.replace("<mi>y", "<mi style='color: #bbb'>yy", 1), ["wide"], "axe, color-contrast.*yy"),
        (FORMULAS.replace("<mi>", "<mi role='img'>", 1), ["wide"], "axe, role-img-alt"),
        (FORMULAS.replace("<em>", "<em style='color: #bbb'>", 1), ["wide"], "axe, color-contrast.*xx"),
        (FORMULAS.replace("<em>", "<em role='img'>", 1), ["wide"], "axe, role-img-alt"),
        (FORMULAS + "<style>[data-theme=dark] em { color: #333 }</style>", ["dark"], "axe, color-contrast.*xx"),
        (WORDS + PALE, ["wide"], "axe, color-contrast.*xx"),
        (WORDS.replace("<span>x", "<span role='img'>x", 1), ["wide"], "axe, role-img-alt"),
        ("<script>night.onchange = null</script>", ["wide"], "the reader prefers light, but the page is dark"),
        ("<script>night.addEventListener('change', () => { throw 1 })</script>", ["wide"], "script error: 1"),
        ("<img src='missing.png' alt='a picture'>", ["wide"], "status 404"),
    ],
)
def test_what_one_visit_sees(look: Callable[..., Seen], broken: str, ways: list[str], what: str) -> None:
    found = look(WHOLE + broken)
    assert [way for way in Seen._fields if getattr(found, way)] == ways, found
    for way in ways:
        assert any(re.search(what, problem) for problem in getattr(found, way)), found


def test_page_over_the_limit_is_seen(tmp_path: Path, look: Callable[..., Seen]) -> None:
    (tmp_path / "noise.bin").write_bytes(Random(0).randbytes(30_000))
    found = look(WHOLE + "<script>fetch('noise.bin')</script>", limit=40_000)
    assert "noise.bin (300" in found.weight[0]
    assert found._replace(weight=[]) == NOTHING


def test_picture_that_waits_counts(tmp_path: Path, look: Callable[..., Seen]) -> None:
    (tmp_path / "late.png").write_bytes(Random(0).randbytes(30_000))
    body = '<p style="height: 20000px">long</p><img src="late.png" alt="" loading="lazy">'
    [problem] = look(WHOLE + body, limit=40_000).weight
    assert "late.png (30000)" in problem


PICTURE = '<img src="a.png" width="4" height="3" alt="A picture.">'


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('<a href="other.html#here">x</a> <a href="#">top</a> <a href="https://example.org/">x</a>', []),
        ("<a href='gone.html'>x</a>", ["dead link: gone.html"]),
        ("<a href='../other.html'>x</a>", ["dead link: ../other.html"]),
        ("<a href='/other.html'>x</a>", ["dead link: /other.html"]),
        ("<a href='other.html#gone'>x</a>", ["dead link: other.html#gone"]),
        ("<a href='#gone'>x</a>", ["dead link: #gone"]),
        ("<script src='gone.js'></script>", ["dead link: gone.js"]),
        (f"<article>{PICTURE}{PICTURE.replace('<img', '<img loading=lazy')}</article>", []),
        (f"<article>{PICTURE}{PICTURE}</article>", ["not lazy: a.png"]),
        ("<img src='a.png'>", ["no alt text: a.png"]),
        ("<article><img src='a.png' alt='A picture.'></article>", ["no size: a.png"]),
        ("<article><img src='a.png' alt='' width='4' height='3'></article>", ["empty alt text: a.png"]),
    ],
)
def test_links_anchors_and_pictures(tmp_path: Path, body: str, found: list[str]) -> None:
    pages = {"index.html": "", "page.html": body, "other.html": '<p id="here">Here.</p>', "a.png": ""}
    for name, content in pages.items():
        (tmp_path / name).write_text(HTML.format(head="", body=content) if content else "", "utf-8")
    assert file_problems(tmp_path) == [f"page.html: {problem}" for problem in found]
