"""In the browser exercises are judged in a notebook's words, and the chapters' marked cells say what the book says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from _ext.editor import cell
from bnlib.catalogue import EXERCISES
from tests.site.editor import run_cells, worker_address
from tests.site.test_cells import CHAPTERS, marked, shown

# A function that makes some of an exercise's known mistakes, or none: what a reader's function would give.
FUNCTION = """
from bnlib.catalogue import EXERCISES
exercise = EXERCISES["{name}"]
def f(*arguments):
    draws = [dict(zip(exercise.draws[0], arguments))]
    outputs = exercise.run(*[exercise.mistakes[i] for i in {mistakes}], draws=draws)[0]
    return tuple(outputs.values()) if len(outputs) > 1 else next(iter(outputs.values()))
check("{name}", f)
"""
FORGET = "for name in set(globals()) - {'np', 'check', '__name__', '__builtins__'}:\n    del globals()[name]"


def functions() -> Iterator[str]:
    """The reference of every exercise, and the first, a middle and the last of its mistakes."""
    for name, exercise in EXERCISES.items():
        count = len(exercise.mistakes)
        for mistakes in ([], [0], [count // 2], [count - 1]):
            yield FUNCTION.format(name=name, mistakes=mistakes)


def alike(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What the checks said, without the wrong number itself: the sign of an eigenvector is the library's to choose."""
    assert result["error"] is None
    return [{**check, "where": (check["where"] or "").split(" is ")[0]} for check in result["checks"]]


@pytest.fixture(scope="module")
def worker(site: Path, address: str) -> str:
    assert (site / "_static/python").is_dir(), "the site has no editors: run 'python -m tools.numpy_wheel' to see why"
    return worker_address(site, address)


@pytest.fixture(scope="module")
def page(chromium: Browser, address: str) -> Iterator[Page]:
    page = chromium.new_page()
    page.goto(f"{address}/404.html")
    yield page
    page.close()


def test_every_exercise_says_of_right_and_wrong_what_a_notebook_says(page: Page, worker: str):
    codes = list(functions())
    results = run_cells(page, worker, codes)
    for code, result in zip(codes, results, strict=True):
        assert alike(result) == alike(json.loads(cell.run(code, "cell"))), code
    right = [all(check["right"] for check in result["checks"]) for result in results]
    assert right[::4] == [True] * len(EXERCISES)
    assert not any(right[1::4] + right[2::4] + right[3::4])


def test_marked_cells_say_in_the_browser_what_the_book_says(page: Page, worker: str):
    cells, expected = [], []
    for path in CHAPTERS:
        for code, output in [(FORGET, ""), *marked(path)]:
            cells.append(code)
            expected.append(output)
    for code, output, result in zip(cells, expected, run_cells(page, worker, cells), strict=True):
        assert result["error"] is None, f"{code}\n{result['traceback']}"
        assert shown(result) == " ".join(output.split()), code
