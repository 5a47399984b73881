import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

mpl.use("agg")

from bnlib import plots


def shown(sentence="A line rises.", summary=None):
    figure, ax = plots.axes()
    ax.plot([0, 1])
    return plots.show(figure, sentence, summary)


def test_a_figure_says_what_it_shows():
    figure = shown("A line rises\n from 0 to 1.", {"ends": [0.0, 1.2345], "slope": -1e-9, "kind": "a line"})
    assert repr(figure) == "A line rises from 0 to 1. ends: 0, 1.2; slope: -1e-09; kind: a line."


def test_its_picture_is_a_small_opaque_png_of_the_books_width():
    picture = Image.open(io.BytesIO(shown()._repr_png_()))
    assert picture.format == "PNG"
    assert picture.mode == "P"
    assert picture.width == 6.4 * 150
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_it_is_closed_so_that_a_notebook_does_not_show_it_twice():
    from matplotlib import pyplot as plt

    shown()
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.12"),
        (-0.0, "0"),
        (1e-17, "1e-17"),
        ([1.0, 22.0, 333.0], "1, 22, 330"),
        ([2, 128], "2, 128"),
        ("all", "all"),
        (True, "1"),
    ],
)
def test_summaries_are_rounded(value, text):
    assert plots.summarized(value) == text


def test_numbers_that_differ_in_the_last_digits_read_the_same():
    assert plots.summarized(0.123456789) == plots.summarized(0.123456788)


def test_a_summary_of_many_values_is_refused():
    with pytest.raises(ValueError, match="13 values"):
        plots.summarized(np.zeros(13))


def test_a_sentence_has_its_stop():
    with pytest.raises(ValueError, match="its stop"):
        shown("No stop")


def test_a_histograms_density_integrates_to_one():
    _, ax = plots.axes()
    plots.histogram(ax, np.random.default_rng(0).normal(size=(40, 5)), bins=np.linspace(-6, 6, 61))
    x, density = ax.lines[0].get_data()
    assert np.sum(density) * (x[1] - x[0]) == pytest.approx(1)
