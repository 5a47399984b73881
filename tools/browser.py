"""The one place that finds Chromium, starts it, and serves the built site to it.

``python -m tools.browser`` makes sure that a Chromium is there, installing one if it must; the Makefile calls it
before the checks.
"""

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Literal, NamedTuple

from playwright.sync_api import Browser, Response, sync_playwright

SITE = Path(__file__).resolve().parents[1] / "_build/html"
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Return the path of a Chromium: one on the PATH, else Playwright's own; None if there is neither."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    own = playwrights_chromium()
    return str(own) if own.exists() else None


def playwrights_chromium() -> Path:
    """Return where Playwright puts a Chromium of its own."""
    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path)


def install_chromium() -> None:
    """Install Debian's Chromium as root, else Playwright's own; raise CalledProcessError if that fails."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(
            ["apt-get", "install", "-qq", "--no-install-recommends", "chromium"], env=environment, check=True
        )
    else:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium; raise FileNotFoundError if there is none."""
    path = find_chromium()
    if path is None:
        raise FileNotFoundError(
            f"no Chromium: none of {', '.join(NAMES)} is on the PATH. 'make chromium' installs one."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class _Site(SimpleHTTPRequestHandler):
    """Serves a built site below a path, and its own page for wrong addresses, as GitHub Pages does."""

    def __init__(self, *args: Any, folder: Path, root: str):
        self.root = root
        super().__init__(*args, directory=str(folder))

    def translate_path(self, path: str) -> str:
        below = path.startswith(self.root)
        return super().translate_path(path.removeprefix(self.root) if below else "/outside/of/the/site")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        page = Path(self.directory) / "404.html"
        if code != HTTPStatus.NOT_FOUND or not page.exists():
            super().send_error(code, message, explain)
            return
        body = page.read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a browser that leaves a page breaks off what it was fetching."""


@contextmanager
def serve(folder: Path, below: str = "") -> Iterator[str]:
    """Serve ``folder`` on this machine, below a path like "/book"; the value is its address, without a last slash."""
    server = _Server(("127.0.0.1", 0), partial(_Site, folder=folder, root=f"{below}/"))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{below}"
    server.shutdown()
    server.server_close()


def pages(folder: Path) -> list[str]:
    """Return the paths of the pages of a built site, relative to ``folder``, but not the root, which only redirects."""
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html") if "_static" not in path.parts)
    return [path for path in paths if path != "index.html"]


class View(NamedTuple):
    """How a page is looked at: on a screen how wide, in pixels, and with which colours preferred."""

    width: int
    scheme: Literal["light", "dark"]


VIEWS = {"wide": View(1280, "light"), "phone": View(360, "light"), "dark": View(1280, "dark")}


class Fetch(NamedTuple):
    """One thing that a page fetched: its address, its kind as browsers name it, and its size in bytes, compressed."""

    address: str
    kind: str
    size: int


# A picture that waits until the reader comes near it comes at once; every picture is there when this is done.
PICTURES = """async () => {
    for (const image of document.images) image.loading = "eager";
    await Promise.allSettled([...document.images].map(image => image.decode()));
}"""


def first_visit(chromium: Browser, address: str) -> list[Fetch]:
    """Return what a visit to ``address``, read to its end, fetches, at the size of gzip where a server uses it."""
    page = chromium.new_context().new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))
    page.goto(address)
    page.evaluate(PICTURES)
    page.wait_for_load_state("networkidle")
    found = fetches(responses)
    page.context.close()
    return found


def fetches(responses: list[Response]) -> list[Fetch]:
    """Return what the answers of a page that is still open would be over the wire."""
    return [Fetch(response.url, response.request.resource_type, _wire_size(response)) for response in responses]


def _wire_size(response: Response) -> int:
    body = response.body()
    compressed_already = response.request.resource_type in {"font", "image"} and not response.url.endswith(".svg")
    return len(body) if compressed_already else len(gzip.compress(body))


def main() -> None:
    """Make sure that a Chromium is there."""
    if find_chromium() is None:
        try:
            install_chromium()
        except subprocess.CalledProcessError as error:
            sys.exit(
                f"No Chromium, and installing one failed ({error}). Install it by hand: a command named "
                f"{' or '.join(NAMES)} on the PATH is enough."
            )
    if (path := find_chromium()) is None:
        sys.exit("Chromium was installed but is not to be found.")
    print(f"The site is checked with {path}.")


if __name__ == "__main__":
    main()
