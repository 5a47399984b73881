"""Looks at a page as a reader's browser does, and says what is wrong with it."""

from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tools.browser import VIEWS, View

# Everything folded is opened first: what a reader can open must be as good as the rest.
UNFOLD = """() => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    for (const hidden of document.querySelectorAll(".toggle-hidden")) hidden.classList.remove("toggle-hidden");
    const frame = () => new Promise(requestAnimationFrame);
    const still = () => Promise.all(document.getAnimations().map(animation => animation.finished));
    return document.fonts.ready.then(frame).then(frame).then(still);
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

# Contrast takes most of axe's time. It does not depend on the width, nor anything else on the colours.
AXE = {
    VIEWS["wide"]: {},
    VIEWS["phone"]: {"rules": {"color-contrast": {"enabled": False}}},
    VIEWS["dark"]: {"runOnly": ["color-contrast"]},
}


def problems(browser: Browser, address: str, view: View = VIEWS["wide"]) -> list[str]:
    """Return one sentence for each thing that is wrong with the page at ``address``, on a first visit."""
    context = browser.new_context(viewport={"width": view.width, "height": 800}, color_scheme=view.scheme)
    page = context.new_page()
    found = _listen(page, urlsplit(address).netloc)
    page.goto(address)
    page.evaluate(UNFOLD)
    for look in (UNSIZED_MATHS, MISSING_FONT, MATHS_SCRIPT, RAW_TEX, SIDEWAYS, CUT_OFF):
        found += page.evaluate(look)
    for violation in Axe().run(page, options={"resultTypes": ["violations"], **AXE[view]}).response["violations"]:
        nodes = [f"{node['html']} ({node['failureSummary']})" for node in violation["nodes"][:3]]
        found.append(f"axe, {violation['id']}: {'; '.join(nodes)}")
    page.wait_for_load_state("networkidle")  # what is fetched late may fail too
    context.close()
    return found


def _listen(page: Page, host: str) -> list[str]:
    """Return a list that fills with what goes wrong while the page loads."""
    found: list[str] = []

    def note(wrong: bool, what: str) -> None:
        if wrong:
            found.append(what)

    def foreign(address: str) -> bool:
        return urlsplit(address).scheme in {"http", "https", "ws", "wss"} and urlsplit(address).netloc != host

    page.on("request", lambda event: note(foreign(event.url), f"it asks another host: {event.url}"))
    page.on("requestfailed", lambda event: note(True, f"a request failed: {event.url} ({event.failure})"))
    page.on("response", lambda event: note(event.status >= 400, f"status {event.status}: {event.url}"))
    page.on("console", lambda event: note(event.type == "error", f"console error: {event.text}"))
    page.on("pageerror", lambda error: note(True, f"script error: {error}"))
    return found
