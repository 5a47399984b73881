"""What the page's Python runs, tried in this one: cells, stubs, what travels, and where NumPy comes from."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from _ext import editors, exercise_list
from _ext.editor import cell
from bnlib.catalogue import EXERCISES
from tests.site.conftest import ROOT
from tests.site.editor import solution
from tools import numpy_wheel

# Runs the marked cells of a chapter with what the page has: bnlib as it travels, NumPy, and nothing else that is not
# Python's own. What pytest has imported is not there either.
ALONE = """
import json, sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in sys.stdlib_module_names and top not in {"numpy", "bnlib", "cell"}:
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Missing())
sys.path.insert(0, sys.argv[1])
import cell
print(json.dumps([json.loads(cell.run(code, "cell")) for code in json.load(sys.stdin)]))
"""


def alone(codes: Sequence[str], travelled: Path) -> list[dict[str, Any]]:
    """What comes of some cells where nothing else is."""
    command = [sys.executable, "-c", ALONE, str(travelled)]
    done = subprocess.run(command, input=json.dumps(codes), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def run(code: str) -> dict[str, Any]:
    return json.loads(cell.run(code, "a cell"))


def marked(path: Path) -> list[tuple[str, str]]:
    """The cells of a chapter that a reader can run on its page, each with what the book says that it puts out."""
    found = []
    for one in json.loads(path.read_text("utf-8"))["cells"]:
        if "runs-here" in one["metadata"].get("tags", []):
            texts = [o.get("text") or o["data"]["text/plain"] for o in one["outputs"]]
            found.append(("".join(one["source"]), "".join("".join(text) for text in texts)))
    return found


CHAPTERS = [path for path in sorted((ROOT / "chapters").glob("*.ipynb")) if marked(path)]


@pytest.fixture(scope="module")
def travelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip that travels to the page, unpacked."""
    folder = tmp_path_factory.mktemp("page")
    zipfile.ZipFile(io.BytesIO(editors.ours())).extractall(folder)
    return folder


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_marked_cells_need_nothing_but_numpy_and_say_what_the_book_says(path: Path, travelled: Path):
    codes, expected = zip(*marked(path), strict=True)
    for code, output, result in zip(codes, expected, alone(codes, travelled), strict=True):
        assert result["error"] is None, code
        assert shown(result) == " ".join(output.split()), code


def test_the_solutions_of_checked_exercises_are_right_on_their_pages(travelled: Path):
    for path in CHAPTERS:
        checked = [one for one in exercise_list.listed(ROOT / "chapters") if one.checks and one.page == path.stem]
        codes = [*(code for code, _ in marked(path)), *(solution(ROOT, one.label) for one in checked)]
        results = alone(codes, travelled)[-len(checked) :] if checked else []
        for one, result in zip(checked, results, strict=True):
            assert result["error"] is None, (one.label, result["error"])
            assert {c["exercise"] for c in result["checks"] if c["right"]} == set(one.checks), one.label


def shown(result: dict[str, Any]) -> str:
    """What a notebook shows of a cell: its output, or what its check says; white space does not count."""
    return " ".join((result["output"] or "\n".join(map(told, result["checks"]))).split())


def told(check: dict[str, Any]) -> str:
    """What a check says, as a notebook shows it."""
    last = ["Add .hint() to see how to mend it."] if not check["right"] and check["remedies"] else []
    return "\n".join([check["sentence"], *(f"- {one}" for one in check["seen"]), *last])


def test_a_cell_shows_what_it_prints_and_its_last_line_and_keeps_its_names():
    assert run("kept = 3\nprint('one')\nkept")["output"] == "one\n3"
    assert run("import sys\nprint(kept, file=sys.stderr)\nNone")["output"] == "3"
    assert run("1\n2")["output"] == "2"
    assert run("print('x' * 30_000)")["output"].endswith("characters more")


@pytest.mark.parametrize(
    ("code", "error", "traceback"),
    [
        ("1 +", "SyntaxError (line 1): invalid syntax", "1 +"),
        ("def f():\n    return np.ones(2) @ np.ones(3)\n\nf()", "ValueError (line 2): matmul", "in f\n    return np"),
        ("raise SystemExit", "SystemExit (line 1): no message", "raise SystemExit"),
        ("f = lambda: f()\nf()", "RecursionError (line 1): maximum recursion", "f = lambda"),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    undefined", "NameError (line 4): name", "undefined"),
    ],
)
def test_an_error_is_a_sentence_and_the_cells_own_lines(code: str, error: str, traceback: str):
    result = run(code)
    assert result["error"].startswith(error)
    assert traceback in result["traceback"]
    assert "numpy" not in result["traceback"].lower().replace("np.", "")
    assert __file__ not in result["traceback"]


def test_each_check_of_a_cell_is_told_with_its_exercise():
    result = run('def f(*a):\n    return 0.0\ncheck("06-batch-norm", f)\ncheck("07-backward", f)\nprint(1)')
    assert [one["exercise"] for one in result["checks"]] == ["06-batch-norm", "07-backward"]
    assert [one["right"] for one in result["checks"]] == [False, False]
    assert result["output"] == "1"


