"""Chapter 17: the best of k, as readers write it."""

from itertools import combinations
from math import comb

import numpy as np

from bnlib.lab.experiments import choosing
from tests.exercises.cases import edits, reference, right, wrong


@reference("17-best-of")
def best_of_by_the_laboratory(val, test, k):
    return choosing.best_of(val, test, k)


@right("17-best-of")
def all_searches_one_by_one(val, test, k):
    return np.mean([test[max(drawn, key=lambda i: val[i])] for drawn in combinations(range(len(val)), k)])


@right("17-best-of")
def best_of_in_a_loop(val, test, k):
    n, total = len(val), 0.0
    for i, chosen in enumerate(np.argsort(val)):
        total += comb(i, k - 1) * test[chosen]
    return total / comb(n, k)


edits(
    "17-best-of",
    best_of_in_a_loop,
    ("np.argsort(val) -> np.argsort(test)", "picked by its test accuracy"),
    ("* test[chosen] -> * val[chosen]", "by which it was picked"),
    ("np.argsort(val) -> np.argsort(-val)", "The worst is kept"),
    ("np.argsort(val) -> range(n)", "in which they came"),
    ("comb(i, k - 1) -> comb(i, k)", "The others are k, not k - 1"),
    ("enumerate(np.argsort(val)) -> enumerate(np.argsort(val), 1)", "if i counts from 1"),
    ("/ comb(n, k) -> / comb(n, k - 1)", "do not add up to 1"),
    ("comb(i, k - 1) -> (((i + 1) / n) ** k - (i / n) ** k) ;; total / comb(n, k) -> total", "can be drawn twice"),
    (
        "comb(i, k - 1) -> (((i + 1) / n) ** k - (i / n) ** k) ;; total / comb(n, k) -> total"
        " ;; np.argsort(val) -> np.argsort(test)",
        "picked by its test accuracy",
        "can be drawn twice",
    ),
)


@wrong("17-best-of", "k is ignored")
def mean_of_all(val, test, k):
    return test.mean()


@wrong("17-best-of", "best of all n")
def best_of_all(val, test, k):
    return test[val.argmax()]


@wrong("17-best-of", "picked by its test accuracy", "best of all n")
def largest(val, test, k):
    return test.max()


@wrong("17-best-of", "mean of the best k")
def mean_of_the_best(val, test, k):
    return test[np.argsort(val)[-k:]].mean()


@wrong("17-best-of", "best of the first k")
def best_of_the_first(val, test, k):
    return test[:k][val[:k].argmax()]
