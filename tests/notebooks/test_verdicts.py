"""The verdicts in the chapters' outputs can be listed, compared with those of a commit, and are what records say."""

import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode

from bnlib.claims import MIME_TYPE, Claim
from bnlib.lab import records
from bnlib.lab.comparisons import Comparison
from bnlib.lab.experiments.__main__ import EXPERIMENTS
from tools.notebooks import verdicts
from tools.notebooks.__main__ import main
from tools.notebooks.files import chapters, code_cells, read, write

CARD = 6
Save = Callable[[NotebookNode], Path]


def claim(nb: NotebookNode, **changed: object) -> NotebookNode:
    """The notebook with this claim in its last cell."""
    data = {"id": "toy", "headline": "holds for depth 3; fails for depth 12", "effect": 0.25}
    nb.cells[CARD].outputs[0].data[MIME_TYPE] = data | changed
    return nb


@pytest.fixture
def chapter(good: NotebookNode, commit: Callable[[NotebookNode], Path]) -> Path:
    """A committed chapter with a claim."""
    return commit(claim(good))


def test_a_line_for_each_claim(good: NotebookNode):
    assert verdicts.verdicts(claim(good)) == ["toy: holds for depth 3; fails for depth 12"]
    good.cells[CARD].outputs = []
    assert verdicts.verdicts(good) == []


def test_the_same_verdicts_pass(chapter: Path, good: NotebookNode, save: Save, capsys):
    save(claim(good, effect=0.26))  # other digits are no other verdict
    assert main(["verdicts", str(chapter), "--against", "HEAD"]) == 0
    assert tuple(capsys.readouterr()) == ("chapter: toy: holds for depth 3; fails for depth 12\n", "")


@pytest.mark.parametrize(
    ("changed", "now"),
    [
        ({"headline": "holds"}, "toy: holds"),
        ({"id": "other"}, "other: holds for depth 3; fails for depth 12"),
    ],
)
def test_another_verdict_fails_and_is_shown(
    chapter: Path, good: NotebookNode, save: Save, capsys, changed: dict[str, object], now: str
):
    save(claim(good, **changed))
    assert main(["verdicts", str(chapter), "--against", "HEAD"]) == 1
    shown = capsys.readouterr()
    assert shown.out == f"chapter: {now}\n"
    assert "chapter: HEAD says toy: holds for depth 3; fails for depth 12\n" in shown.err
    assert f"chapter: HEAD does not say {now}\n" in shown.err


def test_a_claim_that_is_gone_fails(chapter: Path, good: NotebookNode, save: Save, capsys):
    good.cells[CARD].outputs = []
    save(good)
    assert main(["verdicts", str(chapter), "--against", "HEAD"]) == 1
    assert main(["verdicts", str(chapter)]) == 0


def test_a_chapter_that_the_commit_does_not_have_differs(chapter: Path, tmp_path: Path):
    new = tmp_path / "new.ipynb"
    new.write_bytes(chapter.read_bytes())
    assert main(["verdicts", str(new), "--against", "HEAD"]) == 1


def test_a_commit_that_is_not_there_is_an_error(chapter: Path):
    with pytest.raises(subprocess.CalledProcessError):
        main(["verdicts", str(chapter), "--against", "nowhere"])


# From the seeds in the records


COMPARISONS = [c for c in EXPERIMENTS.values() if isinstance(c, Comparison)]


def as_cards(claims: dict[str, Claim]) -> dict[str, Any]:
    return json.loads(json.dumps({id: claim._repr_mimebundle_()[MIME_TYPE] for id, claim in claims.items()}))


def judged_again() -> dict[str, Any]:
    """What each record's seeds say of its claims, as their cards hold it, but for chapters that are to be written."""
    found, written = {}, {path.stem for path in chapters()}
    for comparison in COMPARISONS:
        if (records.RESULTS / f"{comparison.id}.json").exists():
            claims = comparison.claims(records.read(comparison.id, records.load(comparison.id)))
            found |= as_cards({id: claim for id, claim in claims.items() if claim.chapter in written})
    return found


def shown(paths: Iterable[Path]) -> dict[str, Any]:
    """What the chapters' cards hold, of the claims that have a record."""
    outputs = [output for path in paths for _, cell in code_cells(read(path)) for output in cell.outputs]
    cards = [data[MIME_TYPE] for output in outputs if MIME_TYPE in (data := output.get("data", {}))]
    asked = {question.id for comparison in COMPARISONS for question in comparison.questions}
    return json.loads(json.dumps({c["id"]: c for c in cards if c["id"] in asked}))


def test_every_verdict_of_a_record_is_what_its_seeds_say():
    assert shown(chapters()) == judged_again()


def test_a_tampered_verdict_is_found(tmp_path: Path):
    again, tried = judged_again(), 0
    for path in chapters():
        for id in shown([path]):
            nb = read(path)
            for _, cell in code_cells(nb):
                for output in cell.outputs:
                    if output.get("data", {}).get(MIME_TYPE, {}).get("id") == id:
                        output.data[MIME_TYPE]["parts"][0]["verdict"] = "holds, of course"
            write(nb, tmp_path / path.name)
            assert shown([tmp_path / path.name])[id] != again[id]
            tried += 1
    assert tried
