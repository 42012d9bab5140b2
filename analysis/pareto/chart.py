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
    info: ParetoInfo, model_front: NoiseAwareFront | None = None, which: Which = "raw"
) -> Chart:
    """All complete trials, the front, the baselines and the confirmed trials.

    Args:
        info: The search.
        model_front: The front by models of its two metrics; needed unless ``which`` is ``raw``.
        which: The front to draw.
    """
    model = model_series(model_front) if model_front is not None else []
    panel = front_panel(info, model=model, with_front=which != "model")
    note = f"{conditions(info)} {interval_text(info)}"
    if model_front is not None:
        note += " Squares: means by a model of each metric with their 95 % intervals."
    name = f"pareto_{info.x.metric.name}_{info.y.metric.name}_{info.split}"
    return Chart(
        name if which == "raw" else f"{name}_{which}",
        f"{info.study}: Pareto front",
        (panel,),
        "",
        note,
    )
