"""A chapter has the number of its file: 06_transform is chapter 6, and its figures are 6.1, 6.2, ...

Sphinx counts the chapters of each part from 1, and a chapter that is still to be written would move those behind it.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector


class ByFile(TocTreeCollector):
    """Sphinx's collector of section numbers, of which the first takes the place of the chapter's."""

    def assign_section_numbers(self, env: BuildEnvironment) -> list[str]:
        """Return the documents whose numbers changed."""
        before = dict(env.toc_secnumbers)
        super().assign_section_numbers(env)
        for name, numbers in env.toc_secnumbers.items():
            if found := re.match(r"chapters/(\d+)_", name):
                numbered = [env.titles[name], *env.tocs[name].findall(nodes.reference)]
                for node in numbered:
                    if node.get("secnumber"):
                        node["secnumber"] = [int(found[1]), *node["secnumber"][1:]]
                env.toc_secnumbers[name] = {a: n and (int(found[1]), *n[1:]) for a, n in numbers.items()}
        return [name for name, numbers in env.toc_secnumbers.items() if numbers != before.get(name)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Number sections and figures once more when Sphinx has done so."""
    app.connect("env-get-updated", ByFile().get_updated_docs, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
