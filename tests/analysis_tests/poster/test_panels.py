"""The poster's numbers, against values computed by hand from small fixed results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from analysis.poster.panel import DotPlot, Line, LinePlot, Panel, ScatterPlot
from analysis.poster.panels import (
    MAX_POINTS_DRAWN,
    components_panel,
    cost_panel,
    curves_panel,
    datasets_panel,
    similarity_panel,
    spectra_panel,
    tradeoff_panel,
)

from analysis.results.load import ResultsError
from tests.analysis_tests.posters import (
    EDGES,
    curve_rows,
    trial_row,
    write_pairs,
    write_study,
)
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


def line_plot(panel: Panel, number: int = 0) -> LinePlot:
    plot = panel.plots[number]
    assert isinstance(plot, LinePlot)
    return plot


def line(plot: LinePlot | DotPlot, label: str) -> Line:
    (found,) = (line for line in plot.lines if line.label == label)
    return found


# curves


def test_curves_are_means_and_sample_deviations_over_seeds(tmp_path: Path) -> None:
    panel = curves_panel(study(tmp_path, {}), "test")
    assert [plot.title for plot in panel.plots] == [
        "Gaussian noise",
        "uniform noise",
        "salt-and-pepper noise",
        "transferred FGSM",
    ]
    own = line(line_plot(panel), "regularized")
    assert own.x.tolist() == pytest.approx([0.5 * i / 9 for i in range(10)])
    assert (own.mean[0], own.std[0]) == pytest.approx(CLEAN)
    assert (own.mean[8], own.std[8]) == pytest.approx(ROBUST)
    assert (own.mean[9], own.std[9]) == pytest.approx((0.1, 0))
    baseline = line(line_plot(panel), "unregularized")
    assert baseline.is_baseline
    assert (baseline.mean[0], baseline.std[0]) == pytest.approx((0.99, 0.01))
    assert (baseline.mean[8], baseline.std[8]) == pytest.approx((0.42, 0.02))
    assert line_plot(panel).reference == pytest.approx(0.5 * 8 / 9)


def test_caption_states_the_conditions(tmp_path: Path) -> None:
    caption = curves_panel(study(tmp_path, {}), "test").caption
    assert caption == (
        "digits, resnet18, base 16, 15 epochs; alpha 0.1, Th 0.2, k 16, N 1000, own images; "
        "test split, n = 397 images; mean ± SD of 2 seeds, 3 of the unregularized network; "
        "dotted: reference ε of R"
    )


def test_split_is_the_one_asked_for(tmp_path: Path) -> None:
    caption = curves_panel(study(tmp_path, {}), "validation").caption
    assert "validation split, n = 400 images" in caption


def test_single_seed_has_no_spread(tmp_path: Path) -> None:
    panel = curves_panel(write_study(tmp_path, [trial_row(0, 0, 0.9, 0.5)]), "test")
    assert np.isnan(line(line_plot(panel), "regularized").std).all()
    assert "; 1 seed; unregularized network: mean ± SD of 3 seeds; " in panel.caption


def test_trials_that_are_not_complete_are_left_out(tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    write_part(folder, "trials", "failed.parquet", [ended_row(7, "failed", "no memory")])
    write_part(folder, "curves", "failed.parquet", curve_rows("trial", 7, 9, 0.2, 0.1))
    own = line(line_plot(curves_panel(folder, "test")), "regularized")
    assert own.mean[0] == pytest.approx(CLEAN[0])


def test_surrogate_and_other_baselines_are_left_out(tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    rows = curve_rows("surrogate", None, 0, 0.2, 0.1)
    rows += [
        row | {"baseline_digest": "other"} for row in curve_rows("baseline", None, 5, 0.2, 0.1)
    ]
    write_part(folder, "curves", "more.parquet", rows)
    baseline = line(line_plot(curves_panel(folder, "test")), "unregularized")
    assert baseline.mean[0] == pytest.approx(0.99)


def test_plug_in_attack_comes_last(tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    rows = [row | {"attack": "mine:blur"} for row in curve_rows("trial", 0, 0, 0.9, 0.5)]
    write_part(folder, "curves", "more.parquet", rows)
    assert curves_panel(folder, "test").plots[-1].title == "mine:blur"


def test_every_regularization_dataset_is_a_line(tmp_path: Path) -> None:
    variants = [{"dataset": d} for d in ("task", "imagenet:/a/b", "parquet:/data/faces")]
    plot = line_plot(datasets_panel(study(tmp_path, *variants, shift=0.1), "test"))
    assert {found.label for found in plot.lines} == {
        "unregularized",
        "own images",
        "imagenet",
        "faces",
    }
    assert line(plot, "own images").mean[8] == pytest.approx(0.5)
    assert line(plot, "faces").mean[8] == pytest.approx(0.7)


def test_missing_accuracy_is_refused(tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    rows = [row | {"accuracy": None} for row in curve_rows("trial", 0, 0, 0.9, 0.5)]
    write_part(folder, "curves", "more.parquet", rows)
    with pytest.raises(ResultsError, match="accuracy of 'regularized' has null or NaN"):
        curves_panel(folder, "test")


def test_trials_of_different_baselines_are_refused(tmp_path: Path) -> None:
    rows = [trial_row(0, 0, 0.9, 0.5), trial_row(1, 1, 0.9, 0.5) | {"baseline_digest": "other"}]
    with pytest.raises(ResultsError, match="2 different baselines; a panel needs one"):
        curves_panel(write_study(tmp_path, rows), "test")


def test_no_complete_trial_is_refused(tmp_path: Path) -> None:
    folder = write_study(tmp_path, [trial_row(0, 0, 0.9, 0.5) | {"status": "failed"}])
    with pytest.raises(ResultsError, match="none of 1 trials is complete"):
        curves_panel(folder, "test")


# spectra


def test_spectra_are_means_over_seeds_at_the_middle_of_bands(tmp_path: Path) -> None:
    panel = spectra_panel(study(tmp_path, {}), "test")
    power, noise = line_plot(panel, 0), line_plot(panel, 1)
    middle = [(low + high) / 2 for low, high in pairwise(EDGES)]
    shares = [np.exp(-slope * np.array(middle)) for slope in (20.0, 22.0)]  # of seeds 0 and 1
    expected = np.mean([share / share.sum() for share in shares], axis=0)
    own = line(power, "regularized")
    assert own.x.tolist() == pytest.approx(middle)
    np.testing.assert_allclose(own.mean, expected)
    np.testing.assert_allclose(own.mean.sum(), 1)
    accuracies = [0.95 - 0.5 * share for share in shares]
    np.testing.assert_allclose(line(noise, "regularized").mean, np.mean(accuracies, axis=0))
    np.testing.assert_allclose(
        line(noise, "regularized").std, np.abs(accuracies[0] - accuracies[1]) / math.sqrt(2)
    )
    assert noise.title == "Noise in one band, SD 0.4 per pixel"
    assert line(noise, "unregularized").is_baseline
    assert "power: n = 50 images, noise: n = 397 images" in panel.caption


@pytest.mark.parametrize("has_table", [True, False], ids=["empty", "no table"])
def test_study_without_spectra(has_table: bool, tmp_path: Path) -> None:
    folder = study(tmp_path, {})
    (folder / "spectra" / "all.parquet").unlink()
    if not has_table:
        (folder / "spectra").rmdir()
    with pytest.raises(ResultsError, match=r"no spectra of the test split \(robustness.frequency"):
        spectra_panel(folder, "test")


# cost


def test_cost_has_a_line_per_value_of_the_other_parameter(tmp_path: Path) -> None:
    variants = [{"batch_size": k, "num_images": n} for k in (2, 16) for n in (20, 1000)]
    panel = cost_panel(study(tmp_path, *variants, shift=0.1), "test")
    by_batch, by_images = line_plot(panel, 0), line_plot(panel, 1)
    assert [found.label for found in by_batch.lines] == ["N 20", "N 1000"]
    assert line(by_batch, "N 1000").x.tolist() == [2, 16]
    # Variant 1 (k 2, N 1000) and variant 3 (k 16, N 1000).
    assert line(by_batch, "N 1000").mean.tolist() == pytest.approx([0.6, 0.8])
    assert line(by_batch, "N 1000").std.tolist() == pytest.approx([ROBUST[1]] * 2)
    assert line(by_images, "k 2").mean.tolist() == pytest.approx([0.5, 0.6])
    assert by_images.level == pytest.approx((0.42, 0.02))
    assert by_images.y_label == "robust accuracy R"


def test_cost_of_one_varied_parameter_is_one_plot(tmp_path: Path) -> None:
    panel = cost_panel(study(tmp_path, {"num_images": 20}, {"num_images": 1000}), "test")
    assert [plot.x_label for plot in panel.plots] == ["regularization images, N"]
    assert line_plot(panel).lines[0].label == "regularized"


# tradeoff


def test_tradeoff_is_cost_gain_and_score_over_the_threshold(tmp_path: Path) -> None:
    variants = [{"threshold": th, "alpha": a} for a in (0.1, 1.0) for th in (0.2, 0.8)]
    panel = tradeoff_panel(study(tmp_path, *variants, shift=0.1), "test")
    cost, gain, score = (line_plot(panel, number) for number in range(3))
    assert [found.label for found in cost.lines] == ["alpha 0.1", "alpha 1"]
    assert line(cost, "alpha 0.1").x.tolist() == [0.2, 0.8]
    assert line(cost, "alpha 0.1").mean.tolist() == pytest.approx([0.03, 0.03])  # 0.99 - 0.96
    assert line(gain, "alpha 1").mean.tolist() == pytest.approx([0.28, 0.38])  # 0.7, 0.8 - 0.42
    assert line(score, "alpha 1").mean.tolist() == pytest.approx([0.25, 0.35])
    assert [plot.level.mean for plot in (cost, gain, score) if plot.level] == pytest.approx([0] * 3)
    assert gain.level is not None
    assert gain.level.std == pytest.approx(0.02)
    assert "weight of the cost in the score: 1" in panel.caption


# components


def test_components_have_clean_and_robust_accuracy_beside_the_baselines(tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [{}, {"pairs": "high"}, {"transform": "identity"}]
    (plot,) = components_panel(study(tmp_path, *variants, shift=0.1), "test").plots
    assert isinstance(plot, DotPlot)
    clean, robust = plot.lines
    assert (clean.label, robust.label) == ("clean accuracy C", "robust accuracy R")
    assert clean.x.tolist() == robust.x.tolist() == [0, 1, 2, 3]
    assert clean.mean.tolist() == pytest.approx([0.99, *[CLEAN[0]] * 3])
    assert clean.std.tolist() == pytest.approx([0.01, *[CLEAN[1]] * 3])
    assert robust.mean.tolist() == pytest.approx([0.42, 0.5, 0.6, 0.7])
    assert robust.std.tolist() == pytest.approx([0.02, *[ROBUST[1]] * 3])


def test_reference_has_the_usual_values_and_comes_first(tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {"pairs": "high"},
        {"transform": "identity"},
        {"pairs": "double", "threshold_low": 0.1},
        {},
    ]
    panel = components_panel(study(tmp_path, *variants, shift=0.1), "test")
    (plot,) = panel.plots
    assert isinstance(plot, DotPlot)
    assert plot.variants == (
        "unregularized",
        "reference",
        "pairs high",
        "transform identity",
        "pairs double, Th2 0.1",
    )
    assert plot.lines[1].mean.tolist() == pytest.approx([0.42, 0.8, 0.5, 0.6, 0.7])
    assert panel.caption.endswith("reference: pairs all, transform arctanh")


# similarities


def write_columns(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_correlation_is_pearsons(tmp_path: Path) -> None:
    path = write_columns(
        tmp_path / "pairs.parquet",
        pixel_similarity=[-1.0, 0.0, 1.0, 0.0],
        neural_similarity=[-0.5, 0.5, 0.5, -0.5],
    )
    (plot,) = similarity_panel(path, "test").plots
    assert isinstance(plot, ScatterPlot)
    assert plot.title == "r = 0.707"  # 1 / sqrt(2 * 1)
    assert plot.points.tolist() == [[-1, -0.5], [0, 0.5], [1, 0.5], [0, -0.5]]


def test_pairs_without_a_response_are_left_out_of_its_plot(tmp_path: Path) -> None:
    path = write_columns(
        tmp_path / "pairs.parquet",
        pixel_similarity=[0.1, 0.2, 0.3, 0.4],
        neural_similarity=[None, 0.2, 0.3, 0.4],
        v1_gabor_similarity=[0.1, 0.2, 0.3, 0.5],
    )
    neural, gabor = similarity_panel(path, "test").plots
    assert isinstance(neural, ScatterPlot)
    assert isinstance(gabor, ScatterPlot)
    assert (len(neural.points), len(gabor.points)) == (3, 4)
    assert neural.title == "r = 1.000"


def test_of_many_pairs_a_part_is_drawn_and_the_caption_says_so(tmp_path: Path) -> None:
    panel = similarity_panel(write_pairs(tmp_path / "pairs.parquet", 9000), "test")
    assert "n = 9,000 image pairs, 3,000 of them drawn" in panel.caption
    assert all(
        isinstance(plot, ScatterPlot) and len(plot.points) <= MAX_POINTS_DRAWN
        for plot in panel.plots
    )


WRONG_PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "other columns": ({"a": [1.0]}, "holds no pairs with a column pixel_similarity"),
    "no rows": ({"pixel_similarity": pa.array([], pa.float64())}, "holds no pairs"),
    "text": ({"pixel_similarity": ["much"]}, "a similarity is no number"),
    "pixels only": ({"pixel_similarity": [0.1, 0.2]}, "no pair has a neural or V1 Gabor"),
    "constant": (
        {"pixel_similarity": [0.1, 0.2, 0.3], "neural_similarity": [0.5, 0.5, 0.5]},
        "neural_similarity needs 3 or more finite pairs that differ",
    ),
}


@pytest.mark.parametrize(("columns", "message"), WRONG_PAIRS.values(), ids=WRONG_PAIRS)
def test_file_without_usable_pairs_is_refused(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match=message):
        similarity_panel(write_columns(tmp_path / "pairs.parquet", **columns), "test")


def test_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.parquet").write_bytes(b"PAR0")
    with pytest.raises(ResultsError, match="not a readable Parquet file"):
        similarity_panel(tmp_path / "pairs.parquet", "test")


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
    build: Callable[[Path, str], Panel], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match=message):
        build(study(tmp_path, {}), "test")
