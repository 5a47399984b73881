"""What the doctor says: findings, worst first, as text, as HTML and as JSON."""

from __future__ import annotations

import html
import json
import textwrap
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

SEVERITIES = ("wrong", "harmful", "minor")
WIDTH = 79


class Number(NamedTuple):
    """One number of a finding."""

    name: str
    seen: str
    expected: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    rule : its name, such as ``stale-statistics``
    severity : "wrong": what comes out, or what is stored, is not what is meant; "harmful": training or use suffer;
        "minor": it does little harm, or none
    modules : the modules' names, in the order in which they are called
    numbers : what was seen, and what was to be expected
    sentence : what is wrong
    remedy : what to do
    link : the book's page, and the place there
    """

    rule: str
    severity: str
    modules: tuple[str, ...]
    numbers: tuple[Number, ...]
    sentence: str
    remedy: str
    link: str

    @property
    def where(self) -> str:
        """The modules in words, at most three by name."""
        first = ", ".join(self.modules[:3])
        more = len(self.modules) - 3
        return f"module{'s' * (len(self.modules) > 1)} {first}{f' and {more} more' if more > 0 else ''}"

    def _lines(self) -> list[str]:
        found = [f"{self.sentence}"]
        found += [f"{n.name}: {n.seen}; expected: {n.expected}" for n in self.numbers]
        return [*found, f"Remedy: {self.remedy}", f"Why: the book, {self.link}"]


@dataclass(frozen=True, repr=False)
class Report:
    """What :func:`bnlib.lab.doctor.examine` found.

    As the last line of a notebook cell, or printed, it shows its findings; :meth:`json` is for programs.

    Attributes
    ----------
    findings : worst first
    unsettled : what it is too early to judge, or could not be looked at, and why
    looked : what was looked at, in words
    """

    findings: tuple[Finding, ...]
    unsettled: tuple[str, ...]
    looked: str

    @property
    def exit_code(self) -> int:
        """0 if nothing is worse than "minor", else 1."""
        return int(any(finding.severity != "minor" for finding in self.findings))

    @property
    def headline(self) -> str:
        """How many findings there are of each severity."""
        counts = [(sum(f.severity == s for f in self.findings), s) for s in SEVERITIES]
        said = ", ".join(f"{count} {severity}" for count, severity in counts if count)
        return said or "nothing found"

    def json(self) -> str:
        """The report as JSON."""
        listed = [asdict(f) | {"numbers": [number._asdict() for number in f.numbers]} for f in self.findings]
        found = asdict(self) | {"findings": listed, "exit_code": self.exit_code}
        return json.dumps(found, indent=1, ensure_ascii=False)

    def __repr__(self) -> str:
        """The headline, the findings, and what is open, in lines of at most 79 characters."""
        lines = [_filled(f"Doctor: {self.headline}. Looked at: {self.looked}.")]
        for i, finding in enumerate(self.findings, 1):
            head = f"{i}. {finding.severity.upper()}: {finding.rule}"
            lines += ["", _filled(head + (f" ({finding.where})" if finding.modules else ""), "", "   ")]
            lines += [_filled(line, "   ", "   ") for line in finding._lines()]
        if self.unsettled:
            lines += ["", *(_filled(sentence) for sentence in self.unsettled)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        items = "".join(_item(finding) for finding in self.findings)
        found = f'<ol class="bn-doctor-findings">\n{items}</ol>\n' if items else ""
        rest = "".join(f"<p>{html.escape(sentence)}</p>\n" for sentence in self.unsettled)
        head = f"<strong>Doctor: {html.escape(self.headline)}.</strong> Looked at: {html.escape(self.looked)}."
        start = f'<section class="bn-doctor" aria-label="The doctor’s report">\n<p>{head}</p>\n'
        return f"{start}{found}{rest}</section>"


def _item(finding: Finding) -> str:
    where = f" (<code>{html.escape(finding.where)}</code>)" if finding.modules else ""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(n.name)}</th><td>{html.escape(n.seen)}</td>'
        f"<td>{html.escape(n.expected)}</td></tr>\n"
        for n in finding.numbers
    )
    table = (
        f'<table>\n<thead><tr><th scope="col">number</th><th scope="col">seen</th><th scope="col">expected</th></tr>'
        f"</thead>\n<tbody>\n{rows}</tbody>\n</table>\n"
    )
    link = f'<a href="{html.escape(finding.link)}">{finding.link.split(".")[0]}</a>'
    return (
        f'<li class="bn-doctor-{finding.severity}"><p><strong>{finding.severity}: {finding.rule}</strong>{where}</p>\n'
        f"<p>{html.escape(finding.sentence)}</p>\n{table if rows else ''}"
        f"<p>Remedy: {html.escape(finding.remedy)} Why: {link}</p></li>\n"
    )


def _filled(text: str, first: str = "", others: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def number(name: str, seen: Any, expected: str) -> Number:
    """A number of a finding, rounded to two digits."""
    return Number(name, seen if isinstance(seen, str) else rounded(seen), expected)


def rounded(value: float) -> str:
    """Two digits, without an exponent where it is short without."""
    if isinstance(value, int) or value != value:
        return str(value)
    return f"{float(f'{value:.2g}'):g}"
