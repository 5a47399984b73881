"""Takes out of a stylesheet the rules for classes that no page has."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import tinycss2

# Bootstrap puts these class names together in the browser ("bs-tooltip-" + placement).
COMPOSED = re.compile(r"bs-tooltip-.*")


def words(texts: Iterable[str]) -> set[str]:
    """Everything in the texts, HTML and JavaScript, that could be the name of a class."""
    return {word for text in texts for word in re.findall(r"[\w-]+", text)}


def purge(css: str, used: set[str]) -> str:
    """Return ``css`` without the selectors that ask for a class that is not in ``used``, and without their rules."""
    return "".join(_kept(tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True), used))


def _kept(rules: Iterable[Any], used: set[str]) -> Iterator[str]:
    for rule in rules:
        if rule.type == "at-rule" and rule.lower_at_keyword in {"media", "supports"}:
            nested = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
            if body := "".join(_kept(nested, used)):
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{body}}}"
        elif rule.type == "qualified-rule":
            if selectors := [selector for selector in _selectors(rule.prelude) if _matches(selector, used)]:
                yield f"{','.join(selectors)}{{{tinycss2.serialize(rule.content)}}}"
        else:
            yield rule.serialize()


def _selectors(prelude: Iterable[Any]) -> list[str]:
    # The tokens within parentheses are one token here, so the commas of :is(a, b) separate nothing.
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return [tinycss2.serialize(part).strip() for part in parts]


def _matches(selector: str, used: set[str]) -> bool:
    # What stands within :not(...) and :is(...) is not looked at: a class that is missing there does no harm.
    tokens: list[Any] = tinycss2.parse_component_value_list(selector)
    names = [token.value for before, token in pairwise(tokens) if before == "." and token.type == "ident"]
    return all(name in used or COMPOSED.fullmatch(name) for name in names)
