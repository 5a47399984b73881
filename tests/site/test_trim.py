"""What is taken out of the built site is not needed, and what is needed stays."""

from io import BytesIO
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from _ext.book import MATH_FEATURES, STIX
from _ext.fonts import icon_characters, math_characters, subset_font, tall_signs
from _ext.purge import purge, words

FONT = STIX / "files/stix-two-math-latin-400-normal.woff2"


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".used{a:b}.unused{a:b}", ".used{a:b}"),
        (".used,.unused{a:b}", ".used{a:b}"),
        (".used .unused{a:b}", ""),
        ("p,.unused>p{a:b}", "p{a:b}"),
        (".used:not(.unused){a:b}", ".used:not(.unused){a:b}"),
        (":is(.unused,.used) p{a:b}", ":is(.unused,.used) p{a:b}"),
        ('[href=".unused"]{a:b}', '[href=".unused"]{a:b}'),
        ("@media print{.unused{a:b}}", ""),
        ("@media print{.used{a:b}.unused{a:b}}", "@media print{.used{a:b}}"),
        ("@font-face{font-family:f}", "@font-face{font-family:f}"),
        (".bs-tooltip-top{a:b}", ".bs-tooltip-top{a:b}"),
        (".added-by-script{a:b}", ".added-by-script{a:b}"),
    ],
)
def test_purge(css: str, kept: str) -> None:
    assert purge(css, words(['<p class="used other">', 'classList.add("added-by-script")'])) == kept


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
