"""Reads a printed book and says what is wrong with it."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
from pypdfium2 import raw

MM = 72 / 25.4
SIDE, BOTTOM = 22 * MM, 20 * MM  # the margins that print.css gives the paper, in points
LEAST = 30.0  # points that something on a page must reach down from its first line, or it is hardly worth a page


@contextmanager
def opened(pdf: Path) -> Iterator[pdfium.PdfDocument]:
    """Open a PDF, and close it and its pages afterwards."""
    document = pdfium.PdfDocument(pdf)
    try:
        yield document
    finally:
        document.close()


def destinations(pdf: Path) -> dict[str, int]:
    """On which page, counted from 1, each place stands that a link leads to."""
    found = {}
    with opened(pdf) as document:
        for place in range(raw.FPDF_CountNamedDests(document)):
            size = ctypes.c_long(0)
            raw.FPDF_GetNamedDest(document, place, None, size)
            name = ctypes.create_string_buffer(size.value)
            destination = raw.FPDF_GetNamedDest(document, place, name, size)
            page = raw.FPDFDest_GetDestPageIndex(document, destination) + 1
            found[name.raw.decode("utf-16-le").rstrip("\0")] = page
    return found


def problems(pdf: Path, titles: list[str]) -> list[str]:
    """Return one sentence for each thing that is wrong with the PDF, whose outline must have the titles."""
    with opened(pdf) as document:
        found = list(_outline_problems(document, titles))
        fonts: dict[int, str] = {}  # by its address, of the fonts that have been looked at
        for number, page in enumerate(document, start=1):
            found += [f"page {number}: {problem}" for problem in _page_problems(document, page, fonts)]
            page.close()
    return found


def _outline_problems(document: pdfium.PdfDocument, titles: list[str]) -> Iterator[str]:
    entries = {" ".join(item.get_title().split()): item.get_dest() for item in document.get_toc() if not item.level}
    for title in titles:
        if title not in entries:
            yield f"the outline lacks {title!r}"
        elif (leads := entries[title]) is None or leads.get_index() is None:
            yield f"the outline's {title!r} leads nowhere"


def _page_problems(document: pdfium.PdfDocument, page: pdfium.PdfPage, fonts: dict[int, str]) -> Iterator[str]:
    width, height = page.get_size()
    text = page.get_textpage()
    boxes = [text.get_rect(place) for place in range(text.count_rects())]
    for left, bottom, right, top in boxes:
        if left < SIDE - 2 or right > width - SIDE + 2 or bottom < 0 or top > height:
            yield f"{text.get_text_bounded(left, bottom, right, top)!r} stands outside of the text's box"
    text.close()
    body = [(bottom, top) for _, bottom, _, top in boxes if bottom > BOTTOM - 2]
    for kind, shown in _objects(page, raw.FPDFPage_CountObjects, raw.FPDFPage_GetObject):
        if kind == raw.FPDF_PAGEOBJ_IMAGE:
            sides = [ctypes.c_float() for _ in range(4)]
            raw.FPDFPageObj_GetBounds(shown, *sides)
            body.append((sides[1].value, sides[3].value))
        elif kind == raw.FPDF_PAGEOBJ_TEXT and (name := _missing_font(shown, fonts)):
            yield f"the font {name} is not embedded"
    if not body:
        yield "it is empty"
    elif max(top for _, top in body) - min(bottom for bottom, _ in body) < LEAST:
        yield "it has hardly anything on it"
    for address in _dead_links(document, page):
        yield f"a link leads nowhere: {address}"


def _objects(parent: Any, count: Callable[[Any], int], get: Callable[[Any, int], Any]) -> Iterator[tuple[int, Any]]:
    """Yield all that is drawn, with its kind. pypdfium2's own classes do so, too, but take five times as long."""
    for place in range(count(parent)):
        shown = get(parent, place)
        kind = raw.FPDFPageObj_GetType(shown)
        if kind == raw.FPDF_PAGEOBJ_FORM:
            yield from _objects(shown, raw.FPDFFormObj_CountObjects, raw.FPDFFormObj_GetObject)
        else:
            yield kind, shown


def _missing_font(text: Any, seen: dict[int, str]) -> str:
    """Return the name of the text's font if it is not embedded, and was not seen before."""
    font = raw.FPDFTextObj_GetFont(text)
    address = ctypes.cast(font, ctypes.c_void_p).value or 0
    if address in seen:
        return ""
    name = ctypes.create_string_buffer(200)
    raw.FPDFFont_GetBaseFontName(font, name, 200)
    seen[address] = name.value.decode("utf-8", "replace")
    return "" if raw.FPDFFont_GetIsEmbedded(font) else seen[address] or "without a name"


def _dead_links(document: pdfium.PdfDocument, page: pdfium.PdfPage) -> Iterator[str]:
    place, link = ctypes.c_int(0), raw.FPDF_LINK()
    while raw.FPDFLink_Enumerate(page, place, link):
        if raw.FPDFDest_GetDestPageIndex(document, raw.FPDFLink_GetDest(document, link)) >= 0:
            continue
        action = raw.FPDFLink_GetAction(link)
        size = raw.FPDFAction_GetURIPath(document, action, None, 0)
        buffer = ctypes.create_string_buffer(size)
        raw.FPDFAction_GetURIPath(document, action, buffer, size)
        address = buffer.value.decode("utf-8")
        if not address.startswith(("http://", "https://", "mailto:")):
            yield address or "it has no address"
