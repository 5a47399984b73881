"""A page on paper, and the whole book: what the PDF must be, and that its check sees what is not."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pypdfium2 as pdfium
import pytest
from playwright.sync_api import Browser, expect
from pypdfium2 import raw

from tests.site.checker import print_problems
from tests.site.conftest import SAMPLE
from tests.site.test_pages import SAMPLE_PAGES
from tools.pdf import assemble, expected_titles, print_book
from tools.pdf_check import destinations, problems

TITLES = ["A page of formulas", "A notebook", "Bibliography"]


@pytest.fixture(scope="module")
def book(sample: Path, chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample book as a PDF."""
    pdf = tmp_path_factory.mktemp("pdf") / "book.pdf"
    print_book(chromium, assemble(sample), pdf)
    return pdf


def texts(pdf: Path) -> list[str]:
    """The text of each page."""
    with pdfium.PdfDocument(pdf) as document:
        return [" ".join(page.get_textpage().get_text_range().split()) for page in document]


def test_good_book_passes(book: Path, sample: Path) -> None:
    titles = expected_titles(sample, SAMPLE / "_toc.yml")
    assert titles == TITLES
    assert problems(book, titles) == []


def test_contents_and_exercises_say_the_pages(book: Path) -> None:
    pages, shown = destinations(book), texts(book)
    assert "Version " in shown[0]
    for name, title in zip(["index", "notebook", "bibliography"], TITLES, strict=True):
        number = pages[f"chapters/{name}"]
        assert f"{title} {number}" in shown[1]
        assert shown[number - 1].startswith(title)
    solution = next(page for name, page in pages.items() if name.endswith("-solution-1"))
    exercise = pages["chapters/notebook--ex-bias"]
    assert f"Solution: page {solution}" in shown[exercise - 1]
    assert f"Exercise 1 (The bias), page {exercise}" in shown[solution - 1]
    assert exercise < pages["solutions"] <= solution == len(shown)
    assert "The mean moves along" in shown[solution - 1]
    assert "The mean moves along" not in " ".join(shown[:-1])


def test_folds_are_open_and_drawing_code_is_left_out(book: Path) -> None:
    shown = " ".join(texts(book))
    assert "as in Fig. 1" in shown
    assert "a line of output" in shown  # hidden on the screen
    assert '"stripes"' not in shown
    assert "what folded code prints" in shown
    assert "'what folded'" not in shown


def test_a_page_that_is_printed_shows_what_closed_code_puts_out_and_open_code(chromium: Browser, sample_address: str):
    page = chromium.new_page()
    page.goto(f"{sample_address}/chapters/notebook.html")
    page.emulate_media(media="print")
    code, output = (page.get_by_text(text).first for text in ("'what folded'", "what folded code prints"))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(output).to_be_visible()
    expect(code).to_be_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(output).to_be_hidden()
    page.locator("details.above-input:has(.cell_output)").evaluate("details => { details.open = true; }")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(code).to_be_visible()
    page.close()


GOOD = "<h1 id='a'>Here</h1><p>Some lines of <a href='#a'>text</a>.</p><p>And some more.</p>"
BROKEN = """<h1>There</h1><p style="position: absolute; left: -10px">Cut</p><p>A <a href="file:///gone.html">link</a></p>
<div style="height: 1em"></div><div>One line</div>"""


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (GOOD, []),
        (
            BROKEN,
            [
                "the outline lacks 'Here'",
                "page 1: 'Cut' stands outside of the text's box",
                "page 1: a link leads nowhere: file:///gone.html",
                "page 2: it is empty",
                "page 3: it has hardly anything on it",
            ],
        ),
    ],
)
def test_what_is_wrong_with_a_book_is_seen(chromium: Browser, tmp_path: Path, body: str, found: list[str]) -> None:
    style = "<style>@page { size: A4; margin: 18mm 22mm 20mm } div { break-before: page }</style>"
    page = chromium.new_page()
    page.set_content(f"<!DOCTYPE html><html lang='en'><head>{style}</head><body style='margin: 0'>{body}</body></html>")
    page.pdf(path=tmp_path / "book.pdf", prefer_css_page_size=True, outline=True, tagged=True)
    page.close()
    assert problems(tmp_path / "book.pdf", ["Here"]) == found


def test_what_paper_cannot_show_is_seen(chromium: Browser, tmp_path: Path) -> None:
    body = "<article><p style='width: 700px'>Wide</p><a href='#gone'>link</a></article>"
    with pytest.raises(ValueError, match=r"wider than the paper: <p> Wide\n.*leads nowhere: <a> link"):
        print_book(chromium, body, tmp_path / "book.pdf")


def test_font_that_does_not_come_along_is_seen(tmp_path: Path) -> None:
    with pdfium.PdfDocument.new() as document:
        page = document.new_page(595, 842)
        for height in (400, 500):
            text = raw.FPDFPageObj_NewTextObj(document, b"Helvetica", 12)
            words = ctypes.create_string_buffer("Text".encode("utf-16-le") + b"\0\0")
            raw.FPDFText_SetText(text, ctypes.cast(words, ctypes.POINTER(ctypes.c_ushort)))
            raw.FPDFPageObj_Transform(text, 1, 0, 0, 1, 100, height)
            raw.FPDFPage_InsertObject(page, text)
        page.gen_content()
        document.save(tmp_path / "book.pdf")
    assert problems(tmp_path / "book.pdf", []) == ["page 1: the font Helvetica is not embedded"]


@pytest.mark.parametrize("path", SAMPLE_PAGES)
def test_sample_page_on_paper(chromium: Browser, sample_address: str, path: str) -> None:
    page = chromium.new_page()
    page.goto(f"{sample_address}/{path}")
    assert print_problems(page) == []
    page.close()


def test_page_printed_from_dark_mode(chromium: Browser, sample_address: str, tmp_path: Path) -> None:
    page = chromium.new_page(color_scheme="dark")
    page.goto(f"{sample_address}/chapters/notebook.html")
    page.pdf(path=tmp_path / "page.pdf")
    shown = " ".join(texts(tmp_path / "page.pdf"))
    assert "as in Fig. 1" in shown  # in a fold
    assert "a line of output" in shown  # hidden on the screen
    assert "so that it scrolls" in shown  # at the end of a long line of code
    assert "The mean moves along" not in shown  # a solution
    assert '"stripes"' not in shown
    assert "what folded code prints" in shown
    assert "'what folded'" not in shown
    assert max(map(min, colours(tmp_path / "page.pdf"))) < 160
    assert page.locator("html").get_attribute("data-theme") == "dark"  # afterwards all is as it was
    assert page.locator("details[open]").count() == 0
    page.close()


def colours(pdf: Path) -> Iterator[list[int]]:
    """Red, green and blue of each piece of text."""
    with pdfium.PdfDocument(pdf) as document:
        for page in document:
            for text in page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT]):
                parts = [ctypes.c_uint() for _ in range(4)]
                raw.FPDFPageObj_GetFillColor(text, *parts)
                yield [part.value for part in parts[:3]]
