"""Chart of how the hypervolume grew, and that of another search to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.charts.chart import AxisSpec, Chart, Missing, Panel, Series
from analysis.charts.style import INK, LINES, Dash, limits_of
from analysis.charts.wording import axis_values, conditions, number
from analysis.findings.fronts import reference_point
from analysis.findings.hypervolume_growth import HOURS, Growth, growth
from analysis.findings.study import Study
from simreg_core.errors import counted

Grown = tuple[str, str, Dash, Growth]  # label, colour, dash, what to draw


def hypervolume_chart(study: Study, reference: Study | None) -> Chart | Missing:
    """How the hypervolume grew, against trials and against hours of devices."""
    name, title = "hypervolume", "Hypervolume over the search"
    if not study.pairs:
        return Missing(name, title, "no trial is complete with the metrics of this split")
    if len(study.objectives) > 3:
        return Missing(name, title, "it is computed for at most three objectives")
    known = [s.points for s in (study, reference) if s is not None and len(s.points)]
    corner = reference_point(study.axes, np.concatenate(known))
    grown: list[Grown] = [("this search", INK, "solid", growth(study, corner))]
    if reference is not None and reference.pairs:
        tuning = reference.section("tuning")
        sampler = tuning.get("sampler", "nehvi") if tuning else "unknown"
        label = f"reference: {reference.results.study} (sampler: {sampler})"
        grown.append((label, LINES[1], "dash", growth(reference, corner)))
    unit = grown[0][3].unit
    # The first trial's jump from 0 would flatten what follows.
    positive = np.concatenate([found.volume[found.volume > 0] for _, _, _, found in grown])
    axis = AxisSpec("hypervolume", limits=limits_of(positive))
    panels = (
        Panel("", AxisSpec("trials ended"), axis, _steps(grown, False)),
        Panel("", AxisSpec(unit), axis, _steps(grown, True)),
    )
    ends = "; ".join(
        f"{label}: {number(found.volume[-1], 6)} after {counted(int(found.trials[-1]), 'trial')} "
        f"and {number(found.hours[-1], 3)} {found.unit}"
        for label, _, _, found in grown
    )
    caption = (
        f"Volume that the trials so far dominate, bounded by {axis_values(study.axes, corner)}. "
        f"At the end: {ends}. {HOURS} With one noisy value per trial, the maximum of the noise "
        "grows, too."
        + ("" if len(grown) > 1 else " --reference adds another search, by random sampling say.")
    )
    return Chart(name, title, panels, caption, conditions(study.pairs[0]))


def _steps(grown: Sequence[Grown], by_hours: bool) -> tuple[Series, ...]:
    series = []
    for label, color, dash, found in grown:
        x = found.hours if by_hours else found.trials
        line = Series(label, x, found.volume, "line", color, "none", dash, steps="after")
        series.append(line._replace(in_legend=not by_hours))
    return tuple(series)
