from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.compare.__main__ import main
from analysis.compare.chart import comparison_chart
from analysis.compare.comparison import Comparison, compare
from analysis.findings.fronts import NoCompleteTrialsError
from analysis.findings.study import load_study
from analysis.results.load import ResultsError
from tests.analysis_tests.noisy_searches import noisy_rows, search
from tests.analysis_tests.programs import assert_refused
from tests.analysis_tests.result_rows import (
    BASELINE,
    Row,
    baseline_curves,
    complete_row,
    ended_row,
    write_part,
    write_results,
)

STEM = "compare_clean_accuracy_robust_accuracy_test"
NAMES = [f"{STEM}.csv", f"{STEM}.pdf", f"{STEM}.png"]
REFERENCE = json.dumps({"gaussian": 0.4, "transfer_fgsm": 0.15})
XY = ("clean_accuracy", "robust_accuracy")


def study(folder: Path, points: list[tuple[float, float]], **changes: Any) -> Path:
    """A study whose complete trials have these accuracies on the test split."""
    changes = {"robustness.reference": REFERENCE, **changes}
    rows = [complete_row(n, c + 0.01, r + 0.01, **changes) for n, (c, r) in enumerate(points)]
    return write_results(folder, rows)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [
        study(tmp_path / "first", [(0.9, 0.5), (0.8, 0.7), (0.7, 0.4)]),
        study(tmp_path / "second", [(0.9, 0.6), (0.5, 0.65)]),
    ]


@pytest.fixture
def found(two: list[Path]) -> Comparison:
    return compare(two, *XY, "test")


def test_hypervolumes_by_hand(found: Comparison) -> None:
    """First: 0.9 x 0.5 + 0.8 x 0.2 = 0.61. Second: 0.9 x 0.6 + 0.5 x 0.05 = 0.565."""
    assert found.reference.tolist() == [0.0, 0.0]
    assert [s.hypervolume for s in found.studies] == pytest.approx([0.61, 0.565])
    assert [s.difference for s in found.studies] == pytest.approx([0.0, -0.045])


def test_intervals_of_two_trials_by_hand(found: Comparison) -> None:
    """A quarter of the second study's samples has only its first trial, another only its second.

    They dominate 0.9 x 0.6 = 0.54 and 0.5 x 0.65 = 0.325.
    """
    first, second = found.studies
    assert second.interval == pytest.approx((0.325, 0.565))
    assert first.interval.high == pytest.approx(0.61)
    assert first.interval.low == pytest.approx(0.28)  # 0.7 x 0.4 alone, in one sample of 27
    assert first.difference_interval == pytest.approx((0.0, 0.0))
    low, high = second.difference_interval
    assert low == pytest.approx(0.325 - 0.61)
    assert 0 < high <= 0.565 - 0.28 + 1e-12


def test_reference_point_without_a_bound_is_the_worst_of_all_studies(two: list[Path]) -> None:
    """Scores are (robust - 0.42) - (0.92 - clean): worst (0.7, 0.4), with -0.24."""
    found = compare(two, "tradeoff_score", "robust_accuracy", "test")
    assert found.reference == pytest.approx((-0.24, 0.0))
    # Second: scores 0.16 (0.6 robust) and -0.19 (0.65): 0.40 x 0.6 + 0.05 x 0.05.
    assert found.studies[1].hypervolume == pytest.approx(0.2425)


def test_first_interval_does_not_depend_on_the_others(two: list[Path], tmp_path: Path) -> None:
    third = study(tmp_path / "third", [(0.4, 0.4), (0.3, 0.5)])
    alone, beside = (compare(folders, *XY, "test") for folders in (two, [*two, third]))
    assert alone.studies[0].interval == beside.studies[0].interval
    assert alone.studies[1].difference_interval == beside.studies[1].difference_interval


def test_infeasible_trials_add_nothing(two: list[Path], tmp_path: Path) -> None:
    third = study(tmp_path / "third", [(0.8, 0.5), (0.99, 0.99)])
    lucky = complete_row(1, 1.0, 1.0, feasible=False, **{"robustness.reference": REFERENCE})
    write_part(third, "trials", "00001.parquet", [lucky])
    found = compare([*two, third], *XY, "test").studies[2]
    assert found.hypervolume == pytest.approx(0.4)
    assert found.interval == pytest.approx((0.0, 0.4))
    assert found.best is not None
    assert found.best[0] == 0


def test_single_trial_has_no_interval(two: list[Path], tmp_path: Path) -> None:
    third = study(tmp_path / "third", [(0.5, 0.5)])
    found = compare([two[0], third], *XY, "test").studies[1]
    assert found.hypervolume == pytest.approx(0.25)
    assert np.isnan([*found.interval, *found.difference_interval]).all()


