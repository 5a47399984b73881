"""Real data, loaded by name and split at random by a seed."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Examples in rows: x of shape (N, features), float64; y of shape (N,), the class as an integer."""

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


LOADERS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {"digits": _digits}


def load(name: str, seed: int = 0) -> Split:
    """A data set as arrays of the caller's own: 60 % to train, 20 % to validate, 20 % to test.

    "digits"
        1,797 handwritten digits of 8x8 pixels, flattened to 64 features between 0 (paper) and 1 (ink), and their
        classes 0 to 9. They come with scikit-learn, a copy of the test set of UCI's "Optical Recognition of
        Handwritten Digits" :cite:`alpaydin1998digits`, whose pixels count 0 to 16.

    The rows are split at random, because the file is not in random order: its end was written by other people than
    its start, and a test set cut from the end measures that shift as well.

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
    return Split(x[train], y[train], x[val], y[val], x[test], y[test])
