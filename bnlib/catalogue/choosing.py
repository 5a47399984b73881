"""Chapter 17: what a search of k configurations finds on average."""

from math import comb
from types import SimpleNamespace

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step


def _ways(below: range, others: int) -> np.ndarray:
    """For each number of configurations that are worse, in how many ways the others of a search are among them."""
    return np.array([comb(i, others) for i in below])


def _with_replacement(v: SimpleNamespace) -> np.ndarray:
    shares = np.arange(v.n + 1) / v.n
    return np.diff(shares**v.k)


_SEARCH: dict[str, Step] = {
    "n": lambda v: len(v.val),
    "by": lambda v: v.val,
    "order": lambda v: np.argsort(v.by),
    "of": lambda v: v.test,
    "sorted": lambda v: v.of[v.order],
    "chances": lambda v: _ways(range(v.n), v.k - 1) / comb(v.n, v.k),
    "mean": lambda v: np.asarray((v.chances.astype(v.test.dtype) * v.sorted).sum()),
}

_MISTAKES = (
    Mistake(
        "The best is picked by its test accuracy. That is known only when the search is over: what is picked "
        "by it looks better than it is.",
        "Sort by val, and look up test in that order.",
        by=lambda v: v.test,
    ),
    Mistake(
        "The accuracy that is told is the validation accuracy of the best, by which it was picked.",
        "Sort by val, and average test in that order.",
        of=lambda v: v.val,
    ),
    Mistake("The worst is kept, not the best.", "np.argsort sorts upwards.", order=lambda v: np.argsort(v.by)[::-1]),
    Mistake(
        "The configurations are taken in the order in which they came.",
        "Sort by val: test = test[np.argsort(val)].",
        by=lambda v: v.val,
        order=lambda v: np.arange(v.n),
    ),
    Mistake(
        "The others are k, not k - 1: the best itself is one of the search.",
        "comb(i, k - 1).",
        chances=lambda v: _ways(range(v.n), v.k) / comb(v.n, v.k),
    ),
    Mistake(
        "The i-th has i - 1 others below it if i counts from 1, and i if it counts from 0.",
        "With enumerate, from 0: comb(i, k - 1).",
        chances=lambda v: _ways(range(1, v.n + 1), v.k - 1) / comb(v.n, v.k),
    ),
    Mistake(
        "A search is divided by the number of ways to draw k - 1, so that the chances do not add up to 1.",
        "Divide by comb(n, k).",
        chances=lambda v: _ways(range(v.n), v.k - 1) / comb(v.n, v.k - 1),
    ),
    Mistake(
        "A configuration can be drawn twice. The search draws k different ones.",
        "comb(i, k - 1) / comb(n, k) in place of powers.",
        chances=_with_replacement,
    ),
    Mistake(
        "k is ignored: this is what a search of one finds.",
        "Weight the sorted configurations by comb(i, k - 1) / comb(n, k).",
        by=lambda v: v.val,
        order=lambda v: np.arange(v.n),
        chances=lambda v: np.full(v.n, 1 / v.n),
    ),
    Mistake(
        "This is the best of all n, not of k of them.",
        "Weight the sorted configurations by comb(i, k - 1) / comb(n, k).",
        chances=lambda v: np.eye(v.n)[-1],
    ),
    Mistake(
        "This is the mean of the best k. A search keeps one.",
        "Weight the sorted configurations by comb(i, k - 1) / comb(n, k).",
        chances=lambda v: (np.arange(v.n) >= v.n - v.k) / v.k,
    ),
    Mistake(
        "This is the best of the first k. The mean is over all searches of k.",
        "Weight the sorted configurations by comb(i, k - 1) / comb(n, k).",
        order=lambda v: np.arange(v.n),
        chances=lambda v: np.full(v.n, 1 / v.n),
        mean=lambda v: np.asarray(v.of[np.argmax(v.by[: v.k])]),
    ),
)


def _draws() -> tuple[Arguments, ...]:
    rng = np.random.default_rng(17)
    return tuple({"val": rng.normal(size=n), "test": rng.normal(size=n), "k": k} for n, k in ((7, 3), (6, 2), (8, 5)))


EXERCISES = {
    "17-best-of": Exercise(
        "val and test (n,), larger is better; k and the mean numbers",
        _draws(),
        ("mean",),
        _SEARCH,
        _MISTAKES,
    )
}
