import dataclasses
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from bnlib.claim import (
    DOES_NOT_HOLD,
    HOLDS,
    HOLDS_ONLY_IF,
    MIME_TYPE,
    NOT_SETTLED,
    Claim,
    Criterion,
    Part,
    rounded,
)
from bnlib.paired import Effect

ABOVE_1 = Criterion(">", 1.0)


def about(criterion=ABOVE_1, **kw) -> dict[str, Any]:
    return {
        "id": "faster",
        "chapter": "08_training",
        "statement": "Batch norm trains faster.",
        "source": "ioffe2015batch",
        "criterion": criterion,
    } | kw


def measured(low, high, criterion=ABOVE_1, **kw):
    return Claim.measured(**about(criterion, effect=Effect((low + high) / 2, low, high, 16), **kw))


def bundle(claim):
    return claim._repr_mimebundle_()


def with_parts(**intervals):
    effects = {name: Effect((low + high) / 2, low, high, 12) for name, (low, high) in intervals.items()}
    return Claim.measured(**about(effect=effects))


# The verdict


@pytest.mark.parametrize(
    ("criterion", "low", "high", "verdict"),
    [
        (Criterion(">", 1), 1.1, 2.0, HOLDS),
        (Criterion(">", 1), 1.0, 2.0, NOT_SETTLED),  # the bound itself is not above it
        (Criterion(">", 1), 0.5, 2.0, NOT_SETTLED),
        (Criterion(">", 1), 0.5, 1.0, DOES_NOT_HOLD),
        (Criterion(">", 1), 0.2, 0.5, DOES_NOT_HOLD),
        (Criterion(">", 1, 0.5), 1.6, 2.0, HOLDS),
        (Criterion(">", 1, 0.5), 1.1, 2.0, NOT_SETTLED),
        (Criterion(">", 1, 0.5), 1.1, 1.5, DOES_NOT_HOLD),
        (Criterion("<", 1), 0.2, 0.9, HOLDS),
        (Criterion("<", 1), 0.2, 1.0, NOT_SETTLED),
        (Criterion("<", 1), 0.2, 2.0, NOT_SETTLED),
        (Criterion("<", 1), 1.0, 2.0, DOES_NOT_HOLD),
        (Criterion("<", 1), 1.5, 2.0, DOES_NOT_HOLD),
        (Criterion("<", 1, 0.5), 0.2, 0.4, HOLDS),
        (Criterion("<", 1, 0.5), 0.2, 0.9, NOT_SETTLED),
        (Criterion("<", 1, 0.5), 0.5, 0.9, DOES_NOT_HOLD),
        (Criterion("within", 1, 0.5), 0.6, 1.4, HOLDS),
        (Criterion("within", 1, 0.5), 0.5, 1.5, HOLDS),
        (Criterion("within", 1, 0.5), 0.4, 1.2, NOT_SETTLED),
        (Criterion("within", 1, 0.5), 0.8, 1.6, NOT_SETTLED),
        (Criterion("within", 1, 0.5), 0.1, 2.0, NOT_SETTLED),
        (Criterion("within", 1, 0.5), 0.1, 0.5, NOT_SETTLED),
        (Criterion("within", 1, 0.5), 1.5, 2.0, NOT_SETTLED),
        (Criterion("within", 1, 0.5), 0.1, 0.4, DOES_NOT_HOLD),
        (Criterion("within", 1, 0.5), 1.6, 2.0, DOES_NOT_HOLD),
        (Criterion("within", 1), 1.0, 1.0, HOLDS),
    ],
)
def test_verdict(criterion, low, high, verdict):
    claim = measured(low, high, criterion)
    assert claim.verdict == verdict
    assert bundle(claim)[MIME_TYPE]["verdict"] == verdict
    assert f"Verdict: {verdict}\n" in str(claim) + "\n"


YES, NO, OPEN = (1.5, 2.0), (0.2, 0.5), (0.5, 2.0)


