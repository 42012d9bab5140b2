"""Chart of how the hypervolume grew, and that of another search to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.charts.chart import AxisSpec, Chart, Missing, Panel, Series
from analysis.charts.style import INK, LINES, Dash, limits_of
from analysis.charts.wording import conditions, number
from analysis.findings.hypervolume_growth import Growth, growth
from analysis.findings.study import Study
from analysis.results.parameters import Array

Grown = tuple[str, str, Dash, Growth]  # label, colour, dash, what to draw


def hypervolume_chart(study: Study, reference: Study | None) -> Chart | Missing:
    """How the hypervolume grew, against trials and against hours of devices."""
    name, title = "hypervolume", "Hypervolume over the search"
    if not study.pairs:
        return Missing(name, title, "no trial is complete with the metrics of this split")
    if len(study.objectives) > 3:
        return Missing(name, title, "it is computed for at most three objectives")
    corner = _corner([study, reference])
    grown: list[Grown] = [("this search", INK, "solid", growth(study, corner))]
    if reference is not None and reference.pairs:
        tuning = reference.space.get("tuning")
        sampler = tuning.get("sampler", "tpe") if isinstance(tuning, dict) else "unknown"
        label = f"reference: {reference.results.study} (sampler: {sampler})"
        grown.append((label, LINES[1], "dash", growth(reference, corner)))
    unit = grown[0][3].unit
    # The first trial's jump from 0 would flatten what follows.
    known = np.concatenate([found.volume[found.volume > 0] for _, _, _, found in grown])
    axis = AxisSpec("hypervolume", limits=limits_of(known))
    panels = (
        Panel("", AxisSpec("trials ended"), axis, _steps(grown, False)),
        Panel("", AxisSpec(unit), axis, _steps(grown, True)),
    )
    at = ", ".join(
        f"{axis.metric.title} {number(value)}"
        for axis, value in zip(study.axes, corner, strict=True)
    )
    ends = "; ".join(
        f"{label}: {number(found.volume[-1], 6)} after {int(found.trials[-1])} trials and "
        f"{number(found.hours[-1], 3)} {found.unit}"
        for label, _, _, found in grown
    )
    caption = (
        f"Volume that the trials so far dominate, bounded by {at}. At the end: {ends}. "
        f"{grown[0][3].how} With one noisy value per trial, the maximum of the noise grows, too."
        + ("" if len(grown) > 1 else " --reference adds another search, by random sampling say.")
    )
    return Chart(name, title, panels, caption, conditions(study.pairs[0]))


def _corner(studies: Sequence[Study | None]) -> Array:
    """The values of a useless network, or where a metric has none the worst of all studies."""
    known = [study for study in studies if study is not None and len(study.points)]
    points = np.concatenate([study.points for study in known])
    return np.array(
        [
            axis.metric.worst
            if axis.metric.worst is not None
            else (values.min() if axis.maximize else values.max())
            for axis, values in zip(known[0].axes, points.T, strict=True)
        ]
    )


def _steps(grown: Sequence[Grown], by_hours: bool) -> tuple[Series, ...]:
    return tuple(
        Series(
            label,
            found.hours if by_hours else found.trials,
            found.volume,
            "line",
            color,
            "none",
            dash,
            steps="after",
            in_legend=not by_hours,
        )
        for label, color, dash, found in grown
    )
