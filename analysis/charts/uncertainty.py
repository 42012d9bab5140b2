"""Charts of how far noise moves the front: its probable members, what it attains."""

from __future__ import annotations

import numpy as np

from analysis.charts.chart import AxisSpec, Chart, Missing, Panel, Series, categories, not_empty
from analysis.charts.fronts import axis_spec, baseline_series, staircase
from analysis.charts.style import INK, MUTED, TRIAL, limits_of
from analysis.charts.wording import NOISE, conditions, number
from analysis.findings.front_uncertainty import Attainment, attainment
from analysis.findings.fronts import ParetoInfo
from analysis.findings.study import Study
from analysis.results.load import Array
from simreg_core.errors import counted
from simreg_core.statistics.pareto import hypervolume, non_dominated

MAX_PROBABLE = 30
AREA_DRAWS = 1000
AREA_DRAWS_OF_MANY = 300
NONE_FEASIBLE = "no usable trial meets the constraints"
_MANY = 2000


def probability_chart(study: Study) -> Chart | Missing:
    """How often each trial is on the front when noise is drawn anew."""
    name, title = "probability", "Probability of being on the front"
    if not study.feasible.any():
        return Missing(name, title, NONE_FEASIBLE)
    rows = np.argsort(-study.probability, kind="stable")[:MAX_PROBABLE]
    rows = rows[(study.probability[rows] > 0) | study.on_front[rows]][::-1]
    trials = study.numbers[rows]
    y = np.arange(len(rows), dtype=np.float64)
    x, is_observed = study.probability[rows], study.on_front[rows]
    series = [
        Series(label, x[mask], y[mask], "bars", color, size=0.75, trials=trials[mask])
        for label, color, mask in (
            ("on the front", TRIAL, is_observed),
            ("not on it", MUTED, ~is_observed),
        )
    ]
    sure = int((study.probability >= 0.95).sum())
    top = ", ".join(f"trial {n} {p:.2f}" for n, p in list(zip(trials, x, strict=True))[:-6:-1])
    drawn, noise = "noise", NOISE
    if study.delivered.is_modelled:
        drawn = "modelled means"
        noise = "They are drawn independently, although close configurations move together."
    caption = (
        f"Share of {study.draws} draws (seed 0) of all trials' {drawn} in which a trial is on the "
        f"front of {counted(int(study.feasible.sum()), 'trial')}. {noise} Highest: {top}. "
        f"At least 0.95: {sure} of {counted(len(study.points), 'trial')}."
        + (f" The {len(rows)} most probable are shown." if len(study.points) > len(rows) else "")
    )
    axes = AxisSpec("probability", limits=(0.0, 1.0)), categories([f"trial {n}" for n in trials])
    panel = Panel("", *axes, not_empty(series))
    return Chart(name, title, (panel,), caption, conditions(study.pairs[0]))


def attainment_chart(study: Study) -> Chart | Missing:
    """What the front of the first two objectives attains, and how much of it beats the baseline."""
    name, title = "attainment", "Attainment against the baseline"
    if not study.feasible.any():
        return Missing(name, title, NONE_FEASIBLE)
    if study.baseline is None or not np.isfinite(study.baseline[0][:2]).all():
        return Missing(name, title, "there are no curves of a baseline that give both metrics")
    pair = study.pairs[0]
    mean, error = study.baseline[0][:2], study.baseline[1][:2] / np.sqrt(study.baseline[2])
    maximize = (pair.x.maximize, pair.y.maximize)
    points, noise = study.points[study.feasible, :2], study.noise[study.feasible, :2]
    draws = AREA_DRAWS if len(points) <= _MANY else AREA_DRAWS_OF_MANY
    found = attainment(points, noise, maximize, (mean, error), draws)
    low, median, high = np.quantile(found.areas, [0.05, 0.5, 0.95])
    others = len(study.objectives) - 2
    note = f" (without the other {others} objectives)" if others else ""
    caption = (
        f"The best {pair.y.metric.title} that is attained together with each "
        f"{pair.x.metric.title}{note}. The observed front attains an area of "
        f"{number(hypervolume(points, mean, maximize), 5)} beyond the baseline's mean in both. "
        f"Over {draws} draws of the noise (seed 0; the baseline's, too) the area is "
        f"{number(low, 5)} to {number(high, 5)} (5 % to 95 %, median {number(median, 5)}). "
        f"{NOISE} Draws add noise to values that contain noise already, so the band lies too high: "
        "look at its width."
    )
    front = points[non_dominated(points, maximize)]
    panel = _attainment_panel(pair, front, found, mean)
    return Chart(name, title, (panel,), caption, conditions(pair))


def _attainment_panel(pair: ParetoInfo, front: Array, found: Attainment, baseline: Array) -> Panel:
    low, median, high = found.quantiles
    known = np.isfinite(low) & np.isfinite(high)
    band = Series("5 % to 95 % of draws", found.grid[known], median[known], "band", TRIAL)
    series = (
        band._replace(y_bounds=np.stack([low, high])[:, known]),
        Series("median of draws", found.grid, median, "line", TRIAL, "none", "dash"),
        staircase(front, pair.x.maximize, "observed", INK),
        *baseline_series(pair.baselines[:1]),
    )
    limits = limits_of(np.append(front[:, 0], baseline[0]))
    return Panel("", axis_spec(pair.x, limits), axis_spec(pair.y), series)
