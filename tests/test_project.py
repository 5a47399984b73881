"""The project's papers agree with each other, with what is installed, and with any machine."""

import json
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import bnlib
from _ext.edition import read

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}


def direct_requirements() -> list[Requirement]:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    requirements = map(Requirement, [*PROJECT["dependencies"], *extras])
    return [requirement for requirement in requirements if requirement.name != PROJECT["name"]]


def text_files() -> list[Path]:
    """What is in the repository, or may be on the next commit."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [ROOT / name for name in names if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()]


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_every_direct_requirement_is_pinned_and_the_pin_is_allowed(requirement: Requirement):
    pin = pins().get(canonicalize_name(requirement.name))
    assert pin is not None, f"{requirement.name} has no line in constraints.txt"
    version = re.fullmatch(r"==([^*,]+)", str(pin.specifier))
    assert version, f"{pin} does not name one version"
    assert version[1] in requirement.specifier


def test_what_is_installed_is_what_is_pinned():
    installed = {canonicalize_name(item.name): item.version for item in metadata.distributions()}
    pinned = pins()
    other = {name: v for name, v in installed.items() if name in pinned and v not in pinned[name].specifier}
    absent = {requirement.name for requirement in direct_requirements()} - installed.keys()
    assert (other, absent) == ({}, set()), "make clean ALL=1, then make test"


def test_every_dependency_has_its_reason():
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Dependencies")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| [^|]{4,}\|$", table, re.MULTILINE)
    reasons = {canonicalize_name(name) for row in rows for name in row.split(", ")}
    assert {canonicalize_name(requirement.name) for requirement in direct_requirements()} <= reasons


def test_every_source_that_the_package_cites_is_in_the_bibliography():
    entries = set(re.findall(r"^@\w+\{([^,]+),", (ROOT / "references.bib").read_text(), re.MULTILINE))
    texts = [path.read_text() for path in (ROOT / "bnlib").rglob("*.py")]
    cited = {
        key.strip()
        for text in texts
        for keys in re.findall(r":cite(?::\w+)?:`([^`]+)`", text)
        for key in keys.split(",")
    }
    assert len(cited) > 20
    assert cited <= entries


def test_every_package_is_installed():
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "bnlib").rglob("__init__.py")}
    assert set(named) == found


# Written so that no pattern finds itself.
@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("machine path", r"(?<![\w.])/(?:home|root|work|Users)/\w"),
        ("registry address", r"https?://[^\s\"']*(?:registry\.npm|pypi\.[^\s\"']*/simple|pythonhosted)"),
        ("registry option", r"(?:index-ur)l(?![ =]https://download\.pytorch\.org/whl/cpu\b)|^registry\s*="),
        ("registry address in package-lock.json", r'"resolve[d]":'),
        ("unresolved merge", r"^<{7} |^>{7} "),
    ],
)
def test_no_file_holds_what_is_true_on_one_machine_only(what: str, pattern: str):
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in text_files()
        if (match := re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE))
    ]
    assert found == [], what


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_papers_name_only_commands_that_exist(name: str):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # Only code is a command: what follows a backtick or starts a line; "we make figures" is prose.
    named = set(re.findall(r"(?:`|^\s*(?:\$ )?)make ([a-z-]+)", (ROOT / name).read_text(), re.MULTILINE))
    assert {"book", "test"} <= named <= targets


@pytest.mark.parametrize("name", ["Makefile", ".pre-commit-config.yaml", "CONTRIBUTING.md"])
def test_the_programs_that_are_started_exist(name: str):
    text = (ROOT / name).read_text()
    modules = [module.replace(".", "/") for module in re.findall(r"python -m ((?:bnlib|tools)[\w.]*)", text)]
    files = [f"{module}{'/__main__' if (ROOT / module).is_dir() else ''}.py" for module in modules]
    files += re.findall(r"(?:python|node) ((?:\w+/)+\w+\.\w+)", text)
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_every_file_that_the_table_of_additions_names_exists():
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## What to touch\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (an? [^|]+) \| (.+) \| (.+) \|$", table, re.MULTILINE)
    kinds = "norm activation layer optimizer data-set experiment claim exercise mistake rule figure live-figure page"
    assert [kind.split(" ", 1)[1].replace(" ", "-") for kind, *_ in rows] == kinds.split()
    for kind, touched, told in rows:
        assert re.search(r"`(tests/|make )", told), f"{kind}: no test"
        named = re.findall(r"`([^`]+[./][^`]*)`", f"{touched} {told}")
        assert [name for name in named if not (ROOT / name).exists()] == [], kind


def test_one_version_everywhere():
    edition = read((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## Version (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert (edition.version, str(edition.day)) == (newest[1], newest[2])
    assert edition.version == bnlib.__version__
    assert "version" in PROJECT["dynamic"]  # the package takes it from bnlib


def test_each_tag_is_a_version_of_its_day():
    command = ["git", "for-each-ref", "refs/tags/v*", "--format=## Version %(refname:strip=2) - %(creatordate:short)"]
    tags = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    headings = re.findall(r"^## Version .*$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert set(tags.replace("Version v", "Version ").splitlines()) <= set(headings)


def text(page: Path) -> str:
    """The source of a page, of a notebook the prose."""
    if page.suffix != ".ipynb":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def source(name: str) -> Path:
    """The file in which the text of a page stands; it may be one that the page includes as a whole."""
    (page,) = ROOT.glob(f"{name}.*")
    included = re.search(r"^---\n```{include} (\S+)$", text(page), re.MULTILINE)
    return (page.parent / included[1]).resolve() if included else page


def test_the_readme_lists_the_pages_of_the_book():
    table = (ROOT / "README.md").read_text().partition("## The chapters\n")[2].partition("\n## ")[0]
    rows = [f"| {part} | {pages} |" for part, pages in re.findall(r"^\| (\w[^|]*) \| (.+) \|$", table, re.MULTILINE)]
    expected = []
    for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]:
        pages = []
        for name in [chapter["file"] for chapter in part["chapters"]]:
            path = source(name)
            (title, *_) = re.findall(r"^# (.+)$", text(path), re.MULTILINE)
            number = re.match(r"[0-9]+(?=_)", path.name)
            link = f"[{title}]({path.relative_to(ROOT).as_posix()})"
            pages.append(f"{int(number[0])} {link}" if number else link)
        expected.append(f"| {part['caption']} | {' · '.join(pages)} |")
    assert rows == expected


def test_the_readme_names_the_pinned_pytorch():
    named = re.findall(r"pip install torch==(\S+)", (ROOT / "README.md").read_text())
    assert named
    assert {f"torch=={version}" for version in named} == {str(pins()["torch"])}


def test_the_readmes_example_of_bnlib_runs():
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    assert names["y"].shape == (1, 5)  # type: ignore[attr-defined]


def test_binder_installs_the_laboratory_in_place_at_the_books_versions():
    lines = (ROOT / ".binder/requirements.txt").read_text().splitlines()
    given = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    assert len(given) == 3
    # pip reads the first from the file's folder, the second from where it is called, which for Binder is the root.
    assert (ROOT / ".binder" / given["-c"]).resolve() == ROOT / "constraints.txt"
    folder, _, extra = given["-e"].removesuffix("]").partition("[")
    assert (ROOT / folder).resolve() == ROOT
    assert extra in PROJECT["optional-dependencies"]


def test_binder_takes_a_python_of_the_project_and_finds_one_folder():
    name, version = (ROOT / ".binder/runtime.txt").read_text().strip().split("-")
    assert name == "python"
    assert version in SpecifierSet(PROJECT["requires-python"])
    assert not (ROOT / "binder").exists()  # it would be read in place of the other
