"""The front of one search, raw, modelled or both, as a chart."""

from __future__ import annotations

from typing import Literal

from analysis.charts.chart import Chart
from analysis.charts.fronts import front_panel
from analysis.charts.modelled_front import model_series
from analysis.charts.wording import conditions, interval_text
from analysis.findings.fronts import ParetoInfo
from analysis.findings.modelled_front import NoiseAwareFront

Which = Literal["raw", "model", "both"]


def pareto_chart(
    info: ParetoInfo, model: NoiseAwareFront | None = None, which: Which = "raw"
) -> Chart:
    """All complete trials, the front, the baselines and the confirmed trials.

    The modelled front is that of the same two metrics; needed unless ``which`` is ``raw``.
    """
    series = model_series(model) if model is not None else []
    panel = front_panel(info, model=series, with_front=which != "model")
    note = f"{conditions(info)} {interval_text(info)}"
    if model is not None:
        note += " Squares: means by a model of each metric with their 95 % intervals."
    name = f"pareto_{info.x.metric.name}_{info.y.metric.name}_{info.split}"
    name += "" if which == "raw" else f"_{which}"
    return Chart(name, f"{info.study}: Pareto front", (panel,), "", note)
