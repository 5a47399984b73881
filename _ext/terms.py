"""Leads from the place where a chapter introduces a term, in bold, to the term's entry in the notation.

The chapters need no markup for it, so that they read well elsewhere: a bold word that is an entry of the definition
list "Terms" becomes a link, the first time on each page.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

GLOSSARY = "chapters/notation"


def mark_entries(app: Sphinx, doctree: nodes.document) -> None:
    """Give each term of the glossary an anchor, and remember it."""
    if app.env.docname != GLOSSARY:
        return
    found = {}
    for term in doctree.findall(nodes.term):
        anchor = f"term-{nodes.make_id(term.astext())}"
        term["ids"].append(anchor)
        found[term.astext().lower()] = anchor
    app.env.metadata[GLOSSARY]["terms"] = found  # the environment is pickled, and merged from parallel readers


def link_first_uses(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn the first bold use of each term into a link to its entry."""
    if docname == GLOSSARY:
        return
    terms = dict(app.env.metadata[GLOSSARY].get("terms", {}))
    for strong in list(doctree.findall(nodes.strong)):
        if anchor := terms.pop(strong.astext().lower(), None):
            link = make_refnode(app.builder, docname, GLOSSARY, anchor, [])
            strong.replace_self(link)
            link += strong


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both steps to the build."""
    app.connect("doctree-read", mark_entries)
    app.connect("doctree-resolved", link_first_uses)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