def test_best_score_and_hours(tmp_path: Path, two: list[Path]) -> None:
    times = [("10:00:00", "10:30:00"), ("10:15:00", "11:30:00")]
    rows = [
        complete_row(trial, 0.9, 0.5 + 0.1 * trial, **{"robustness.reference": REFERENCE})
        | {"started_at": f"2026-01-01T{start}+00:00", "finished_at": f"2026-01-01T{end}+00:00"}
        | {"train_seconds": 1800.0, "evaluate_seconds": 360.0}
        for trial, (start, end) in enumerate(times)
    ]
    found = compare([write_results(tmp_path / "timed", rows), two[0]], *XY, "test")
    timed, untimed = found.studies
    assert timed.best is not None
    assert timed.best == pytest.approx((1, (0.59 - 0.42) - (0.92 - 0.89)))
    assert (timed.wall_hours, timed.network_hours) == pytest.approx((1.5, 1.2))
    assert np.isnan([untimed.wall_hours, untimed.network_hours]).all()


@pytest.fixture
def noisy(tmp_path: Path) -> list[Path]:
    """Two searches of one truth, with luck of their own."""
    reference: Row = {"robustness.reference": REFERENCE}
    return [
        search(tmp_path / name, noisy_rows(30, seed=seed, **reference))
        for seed, name in enumerate(("one", "other"))
    ]


def test_fronts_are_those_that_the_searches_deliver(noisy: list[Path]) -> None:
    found = compare(noisy, *XY, "validation")
    assert found.is_modelled
    for folder, study in zip(noisy, found.studies, strict=True):
        expected = load_study(folder, "validation").delivered
        front = expected.mean[expected.on_front]
        by_hand = front[np.argsort(-front[:, 0])]
        steps = by_hand[:, 0] - np.append(by_hand[1:, 0], 0.0)
        assert study.hypervolume == pytest.approx(float(steps @ by_hand[:, 1]))
        assert study.best is not None
        assert study.best[0] == expected.trials[expected.best_first()[0]]
    table = found.table[found.table["study"] == "one"]
    marked = table["trial"][table["on_modelled_front"]]
    drawn = comparison_chart(found).panels[0].series[1]
    assert sorted(table["validation.clean_accuracy.model"][marked.index]) == pytest.approx(drawn.x)


def test_measured_fronts_on_request_or_if_one_cannot_be_modelled(
    noisy: list[Path], tmp_path: Path
) -> None:
    raw = compare(noisy, *XY, "validation", "raw")
    small = study(tmp_path / "small", [(0.9, 0.5), (0.8, 0.7)])
    mixed = compare([noisy[0], small], *XY, "validation")
    assert comparison_chart(raw).name.endswith("_raw")
    assert raw.problem == ""
    assert mixed.problem.startswith("small: ")
    assert mixed.studies[0].hypervolume == raw.studies[0].hypervolume
    assert mixed.studies[0].hypervolume > compare(noisy, *XY, "validation").studies[0].hypervolume


def labels(found: Comparison, start: str = "") -> list[str]:
    (panel,) = comparison_chart(found).panels
    return [s.label for s in panel.series if s.in_legend and s.label.startswith(start)]


def test_fronts_faint_trials_and_shared_baselines_are_drawn(found: Comparison) -> None:
    fronts = ["first: front of 3 trials", "second: front of 2 trials"]
    assert labels(found)[:2] == fronts
    faint, front = comparison_chart(found).panels[0].series[:2]
    assert (faint.x.tolist(), faint.opacity < 1) == ([pytest.approx(0.7)], True)
    assert front.x == pytest.approx([0.8, 0.9])
    assert found.same_baselines
    assert len(labels(found, "baseline")) == 2  # mean and single seeds


def test_different_baselines_are_drawn_per_study(two: list[Path], tmp_path: Path) -> None:
    moved = {seed: (clean - 0.1, robust) for seed, (clean, robust) in BASELINE.items()}
    third = study(tmp_path / "third", [(0.89, 0.59)])
    write_part(third, "curves", "baseline-base0.parquet", baseline_curves(seeds=moved))
    found = compare([*two, third], *XY, "test")
    assert not found.same_baselines
    assert len(labels(found, "first, second: baseline")) == 1
    assert len(labels(found, "third: baseline")) == 1


