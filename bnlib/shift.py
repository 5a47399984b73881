"""Covariate shift: the weight of an example under another distribution of inputs, its price, and how to find a shift.

Inputs from the source, on which one trains, and from the target, on which one is judged, are arrays with one row for
each example.
"""

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from bnlib._array import float64, number, said, whole


def gaussian_ratio(x: ArrayLike, shift: ArrayLike) -> np.ndarray:
    """The weights p_t(x) / p_s(x) where the source is standard normal and the target the same, moved by shift.

    Parameters
    ----------
    x : (n, d) inputs, in units of the source's standard deviation
    shift : (d,) or a number, for all d alike: the target's mean, in the same units

    Returns
    -------
    weights : (n,) exp(x . shift - |shift|^2 / 2), positive

    Raises
    ------
    ValueError
        If x is not (n, d), if the shift does not fit it, or if one of them is masked or holds no real numbers.
    """
    (x,) = _rows(x=x)
    shift = float64("shift", shift)
    if shift.shape not in ((), x.shape[1:]):
        raise ValueError(f"shift has shape {shift.shape}, x {x.shape}: give a number or an array {x.shape[1:]}")
    shift = np.broadcast_to(shift, x.shape[1:])
    return np.exp(x @ shift - shift @ shift / 2)


def density_ratio(source: ArrayLike, target: ArrayLike, strength: float = 1.0) -> np.ndarray:
    """Weights p_t(x) / p_s(x) of the source's examples, from logistic regression that tells source from target.

    By Bayes' rule the odds of "target" are n_t p_t(x) / (n_s p_s(x)); the weights are the odds times n_s / n_t. The
    model takes the logarithm of the ratio to be linear in the columns: add squares where it is not. The columns are
    standardized. See :cite:`bickel2009discriminative`.

    Parameters
    ----------
    source, target : (n_s, d) and (n_t, d)
    strength : inverse of the penalty on the coefficients, scikit-learn's ``C``, positive

    Returns
    -------
    weights : (n_s,) positive, of mean about 1

    Raises
    ------
    ValueError
        If the arrays are not (n, d) with the same d, or hold what is not finite, or if strength is not positive.
    """
    source, target = _rows(source=source, target=target)
    if not number(strength) > 0:
        raise ValueError(f"strength is {said(strength)}: give a positive number, such as 1")
    model = _classifier(strength)
    with threadpool_limits(1):  # in matrices this small, several threads mostly wait for each other
        model.fit(np.concatenate([source, target]), _domains(source, target))
    return np.exp(model.decision_function(source)) * len(source) / len(target)


def effective_sample_size(weights: ArrayLike) -> float:
    """How many equally weighted examples average noise as well: (sum w)^2 / sum w^2 :cite:`kish1965survey`.

    Parameters
    ----------
    weights : (n,) not negative, of any scale

    Returns
    -------
    size : between 1, where one example has all the weight, and n, where all have the same

    Raises
    ------
    ValueError
        If the weights are not (n,), if one is negative or not finite, or if all are zero.
    """
    w = float64("weights", weights)
    if w.ndim != 1 or not w.size:
        raise ValueError(f"weights has shape {w.shape}: give one weight for each of n >= 1 examples")
    if not (np.isfinite(w) & (w >= 0)).all():
        i = int(np.argmin(np.isfinite(w) & (w >= 0)))
        raise ValueError(f"weight {i} is {w[i]}: a ratio of densities is finite and not negative")
    if not w.any():
        raise ValueError(f"all {w.size} weights are zero: no example of the source lies where the target does")
    w = w / w.max()  # so that no square overflows
    return float(w.sum() ** 2 / (w @ w))


def domain_auc(source: ArrayLike, target: ArrayLike, folds: int = 5, seed: int = 0) -> float:
    """How well logistic regression tells source from target: the area under the ROC curve, on held-out examples.

    It is the probability that a random example of the target gets a higher score than one of the source: 0.5 for equal
    distributions, 1 for separated ones. The folds are shuffled: in the order of a file, a held-out block could differ
    from the rest by the very shift that is looked for. The area is the mean over the folds.

    Parameters
    ----------
    source, target : (n_s, d) and (n_t, d), at least ``folds`` rows each
    folds : number of parts, each held out once, at least 2
    seed : of the shuffling, a whole number below 2 ** 32

    Raises
    ------
    ValueError
        If the arrays are not (n, d) with the same d, or hold what is not finite, if there are too few rows, or if folds
        or seed is no such number.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    source, target = _rows(source=source, target=target)
    parts, start = whole(folds), whole(seed)
    if start is None or not 0 <= start < 2**32:
        raise ValueError(f"seed is {said(seed)}: give a whole number from 0 to 2 ** 32 - 1")
    if parts is None or parts < 2 or min(len(source), len(target)) < parts:
        raise ValueError(
            f"{said(folds)} folds of {len(source)} and {len(target)} rows: "
            "give 2 folds or more, and as many rows of each"
        )
    split = StratifiedKFold(parts, shuffle=True, random_state=start)
    x, domain = np.concatenate([source, target]), _domains(source, target)
    with threadpool_limits(1):  # as in density_ratio
        return float(cross_val_score(_classifier(1.0), x, domain, cv=split, scoring="roc_auc").mean())


def _classifier(strength: float):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def _domains(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.repeat([0, 1], [len(source), len(target)])


def _rows(**arrays: ArrayLike) -> list[np.ndarray]:
    """The arrays in float64, each (n, d) with one d, all finite."""
    rows = {name: float64(name, a) for name, a in arrays.items()}
    shapes = {name: a.shape for name, a in rows.items()}
    if any(a.ndim != 2 or not a.size for a in rows.values()) or len({a.shape[1] for a in rows.values()}) > 1:
        raise ValueError(f"the shapes are {shapes}: give (n, d) with the same d, for one column x[:, None]")
    for name, a in rows.items():
        if not np.isfinite(a).all():
            i = int(np.argmin(np.isfinite(a).all(1)))
            raise ValueError(f"row {i} of {name} is not finite: fill or drop it first")
    return list(rows.values())
