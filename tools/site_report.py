"""Runs Lighthouse as on a phone over every page of the built site, and over a default Jupyter Book page beside it.

``make site-report`` installs Lighthouse and prints the table. The default page has the text of one chapter and the
settings that Jupyter Book comes with, save those that the text needs to be read at all.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any, BinaryIO, NamedTuple

from tools import browser

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
CHAPTER = "06_transform"
CONFIG = """\
title: A default book
execute: {execute_notebooks: "off"}
parse: {myst_enable_extensions: [amsmath, colon_fence, deflist, dollarmath, linkify, substitution, tasklist]}
bibtex_bibfiles: [references.bib]
sphinx: {extra_extensions: [sphinx_exercise]}
"""
TITLES = ("performance", "accessibility", "best practices", "SEO")
HEAD = f"{'page':<44}" + "".join(f"  {title}" for title in TITLES) + f"{'kB gzip':>9}{'unanswered':>12}"
COMPRESSIBLE = (".css", ".html", ".js", ".json", ".svg", ".txt", ".xml")


class GzipHandler(SimpleHTTPRequestHandler):
    """Serves files as a public host does: text under gzip, several requests on one connection."""

    protocol_version = "HTTP/1.1"

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Send the headers; return what follows them."""
        path = Path(self.translate_path(self.path))
        if path.suffix not in COMPRESSIBLE or not path.is_file():
            return super().send_head()
        body = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class GzipServer(ThreadingHTTPServer):
    """Serves to a browser, which may leave before everything is there."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve ``folder`` on this machine under gzip; the value is its address, without a slash at the end."""
    with GzipServer(("127.0.0.1", 0), partial(GzipHandler, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Scores(NamedTuple):
    """What Lighthouse says of a page: four scores up to 1, kB over the wire, and requests that nothing answered."""

    performance: float
    accessibility: float
    best_practices: float
    seo: float
    kilobytes: float
    unanswered: int


def scores(report: dict[str, Any]) -> Scores:
    """Read Lighthouse's report."""
    of = {name: category["score"] for name, category in report["categories"].items()}
    audits = report["audits"]
    requests = audits["network-requests"]["details"]["items"]
    return Scores(
        of["performance"],
        of["accessibility"],
        of["best-practices"],
        of["seo"],
        audits["total-byte-weight"]["numericValue"] / 1000,
        sum(request["statusCode"] <= 0 for request in requests),
    )


def measure(lighthouse: Path, address: str) -> Scores:
    """Run the Lighthouse that is installed in ``lighthouse`` once, with its own settings, which are a phone's.

    Raises CalledProcessError if the page could not be measured; Lighthouse itself has then said why.
    """
    command = [
        BIN / "node",
        lighthouse / "node_modules/lighthouse/cli/index.js",
        address,
        "--output=json",
        "--quiet",
        "--no-enable-error-reporting",
        "--only-categories=performance,accessibility,best-practices,seo",
        f"--chrome-flags={' '.join(browser.ARGUMENTS)}",
    ]
    environment = {**os.environ, "CHROME_PATH": browser.find_chromium() or ""}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return scores(json.loads(done.stdout))


def middle(runs: list[Scores]) -> Scores:
    """Return the median of several runs, number by number: the machine's other work is in each of them."""
    return Scores(*map(median, zip(*runs, strict=True)))


def build_default(folder: Path) -> Path:
    """Build the book of one chapter with default settings in ``folder``; return where its site is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "chapters" / f"{CHAPTER}.ipynb", folder)
    shutil.copy(ROOT / "references.bib", folder)
    (folder / "_config.yml").write_text(CONFIG)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: {CHAPTER}\n")
    done = subprocess.run([BIN / "jupyter-book", "build", folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:  # its warnings are of pages that are not there
        sys.exit(done.stdout + done.stderr)
    return folder / "_build/html"


def line(name: str, page: Scores) -> str:
    """Return the table's line for a page."""
    four = "".join(f"{score:>{len(title) + 2}.2f}" for title, score in zip(TITLES, page[:4], strict=True))
    return f"{name:<44}{four}{page.kilobytes:>9.1f}{page.unanswered:>12.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Lighthouse over every page, beside a default Jupyter Book page.")
    parser.add_argument("lighthouse", type=Path, help="the folder that Lighthouse is installed in")
    parser.add_argument("--runs", type=int, default=1, help="how many runs to take the median of")
    options = parser.parse_args()
    default = build_default(ROOT / "_build/default-book")
    with serve(browser.SITE) as ours, serve(default) as other:
        addresses = {path: f"{ours}/{path}" for path in browser.pages(browser.SITE)}
        addresses[f"chapters/{CHAPTER}, a default Jupyter Book"] = f"{other}/{CHAPTER}.html"
        print(HEAD)
        for name, address in addresses.items():
            try:
                runs = [measure(options.lighthouse, address) for _ in range(options.runs)]
            except subprocess.CalledProcessError:
                sys.exit(f"{name}: no scores.")
            print(line(name, middle(runs)), flush=True)
    print("kB gzip: headers included, without images that load when they are scrolled to.")
    print("unanswered: requests without an answer, as to other hosts offline; with one, the page would be heavier.")


if __name__ == "__main__":
    main()
