"""Chapter 4: orders of a step, as readers and libraries write them."""

import itertools
import math

import numpy as np

from bnlib.deep_linear import update_expansion
from tests.exercises.cases import edits, reference, right, wrong

reference("04-orders")(update_expansion)


@right("04-orders")
def orders_by_combinations(w, g, lr):
    layers, terms = range(len(w)), []
    for k in range(len(w) + 1):
        total = 0.0
        for chosen in itertools.combinations(layers, k):
            total += np.prod([g[i] if i in chosen else w[i] for i in layers])
        terms.append((-lr) ** k * total)
    return np.array(terms)


edits(
    "04-orders",
    orders_by_combinations,
    ("(-lr) ** k -> lr ** k", "The signs are missing"),
    ("(-lr) ** k -> (-1) ** k", "The learning rate is missing"),
    ("(-lr) ** k -> (-1) ** k * (lr if k else 1)", "one factor of the learning rate"),
    ("itertools.combinations -> itertools.permutations", "counted k! times"),
    ("g[i] if i in chosen else w[i] -> w[i] if i in chosen else g[i]", "exchanged"),
    (
        "total += np.prod([g[i] if i in chosen else w[i] for i in layers]) -> total += np.prod(g[list(chosen)])",
        "outside the set are missing",
    ),
    ("(-lr) ** k * total -> (-lr) ** k * total * (k < 2)", "beyond the first are zero"),
)


@right("04-orders")
def orders_by_polynomial(w, g, lr):
    terms = [1.0]
    for a, b in zip(w, g, strict=True):
        terms = [p * a + q * (-lr * b) for p, q in zip([*terms, 0.0], [0.0, *terms], strict=True)]
    return terms


@right("04-orders")
def orders_by_sets(w, g, lr):
    terms = np.zeros(len(w) + 1)
    for step in itertools.product((0, 1), repeat=len(w)):
        terms[sum(step)] += math.prod(-lr * b if s else a for s, a, b in zip(step, w, g, strict=True))
    return terms


@wrong("04-orders", "The signs are missing")
def orders_without_signs(w, g, lr):
    terms = np.zeros(len(w) + 1)
    for step in itertools.product((0, 1), repeat=len(w)):
        terms[sum(step)] += math.prod(lr * b if s else a for s, a, b in zip(step, w, g, strict=True))
    return terms


@wrong("04-orders", "none of the mistakes I know")
def orders_of_absolute_weights(w, g, lr):
    return orders_by_sets(abs(w), g, lr)


@wrong("04-orders", "The highest order comes first")
def orders_as_poly1d(w, g, lr):
    return orders_by_sets(w, g, lr)[::-1]
