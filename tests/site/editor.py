"""A page whose exercises run, as the tests use it."""

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

STARTED = 60_000  # ms, for Python to come on a busy machine

# Runs cells in a worker of the page's own, one after the other, without an editor.
WORK = """async ([url, cells]) => {
    const worker = new Worker(url, { type: "module" });
    const results = [];
    await new Promise((resolve, reject) => {
        const next = () => {
            if (results.length === cells.length) resolve();
            else worker.postMessage({ code: cells[results.length], name: "cell" });
        };
        worker.postMessage({ here: new URL(".", url).href });
        worker.onmessage = ({ data }) => {
            if (data.failed) reject(new Error(data.failed));
            if (data.ready) next();
            if (data.result) { results.push(data.result); next(); }
        };
    });
    worker.terminate();
    return results;
}"""


def worker_address(site: Path, address: str) -> str:
    """Where the worker is served."""
    (worker,) = (site / "_static/python").glob("worker-*.js")
    return f"{address}/_static/python/{worker.name}"


def run_cells(page: Page, worker: str, cells: list[str]) -> list[dict[str, Any]]:
    """What came of some cells, run in this order."""
    return page.evaluate(WORK, [worker, cells])


class Editor:
    """An exercise's editor."""

    def __init__(self, page: Page, label: str):
        self.page = page
        self.root = page.locator(f'.bn-code[data-id="{label}"]')
        self.said = self.root.locator(".bn-code-said")
        self.more = self.root.locator(".bn-code-more")
        self.content = self.root.locator(".cm-content")

    def button(self, name: str) -> Locator:
        """One of its buttons."""
        return self.root.get_by_role("button", name=name, exact=True)

    def write(self, code: str) -> None:
        """Put code in place of what is there."""
        if self.button("Edit").is_visible():
            self.button("Edit").click()
        else:
            self.content.click()
        expect(self.content).to_be_focused()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)

    def run(self, code: str | None = None) -> str:
        """Write code, if some is given, run it, and return what is said."""
        if code is not None:
            self.write(code)
        self.button("Run").click()
        self.finished()
        return self.said.inner_text()

    def finished(self) -> None:
        """Wait until nothing runs."""
        expect(self.button("Run")).to_be_enabled(timeout=STARTED)

    def text(self) -> str:
        """The code that stands there."""
        lines = self.root.locator(".cm-line")
        if lines.count():
            return "\n".join(lines.all_text_contents())
        return self.root.locator("pre").first.inner_text()


def solution(root: Path, label: str) -> str:
    """The code of an exercise's solution, as it runs where SciPy is missing."""
    path = next((root / "chapters").glob(f"{label.split('-')[1]}_*.ipynb"))
    inside = False
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and inside:
            return text.replace("from scipy.special import ndtr\n", "")
        inside |= re.search(rf"\{{solution-start\}} {label}\b", text) is not None
    raise LookupError(f"{path.name} has no code in a solution of {label}")
