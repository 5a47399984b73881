"""Adds to the site what needs an address, if the environment says at build time which it has.

``SITE_URL``, where the site will stand, brings canonical links, Open Graph tags, a sitemap, and a page for wrong
addresses that looks right at any depth. ``REPOSITORY``, owner/name on GitHub, brings launch buttons, links to each
page's source, and reports of errors. Without them the site holds no address.
"""

import os
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

# What runs elsewhere is the branch to which publish.yml pushes the notebooks that the site offers, and what they need.
LAUNCHED = "notebooks"
BUTTONS = {
    "notebook_interface": "jupyterlab",
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
}
RELATIVE = re.compile(r'\b((?:href|src|action|data-content_root)=")(?![a-z][a-z+.-]*:|[/#])(?:\./)?')


def read(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the site's address and its repository, empty if not set; raise ConfigError if they are not valid."""
    site, repository = environment.get("SITE_URL", ""), environment.get("REPOSITORY", "")
    if site and not re.fullmatch(r"https?://[^\s/?#\"<>]+/([^\s?#\"<>]+/)?", site):
        raise ConfigError(f"SITE_URL must start with http:// or https:// and end with /, and is {site!r}")
    if repository and not re.fullmatch(r"[\w-]+/[\w.-]+", repository, re.ASCII):
        raise ConfigError(f"REPOSITORY must be owner/name, and is {repository!r}")
    return site, repository


def configure(app: Sphinx, config: Config) -> None:
    """Give Sphinx and the theme their options."""
    site, repository = read(os.environ)
    config["html_baseurl"] = site
    if repository:
        config["html_theme_options"] |= {
            "repository_url": f"https://github.com/{repository}",
            "repository_branch": LAUNCHED,
            "launch_buttons": BUTTONS,
        }


def button(label: str, url: str, text: str, tooltip: str, icon: str) -> dict[str, str]:
    """A link in a menu of the theme's."""
    return {"type": "link", "label": f"{label}-button", "url": url, "text": text, "tooltip": tooltip, "icon": icon}


def add_buttons(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Give each page of the book a menu with its source, a way to edit it, and one to report an error in it.

    The theme's own would show a notebook's source, and let one edit it, as JSON, and its report names the page alone.
    """
    site, repository = read(os.environ)
    if not repository or doctree is None:
        return
    path = Path(app.env.doc2path(page)).relative_to(app.srcdir).as_posix()
    file = f"{repository}/blob/main/{path}"
    if path.endswith(".ipynb"):
        source, edit = f"https://github.com/{file}", f"https://github.dev/{file}"
    else:
        source, edit = f"https://github.com/{file}?plain=1", f"https://github.com/{repository}/edit/main/{path}"
    title = app.env.titles[page].astext()
    place = site + app.builder.get_target_uri(page) if site else path
    # The script of the page enters the section.
    body = f"Page: {title}, {place}\nSection: \n\nWhat is wrong there, and what would be right?\n\n"
    report = urlencode({"title": f"Error in {title}", "body": body}, quote_via=quote)
    menu = {
        "type": "group",
        "label": "source-buttons",
        "tooltip": "Source and errors",
        "icon": "fab fa-github",
        "buttons": [
            button("source", source, "Source", "See this page's source on GitHub", "fas fa-code"),
            button("edit", edit, "Edit", "Suggest a change of this page", "fas fa-pencil-alt"),
            button("report", f"https://github.com/{repository}/issues/new?{report}", "Report an error",
                   "Open an issue about this section", "fas fa-bug"),
        ],
    }  # fmt: skip
    context["header_buttons"].insert(-1, menu)  # in front of the downloads


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Add the Open Graph tags to a page; what is no page of the book gets no canonical link either."""
    if not app.config.html_baseurl:
        return
    if doctree is None:
        context["pageurl"] = None
        return
    descriptions = [meta["content"] for meta in doctree.findall(nodes.meta) if meta.get("name") == "description"]
    properties = {
        "title": re.sub(r"<[^>]+>", "", context["title"]),  # HTML, and escaped
        "type": "website" if page == app.config.root_doc else "article",
        "url": escape(context["pageurl"]),
        "site_name": escape(app.config.html_title),
    }
    for description in descriptions:
        properties["description"] = escape(description)
    tags = [f'<meta property="og:{name}" content="{value}" />' for name, value in properties.items()]
    context["metatags"] += "\n".join(["", *tags, ""])


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Write the sitemap, and lead the page for wrong addresses, which may be shown at any depth, to its files."""
    site = app.config.html_baseurl
    if exception or app.builder.format != "html" or not site:
        return
    out = Path(app.outdir)
    pages = [escape(site + app.builder.get_target_uri(page)) for page in sorted(app.env.found_docs)]
    urls = "".join(f"<url><loc>{page}</loc></url>\n" for page in pages)
    sitemap = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n'
    (out / "sitemap.xml").write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n{sitemap}', "utf-8")
    wrong = out / "404.html"
    wrong.write_text(RELATIVE.sub(rf"\g<1>{urlsplit(site).path}", wrong.read_text("utf-8")), "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    app.connect("config-inited", configure)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", add_buttons, priority=502)  # the theme's are made at 501
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