def test_where_to_look_names_the_call_and_the_first_entry():
    reference = EXERCISES["10-pool"]
    wrong = "f = lambda counts, means, vars: (means.mean(0), vars.mean(0))"
    (check,) = run(f'{wrong}\ncheck("10-pool", f)')["checks"]
    assert check["where"].startswith("With counts (")
    assert "mean[0] is " in check["where"]
    expected = reference.run()[0]["mean"][0]
    assert f"should be {expected:.3g}"[:14] in check["where"]
    right = "f = lambda counts, means, vars: (counts @ means / counts.sum(), np.ones(means.shape[1]))"
    assert "var[0] is 1," in run(f'{right}\ncheck("10-pool", f)')["checks"][0]["where"]


def test_every_stub_is_python_and_every_exercise_that_names_a_check_has_one():
    named = [name for one in exercise_list.listed(ROOT / "chapters") for name in one.checks]
    assert set(named) == set(EXERCISES)
    for name in EXERCISES:
        code = editors.stub([(name, "f")])
        (check,) = run(code)["checks"]
        assert check["sentence"].startswith("The function returns nothing; end it with: return ")
        assert max(map(len, code.splitlines())) < 80


def test_exercises_are_listed_with_time_and_difficulty_or_refused(tmp_path: Path):
    exercises = list(exercise_list.listed(ROOT / "chapters"))
    assert {one.kind for one in exercises} == {"code", "figures", "paper", "paper, code"}
    assert all(one.level in exercise_list.LEVELS and 5 <= one.minutes <= 60 for one in exercises)
    gate = "```{exercise-start} A title\n:label: ex-01-some\n```\n\nText.\n\n```{exercise-end}\n```"
    notebook = {"cells": [{"cell_type": "markdown", "source": ["# One\n", gate]}]}
    (tmp_path / "01_one.ipynb").write_text(json.dumps(notebook), "utf-8")
    (tmp_path / exercise_list.TIMES.name).write_text("ex-01-some = [1, 10]\n", "utf-8")
    (one,) = exercise_list.listed(tmp_path)
    assert (one.number, one.title, one.kind) == ("1.1", "A title", "paper")
    (tmp_path / exercise_list.TIMES.name).write_text("", "utf-8")
    with pytest.raises(LookupError, match="lacks ex-01-some"):
        list(exercise_list.listed(tmp_path))
    (tmp_path / exercise_list.TIMES.name).write_text("ex-01-some = [1, 10]\nex-01-other = [1, 10]\n", "utf-8")
    with pytest.raises(LookupError, match="ex-01-other, which no chapter has"):
        list(exercise_list.listed(tmp_path))


def test_without_editors_the_list_does_not_speak_of_them():
    exercises = list(exercise_list.listed(ROOT / "chapters"))
    assert "on their pages" in exercise_list.table(exercises, editors=True)
    assert "bn-export" in exercise_list.table(exercises, editors=True)
    assert "on their pages" not in exercise_list.table(exercises, editors=False)
    assert "bn-export" not in exercise_list.table(exercises, editors=False)


def test_what_is_served_is_what_npm_and_the_lock_file_have(site: Path):
    served = site / "_static/python"
    assert served.is_dir(), "the site has no editors: run 'python -m tools.numpy_wheel' to see why"
    for name, body in editors.parts():
        assert (served / name).read_bytes() == body
    (wasm,) = served.glob("pyodide.asm-*.wasm.gz")
    assert gzip.decompress(wasm.read_bytes()) == (editors.NPM / "pyodide.asm.wasm").read_bytes()
    licences = (served / "LICENSES.txt").read_text("utf-8")
    for name in ("Mozilla Public License 2.0", "NumPy Developers", "@codemirror/view", "@lezer/python"):
        assert name in licences
    assert sum(path.stat().st_size for path in served.iterdir()) < 10.5e6


def test_numpy_comes_from_whoever_has_it_and_what_is_not_it_stops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    genuine = editors.cached_wheel().read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def absent(name: str) -> bytes:
        raise URLError("no connection")

    def wrong(name: str) -> bytes:
        return genuine[:-1] + b"x"

    def right(name: str) -> bytes:
        assert name == editors.cached_wheel().name
        return genuine

    told = numpy_wheel.fetch((absent, absent))
    assert "no editors" in told
    assert "no connection" in told
    with pytest.raises(ValueError, match="another hash"):
        numpy_wheel.fetch((absent, wrong, right))
    assert not editors.cached_wheel().exists()
    assert "is in" in numpy_wheel.fetch((absent, right))
    assert editors.cached_wheel().read_bytes() == genuine
    assert numpy_wheel.fetch((wrong,)) == ""
    editors.cached_wheel().write_bytes(b"spoiled")
    assert "is in" in numpy_wheel.fetch((right,))
