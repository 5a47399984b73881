"""Says under a chapter's question how long it takes to read, and to run."""

from docutils import nodes
from sphinx.application import Sphinx

PACE = 200  # words of prose in a minute; code and formulas take their time besides
SKIPPED = nodes.literal_block | nodes.math_block | nodes.comment | nodes.raw


def words(node: nodes.Node) -> int:
    """How many words of prose stand in a node: what is code, a formula or an output is left out."""
    if isinstance(node, SKIPPED) or (isinstance(node, nodes.container) and "cell" in node.get("classes", [])):
        return 0
    return sum(map(words, node.children)) if node.children else len(node.astext().split())


def minutes(document: nodes.document) -> int:
    """To read a page, at least one."""
    return max(1, round(words(document) / PACE))


def say(app: Sphinx, document: nodes.document) -> None:
    """Behind the paragraph under a chapter's title, which is its question."""
    if not app.env.docname.rpartition("/")[2][:2].isdigit():
        return
    question = next(document.findall(nodes.paragraph))
    text = f"{minutes(document)} minutes to read, half a minute to run"
    question.parent.insert(question.parent.index(question) + 1, nodes.paragraph("", text, classes=["bn-minutes"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the step to the build."""
    app.connect("doctree-read", say)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
