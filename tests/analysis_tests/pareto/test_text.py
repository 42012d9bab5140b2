from __future__ import annotations

from pathlib import Path

import pytest

from analysis.findings.fronts import pareto_info
from analysis.pareto.text import pareto_text
from analysis.results.load import load_results
from tests.analysis_tests.result_rows import (
    complete_row,
    confirmation_rows,
    ended_row,
    write_part,
    write_results,
)

TRIALS = [
    complete_row(0, 0.9, 0.5, **{"regularizer.alpha": 1.0}),
    complete_row(1, 0.8, 0.7, **{"regularizer.alpha": 0.123456}),
    complete_row(2, 0.7, 0.4, **{"regularizer.alpha": 100.0}),
    ended_row(3, "failed", "no memory"),
]


def lines(
    folder: Path,
    x: str = "clean_accuracy",
    split: str = "validation",
    curves: list[dict[str, object]] | None = None,
) -> list[str]:
    results = load_results(write_results(folder, TRIALS, curves))
    return pareto_text(pareto_info(results, x, "robust_accuracy", split, None)).splitlines()


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


def test_baseline_with_spread(tmp_path: Path) -> None:
    (line,) = [line for line in lines(tmp_path) if line.startswith("baseline")]
    for part in ("3 seeds", "clean accuracy 0.9200 ± 0.0200", "robust accuracy 0.4200 ± 0.0200"):
        assert part in line


def test_cost_of_the_baseline_is_zero_without_a_sign(tmp_path: Path) -> None:
    assert any("accuracy cost 0.0000 ± 0.0200" in line for line in lines(tmp_path, "accuracy_cost"))


def test_missing_baseline_is_said(tmp_path: Path) -> None:
    assert any(line.startswith("baseline: no curves") for line in lines(tmp_path, curves=[]))


def test_hypervolume_with_its_reference(tmp_path: Path) -> None:
    assert "hypervolume 0.61 with reference point clean accuracy 0, robust accuracy 0" in lines(
        tmp_path
    )


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
    assert "confirmed trial 1 (1 seed): clean accuracy 0.7500, robust accuracy 0.5000" in found
    assert "confirmation runs that failed and are left out: 1" in found
