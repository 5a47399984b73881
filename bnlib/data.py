"""Real data, loaded by name and split at random by a seed."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Examples in rows: x of shape (N, features), float64; y of shape (N,), an integer class or a float target."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@cache  # split copies the rows
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images / 16, labels


@cache
def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True, scaled=False)  # scikit-learn's default is columns of length 1
    return np.asarray(x), np.asarray(y)


@cache
def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return x, y


@cache
def _wine() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return x, y


LOADERS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "digits": _digits,
    "centred digits": _digits,
    "diabetes": _diabetes,
    "breast cancer": _breast_cancer,
    "wine": _wine,
}


def load(name: str, seed: int = 0) -> Split:
    """A data set as arrays of the caller's own: 60 % to train, 20 % to validate, 20 % to test.

    "digits"
        1,797 handwritten digits of 8x8 pixels, flattened to 64 features between 0 (paper) and 1 (ink), and their
        classes 0 to 9: a copy of the test set of UCI's "Optical Recognition of
        Handwritten Digits" :cite:`alpaydin1998digits`, whose pixels count 0 to 16.
    "centred digits"
        The same without the mean image, divided by one number, so that the mean of the pixels' variances is 1. (Each
        pixel by itself would make those that are hardly ever inked enormous.) Mean and variances are the training
        set's.
    "diabetes"
        442 patients, ten columns in their own units (age, sex as 1 or 2, body mass index, blood pressure, six blood
        values), and a number for how far the disease had gone a year later: a target, no class.
    "breast cancer"
        569 tumours, thirty columns in their own units (sizes and shapes of cell nuclei), class 0 malignant, 1 benign.
    "wine"
        178 wines, thirteen columns in their own units (chemical analyses), classes 0 to 2 for the grape.

    All come with scikit-learn :cite:`pedregosa2011scikit`.

    The rows are split at random, because the files are not in random order: the end of the digits was written by other
    people than the start, and a test set cut from the end measures that shift as well; the wines come sorted.

    Parameters
    ----------
    name : a data set's name
    seed : the seed of the split; the same seed gives the same split

    Raises
    ------
    ValueError
        If there is no data set of that name.
    """
    if name not in LOADERS:
        raise ValueError(f"no data set is called {name!r}: choose one of {sorted(LOADERS)}")
    x, y = LOADERS[name]()
    n = len(x)
    rows = np.random.default_rng(seed).permutation(n)
    train, val, test = np.split(rows, [round(0.6 * n), round(0.8 * n)])
    split = Split(x[train], y[train], x[val], y[val], x[test], y[test])
    return _centred(split) if name == "centred digits" else split


def _centred(split: Split) -> Split:
    mean, scale = split.x_train.mean(0), split.x_train.var(0).mean() ** 0.5
    x_train, x_val, x_test = ((x - mean) / scale for x in (split.x_train, split.x_val, split.x_test))
    return split._replace(x_train=x_train, x_val=x_val, x_test=x_test)
