"""Chart of the noise-aware front: what a model of every metric makes of the trials' raw figures."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from analysis.charts.chart import INK, MUTED, Chart, Missing, Panel, Series, limits_of, staircase
from analysis.charts.fronts import axis_spec, trial_points
from analysis.charts.wording import conditions, list_trials
from analysis.findings.front_uncertainty import Z95
from analysis.findings.fronts import Axis
from analysis.findings.modelled_front import NoiseAwareFront, noise_aware_front
from analysis.findings.study import Study
from analysis.pareto.modelled_picture import MODEL_COLOR
from analysis.pareto.text import model_lines
from analysis.results.load import ResultsError
from analysis.results.parameters import Array
from simreg_core.statistics.gaussian_process import MIN_POINTS
from simreg_core.statistics.pareto import non_dominated

NAME, TITLE = "model_front", "Noise-aware front"
MAX_DRAWN = 1000  # of each front and of the others; the Pareto front's chart has all


def study_model(study: Study) -> NoiseAwareFront | Missing:
    """The front of the modelled objectives, or why there is none."""
    try:
        return noise_aware_front(study.results, study.split, study.objectives)
    except ResultsError as err:
        return Missing(NAME, TITLE, str(err).removeprefix(f"{study.results.folder}: "))


def model_chart(study: Study, model: NoiseAwareFront | Missing) -> Chart | Missing:
    """The modelled front beside the raw one, if the model explains anything.

    A panel per two of the first three objectives.
    """
    if isinstance(model, Missing):
        return model
    if not len(model.trials):
        return Missing(NAME, TITLE, "no usable trial meets the constraints")
    fewest = min(found.num_trials for found in model.models)
    if fewest < MIN_POINTS:
        return Missing(
            NAME, TITLE, f"it needs {MIN_POINTS} complete trials, and there are {fewest}"
        )
    if not model.parameters:
        return Missing(NAME, TITLE, "nothing that was searched varies among the complete trials")
    if not model.is_trustworthy:
        return Missing(NAME, TITLE, "; ".join(model_lines(model)).removesuffix("."))
    drawn = _thinned(model)
    panels = tuple(
        _panel(drawn, list(pair)) for pair in combinations(range(min(len(model.metrics), 3)), 2)
    )
    left_out = len(model.trials) - len(drawn.trials)
    both = model.trials[model.on_front & model.on_raw_front]
    unlucky = model.trials[model.on_front & ~model.on_raw_front]
    lucky = model.trials[~model.on_front & model.on_raw_front]
    caption = (
        "A trial's raw figure holds the luck of its seed. Here a Gaussian process of each metric "
        f"over {', '.join(model.parameters)} has seen all trials together; squares are its means "
        "with 95 % intervals (of the mean, hyperparameters taken as known), dashed lines lead to "
        f"the raw figures of the same trial. On both fronts: {list_trials(both)}; on the modelled "
        f"one only: {list_trials(unlucky)}; on the raw one only: {list_trials(lucky)}. "
        + " ".join(f"{line[0].upper()}{line[1:].removesuffix('.')}." for line in model_lines(model))
        + (f" {left_out} trials more are not drawn." if left_out else "")
        + f" {conditions(study)}"
    )
    return Chart(NAME, TITLE, panels, caption)


def _thinned(model: NoiseAwareFront) -> NoiseAwareFront:
    """At most :data:`MAX_DRAWN` trials of the raw front, of the modelled one and of the others."""
    front, on_raw = model.on_front, model.on_raw_front
    rows = [np.flatnonzero(mask) for mask in (on_raw, front & ~on_raw, ~front & ~on_raw)]
    steps = [np.linspace(0, len(r) - 1, min(len(r), MAX_DRAWN)).astype(np.int64) for r in rows]
    kept = np.sort(np.concatenate([r[s] for r, s in zip(rows, steps, strict=True)]))
    return model._replace(
        trials=model.trials[kept],
        raw=model.raw[kept],
        means=model.means[kept],
        deviations=model.deviations[kept],
        on_raw_front=on_raw[kept],
        on_front=front[kept],
        probability=model.probability[kept],
    )


def _panel(model: NoiseAwareFront, columns: list[int]) -> Panel:
    raw, means = model.raw[:, columns], model.means[:, columns]
    half = Z95 * np.nan_to_num(model.deviations[:, columns])
    bounds = np.stack([means - half, means + half])
    front, on_raw = model.on_front, model.on_raw_front
    metrics = [model.metrics[column] for column in columns]
    maximize = (metrics[0].direction == "maximize", metrics[1].direction == "maximize")
    gap = np.full(raw[front].shape, np.nan)
    links = np.stack([means[front], raw[front], gap], axis=1).reshape(-1, 2)
    numbers = model.trials
    series = (
        trial_points("trial, raw", raw, ~on_raw, numbers, MUTED, "circle"),
        Series(
            "from mean to raw",
            links[:, 0],
            links[:, 1],
            "line",
            MUTED,
            dash=True,
            in_legend=False,
            reacts=False,
        ),
        _staircase("raw front", raw[on_raw], maximize, INK),
        trial_points("on the raw front", raw, on_raw, numbers, INK, "circle-open", size=12),
        _staircase("modelled front", means[front], maximize, MODEL_COLOR),
        trial_points(
            "mean by the model", means, front, numbers, MODEL_COLOR, "square", size=9
        )._replace(x_bounds=bounds[:, front, 0], y_bounds=bounds[:, front, 1]),
    )
    x_axis, y_axis = (
        axis_spec(
            Axis(metric, model.split),
            limits_of(np.concatenate([raw[front | on_raw, i], bounds[:, front, i].ravel()])),
        )
        for i, metric in enumerate(metrics)
    )
    return Panel("", x_axis, y_axis, tuple(s for s in series if len(s.x)))


def _staircase(label: str, points: Array, maximize: tuple[bool, bool], color: str) -> Series:
    """The boundary of what points (F, 2) attain in these two metrics."""
    x, y = staircase(points[non_dominated(points, maximize)], maximize)
    return Series(label, x, y, "line", color, reacts=False)
