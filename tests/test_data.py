import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from bnlib import data


def rows_of(*arrays):
    return sorted(map(bytes, np.concatenate(arrays)))


def test_sizes_types_and_range():
    split = data.load("digits")
    assert [len(a) for a in split] == [1078, 1078, 360, 360, 359, 359]
    for x, y in (split[:2], split[2:4], split[4:]):
        assert x.shape == (len(y), 64)
        assert x.dtype == np.float64
        assert np.issubdtype(y.dtype, np.integer)
        assert set(y) == set(range(10))
    assert min(x.min() for x in split[::2]) == 0
    assert max(x.max() for x in split[::2]) == 1


@pytest.mark.parametrize(
    ("name", "original", "rows", "columns", "targets"),
    [
        ("diabetes", load_diabetes, 442, 10, None),
        ("breast cancer", load_breast_cancer, 569, 30, {0, 1}),
        ("wine", load_wine, 178, 13, {0, 1, 2}),
    ],
)
def test_tables_are_complete_and_in_their_own_units(name, original, rows, columns, targets):
    split = data.load(name, seed=5)
    options = {"scaled": False} if name == "diabetes" else {}
    x, y = original(return_X_y=True, **options)
    assert x.shape == (rows, columns)
    assert split.x_train.dtype == np.float64
    assert split.x_train.std(0).max() > 10  # raw: the default of diabetes is scaled
    both = [np.column_stack([split[i], split[i + 1]]) for i in (0, 2, 4)]
    assert rows_of(*both) == rows_of(np.column_stack([x, y]))
    if targets:
        assert np.issubdtype(split.y_train.dtype, np.integer)
        assert set(split.y_test) == targets
    else:
        assert split.y_train.dtype == np.float64


def test_centred_digits_lose_the_training_sets_mean_image_and_have_pixels_of_variance_1_on_average():
    raw, split = data.load("digits", seed=3), data.load("centred digits", seed=3)
    np.testing.assert_allclose(split.x_train.mean(0), 0, atol=1e-12)
    assert split.x_train.var(0).mean() == pytest.approx(1)
    assert split.x_train.var(0).min() == 0  # a pixel that is never inked stays 0
    scale = np.sqrt(((raw.x_train - raw.x_train.mean(0)) ** 2).mean())
    for name in ("x_train", "x_val", "x_test"):  # all by the training set's numbers
        expected = (getattr(raw, name) - raw.x_train.mean(0)) / scale
        np.testing.assert_allclose(getattr(split, name), expected, atol=1e-12)
    for name in ("y_train", "y_val", "y_test"):
        np.testing.assert_array_equal(getattr(split, name), getattr(raw, name))


def test_parts_are_disjoint_and_complete():
    split = data.load("digits", seed=3)
    images, labels = load_digits(return_X_y=True)
    whole = np.column_stack([images / 16, labels])
    assert len(set(rows_of(whole))) == len(whole)  # no image occurs twice, so rows tell which is which
    assert rows_of(*(np.column_stack([split[i], split[i + 1]]) for i in (0, 2, 4))) == rows_of(whole)


def test_the_split_is_random_not_the_file_order():
    images, _ = load_digits(return_X_y=True)
    place = {bytes(row): i for i, row in enumerate(images / 16)}
    ends = np.array([place[bytes(row)] for row in data.load("digits").x_test]) >= 0.8 * len(images)
    assert 0.1 < ends.mean() < 0.3


def test_the_seed_decides():
    first, again, other = data.load("digits", 1), data.load("digits", 1), data.load("digits", 2)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.x_train, other.x_train)
    images, _ = load_digits(return_X_y=True)
    rows = np.random.default_rng(1).permutation(len(images))  # records hold what came out of this split
    np.testing.assert_array_equal(np.concatenate(first[::2]), images[rows] / 16)
    np.testing.assert_array_equal(data.load("digits").x_train, data.load("digits", 0).x_train)


def test_the_caller_cannot_spoil_later_calls():
    first = data.load("digits")
    kept = first.x_train.copy()
    for a in first:
        a[:] = 7
    np.testing.assert_array_equal(data.load("digits").x_train, kept)


def test_a_further_data_set_is_one_entry(monkeypatch):
    monkeypatch.setitem(data.LOADERS, "tiny", lambda: (np.arange(10.0).reshape(10, 1), np.arange(10)))
    split = data.load("tiny")
    assert [len(a) for a in split] == [6, 6, 2, 2, 2, 2]
    assert all((x[:, 0] == y).all() for x, y in (split[:2], split[2:4], split[4:]))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError,
        match=r"no data set is called 'mnist': choose one of \['breast cancer', 'centred digits', .*'digits', 'wine'\]",
    ):
        data.load("mnist")