@pytest.mark.parametrize(
    ("change", "key", "values"),
    [
        ({"task.dataset": "mnist"}, "task.dataset", ("digits", "mnist")),
        ({"num_test": 399}, "num_test", ("400", "399")),
        ({"num_train": 7}, "num_train", ("none", "7")),
        ({"task.split_seed": 1}, "task.split_seed", ("none", "1")),
        (
            {"robustness.reference": '{"transfer_fgsm": 0.1, "gaussian": 0.4}'},
            "robustness.reference",
            ("gaussian 0.4, transfer_fgsm 0.15", "gaussian 0.4, transfer_fgsm 0.1"),
        ),
        (
            {"robustness.attacks": '{"gaussian": {"options": {"steps": 3}}}'},
            "robustness.reference",
            ("gaussian 0.4, transfer_fgsm 0.15", 'gaussian 0.4 {"steps": 3}, transfer_fgsm 0.15'),
        ),
        ({"robustness.surrogates": "1"}, "robustness.surrogates", ("none", "1")),
        ({"robustness.noise_draws": "25"}, "robustness.noise_draws", ("none", "25")),
    ],
    ids=["task", "test", "train", "split", "epsilon", "options", "surrogates", "draws"],
)
def test_what_is_not_comparable_is_refused(
    change: Row, key: str, values: tuple[str, str], two: list[Path], tmp_path: Path
) -> None:
    other = study(tmp_path / "other", [(0.9, 0.6)], **change)
    with pytest.raises(ResultsError, match="not comparable") as refusal:
        compare([two[0], other], *XY, "test")
    first, second = values
    assert f"{key} is {first} in {two[0]}, {second} in {other}" in str(refusal.value)


def test_measure_of_another_kind_matters_to_its_own_metric_only(
    two: list[Path], tmp_path: Path
) -> None:
    other = study(tmp_path / "other", [(0.9, 0.6)], **{"robustness.tradeoff_weight": 2.0})
    assert not compare([two[0], other], *XY, "test").same_weight
    with pytest.raises(ResultsError, match=r"tradeoff_weight is 1 in .*, 2 in "):
        compare([two[0], other], "clean_accuracy", "tradeoff_score", "test")


def test_seeds_and_objectives_may_differ(two: list[Path], tmp_path: Path) -> None:
    other = study(tmp_path / "other", [(0.9, 0.6)], seed=5, **{"robustness.noise_seed": 3})
    (other / "space.yaml").write_text("name: demo\nobjectives: [tradeoff_score]\n")
    assert len(compare([two[0], other], *XY, "test").studies) == 2


def test_one_folder_is_no_comparison(two: list[Path]) -> None:
    with pytest.raises(ResultsError, match="1 result folder given; allowed: 2 to 15"):
        compare(two[:1], *XY, "test")


def test_same_folder_twice(two: list[Path], tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(two[0])
    for again in (tmp_path / "second" / ".." / "first", link):
        with pytest.raises(ResultsError, match="is given twice"):
            compare([two[0], two[1], again], *XY, "test")


def test_study_without_complete_trials(two: list[Path], tmp_path: Path) -> None:
    failed = write_results(tmp_path / "failed", [ended_row(0, "failed", "no memory")])
    with pytest.raises(NoCompleteTrialsError, match="none of 1 trial is complete"):
        compare([two[0], failed], *XY, "test")
    assert main([str(two[0]), str(failed)]) == 1


def test_folders_of_one_name_are_told_apart(two: list[Path], tmp_path: Path) -> None:
    other = study(tmp_path / "deep" / "first", [(0.5, 0.5)])
    labels = [s.label for s in compare([*two, other], *XY, "test").studies]
    assert labels == [str(two[0]), "second", str(other)]


def test_command_writes_and_prints(two: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*map(str, two), "--split", "test"]) == 0
    assert sorted(path.name for path in (two[0] / "figures").iterdir()) == NAMES
    assert not (two[1] / "figures").exists()
    out, err = capsys.readouterr()
    assert err == ""
    for part in ("clean accuracy 0, robust accuracy 0", "0.61000", "-0.04500", "seed 0"):
        assert part in out
    assert "different numbers of trials" in out


def test_csv_holds_every_complete_trial_and_what_varies_between_studies(
    tmp_path: Path, two: list[Path]
) -> None:
    other = study(tmp_path / "other", [(0.9, 0.6)], **{"regularizer.alpha": 1.0})
    assert main([str(two[0]), str(other), "--split", "test", "--out", str(tmp_path / "o")]) == 0
    table = pd.read_csv(tmp_path / "o" / f"{STEM}.csv")
    assert table["study"].tolist() == ["first"] * 3 + ["other"]
    assert table["trial"].tolist() == [0, 1, 2, 0]
    assert table["on_front"].tolist() == [True, True, False, True]
    assert table["regularizer.alpha"].tolist() == [10.0, 10.0, 10.0, 1.0]
    assert table["test.robust_accuracy"].tolist() == pytest.approx([0.5, 0.7, 0.4, 0.6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["--x", "accuracy"], "unknown metric 'accuracy'"),
        (["--x", "robust_accuracy"], "both 'robust_accuracy'"),
    ],
    ids=["folder", "metric", "same"],
)
def test_bad_option_is_one_line(
    options: list[str], message: str, two: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(main, [*two, *options], message, capsys)
    assert not (two[0] / "figures").exists()
