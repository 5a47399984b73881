"""Check a reader's function, and name the mistake.

The function's outputs are compared with those of the reference, of each mistake in :mod:`bnlib.catalogue`, of each pair
of mistakes, and, if need be, of what was found with more beside it.
"""

import copy
import inspect
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from numbers import Real
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from bnlib.catalogue import EXERCISES, Arguments, Exercise, Outputs
from bnlib.catalogue.explain import DOUBLE, SINGLE, agree, explain, in_another_order, is_single, once, same

# The deviation that is allowed with float32 arguments, relative to an output's largest entry, where the exercise sets
# no other.
ROUNDING = 1e-3
# Where that call's values lie, if there is a variance that can cancel.
FAR = 1e4


class Case(NamedTuple):
    """One call of the function: what went in, what should come out, and what came out."""

    arguments: Arguments
    expected: Outputs
    given: Outputs


class _Finding(NamedTuple):
    """What is seen, and the remedy, unless the former says it all."""

    seen: str
    remedy: str | None = None


@dataclass(frozen=True, repr=False)
class Hint:
    """The remedies of a :class:`Diagnosis`; shows them as the last line of a cell, or printed."""

    sentences: tuple[str, ...]

    def __repr__(self) -> str:
        """The one remedy, or a list of them."""
        return _filled(self.sentences[0]) if len(self.sentences) == 1 else "\n".join(map(_item, self.sentences))


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What :func:`check` saw: what is right, and what is wrong and where to look. How to mend it, :meth:`hint` says.

    As the last line of a notebook cell, or printed, it shows its sentences, in lines of at most 79 characters.

    Attributes
    ----------
    right : whether the numbers are right and the arguments unchanged; remarks on dtypes and shapes may stand beside it
    sentences : a summary, then what was seen
    remedies : how to mend it, in the same order; what is seen may say it all, and then there is none
    case : the call that is meant: the first that differs, or else the first of all
    """

    right: bool
    sentences: tuple[str, ...]
    remedies: tuple[str, ...] = ()
    case: Case = field(default=Case({}, {}, {}), compare=False)

    def hint(self) -> Hint:
        """The remedy, for one who has looked and not found it."""
        nothing = "Nothing has to be mended." if self.right else "What was seen says it all."
        return Hint(self.remedies or (nothing,))

    def where(self) -> str | None:
        """The call that is meant, and what differs first there: a place to look at; None if no number differs."""
        for name, b in self.case.expected.items():
            a = self.case.given.get(name)
            tolerance = SINGLE if a is not None and is_single(a) else DOUBLE
            if a is not None and a.shape == b.shape and not same(a, b, tolerance):
                return f"With {_shapes(self.case.arguments)}, {_entry(name, a, b, tolerance)}."
        return None

    @property
    def arguments(self) -> Arguments:
        """Copies of the call's arguments, by name, with which ``f(*diagnosis.arguments.values())`` makes it again."""
        return copy.deepcopy(self.case.arguments)

    @property
    def expected(self) -> Outputs:
        """What that call should give, by name, copied."""
        return copy.deepcopy(self.case.expected)

    @property
    def given(self) -> Outputs:
        """What that call gave, by name, copied; empty if it could not be read."""
        return copy.deepcopy(self.case.given)

    def __repr__(self) -> str:
        """The summary, a list of the other sentences, and that there is a hint, if there is one."""
        summary, *others = self.sentences
        last = ["Add .hint() to see how to mend it."] if self.remedies else []
        return "\n".join([_filled(summary), *map(_item, others), *last])


