"""Chapter 4: the orders of one update of a product of scalar weights."""

from itertools import combinations
from math import factorial
from types import SimpleNamespace

import numpy as np

from bnlib.catalogue.exercise import Arguments, Exercise, Mistake, Step


def _sums(others: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """For each k the sum over all sets of k layers, of the chosen factors in the set and the others outside it."""
    polynomial = np.ones(1, others.dtype)
    for other, factor in zip(others, chosen, strict=True):
        polynomial = np.convolve(polynomial, [other, factor])
    return polynomial


def _of_neighbours(v: SimpleNamespace) -> np.ndarray:
    sums = np.zeros(len(v.w) + 1, v.w.dtype)
    for k in range(len(sums)):
        for chosen in combinations(range(len(v.w)), k):
            if not chosen or chosen[-1] - chosen[0] == k - 1:
                sums[k] += np.prod([v.g[i] if i in chosen else v.w[i] for i in range(len(v.w))])
    return sums


_ORDERS: dict[str, Step] = {
    "k": lambda v: np.arange(len(v.w) + 1),
    "signs": lambda v: np.where(v.k % 2, -1, 1).astype(v.w.dtype),
    "powers": lambda v: np.array([v.lr**k for k in v.k], v.w.dtype),
    "sums": lambda v: _sums(v.w, v.g),
    "times": lambda v: np.ones(len(v.k), v.w.dtype),  # how often each set is counted
    "terms": lambda v: v.signs * v.powers * v.sums * v.times,
}

_MISTAKES = (
    Mistake(
        "The signs are missing: a step goes down the gradient.",
        "Odd orders come with a minus: (-lr)**k.",
        signs=lambda v: np.ones(len(v.k), v.w.dtype),
    ),
    Mistake(
        "All orders but the zeroth are negative: two steps together have the sign of a product of two minuses.",
        "Order k has the sign of (-lr)**k.",
        signs=lambda v: np.where(v.k > 0, -1, 1).astype(v.w.dtype),
    ),
    Mistake(
        "Each order has one factor of the learning rate.",
        "Order k has k of them.",
        powers=lambda v: np.where(v.k > 0, v.lr, 1.0).astype(v.w.dtype),
    ),
    Mistake(
        "The learning rate is missing.", "Order k has the factor lr**k.", powers=lambda v: np.ones(len(v.k), v.w.dtype)
    ),
    Mistake(
        "The orders are divided by k!, as in a Taylor series; the sum over sets has counted each set once already.",
        "Leave the division out.",
        times=lambda v: np.array([1 / factorial(k) for k in v.k], v.w.dtype),
    ),
    Mistake(
        "Each set is counted k! times.",
        "Take combinations of the layers, not permutations.",
        times=lambda v: np.array([factorial(k) for k in v.k], v.w.dtype),
    ),
    Mistake(
        "Only sets of neighbouring layers are summed; any k layers can move together.",
        "Take all of itertools.combinations(range(len(w)), k).",
        sums=_of_neighbours,
    ),
    Mistake(
        "Weights and gradients are exchanged.",
        "The layers of the set give their g, the others their w.",
        sums=lambda v: _sums(v.g, v.w),
    ),
    Mistake(
        "The weights of the layers outside the set are missing from the products.",
        sums=lambda v: _sums(np.ones_like(v.w), v.g),
    ),
    Mistake(
        "The orders beyond the first are zero: there are as many as layers.",
        times=lambda v: (v.k < 2).astype(v.w.dtype),
    ),
    Mistake("The highest order comes first.", "Begin with order 0.", terms=lambda v: _ORDERS["terms"](v)[::-1]),
    Mistake("Order 0, the product before the step, is missing.", times=lambda v: (v.k > 0).astype(v.w.dtype)),
)


def _draws(*depths: int) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(4)
    return tuple(
        {"w": rng.choice([-1, 1], depth) * rng.uniform(0.5, 2, depth), "g": rng.uniform(-2, 2, depth), "lr": lr}
        for depth, lr in zip(depths, (0.3, 1.7), strict=True)
    )


EXERCISES = {
    "04-orders": Exercise(
        "w and g of shape (l,), terms (l + 1,)",
        _draws(5, 4),
        ("terms",),
        _ORDERS,
        _MISTAKES,
    )
}
