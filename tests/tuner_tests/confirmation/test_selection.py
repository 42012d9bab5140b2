from __future__ import annotations

from typing import Any, Literal

import pytest

from simreg_core.results.delivered import Delivered, delivered
from simreg_core.results.objectives import objective
from tuner.confirmation.retraining import choose


def front(*values: tuple[float, float]) -> Delivered:
    rows: list[dict[str, Any]] = [
        {
            "trial": number,
            "status": "complete",
            "validation.clean_accuracy": clean,
            "validation.robust_accuracy": robust,
            "validation.tradeoff_score": clean + robust,
        }
        for number, (clean, robust) in enumerate(values)
    ]
    metrics = [objective("clean_accuracy"), objective("robust_accuracy")]
    return delivered({}, rows, [], metrics, ranking=objective("tradeoff_score"))


@pytest.mark.parametrize(
    ("top", "expected"), [(1, [2]), (3, [2, 0, 1]), ("front", [2, 0]), (9, [2, 0, 1, 3])]
)
def test_members_of_the_front_come_first_then_the_ranking_decides(
    top: int | Literal["front"], expected: list[int]
) -> None:
    found = front((0.9, 0.1), (0.7, 0.6), (0.8, 0.7), (0.1, 0.1))
    assert choose(found, top) == expected


@pytest.mark.parametrize("top", [3, "front"])
def test_without_a_complete_trial_nothing_is_chosen(top: int | Literal["front"]) -> None:
    assert choose(front(), top) == []
