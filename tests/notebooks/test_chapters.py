"""The guard over every chapter."""

import pytest

from tools.notebooks import files, guard

CHAPTERS = files.chapters()


def test_there_are_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_no_fault(path):
    assert [str(fault) for fault in guard.guard([path])] == []
