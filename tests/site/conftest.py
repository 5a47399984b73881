"""The built site and a browser to look at it with."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, Page

from tools import browser

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).parent / "sample"
SOURCES = [
    *("_config.yml", "_toc.yml", "references.bib", "package-lock.json", "CITATION.cff", "CHANGELOG.md"),
    *("chapters", "_static", "_ext", "bnlib"),
]
# Without a built site there is still one page, whose tests fail in their fixture.
PAGES = browser.pages(browser.SITE) or ["chapters/index.html"]


def newest(paths: list[Path]) -> float:
    """Return when the newest of the files in ``paths``, folders included, was written."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return max(file.stat().st_mtime for file in files if "__pycache__" not in file.parts)


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built site, which must be newer than its sources."""
    stamp = browser.SITE / "_static/fonts/stix-two-math.woff2"  # the last file that a build writes
    if not stamp.exists():
        pytest.fail(f"There is no built site in {browser.SITE}. Build it with 'make book'.")
    if stamp.stat().st_mtime < newest([ROOT / source for source in SOURCES]):
        pytest.fail("The built site is older than its sources. Build it again with 'make book'.")
    return browser.SITE


def build_sample(book: Path, **environment: str) -> Path:
    """Build, in the empty folder ``book``, a small book that has everything a chapter may have; return the site."""
    for path in [*SAMPLE.iterdir(), *(ROOT / name for name in ("_config.yml", "_static", "_ext"))]:
        (book / path.name).symlink_to(path)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", ".", "--all", "--warningiserror", "--nitpick", "-q"]
    environment = {**os.environ, "SITE_URL": "", "REPOSITORY": "", **environment}
    done = subprocess.run(command, cwd=book, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return book / "_build/html"


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small book, built as the real one is, that has everything a chapter may have.

    It is built once for all workers of a run, whose folders stand side by side.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "sample"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            build_sample(book := tmp_path_factory.mktemp("book"))
            book.rename(folder)
    return folder / "_build/html"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    with browser.chromium() as found:
        yield found


WIDE = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def one_page(chromium: Browser) -> Iterator[Page]:
    """A page for many tests, one after the other: to open one takes longer than most of what they do."""
    page = chromium.new_page()
    yield page
    page.close()


@pytest.fixture(scope="session")
def phone(chromium: Browser) -> Iterator[Page]:
    """A phone, for many tests."""
    page = chromium.new_page(viewport={"width": 360, "height": 800}, has_touch=True, is_mobile=True)
    yield page
    page.close()


@pytest.fixture
def live_page(one_page: Page) -> Iterator[Page]:
    """A wide screen, as new; no error on its console."""
    errors: list[str] = []

    def note(error: object) -> None:
        errors.append(str(error))

    one_page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    one_page.on("pageerror", note)
    yield one_page
    one_page.remove_listener("pageerror", note)
    one_page.unroute_all(behavior="ignoreErrors")
    one_page.emulate_media(media="null", color_scheme="null")
    one_page.goto("about:blank")
    assert errors == []


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where the built site is served."""
    with browser.serve(site) as served:
        yield served


@pytest.fixture(scope="session")
def sample_address(sample: Path) -> Iterator[str]:
    """Where the small book is served."""
    with browser.serve(sample) as served:
        yield served
