"""Which of an exercise's mistakes give a function's outputs: one, a pair, and, if need be, more beside them."""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Exercise, Mistake, Outputs, together

# Deviations, relative to an output's largest entry: what is asked, and what single precision explains.
DOUBLE, SINGLE = 1e-6, 1e-4
# Three mistakes at once are looked for only if there are no more than so many ways: half a second.
MANY = 8000


def explain(
    exercise: Exercise, given: list[Outputs], right: list[str], wrong: list[str]
) -> tuple[list[Mistake], list[str]]:
    """The mistakes that give all outputs; failing that, those of each wrong output, and the outputs that none gives."""
    reference = exercise.run()

    def fit(names: Iterable[str]) -> Iterator[tuple[Mistake, ...]]:
        possible = np.flatnonzero(_possible(exercise, given[0], names))
        pairs = (exercise.candidates[i] for i in possible)
        return (mistakes for mistakes, made in pairs if _fits(exercise, given, mistakes, names, made))

    for mistakes in fit(exercise.outputs):
        return list(mistakes), []
    fits = {
        name: [mistakes for mistakes in fit([name]) if agree(exercise.run(*mistakes), reference, right, DOUBLE)]
        for name in wrong
    }  # what is right stays right
    if joint := _jointly(exercise, given, list(fits.values())):
        return list(joint), []
    found: list[Mistake] = []
    for several in filter(None, fits.values()):  # those that need the fewest mistakes besides the ones already found
        found += min(several, key=lambda mistakes: len(set(mistakes) - set(found)))
    blind = {name: _in_blind_view(exercise, given, name) for name in wrong if not fits[name]}
    unknown = [name for name, mistakes in blind.items() if not mistakes]
    further = _further(exercise, given, reference, right, found, unknown) if unknown else {}
    found += itertools.chain(*blind.values(), *further.values())
    return once(found), [name for name in unknown if name not in further]


def in_another_order(exercise: Exercise, given: list[Outputs]) -> bool:
    """Whether the outputs are right, but for their order."""
    reference = exercise.run()
    orders = itertools.permutations(exercise.outputs)
    next(orders)  # as they are
    return any(
        agree([dict(zip(order, g.values(), strict=True)) for g in given], reference, exercise.outputs)
        for order in orders
    )


def same(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Whether a is b; a mistake's outputs may hold what is no number, and then a must have it in the same places."""
    if a.shape != b.shape:
        return False
    scale = abs(b).max()
    if np.isfinite(scale):
        return bool(abs(a - b).max() <= tolerance * scale)  # False if there is a NaN
    finite = np.isfinite(b)
    return np.array_equal(np.isfinite(a), finite) and (not finite.any() or same(a[finite], b[finite], tolerance))


def agree(given: list[Outputs], made: list[Outputs], names: Iterable[str], tolerance: float | None = None) -> bool:
    """Whether the named outputs are the same in every draw, by default as well as their dtype allows."""
    return all(same(a[n], b[n], tolerance or _allowed(a[n])) for a, b in zip(given, made, strict=True) for n in names)


def _allowed(a: np.ndarray) -> float:
    return SINGLE if is_single(a) else DOUBLE


def is_single(a: np.ndarray) -> bool:
    """Whether an array has single precision or less."""
    return a.dtype.itemsize < 8


def once(items: Iterable[Any]) -> list[Any]:
    """Each item at its first place only."""
    return list(dict.fromkeys(items))


def _jointly(exercise: Exercise, given: list[Outputs], fits: list[list[tuple[Mistake, ...]]]) -> tuple[Mistake, ...]:
    """The fewest of the mistakes which explain each wrong output that together explain all outputs."""
    choices = [once(itertools.chain(*choice)) for choice in itertools.product(*(several[:8] for several in fits))]
    for mistakes in sorted(choices, key=len):
        for joined in together(mistakes, (), 0):
            if _fits(exercise, given, joined, exercise.outputs, exercise.run(*joined, draws=exercise.draws[:1])[0]):
                return joined
    return ()


def _possible(exercise: Exercise, given: Outputs, names: Iterable[str]) -> np.ndarray:
    """Which candidates agree with the named outputs' first entries: few, and only these are compared as a whole."""
    agreeing = np.ones(len(exercise.candidates), bool)
    for name in names:
        first, largest = exercise.first_entries[name]
        agreeing &= abs(first - next(given[name].flat, np.nan)) <= _allowed(given[name]) * largest
    return agreeing


def _fits(
    exercise: Exercise,
    given: list[Outputs],
    mistakes: tuple[Mistake, ...],
    names: Iterable[str],
    made: Outputs,
    draw: int = 0,
) -> bool:
    """Whether the mistakes give the named outputs: most do not in one draw, for which their outputs are known."""
    return agree([given[draw]], [made], names) and agree(given, exercise.run(*mistakes), names)


def _in_blind_view(exercise: Exercise, given: list[Outputs], name: str) -> tuple[Mistake, ...]:
    """What explains an output as far as the exercise's blind view sees it, and the mistake that it does not see."""
    blind = exercise.blind
    if blind and all(a[name].shape == b[name].shape for a, b in zip(given, exercise.run(), strict=True)):

        def seen(runs: list[Outputs]) -> list[Outputs]:
            with np.errstate(all="ignore"):
                return [{name: blind.view(outputs[name])} for outputs in runs]

        for mistakes in [(), *((m,) for m in exercise.mistakes)]:
            if agree(seen(given), seen(exercise.run(*mistakes)), [name]):
                return blind.mistake, *mistakes
    return ()


def _further(
    exercise: Exercise,
    given: list[Outputs],
    reference: list[Outputs],
    right: list[str],
    found: list[Mistake],
    unknown: list[str],
) -> dict[str, tuple[Mistake, ...]]:
    """Mistakes that explain outputs which no pair explains: what is found with one or two more, or three."""
    alone = [(mistakes[0], made) for mistakes, made in exercise.candidates if len(mistakes) == 1]
    pool = [mistake for mistake, made in alone if agree([made], reference[:1], right)]  # what is right stays right
    tries = [(once(found), 1), (once(found), 2)] if found else []
    tries += [([], 3)] if math.comb(len(pool), 3) <= MANY else []
    explained: dict[str, tuple[Mistake, ...]] = {}
    pairs = list(zip(given, reference, strict=True))
    draw = max(next(i for i, (a, b) in enumerate(pairs) if not agree([a], [b], [name])) for name in unknown)
    for mistakes in itertools.chain(*(together(start, pool, more) for start, more in tries)):
        made = exercise.run(*mistakes, draws=[exercise.draws[draw]])[0]
        for name in unknown:
            if name not in explained and _fits(exercise, given, mistakes, [name], made, draw):
                explained[name] = mistakes
        if len(explained) == len(unknown):
            break
    return explained
