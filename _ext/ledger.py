"""The ledger: every claim of the chapters with its verdict, from the outputs that are committed, and from nothing else.

    ```{ledger}
    ```

shows them all, with a forest plot for each unit; the same as CSV and JSON lies beside the page.

    ```{ledger-counts}
    ```

is a sentence with how many hold, and

    ```{verdicts} faster inputs-circular
    ```

a list of some, with links to their cards. Where a chapter names a claim by its id as code, as in ``faster``, that leads
to the claim's card; its title is the claim with its verdict.
"""

import csv
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from bnlib.claims import (
    DOES_NOT_HOLD,
    HOLDS,
    MIME_TYPE,
    MIXED,
    OPEN,
    PARTLY_OPEN,
    REGIONS,
    TRANSFERS,
    TURNS,
    WEAKER,
    listed,
)
from bnlib.forest import Axis

CLAIM = dict[str, Any]
FILES = "ledger.csv", "ledger.json"
SCRIPT = Path(__file__).with_name("ledger.js")
# In this order everywhere, with the words that a count is given in.
KINDS = {
    HOLDS: ("holds", "hold"),
    DOES_NOT_HOLD: ("does not hold", "do not hold"),
    MIXED: (
        "holds for a part of what was asked and fails for another",
        "hold for a part of what was asked and fail for another",
    ),
    PARTLY_OPEN: ("is open in part", "are open in part"),
    OPEN: ("is open", "are open"),
}
NAME = re.compile("[a-z][a-z-]*")  # an id
ERROR = 0.025  # on the one side of a bound, as the intervals have it
MEASURES = {
    "accuracy": "Differences of accuracy",
    "ratio": "Ratios",
    "decades": "Decades of a setting",
    "share": "Shares of settings",
    "": "Other measures",
}


def gather(chapters: Path) -> list[CLAIM]:
    """Every claim in the outputs of the notebooks in a folder, in their order, with "page", "title" and "anchor".

    Raises
    ------
    LookupError
        If an id stands there twice.
    """
    found: dict[str, CLAIM] = {}
    for path in sorted(chapters.glob("[0-9][0-9]_*.ipynb")):
        notebook = json.loads(path.read_text("utf-8"))
        title = next(
            line[2:] for cell in notebook["cells"] for line in "".join(cell["source"]).split("\n") if line[:2] == "# "
        )
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                claim = output.get("data", {}).get(MIME_TYPE)
                if claim is None:
                    continue
                if claim["id"] in found:
                    raise LookupError(f"claim {claim['id']!r} stands in {found[claim['id']]['page']} and {path.stem}")
                about = {"page": path.stem, "title": title, "anchor": f"claim-{claim['id']}"}
                found[claim["id"]] = {**claim, **about}
    return list(found.values())


def counts(claims: Iterable[CLAIM]) -> dict[str, int]:
    """How many claims have each kind of verdict."""
    found = Counter(claim["verdict"] for claim in claims)
    return {kind: found[kind] for kind in KINDS}


def counted(claims: Sequence[CLAIM]) -> str:
    """The counts as a sentence."""
    found = counts(claims)
    told = [f"{found[kind]} {words[found[kind] > 1]}" for kind, words in KINDS.items() if found[kind]]
    return f"Of {len(claims)} claims {listed(told)}."


def settled(claims: Iterable[CLAIM]) -> list[dict[str, Any]]:
    """The statistical parts on which a verdict was given."""
    return [part for claim in claims for part in claim["parts"] if part.get("chance") is not None]


def strength(part: dict[str, Any], parts: int) -> str:
    """What a verdict on a part survives, of so many parts in the ledger: in words, empty if nothing was settled."""
    if part.get("chance") is None:
        return ""
    alone, together = part["chance, resampled"] <= ERROR, part["chance"] <= ERROR / parts
    return {
        (True, True): "survives both",
        (True, False): "survives resampling, not Bonferroni",
        (False, True): "survives Bonferroni, not resampling",
        (False, False): "survives neither",
    }[alone, together]


def doubt(claims: Sequence[CLAIM]) -> str:
    """How many of the verdicts may be wrong, in a sentence."""
    parts = settled(claims)
    words = [strength(part, len(parts)) for part in parts]
    resampled, bonferroni = (sum(w in ("survives both", one) for w in words) for one in _ONE)
    wrong = 0.05 * len(parts)
    return (
        f"Each of the {len(parts)} settled parts behind these verdicts was settled by a procedure that errs in at most "
        f"5 % of cases, so at worst about {wrong:.0f} of them can be expected to be wrong. Seeds that are splits of "
        "one file of images are not as independent as new images would be: with the interval corrected for that, "
        f"{resampled} of {len(parts)} verdicts stand. With Bonferroni's correction over the whole ledger {bonferroni} "
        "stand."
    )


_ONE = "survives resampling, not Bonferroni", "survives Bonferroni, not resampling"


