from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure

from analysis.findings.fronts import pareto_info
from analysis.pareto.picture import BASELINE_COLOR, CATEGORY_COLORS, draw_pareto
from analysis.results.load import load_results
from tests.analysis_tests.result_rows import (
    Row,
    baseline_curves,
    complete_row,
    confirmation_rows,
    random_rows,
    write_part,
    write_results,
)

ALPHAS = (1.0, 10.0, 100.0)
TRIALS = tuple(
    complete_row(trial, clean, robust, **{"regularizer.alpha": alpha})
    for trial, (alpha, clean, robust) in enumerate(
        zip(ALPHAS, (0.9, 0.8, 0.7), (0.5, 0.7, 0.4), strict=True)
    )
)


def drawn(
    folder: Path,
    trials: Sequence[Mapping[str, Any]] = TRIALS,
    curves: Sequence[Row] | None = None,
    x: str = "clean_accuracy",
    y: str = "robust_accuracy",
    split: str = "validation",
    color: str | None = None,
) -> Figure:
    results = load_results(write_results(folder, trials, curves))
    return draw_pareto(pareto_info(results, x, y, split, color))


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def scatters(axes: Axes) -> list[PathCollection]:
    """Collections with at least one point."""
    found = [c for c in axes.collections if isinstance(c, PathCollection)]
    return [c for c in found if len(np.asarray(c.get_offsets()))]


def offsets(collection: PathCollection) -> list[list[float]]:
    return np.asarray(collection.get_offsets()).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("num_trials", [1, 2, 12, 300])
def test_every_trial_is_a_point(num_trials: int, tmp_path: Path) -> None:
    rows = random_rows(num_trials)
    axes = drawn(tmp_path, rows).axes[0]
    expected = [[r["validation.clean_accuracy"], r["validation.robust_accuracy"]] for r in rows]
    assert offsets(scatters(axes)[0]) == expected


def test_colors_are_the_parameters_values_on_a_log_scale(tmp_path: Path) -> None:
    figure = drawn(tmp_path)
    points = scatters(figure.axes[0])[0]
    assert np.asarray(points.get_array()).tolist() == list(ALPHAS)
    assert isinstance(points.norm, LogNorm)
    assert (points.norm.vmin, points.norm.vmax) == (1.0, 100.0)
    assert figure.axes[1].get_ylabel() == "regularizer.alpha"


def test_named_color_parameter_wins(tmp_path: Path) -> None:
    trials = [row | {"regularizer.num_images": 10 * i} for i, row in enumerate(TRIALS)]
    figure = drawn(tmp_path, trials, color="regularizer.num_images")
    values = scatters(figure.axes[0])[0].get_array()
    assert np.asarray(values).tolist() == [0.0, 10.0, 20.0]


def test_zero_weight_can_be_drawn_on_a_logarithmic_scale(tmp_path: Path) -> None:
    alphas = (0.0, 0.1, 1.0, 10.0)
    trials = [complete_row(i, 0.9, 0.5, **{"regularizer.alpha": a}) for i, a in enumerate(alphas)]
    norm = scatters(drawn(tmp_path, trials).axes[0])[0].norm
    places = np.asarray(norm(np.array(alphas)))
    assert places[0] == 0
    assert np.diff(places).min() > 0.2


def test_categories_have_colors_and_legend_entries(tmp_path: Path) -> None:
    names = ("task", "digits", "task")
    trials = [row | {"regularizer.dataset": name} for row, name in zip(TRIALS, names, strict=True)]
    figure = drawn(tmp_path, trials, color="regularizer.dataset")
    digits, task = scatters(figure.axes[0])[:2]
    assert (len(offsets(digits)), len(offsets(task))) == (1, 2)
    found = [to_hex(np.asarray(c.get_facecolor())[0]) for c in (digits, task)]
    assert [color.upper() for color in found] == list(CATEGORY_COLORS[:2])
    assert legend_texts(figure)[:2] == [
        "regularizer.dataset = digits",
        "regularizer.dataset = task",
    ]
    assert len(figure.axes) == 1  # no colour bar


def test_long_category_keeps_its_end(tmp_path: Path) -> None:
    path = "parquet:/data/a/long/way/down/to/the/images-of-birds"
    figure = drawn(
        tmp_path, [TRIALS[0] | {"regularizer.dataset": path}], color="regularizer.dataset"
    )
    assert legend_texts(figure)[0] == "regularizer.dataset = .../to/the/images-of-birds"


def test_front_is_a_staircase_through_ringed_points(tmp_path: Path) -> None:
    (line,) = [x for x in drawn(tmp_path).axes[0].lines if x.get_label() == "Pareto front"]
    assert np.asarray(line.get_xydata()).tolist() == [[0.8, 0.7], [0.9, 0.5]]
    assert line.get_drawstyle() == "steps-pre"
    assert line.get_markerfacecolor() == "none"


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ("clean_accuracy", "robust_accuracy", "steps-pre"),
        ("accuracy_cost", "robustness_gain", "steps-post"),
        ("robustness_gain", "accuracy_cost", "steps-pre"),
    ],
)
def test_staircase_stays_on_the_reachable_side(
    x: str, y: str, expected: str, tmp_path: Path
) -> None:
    """Each corner of the staircase must be dominated by a point of the front."""
    figure = drawn(tmp_path, x=x, y=y)
    (line,) = [x for x in figure.axes[0].lines if x.get_label() == "Pareto front"]
    assert line.get_drawstyle() == expected
    first, second = np.asarray(line.get_xydata())
    corner = (first[0], second[1]) if expected == "steps-pre" else (second[0], first[1])
    signs = [-1 if name == "accuracy_cost" else 1 for name in (x, y)]
    assert any((signs * (point - corner) >= 0).all() for point in (first, second))


