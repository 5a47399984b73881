"""Check a reader's function, and name the mistake.

The function's outputs are compared with those of the reference, of each mistake in :mod:`bnlib.catalogue`, and of each
pair of mistakes.
"""

import copy
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnlib.catalogue import EXERCISES, Exercise, Mistake, Outputs

# Deviations, relative to an output's largest entry, that rounding explains in double and in single precision.
DOUBLE, SINGLE = 1e-6, 1e-4


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What :func:`check` saw: whether all is right, and what there is to say, a summary first.

    As the last line of a notebook cell it shows its sentences, in lines of at most 79 characters.
    """

    right: bool
    sentences: tuple[str, ...]

    def __repr__(self) -> str:
        """The summary, and a list of the other sentences."""
        summary, *others = self.sentences
        items = [textwrap.fill(s, 79, initial_indent="- ", subsequent_indent="  ") for s in others]
        return "\n".join([textwrap.fill(summary, 79), *items])


def check(name: str, function: Callable[..., Any]) -> Diagnosis:
    """Compare a function with the reference and with known mistakes, on random arguments, each time the same.

    - ``"01-weights"``: ``f(x, y, w) -> (line, size)``, x, y and w of shape (N,), line (2,): intercept and slope
    - ``"02-backward"``: ``f(x, weights, dy) -> (dx, dweights)``, x and dy of shape (N, C), weights (L, C, C)
    - ``"03-whiten"``: ``f(x, eps) -> white``, x of shape (N, n)
    - ``"04-orders"``: ``f(w, g, lr) -> terms``, w and g of shape (l,), terms (l + 1,)
    - ``"05-penalty"``: ``f(z, lam) -> dz``, z of shape (N, C), lam a number
    - ``"06-batch-norm"``: ``f(x, gamma, beta, eps) -> y``, x of shape (N, C)
    - ``"06-channels"``: the same, x of shape (N, C, H, W)
    - ``"07-backward"``: ``f(dy, x, gamma, eps) -> (dx, dgamma, dbeta)``, x of shape (N, C)
    - ``"07-channels"``: the same, x of shape (N, C, H, W)
    - ``"08-step"``: ``f(h, W, gamma, beta, dy, lr, eps) -> (W_new, gamma_new, beta_new)``, h of shape (N, D), W (D, C),
      dy (N, C) the mean loss's gradient with respect to y
    - ``"08-adam"``: ``f(gamma, grads, lr, beta1, beta2, eps) -> (gamma_new, m, v)``, grads of shape (T, C), a row for
      each step; m and v, of shape (C,), are not corrected
    - ``"09-running"``: ``f(means, vars, n, momentum) -> (mean, var)``, means and vars of shape (T, C), a row for each
      batch of n examples, vars biased; PyTorch's running statistics after them, from mean 0 and variance 1
    - ``"09-fold"``: ``f(W, b, gamma, beta, mean, var, eps) -> (W_new, b_new)``, W of shape (D, C), the others (C,)
    - ``"10-pool"``: ``f(counts, means, vars) -> (mean, var)``, counts of shape (S,), means and vars (S, C)
    - ``"12-axes"``: ``f(x, gamma, beta, groups, eps) -> y``, group norm of x of shape (N, C, L)
    - ``"12-scale"``: ``f(y, gamma, beta, a) -> y_new``, y of shape (N, C) what layer norm with eps = 0 puts out; then
      with all weights of the layer, which has no bias, multiplied by the number a, not 0
    - ``"13-weightnorm"``: ``f(dw, v, g) -> (dv, dg)``, dw and v of shape (units, inputs), g (units,)
    - ``"13-moments"``: ``f(mean, var) -> (mean_out, var_out)``, all (units,): of relu(z), z Gaussian with mean and var
    - ``"14-start"``: ``f(normals) -> weights``, both of shape (units, inputs), normals standard normal numbers
    - ``"14-dropout"``: ``f(h, kept, keep_prob) -> out``, h and out of shape (N, C), kept of that shape with 1 for what
      is kept and 0 for what is dropped

    gamma, beta and their gradients are (C,); eps, lr, beta1 and beta2 are numbers. Arguments are NumPy arrays, passed
    by position; outputs may be arrays, torch tensors or lists. Right is what agrees to 1e-6 of an output's largest
    entry, has the shape and the dtype of what it belongs to, and leaves the arguments as they were.

    Raises
    ------
    ValueError
        If there is no exercise of that name, or if what is given is not a function.
    Exception
        What the function itself raises, with a note of the arguments' shapes.
    """
    if name not in EXERCISES:
        raise ValueError(f"there is no exercise {name!r}: choose one of {sorted(EXERCISES)}")
    if not callable(function):
        raise ValueError(f"a {type(function).__name__} is not a function: pass the function itself, do not call it")
    exercise = EXERCISES[name]
    reference = exercise.run()
    in_single = {k: a.astype(np.float32) if isinstance(a, np.ndarray) else a for k, a in exercise.draws[0].items()}
    try:
        calls = [_call(function, arguments, exercise.outputs) for arguments in (*exercise.draws, in_single)]
    except _UnusableError as error:
        return Diagnosis(False, (str(error),))
    *returned, single = (outputs for outputs, _ in calls)
    changed = _once(name for _, names in calls for name in names)
    given = [
        {n: a if a.shape == expected[n].shape else a.squeeze() for n, a in outputs.items()}  # no size is 1
        for outputs, expected in zip(returned, reference, strict=True)
    ]
    right = [n for n in exercise.outputs if _agree(given, reference, [n], SINGLE)]
    wrong = [n for n in exercise.outputs if n not in right]

    notes = [f"The function changes its argument {n}: write {n} = {n} - a, not {n} -= a." for n in changed]
    notes += _on_shapes(returned[0], given[0], reference[0], right)
    notes += _on_dtypes(given[0], single, [n for n in right if not _agree(given, reference, [n], DOUBLE)])
    if wrong:
        summary = f"{_are(right)} right, {_are(wrong)} not." if right else f"{_are(wrong)} not right."
        return Diagnosis(False, (summary, *_explain(exercise, given, reference, wrong), *notes))
    if notes:
        return Diagnosis(False, ("The numbers are right, but:", *notes))
    return Diagnosis(True, (f"Right: {_and(right)} {'agrees' if len(right) == 1 else 'agree'} with the reference.",))


class _UnusableError(Exception):
    """The function returned what cannot be compared; the text says what."""


def _call(function: Callable[..., Any], arguments: dict[str, Any], names: tuple[str, ...]) -> tuple[Outputs, list[str]]:
    """The function's outputs as arrays, and the names of the arguments that it changed."""
    passed = copy.deepcopy(arguments)
    try:
        result = function(*passed.values())
    except Exception as error:
        error.add_note(f"check called the function with {_shapes(arguments)}.")
        raise
    changed = [name for name, a in arguments.items() if not np.array_equal(passed[name], a)]
    # A list may be one output, of numbers, or several.
    values = result if isinstance(result, (tuple, list) if len(names) > 1 else tuple) else (result,)
    if result is None or len(values) != len(names):
        count = "nothing" if result is None else "1 value" if len(values) == 1 else f"{len(values)} values"
        raise _UnusableError(f"The function returns {count}; end it with: return {', '.join(names)}.")
    dtype = next(iter(arguments.values())).dtype
    return {name: _as_array(name, value, dtype) for name, value in zip(names, values, strict=True)}, changed