def check(name: str, function: Callable[..., Any]) -> Diagnosis:
    """Compare a function with the reference and with known mistakes, on random arguments, each time the same.

    {exercises}

    gamma, beta and their gradients are (C,); eps, lr, beta1 and beta2 are numbers. Arguments are NumPy arrays, passed
    by position; outputs may be arrays, torch tensors or lists.

    Right is what agrees to 1e-6 of an output's largest entry and leaves the arguments as they were. float32 arguments
    are tried as well, with values near 10,000 where there is a variance: there the mean of the squared deviations is
    right, in float32 too, and the mean of the squares less the square of the mean is not. Another dtype than that of
    the arguments, or an axis of length 1 that was kept, is a remark beside what is right. What agrees to 1e-4 only, as
    after a conversion to float32, is not right: the digits are lost, and a constant of one's own may hide in them.

    Of the :class:`Diagnosis`, ``hint()`` tells the remedy, and ``where()`` the first number that differs;
    ``arguments``, ``expected`` and ``given`` hold the call that differs, and ``f(*diagnosis.arguments.values())`` makes
    it again.

    Raises
    ------
    ValueError
        If there is no exercise of that name, or if what is given is not a function.
    Exception
        What the function itself raises, with a note of the arguments' shapes.
    """
    if not isinstance(name, str) or name not in EXERCISES:
        raise ValueError(f"there is no exercise {name!r}: choose one of {sorted(EXERCISES)}")
    if not callable(function):
        raise ValueError(f"a {type(function).__name__} is not a function: pass the function itself, do not call it")
    exercise = EXERCISES[name]
    try:
        calls = [_call(function, a, r) for a, r in zip(exercise.draws, exercise.run(), strict=True)]
        reference = [call.case.expected for call in calls]
        given = [_squeezed(call.case) for call in calls]
        right = [n for n in exercise.outputs if agree(given, reference, [n], DOUBLE)]
        in_single = _in_single(function, exercise, right)
    except _UnusableError as error:
        return Diagnosis(False, (str(error),), case=error.case)
    coarse = [n for n in exercise.outputs if n not in right and agree(given, reference, [n], SINGLE)]
    wrong = [n for n in exercise.outputs if n not in right + coarse]

    moved = bool(wrong) and in_another_order(exercise, given)
    found, unknown = explain(exercise, given, right + coarse, wrong) if wrong and not moved else ([], [])
    faults = [_Finding(mistake.seen, mistake.remedy) for mistake in found]
    faults += [_first_difference(name, exercise, given, reference) for name in unknown]
    faults += _on_precision(coarse, given[0])
    faults += in_single.faults
    faults += [
        _Finding(f"The function changes its argument {n}.", f"Write {n} = {n} - a, not {n} -= a.")
        for n in once(n for call in calls for n in call.changed)
    ]
    remarks = [*_on_shapes(calls[0].case), *_on_dtypes(calls[0].case, coarse), *in_single.remarks]

    case = calls[0].case
    if bad := [n for n in exercise.outputs if n not in right]:
        summary = f"{_are(right)} right, {_are(bad)} not." if right else f"{_are(bad)} not right."
        if moved:
            remarks = []  # they would name the wrong ones
            summary = f"The outputs are right, but in another order: return {', '.join(exercise.outputs)}."
        case = next(c.case for c, g in zip(calls, given, strict=True) if not agree([g], [c.case.expected], bad, DOUBLE))
    elif in_single.faults:
        summary = f"{_are(in_single.lost)} right in float64, but not in float32."
        case = in_single.case
    elif faults:
        summary = "The numbers are right, but:"
    else:
        summary = f"Right: {_and(right)} {'agrees' if len(right) == 1 else 'agree'} with the reference."
    findings = once([*faults, *remarks])
    remedies = once(finding.remedy for finding in findings if finding.remedy)
    return Diagnosis(not faults and not bad, (summary, *(finding.seen for finding in findings)), tuple(remedies), case)


def _signatures() -> str:
    """A list of all exercises, with what each takes and returns."""
    items = (f'``"{name}"``: ``{exercise.signature}``, {exercise.shapes}' for name, exercise in EXERCISES.items())
    return "\n".join(
        textwrap.fill(item, 118, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False) for item in items
    )


# For help(check) and the reference.
check.__doc__ = inspect.cleandoc(check.__doc__ or "").replace("{exercises}", _signatures())


