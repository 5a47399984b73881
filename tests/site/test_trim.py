"""What is taken out of the built site is not needed, and what is needed stays."""

import gzip
import re
from io import BytesIO
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from _ext.book import MATH_FEATURES, STIX
from _ext.bundle import bundle
from _ext.fonts import icon_characters, math_characters, subset_font, tall_signs
from _ext.purge import purge, used
from tools import browser

SHEETS = re.compile(r'<link rel="stylesheet"[^>]* href="[^"]*?(_static/[^"?]+)')
FONT = STIX / "files/stix-two-math-latin-400-normal.woff2"


PAGE = """<html><body id="top" style="--inline: 1"><p class="used other">the unused words of a text</p>
<script>let hint = "in-page";</script></body></html>"""
SCRIPT = 'element.classList.add("added-by-script"); document.createElement("dialog")'


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".used{a:b}.unused{a:b}", ".used{a:b}"),
        (".words{a:b}", ""),  # the word of a text is no class
        (".used,.unused{a:b}", ".used{a:b}"),
        (".used .unused{a:b}", ""),
        ("p,.unused>p{a:b}", "p{a:b}"),
        ("p,video,dialog,#top,#bottom,*{a:b}", "p,dialog,#top,*{a:b}"),
        ("p::before,p:hover{a:b}", "p::before,p:hover{a:b}"),
        (".used:not(.unused){a:b}", ".used:not(.unused){a:b}"),
        (":is(.unused,.used) p{a:b}", ":is(.unused,.used) p{a:b}"),
        ('[href=".unused"]{a:b}', '[href=".unused"]{a:b}'),
        ("@media print{.unused{a:b}}", ""),
        ("@media print { .used{a:b}.unused{a:b} }", "@media print{.used{a:b}}"),
        ("@font-face{font-family:f}", "@font-face{font-family:f}"),
        (".added-by-script{a:b}.in-page{a:b}", ".added-by-script{a:b}.in-page{a:b}"),
        ("p { a: b  c ; /* why */ d: e !important; }", "p{a:b c;d:e!important}"),
        ("p{a:var(--x)}p{--x:var(--y);--y:1;--z:var(--y)}", "p{a:var(--x)}p{--x:var(--y);--y:1}"),
        ("p{--inline:1;--a: ;b:var(--a)}", "p{--inline:1;--a: ;b:var(--a)}"),
        ("p{animation:x 1s}@keyframes x{to{a:b}}@keyframes y{to{a:b}}", "p{animation:x 1s}@keyframes x{to{a:b}}"),
        ("@page{a:b;@top-left{c:d}}", "@page{a:b;@top-left{c:d}}"),
        ('@charset "UTF-8";p{a:b}', "p{a:b}"),
    ],
)
def test_purge(css: str, kept: str) -> None:
    assert purge(css, used([PAGE], [SCRIPT])) == kept


@pytest.mark.parametrize("css", ['@import "other.css";', "p{a:b;.used{a:b}}"])
def test_what_the_purge_cannot_read_is_an_error(css: str) -> None:
    with pytest.raises(ValueError, match=r"no place|nested rules"):
        purge(css, used([PAGE], [SCRIPT]))


def test_bundle(tmp_path: Path) -> None:
    static = tmp_path / "_static"
    (static / "styles").mkdir(parents=True)
    (static / "styles/a.css").write_text('p{background:url("../a.png")}.unused{a:b}')
    (static / "b.css").write_text("p{background:url(data:image/png,);c:url(fonts/b.woff2)}")
    (static / "a.js").write_text('"use strict";\nlet a = 1\n//# sourceMappingURL=a.js.map\n')
    (static / "b.js").write_text("b = 2;")
    (static / "placed.js").write_text("document.currentScript.src;")
    page = """<link rel="stylesheet" href="../_static/styles/a.css?v=1" />
    <link rel="stylesheet" type="text/css" href="../_static/b.css" />
    <script defer src="../_static/a.js?v=1"></script><script>1</script>
    <script defer src="../_static/placed.js"></script> <script defer src="../_static/b.js"></script><p></p>"""
    (tmp_path / "below").mkdir()
    (tmp_path / "below/page.html").write_text(page)
    bundle(tmp_path)
    [sheet], [script] = [list(static.glob(f"site-*.{kind}")) for kind in ("css", "js")]
    assert sheet.read_text() == 'p{background:url("a.png")}p{background:url(data:image/png,);c:url(fonts/b.woff2)}'
    assert script.read_text() == ';\n"use strict";\nlet a = 1\n\n;\nb = 2;\n'
    assert (tmp_path / "below/page.html").read_text().split() == (
        f"""<link rel="stylesheet" href="../_static/{sheet.name}" />
        <script defer src="../_static/{script.name}"></script><script>1</script>
        <script defer src="../_static/placed.js"></script> <p></p>""".split()
    )
    assert {path.name for path in static.rglob("*.*")} == {sheet.name, script.name, "placed.js"}


def test_no_page_has_a_stylesheet_with_what_is_not_used(site: Path) -> None:
    pages = [(site / path).read_text("utf-8") for path in browser.pages(site)]
    scripts = [path.read_text("utf-8") for path in (site / "_static").rglob("*.js")]
    found = [SHEETS.findall(page) for page in pages]
    assert {len(sheets) for sheets in found} == {1}
    present = used(pages, scripts)
    for sheet in {name for sheets in found for name in sheets}:
        css = (site / sheet).read_text("utf-8")
        assert purge(css, present) == css
        assert len(gzip.compress(css.encode())) <= 21_000


def test_math_characters() -> None:
    page = "<p>outside</p><math><mi>h</mi><mi>α</mi><mn>2</mn><msqrt><mo>&lt;</mo></msqrt></math>"
    # What <mi> shows is the italic letter; the root sign stands in no text.
    assert math_characters([page]) == set("hℎα𝛼2<√")
    assert math_characters(["<math><mn>2</mn></math>"]) == {"2"}


def test_icon_characters() -> None:
    assert icon_characters(['.a{content:"\\f0c9"}', '.b{content:"\uf107"}', "p{color:#eee}"]) == {"\uf0c9", "\uf107"}


@pytest.fixture(scope="module")
def small() -> TTFont:
    return TTFont(BytesIO(subset_font(FONT, set("√(∑x𝑥"), MATH_FEATURES)))


def test_subset_keeps_what_roots_brackets_and_sums_grow_into(small: TTFont) -> None:
    names = small.getBestCmap() or {}
    assert set(names) >= {ord(character) for character in "√(∑x𝑥"}
    assert len(names) < 10
    assert all(len(tall_signs(small, names[ord(sign)])) > 1 for sign in "√(∑")
    assert not tall_signs(small, names[ord("x")])


def test_root_signs_are_all_as_wide_as_the_lowest(small: TTFont) -> None:
    sign = (small.getBestCmap() or {})[ord("√")]
    signs = tall_signs(small, sign)
    assert len(signs) > 4
    assert {small["hmtx"][name][0] for name in signs} == {small["hmtx"][sign][0]}


def test_fonts_of_the_site_are_small_and_licensed(site: Path) -> None:
    fonts = {path.name: path.stat().st_size for path in (site / "_static").rglob("*.woff2")}
    assert fonts["stix-two-math.woff2"] <= 40_000
    assert sum(fonts.values()) <= 50_000
    assert "SIL OPEN FONT LICENSE" in (site / "_static/fonts/LICENSE.txt").read_text("utf-8")
    assert not list(site.rglob("fontawesome.js"))
