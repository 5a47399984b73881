import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Annotation
from PIL import Image
from sklearn.datasets import load_sample_image

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
        (-8.1e-18, "0"),
        (1.3e-14, "1.3e-14"),
        ([0.5, 1e-17], "0.5, 0"),
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


def test_a_live_figure_carries_its_module_and_its_state_beside_the_picture():
    from IPython.core.formatters import DisplayFormatter

    figure, _ = plots.axes()
    live = plots.show(figure, "Dots.", live=("dots", {"n": 4}))
    data, _ = DisplayFormatter().format(live)
    assert data[plots.LIVE] == {"module": "dots", "state": {"n": 4}}
    assert data["text/plain"] == "Dots."
    assert data["image/png"]
    assert plots.LIVE not in DisplayFormatter().format(shown())[0]
    figure, _ = plots.axes()
    with pytest.raises(ValueError, match=r"there is no live figure 'stripes': choose one of \[.*'dots'"):
        plots.show(figure, "Stripes.", live=("stripes", {}))


def test_a_photograph_keeps_its_shades_and_stays_small():
    photo = load_sample_image("flower.jpg")[:320, :480]
    pictures = {}
    for kept in (False, True):
        figure, ax = plots.axes(height=2.4)
        ax.imshow(photo)
        ax.axis("off")
        pictures[kept] = plots.show(figure, "A photograph.", photo=kept)._repr_png_()
    figure, ax = plots.axes(height=2.4)
    ax.imshow(photo)
    ax.axis("off")
    memory = io.BytesIO()
    figure.savefig(memory, format="png")
    whole = np.asarray(Image.open(memory).convert("RGB"), float)

    def off(png: bytes) -> float:
        """The mean difference between means over 12 x 12 pixels: what an eye sees of a spread of dots."""
        other = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float) - whole
        return abs(other.reshape(30, 12, 80, 12, 3).mean((1, 3))).mean()

    assert off(pictures[True]) < 0.7 * off(pictures[False])
    assert len(pictures[True]) < len(memory.getvalue()) / 2


def test_a_sentence_has_its_stop():
    with pytest.raises(ValueError, match="its stop"):
        shown("No stop")


@pytest.mark.parametrize("size", ["x-small", 8.9])
def test_text_too_small_for_a_phone_is_refused(size):
    figure, ax = plots.axes()
    ax.plot([0, 1], label="a line")
    ax.legend(fontsize=size)
    with pytest.raises(ValueError, match=r"'a line' \([78].* pt\).* at least 9 pt"):
        plots.show(figure, "A line rises.")


def test_small_text_and_the_ticks_of_every_axis_are_large_enough():
    figure, ax = plots.axes()
    ax.semilogy([1, 1e6], label="a line")
    ax.legend(fontsize="small", title=" ", title_fontsize=5)  # what nobody sees may have any size
    assert plots.show(figure, "A line rises.").words == "A line rises."


def test_a_histograms_density_integrates_to_one():
    _, ax = plots.axes()
    plots.histogram(ax, np.random.default_rng(0).normal(size=(40, 5)), bins=np.linspace(-6, 6, 61))
    x, density = ax.lines[0].get_data()
    assert np.sum(density) * (x[1] - x[0]) == pytest.approx(1)


# A chain of values


def text(ax, words):
    """The one text with these words."""
    (found,) = [t for t in ax.texts if t.get_text() == words]
    return found


def test_a_chain_has_its_values_in_a_row_and_its_steps_and_marks_where_they_belong():
    _, ax = plots.axes()
    returned = plots.chain(ax, ["h", "z", "y"], ["times W", "normalize"], {1: "here", 1.5: "cut"}, {1.5: plots.ORANGE})
    assert returned is ax
    assert [text(ax, value).get_position() for value in ("h", "z", "y")] == [(0, 0), (1, 0), (2, 0)]
    assert [text(ax, step).get_position()[0] for step in ("times W", "normalize")] == [0.5, 1.5]
    assert all(text(ax, step).get_position()[1] > 0 for step in ("times W", "normalize"))
    assert [text(ax, mark).get_position()[0] for mark in ("here", "cut")] == [1, 1.5]
    assert all(text(ax, mark).get_position()[1] < 0 for mark in ("here", "cut"))
    (cut,) = ax.collections  # a mark below a value cuts nothing
    assert {x for x, _ in cut.get_segments()[0]} == {1.5}
    assert [text(ax, mark).get_color() for mark in ("here", "cut")] == [plots.GREY, plots.ORANGE]


def test_chains_at_other_levels_are_all_in_view():
    figure, ax = plots.axes(height=3)
    for level, values in ((0, ["h", "z"]), (-2, ["a", "b", "c", "d"])):
        plots.chain(ax, values, ["step"] * (len(values) - 1), {0: "two\nlines"}, level=level)
    figure.draw_without_rendering()
    corners = np.array([shown.get_window_extent().get_points() for shown in ax.texts])
    assert np.all(corners[:, 0] >= figure.bbox.min)
    assert np.all(corners[:, 1] <= figure.bbox.max)
    assert not ax.axison


def test_a_chains_arrows_run_between_its_boxes_however_wide():
    figure, ax = plots.axes(height=1.3)
    values = ["h", "a value of some width", "y"]
    plots.chain(ax, values, ["", ""])
    figure.draw_without_rendering()
    patches = [text(ax, value).get_bbox_patch() for value in values]
    boxes = [patch.get_window_extent() for patch in patches if patch is not None]
    notes = [note.arrow_patch for note in ax.texts if isinstance(note, Annotation)]
    arrows = [patch.get_window_extent() for patch in notes if patch is not None]
    assert (len(boxes), len(arrows)) == (3, 2)
    for left, arrow, right in zip(boxes, arrows, boxes[1:], strict=False):
        assert left.x1 < arrow.x0 < arrow.x1 < right.x0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["h", "z", "y"], ["one step"]), "3 values have 2 arrows between them, but 1 steps"),
        ((["h", "z"], ["step"], {2: "beyond"}), "2 is no place among 2 values"),
        ((["h", "z"], ["step"], {1.5: "beyond"}), "1.5 is no place among 2 values"),
        ((["h", "z"], ["step"], {0.3: "between"}), "0.3 is no place"),
        ((["h", "z"], ["step"], None, {-1: plots.BLUE}), "-1 is no place"),
    ],
)
def test_a_chain_names_what_does_not_fit(arguments, message):
    _, ax = plots.axes()
    with pytest.raises(ValueError, match=message):
        plots.chain(ax, *arguments)