@pytest.mark.parametrize(
    ("parts", "verdict", "conditions"),
    [
        ({"a": YES, "b": YES}, HOLDS, ("a", "b")),
        ({"a": NO, "b": NO}, DOES_NOT_HOLD, ()),
        ({"a": OPEN, "b": OPEN}, NOT_SETTLED, ()),
        ({"a": YES, "b": NO}, HOLDS_ONLY_IF, ("a",)),
        ({"a": NO, "b": OPEN, "c": YES, "d": YES}, HOLDS_ONLY_IF, ("c", "d")),
        ({"a": YES, "b": OPEN}, NOT_SETTLED, ("a",)),
        ({"a": NO, "b": OPEN}, NOT_SETTLED, ()),
        ({"a": YES}, HOLDS, ("a",)),
    ],
)
def test_verdict_of_parts(parts, verdict, conditions):
    claim = with_parts(**parts)
    assert (claim.verdict, claim.conditions) == (verdict, conditions)
    shown = bundle(claim)[MIME_TYPE]
    assert (shown["verdict"], tuple(shown["conditions"])) == (verdict, conditions)


def test_the_conditions_that_hold_are_named():
    claim = with_parts(**{"depth 3": NO, "depth 12": YES, "depth 30": YES})
    assert "Verdict: holds only if: depth 12; depth 30" in str(claim)
    assert "Verdict: holds only if: depth 12; depth 30</p>" in bundle(claim)["text/html"]


def test_parts_alone_decide():
    parts = (Part("a", 0.3, NO, 8), Part("b", 0.4, NO, 8))
    claim = Claim(**about(kind="statistical", effect=1.7, interval=YES, n=8, parts=parts))
    assert claim.verdict == DOES_NOT_HOLD
    assert [row[0] for row in claim._rows()] == ["Criterion", "Effect", "a", "b", "Seeds", "Source"]


@pytest.mark.parametrize(
    ("effect", "verdict"), [(1e-16, HOLDS), (3e-12, DOES_NOT_HOLD), ({"a": 1e-16, "b": 0.2}, HOLDS_ONLY_IF)]
)
def test_exact_claims(effect, verdict):
    claim = Claim.exact(**about(Criterion("<", 1e-12), effect=effect, n=5))
    assert claim.verdict == verdict
    assert [part[2:] for part in claim.parts] == ([((1e-16, 1e-16), 5), ((0.2, 0.2), 5)] if claim.parts else [])
    assert all(part["n"] == 5 for part in bundle(claim)[MIME_TYPE]["parts"] or [bundle(claim)[MIME_TYPE]])


# What is shown


def test_text():
    claim = measured(1.98765, 2.76543, Criterion(">", 1, 0.1), unit="times")
    assert str(claim).splitlines() == [
        "Claim faster: Batch norm trains faster.",
        "  Criterion  > 1 by more than 0.1 (times)",
        "  Effect     2.38 (95 % interval 1.99 to 2.77)",
        "  Seeds      16",
        "  Source     ioffe2015batch",
        "  Verdict: holds",
    ]
    assert bundle(claim)["text/plain"] == str(claim)


@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        (Criterion(">", 1), "> 1"),
        (Criterion(">", 1, 0.25), "> 1 by more than 0.25"),
        (Criterion("<", 1, 0.25), "< 1 by more than 0.25"),
        (Criterion("<", 1e-12), "< 1e-12"),
        (Criterion("within", 0, 0.5), "within 0 ± 0.5"),
    ],
)
def test_text_of_a_criterion(criterion, text):
    assert str(criterion) == text


