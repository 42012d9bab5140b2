from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.pareto.text import pareto_text
from tests.analysis_tests.result_rows import (
    alpha_rows,
    confirmation_rows,
    ended_row,
    info_of,
    write_part,
)

FIRST, SECOND, THIRD = alpha_rows()
TRIALS = [FIRST, SECOND | {"regularizer.alpha": 0.123456}, THIRD, ended_row(3, "failed", "x")]


def lines(folder: Path, **options: Any) -> list[str]:
    return pareto_text(info_of(folder, TRIALS, **options)).splitlines()


def test_table_of_the_front(tmp_path: Path) -> None:
    header, *rows = lines(tmp_path)[3:6]
    assert header.split("  ")[-1].strip() == "tradeoff score"
    assert [row.split() for row in rows] == [
        ["1", "0.1235", "0.8000", "±", "0.0400", "0.7000", "±", "0.0458", "0.1600"],
        ["0", "1", "0.9000", "±", "0.0300", "0.5000", "±", "0.0500", "0.0600"],
    ]
    assert len({len(line) for line in (header, *rows)}) == 1


def test_score_is_not_printed_twice(tmp_path: Path) -> None:
    assert lines(tmp_path, x="tradeoff_score")[3].count("tradeoff score") == 1


@pytest.mark.parametrize(
    ("options", "start", "part"),
    [
        ({}, "baseline (mean ± SD of 3 seeds)", "clean accuracy 0.9200 ± 0.0200, robust accuracy"),
        ({"x": "accuracy_cost"}, "baseline", "accuracy cost 0.0000 ± 0.0200"),  # without a sign
        ({"curves": []}, "baseline: no curves", ""),
        (
            {},
            "hypervolume of the measured values 0.61",
            "clean accuracy 0, robust accuracy 0",
        ),
    ],
)
def test_baseline_and_hypervolume(
    options: dict[str, Any], start: str, part: str, tmp_path: Path
) -> None:
    (line,) = [line for line in lines(tmp_path, **options) if line.startswith(start)]
    assert part in line


@pytest.mark.parametrize(
    ("split", "words"), [("validation", "selected on"), ("test", "biased upwards")]
)
def test_last_line_says_how_far_to_trust_it(split: str, words: str, tmp_path: Path) -> None:
    last = lines(tmp_path, split=split)[-1]
    assert words in last
    assert "screening" in last


def test_confirmed_trials_and_failures(tmp_path: Path) -> None:
    failed = {"role": "trial", "trial": 1, "status": "failed", "config_digest": "x"}
    write_part(
        tmp_path, "confirmation", "a.parquet", [*confirmation_rows(1, {5: (0.75, 0.5)}), failed]
    )
    found = lines(tmp_path, split="test")
    values = "clean accuracy 0.7500, robust accuracy 0.5000"
    assert f"confirmed on test, trial 1 (1 seed): {values}" in found
    assert "confirmation runs that failed and are left out: 1" in found
