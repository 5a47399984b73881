"""Chapter 3: ZCA whitening of x of shape (N, n), with the covariance's divisor N and eps added to the eigenvalues."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from bnlib.catalogue.exercise import Exercise, Mistake, Step

_WHITEN: dict[str, Step] = {
    "divisor": lambda v: len(v.x),
    "mean": lambda v: v.x.mean(0),
    "centred": lambda v: v.x - v.mean,
    "covariance": lambda v: v.centred.T @ v.centred / v.divisor,
    "eigen": lambda v: np.linalg.eigh(v.covariance),
    "values": lambda v: v.eigen[0],
    "vectors": lambda v: v.eigen[1],
    "inside": lambda v: v.values + v.eps,
    "scale": lambda v: v.inside**-0.5,
    "moved": lambda v: v.centred,  # what the whitening matrix is applied to
    "there": lambda v: v.vectors,
    "back": lambda v: v.vectors.T,
    "white": lambda v: v.moved @ v.there * v.scale @ v.back,
}


def _identity(v: SimpleNamespace) -> np.ndarray:
    return np.eye(v.x.shape[1], dtype=v.x.dtype)


_MISTAKES = (
    Mistake("This is PCA whitening, without the way back: multiply by V.T at the end.", back=_identity),
    Mistake(
        "The columns are divided by the eigenvalue, which is a variance: divide by its root.",
        scale=lambda v: 1 / v.inside,
    ),
    Mistake("The columns are multiplied by the eigenvalue's root: divide by it.", scale=lambda v: v.inside**0.5),
    Mistake("The covariance has the divisor N - 1; it is N here.", divisor=lambda v: len(v.x) - 1),
    Mistake(
        "The covariance is not divided by N: X.T @ X is a sum over the rows.",
        divisor=lambda v: 1,
    ),
    Mistake(
        "The mean is never removed: subtract x.mean(0) first.",
        mean=lambda v: np.zeros(v.x.shape[1], v.x.dtype),
    ),
    Mistake(
        "The mean is removed for the covariance only; the rows that are rotated must be centred, too.",
        moved=lambda v: v.x,
    ),
    Mistake(
        "The mean is taken over each row; it belongs to each column: x.mean(0).",
        mean=lambda v: v.x.mean(1, keepdims=True),
    ),
    Mistake(
        "The mean is that of all entries; each column has its own: x.mean(0).",
        mean=lambda v: v.x.mean(),
    ),
    Mistake(
        "The eigenvectors are transposed: eigh gives them as columns, so the way there is @ V, the way back @ V.T.",
        there=lambda v: v.vectors.T,
        back=lambda v: v.vectors,
    ),
    Mistake("The way back is @ V again; it is @ V.T.", back=lambda v: v.vectors),
    Mistake("The way there is @ V.T like the way back; it is @ V.", there=lambda v: v.vectors.T),
    # The clips: with rows centred instead of columns, an eigenvalue is zero, or a rounding error below it.
    Mistake("eps is missing: add it to the eigenvalues, under the root.", inside=lambda v: v.values.clip(1e-12)),
    Mistake(
        "eps is added to the root; add it to the eigenvalue, under the root.",
        scale=lambda v: 1 / (v.values.clip(0) ** 0.5 + v.eps),
    ),
    Mistake(
        "The columns are standardized only: their correlations remain.",
        values=lambda v: np.diag(v.covariance),
        there=_identity,
        back=_identity,
    ),
)


def _draws(*shapes: tuple[int, int]) -> tuple[dict[str, Any], ...]:
    rng = np.random.default_rng(3)
    return tuple(
        {"x": rng.normal(size=(rows, n)) @ rng.normal(size=(n, n)) + rng.uniform(1, 3, n), "eps": 0.3}
        for rows, n in shapes
    )


EXERCISES = {"03-whiten": Exercise(_draws((9, 4), (12, 5)), ("white",), _WHITEN, _MISTAKES)}
