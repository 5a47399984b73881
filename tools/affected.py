"""Names the test files that a change touches, one a line, as ``python -m tools.affected``; ``make check`` runs them.

A test file is touched if it changed itself, or if something that it needs did: modules that it imports, and files and
modules that a string names (a program that it starts, a page that it reads). ``--far`` counts also what these need.
The change is what differs from the last commit, or from where the branch left another one (``--against main``).
"""

import argparse
import ast
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SITE = "tests/site/"  # these want a built site, and minutes


def words(source: str) -> tuple[set[str], set[str]]:
    """Return the dotted names that a Python source imports, and those, and the paths, that stand in its strings.

    A docstring is no program: what it mentions does not count.
    """
    imported, named = set[str](), set[str]()
    nodes = list(ast.walk(ast.parse(source)))
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        match node:
            case ast.Import(names):
                imported |= {name.name for name in names}
            case ast.ImportFrom(module=str(module), names=names):
                imported |= {f"{module}.{name.name}" for name in names}
            case ast.Constant(value=str(text)) if id(node) not in prose:
                named |= set(re.findall(r"[\w./-]*\w", text))
    return imported, named


class Files(NamedTuple):
    """The files of the repository: all, by their names, and those that are not Python by the names of their folders."""

    all: frozenset[str]
    named: dict[str, set[str]]
    inside: dict[str, set[str]]


def listed(paths: Iterable[str]) -> Files:
    """Return the files with these paths."""
    files = Files(frozenset(paths), {}, {})
    for path in files.all:
        files.named.setdefault(Path(path).name, set()).add(path)
        if not path.endswith(".py"):
            files.inside.setdefault(Path(path).parent.name, set()).add(path)
    return files


def of_module(name: str, beside: Path, files: Files) -> Iterator[str]:
    """The files that importing ``name`` runs: each package on the way, and the module, which may stand beside."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        path = "/".join(parts[:count])
        neighbour = str(beside / path)
        yield from files.all & {f"{path}.py", f"{path}/__init__.py", f"{neighbour}.py"}
    yield from files.all & {f"{'/'.join(parts)}/__main__.py"}


def of_string(word: str, files: Files) -> Iterator[str]:
    """The files that a word in a string names: by the end of their path, their folder's name, or as a module."""
    name = Path(word).name
    yield from (file for file in files.named.get(name, ()) if f"/{file}".endswith(f"/{word}"))
    yield from files.inside.get(name, ())
    if "." in word:
        yield from of_module(word, Path(), files)


def needs(path: str, source: str, files: Files) -> set[str]:
    """Return those of the files that a Python file needs by itself; of tests, the conftest.py of their folders too."""
    imported, named = words(source)
    folders = [str(folder / "conftest.py") for folder in Path(path).parents] if path.startswith("tests/") else []
    found = {file for name in imported for file in of_module(name, Path(path).parent, files)}
    found |= {file for word in named for file in of_string(word, files)}
    return (found | files.all & set(folders)) - {path}


def affected(
    changed: Iterable[str], sources: Mapping[str, str], others: Iterable[str] = (), far: bool = False
) -> list[str]:
    """Return the test files among ``sources``, by path, that the ``changed`` files touch; ``others`` are not Python.

    A file that many others need touches nearly all tests. So only those count that need it by themselves, or through
    what stands beside them in tests/; all, if there are none, or if ``far`` is set.
    """
    changed = set(changed)
    files = listed({*changed, *sources, *others})
    needed = {path: needs(path, source, files) for path, source in sources.items()}

    def touched(file: str, through: str) -> set[str]:
        found, before = {file}, set[str]()
        while found != before:
            before = found
            found = found | {path for path, needs in needed.items() if path.startswith(through) and needs & found}
        return {path for path in found & sources.keys() if re.search(r"^tests/(.*/)?test_[^/]*\.py$", path)}

    return sorted(set().union(*((not far and touched(file, "tests/")) or touched(file, "") for file in changed)))


def git(*arguments: str) -> list[str]:
    """Return the lines that git prints."""
    run = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return run.stdout.splitlines()


def main() -> None:
    """Print the files."""
    parser = argparse.ArgumentParser(description="Print the test files that a change touches.")
    parser.add_argument("--against", default="HEAD", help="a commit or branch; the last commit if it is not given")
    parser.add_argument("--site", action="store_true", help="those of the site too, which must be built")
    parser.add_argument("--far", action="store_true", help="those too that need the change through other modules")
    told = parser.parse_args()
    [base] = git("merge-base", told.against, "HEAD")
    files = set(git("ls-files", "--cached", "--others", "--exclude-standard"))
    changed = {*git("diff", "--name-only", "--no-renames", base), *git("ls-files", "--others", "--exclude-standard")}
    here = {file for file in files if (ROOT / file).is_file()}
    sources = {file: (ROOT / file).read_text("utf-8") for file in here if file.endswith(".py")}
    for file in affected(changed, sources, here - sources.keys(), told.far):
        if told.site or not file.startswith(SITE):
            print(file)


if __name__ == "__main__":
    main()
