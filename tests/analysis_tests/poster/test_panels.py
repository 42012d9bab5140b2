"""The poster's numbers, against values computed by hand from small fixed results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.charts.chart import Chart, Series
from analysis.poster.curve_panels import (
    curves_panel,
    datasets_panel,
    spectra_panel,
)
from analysis.poster.setting_panels import components_panel, cost_panel, tradeoff_panel
from analysis.results.load import ResultsError
from tests.analysis_tests.posters import EDGES, curve_rows, trial_row, write_study
from tests.analysis_tests.result_rows import Row, ended_row, write_part

# Two seeds: means 0.96 and 0.50, sample standard deviations 0.02 sqrt(2) / 2 and 0.10 sqrt(2) / 2.
TWO_SEEDS = ((0, 0.95, 0.45), (1, 0.97, 0.55))
CLEAN, ROBUST = (0.96, 0.02 / math.sqrt(2)), (0.50, 0.10 / math.sqrt(2))


def study(folder: Path, *variants: Mapping[str, Any], shift: float = 0.0) -> Path:
    """Two seeds of every variant; a variant's number times ``shift`` is added to R."""
    rows: list[Row] = []
    for number, variant in enumerate(variants):
        for seed, clean, robust in TWO_SEEDS:
            rows.append(trial_row(len(rows), seed, clean, robust + number * shift, **variant))
    return write_study(folder, rows)


def pair(row: Row) -> tuple[float, float]:
    return row["test.clean_accuracy"], row["test.robust_accuracy"]


def line(found: Chart, label: str, number: int = 0) -> Series:
    return next(one for one in found.panels[number].series if one.label == label)


def spread(found: Chart, label: str, number: int = 0) -> list[float]:
    """Standard deviations, half the height of a line's band."""
    bounds = line(found, f"{label} ± SD", number).y_bounds
    assert bounds is not None
    return ((bounds[1] - bounds[0]) / 2).tolist()  # type: ignore[no-any-return]


def lines(found: Chart, number: int = 0) -> list[str]:
    return [s.label for s in found.panels[number].series if s.kind == "line" and s.in_legend]


# curves


def test_curves_are_means_and_sample_deviations_over_seeds(tmp_path: Path) -> None:
    found = curves_panel(study(tmp_path, {}), "test")
    assert len(found.panels) == 4
    assert found.panels[0].title == "Gaussian noise"
    own, deviations = line(found, "regularized"), spread(found, "regularized")
    assert own.x.tolist() == pytest.approx([0.5 * i / 9 for i in range(10)])
    assert (own.y[0], deviations[0]) == pytest.approx(CLEAN)
    assert (own.y[8], deviations[8]) == pytest.approx(ROBUST)
    assert (own.y[9], deviations[9]) == pytest.approx((0.1, 0))
    baseline, deviations = line(found, "unregularized"), spread(found, "unregularized")
    assert (baseline.y[0], deviations[0]) == pytest.approx((0.99, 0.01))
    assert (baseline.y[8], deviations[8]) == pytest.approx((0.42, 0.02))
    assert line(found, "reference ε").x == pytest.approx([0.5 * 8 / 9] * 2)


def test_curves_of_one_trials_networks_are_one_line(tmp_path: Path) -> None:
    rows = [trial_row(0, seed, clean, robust) for seed, clean, robust in TWO_SEEDS]
    curves = [row for own in rows for row in curve_rows("trial", 0, own["seed"], *pair(own))]
    mean = trial_row(0, 0, CLEAN[0], ROBUST[0]) | {"num_seeds": 2}
    folder = write_study(tmp_path, [mean])
    write_part(folder, "seeds", "0.parquet", rows)
    write_part(folder, "curves", "all.parquet", curves)
    found = curves_panel(folder, "test")
    assert lines(found) == ["regularized"]
    assert (line(found, "regularized").y[0], spread(found, "regularized")[0]) == pytest.approx(
        CLEAN
    )
    assert "mean ± SD of 2 seeds" in found.note


