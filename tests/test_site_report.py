"""The report's server compresses what hosts compress, and its table shows what Lighthouse said."""

import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import yaml

from tools import site_report
from tools.site_report import Scores, line, measure, middle, scores

TEXT = b"<p>" + 500 * b"the same words " + b"</p>"
PICTURE = b"\x89PNG" + bytes(2000)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "page.html").write_bytes(TEXT)
    (tmp_path / "picture.png").write_bytes(PICTURE)
    with site_report.serve(tmp_path) as served:
        yield served


def test_text_comes_compressed(address: str):
    with urlopen(f"{address}/page.html?query") as answer:
        body = answer.read()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Content-Type"] == "text/html"
    assert len(body) == int(answer.headers["Content-Length"]) < len(TEXT) / 10
    assert gzip.decompress(body) == TEXT


def test_a_picture_comes_as_it_is(address: str):
    with urlopen(f"{address}/picture.png") as answer:
        assert answer.read() == PICTURE
    assert answer.headers["Content-Encoding"] is None


def test_what_is_not_there_is_not_found(address: str):
    with pytest.raises(HTTPError, match="404") as caught:
        urlopen(f"{address}/other.html")
    caught.value.close()


def report() -> dict[str, Any]:
    """What Lighthouse writes, as far as it is read."""
    categories = {"performance": 0.8, "accessibility": 0.9, "best-practices": 0.7, "seo": 0.6}
    requests = [{"statusCode": 200}, {"statusCode": 404}, {"statusCode": -1}]
    return {
        "categories": {name: {"score": score} for name, score in categories.items()},
        "audits": {
            "total-byte-weight": {"numericValue": 345678},
            "network-requests": {"details": {"items": requests}},
        },
    }


def test_the_report_is_read():
    assert scores(report()) == Scores(0.8, 0.9, 0.7, 0.6, 345.678, 1)


def lighthouse(folder: Path, script: str) -> Path:
    """Install a script in the place of Lighthouse."""
    (folder / "node_modules/lighthouse/cli").mkdir(parents=True)
    (folder / "node_modules/lighthouse/cli/index.js").write_text(script)
    return folder


def test_a_page_is_measured(tmp_path: Path):
    answer = json.dumps(report())
    script = f"if (process.argv[2] === 'https://example.org/page.html') console.log({answer!r});"
    assert measure(lighthouse(tmp_path, script), "https://example.org/page.html") == scores(report())


def test_a_page_that_cannot_be_measured_has_no_scores(tmp_path: Path):
    answer = json.dumps(report())
    script = f"console.log({answer!r}); process.exitCode = 1;"
    with pytest.raises(subprocess.CalledProcessError):
        measure(lighthouse(tmp_path, script), "https://example.org/page.html")


def test_of_several_runs_the_median_counts():
    runs = [Scores(performance, 1, 1, 1, 400, 0) for performance in (0.9, 0.2, 0.8)]
    assert middle(runs) == Scores(0.8, 1, 1, 1, 400, 0)


def test_each_number_stands_under_its_title():
    numbers = {"performance": "0.80", "SEO": "0.60", "kB gzip": "345.7", "unanswered": "1"}
    row = line("chapters/page.html", scores(report()))
    for title, number in numbers.items():
        assert row[: site_report.HEAD.index(title) + len(title)].endswith(" " + number)


def test_the_default_book_has_no_settings_of_its_own_but_what_the_text_needs():
    assert yaml.safe_load(site_report.CONFIG).keys() == {"title", "execute", "parse", "bibtex_bibfiles", "sphinx"}
