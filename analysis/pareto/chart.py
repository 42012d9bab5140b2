"""The front of one search as a chart."""

from __future__ import annotations

from analysis.charts.chart import Chart
from analysis.charts.fronts import front_note, front_panel, num_outside
from analysis.findings.fronts import ParetoInfo
from simreg_core.errors import counted
from simreg_core.results.delivered import Delivered


def pareto_chart(info: ParetoInfo, found: Delivered | None = None, answer: str = "") -> Chart:
    """All complete trials, the front, the baselines and the confirmed trials.

    ``found`` is the front in the same two metrics; None: that of the measured values. ``answer``
    is the sentence of a confirmation.
    """
    name = f"pareto_{info.x.metric.name}_{info.y.metric.name}_{info.split}"
    name += "_raw" if found is None else ""
    name = name.replace(":", "_")  # of metrics such as module:function; not every disk takes it
    is_modelled = found is not None and found.is_modelled
    panel, note = front_panel(info, found, is_focused=is_modelled), front_note(info, found)
    if outside := num_outside([panel]):
        note += f" Outside the axes: {counted(outside, 'trial')}."
    if answer:
        note = f"Confirmed: {answer}. {note}"
    return Chart(name, f"{info.study}: Pareto front", (panel,), "", note)
