"""A live figure as a widget, for a reader who runs a chapter in JupyterLab, in Jupyter Notebook or on Colab.

A run without a reader, by ``make notebooks`` or by nbval, shows no widget: its ids differ from run to run, and would
stand in the outputs. The site has a host of its own (``figures/host.js``).
"""

import base64
import json
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).resolve().parent / "figures"  # live ones; they travel with the package


def attended() -> bool:
    """Whether a reader's notebook runs this, and can show widgets."""
    # Jupyter's server names the session to the kernels that it starts for a notebook.
    runs = bool(os.environ.get("JPY_SESSION_NAME")) or "google.colab" in sys.modules
    return runs and find_spec("anywidget") is not None


def source(module: str) -> str:
    """The JavaScript of a live figure in one piece: the kit that it imports is written into its address."""
    kit = base64.b64encode((FIGURES / "kit.js").read_bytes()).decode()
    text = (FIGURES / f"{module}.js").read_text("utf-8")
    return text.replace('"./kit.js"', json.dumps(f"data:text/javascript;base64,{kit}"))


def bundle(module: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """What a notebook shows as the widget; its state can be moved, and is the kernel's, too.

    Parameters
    ----------
    module : of ``bnlib/figures``, such as "dots"
    state : what the figure begins with, which can be written as JSON
    """
    import traitlets
    from anywidget import AnyWidget

    if "google.colab" in sys.modules:  # which shows no widgets of other makers until it is asked to
        from google.colab import output  # type: ignore[import-not-found]

        output.enable_custom_widget_manager()
    if clash := sorted(set(state) & set(AnyWidget.class_trait_names())):
        raise ValueError(f"a widget has {clash} of its own: give what the live figure {module!r} moves another name")
    parts = {name: traitlets.Any(value).tag(sync=True) for name, value in state.items()}
    files = {"_esm": source(module), "_css": (FIGURES / "live.css").read_text("utf-8")}
    shown = type("LiveFigure", (AnyWidget,), {**files, **parts})()._repr_mimebundle_()
    return (shown[0] if isinstance(shown, tuple) else shown) or {}