class _Call(NamedTuple):
    case: Case
    changed: list[str]  # the arguments that the function changed


class _UnusableError(Exception):
    """The function returned what cannot be compared; the text says what."""

    def __init__(self, text: str, case: Case):
        super().__init__(text)
        self.case = case


def _call(function: Callable[..., Any], arguments: Arguments, expected: Outputs) -> _Call:
    """The function's outputs as arrays, beside what is expected."""
    passed = copy.deepcopy(arguments)
    try:
        with np.errstate(all="ignore"):  # what is no number is said in words
            result = function(*passed.values())
    except Exception as error:
        error.add_note(f"check called the function with {_shapes(arguments)}.")
        raise
    changed = [name for name, a in arguments.items() if not np.array_equal(passed[name], a)]
    # A list may be one output, of numbers, or several.
    values = result if isinstance(result, (tuple, list) if len(expected) > 1 else tuple) else (result,)
    case = Case(arguments, expected, {})
    if result is None or len(values) != len(expected):
        count = "nothing" if result is None else "1 value" if len(values) == 1 else f"{len(values)} values"
        raise _UnusableError(f"The function returns {count}; end it with: return {', '.join(expected)}.", case)
    dtype = next(iter(arguments.values())).dtype
    given = {}
    for name, value in zip(expected, values, strict=True):
        array = _as_array(value)
        if any(map(np.ma.is_masked, value if isinstance(value, list) else [value])):
            raise _UnusableError(f"{name} is masked, and what is masked is no number: return an array without.", case)
        if array.dtype.kind not in "fiu":
            what = f"{name} is a {type(value).__name__} that does not hold real numbers"
            raise _UnusableError(f"{what}: return an array.", case)
        # A list has no dtype that could be wrong: it gets that of the arguments, as what NumPy has no dtype for.
        bare = str(getattr(value, "dtype", "object")) in ("object", "torch.bfloat16")
        given[name] = array.astype(dtype) if bare else array
    return _Call(case._replace(given=given), changed)


class _InSingle(NamedTuple):
    """What float32 arguments show: the outputs that are lost, why, and what there is to remark."""

    case: Case
    lost: list[str]
    faults: list[_Finding]
    remarks: list[_Finding]


def _in_single(function: Callable[..., Any], exercise: Exercise, right: list[str]) -> _InSingle:
    """Call with float32 arguments, and see whether what is right in float64 is right there, too."""
    case, error = _call_in_single(function, exercise, FAR)
    lost = [n for n in right if error or _lost(exercise, case, n)]
    if not lost and not error:
        return _InSingle(case, [], [], _on_wide_dtypes(function, case))
    if exercise.far:  # is it right in float32 if the same values lie about zero?
        near, near_error = _call_in_single(function, exercise, 0.0)
        if not near_error and not any(_lost(exercise, near, n) for n in lost):
            what = f"the function raises {_named(error)}" if error else _first_lost(exercise, case, lost[0])
            seen = (
                f"With values near 10,000 in float32, {what}. A variance taken as the mean of the squares less the "
                "square of the mean is there the small difference of two large numbers."
            )
            return _InSingle(case, lost, [_Finding(seen, exercise.far.remedy)], [])
    if error:
        seen = f"For float32 arguments the function raises {_named(error)}."
        return _InSingle(case, [], [], [_Finding(seen, "Take the dtype of the arguments for what is made on the way.")])
    seen = f"For float32 arguments {_first_lost(exercise, case, lost[0])}, with {_shapes(case.arguments)}."
    remedy = "Look for a constant too small for float32, an overflow, or a difference of large numbers."
    return _InSingle(case, lost, [_Finding(seen, remedy)], _on_wide_dtypes(function, case))


