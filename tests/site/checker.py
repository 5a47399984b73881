"""Looks at a page as a reader's browser does, or at the files of a site, and says what is wrong."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page, Response

from tools.browser import PICTURES, VIEWS, View, fetches, pages
from tools.pdf import PAPER

# Everything folded is opened first: what a reader can open must be as good as the rest.
UNFOLD = """() => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    for (const hidden of document.querySelectorAll(".toggle-hidden")) hidden.classList.remove("toggle-hidden");
    const frame = () => new Promise(requestAnimationFrame);
    const end = () => {  // each frame on the way would cost as much as the last one
        for (const animation of document.getAnimations()) animation.finish();
    };
    return document.fonts.ready.then(frame).then(frame).then(end);
}"""

UNSIZED_MATHS = """() => [...document.querySelectorAll("article math")].filter(maths => {
    const { width, height } = maths.getBoundingClientRect();
    return !(width && height);
}).map(maths => `a formula has no size: ${maths.textContent}`)"""

MISSING_FONT = """() => {
    const loaded = [...document.fonts].some(font => font.family.includes("STIX Two Math") && font.status === "loaded");
    return document.querySelector("article math") && !loaded ? ["the math font is not loaded"] : [];
}"""

MATHS_SCRIPT = """() => [
    ...document.querySelectorAll("mjx-container, script[src*='mathjax' i], script[src*='katex' i]")
].map(element => `maths is left to a script: <${element.localName}>`)"""

RAW_TEX = r"""() => {
    const main = (document.querySelector("main") ?? document.body).cloneNode(true);
    for (const code of main.querySelectorAll("pre, code, script, style")) code.remove();
    const found = main.textContent.match(/\$[^$\n]+\$|\\[(\[]|\\[A-Za-z]{2,}/g) ?? [];
    return found.map(tex => `TeX is left over: ${tex}`);
}"""

SIDEWAYS = """() => {
    const page = document.documentElement;
    if (page.scrollWidth <= page.clientWidth) return [];
    const wide = [...document.querySelectorAll("body *")].filter(
        element => element.getBoundingClientRect().right > page.clientWidth + 1);
    const names = wide.slice(0, 3).map(element => `<${element.localName} class="${element.className}">`);
    return [`the page scrolls sideways, ${page.scrollWidth} px in ${page.clientWidth}: ${names.join(", ")}`];
}"""


CUT_OFF = """() => [...document.querySelectorAll("article *")].filter(element =>
    element.clientWidth > 1 && element.scrollWidth > element.clientWidth + 1
    && ["hidden", "clip"].includes(getComputedStyle(element).overflowX)
).map(element => `something is cut off: <${element.localName} class="${element.className}">`)"""

# Comes near to each live figure, so that its controls are there, and goes back to the top.
MOUNTED = """async () => {
    for (const figure of document.querySelectorAll("figure:has(> .bn-live)")) {
        figure.scrollIntoView();
        for (let frame = 0; frame < 600 && !figure.classList.contains("bn-mounted"); frame += 1)
            await new Promise(requestAnimationFrame);
    }
    scrollTo(0, 0);
    for (const _ of [1, 2, 3]) await new Promise(requestAnimationFrame);  // until they are drawn
}"""

# Records what the Tab key reaches, and whether it looks any different then.
REACHED = """() => {
    const still = document.createElement("style");
    still.textContent = "* { scroll-behavior: auto !important; transition: none !important }";
    document.head.append(still);
    const look = element => {
        const { outlineStyle, outlineWidth, outlineColor, boxShadow } = getComputedStyle(element);
        return [outlineStyle === "none" ? "none" : [outlineStyle, outlineWidth, outlineColor], boxShadow].join(" ");
    };
    const candidates = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]");
    const expected = [...candidates].filter(
        element => element.tabIndex >= 0 && !element.disabled && element.checkVisibility({ visibilityProperty: true })
            && getComputedStyle(element).display !== "none");  // of a part of a drawing Chromium says it is visible
    const before = new Map(expected.map(element => [element, look(element)]));
    const reached = [];
    const note = ({ target }) => reached.push({ target, seen: look(target) !== before.get(target) });
    document.addEventListener("focusin", note);
    const end = () => {  // the page is as it was
        document.removeEventListener("focusin", note);
        document.activeElement.blur();
        scrollTo(0, 0);
        still.remove();
    };
    window.keyboard = { expected, reached, end };
    return expected.length;
}"""

UNREACHED = """() => {
    const { expected, reached, end } = window.keyboard;
    end();
    const name = ({ localName, className, textContent }) =>
        `<${localName} class="${className}"> ${textContent.trim().slice(0, 40)}`;
    const order = reached.map(({ target }) => target);
    const missing = expected.filter(element => !order.includes(element));
    const astray = order.filter((element, place) => element !== expected[place]);
    const unseen = reached.filter(({ seen }) => !seen).map(({ target }) => target);
    return [
        ...missing.map(element => `Tab does not reach ${name(element)}`),
        ...astray.slice(0, 1).map(element => `Tab comes out of order to ${name(element)}`),
        ...unseen.map(element => `the focus is not seen on ${name(element)}`),
    ];
}"""

PRINTED = """() => {
    dispatchEvent(new Event("beforeprint"));  // which a browser sends when it prints, but not when it only looks so
    const around = [
        "nav", ".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header", ".bd-header-article", ".skip-link",
        ".prev-next-footer", ".headerlink", ".copybtn", "#pst-back-to-top", "details:not([open])",
    ];
    const name = element => `<${element.localName} class="${element.className}">`;
    const found = [...document.querySelectorAll(around.join())].filter(element => element.checkVisibility());
    const lost = ["article", "article h1"].filter(shown => !document.querySelector(shown)?.checkVisibility());

    const seen = [...document.querySelectorAll("article *")].filter(element => element.checkVisibility());
    const scale = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = color => {
        const [red, green, blue] = color.match(/[\\d.]+/g).map(value => scale(value / 255));
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const written = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    const pale = seen.filter(element => written(element) && luminance(getComputedStyle(element).color) > 0.19);
    const edge = document.documentElement.clientWidth + 1;
    const wide = seen.filter(element =>
        element.getBoundingClientRect().right > edge || element.matches("pre, div.math, figure")
        && element.scrollWidth > element.clientWidth + 1);
    const all = (elements, what) => [...new Set(elements.map(name))].map(element => `${what} ${element}`);
    dispatchEvent(new Event("afterprint"));
    return [
        ...all(found, "it prints"), ...lost.map(shown => `it does not print the ${shown}`),
        ...all(pale, "too pale for paper:"), ...all(wide, "wider than the paper:"),
    ];
}"""

OTHER_THEME = """scheme => {
    const { theme = scheme } = document.documentElement.dataset;  // a page without themes has nothing to follow with
    return theme === scheme ? [] : [`the reader prefers ${scheme}, but the page is ${theme}`];
}"""

# A page of code has thousands of words in some dozens of classes, and a browser's time, like axe's, goes with the
# number of elements. What has nothing but a class becomes plain text, if another of its class stays, within the same
# kinds of elements and with the same look: nothing but the place tells them apart. The letters stay where they are.
KINDS = """
    const kinds = new Map();
    const kind = element => {
        if (!element) return "";
        if (!kinds.has(element)) {
            kinds.set(element, `${kind(element.parentElement)} ${element.localName}.${element.getAttribute("class")}`);
        }
        return kinds.get(element);
    };
    const stay = new Set();
    const again = (element, name) => {  // whether there was one like it
        const { color, backgroundColor, fontSize, fontWeight, opacity } = getComputedStyle(element);
        const long = element.textContent.trim().length > 1;
        const look = [name, color, backgroundColor, fontSize, fontWeight, opacity, long].join();
        return stay.has(look) || !stay.add(look);
    };
    const classed = element => element.getAttributeNames().every(name => name === "class");
"""
THIN = f"""() => {{ {KINDS}
    const repeated = new Set([...document.querySelectorAll("pre > span")].filter(
        span => !span.firstElementChild && classed(span) && again(span, kind(span))));
    for (const pre of document.querySelectorAll("pre")) {{
        const parts = [...pre.childNodes].map(part => repeated.has(part) ? part.textContent : part);
        pre.replaceChildren(...parts);  // at once: word by word the styles would be looked through for each
        pre.normalize();
    }}
}}"""

# The same for axe alone, with the words of the prose, and with the parts of formulas, of which what is there again
# goes. Lines break elsewhere then: what is to be said of sizes is said before.
THINNER = f"""() => {{ {KINDS}
    const repeated = new Set();
    for (const word of [...document.querySelectorAll("span, em, strong, code")].reverse()) {{  // the inner ones first
        const plain = classed(word) && [...word.children].every(part => repeated.has(part));
        if (plain && again(word, kind(word))) repeated.add(word);
    }}
    const gone = new Set();
    for (const part of [...document.querySelectorAll("math *")].reverse()) {{
        const letter = part.closest("math").querySelector("mi, mn, mtext");  // it stays, so that no formula is empty
        if (!letter || part === letter || ![...part.children].every(inner => gone.has(inner))) continue;
        const attributes = part.getAttributeNames().map(name => `${{name}}=${{part.getAttribute(name)}}`);
        if (again(part, [kind(part.closest("math")), part.localName, ...attributes])) gone.add(part);
    }}
    for (const word of repeated) word.replaceWith(...word.childNodes);
    for (const part of gone) part.remove();
}}"""

# Marks one element for each way in which text looks: its colour, size, weight, and what is behind it. Of thousands of
# words there are some dozens, and contrast, which takes most of axe's time, is a matter of these. Axe passes by what is
# a single letter, so that cannot stand for others.
LOOKS = """() => {
    for (const marked of document.querySelectorAll("[data-look]")) delete marked.dataset.look;
    const own = element => {
        const { backgroundColor, backgroundImage, opacity, filter } = getComputedStyle(element);
        return [backgroundColor, backgroundImage, opacity, filter].join();
    };
    const NOTHING = "rgba(0, 0, 0, 0),none,1,none";  // lets all through
    const behind = new Map();
    const ground = element => {
        if (!element) return "";
        if (!behind.has(element)) {
            const mine = own(element);
            behind.set(element, `${mine === NOTHING ? "" : mine} ${ground(element.parentElement)}`.trim());
        }
        return behind.get(element);
    };
    const seen = new Set();
    for (const element of document.querySelectorAll("body *")) {
        const text = [...element.childNodes].filter(({ nodeType }) => nodeType === Node.TEXT_NODE)
            .map(({ data }) => data).join("").trim();
        if (!text || !element.checkVisibility()) continue;
        const long = text.length > 1;
        const { color, fontSize, fontWeight, textShadow } = getComputedStyle(element);
        const look = [color, fontSize, fontWeight, textShadow, long, ground(element)].join();
        if (!seen.has(look)) element.dataset.look = "";
        seen.add(look);
    }
}"""

# Contrast only of what LOOKS has marked, in one run with the other rules: what axe knows of the page then serves all.
AXE = f"""() => {{
    {AXE_SCRIPT}
    axe.configure({{ rules: [{{ id: "color-contrast", selector: "[data-look]" }}] }});
}}"""
VIOLATIONS = "options => axe.run(document, options).then(({ violations }) => violations)"


def _rules(view: View) -> dict[str, Any]:
    """What axe looks for: contrast but on a phone, where the colours are the wide page's, all else but in the dark."""
    if view == VIEWS["dark"]:
        return {"runOnly": ["color-contrast"]}
    phone = view == VIEWS["phone"]
    colours = {rule: {"enabled": not phone} for rule in ("color-contrast", "link-in-text-block")}
    return {"rules": {**colours, "target-size": {"enabled": phone}}}


class Visit(NamedTuple):
    """A page that is open, what has gone wrong on it so far, and what it was sent."""

    page: Page
    wrong: list[str]
    responses: list[Response]


# Each page is met as at a first visit, though the tab has shown others before.
FORGET = "localStorage.clear(); sessionStorage.clear();"


@contextmanager
def open_tab(browser: Browser, **screen: Any) -> Iterator[Page]:
    """Open an empty tab in a context of its own, which closes with it.

    One tab for many visits: a new one takes the browser half a second, and reads all scripts anew. What a page stores
    is forgotten, and nothing comes from the cache.
    """
    with browser.new_context(**screen) as context:
        context.add_init_script(FORGET)
        page = context.new_page()
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        yield page


@contextmanager
def visit(page: Page, address: str) -> Iterator[Visit]:
    """Open ``address`` in a tab, and listen to the end to what goes wrong."""
    responses: list[Response] = []
    with _listen(page, urlsplit(address).netloc, responses) as wrong:
        page.goto(address)
        yield Visit(page, wrong, responses)
        page.wait_for_load_state("networkidle")  # what is fetched late may fail too


def screen(view: View) -> dict[str, Any]:
    """How a context is given a view."""
    return {"viewport": {"width": view.width, "height": 800}, "color_scheme": view.scheme}


def _show(page: Page, view: View) -> None:
    """Give an open page a view."""
    page.emulate_media(media="screen", color_scheme=view.scheme)
    page.set_viewport_size(screen(view)["viewport"])


def problems(browser: Browser, address: str, view: View = VIEWS["wide"]) -> list[str]:
    """Return one sentence for each thing that is wrong with the page at ``address``, on a first visit."""
    with open_tab(browser, **screen(view)) as tab, visit(tab, address) as (page, wrong, _):
        found = look_problems(page, view)
    return wrong + found


class Seen(NamedTuple):
    """What is wrong with a page: in the ways in which one visit looks at it."""

    keyboard: list[str]
    printed: list[str]
    weight: list[str]
    wide: list[str]
    dark: list[str]


def seen(tab: Page, address: str, limit: int) -> Seen:
    """Return what is wrong with the page at ``address`` in one visit; its weight may be ``limit`` bytes.

    First with everything folded, as a reader finds it: by keyboard and on paper. Then unfolded, light and dark.
    """
    wide, dark = VIEWS["wide"], VIEWS["dark"]
    _show(tab, wide)
    with visit(tab, address) as (page, wrong, responses):
        page.evaluate(THIN)
        keyboard = keyboard_problems(page)
        printed = print_problems(page)
        _show(page, wide)
        page.evaluate(PICTURES)
        page.wait_for_load_state("networkidle")
        weight = weight_problems(responses, limit)
        light = look_problems(page, wide)
        page.emulate_media(color_scheme=dark.scheme)
        night = look_problems(page, dark)
    return Seen(keyboard, printed, weight, wrong + light, night)


def look_problems(page: Page, view: View) -> list[str]:
    """Return what is wrong with an open page, everything unfolded, in the view that it is in."""
    for prepare in (THIN, UNFOLD, PICTURES):
        page.evaluate(prepare)
    found = page.evaluate(OTHER_THEME, view.scheme)
    for look in (UNSIZED_MATHS, MISSING_FONT, MATHS_SCRIPT, RAW_TEX, SIDEWAYS, CUT_OFF):
        found += page.evaluate(look)
    for violation in axe_violations(page, _rules(view)):
        nodes = [f"{node['html']} ({node['failureSummary']})" for node in violation["nodes"][:3]]
        found.append(f"axe, {violation['id']}: {'; '.join(nodes)}")
    return found


def axe_violations(page: Page, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what axe finds on an open page, from which it takes what is there again and again."""
    for script in (THINNER, LOOKS):
        page.evaluate(script)
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    # Axe would read all style sheets once more, though no rule asks for them; for sounds and films one does.
    options = {"resultTypes": ["violations"], "preload": {"assets": ["media"]}, **options}
    return page.evaluate(VIOLATIONS, options)


def keyboard_problems(page: Page) -> list[str]:
    """Return what the Tab key does not reach in the order of a fresh page, and where its focus is not to be seen."""
    if not walk(page, press_tab):
        return []
    # What opens and closes as the page scrolls by may lag behind so fast a reader: once more, a key at a time.
    browser = page.context.browser
    assert browser is not None
    with browser.new_context(viewport=page.viewport_size) as context:
        again = context.new_page()
        again.goto(page.url)
        return walk(again, lambda page, count: [page.keyboard.press("Tab") for _ in range(count)])


def walk(page: Page, press: Callable[[Page, int], Any]) -> list[str]:
    """Tab through a page, and return what was not reached, or not to be seen."""
    page.evaluate("document.fonts.ready.then(() => new Promise(requestAnimationFrame))")
    page.evaluate(MOUNTED)
    press(page, page.evaluate(REACHED))
    page.wait_for_timeout(100)  # for a script that moves the focus on a little later
    return page.evaluate(UNREACHED)


def press_tab(page: Page, count: int) -> None:
    """Press the Tab key so many times; held down it comes again and again.

    All are sent before the first is answered, for each answer waits for the page to be painted. The page takes one
    after the other all the same. The synchronous interface cannot do so, what is below it can.
    """
    keyboard = page.keyboard._impl_obj

    async def press() -> None:
        await asyncio.gather(*(keyboard.down("Tab") for _ in range(count)))
        await keyboard.up("Tab")

    page._sync(press())


def print_problems(page: Page) -> list[str]:
    """Return what an open page has too much on A4 paper, what it lacks, what is cut there, and what can't be read.

    The reader looks at the site by night: paper is light all the same. The page stays in that view.
    """
    page.set_viewport_size({"width": PAPER, "height": 950})
    page.emulate_media(media="print", color_scheme="dark")
    return page.evaluate(PRINTED)


def weight_problems(responses: list[Response], limit: int) -> list[str]:
    """Return the heaviest fetches of a first visit, if it sends more than ``limit`` bytes over the wire."""
    visit = sorted(fetches(responses), key=lambda fetch: -fetch.size)
    weight = sum(fetch.size for fetch in visit)
    heaviest = ", ".join(f"{fetch.address} ({fetch.size})" for fetch in visit[:5])
    return [f"{weight} bytes over the wire, above all {heaviest}"] if weight > limit else []


@cache
def parse(page: Path) -> BeautifulSoup:
    """Read a built page, once for all who look at it; nobody changes it."""
    return BeautifulSoup(page.read_text("utf-8"), "html.parser")


def file_problems(folder: Path, below: str = "/any/path/") -> list[str]:
    """Return what is wrong with the links, anchors and pictures of the site in ``folder``, served ``below`` a path."""

    @cache
    def anchors(page: Path) -> set[str]:
        return {str(tag["id"]) for tag in parse(page).select("[id]")}

    def dead(page: str, link: str) -> bool:
        parts = urlsplit(urljoin(below + page, link))
        path, anchor = unquote(parts.path), unquote(parts.fragment)
        target = folder / path.removeprefix(below)
        if not path.startswith(below) or not target.is_file():
            return True
        return bool(anchor) and anchor not in anchors(target)

    def look(page: str) -> Iterator[str]:
        html = parse(folder / page)
        for tag in html.select("[href], [src], [action]"):
            link = next(str(tag[name]) for name in ("href", "src", "action") if tag.has_attr(name))
            if not urlsplit(link).scheme and not urlsplit(link).netloc and dead(page, link):
                yield f"dead link: {link}"
        for tag in html.select("img:not([alt])"):
            yield f"no alt text: {tag['src']}"
        for place, tag in enumerate(html.select("article img")):
            if not tag.get("alt"):
                yield f"empty alt text: {tag['src']}"
            if not (tag.has_attr("width") and tag.has_attr("height")):
                yield f"no size: {tag['src']}"
            if place and tag.get("loading") != "lazy":
                yield f"not lazy: {tag['src']}"

    return [f"{page}: {problem}" for page in ["index.html", *pages(folder)] for problem in look(page)]


@contextmanager
def _listen(page: Page, host: str, responses: list[Response]) -> Iterator[list[str]]:
    """Fill a list with what goes wrong, and another one with what is sent."""
    found: list[str] = []

    def note(wrong: bool, what: str) -> None:
        if wrong:
            found.append(what)

    def foreign(address: str) -> bool:
        return urlsplit(address).scheme in {"http", "https", "ws", "wss"} and urlsplit(address).netloc != host

    def answered(response: Response) -> None:
        responses.append(response)
        note(response.status >= 400, f"status {response.status}: {response.url}")

    listeners: dict[Any, Callable[[Any], None]] = {
        "request": lambda event: note(foreign(event.url), f"it asks another host: {event.url}"),
        "requestfailed": lambda event: note(True, f"a request failed: {event.url} ({event.failure})"),
        "response": answered,
        "console": lambda event: note(event.type == "error", f"console error: {event.text}"),
        "pageerror": lambda error: note(True, f"script error: {error}"),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    yield found
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
