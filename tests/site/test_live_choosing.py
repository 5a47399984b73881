"""Chapter 17's questions: every way through them ends in an advice, and the page walks it as the list says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Locator, Page, expect

from _ext import ledger
from tests.site.conftest import ROOT
from tests.site.live import STATES, live, words

STATE = STATES["fig-questions"]
QUESTIONS: list[dict[str, Any]] = STATE["questions"]


def ways(
    question: int = 1, ahead: tuple[int, ...] | None = None, done: tuple[tuple[int, int], ...] = ()
) -> Iterator[tuple]:
    """All ways through the questions, each the pairs of question and answer that it has; both count from 1.

    Once an answer has named questions, no others are asked.
    """
    for number, answer in enumerate(QUESTIONS[question - 1]["answers"], 1):
        so, to = (*done, (question, number)), answer["to"]
        named = None if to in ("on", "done") else tuple(int(one) for one in to.split(", "))
        later = ahead if named is None else tuple(one for one in named if ahead is None or one in ahead)
        if to == "done" or later == ():
            yield so
        else:
            yield from ways(question + 1, None, so) if later is None else ways(later[0], later[1:], so)


WAYS = list(ways())


def answer(question: int, number: int) -> dict[str, str]:
    return QUESTIONS[question - 1]["answers"][number - 1]


def advice(way: tuple) -> list[str]:
    return [text for pair in way if (text := answer(*pair)["advice"])]


def plain(text: str) -> str:
    """As it reads on the page: code and links without their marks."""
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text).replace("`", "")


@pytest.fixture
def flow(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-questions")


def walk(figure: Locator, way: tuple) -> None:
    for question, number in way:
        group = figure.get_by_role("group", name=QUESTIONS[question - 1]["ask"], exact=True)
        group.get_by_role("button", name=answer(question, number)["label"], exact=True).click()


def ends(figure: Locator, way: tuple) -> None:
    """The figure stands at the way's end: the answers are listed, and the advice is what the notebook says."""
    asked = [f"{QUESTIONS[q - 1]['ask']} {answer(q, a)['label']}" for q, a in way]
    assert figure.locator(".bn-flow ol").first.get_by_role("button").all_inner_texts() == asked
    assert figure.locator(".bn-flow ul li").all_inner_texts() == [plain(text) for text in advice(way)]
    expect(figure.get_by_role("button", name="start again")).to_be_visible()


def test_every_way_ends_in_an_advice_and_ways_go_forward():
    assert len(WAYS) > 30
    for way in WAYS:
        assert advice(way), way
        assert [question for question, _ in way] == sorted({question for question, _ in way})
    assert {pair for way in WAYS for pair in way} == {
        (q, a) for q, one in enumerate(QUESTIONS, 1) for a in range(1, len(one["answers"]) + 1)
    }


def test_who_may_not_take_batch_norm_is_not_asked_about_it():
    for way in WAYS:
        if dict(way)[1] < 3:
            assert {question for question, _ in way} <= {1, 2, 4, 6}, way
            assert advice(way)[0].startswith("No batch norm"), way


def test_the_page_goes_every_way(live_page: Page, flow: Locator):
    answers = [[dict(way).get(question, 0) for question in range(1, len(QUESTIONS) + 1)] for way in WAYS]
    there = live_page.evaluate(
        "([questions, all]) => import('/_static/figures/choosing.js').then(({ way }) => "
        "all.map((answers) => way(questions, answers)))",
        [QUESTIONS, answers],
    )
    for way, found in zip(WAYS, there, strict=True):
        assert found["open"] is None
        assert [(q + 1, a) for q, a in found["answered"]] == [(q, answer(q, number)) for q, number in way]


@pytest.mark.parametrize(
    "way", [max(WAYS, key=len), next(way for way in WAYS if dict(way)[1] == 3 and dict(way).get(4) == 1)]
)
def test_two_ways_walked_by_the_buttons(flow: Locator, way: tuple):
    walk(flow, way)
    ends(flow, way)
    named = {name for text in advice(way) for name in re.findall(r"`([a-z][a-z-]*)`", text)}
    assert f"The advice rests on {len(named)} claim" in words(flow)
    links = [link.get_attribute("href") for link in flow.locator(".bn-flow ul a:has(code)").all()]
    assert set(links) == {f"ledger.html#claim-{name}" for name in named}


def test_an_answer_can_be_taken_back_and_the_address_keeps_the_way(live_page: Page, flow: Locator, address: str):
    way = next(way for way in WAYS if dict(way)[1] == 3 and dict(way).get(2) == 2)
    walk(flow, way)
    again = live(live_page, address, "fig-questions", state=live_page.url.split("~")[1])
    ends(again, way)
    again.get_by_role("button", name=QUESTIONS[1]["ask"]).click()
    assert words(again) == "1 question answered, now question 2 of 7."
    recurrent = next(other for other in WAYS if other[0] == way[0] and dict(other).get(2) == 3)
    walk(again, recurrent[1:])
    ends(again, recurrent)
    again.get_by_role("button", name="start again").click()
    assert words(again) == "0 questions answered, now question 1 of 7."


def test_the_list_on_the_page_is_the_same_and_its_claims_lead_to_cards(site: Path):
    page = BeautifulSoup((site / "chapters/17_choosing.html").read_text("utf-8"), "html.parser")
    [section] = page.select("#seven-questions")
    told = " ".join(section.get_text(" ").split())
    squeezed = re.sub(r"\W", "", told)
    known = {claim["id"]: f"{claim['page']}.html#claim-{claim['id']}" for claim in ledger.gather(ROOT / "chapters")}
    for one in QUESTIONS:
        assert re.sub(r"\W", "", one["ask"]) in squeezed
        for given in one["answers"]:
            assert re.sub(r"\W", "", given["label"] + plain(given["advice"])) in squeezed
            for name in re.findall(r"`([a-z][a-z-]*)`", given["advice"]):
                assert page.select(f'#seven-questions li a[href="{known[name]}"]'), name
    assert "](" not in told
    rows = BeautifulSoup((site / "chapters/ledger.html").read_text("utf-8"), "html.parser")
    assert all(rows.find(id=f"claim-{name}") for name in known)
