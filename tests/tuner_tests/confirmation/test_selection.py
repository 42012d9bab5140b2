from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from tests.tuner_tests.spaces import make_space
from tuner.confirmation.retraining import choose

OBJECTIVES = "objectives: [clean_accuracy, robust_accuracy]"


def rows_of(*scores: float) -> list[dict[str, Any]]:
    return [
        {"trial": number, "status": "complete", "validation.tradeoff_score": score}
        for number, score in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("top", "expected"), [(1, [2]), (3, [2, 0, 1]), ("front", [2, 0]), (9, [2, 0, 1, 3])]
)
def test_members_of_the_front_come_first_then_the_ranking_decides(
    top: int | Literal["front"], expected: list[int], tmp_path: Path
) -> None:
    rows = rows_of(0.1, 0.4, 0.3, 0.2)
    assert choose(rows, {0, 2}, make_space(tmp_path), top) == expected


def test_infeasible_trials_are_chosen_last(tmp_path: Path) -> None:
    constraints = f"{OBJECTIVES}\nconstraints: [clean_accuracy >= 0.5]"
    rows = rows_of(0.9, 0.1, 0.2)
    for row, clean in zip(rows, (0.4, 0.6, 0.7), strict=True):
        row["validation.clean_accuracy"] = clean
    assert choose(rows, {1}, make_space(tmp_path, (OBJECTIVES, constraints)), 3) == [1, 2, 0]


def test_without_a_complete_trial_nothing_is_chosen(tmp_path: Path) -> None:
    for top in (3, "front"):
        assert choose([], set(), make_space(tmp_path), top) == []