def _call_in_single(function: Callable[..., Any], exercise: Exercise, around: float) -> tuple[Case, Exception | None]:
    """A call with float32 arguments, far out where that matters, beside what is right for just these numbers."""
    draw = exercise.far.around(around) if exercise.far else exercise.draws[0]
    arguments = {n: a.astype(np.float32) if isinstance(a, np.ndarray) else a for n, a in draw.items()}
    exact = {n: a.astype(np.float64) if isinstance(a, np.ndarray) else a for n, a in arguments.items()}
    expected = exercise.run(draws=[exact])[0]
    try:
        return _call(function, arguments, expected).case, None
    except _UnusableError:
        raise
    except Exception as error:
        return Case(arguments, expected, {}), error


def _lost(exercise: Exercise, case: Case, name: str) -> bool:
    return not same(_squeezed(case)[name], case.expected[name], _tolerance(exercise))


def _first_lost(exercise: Exercise, case: Case, name: str) -> str:
    a, b = _squeezed(case)[name], case.expected[name]
    return _entry(name, a, b, _tolerance(exercise)) if a.shape == b.shape else f"{name} has the shape {a.shape}"


def _tolerance(exercise: Exercise) -> float:
    return exercise.far.tolerance if exercise.far else ROUNDING


def _named(error: Exception | None) -> str:
    return f"{type(error).__name__} ({str(error).splitlines()[0] if str(error) else 'no message'})"