def test_baseline_mean_spread_and_seeds(tmp_path: Path) -> None:
    axes = drawn(tmp_path).axes[0]
    (mean,) = [x for x in axes.lines if str(x.get_label()).startswith("baseline")]
    assert mean.get_label() == "baseline, mean ± SD of 3 seeds"
    assert np.asarray(mean.get_xydata())[0] == pytest.approx([0.92, 0.42])
    seeds = scatters(axes)[-1]
    assert seeds.get_label() == "baseline, single seeds"
    expected = [pytest.approx(p) for p in ([0.9, 0.4], [0.92, 0.44], [0.94, 0.42])]
    assert offsets(seeds) == expected
    bars = [
        c
        for c in axes.collections
        if isinstance(c, LineCollection)
        and to_hex(np.asarray(c.get_color())[0]).upper() == BASELINE_COLOR
    ]
    ends = [np.asarray(bar.get_segments()[0]) for bar in bars]
    assert ends[0][:, 0] == pytest.approx([0.90, 0.94])
    assert ends[1][:, 1] == pytest.approx([0.40, 0.44])


def test_baseline_with_one_seed_has_no_error_bar(tmp_path: Path) -> None:
    figure = drawn(tmp_path, curves=baseline_curves(seeds={1: (0.9, 0.4)}))
    assert "baseline, 1 seed" in legend_texts(figure)
    assert "baseline, single seeds" not in legend_texts(figure)


def several_baselines(number: int) -> tuple[list[Row], list[Row]]:
    digests = [f"digest{i}" for i in range(number)]
    trials = [complete_row(i, 0.9, 0.5, baseline_digest=d) for i, d in enumerate(digests)]
    curves = [
        row
        for i, digest in enumerate(digests)
        for row in baseline_curves(digest, {1: (0.5 + i / 100, 0.4), 2: (0.6, 0.4)})
    ]
    return trials, curves


def test_a_few_baselines_are_named(tmp_path: Path) -> None:
    texts = legend_texts(drawn(tmp_path, *several_baselines(3)))
    assert sum(text.startswith("baseline digest, mean") for text in texts) == 3
    assert texts.count("baseline, single seeds") == 1


def test_many_baselines_share_one_entry(tmp_path: Path) -> None:
    figure = drawn(tmp_path, *several_baselines(9))
    assert "9 baselines, mean over seeds" in legend_texts(figure)
    assert len(offsets(scatters(figure.axes[0])[-1])) == 9


def test_standard_errors_are_on_the_front_only(tmp_path: Path) -> None:
    figure = drawn(tmp_path)
    bars = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    horizontal = [np.asarray(segment)[:, 0] for segment in bars[0].get_segments()]
    assert horizontal == [pytest.approx([0.87, 0.93]), pytest.approx([0.76, 0.84])]
    assert "± binomial standard error" in legend_texts(figure)


def test_no_standard_errors_without_accuracies(tmp_path: Path) -> None:
    figure = drawn(tmp_path, x="accuracy_cost", y="robustness_gain")
    assert "± binomial standard error" not in legend_texts(figure)


def test_confirmed_trial_is_marked_and_numbered(tmp_path: Path) -> None:
    rows = confirmation_rows(1, {5: (0.8, 0.6), 6: (0.7, 0.5)})
    write_part(tmp_path, "confirmation", "a.parquet", rows)
    figure = drawn(tmp_path, split="test")
    (mark,) = [x for x in figure.axes[0].lines if str(x.get_label()).startswith("confirmed")]
    assert np.asarray(mark.get_xydata())[0] == pytest.approx([0.75, 0.55])
    assert [text.get_text() for text in figure.axes[0].texts] == ["trial 1"]


def test_labels_and_title(tmp_path: Path) -> None:
    axes = drawn(tmp_path, x="accuracy_cost").axes[0]
    assert axes.get_xlabel() == "accuracy cost (validation, n = 100 images, smaller is better)"
    assert axes.get_ylabel() == "robust accuracy (validation, n = 100 images)"
    assert axes.get_title() == "demo\n3 complete, 0 pruned, 0 failed trials"


def test_legend_of_a_usual_figure(tmp_path: Path) -> None:
    assert sorted(legend_texts(drawn(tmp_path))) == [
        "Pareto front",
        "baseline, mean ± SD of 3 seeds",
        "baseline, single seeds",
        "trial",
        "± binomial standard error",
    ]


def test_legend_hides_no_point(tmp_path: Path) -> None:
    figure = drawn(tmp_path, random_rows(12))
    figure.savefig(BytesIO(), format="png")
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 <= figure.axes[0].get_window_extent().y0
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1


def test_all_trials_are_inside_the_axes(tmp_path: Path) -> None:
    axes = drawn(tmp_path, random_rows(300)).axes[0]
    points = np.array(offsets(scatters(axes)[0]))
    for values, (low, high) in zip(points.T, (axes.get_xlim(), axes.get_ylim()), strict=True):
        assert low < values.min()
        assert values.max() < high


def test_global_style_and_pyplot_are_left_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figure = drawn(tmp_path)
    figure.savefig(BytesIO(), format="png")
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:  # another test's doing
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []
