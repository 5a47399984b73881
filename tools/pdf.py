"""Makes the built site into one PDF: a cover, contents, every page, and the solutions of the exercises at the end.

``python -m tools.pdf`` puts the site's own pages one behind the other, prints them with Chromium into ``_build/pdf``,
and checks what came out. How a page looks on paper is said by ``_static/print.css``, as for a single page; ``pdf.css``
adds what the whole book has besides.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser
from sphinx_external_toc.parsing import parse_toc_yaml

from tools.browser import PICTURES, SITE, chromium
from tools.pdf_check import destinations, problems

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "_static/book.js"
STYLES = Path(__file__).with_suffix(".css")
# The same on every machine; the site takes what the reader has.
FONTS = {
    "stix-two-text": ["400", "400-italic", "700", "700-italic"],
    "source-sans-3": ["400", "400-italic", "600", "700"],
    "dejavu-mono": ["400", "400-italic", "700"],
}

PAPER = 627  # CSS pixels between the margins of a sheet of A4
# What is wider would make Chromium print the whole book smaller, and a link that leads nowhere it leaves out.
WRONG = """() => {
    dispatchEvent(new Event("beforeprint"));
    const { clientWidth } = document.documentElement;
    const wide = [...document.querySelectorAll("article *")].filter(element => {
        const { left, right } = element.getBoundingClientRect();
        return left < -1 || right > clientWidth + 1;
    });
    const dead = [...document.querySelectorAll("a[href^='#']")].filter(
        link => !document.getElementById(decodeURIComponent(link.hash.slice(1))));
    const say = (elements, what) => elements.map(element => {
        const page = element.closest(".pdf-page")?.id ?? "the first pages";
        return `${page}: ${what}: <${element.localName}> ${element.textContent.slice(0, 60)}`;
    });
    return [...say(wide, "wider than the paper"), ...say(dead, "leads nowhere")];
}"""

# Fills in the pages' numbers, and says whether one is another than before.
NUMBER = """pages => {
    const number = link => String(pages[decodeURIComponent(link.hash.slice(1))] ?? "000");
    const wrong = [...document.querySelectorAll(".pdf-number")].filter(link => link.textContent !== number(link));
    for (const link of wrong) link.textContent = number(link);
    return wrong.length > 0;
}"""

BOOK = """<!DOCTYPE html>
<html lang="en" data-theme="light">
<head><meta charset="utf-8"><title>{title}</title>{head}<style>{running}</style></head>
<body><main class="bd-main"><div class="bd-content"><div class="bd-article-container"><article class="bd-article">
<div class="pdf-cover">{cover}</div>
<div class="pdf-contents"><h1>Contents</h1>{contents}</div>
{bodies}
</article></div></div></main></body>
</html>"""


class Entry(NamedTuple):
    """A page of the book in the site's contents."""

    caption: str  # of the part that it is in, or nothing
    name: str  # as Sphinx calls it, such as "chapters/06_transform"
    title: str


