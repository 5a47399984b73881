"""Runs a reader's cell as a notebook does, and says in plain values what came of it.

It travels to the page's Python in one zip with bnlib, and needs nothing else but NumPy.
"""

import ast
import contextlib
import io
import json
import linecache
import math
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from bnlib import exercises
from bnlib.exercises import Diagnosis, Hint, check

MOST = 20_000  # characters of output that a page can show

# What all cells of a page share, as in a notebook. Its name is that of a notebook's, too.
names: dict[str, Any] = {
    "__name__": "__main__",
    "np": np,
    "check": check,
    "ndtr": np.vectorize(lambda r: math.erfc(-r * 2**-0.5) / 2, otypes=[float]),  # as scipy.special has it
}


def run(code: str, name: str) -> str:
    """Run a cell, ``name`` as tracebacks have it; return what came of it as JSON.

    ``output`` is what it printed, and what its last line shows; ``checks`` are what its checks saw. ``error`` says in a
    sentence what was raised and ``traceback`` where, cut to the reader's own lines; both are None if nothing was.
    """
    file = f"<{name}>"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)  # for tracebacks
    printed, checks, error, where = io.StringIO(), [], None, None

    def noted(exercise: str, function: Callable[..., Any]) -> Diagnosis:
        diagnosis = check(exercise, function)
        checks.append({"exercise": exercise, **said(diagnosis)})
        return diagnosis

    names["check"] = exercises.check = noted  # by whichever name the cell calls it
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            tree = ast.parse(code, file)
            for statement in tree.body:
                if isinstance(statement, ast.Expr):
                    value = eval(compile(ast.Expression(statement.value), file, "eval"), names)
                    last = statement is tree.body[-1]
                    if isinstance(value, Hint) or (last and not isinstance(value, Diagnosis | None)):
                        print(repr(value))
                else:
                    exec(compile(ast.Module([statement], []), file, "exec"), names)
        except BaseException as raised:  # exit() and a stack that overflows, too
            error, where = own_lines(raised, file)
        finally:
            exercises.check = check
    output = _cut(printed.getvalue().rstrip("\n"))
    return json.dumps({"output": output, "checks": checks, "error": error, "traceback": where})


def said(diagnosis: Diagnosis) -> dict[str, Any]:
    """What a diagnosis says: the sentence first, then what was seen, where, and how to mend it."""
    sentence, *seen = diagnosis.sentences
    return {
        "right": diagnosis.right,
        "sentence": sentence,
        "seen": seen,
        "where": diagnosis.where(),
        "remedies": list(diagnosis.hint().sentences),
    }


def own_lines(error: BaseException, file: str) -> tuple[str, str]:
    """What was raised, with the line, and the traceback, cut to the lines of one file."""
    told = traceback.TracebackException.from_exception(error)
    told.stack[:] = [frame for frame in told.stack if frame.filename == file]
    told.__cause__ = told.__context__ = None
    line = told.lineno if isinstance(error, SyntaxError) else told.stack[-1].lineno if told.stack else None
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error).strip()
    except Exception:  # an exception of the reader's own, with a mistake in its __str__
        text = ""
    message = (text or "no message").splitlines()[0]
    place = f" (line {line})" if line else ""
    return f"{type(error).__name__}{place}: {message}", _cut("".join(told.format()).rstrip())


def _cut(text: str) -> str:
    return text if len(text) <= MOST else f"{text[:MOST]}\n… and {len(text) - MOST:,} characters more"
