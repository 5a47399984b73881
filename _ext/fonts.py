"""Cuts fonts down to the characters that the pages show."""

import re
import unicodedata
from collections.abc import Iterable
from html import unescape
from io import BytesIO
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

# A lone letter in <mi> is shown as its mathematical italic, which Unicode keeps apart from the letter.
ITALIC = {"h": "ℎ"} | {
    chr(int(unicodedata.decomposition(chr(code)).removeprefix("<font> "), 16)): chr(code)
    for code in [*range(0x1D434, 0x1D468), *range(0x1D6A4, 0x1D6A6), *range(0x1D6E2, 0x1D71C)]
    if unicodedata.decomposition(chr(code))
}


def math_characters(pages: Iterable[str]) -> set[str]:
    """Return every character that the MathML of the pages shows."""
    maths = [element for page in pages for element in re.findall(r"<math\b.*?</math>", page, re.DOTALL)]
    written = {character for element in maths for character in unescape(re.sub(r"<[^>]*>", "", element))}
    roots = {"√"} if any("<msqrt" in element or "<mroot" in element for element in maths) else set()
    return written | roots | {ITALIC[character] for character in written & ITALIC.keys()}


def icon_characters(stylesheets: Iterable[str]) -> set[str]:
    """Return every character of Unicode's private use area, where icon fonts have theirs, that the CSS shows."""
    css = "".join(stylesheets)
    escaped = {chr(int(code, 16)) for code in re.findall(r"\\([ef][0-9a-f]{3})\b", css)}
    return {character for character in escaped | set(css) if "\ue000" <= character <= "\uf8ff"}


def subset_font(source: Path, characters: Iterable[str], features: Iterable[str] = ()) -> bytes:
    """Return the WOFF2 font ``source`` with the glyphs of ``characters`` and what these stretch and shrink into.

    ``features`` are the OpenType layout features to keep. The table MATH, by which roots, brackets and sums grow,
    stays, cut down to the glyphs that stay.
    """
    options = subset.Options(flavor="woff2", layout_features=list(features), hinting=False, notdef_outline=True)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(sorted(characters)))
    out = BytesIO()
    with subset.load_font(source, options) as font:
        subsetter.subset(font)
        if "MATH" in font:
            _narrow_root_signs(font)
        subset.save_font(font, out, options)
    return out.getvalue()


def tall_signs(font: TTFont, sign: str | None) -> set[str]:
    """Return the names of the glyphs, and of the parts of glyphs, that a sign is shown with where it must grow."""
    variants = font["MATH"].table.MathVariants
    tall = dict(zip(variants.VertGlyphCoverage.glyphs, variants.VertGlyphConstruction, strict=True)).get(sign)
    if tall is None:
        return set()
    parts = tall.GlyphAssembly.PartRecords if tall.GlyphAssembly else []
    return {variant.VariantGlyph for variant in tall.MathGlyphVariantRecord} | {part.glyph for part in parts}


def _narrow_root_signs(font: TTFont) -> None:
    """Make all root signs as wide as the lowest one.

    Chromium reserves the width of the widest for every root: after the usual low ones there would be a gap of 0.4 em.
    """
    sign = (font.getBestCmap() or {}).get(ord("√"))
    glyphs, metrics = font["glyf"], font["hmtx"].metrics
    for name in tall_signs(font, sign) - {sign}:
        width, bearing = metrics[name]
        scale = metrics[sign][0] / width
        glyphs[name].coordinates.scale((scale, 1))
        glyphs[name].recalcBounds(glyphs)
        metrics[name] = metrics[sign][0], round(scale * bearing)
