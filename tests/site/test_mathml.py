"""LaTeX becomes MathML while the site is built, or the build fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from _ext.mathml import Temml, TemmlError

ROOT = Path(__file__).parents[2]
CONF = """\
extensions = ["_ext.mathml"]
html_math_renderer = "mathml"
html_theme = "basic"
mathml_macros = {r"\\sigmoid": r"\\operatorname{sigmoid}"}
"""


def build(folder: Path, text: str) -> tuple[int, str, str]:
    """Build a page; return the exit status, the page and what Sphinx says."""
    (folder / "conf.py").write_text(CONF, "utf-8")
    (folder / "index.rst").write_text(f"Title\n=====\n\n{text}\n", "utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(folder), str(folder / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    page = folder / "html/index.html"
    return done.returncode, page.read_text("utf-8") if page.exists() else "", done.stderr


def test_formulas_are_written_as_mathml(tmp_path: Path) -> None:
    status, page, said = build(
        tmp_path,
        ":math:`\\sigmoid(x)` and :eq:`mean`.\n\n.. math:: \\mu = \\frac{1}{n} \\sum_i x_i\n   :label: mean\n",
    )
    assert (status, said) == (0, "")
    assert page.count("<math") == 2
    assert "<mi>sigmoid</mi>" in page
    assert 'id="equation-mean"' in page
    assert '<span class="eqno">(1)<a class="headerlink" href="#equation-mean"' in page
    assert "mathjax" not in page.lower()


@pytest.mark.parametrize("text", [":math:`\\nosuchmacro{x}`", ".. math:: \\nosuchmacro{x}"], ids=["inline", "display"])
def test_unknown_macro_fails_the_build_and_says_where(tmp_path: Path, text: str) -> None:
    status, _, said = build(tmp_path, text)
    assert status != 0
    assert "index.rst:4" in said
    assert r"\nosuchmacro" in said


@pytest.fixture
def temml():
    process = Temml({r"\two": "2"})
    yield process
    process.close()


def test_one_process_translates_many_formulas_and_survives_a_bad_one(temml: Temml) -> None:
    assert "<mi>x</mi>" in temml("x", display=False)
    with pytest.raises(TemmlError, match=r"nosuchmacro"):
        temml(r"\nosuchmacro", display=False)
    with pytest.raises(TemmlError, match=r"nosuchmacro"):
        temml(r"\nosuchmacro", display=False)
    assert "<mn>2</mn>" in temml(r"\two", display=False)
    assert 'display="block"' in temml("x", display=True)


def test_a_definition_in_one_formula_does_not_reach_the_next(temml: Temml) -> None:
    temml(r"\gdef\two{3} \two", display=False)
    assert "<mn>2</mn>" in temml(r"\two + 0", display=False)


def test_lines_are_aligned_and_numbered_once(tmp_path: Path) -> None:
    _, page, said = build(
        tmp_path,
        ".. math::\n   :label: lines\n\n   a &= b \\\\\n   c &= d\n\n"
        ".. math::\n   :nowrap:\n   :label: own\n\n   \\begin{align} a &= b \\\\ c &= d \\end{align}\n",
    )
    assert said == ""
    assert page.count("<mtr>") == 4
    assert page.count('class="eqno"') == 2
    assert "tml-eqn" not in page  # Temml's own numbers