class Page:
    """A page of the site, made ready to stand with the others in one document."""

    def __init__(self, site: Path, name: str):
        self.name = name
        self.html = _parse(site / f"{name}.html")
        self.article = _one(self.html, "article")
        self._address = (site / f"{name}.html").as_uri()
        self._site = f"{site.as_uri()}/"

    def join(self, names: set[str]) -> None:
        """Make ids unique in the book of the pages ``names``, and lead its links to where things stand there."""
        for fold in self.article.select("details.above-input"):  # of closed code what it puts out
            for output in fold.select(".cell_output"):
                fold.insert_before(output.extract())
        for tag in self.article.select(".headerlink, .noprint, script, details.above-input"):
            tag.decompose()
        seen = set()
        for tag in self.article.select("[id]"):
            before = str(tag["id"])
            if before in seen:  # docutils repeats some; links lead to the first
                del tag["id"]
            else:
                tag["id"] = anchor(self.name, before)
            seen.add(before)
        for image in self.article.select("[src]"):
            image["src"] = self.address(image)
        for link in self.article.select("a[href]"):
            target = urlsplit(self.address(link))
            name = unquote(target._replace(fragment="").geturl()).removeprefix(self._site).removesuffix(".html")
            if name in names:
                link["href"] = f"#{anchor(name, unquote(target.fragment))}"
            elif target.scheme == "file":
                link.unwrap()  # a file of the site, which paper has not

    def address(self, tag: Tag) -> str:
        """Where the file is that a tag names."""
        return urljoin(self._address, str(tag.get("src") or tag["href"]))

    def take_solutions(self) -> Iterator[Tag]:
        """Take the solutions out, one after the other; each leads to its exercise, and its exercise to it."""
        for solution in self.article.select(".solution.admonition"):
            back = _one(solution, ".admonition-title > a[href]")
            exercise = str(back["href"]).removeprefix("#")
            title = _one(self.article, f'[id="{exercise}"] > .admonition-title')
            title.append(_fragment(f'<span class="pdf-solution">Solution: page {_number(str(solution["id"]))}</span>'))
            back.insert_after(_fragment(f", page {_number(exercise)}"))
            yield solution.extract()

    def lines(self, title: str) -> Iterator[str]:
        """Yield the page's lines in the contents."""
        yield _line("pdf-chapter", anchor(self.name), title)
        for heading in self.article.select("section > section[id] > h2"):
            assert heading.parent is not None
            yield _line("pdf-section", str(heading.parent["id"]), heading.get_text(" ", strip=True))


def anchor(name: str, fragment: str = "") -> str:
    """The id, in the whole book, of what has the id ``fragment`` on a page, or of the page."""
    return f"{name}--{fragment}" if fragment else name


def read_contents(site: Path) -> list[Entry]:
    """The pages in the order of the site's navigation, the first page first."""
    first = (site / str(_one(_parse(site / "index.html"), "a[href]")["href"])).resolve()
    entries, caption = [], ""
    for tag in _parse(first).select(".bd-docs-nav p.caption, .bd-docs-nav li > a[href]"):
        text = tag.get_text(" ", strip=True)
        if tag.name == "p":
            caption = text
        else:
            path = (first.parent / unquote(str(tag["href"]))).resolve() if tag["href"] != "#" else first
            entries.append(Entry(caption, path.relative_to(site.resolve()).with_suffix("").as_posix(), text))
    return entries


def assemble(site: Path) -> str:
    """Return the whole book as one HTML page, with room for the pages' numbers."""
    site = site.resolve()
    entries = read_contents(site)
    pages = [Page(site, entry.name) for entry in entries]
    contents, bodies, solutions, caption = [], [], [], ""
    for entry, page in zip(entries, pages, strict=True):
        page.join({entry.name for entry in entries})
        if entry.caption != caption:
            contents.append(f'<p class="pdf-part">{escape(entry.caption)}</p>')
            caption = entry.caption
        contents += page.lines(entry.title)
        if solved := "".join(map(str, page.take_solutions())):
            solutions.append(f"<section><h2>{escape(entry.title)}</h2>{solved}</section>")
        bodies.append((anchor(entry.name), entry.title, page.article.decode_contents()))
    if solutions:
        contents.append(_line("pdf-chapter", "solutions", "Solutions"))
        bodies.append(("solutions", "Solutions", f"<h1>Solutions</h1>{''.join(solutions)}"))

    fonts = [ROOT / f"node_modules/@fontsource/{font}/{face}.css" for font, faces in FONTS.items() for face in faces]
    own = [f'<link rel="stylesheet" href="{path.as_uri()}">' for path in [*fonts, STYLES]]
    own.append(f'<script defer src="{SCRIPT.as_uri()}"></script>')  # the joined one would ask for the theme's buttons
    head = pages[0].html.select('link[rel~="stylesheet"]')
    for tag in head:
        tag["href"] = pages[0].address(tag)
    return BOOK.format(
        title=escape(entries[0].title),
        head="".join([*map(str, head), *own]),
        # The title of the page stands at the foot of its sheets.
        running="\n".join(
            f"@page p{place} {{ @bottom-left {{ content: {json.dumps(title, ensure_ascii=False)}; }} }}"
            for place, (_, title, _) in enumerate(bodies)
        ),
        cover=_cover(entries[0].title, pages[0].html),
        contents="".join(contents),
        bodies="".join(
            f'<div class="pdf-page" style="page: p{place}" id="{escape(name)}">{body}</div>'
            for place, (name, _, body) in enumerate(bodies)
        ),
    )


