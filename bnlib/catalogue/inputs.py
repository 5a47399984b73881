"""Chapter 3: ZCA whitening, with the covariance's divisor N and eps added to the eigenvalues."""

from types import SimpleNamespace

import numpy as np

from bnlib.catalogue.exercise import Arguments, Blind, Exercise, Far, Mistake, Step, eps_mistakes
from bnlib.catalogue.transform import EPS, UNITS

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


def _cholesky(v: SimpleNamespace, of_inverse: bool) -> np.ndarray:
    """A triangular root of the inverse covariance, NaN where there is none."""
    matrix = v.covariance + v.eps * _identity(v)
    try:
        if of_inverse:
            return np.linalg.cholesky(np.linalg.inv(matrix))
        return np.linalg.inv(np.linalg.cholesky(matrix)).T
    except np.linalg.LinAlgError:
        return np.full_like(matrix, np.nan)


_ZCA = "ZCA multiplies by the symmetric root, V @ np.diag(1 / np.sqrt(values + eps)) @ V.T."
_UNROTATED: dict[str, Step] = {"back": _identity, "scale": lambda v: 1.0 + 0 * v.values}

_MISTAKES = (
    Mistake(
        "This is PCA whitening: it whitens, too, but leaves the data in the eigenvectors' axes.",
        "Turn back: multiply by V.T at the end.",
        back=_identity,
    ),
    Mistake(
        "This is Cholesky whitening: it whitens, too, but with another rotation than ZCA's.",
        _ZCA,
        there=lambda v: _cholesky(v, of_inverse=False),
        **_UNROTATED,
    ),
    Mistake(
        "This is Cholesky whitening, by the factor of the inverse: it whitens, too, but with another rotation than "
        "ZCA's.",
        _ZCA,
        there=lambda v: _cholesky(v, of_inverse=True),
        **_UNROTATED,
    ),
    Mistake(
        "The columns are divided by the eigenvalue, which is a variance.",
        "Divide by its root.",
        scale=lambda v: 1 / v.inside,
    ),
    Mistake("The columns are multiplied by the eigenvalue's root.", "Divide by it.", scale=lambda v: v.inside**0.5),
    Mistake(
        "The covariance has the divisor N - 1; it is N here.",
        "Divide X.T @ X by len(x); np.cov needs bias=True.",
        divisor=lambda v: len(v.x) - 1,
    ),
    Mistake(
        "The covariance is not divided by N: X.T @ X is a sum over the rows.",
        "Divide it by len(x).",
        divisor=lambda v: 1,
    ),
    Mistake(
        "The mean is never removed.", "Subtract x.mean(0) first.", mean=lambda v: np.zeros(v.x.shape[1], v.x.dtype)
    ),
    Mistake(
        "The mean is removed for the covariance only.",
        "The rows that are rotated must be centred, too.",
        moved=lambda v: v.x,
    ),
    Mistake(
        "The mean is taken over each row; it belongs to each column.",
        "Subtract x.mean(0).",
        mean=lambda v: v.x.mean(1, keepdims=True),
    ),
    Mistake(
        "The mean is that of all entries; each column has its own.", "Subtract x.mean(0).", mean=lambda v: v.x.mean()
    ),
    Mistake(
        "The eigenvectors are transposed, on the way there and on the way back.",
        "eigh gives them as columns: the way there is @ V, the way back @ V.T.",
        there=lambda v: v.vectors.T,
        back=lambda v: v.vectors,
    ),
    Mistake("The way back is the way there once more.", "It is @ V.T.", back=lambda v: v.vectors),
    Mistake("The way there is @ V.T like the way back.", "It is @ V.", there=lambda v: v.vectors.T),
    *eps_mistakes("Add it to the eigenvalues, under the root."),
    Mistake(
        "eps is a lower bound of the eigenvalues, not added to them.",
        "Divide by np.sqrt(values + eps).",
        inside=lambda v: np.maximum(v.values, v.eps),
        eps=lambda v: v.eps,
    ),
    Mistake(
        "eps is added to every entry of the covariance, not on its diagonal alone.",
        "Add eps * np.eye(n), or add it to the eigenvalues.",
        covariance=lambda v: _WHITEN["covariance"](v) + v.eps,
        inside=lambda v: v.values,
    ),
    Mistake(
        "eps is subtracted from the eigenvalues: where one is smaller than eps, the root has no value.",
        "Add it.",
        inside=lambda v: v.values - v.eps,
    ),
    Mistake(
        "eps is added to the root of the eigenvalue, not under it.",
        "Divide by np.sqrt(values + eps).",
        scale=lambda v: 1 / (v.values.clip(0) ** 0.5 + v.eps),
    ),
    Mistake(
        "eps is added to the inverse of the eigenvalue.",
        "Add it to the eigenvalue: 1 / np.sqrt(values + eps).",
        scale=lambda v: (1 / v.values + v.eps) ** 0.5,
    ),
    Mistake(
        "The columns are standardized only: their correlations remain.",
        "Divide in the eigenvectors' axes: @ V, divide, @ V.T.",
        values=lambda v: np.diag(v.covariance),
        there=_identity,
        back=_identity,
    ),
)


def _arguments(
    rng: np.random.Generator, shape: tuple[int, int], around: np.ndarray, unit: float, eps: float
) -> Arguments:
    """Rows whose covariance has eigenvalues between 1 and 6, so that they are larger than eps."""
    rows, n = shape
    axes = np.linalg.qr(rng.normal(size=(n, n)))[0]
    scores = np.linalg.qr(np.column_stack([np.ones(rows), rng.normal(size=(rows, n))]))[0][:, 1:] * rows**0.5
    return {"x": unit * (scores * np.sqrt(rng.uniform(1, 6, n)) @ axes + around), "eps": eps}


def _draws(*shapes: tuple[int, int]) -> tuple[Arguments, ...]:
    rng = np.random.default_rng(3)
    return tuple(
        _arguments(rng, shape, rng.choice([-1, 1], shape[1]) * rng.uniform(1, 3, shape[1]), unit, eps)
        for shape, unit, eps in zip(shapes, UNITS, EPS, strict=True)
    )


def _far(around: float) -> Arguments:
    return _arguments(np.random.default_rng(6), (10, 4), np.full(4, around), 1.0, 1e-3)


EXERCISES = {
    "03-whiten": Exercise(
        "x and white of shape (N, n)",
        _draws((9, 4), (12, 5), (8, 3)),
        ("white",),
        _WHITEN,
        _MISTAKES,
        Far(_far, 0.03, "Subtract the mean before you multiply: C = centred.T @ centred / len(x)."),
        Blind(
            lambda white: white @ white.T,
            Mistake("This whitens, but with another rotation than ZCA's, as PCA does, for instance by the SVD.", _ZCA),
        ),
    )
}
