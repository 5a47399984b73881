"""Comparisons: picks on the selection seeds, more seeds only where a question is open, and the same after a stop."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import parallel_config

from bnlib.claims import AT_THE_MARGIN, HOLDS, SAME, more, same
from bnlib.lab import records
from bnlib.lab.comparisons import SELECTION, Arm, Comparison, Question, _word, middle
from bnlib.lab.records import Settings, Values, load, measure, measured, read

CALLS: list[list[Settings]] = []


def noise(seed: int, *key: int) -> float:
    return float(np.random.default_rng([seed, *key]).normal())


def toy(*, arm: int, size: float, runs: list[Settings]) -> Values:
    """An accuracy that is best at lr 1 and gain 2, and in which the arms differ by size."""
    CALLS.append(runs)
    at = [0.3 * abs(np.log10(run["lr"])) + 0.1 * abs(run.get("gain", 2.0) - 2.0) for run in runs]
    own = [0.7 + size * arm - away + 0.004 * noise(run["seed"], arm) for run, away in zip(runs, at, strict=True)]
    return {"val": own, "test": own}


def arms(sizes: dict[str, float], lrs: list[float]) -> Iterator[Arm]:
    for name, size in sizes.items():
        for arm in (0, 1):
            yield Arm({"net": name, "arm": arm}, {"arm": arm, "size": size}, {"gain": [1.0, 2.0, 4.0], "lr": lrs})


def question(**own: Any) -> Question:
    about = {"id": "toy", "chapter": "08_training", "statement": "S.", "source": "T.", "criterion": more("accuracy")}
    return Question(**{"parts": {"clear": pair("clear"), "tight": pair("tight")}, **about, **own})


def pair(net: str) -> tuple[Settings, Settings]:
    return {"net": net, "arm": 1}, {"net": net, "arm": 0}


# With a spread of 0.0057, a difference of 0.1 is settled by 8 seeds, and one of 0.01 is not by 64.
TOY = Comparison(
    "toy", arms, toy,
    {"seeds": 64, "sizes": {"clear": 0.1, "tight": 0.01, "shown": 0.0}, "lrs": [0.1, 1.0, 10.0]},
    {"seeds": 2, "sizes": {"clear": 0.1}},
    [question(others={"shown": pair("shown")})],
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is left, and all is run in this process."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(records, "UNFINISHED", tmp_path / "unfinished")
    CALLS.clear()
    with parallel_config(backend="sequential"):
        yield


def record_of(comparison: Comparison) -> dict[str, Any]:
    measure(comparison, jobs=1)
    return load(comparison.id)


def seeds_of(record: dict[str, Any], net: str) -> list[list[int]]:
    return [v["labels"]["seeds"] for v in record["values"] if v["labels"]["net"] == net and v["labels"]["arm"] == 0]


def test_only_what_is_open_gets_more_seeds():
    record = record_of(TOY)
    assert seeds_of(record, "clear") == [[0, 8]]
    assert seeds_of(record, "tight") == [[0, 8], [8, 16], [16, 32], [32, 64]]
    assert seeds_of(record, "shown") == [[0, 8], [8, 16]]
    claim = TOY.claims(read("toy", record))["toy"]
    assert [(part.condition, part.verdict, part.n) for part in claim.parts] == [
        ("clear", HOLDS, 8),
        ("tight", AT_THE_MARGIN, 64),
    ]
    assert [(part.condition, part.verdict, part.n) for part in claim.others] == [("shown", "", 16)]


def test_the_pick_is_that_of_the_selection_seeds_and_they_are_not_reported():
    record = record_of(TOY)
    assert [(pick["gain"], pick["lr"], pick["edge"]) for pick in record["picks"]] == [(2.0, 1.0, [])] * 6
    picking, reported = (
        [run for runs in CALLS for run in runs if (run["seed"] in SELECTION) == chosen] for chosen in (True, False)
    )
    assert {run["seed"] for run in reported} == set(range(64))
    # All nine points by two seeds, and the best four by the other six.
    assert len(picking) == 6 * (9 * 2 + 4 * 6)
    assert {run["seed"] for run in picking if (run["gain"], run["lr"]) == (2.0, 1.0)} == set(SELECTION)
    assert {run["seed"] for run in picking if (run["gain"], run["lr"]) == (4.0, 10.0)} == set(SELECTION[:2])
    first = record["picks"][0]
    grid = np.array(first["grid"])
    assert grid.shape == (3, 3)
    for gain, lr, seeds in ((4.0, 10.0, SELECTION[:2]), (2.0, 1.0, SELECTION)):
        expected = np.mean([toy(arm=0, size=0.1, runs=[{"seed": s, "lr": lr, "gain": gain}])["val"] for s in seeds])
        assert grid[[1.0, 2.0, 4.0].index(gain), [0.1, 1.0, 10.0].index(lr)] == pytest.approx(expected)
    assert first["near"] == pytest.approx(0.3)  # a neighbour in lr, over the seeds that both ran
    # All at the pick, in the order of the seeds.
    values = read("toy", record).get("test", net="tight", arm=1)
    assert values == pytest.approx([0.71 + 0.004 * noise(seed, 1) for seed in range(64)])


def test_a_pick_at_the_edge_of_its_grid_is_said_on_the_card():
    comparison = replace(TOY, settings={**TOY.settings, "lrs": [1.0, 10.0], "seeds": 8})
    claim = comparison.claims(read("toy", record_of(comparison)))["toy"]
    assert claim.notes == ("lr picked at the edge of the grid: clear, 1; clear, 0; tight, 1; tight, 0",)
    assert f"Note: {claim.notes[0]}" in claim._html()
    assert not any("shown" in note for note in claim.notes)


def test_what_was_picked_is_on_the_card_with_the_next_rate():
    claim = TOY.claims(read("toy", record_of(TOY)))["toy"]
    assert claim.picked[:2] == (
        "clear, 1: gain 2, lr 1 (at the next lr 0.300 less)",
        "clear, 0: gain 2, lr 1 (at the next lr 0.300 less)",
    )
    assert not any("shown" in text for text in claim.picked)
    assert f"<li>{claim.picked[0]}</li>" in claim._html()
    assert claim.picked[0] not in str(claim)
    assert claim._json()["picked"] == list(claim.picked)
    fixed = replace(TOY, settings={**TOY.settings, "lrs": [1.0]})
    picked = fixed.claims(read("toy", record_of(fixed)))["toy"].picked
    assert picked[0] == "clear, 1: gain 2, lr 1"  # with no next rate
    words = _word("changes", ["faint", "noise"]), _word("hold", True), _word("hold", False), _word("depth", 8)
    assert words == ("faint, noise", "hold", "not hold", "8")
    one = replace(TOY, questions=[question(parts={"": ({"net": "clear", "arm": 1},)}, how="mean")])
    assert one.claims(read("toy", record_of(one)))["toy"].picked[0].startswith("all: gain 2")


def steps(*, arm: int, steps: int, runs: list[Settings]) -> Values:
    """Steps to a goal: at lr 1 some do not arrive, at lr 10 all do but late, at lr 100 none does."""
    by_lr = {1.0: [10, 20, None, None], 10.0: [30, 30, 30, 30], 100.0: [None] * 4}
    return {"steps_to": [by_lr[run["lr"]][run["seed"] % 4] for run in runs]}


@pytest.mark.parametrize(("budget", "best"), [(100, 10.0), (40, 1.0)])
def test_a_pick_by_steps_counts_who_does_not_arrive_as_all_steps(budget: int, best: float):
    # At lr 1 the geometric mean is (10 * 20 * budget**2) ** 0.25: 37.6 of 100, 23.8 of 40; at lr 10 it is 30.
    grid = {"lr": [1.0, 10.0, 100.0]}
    comparison = Comparison(
        "steps", lambda: [Arm({"arm": 0}, {"arm": 0, "steps": budget}, grid, "steps_to")], steps, {"seeds": 8}, {}, []
    )
    pick = record_of(replace(comparison, live={"seeds": 2}))["picks"][0]
    assert pick["lr"] == best
    assert pick["grid"] == pytest.approx([(200 * budget**2) ** 0.25, 30, budget])
    ask = question(parts={"": ({"arm": 0},)}, how="mean", of="steps_to", criterion=more("ratio", 1.0))
    next_best = {100: 30 / (200 * budget**2) ** 0.25, 40: (200 * budget**2) ** 0.25 / 30}[budget] ** -1
    (text,) = ask.picked(read("steps", record_of(replace(comparison, live={"seeds": 2}))))
    assert text == f"all: lr {best:g} (at the next lr {next_best:.2f} times the updates)"


def test_other_data_get_as_many_seeds_as_they_need():
    comparison = replace(
        TOY,
        questions=[question(parts={"clear": pair("clear")}, transfers={"others": {"clear": pair("tight")}})],
    )
    record = record_of(comparison)
    assert seeds_of(record, "tight")[-1] == [32, 64]
    assert seeds_of(record, "shown") == [[0, 8]]
    (moved,) = comparison.claims(read("toy", record))["toy"].transfers
    assert (moved.data, moved.condition, moved.n) == ("others", "clear", 64)


def test_a_stopped_measurement_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch):
    whole = record_of(TOY)
    all_calls = len(CALLS)
    CALLS.clear()
    (records.RESULTS / "toy.json").unlink()

    def stopped(**given: Any) -> Values:
        if any(run["seed"] == 20 for run in given["runs"]):
            raise KeyboardInterrupt
        return toy(**given)

    with pytest.raises(KeyboardInterrupt):
        measure(replace(TOY, run=stopped), jobs=1)
    before = len(CALLS)
    assert record_of(TOY) == whole
    assert len(CALLS) == all_calls + 2  # the slice was run twice
    assert before < len(CALLS)


def test_a_record_that_lacks_seeds_goes_on_with_what_it_has():
    few = replace(TOY, settings={**TOY.settings, "seeds": 8})
    measure(few, jobs=1)
    record = json.loads((records.RESULTS / "toy.json").read_text("utf-8"))
    assert TOY.lacking(read("toy", record), 64) == ["toy"]
    assert TOY.lacking(read("toy", record), 8) == []
    record["settings"]["seeds"] = 64  # as if it had been asked for so many, and other rules had settled it
    (records.RESULTS / "toy.json").write_text(json.dumps(record), "utf-8")
    CALLS.clear()
    longer = record_of(TOY)
    runs = [run for runs in CALLS for run in runs]
    assert not any(run["seed"] in SELECTION for run in runs)
    assert min(run["seed"] for run in runs[4:]) == 8  # before them the slice, two arms of two seeds
    assert TOY.lacking(read("toy", longer), 64) == []
    CALLS.clear()
    assert measure(TOY, jobs=1, again=True).read_text("utf-8") == records._text(longer)
    assert {run["seed"] for runs in CALLS for run in runs} == {*SELECTION, *range(64)}


def test_the_slice_is_at_the_middle_of_each_grid_and_is_run_live():
    record = record_of(TOY)
    assert [case["labels"] for case in record["slice"]] == [{"net": "clear", "arm": 0}, {"net": "clear", "arm": 1}]
    assert record["slice"][1]["values"]["test"] == pytest.approx([0.8 + 0.004 * noise(seed, 1) for seed in (0, 1)])
    assert middle({"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0]}) == {"a": 2.0, "b": 2.0}
    CALLS.clear()
    found = measured(TOY, **TOY.settings)
    assert [len(runs) for runs in CALLS] == [2, 2]
    assert found.picked(net="tight", arm=1)["lr"] == 1.0
    changed = replace(TOY, run=lambda **given: {k: [v + 0.1 for v in vs] for k, vs in toy(**given).items()})
    with pytest.raises(records.StaleRecordError, match="the slice of 'toy' gives test"):
        measured(changed, **TOY.settings)


def test_live_runs_picks_and_seeds_or_the_middle_of_the_grid():
    eight = measured(TOY, live=True, **{**TOY.settings, "seeds": 8})
    assert eight.get("test", net="tight", arm=0).shape == (8,)
    assert eight.picked(net="tight", arm=0)["gain"] == 2.0
    two = measured(TOY, live=True, **{**TOY.settings, "seeds": 2})
    assert (two.get("test", net="tight", arm=0).shape, two.picks) == ((2,), [])
    with pytest.raises(ValueError, match=r"seeds is 12: choose one of \[8, 16, 32, 64\], or fewer"):
        measured(TOY, live=True, **{**TOY.settings, "seeds": 12})


def test_what_a_question_may_ask():
    record = read("toy", record_of(TOY))
    alone = question(parts={"clear": ({"net": "clear", "arm": 1},)}, how="mean", criterion=more("accuracy", 0.79))
    assert alone.judge(record).verdict == HOLDS
    assert question(how="ratio").effect(record, pair("clear")).value == pytest.approx(8 / 7, abs=0.02)
    equal = question(parts={"shown": pair("shown")}, criterion=same("accuracy"))
    assert equal.judge(record).parts[0].verdict in (HOLDS, SAME)
    with pytest.raises(ValueError, match="how is 'sum': choose 'difference', 'ratio' or 'mean'"):
        question(how="sum").effect(record, pair("clear"))
    with pytest.raises(KeyError, match=r"record 'toy' has 0 picks with \{'net': 'other'\}"):
        record.picked(net="other")


def test_one_training_may_be_judged_in_two_ways():
    def twice(**given: Any) -> Values:
        values = toy(**given)
        late = [v - 0.01 + 0.004 * noise(run["seed"], 7) for v, run in zip(values["val"], given["runs"], strict=True)]
        return values | {"late": late}

    one = {"net": "clear", "arm": 1}
    parts = {"late": (one | {"of": "val"}, one | {"of": "late"}), "other net": pair("clear")}
    settings = {**TOY.settings, "lrs": [1.0, 10.0]}
    comparison = replace(TOY, run=twice, settings=settings, questions=[question(parts=parts)])
    record = record_of(comparison)
    values = [v["values"]["late"] for v in record["values"] if v["labels"]["net"] == "clear" and v["labels"]["arm"]]
    assert [len(v) for v in values] == [8, 8, 16, 32]  # of that arm alone: the other part is settled by 8
    assert seeds_of(record, "clear") == [[0, 8]]
    claim = comparison.claims(read("toy", record))["toy"]
    late = next(part for part in claim.parts if part.condition == "late")
    assert late.verdict == AT_THE_MARGIN
    expected = np.mean([0.01 - 0.004 * noise(seed, 7) for seed in range(64)])
    assert late.value == pytest.approx(expected, abs=1e-3)
    assert claim.notes == ("lr picked at the edge of the grid: 1; 0",)
    assert comparison.lacking(read("toy", record), 64) == []


def test_a_grid_without_a_value_is_a_clear_error():
    empty = replace(TOY, settings={**TOY.settings, "lrs": []})
    with pytest.raises(ValueError, match=r"the grid of .* give each a value"):
        measured(empty, live=True, **empty.settings)


def test_the_file_is_the_same_each_time():
    record_of(TOY)
    first = (records.RESULTS / "toy.json").read_bytes()
    record_of(TOY)
    assert (records.RESULTS / "toy.json").read_bytes() == first
    assert set(json.loads(first)) == {"id", "settings", "slice", "picks", "values"}
