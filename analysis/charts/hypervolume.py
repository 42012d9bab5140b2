"""Chart of how the hypervolume grew, beside that of a reference search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.charts.chart import (
    INK,
    LINE_COLORS,
    AxisSpec,
    Chart,
    Missing,
    Panel,
    Series,
    limits_of,
)
from analysis.charts.wording import conditions, number
from analysis.findings.hypervolume_growth import Growth, growth
from analysis.findings.study import Study
from analysis.results.parameters import Array


def hypervolume_chart(study: Study, reference: Study | None) -> Chart | Missing:
    """How the hypervolume grew, against trials and against hours of devices."""
    name, title = "hypervolume", "Hypervolume over the search"
    if not study.pairs:
        return Missing(name, title, "no trial is complete with the figures of this split")
    if len(study.objectives) > 3:
        return Missing(name, title, "it is computed for at most three objectives")
    corner = _corner([study, reference])
    grown = [("this search", INK, False, growth(study, corner))]
    if reference is not None and reference.pairs:
        tuning = reference.space.get("tuning")
        sampler = tuning.get("sampler", "tpe") if isinstance(tuning, dict) else "unknown"
        label = f"reference: {reference.results.study} (sampler: {sampler})"
        grown.append((label, LINE_COLORS[1], True, growth(reference, corner)))
    unit = grown[0][3].unit
    # The first trial's jump from 0 would flatten what follows.
    known = np.concatenate([found.volume[found.volume > 0] for _, _, _, found in grown])
    axis = AxisSpec("hypervolume", limits=limits_of(known))
    panels = (
        Panel("", AxisSpec("trials ended"), axis, _steps(grown, False)),
        Panel("", AxisSpec(unit), axis, _steps(grown, True)),
    )
    at = ", ".join(
        f"{axis.metric.label} {number(value)}"
        for axis, value in zip(study.axes, corner, strict=True)
    )
    ends = "; ".join(
        f"{label}: {number(found.volume[-1], 6)} after {int(found.trials[-1])} trials and "
        f"{number(found.hours[-1], 3)} {found.unit}"
        for label, _, _, found in grown
    )
    caption = (
        f"Volume that the trials so far dominate, bounded by {at}. At the end: {ends}. "
        f"{grown[0][3].how} One noisy figure per trial: the maximum of noise grows, too. "
        + ("" if len(grown) > 1 else "No random-search reference was given (--reference). ")
        + conditions(study)
    )
    return Chart(name, title, panels, caption)


def _corner(studies: Sequence[Study | None]) -> Array:
    """A useless network's values where there are any, else the worst of all studies."""
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


def _steps(grown: Sequence[tuple[str, str, bool, Growth]], by_hours: bool) -> tuple[Series, ...]:
    series = []
    for label, color, dash, found in grown:
        x = found.hours if by_hours else found.trials
        series.append(
            Series(
                label,
                np.repeat(x, 2)[1:],
                np.repeat(found.volume, 2)[:-1],
                "line",
                color,
                dash=dash,
                in_legend=not by_hours,
            )
        )
    return tuple(series)
