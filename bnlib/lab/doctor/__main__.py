"""``python -m bnlib.lab.doctor package.module:factory``: examine what the factory returns, and print the report."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import traceback
from collections.abc import Mapping

from bnlib.lab.doctor import Report, examine


def main(arguments: list[str] | None = None) -> int:
    """Print the report; 0 if nothing is worse than minor, 1 if something is, 2 if nothing could be examined."""
    parser = argparse.ArgumentParser(prog="python -m bnlib.lab.doctor", description=__doc__)
    parser.add_argument("factory", help="package.module:function; returns examine's arguments by name, in a dict")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        report = _examined(given.factory)
    except ValueError as error:
        print(error, *getattr(error, "__notes__", []), sep="\n", file=sys.stderr)
        return 2
    except Exception:  # of the factory's or of the model's own
        traceback.print_exc()
        return 2
    print(report.json() if given.json else report)
    return report.exit_code


def _examined(name: str) -> Report:
    module, _, function = name.partition(":")
    if not module or not function:
        raise ValueError(f"{name!r} names no function: give package.module:function")
    try:
        factory = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name!r} was not found: {error}") from error
    arguments = factory()
    if not isinstance(arguments, Mapping) or not {"model", "batches"} <= set(arguments):
        raise ValueError(f"{name} returned a {type(arguments).__name__}: return a dict with model and batches in it")
    if unknown := sorted(set(arguments) - set(inspect.signature(examine).parameters)):
        raise ValueError(f"{name} returned {', '.join(unknown)}, which examine does not take: see help(examine)")
    return examine(**arguments)


if __name__ == "__main__":
    sys.exit(main())
