"""Joins stylesheets into one, without the rules that no page needs and the variables that no rule needs."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import tinycss2

TAG = re.compile(r"<([a-z][\w-]*)", re.IGNORECASE)
NAMES = re.compile(r'\s(?:class|id)="([^"]*)"')
STYLE = re.compile(r'\sstyle="([^"]*)"')
SCRIPT = re.compile(r"<script\b[^>]*>(.*?)</script>", re.DOTALL)
VARIABLE = re.compile(r"--[\w-]+")
# The browser makes these out of others.
MADE = {"html", "head", "body", "tbody"}
HOLD_RULES = {"container", "layer", "media", "supports"}


class Used(NamedTuple):
    """What a site has: its elements, classes and ids, and every word that scripts could make one of."""

    elements: frozenset[str]
    names: frozenset[str]
    variables: frozenset[str]


def used(pages: Iterable[str], scripts: Iterable[str]) -> Used:
    """Read off what the pages and the scripts have. What only stands in a page's prose is not used."""
    pages = list(pages)
    code = [*scripts, *(script for page in pages for script in SCRIPT.findall(page))]
    words = {word for text in code for word in re.findall(r"[\w-]+", text)}
    elements = {name.lower() for page in pages for name in TAG.findall(page)}
    names = {name for page in pages for value in NAMES.findall(page) for name in value.split()}
    inline = {name for page in pages for style in STYLE.findall(page) for name in VARIABLE.findall(style)}
    return Used(frozenset(elements | words | MADE), frozenset(names | words), frozenset(inline | words))


class Declaration(NamedTuple):
    """A declaration of a rule, its value as text."""

    name: str
    value: str


class Rule(NamedTuple):
    """A rule, or a rule that holds others: what stands before the brace, and what stands within."""

    head: str
    body: "Sequence[Declaration | Rule]"


def purge(css: str, site: Used) -> str:
    """Return ``css`` without what asks for an element, a class or an id that the site does not have.

    Besides go the variables (custom properties) that nothing reads, the keyframes that nothing plays, comments, and
    white space.
    """
    rules = list(_kept(tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True), site))
    read = _read(rules, site.variables)
    played = set(re.findall(r"[\w-]+", " ".join(d.value for d in _declarations(rules) if "animation" in d.name)))
    return "".join(_written(rules, read, played | site.names))


def _kept(nodes: Iterable[Any], site: Used) -> Iterator[Rule]:
    for node in nodes:
        if node.type == "at-rule" and node.content is None:
            if node.lower_at_keyword != "charset":  # everything here is UTF-8
                raise ValueError(f"{node.serialize()!r} has no place in the middle of a stylesheet")
        elif node.type == "at-rule" and node.lower_at_keyword in HOLD_RULES:
            nested = tinycss2.parse_rule_list(node.content, skip_comments=True, skip_whitespace=True)
            if body := list(_kept(nested, site)):
                yield Rule(f"@{node.at_keyword} {_short(node.prelude)}", body)
        elif node.type == "at-rule" and node.lower_at_keyword.endswith("keyframes"):
            nested: list[Any] = tinycss2.parse_rule_list(node.content, skip_comments=True, skip_whitespace=True)
            frames = [Rule(_short(frame.prelude), list(_declared(frame.content))) for frame in nested]
            yield Rule(f"@{node.at_keyword} {_short(node.prelude)}", frames)
        elif node.type == "at-rule":
            yield Rule(f"@{node.at_keyword} {_short(node.prelude)}".strip(), list(_declared(node.content)))
        elif node.type == "qualified-rule":
            selectors = [selector for selector in _selectors(node.prelude) if _matches(selector, site)]
            declarations = list(_declared(node.content))
            if selectors and declarations:
                yield Rule(",".join(map(_short, selectors)), declarations)
        else:
            raise ValueError(f"a stylesheet that does not parse: {node.message}")


def _declared(content: list[Any]) -> Iterator[Declaration | Rule]:
    for node in tinycss2.parse_blocks_contents(content, skip_comments=True, skip_whitespace=True):
        if node.type == "declaration":  # the value of a variable may be empty, but not missing
            yield Declaration(node.name, (_short(node.value) or " ") + ("!important" if node.important else ""))
        elif node.type == "at-rule" and node.content is not None:  # such as what stands in the margin of a @page
            yield Rule(f"@{node.at_keyword} {_short(node.prelude)}".strip(), list(_declared(node.content)))
        elif node.type != "error":  # an error is a declaration that browsers skip, too
            raise ValueError(f"nested rules are not read here: {node.serialize()}")


def _short(tokens: Iterable[Any]) -> str:
    text: str = tinycss2.serialize([token for token in tokens if token.type != "comment"])
    return re.sub(r"\s+", " ", text).strip()


def _selectors(prelude: Iterable[Any]) -> list[list[Any]]:
    # The tokens within parentheses are one token here, so the commas of :is(a, b) separate nothing.
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _matches(selector: list[Any], site: Used) -> bool:
    # What stands within :not(...) and :is(...) is not looked at: a class that is missing there does no harm.
    tokens: list[Any] = ["", *selector]
    for before, token in pairwise(tokens):
        if token.type == "hash" and token.value not in site.names:
            return False
        if token.type == "ident" and before == ".":
            if token.value not in site.names:
                return False
        elif token.type == "ident" and before != ":" and token.lower_value not in site.elements:
            return False
    return True


def _declarations(rules: Iterable[Rule]) -> Iterator[Declaration]:
    for rule in rules:
        for part in rule.body:
            if isinstance(part, Rule):
                yield from _declarations([part])
            else:
                yield part


def _read(rules: list[Rule], outside: frozenset[str]) -> set[str]:
    """Return the variables whose values arrive at a property, or are read from outside the stylesheet."""
    found: set[str] = set(outside)
    readers: dict[str, set[str]] = {}
    for declaration in _declarations(rules):
        inside = set(VARIABLE.findall(declaration.value))
        if declaration.name.startswith("--"):
            readers.setdefault(declaration.name, set()).update(inside)
        else:
            found |= inside
    waiting = list(found)
    while waiting:
        new = readers.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _written(rules: Iterable[Rule], read: set[str], played: set[str]) -> Iterator[str]:
    for rule in rules:
        if "keyframes " in rule.head and rule.head.split()[-1] not in played:
            continue
        parts: list[str] = []
        for part in rule.body:
            if isinstance(part, Rule):
                parts += _written([part], read, played)
            elif not part.name.startswith("--") or part.name in read:
                parts.append(f"{part.name}:{part.value};")
        if parts:
            yield f"{rule.head}{{{''.join(parts).removesuffix(';')}}}"