def _as_array(value: Any) -> np.ndarray:
    def plain(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        value = value.detach() if hasattr(value, "detach") else value
        return value.float() if str(getattr(value, "dtype", "")) == "torch.bfloat16" else value

    try:
        array = np.asarray(plain(value))
    except (TypeError, ValueError):  # such as rows of different lengths
        return np.asarray(None)
    if array.dtype == object and all(isinstance(v, Real) and not isinstance(v, bool) for v in array.flat):
        return array.astype(float)
    if array.dtype.kind == "c" and abs(np.imag(array)).max() <= DOUBLE**2 * abs(np.real(array)).max():
        return np.real(array)
    return array


def _squeezed(case: Case) -> Outputs:
    """What was given, without axes of length 1 that should not be there; no size of the exercises is 1."""
    return {n: a if a.shape == case.expected[n].shape else a.squeeze() for n, a in case.given.items()}


def _first_difference(name: str, exercise: Exercise, given: list[Outputs], reference: list[Outputs]) -> _Finding:
    pairs = [(a[name], b[name]) for a, b in zip(given, reference, strict=True)]
    draw = next(i for i, (a, b) in enumerate(pairs) if not same(a, b, SINGLE))
    a, b = pairs[draw]
    with_ = f"with {_shapes(exercise.draws[draw])}"
    remedy = "The arguments of that call are in .arguments, what is right in .expected: compare step by step."
    if a.shape != b.shape:
        return _Finding(f"{name} has shape {a.shape} instead of {b.shape}, {with_}.", remedy)
    entry = _entry(name, a, b, SINGLE)
    if "should be" not in entry:
        causes = "look for a division by zero, the root of a negative number, an overflow"
        return _Finding(f"{entry}, {with_}: {causes}.", remedy)
    return _Finding(f"{name} shows none of the mistakes I know: {entry}, {with_}.", remedy)


def _entry(name: str, a: np.ndarray, b: np.ndarray, tolerance: float) -> str:
    """The first entry that differs, and what it should be, unless it is no number at all."""
    scale = abs(b).max()
    where = tuple(int(i) for i in np.argwhere(~(abs(a - b) <= tolerance * scale))[0])
    entry = f"{name}[{', '.join(map(str, where))}]"
    if not np.isfinite(a[where]):
        return f"{entry} is {a[where]}"
    got, needed = (float(v) if abs(v) > DOUBLE * scale else 0.0 for v in (a[where], b[where]))  # 0 for rounding noise
    digits = next(d for d in range(3, 18) if f"{got:.{d}g}" != f"{needed:.{d}g}")
    return f"{entry} is {got:.{digits}g}, should be {needed:.{digits}g}"


def _on_precision(coarse: list[str], given: Outputs) -> list[_Finding]:
    if not coarse:
        return []
    return [
        _Finding(
            f"{_are(coarse)} right to four digits only (dtype {_and(str(given[name].dtype) for name in coarse)}). "
            "Is something computed in single precision on the way, or a small constant added?",
            "Keep float64 from the arguments to the end, without arrays or tensors in float32, and add no constant.",
        )
    ]


def _on_shapes(case: Case) -> list[_Finding]:
    return [
        _Finding(
            f"{name} has the shape {case.given[name].shape} instead of {a.shape}.",
            f"If {name} was summed with keepdims=True, leave that out; or end with .reshape({a.shape}).",
        )
        for name, a in case.expected.items()
        if case.given[name].shape != a.shape == case.given[name].squeeze().shape
    ]


def _on_dtypes(case: Case, coarse: list[str]) -> list[_Finding]:
    """Outputs in float32, though the arguments are float64."""
    low = [n for n, a in case.given.items() if is_single(a) and n not in coarse]
    if not low:
        return []
    kinds = _and(str(case.given[n].dtype) for n in low)
    seen = f"{_are(low)} {kinds}, with single precision only, but the arguments are float64."
    return [_Finding(seen, f"Keep the dtype of {next(iter(case.arguments))}.")]


def _on_wide_dtypes(function: Callable[..., Any], case: Case) -> list[_Finding]:
    """Outputs in another dtype than float32, though the arguments are float32."""
    wide = [n for n, a in case.given.items() if a.dtype != np.float32]
    if not wide:
        return []
    first = next(iter(case.arguments))
    remedy = " ".join([*_widening(function, first), f"Or end with .astype({first}.dtype)."])
    return [_Finding(f"For float32 arguments {_are(wide)} {_and(str(case.given[n].dtype) for n in wide)}.", remedy)]


# What makes float64 of float32, by the names that stand in a function's code.
_MAKERS = ("ones", "zeros", "eye", "identity", "full", "empty", "arange", "linspace")
_LIBRARY = (
    "polyfit",
    "cov",
    "corrcoef",
    "average",
    "sqrtm",
    "fractional_matrix_power",
    "norm",
    "zscore",
    "erf",
    "ndtr",
)


def _widening(function: Callable[..., Any], first: str) -> list[str]:
    """Probable causes of a wider dtype, by what the function calls."""
    names = _names(getattr(function, "__code__", None))
    causes = []
    if used := [name for name in _LIBRARY if name in names]:
        causes.append(f"{_and(used)} may compute in float64 whatever is given.")
    if used := [name for name in _MAKERS if name in names]:
        causes.append(f"np.{used[0]}(...) makes float64: give it dtype={first}.dtype.")
    if "sqrt" in names:
        causes.append("np.sqrt of a plain number is an np.float64, which makes arrays wider: write number ** 0.5.")
    return causes or ["Look for an np.float64 scalar, or an array made in float64 on the way."]


def _names(code: CodeType | None) -> set[str]:
    """The names in a function's code, and in that of the functions inside it."""
    if code is None:
        return set()
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _shapes(arguments: Arguments) -> str:
    return _and(f"{name} {np.shape(a)}" if np.ndim(a) else f"{name} = {a}" for name, a in arguments.items())


def _filled(sentence: str, first: str = "", others: str = "") -> str:
    """In lines of at most 79 characters, none of which starts with a minus, which would look like an item."""
    kept = sentence.replace(" - ", "\0-\0")
    return textwrap.fill(kept, 79, initial_indent=first, subsequent_indent=others).replace("\0", " ")


def _item(sentence: str) -> str:
    return _filled(sentence, "- ", "  ")


def _and(names: Iterable[str]) -> str:
    *first, last = once(names)
    return f"{', '.join(first)} and {last}" if first else last


def _are(names: list[str]) -> str:
    return f"{_and(names)} {'is' if len(names) == 1 else 'are'}"
