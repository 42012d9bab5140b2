from __future__ import annotations

from pathlib import Path

import pytest

from tuner.space import load_space

FOLDER = Path(__file__).parents[2] / "search_spaces"
SPACES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_search_spaces() -> None:
    assert {path.stem for path in SPACES} >= {"smoke", "th_alpha"}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_search_space_is_accepted(path: Path) -> None:
    assert load_space(path).objectives


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_search_space_is_named_like_its_file(path: Path) -> None:
    assert load_space(path).name == path.stem


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_search_space_begins_with_its_question(path: Path) -> None:
    comment = path.read_text(encoding="utf-8").partition("\nname:")[0]
    assert "?" in comment
    assert all(line.startswith("#") for line in comment.splitlines())
