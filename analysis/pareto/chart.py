"""The front of one search as a chart."""

from __future__ import annotations

from analysis.charts.chart import Chart
from analysis.charts.fronts import front_note, front_panel
from analysis.findings.fronts import ParetoInfo
from simreg_core.results.delivered import Delivered


def pareto_chart(info: ParetoInfo, found: Delivered | None = None) -> Chart:
    """All complete trials, the front, the baselines and the confirmed trials.

    ``found`` is the front in the same two metrics; None: that of the measured values.
    """
    name = f"pareto_{info.x.metric.name}_{info.y.metric.name}_{info.split}"
    name += "_raw" if found is None else ""
    note = front_note(info, found)
    return Chart(name, f"{info.study}: Pareto front", (front_panel(info, found),), "", note)