def test_note_states_the_conditions(tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    note = curves_panel(folder, "test").note
    for part in (
        "digits, resnet18, base 16, 15 epochs",
        "alpha 0.1, Th 0.2, k 16, N 1000, own images",
        "test split, n = 397 images",
        "2 seeds, 3 of the unregularized network",
    ):
        assert part in note
    assert "validation split, n = 400" in curves_panel(folder, "validation").note


def test_single_seed_has_no_spread(tmp_path: Path) -> None:
    found = curves_panel(write_study(tmp_path, [trial_row(0, 0, 0.9, 0.5)]), "test")
    assert "regularized ± SD" not in [one.label for one in found.panels[0].series]
    assert "1 seed; unregularized network: mean ± SD of 3 seeds" in found.note


def test_networks_of_others_are_left_out(tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    write_part(folder, "trials", "failed.parquet", [ended_row(7, "failed", "no memory")])
    rows = curve_rows("trial", 7, 9, 0.2, 0.1) + curve_rows("surrogate", None, 0, 0.2, 0.1)
    rows += [
        row | {"baseline_digest": "other"} for row in curve_rows("baseline", None, 5, 0.2, 0.1)
    ]
    write_part(folder, "curves", "more.parquet", rows)
    found = curves_panel(folder, "test")
    assert line(found, "regularized").y[0] == pytest.approx(CLEAN[0])
    assert line(found, "unregularized").y[0] == pytest.approx(0.99)


def test_plug_in_attack_comes_last(tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    rows = [
        row | {"attack": "mine:blur", "label": None} for row in curve_rows("trial", 0, 0, 0.9, 0.5)
    ]
    write_part(folder, "curves", "more.parquet", rows)
    assert curves_panel(folder, "test").panels[-1].title == "mine:blur"


def test_every_regularization_dataset_is_a_line(tmp_path: Path) -> None:
    variants = [{"dataset": d} for d in ("task", "imagenet:/a/b", "parquet:/data/faces")]
    found = datasets_panel(study(tmp_path, *variants, shift=0.1), "test")
    assert set(lines(found)) == {"unregularized", "own images", "imagenet", "faces"}
    assert line(found, "own images").y[8] == pytest.approx(0.5)
    assert line(found, "faces").y[8] == pytest.approx(0.7)


@pytest.mark.parametrize(("role", "trial"), [("trial", 0), ("baseline", None)])
def test_missing_accuracy_is_refused(role: str, trial: int | None, tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    rows = [row | {"accuracy": None} for row in curve_rows(role, trial, 0, 0.9, 0.5)]
    write_part(folder, "curves", "more.parquet", rows)
    whose = "the baseline" if trial is None else "trial 0"
    with pytest.raises(ResultsError, match=f"accuracy of {whose} is null or NaN"):
        curves_panel(folder, "test")


def test_trials_with_different_baselines_are_refused(tmp_path: Path) -> None:
    rows = [trial_row(0, 0, 0.9, 0.5), trial_row(1, 1, 0.9, 0.5) | {"baseline_digest": "other"}]
    with pytest.raises(ResultsError, match="2 different baselines; a panel needs one"):
        curves_panel(write_study(tmp_path, rows), "test")


# spectra


def test_spectra_are_means_over_seeds_at_the_middle_of_bands(tmp_path: Path) -> None:
    found = spectra_panel(study(tmp_path, {}), "test")
    middle = [(low + high) / 2 for low, high in pairwise(EDGES)]
    shares = [np.exp(-slope * np.array(middle)) for slope in (20.0, 22.0)]  # of seeds 0 and 1
    power, noise = line(found, "regularized"), line(found, "regularized", 1)
    assert power.x.tolist() == pytest.approx(middle)
    assert power.y == pytest.approx(np.mean([share / share.sum() for share in shares], axis=0))
    accuracies = [0.95 - 0.5 * share for share in shares]
    assert noise.y == pytest.approx(np.mean(accuracies, axis=0))
    difference = np.abs(accuracies[0] - accuracies[1])
    assert spread(found, "regularized", 1) == pytest.approx(difference / math.sqrt(2))
    assert "SD 0.4" in found.panels[1].title
    assert lines(found, 1) == ["unregularized", "regularized"]
    assert "power: n = 50 images, noise: n = 397 images" in found.note


def test_study_without_spectra(tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    (folder / "spectra" / "all.parquet").unlink()
    with pytest.raises(ResultsError, match=r"no spectra of the test split \(robustness.frequency"):
        spectra_panel(folder, "test")


# cost


def test_cost_has_a_line_per_value_of_the_other_parameter(tmp_path: Path) -> None:
    variants = [{"batch_size": k, "num_images": n} for k in (2, 16) for n in (20, 1000)]
    found = cost_panel(study(tmp_path, *variants, shift=0.1), "test")
    assert lines(found) == ["unregularized", "N 20", "N 1000"]
    assert line(found, "N 1000").x.tolist() == [2, 16]
    # Variant 1 (k 2, N 1000) and variant 3 (k 16, N 1000).
    assert line(found, "N 1000").y.tolist() == pytest.approx([0.6, 0.8])
    assert spread(found, "N 1000") == pytest.approx([ROBUST[1]] * 2)
    assert line(found, "k 2", 1).y.tolist() == pytest.approx([0.5, 0.6])
    assert line(found, "unregularized", 1).x.tolist() == [20, 1000]
    assert line(found, "unregularized", 1).y == pytest.approx([0.42] * 2)
    assert spread(found, "unregularized", 1) == pytest.approx([0.02] * 2)


def test_cost_of_one_varied_parameter_is_one_panel(tmp_path: Path) -> None:
    found = cost_panel(study(tmp_path, {"num_images": 20}, {"num_images": 1000}), "test")
    (panel,) = found.panels
    assert panel.x.ticks == ((20, "20"), (1000, "1000"))
    assert lines(found) == ["unregularized", "regularized"]


# tradeoff


def test_tradeoff_is_cost_gain_and_score_over_the_threshold(tmp_path: Path) -> None:
    variants = [{"threshold": th, "alpha": a} for a in (0.1, 1.0) for th in (0.2, 0.8)]
    found = tradeoff_panel(study(tmp_path, *variants, shift=0.1), "test")
    assert lines(found) == ["unregularized", "alpha 0.1", "alpha 1"]
    assert line(found, "alpha 0.1").x.tolist() == [0.2, 0.8]
    assert line(found, "alpha 0.1").y.tolist() == pytest.approx([0.03, 0.03])  # 0.99 - 0.96
    assert line(found, "alpha 1", 1).y.tolist() == pytest.approx([0.28, 0.38])  # 0.7, 0.8 - 0.42
    assert line(found, "alpha 1", 2).y.tolist() == pytest.approx([0.25, 0.35])
    assert all(line(found, "unregularized", n).y == pytest.approx([0, 0]) for n in range(3))
    assert "weight of the cost in the score: 1" in found.note


# components


def test_components_have_clean_and_robust_accuracy_beside_the_baselines(tmp_path: Path) -> None:
    """The reference has the usual values, and comes first."""
    variants: list[dict[str, Any]] = [
        {"pairs": "high"},
        {"transform": "identity"},
        {"pairs": "double", "threshold_low": 0.1},
        {},
    ]
    found = components_panel(study(tmp_path, *variants, shift=0.1), "test")
    (panel,) = found.panels
    assert [text for _, text in panel.y.ticks] == [
        "unregularized",
        "reference",
        "pairs high",
        "transform identity",
        "pairs double, Th2 0.1",
    ]
    clean, robust = panel.series
    assert np.round(clean.y).tolist() == np.round(robust.y).tolist() == [0, 1, 2, 3, 4]
    assert clean.x.tolist() == pytest.approx([0.99, *[CLEAN[0]] * 4])
    assert robust.x.tolist() == pytest.approx([0.42, 0.8, 0.5, 0.6, 0.7])
    for series, deviations in ((clean, (0.01, CLEAN[1])), (robust, (0.02, ROBUST[1]))):
        assert series.x_bounds is not None
        expected = [deviations[0], *[deviations[1]] * 4]
        assert series.x_bounds[1] - series.x == pytest.approx(expected)
    assert found.note.endswith("reference: pairs all, transform arctanh")


# panels that need something varied


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (cost_panel, "the same regularizer.batch_size and regularizer.num_images"),
        (tradeoff_panel, "the same regularizer.threshold"),
    ],
    ids=["cost", "tradeoff"],
)
def test_study_that_varies_nothing_is_refused(
    build: Callable[[Path, str], Chart], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match=message):
        build(study(tmp_path, {}), "test")
