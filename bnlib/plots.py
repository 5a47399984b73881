"""The book's figures: one style, Axes in and Axes out, and a figure that says in words what it shows.

PNG cannot be compared by the check that re-runs the notebooks, and cannot be heard. So every figure carries a
sentence and a rounded summary of what it plots: :func:`show` puts both beside the picture.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from bnlib import widget

# Okabe and Ito's palette: it stays apart in the common kinds of colour blindness, and here also in grey.
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = "#0072b2", "#d55e00", "#009e73", "#aa4499", "#56b4e9", "#666666"

STYLE: Any = {
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, PURPLE, SKY]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 2,
}
SMALLEST = 9  # points, of text in a figure; by it the site knows how small a screen may make the figure
NOTHING = 1e-15  # in a summary: less is what rounding leaves of 0, and differs between processors and versions
LIVE = "application/vnd.bnlib.figure+json"
COLOURS = 128  # of a figure's PNG: lines and text need no more, and the page weighs a third
PHOTO_COLOURS = 256  # of one with photographs, where a spread of dots makes the shades between them


def axes(rows: int = 1, columns: int = 1, height: float = 3.0, **options: Any) -> tuple[Figure, Any]:
    """A figure of the book's width, 6.4 inches, and its Axes (one, or an array of them, as in plt.subplots).

    ``height`` is in inches for each row; the other options are those of ``plt.subplots``. The book's style is set
    for the rest of the session, since what is drawn into the Axes later takes its look from there.
    """
    plt.rcParams.update(STYLE)
    return plt.subplots(rows, columns, figsize=(6.4, height * rows), **options)


def histogram(ax: Axes, values: Any, bins: Any = 60, **style: Any) -> Axes:
    """The density of values, of any shape, as a filled outline."""
    density, edges = np.histogram(np.ravel(values), bins=bins, density=True)
    (line,) = ax.plot((edges[:-1] + edges[1:]) / 2, density, drawstyle="steps-mid", **style)
    ax.fill_between((edges[:-1] + edges[1:]) / 2, density, step="mid", alpha=0.2, color=line.get_color(), linewidth=0)
    return ax


def chain(
    ax: Axes,
    values: Sequence[str],
    steps: Sequence[str],
    marks: Mapping[float, str] | None = None,
    colours: Mapping[float, str] | None = None,
    level: float = 0.0,
) -> Axes:
    r"""A row of values with arrows between them, such as h -> z -> xhat -> y, and places marked in it.

    Several chains make one drawing, at levels 2 apart: the Axes grow with what they hold, and lose frame and ticks.
    One chain wants a height of some 1.3 inches, each further one as much again.

    Parameters
    ----------
    ax : Axes, as :func:`axes` gives them
    values : what stands in the boxes at 0, 1, 2, ...; TeX between dollar signs works, as in ``r"$\hat{x}$"``
    steps : what stands above the arrows, one less than there are values
    marks : words by place, of one or two lines: below a value (1), or below an arrow (1.5), which a dashed line cuts
    colours : by place, of a value's box and its mark, or of a cut and its mark; grey where none is given
    level : the height of the row

    Raises
    ------
    ValueError
        If there is not one step between each two values, or a place is neither a value nor the middle of an arrow.
    """
    marks, colours = marks or {}, colours or {}
    if len(steps) != len(values) - 1:
        raise ValueError(f"{len(values)} values have {len(values) - 1} arrows between them, but {len(steps)} steps")
    for place in (*marks, *colours):
        if place not in np.arange(2 * len(values) - 1) / 2:
            raise ValueError(f"{place} is no place among {len(values)} values: 0 is the first, 0.5 the arrow behind it")
    boxes = []
    for place, value in enumerate(values):
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colours.get(place, GREY)}
        boxes.append(ax.text(place, level, value, ha="center", va="center", bbox=box))
    for place, step in enumerate(steps):  # from the end of one text to the start of the next, less pad and air
        arrow = {"arrowstyle": "->", "color": GREY, "shrinkA": 9, "shrinkB": 9}
        ends: Any = {"xycoords": (boxes[place + 1], "data"), "textcoords": (boxes[place], "data")}
        ax.annotate("", (0, level), (1, level), arrowprops=arrow, **ends)
        ax.text(place + 0.5, level + 0.15, step, ha="center", va="bottom", fontsize=9)
    for place, words in marks.items():
        colour = colours.get(place, GREY)
        if place % 1:
            ax.vlines(place, level - 0.45, level + 0.1, color=colour, linestyle="--", linewidth=1.5)
        ax.text(place, level - 0.5, words, ha="center", va="top", color=colour, fontsize=9)
    ax.update_datalim([(-0.5, level - 1.2), (len(values) - 0.5, level + 0.6)])
    ax.margins(0)
    ax.autoscale_view()
    ax.set_axis_off()
    return ax


def summarized(value: Any, digits: int = 2) -> str:
    """A number or a short sequence as a figure's summary prints it: fractions rounded to so many significant digits.

    A fraction below 1e-15 is printed as 0, since it may be a rounding error; of smaller values give the logarithm.
    """
    if isinstance(value, str):
        return value
    flat = np.ravel(np.asarray(value))
    if flat.size > 12:
        raise ValueError(f"a summary of {flat.size} values is no summary: give at most 12, for instance percentiles")
    if flat.dtype.kind in "iub":
        return ", ".join(str(int(v)) for v in flat)
    return ", ".join("0" if abs(v) < NOTHING else f"{float(f'{v:.{digits}g}'):g}" for v in flat)


def live_modules() -> list[str]:
    """Return the names of the live figures: of the modules that render one."""
    return sorted(path.stem for path in widget.FIGURES.glob("*.js") if "export default" in path.read_text("utf-8"))


def _too_small(figure: Figure) -> list[str]:
    """Return the texts of a figure that are smaller than the smallest, each with its size."""
    figure.draw_without_rendering()  # gives the axes their tick labels
    texts: list[Any] = figure.findobj(Text)
    seen = [text for text in texts if text.get_visible() and text.get_text().strip()]
    return [f"{t.get_text()!r} ({t.get_fontsize():.3g} pt)" for t in seen if t.get_fontsize() < SMALLEST]


class Shown:
    """A finished figure: its picture, and the sentence and the numbers that stand for it."""

    def __init__(
        self, figure: Figure, words: str, live: tuple[str, Mapping[str, Any]] | None = None, photo: bool = False
    ) -> None:
        self.words = words
        self.live = {LIVE: {"module": live[0], "state": dict(live[1])}} if live else {}
        memory = io.BytesIO()
        figure.savefig(memory, format="png")
        plt.close(figure)
        picture = Image.open(memory).convert("RGB")
        palette = picture.quantize(PHOTO_COLOURS if photo else COLOURS)
        picture = picture.quantize(palette=palette) if photo else palette
        memory = io.BytesIO()
        picture.save(memory, format="png", optimize=True)
        self.png = memory.getvalue()

    def __repr__(self) -> str:
        """Return the words; a notebook shows the picture beside them."""
        return self.words

    def _repr_png_(self) -> bytes:
        return self.png

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Add to picture and words the live figure: its data, and for a reader who runs the cell the widget."""
        if not self.live or not widget.attended():
            return self.live
        shown = widget.bundle(**self.live[LIVE])
        return self.live | {kind: data for kind, data in shown.items() if kind != "text/plain"}


def show(
    figure: Figure,
    sentence: str,
    summary: Mapping[str, float | str | Sequence[float]] | None = None,
    live: tuple[str, Mapping[str, Any]] | None = None,
    photo: bool = False,
) -> Shown:
    """Finish a figure: the last line of a cell that draws.

    Parameters
    ----------
    figure : what :func:`axes` gave
    sentence : what the figure shows, for a reader who does not see it; ends with a full stop
    summary : the numbers that carry it, by name, at most 12 each; they are rounded to two significant digits
    live : a module of ``bnlib/figures``, such as "dots", and its state, which can be written as JSON: on the site it
        takes the picture's place, and the reader moves it
    photo : whether it holds photographs, which need more colours than lines and text do: the PNG weighs twice as much

    Raises
    ------
    ValueError
        If the sentence does not end with a full stop, a summary has more than 12 values, a text is smaller than 9
        points, which on a phone would be too small to read, or there is no module of that name.
    """
    if not sentence.strip().endswith("."):
        raise ValueError(
            f"{sentence!r} is what a reader hears instead of the figure: make it a sentence, with its stop"
        )
    if small := _too_small(figure):
        raise ValueError(
            f"too small to be read on a phone: {', '.join(small[:3])}; the book's figures have text of at least "
            f"{SMALLEST} pt, such as fontsize='small'"
        )
    if live and live[0] not in (known := live_modules()):
        raise ValueError(f"there is no live figure {live[0]!r}: choose one of {known}")
    numbers = "; ".join(f"{name}: {summarized(value)}" for name, value in (summary or {}).items())
    return Shown(figure, " ".join(sentence.split()) + (f" {numbers}." if numbers else ""), live, photo)
