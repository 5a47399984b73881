"""`run` executes changed chapters in place; `guard` reports every fault with its remedy and fails if there is one.

`verdicts` prints what became of every claim, and compares it with another commit; `compare` compares all that the
chapters say.
"""

import argparse
import sys
from pathlib import Path

from tools.notebooks.compare import compare
from tools.notebooks.files import chapters
from tools.notebooks.guard import guard
from tools.notebooks.run import run
from tools.notebooks.verdicts import print_verdicts


def main(arguments: list[str] | None = None) -> int:
    """The exit code of one call."""
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run_parser = commands.add_parser("run", help="execute changed chapters in place")
    run_parser.add_argument("--all", action="store_true", help="execute unchanged ones too")
    guard_parser = commands.add_parser("guard", help="report every fault of the chapters")
    verdicts_parser = commands.add_parser("verdicts", help="print the verdict of every claim")
    verdicts_parser.add_argument("--against", metavar="COMMIT", help="fail if one differs from this commit's")
    compare_parser = commands.add_parser("compare", help="fail if a chapter says something else, pictures apart")
    compare_parser.add_argument("--against", metavar="COMMIT", default="HEAD", help="than in this commit")
    for subparser in (run_parser, guard_parser, verdicts_parser, compare_parser):
        subparser.add_argument("paths", nargs="*", type=Path, help="notebooks; without any, all chapters")
    options = parser.parse_args(arguments)

    paths = [path.resolve() for path in options.paths] or chapters()
    if not paths:
        parser.error("there are no chapters (chapters/*.ipynb), and a check of nothing would pass: restore them")
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    if options.command == "run":
        return 0 if run(paths, options.all) else 1
    if options.command == "verdicts":
        return 1 if print_verdicts(paths, options.against) else 0
    comparing = options.command == "compare"
    faults = compare(paths, options.against) if comparing else guard(paths)
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(paths)} notebooks, {len(faults)} {'differences' if comparing else 'faults'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