def measure_of(claim: CLAIM) -> str:
    """The measure whose region of equality the criterion has, by its name in ``REGIONS``; else empty."""
    region = claim["criterion"]["region"]
    for name, bounds in REGIONS.items():
        if region and all(abs(a - b) < 1e-4 for a, b in zip(region, bounds, strict=True)):
            return name
    return ""


def transfer(claim: CLAIM) -> str:
    """What becomes of the claim on other data, in words."""
    by_data: dict[str, list[str]] = {}
    for part in claim["transfers"]:
        by_data.setdefault(part["data"], []).append(part["moved"])
    told = []
    for data, words in by_data.items():
        found = Counter(words)
        order = [TRANSFERS, WEAKER, TURNS, *sorted({*words} - {TRANSFERS, WEAKER, TURNS})]
        told.append(
            f"{data}: "
            + ", ".join(f"{w} {found[w]} of {len(words)}" if len(words) > 1 else w for w in order if found[w])
        )
    return "; ".join(told)


def table(claims: Sequence[CLAIM], parts: int) -> str:
    """All claims as rows of a table that is complete without scripts."""
    rows = []
    for claim in claims:
        told = "".join(
            f"<li>{_text(part['condition'] + ': ' if part['condition'] else '')}{_text(part['text'])}, "
            f"n = {part['n']}: {_text(part['verdict'])}"
            + (f" ({_text(words)})" if (words := strength(part, parts)) else "")
            + "</li>"
            for part in claim["parts"]
        )
        rows.append(
            f'<tr id="{claim["anchor"]}" data-verdict="{_text(claim["verdict"])}" '
            f'data-chapter="{_text(claim["title"])}" data-source="{_text(claim["source"])}">'
            f'<th scope="row"><a href="{claim["page"]}.html#{claim["anchor"]}">{_text(claim["statement"])}</a>'
            f'<p class="bn-ledger-source">{_text(claim["title"])} · {_text(claim["source"])}</p>'
            f"<details><summary>Cite</summary><p>{_text(cited(claim))}</p></details></th>"
            f"<td>{_text(claim['criterion']['text'])}<ul>{told}</ul></td>"
            f'<td><p class="bn-{claim["verdict"].replace(" ", "-")}">{_text(claim["headline"])}</p>'
            f"<p>On other data: {_text(transfer(claim)) or 'not run'}</p></td></tr>"
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Claim", "Measured", "Verdict"))
    return (
        f'<table class="table bn-ledger"><thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table>"
    )


def cited(claim: CLAIM) -> str:
    """How a claim is cited, with its conditions."""
    return (
        f"Batch Normalization, Measured, claim “{claim['id']}” ({claim['title']}): {claim['statement']} "
        f"Criterion: {claim['criterion']['text']}. Verdict: {claim['headline']}."
    )


def forest(claims: Sequence[CLAIM]) -> str:
    """All effects on one axis for each measure, with links to their cards."""
    drawn = []
    for measure, name in MEASURES.items():
        rows = [
            (claim, part, _interval(part))
            for claim in claims
            if claim["kind"] == "statistical" and measure_of(claim) == measure
            for part in claim["parts"]
            if _interval(part)
        ]
        if not rows or not measure:  # measures of all kinds have no axis in common: their cards show them
            continue
        plot = Axis([x for *_, i in rows if i for x in i], region=REGIONS[measure], log=measure == "ratio")
        lines = "".join(
            f'<tr class="bn-{(part["verdict"] or "other").replace(" ", "-")}"><th scope="row">'
            f'<a href="{claim["page"]}.html#{claim["anchor"]}">{_text(claim["id"])}</a>'
            f"{_text(', ' + part['condition'] if part['condition'] else '')}</th><td>{plot.row(interval)}</td>"
            f"<td>{_text(part['verdict'])}</td></tr>"
            for claim, part, interval in rows
        )
        low, high = plot.ends
        drawn.append(
            f'<table class="bn-claim-table bn-ledger-forest"><caption>{name}, from {low} to {high}; in the band two '
            f"variants count as equal</caption><tbody>{lines}</tbody></table>"
        )
    return "\n".join(drawn)


def _interval(part: dict[str, Any]) -> tuple[float, float, float] | None:
    """Estimate and bounds as numbers, a missing bound as an infinite one; None if there is no estimate."""
    if part["effect"] is None or part["interval"] is None:
        return None
    low, high = part["interval"]
    return part["effect"], -float("inf") if low is None else low, float("inf") if high is None else high


def as_csv(claims: Sequence[CLAIM]) -> str:
    """A line for each part."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ["id", "chapter", "statement", "source", "criterion", "unit", "role", "data", "condition", "effect"]
    names += ["low", "high", "confidence", "n", "verdict"]
    writer.writerow([*names, "claim's verdict"])
    for claim in claims:
        for role in ("parts", "transfers", "others"):
            for part in claim[role]:
                low, high = part["interval"] or (None, None)
                row = [claim["id"], claim["page"], claim["statement"], claim["source"], claim["criterion"]["text"]]
                row += [claim["unit"], role.removesuffix("s"), part.get("data", ""), part["condition"], part["effect"]]
                row += [low, high, part.get("confidence"), part["n"], part.get("moved", part["verdict"])]
                writer.writerow([*row, claim["headline"]])
    return out.getvalue()


def _text(text: str) -> str:
    return html.escape(text)


class _FromChapters(Directive):
    """What is made of all claims."""

    def claims(self) -> list[CLAIM]:
        """Of the chapters beside this page, which is built again when one changes."""
        env = self.state.document.settings.env
        folder = Path(env.srcdir) / "chapters"
        for path in folder.glob("[0-9][0-9]_*.ipynb"):
            env.note_dependency(str(path))
        try:
            return gather(folder)
        except LookupError as error:
            raise self.error(str(error)) from error

    def raw(self, text: str) -> list[nodes.Node]:
        """HTML as it is."""
        return [nodes.raw("", text, format="html")]


class Ledger(_FromChapters):
    """All claims."""

    def run(self) -> list[nodes.Node]:
        """The filters' place, the table, and the forest plots."""
        claims = self.claims()
        parts = max(1, len(settled(claims)))
        doubts = f"<p>{_text(doubt(claims))}</p>"
        links = " · ".join(f'<a href="../_static/{file}" download>{file}</a>' for file in FILES)
        return self.raw(
            f'{doubts}<p>To download: {links}</p><div class="bn-ledger-filters"></div>'
            f'<div class="pst-scrollable-table-container">{table(claims, parts)}</div>'
            f'<script type="module">{SCRIPT.read_text("utf-8")}</script>'
        )


class LedgerForest(_FromChapters):
    """All effects by measure."""

    def run(self) -> list[nodes.Node]:
        """The plots."""
        return self.raw(forest(self.claims()))


class LedgerCounts(_FromChapters):
    """How many claims hold."""

    def run(self) -> list[nodes.Node]:
        """A paragraph."""
        return [nodes.paragraph("", counted(self.claims()))]


class Verdicts(_FromChapters):
    """Some claims, by their ids."""

    required_arguments = 1
    optional_arguments = 100

    def run(self) -> list[nodes.Node]:
        """A list of statements with their verdicts."""
        known = {claim["id"]: claim for claim in self.claims()}
        if missing := [id for id in self.arguments if id not in known]:
            raise self.error(f"no chapter has the claims {missing}: choose of {sorted(known)}")
        items = "".join(
            f'<li><a href="{claim["page"]}.html#{claim["anchor"]}">{_text(claim["statement"])}</a> '
            f"<strong>{_text(claim['headline'][:1].upper() + claim['headline'][1:])}.</strong></li>"
            for claim in (known[id] for id in self.arguments)
        )
        return self.raw(f'<ul class="bn-verdicts">{items}</ul>')


class Named(SphinxTransform):
    """A claim that a chapter names by its id, as code, leads to its card."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        """Replace each such name by a link whose title is the claim with its verdict, but in headings and links."""
        here = PurePosixPath(self.env.docname).name
        if not here[:2].isdigit():
            return
        names = [
            node
            for node in self.document.findall(nodes.literal)
            if NAME.fullmatch(node.astext()) and not isinstance(node.parent, nodes.title | nodes.reference)
        ]
        paths = sorted((Path(self.env.srcdir) / "chapters").glob("[0-9][0-9]_*.ipynb")) if names else []
        known = _by_id(tuple((path, path.stat().st_mtime_ns) for path in paths))
        for node in (node for node in names if node.astext() in known):
            claim = known[node.astext()]
            link = nodes.reference("", "", refuri=f"{claim['page']}.html#{claim['anchor']}", internal=True)
            link["reftitle"] = f"{claim['statement']} Verdict: {claim['headline']}."
            node.replace_self(link)
            link += node
            for path in paths:
                self.env.note_dependency(str(path))


@cache
def _by_id(stamped: tuple[tuple[Path, int], ...]) -> dict[str, CLAIM]:
    """All claims by id, read again only where a file has changed."""
    return {claim["id"]: claim for claim in gather(stamped[0][0].parent)} if stamped else {}


def write_files(app: Sphinx, exception: Exception | None) -> None:
    """The claims as CSV and JSON, beside the site's other files."""
    if exception is not None or app.builder.format != "html":
        return
    claims = gather(Path(app.srcdir) / "chapters")
    texts = as_csv(claims), json.dumps(claims, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    for name, text in zip(FILES, texts, strict=True):
        (Path(app.outdir) / "_static" / name).write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for name, directive in (
        ("ledger", Ledger),
        ("ledger-forest", LedgerForest),
        ("ledger-counts", LedgerCounts),
        ("verdicts", Verdicts),
    ):
        app.add_directive(name, directive)
    app.add_transform(Named)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
