"""The chart of a front: what is in it, by its arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.charts.chart import Panel, Series
from analysis.charts.fronts import front_panel, staircase
from analysis.charts.style import CATEGORIES
from tests.analysis_tests.result_rows import (
    alpha_rows,
    baseline_curves,
    complete_row,
    confirmation_rows,
    info_of,
    random_rows,
    write_part,
)

TRIALS = alpha_rows()


def panel(folder: Path, trials: Sequence[Mapping[str, Any]] = TRIALS, **options: Any) -> Panel:
    drawing = {key: options.pop(key) for key in ("is_focused",) if key in options}
    return front_panel(info_of(folder, trials, **options), **drawing)


def labels(found: Panel) -> list[str]:
    return [series.label for series in found.series]


def series(found: Panel, start: str) -> Series:
    return next(one for one in found.series if one.label.startswith(start))


def points(one: Series) -> list[list[float]]:
    return np.column_stack([one.x, one.y]).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("num_trials", [1, 30])
def test_every_trial_is_a_point_inside_the_axes(num_trials: int, tmp_path: Path) -> None:
    rows = random_rows(num_trials)
    found = panel(tmp_path, rows)
    expected = [[r["validation.clean_accuracy"], r["validation.robust_accuracy"]] for r in rows]
    assert points(series(found, "trial")) == expected
    for values, axis in zip(np.transpose(expected), (found.x, found.y), strict=True):
        assert axis.limits is not None
        assert axis.limits[0] < values.min() <= values.max() < axis.limits[1]


def test_numbers_that_vary_color_the_trials_on_their_scale(tmp_path: Path) -> None:
    assert series(panel(tmp_path / "one", TRIALS[:1]), "trial").shade is None
    shade = series(panel(tmp_path), "trial").shade
    assert shade is not None
    assert shade.label == "regularizer.alpha"
    assert shade.values == pytest.approx([0, 1, 2])
    assert {(0.0, "1"), (1.0, "10"), (2.0, "100")} <= set(shade.ticks)


def test_named_parameter_colors_the_trials(tmp_path: Path) -> None:
    trials = [row | {"regularizer.num_images": 10 * i} for i, row in enumerate(TRIALS)]
    shade = series(panel(tmp_path, trials, color="regularizer.num_images"), "trial").shade
    assert shade is not None
    assert shade.values.tolist() == [0.0, 10.0, 20.0]


def test_zero_is_apart_on_a_logarithmic_scale(tmp_path: Path) -> None:
    alphas = (0.0, 0.1, 1.0, 10.0)
    trials = [complete_row(i, 0.9, 0.5, **{"regularizer.alpha": a}) for i, a in enumerate(alphas)]
    shade = series(panel(tmp_path, trials), "trial").shade
    assert shade is not None
    assert shade.values == pytest.approx([-2, -1, 0, 1])
    assert shade.ticks[0] == (-2, "0")


def test_categories_are_series_of_their_own(tmp_path: Path) -> None:
    path = "parquet:/data/a/long/way/down/to/the/images-of-birds"
    names = ("task", path, "task")
    trials = [row | {"regularizer.dataset": name} for row, name in zip(TRIALS, names, strict=True)]
    birds, task = panel(tmp_path, trials, color="regularizer.dataset").series[:2]
    assert (points(birds), len(task.x)) == ([[0.8, 0.7]], 2)
    assert (birds.color, task.color) == CATEGORIES[:2]
    assert birds.label.endswith("/images-of-birds")


def test_infeasible_trials_are_crosses(tmp_path: Path) -> None:
    found = panel(tmp_path, [TRIALS[0], TRIALS[1] | {"feasible": False}, TRIALS[2]])
    crosses = series(found, "misses the constraints")
    assert (points(crosses), crosses.symbol) == ([[0.8, 0.7]], "x")
    assert points(series(found, "Pareto front")) == [[0.9, 0.5]]
    assert [0.8, 0.7] not in points(series(found, "trial"))


def test_front_is_a_ringed_staircase_with_intervals(tmp_path: Path) -> None:
    front = series(panel(tmp_path), "Pareto front")
    assert points(front) == [[0.8, 0.7], [0.9, 0.5]]
    assert (front.kind, front.symbol, front.steps) == ("line", "circle-open", "before")
    assert front.trials is not None
    assert front.x_bounds is not None
    assert front.trials.tolist() == [1, 0]
    assert front.x_bounds[:, 1] == pytest.approx([0.82563, 0.94477], abs=1e-5)  # Wilson's


@pytest.mark.parametrize(("is_maximized", "steps"), [(True, "before"), (False, "after")])
def test_staircase_stays_on_the_reachable_side(is_maximized: bool, steps: str) -> None:
    line = staircase(np.array([[0.3, 0.8], [0.1, 0.5]]), is_maximized, "front", "ink")
    assert (points(line), line.steps) == ([[0.1, 0.5], [0.3, 0.8]], steps)


def test_baseline_with_its_interval_and_seeds(tmp_path: Path) -> None:
    found = panel(tmp_path)
    mean = series(found, "baseline, mean of 3 seeds")
    assert points(mean) == [pytest.approx([0.92, 0.42])]
    assert mean.x_bounds is not None
    half = 4.302653 * 0.02 / np.sqrt(3)
    assert mean.x_bounds[:, 0] == pytest.approx([0.92 - half, 0.92 + half])
    seeds = points(series(found, "baseline, single seeds"))
    assert seeds == [pytest.approx(p) for p in ([0.9, 0.4], [0.92, 0.44], [0.94, 0.42])]


def test_baseline_of_one_seed_has_no_interval(tmp_path: Path) -> None:
    found = panel(tmp_path, curves=baseline_curves(seeds={1: (0.9, 0.4)}))
    mean = series(found, "baseline, 1 seed")
    assert mean.x_bounds is not None
    assert np.isnan(mean.x_bounds).all()
    assert "baseline, single seeds" not in labels(found)


@pytest.mark.parametrize("number", [3, 9])
def test_several_baselines(number: int, tmp_path: Path) -> None:
    trials = [complete_row(i, 0.9, 0.5, baseline_digest=f"digest{i}") for i in range(number)]
    curves = [
        row
        for i in range(number)
        for row in baseline_curves(f"digest{i}", {1: (0.5 + i / 100, 0.4), 2: (0.6, 0.4)})
    ]
    found = panel(tmp_path, trials, curves=curves)
    named = [label for label in labels(found) if label.startswith("baseline digest")]
    assert len(named) == (3 if number == 3 else 1)
    if number == 9:
        assert len(series(found, "8 other baselines").x) == 8


def test_confirmed_trials_are_numbered_beside_their_baseline(tmp_path: Path) -> None:
    rows = confirmation_rows(1, {5: (0.8, 0.6), 6: (0.7, 0.5)}) + confirmation_rows(
        2, {5: (0.6, 0.8)}
    )
    baseline = confirmation_rows(0, {5: (0.9, 0.3), 6: (0.9, 0.5)})
    rows += [row | {"role": "baseline", "trial": None} for row in baseline]
    write_part(tmp_path, "confirmation", "a.parquet", rows)
    found = panel(tmp_path, split="test")
    confirmed = series(found, "confirmed on test, mean of 1 to 2 seeds")
    assert points(confirmed) == [[0.6, 0.8], pytest.approx([0.75, 0.55])]
    assert confirmed.texts == ("trial 2", "trial 1")
    fresh = series(found, "baseline on test, fresh seeds, mean of 2 seeds")
    assert points(fresh) == [pytest.approx([0.9, 0.4])]


def test_focused_axes_leave_far_trials_out(tmp_path: Path) -> None:
    far = complete_row(3, 0.1, 0.1)
    whole = panel(tmp_path / "a", [*TRIALS, far])
    focused = panel(tmp_path / "b", [*TRIALS, far], is_focused=True)
    assert whole.x.limits is not None
    assert focused.x.limits is not None
    assert whole.x.limits[0] < 0.1 < 0.5 < focused.x.limits[0]


def test_axes_name_split_and_direction(tmp_path: Path) -> None:
    found = panel(tmp_path, x="accuracy_cost", split="test")
    assert found.x.label == "accuracy cost (test, smaller is better)"
    assert found.y.label == "robust accuracy (test)"
