"""A live figure is a widget where a reader runs the notebook, and only there."""

import json
from pathlib import Path

import pytest
from IPython.core.formatters import DisplayFormatter

from _ext.live import live_figures
from bnlib import plots, widget

VIEW = "application/vnd.jupyter.widget-view+json"
CHAPTERS = sorted((Path(__file__).parents[1] / "chapters").glob("*.ipynb"))


@pytest.fixture
def shown() -> plots.Shown:
    figure, _ = plots.axes()
    return plots.show(figure, "Dots.", live=("dots", {"n": 4, "x": [1, 2]}))


def test_without_a_reader_there_is_no_widget(shown: plots.Shown, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    data, _ = DisplayFormatter().format(shown)
    assert set(data) == {"text/plain", "image/png", plots.LIVE}


def test_a_reader_of_a_notebook_gets_one_beside_picture_and_words(shown: plots.Shown, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "chapter.ipynb")
    data, _ = DisplayFormatter().format(shown)
    assert set(data) == {"text/plain", "image/png", plots.LIVE, VIEW}
    assert data["text/plain"] == "Dots."


def test_a_reader_without_anywidget_gets_the_picture(shown: plots.Shown, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "chapter.ipynb")
    monkeypatch.setattr(widget, "find_spec", lambda name: None)
    assert VIEW not in DisplayFormatter().format(shown)[0]


def test_a_name_that_every_widget_has_is_refused():
    with pytest.raises(ValueError, match=r"has \['layout'\] of its own"):
        widget.bundle("dots", {"n": 4, "layout": 1})


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_states_of_a_chapter_can_be_a_widgets(path: Path):
    for live in live_figures(json.loads(path.read_text("utf-8"))).values():
        assert VIEW in widget.bundle(**live)
