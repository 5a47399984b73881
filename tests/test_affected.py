"""A change touches the tests of what it changes, and not all others."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import affected as tool
from tools.affected import affected, words

SOURCES = {
    "bnlib/__init__.py": "from bnlib.norms import norm",
    "bnlib/norms.py": "import numpy",
    "bnlib/data.py": '"""Not like bnlib.plots."""',
    "bnlib/plots.py": "",
    "bnlib/lab/__init__.py": "",
    "bnlib/lab/nets.py": "from bnlib.norms import norm",
    "bnlib/lab/train.py": "def f():\n    from bnlib.lab import nets",
    "bnlib/lab/records.py": 'RESULTS = "results"',
    "bnlib/lab/__main__.py": "import bnlib.lab.train",
    "tools/run.py": "from pathlib import Path",
    "tests/conftest.py": "import pytest",
    "tests/test_data.py": "from bnlib.data import load",
    "tests/test_plots.py": "import bnlib.plots as plots",
    "tests/test_page.py": 'PAGE = ROOT / "chapters/practice.md"',
    "tests/lab/ranks.py": "from bnlib.lab import train",
    "tests/lab/test_ranks.py": "import ranks",
    "tests/lab/test_records.py": "from bnlib.lab.records import measured",
    "tests/lab/test_command.py": 'run([sys.executable, "-m", "bnlib.lab"])',
    "tests/lab/test_program.py": 'PROGRAM = """\nimport bnlib.lab.train\n"""',
    "tests/site/conftest.py": "",
    "tests/site/test_site.py": 'run("tools/run.py")',
}
OTHERS = ["chapters/practice.md", "bnlib/results/slow.json", "Makefile"]
LAB = {"test_ranks", "test_command", "test_program"}
ALL = {Path(file).stem for file in SOURCES if "/test_" in file}


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ("tests/test_data.py", {"test_data"}),
        ("bnlib/data.py", {"test_data"}),
        ("bnlib/plots.py", {"test_plots"}),  # not what only mentions it
        ("bnlib/lab/train.py", LAB),  # through others, by a name beside, and in programs
        ("bnlib/lab/nets.py", LAB),
        ("bnlib/lab/__main__.py", {"test_command"}),
        ("bnlib/lab/__init__.py", {"test_records", *LAB}),
        ("bnlib/norms.py", ALL - {"test_page", "test_site"}),  # each import of the package runs it
        ("tests/lab/ranks.py", {"test_ranks"}),
        ("tests/site/conftest.py", {"test_site"}),
        ("tests/conftest.py", ALL),
        ("tools/run.py", {"test_site"}),
        ("chapters/practice.md", {"test_page"}),
        ("bnlib/results/slow.json", {"test_records"}),
        ("bnlib/results/new.json", {"test_records"}),
        ("Makefile", set()),
        ("tests/test_gone.py", set()),
    ],
)
def test_what_a_change_touches(changed: str, names: set[str]):
    assert {Path(file).stem for file in affected([changed], SOURCES, OTHERS, far=True)} == names


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ("tests/test_data.py", {"test_data"}),
        ("bnlib/data.py", {"test_data"}),
        ("bnlib/lab/train.py", {"test_ranks", "test_program"}),  # through what stands beside a test, but not a command
        ("bnlib/lab/nets.py", LAB),  # which no test needs by itself
        ("tests/conftest.py", ALL),
        ("bnlib/results/slow.json", {"test_records"}),
        ("Makefile", set()),
    ],
)
def test_what_a_change_touches_from_near(changed: str, names: set[str]):
    assert {Path(file).stem for file in affected([changed], SOURCES, OTHERS)} == names


def test_each_changed_file_counts_by_itself():
    assert affected(["bnlib/data.py", "bnlib/lab/nets.py"], SOURCES) == sorted(
        {*affected(["bnlib/data.py"], SOURCES), *affected(["bnlib/lab/nets.py"], SOURCES)}
    )


def test_a_module_that_is_gone_touches_who_still_imports_it():
    sources = {"tests/test_a.py": "from bnlib.gone import x", "tests/test_b.py": "import bnlib"}
    assert affected(["bnlib/gone.py"], sources) == ["tests/test_a.py"]


def test_words():
    assert words('"""doc"""\nimport a.b, c\nfrom d.e import f as g\nh = "i.py --j k/l"') == (
        {"a.b", "c", "d.e.f"},
        {"i.py", "--j", "k/l"},
    )


def git(*arguments: str, folder: Path) -> None:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_the_command_compares_with_a_commit(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    def said(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["affected", *arguments])
        tool.main()
        return capsys.readouterr().out.split()

    monkeypatch.setattr(tool, "ROOT", tmp_path)
    for file, source in SOURCES.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(source)
    git("init", "-q", "-b", "main", folder=tmp_path)
    git("add", ".", folder=tmp_path)
    git("commit", "-qm", "One", folder=tmp_path)
    assert said() == []
    git("checkout", "-qb", "branch", folder=tmp_path)
    (tmp_path / "bnlib/data.py").write_text("changed = 1")
    (tmp_path / "tests/test_new.py").write_text("")
    assert said() == ["tests/test_data.py", "tests/test_new.py"]
    git("add", ".", folder=tmp_path)
    git("commit", "-qm", "Two", folder=tmp_path)
    (tmp_path / "tools/run.py").unlink()
    assert said() == []
    assert said("--site") == ["tests/site/test_site.py"]
    assert said("--against", "main") == ["tests/test_data.py", "tests/test_new.py"]