def _cover(title: str, first: BeautifulSoup) -> str:
    foot = [item.get_text(" ", strip=True) for item in first.select(".bd-footer-content .footer-item")]
    lines = [
        *(line.partition(" · ")[0] for line in foot),  # without the links
        "Code that only draws a figure is left out; it stands in the notebooks. The exercises are solved at the end.",
        *(f"Read it and run it at {link['href']}" for link in first.select('link[rel="canonical"]')),
    ]
    return f'<p class="pdf-title">{escape(title)}</p>' + "".join(f"<p>{escape(line)}</p>" for line in lines)


def _line(kind: str, target: str, title: str) -> str:
    return f'<p class="{kind}"><a href="#{escape(target)}">{escape(title)}</a>{_number(target)}</p>'


def _number(target: str) -> str:
    return f'<a class="pdf-number" href="#{escape(target)}">000</a>'


def _parse(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def _fragment(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def _one(html: Tag, selector: str) -> Tag:
    found = html.select_one(selector)
    if found is None:
        raise LookupError(f"there is no {selector} in {' '.join(html.get_text(' ', strip=True).split())[:80]!r}")
    return found


def print_book(browser: Browser, html: str, pdf: Path) -> None:
    """Print the book to ``pdf``: again with the pages' numbers, until they are those of the printed book.

    Raises ValueError if something is wider than the paper, or a link leads nowhere.
    """
    pdf.parent.mkdir(parents=True, exist_ok=True)
    source = pdf.with_suffix(".html")
    source.write_text(html, "utf-8")
    page = browser.new_page(viewport={"width": PAPER, "height": 950})
    page.set_default_timeout(300_000)
    page.emulate_media(media="print")
    page.goto(source.as_uri())
    page.evaluate(PICTURES)
    if wrong := page.evaluate(WRONG):
        raise ValueError("\n".join(wrong[:10]))
    for _ in range(4):
        page.pdf(path=pdf, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        if not page.evaluate(NUMBER, destinations(pdf)):
            break
    else:
        raise RuntimeError(f"{pdf} has other page numbers each time that they are filled in")
    page.close()
    source.unlink()


def expected_titles(site: Path, toc: Path) -> list[str]:
    """The headings of all pages that the table of contents names, which need not be those of the navigation."""
    headings = [_one(_parse(site / f"{name}.html"), "article h1") for name in parse_toc_yaml(toc)]
    for heading in headings:
        for link in heading.select(".headerlink"):
            link.decompose()
    return [" ".join(heading.get_text().split()) for heading in headings]


def main() -> None:
    """Print the built site, check the PDF, and say how large it is and how long it took."""
    start = time.monotonic()
    if not (SITE / "index.html").exists():
        sys.exit(f"There is no built site in {SITE}. Build it with 'make book'.")
    title = read_contents(SITE)[0].title
    pdf = SITE.parent / "pdf" / f"{'-'.join(re.findall(r'[a-z0-9]+', title.lower()))}.pdf"
    with chromium() as browser:
        print_book(browser, assemble(SITE), pdf)
    if found := problems(pdf, expected_titles(SITE, ROOT / "_toc.yml")):
        sys.exit("\n".join([f"{pdf} is not right:", *found]))
    size = pdf.stat().st_size / 1e6
    print(f"{pdf.relative_to(ROOT)}: {size:.1f} MB, printed and checked in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