class Reader(HTMLParser):
    """Collects the classes, the header scopes and the text, and sees that every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.classes, self.attributes, self.text = [], [], set(), []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.classes += [value for name, value in attrs if name == "class"]
        assert tag != "th" or ("scope", "row") in attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.text.append(data)


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        (measured(*YES), "holds"),
        (measured(*NO), "does-not-hold"),
        (measured(*OPEN), "not-settled"),
        (with_parts(a=YES, b=NO), "holds-only-if"),
    ],
)
def test_html(claim, name):
    page = Reader(bundle(claim)["text/html"])
    assert page.classes == [f"bn-claim bn-{name}", "bn-claim-statement", "bn-claim-table", "bn-claim-verdict"]
    assert page.attributes == {"class", "scope"}  # no style
    cells = [text for row in claim._rows() for text in row]
    assert page.text == [claim.statement, *cells, f"Verdict: {claim._verdict_text()}"]


def test_parts_have_one_row_each():
    rows = with_parts(**{"depth 3": YES, "depth 12": NO})._rows()
    assert rows == [
        ("Criterion", "> 1"),
        ("depth 3", "1.75 (95 % interval 1.50 to 2.00): holds"),
        ("depth 12", "0.35 (95 % interval 0.20 to 0.50): does not hold"),
        ("Seeds", "12"),
        ("Source", "ioffe2015batch"),
    ]


def test_html_is_escaped():
    hostile = '<script>"a" & b</script>'
    effect = {hostile: Effect(2, 1.5, 3, 8), "else": Effect(0, 0, 0, 8)}
    claim = Claim.measured(**about(effect=effect, unit=hostile, statement=hostile, source=hostile))
    page = Reader(bundle(claim)["text/html"])  # as markup, the script would stand in place of the text
    assert page.text.count(hostile) == 3  # statement, condition, source
    assert any(hostile in text for text in page.text if text.startswith("> 1"))
    assert any(hostile in text for text in page.text if text.startswith("Verdict"))
    assert "<script" not in bundle(claim)["text/html"]


def test_json_holds_all_that_a_ledger_needs():
    claim = measured(1.98765, 2.76543, Criterion(">", 1, 0.1), unit="times")
    shown = bundle(claim)[MIME_TYPE]
    assert (
        json.loads(json.dumps(shown))
        == shown
        == {
            "id": "faster",
            "chapter": "08_training",
            "statement": "Batch norm trains faster.",
            "source": "ioffe2015batch",
            "criterion": {"operator": ">", "value": 1.0, "margin": 0.1, "text": "> 1 by more than 0.1 (times)"},
            "kind": "statistical",
            "unit": "times",
            "effect": 2.38,
            "interval": [1.99, 2.77],
            "n": 16,
            "text": "2.38 (95 % interval 1.99 to 2.77)",
            "parts": [],
            "verdict": "holds",
            "conditions": [],
        }
    )


def test_json_of_parts():
    shown = bundle(with_parts(a=YES, b=NO))[MIME_TYPE]
    assert [shown[key] for key in ("effect", "interval", "n", "text")] == [None] * 4
    assert shown["parts"][1] == {
        "condition": "b",
        "effect": 0.35,
        "interval": [0.2, 0.5],
        "n": 12,
        "text": "0.35 (95 % interval 0.20 to 0.50)",
        "verdict": "does not hold",
    }


@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_numpy_numbers_pass_into_json(number):
    effect = Effect(number(2), number(1.5), number(3), np.int64(16))  # pyright: ignore[reportArgumentType]
    json.dumps(bundle(Claim.measured(**about(Criterion(">", number(1), number(0)), effect=effect))))
    json.dumps(bundle(Claim.exact(**about(effect=number(2), n=np.int64(3)))))


# Rounding


@pytest.mark.parametrize(
    ("value", "precision", "result"),
    [
        (2.34567, 0.4, 2.35),
        (2.34567, 0.04, 2.346),
        (2.34567, 9.9, 2.3),
        (1234.5, 200, 1230),
        (0.000123456, 0.00002, 0.000123),
        (-0.0001, 0.3, 0.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_rounded(value, precision, result):
    assert rounded(value, precision) == result
    assert str(rounded(value, precision)) == str(float(result))  # no -0.0


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 0.125, 1.0, 1e5])
@pytest.mark.parametrize(
    "values",
    [
        (2.34567, 1.98765, 2.76543),
        (1.25, 1.15, 1.35),  # sides of a power of ten
        (0.125, -0.6, 0.9),  # a tie
        (1.0, 1.0, 1.0),
    ],
)
def test_the_twelfth_digit_is_not_shown(scale, values):
    def claim(noise):
        value, low, high = (scale * v * (1 + noise) for v in values)
        return Claim.measured(**about(Criterion(">", 0.3), effect=Effect(value, low, high, 16)))

    assert bundle(claim(1e-12)) == bundle(claim(-1e-12))


@pytest.mark.parametrize(
    ("effect", "low", "high", "text"),
    [
        (0.5, 0.41, 0.59, "0.500 (95 % interval 0.410 to 0.590)"),
        (1000.3, 10.2, 100000, "1000 (95 % interval 10 to 100000)"),  # the narrower side keeps the low bound alive
        (2.1e-9, 1.1e-9, 3.1e-9, "2.1e-09 (95 % interval 1.1e-09 to 3.1e-09)"),
        (2.5e7, 2.4e7, 2.6e7, "2.50e+07 (95 % interval 2.40e+07 to 2.60e+07)"),
        (0.6, 0.5, 0.7, "0.60 (95 % interval 0.50 to 0.70)"),
        (0.0, -0.031, 0.029, "0 (95 % interval -0.031 to 0.029)"),
        (0.1, 0.1, 0.1, "0.100 (95 % interval of no visible width)"),  # nothing is random
        (0.1, 0.1 - 1e-17, 0.1 + 2e-17, "0.100 (95 % interval of no visible width)"),
        (1 - 2e-9, 1 - 3e-9, 1 - 1e-9, "1.00 (95 % interval of no visible width)"),  # random far below the digits
        (0.0, 0.0, 0.0, "0 (95 % interval of no visible width)"),
        (1.0, 1.0, 1.25, "1.00 (95 % interval 1.00 to 1.25)"),  # one side alone is not a point
    ],
)
def test_digits_follow_the_interval(effect, low, high, text):
    for operator in ("<", ">"):  # only an identity hides how far below it lies
        claim = Claim.measured(**about(Criterion(operator, 0.8), effect=Effect(effect, low, high, 8)))
        assert bundle(claim)[MIME_TYPE]["text"] == text


def test_below_the_criterion_is_all_that_an_identity_shows():
    claims = [Claim.exact(**about(Criterion("<", 1e-12), effect=e, unit="nats")) for e in (3.1e-17, 8.2e-15, 0.0)]
    assert bundle(claims[0]) == bundle(claims[1]) == bundle(claims[2])
    shown = bundle(claims[0])[MIME_TYPE]
    assert (shown["effect"], shown["interval"], shown["text"]) == (None, None, "< 1e-12")
    assert "e-17" not in json.dumps(bundle(claims[0]))


def test_below_the_criterion_part_by_part():
    shown = bundle(Claim.exact(**about(Criterion("<", 1e-12), effect={"a": 3e-17, "b": 0.0213}, n=4)))[MIME_TYPE]
    assert [(p["effect"], p["text"]) for p in shown["parts"]] == [(None, "< 1e-12"), (0.0213, "0.0213")]


@pytest.mark.parametrize(
    ("criterion", "effect", "text"),
    [
        (Criterion("<", 1e-12), 3.14159e-12, "3.14e-12"),
        (Criterion("<", 1e-12), 1e-12, "1.00e-12"),
        (Criterion("within", 0, 1e-12), 3.1e-17, "0"),
        (Criterion("within", 1, 1e-12), 1 + 2e-16, "1.00"),
        (Criterion("within", 1, 0.1), 1.0321, "1.03"),
        (Criterion(">", 0.5), 0.98765, "0.988"),
    ],
)
def test_other_exact_effects_have_three_digits(criterion, effect, text):
    assert bundle(Claim.exact(**about(criterion, effect=effect)))[MIME_TYPE]["text"] == text


# Bad input


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((">=", 1), r"operator is '>=': choose one of \('>', '<', 'within'\)"),
        ((">", float("nan")), "value is nan"),
        (("<", float("inf")), "value is inf"),
        (("within", 1, -0.1), "margin -0.1: both must be finite, the margin >= 0"),
        (("within", 1, float("nan")), "margin nan"),
    ],
)
def test_criterion_rejects(args, message):
    with pytest.raises(ValueError, match=message):
        Criterion(*args)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "vague"}, r"'faster' has kind 'vague': choose one of \('exact', 'statistical'\)"),
        ({"interval": (3.0, 1.5)}, r"effect 2.0 and interval \(3.0, 1.5\).*low <= effect <= high"),
        ({"interval": (2.5, 3.0)}, r"effect 2.0 and interval \(2.5, 3.0\)"),
        ({"interval": (1.0, 1.5)}, r"effect 2.0 and interval \(1.0, 1.5\)"),
        ({"effect": float("nan")}, "effect nan and interval"),
        ({"interval": (float("nan"), 3.0)}, "effect 2.0 and interval"),
        ({"interval": (1.0, float("inf"))}, "give finite numbers"),
        ({"n": 7}, "n = 7: a statistical claim needs at least 8 seeds"),
        ({"kind": "exact"}, r"is exact, but has interval \(1.5, 3.0\): leave the interval out"),
        ({"effect": None}, "give an effect with its interval, or parts"),
        ({"interval": None}, "give an effect with its interval, or parts"),
        ({"effect": None, "interval": None}, "and 0 parts: give an effect with its interval, or parts"),
        ({"effect": 5.0, "parts": (Part("deep", 2.0, (1.5, 3.0), 8),)}, "claim 'faster' has effect 5.0"),
        ({"effect": None, "parts": (Part("deep", 2.0, (1.5, 3.0), 8),)}, "effect None, interval .* and 1 parts: give"),
        ({"parts": (Part("deep", 2.0, (2.5, 3.0), 8),)}, "claim 'faster', deep, has effect 2.0"),
        ({"parts": (Part("deep", 2.0, (1.5, 3.0), 7),)}, "claim 'faster', deep, has n = 7"),
    ],
)
def test_claim_rejects(change, message):
    good = about(kind="statistical", effect=2.0, interval=(1.5, 3.0), n=8)
    Claim(**good)
    with pytest.raises(ValueError, match=message):
        Claim(**(good | change))


@pytest.mark.parametrize("make", [Claim.measured, Claim.exact])
def test_an_empty_dict_of_effects_is_rejected(make):
    with pytest.raises(ValueError, match="and 0 parts"):
        make(**about(effect={}))


def test_a_claim_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        measured(*YES).effect = 3.0  # pyright: ignore[reportAttributeAccessIssue]


PART = Part("a", 1.5, (1.2, 1.8), 9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Criterion(">", "1"), r"value is '1' and margin 0\.0: both must be finite"),  # pyright: ignore
        (lambda: Criterion(">", None), "value is None"),  # pyright: ignore
        (lambda: Criterion(">", 1.0, "0"), "margin '0'"),  # pyright: ignore
        (lambda: Criterion([], 1.0), "operator is a list of 0: choose"),  # pyright: ignore
        (lambda: ABOVE_1.judge(2, 1), "low is 2 and high 1: give two numbers, the smaller first"),
        (lambda: ABOVE_1.judge(float("nan"), 1), "low is nan"),
        (lambda: Claim.measured(**about(effect=2.0)), r"effect is 2\.0: give what bnlib\.paired returns"),
        (lambda: Claim.measured(**about(effect={"a": 2.0})), r"effect is 2\.0: give what"),
        (lambda: Claim.exact(**about(effect="2")), "has effect '2' and interval"),
        (lambda: Claim.exact(**about(">1", effect=2.0)), "has criterion '>1': make one"),  # pyright: ignore
        (lambda: Claim.exact(**about(None, effect=2.0)), "has criterion None"),  # pyright: ignore
        (lambda: Claim(kind="exact", **about(effect=2.0, interval=2.0)), r"has interval 2\.0: give a pair"),
        (lambda: Claim(kind="exact", **about(effect=2.0, interval=(1, 2, 3))), "has interval a tuple of 3"),
        (lambda: Claim(kind="statistical", **about(parts=[PART])), "has parts a list of 1: give a tuple of Part"),
        (lambda: Claim(kind="statistical", **about(parts=(1,))), "has parts a tuple of 1"),
        (lambda: Claim(kind=None, **about(effect=2.0)), "has kind None: choose"),  # pyright: ignore
        *(
            (lambda n=n: Claim.exact(**about(effect=2.0, n=n)), f"has n = {n!r}: give the number")
            for n in ("3", 0, 9.5)
        ),
    ],
)
def test_what_is_no_claim_names_value_and_remedy(call, words):
    with pytest.raises(ValueError, match=words):
        call()
