"""Chart of the noise-aware front: the front by a model of every metric."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from analysis.charts.chart import (
    Chart,
    Missing,
    Panel,
    Series,
    bounds_in,
    not_empty,
    scatter,
    values_in,
)
from analysis.charts.fronts import axis_spec, staircase
from analysis.charts.style import INK, MODEL, MUTED, limits_of
from analysis.charts.uncertainty import NONE_FEASIBLE
from analysis.charts.wording import conditions, list_trials, model_lines
from analysis.findings.front_uncertainty import Z95
from analysis.findings.fronts import Axis
from analysis.findings.modelled_front import NoiseAwareFront, noise_aware_front
from analysis.findings.study import Study
from analysis.results.load import ResultsError
from simreg_core.errors import counted
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
    """The modelled and the raw front in a panel per two of the first three objectives."""
    if isinstance(model, Missing):
        return model
    if not len(model.trials):
        return Missing(NAME, TITLE, NONE_FEASIBLE)
    fewest = min(found.num_trials for found in model.models)
    if fewest < MIN_POINTS:
        reason = f"it needs {MIN_POINTS} complete trials, found {fewest}"
        return Missing(NAME, TITLE, reason)
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
        "The raw value of a trial includes the luck of its seed. Here a Gaussian process of each "
        f"metric over {', '.join(model.parameters)} uses all trials together. Squares are its "
        "means with 95 % intervals (of the mean, taking the hyperparameters as known); dotted "
        "lines lead to the raw values of the same trials. On both fronts: "
        f"{list_trials(both)}; on the modelled one only: {list_trials(unlucky)}; on the raw one "
        f"only: {list_trials(lucky)}. "
        + " ".join(f"{line[0].upper()}{line[1:].removesuffix('.')}." for line in model_lines(model))
        + (f" {counted(left_out, 'more trial')} not drawn." if left_out else "")
    )
    return Chart(NAME, TITLE, panels, caption, conditions(study.pairs[0]))


def _thinned(model: NoiseAwareFront) -> NoiseAwareFront:
    """At most :data:`MAX_DRAWN` trials of the raw front, of the modelled one and of the others."""
    front, on_raw = model.on_front, model.on_raw_front
    rows = [np.flatnonzero(mask) for mask in (on_raw, front & ~on_raw, ~front & ~on_raw)]
    steps = [np.linspace(0, len(r) - 1, min(len(r), MAX_DRAWN)).astype(np.int64) for r in rows]
    kept = np.sort(np.concatenate([r[s] for r, s in zip(rows, steps, strict=True)]))
    fields = ("trials", "raw", "means", "deviations", "on_raw_front", "on_front", "probability")
    return model._replace(**{name: getattr(model, name)[kept] for name in fields})


def _panel(model: NoiseAwareFront, columns: list[int]) -> Panel:
    raw, on_raw = model.raw[:, columns], model.on_raw_front
    axes = [Axis(model.metrics[column], model.split) for column in columns]
    maximize = (axes[0].maximize, axes[1].maximize)
    front = raw[on_raw][non_dominated(raw[on_raw], maximize)]
    others = scatter("trial, raw", raw[~on_raw], color=MUTED, trials=model.trials[~on_raw])
    rings = scatter("on the raw front", raw[on_raw], color=INK, symbol="circle-open", size=12)
    shown = (
        staircase(front, maximize[0], "raw front", INK),
        rings._replace(trials=model.trials[on_raw]),
        *model_series(model, columns),
    )
    x_axis, y_axis = (
        axis_spec(axis, limits_of(np.append(values_in(shown, place), bounds_in(shown, place))))
        for place, axis in enumerate(axes)
    )
    return Panel("", x_axis, y_axis, not_empty([others, *shown]))


def model_series(model: NoiseAwareFront, columns: Sequence[int] = (0, 1)) -> list[Series]:
    """The front of two modelled metrics: means with intervals and lines to the raw values."""
    front = model.on_front
    means, raw = model.means[front][:, columns], model.raw[front][:, columns]
    half = Z95 * np.nan_to_num(model.deviations[front][:, columns])
    maximize = [model.metrics[column].direction == "maximize" for column in columns]
    gaps = np.full(raw.shape, np.nan)
    links = np.stack([means, raw, gaps], axis=1).reshape(-1, 2)
    trust = "" if model.is_trustworthy else " (not to be trusted: see text)"
    ends = links[:, 0], links[:, 1]
    bounds = np.stack([means - half, means + half])
    squares = scatter("mean by the model", means, bounds, color=MODEL, symbol="square")
    boundary = means[non_dominated(means, maximize)]
    return [
        Series("from mean to raw value", *ends, "line", MUTED, "none", "dot", reacts=False),
        staircase(boundary, maximize[0], f"modelled front{trust}", MODEL),
        squares._replace(trials=model.trials[front]),
    ]