def _as_array(name: str, value: Any, dtype: np.dtype) -> np.ndarray:
    """An output as an array; a list, which has no dtype that could be wrong, in that of the arguments."""
    try:
        array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError):  # such as rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise _UnusableError(f"{name} is a {type(value).__name__} that does not hold real numbers: return an array.")
    return array if hasattr(value, "dtype") else array.astype(dtype)


def _same(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return a.shape == b.shape and bool(abs(a - b).max() <= tolerance * abs(b).max())  # False if there is a NaN


def _agree(given: list[Outputs], made: list[Outputs], names: Iterable[str], tolerance: float | None = None) -> bool:
    """Whether the named outputs are the same in every draw, by default as well as their dtype allows."""
    return all(
        _same(a[n], b[n], tolerance or (SINGLE if _is_single(a[n]) else DOUBLE))
        for a, b in zip(given, made, strict=True)
        for n in names
    )


def _explain(exercise: Exercise, given: list[Outputs], reference: list[Outputs], wrong: list[str]) -> list[str]:
    """The mistakes that give all outputs; failing that, those of each wrong output, or where it first differs."""
    for mistakes, made in exercise.candidates:
        if _agree(given, made, exercise.outputs):
            return [mistake.sentence for mistake in mistakes]
    found: list[Mistake] = []
    unknown = []
    for name in wrong:
        fits = [mistakes for mistakes, made in exercise.candidates if _agree(given, made, [name])]
        if fits:  # those that need the fewest mistakes besides the ones already found
            found += min(fits, key=lambda mistakes: len(set(mistakes) - set(found)))
        else:
            unknown.append(_first_difference(name, exercise, given, reference))
    return [mistake.sentence for mistake in _once(found)] + unknown


def _first_difference(name: str, exercise: Exercise, given: list[Outputs], reference: list[Outputs]) -> str:
    pairs = [(a[name], b[name]) for a, b in zip(given, reference, strict=True)]
    draw = next(i for i, (a, b) in enumerate(pairs) if not _same(a, b, SINGLE))
    a, b = pairs[draw]
    with_ = f"with {_shapes(exercise.draws[draw])}"
    if a.shape != b.shape:
        return f"{name} has shape {a.shape} instead of {b.shape}, {with_}."
    scale = abs(b).max()
    where = tuple(int(i) for i in np.argwhere(~(abs(a - b) <= SINGLE * scale))[0])
    entry = f"{name}[{', '.join(map(str, where))}]"
    if not np.isfinite(a[where]):
        return (
            f"{entry} is {a[where]}, {with_}: look for a division by zero, the root of a negative number, an overflow."
        )
    got, needed = (float(v) if abs(v) > DOUBLE * scale else 0.0 for v in (a[where], b[where]))  # 0 for rounding noise
    digits = next(d for d in range(3, 18) if f"{got:.{d}g}" != f"{needed:.{d}g}")
    return (
        f"{name} shows none of the mistakes I know: "
        f"{entry} is {got:.{digits}g}, should be {needed:.{digits}g}, {with_}."
    )


def _on_shapes(returned: Outputs, given: Outputs, reference: Outputs, right: list[str]) -> list[str]:
    return [
        f"{name} has {'the right numbers, but ' if name in right else ''}shape {returned[name].shape} "
        f"instead of {a.shape}: sum without keepdims, or reshape it."
        for name, a in given.items()
        if returned[name].shape != a.shape == reference[name].shape
    ]


def _on_dtypes(double: Outputs, single: Outputs, coarse: list[str]) -> list[str]:
    notes = []
    if low := [name for name, a in double.items() if _is_single(a) or name in coarse]:
        notes.append(
            f"{_and(low)} {'has' if len(low) == 1 else 'have'} single precision only "
            f"(dtype {_and(str(double[name].dtype) for name in low)}), but the arguments are float64: "
            "is something converted on the way, or a small constant added?"
        )
    if wide := [name for name, a in single.items() if a.dtype != np.float32]:
        notes.append(
            f"For float32 arguments {_are(wide)} {_and(str(single[name].dtype) for name in wide)}: "
            "keep the dtype, for instance with np.zeros_like(x) in place of np.zeros(x.shape)."
        )
    return notes


def _is_single(a: np.ndarray) -> bool:
    return a.dtype.itemsize < 8


def _shapes(arguments: dict[str, Any]) -> str:
    return _and(f"{name} {a.shape}" if isinstance(a, np.ndarray) else f"{name} = {a}" for name, a in arguments.items())


def _once(items: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(items))


def _and(names: Iterable[str]) -> str:
    *first, last = _once(names)
    return f"{', '.join(first)} and {last}" if first else last


def _are(names: list[str]) -> str:
    return f"{_and(names)} {'is' if len(names) == 1 else 'are'}"
