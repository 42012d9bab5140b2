"""The poster's panels of what the regularizer's settings do, as charts.

Each is computed from one folder of results. Sections are those of the source poster (Attias,
Pehlevan, Obeid). Bands and bars are sample standard deviations over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.charts.chart import AxisSpec, Chart, Panel, Series, categories, mean_line
from analysis.charts.style import BASELINE_LOOK, look
from analysis.charts.wording import images_text
from analysis.poster.variants import (
    Group,
    Study,
    baseline,
    conditions,
    group_label,
    groups,
    load_study,
    mean_over_seeds,
    short_value,
)
from analysis.results.load import Array, ResultsError
from analysis.results.parameters import scale_of

MAX_TICKS = 8  # of a searched grid; more would overlap
_SHORT = {
    "regularizer.batch_size": "pairs per step, k",
    "regularizer.num_images": "regularization images, N",
    "regularizer.threshold": "threshold, Th",
}
_METRIC_LABELS = {
    "clean_accuracy": "clean accuracy C",
    "robust_accuracy": "robust accuracy R",
    "accuracy_cost": "accuracy cost, $C_0 - C$",
    "robustness_gain": "robustness gain, $R - R_0$",
    "tradeoff_score": "tradeoff score, gain - cost",
}


def cost_panel(folder: Path, split: str) -> Chart:
    """Section 4.iii: robust accuracy against pairs per step and number of images.

    Raises:
        ResultsError: the folder's results cannot be used, or none of the two was varied.
    """
    study = load_study(folder, split)
    keys = ("regularizer.batch_size", "regularizer.num_images")
    plots = [_metric_plot(study, x, "robust_accuracy") for x in keys if _varies(study, x)]
    if not plots:
        raise ResultsError(f"{folder}: all trials have the same {' and '.join(keys)}")
    return Chart(
        "4iii_cost",
        "4.iii Size of the regularization batch and dataset",
        tuple(plots),
        "",
        conditions(study, images_text(study.complete[f"num_{split}"])),
    )


def tradeoff_panel(folder: Path, split: str) -> Chart:
    """Section 5: accuracy cost, robustness gain and tradeoff score over Th, a line per alpha.

    Raises:
        ResultsError: the folder's results cannot be used, or Th was not varied.
    """
    study = load_study(folder, split)
    if not _varies(study, "regularizer.threshold"):
        raise ResultsError(f"{folder}: all trials have the same regularizer.threshold")
    metrics = ("accuracy_cost", "robustness_gain", "tradeoff_score")
    plots = [_metric_plot(study, "regularizer.threshold", metric) for metric in metrics]
    weights = ", ".join(
        f"{value:g}" for value in sorted(study.complete["robustness.tradeoff_weight"].unique())
    )
    images = images_text(study.complete[f"num_{split}"])
    return Chart(
        "5_tradeoff",
        "5. Accuracy-robustness tradeoff",
        tuple(plots),
        "",
        f"{conditions(study, images)}; weight of the cost in the score: {weights}",
    )


def _varies(study: Study, parameter: str) -> bool:
    return study.complete[parameter].nunique() > 1


def _metric_plot(study: Study, x: str, metric: str) -> Panel:
    values = np.unique(study.complete[x].to_numpy(dtype=np.float64))
    series = _level_series(study, metric, values[[0, -1]])
    for number, group in enumerate(groups(study, without=x)):
        own = study.networks[study.networks["trial"].isin(group.trials)]
        label = group.label or "regularized"
        column = f"{study.split}.{metric}"
        series += mean_line(label, *mean_over_seeds(study, own, x, column), look(number))
    ticks = tuple((value, f"{value:g}") for value in values.tolist() if len(values) <= MAX_TICKS)
    return Panel(
        _METRIC_LABELS[metric].partition(",")[0],
        AxisSpec(_SHORT[x], scale_of(values) == "log", ticks=ticks),
        AxisSpec(_METRIC_LABELS[metric]),
        tuple(series),
    )


def _level_series(study: Study, metric: str, ends: Array) -> list[Series]:
    """The baseline, which does not depend on x, from one end of the axis to the other."""
    level = _baseline_level(study, metric)
    if level is None:
        return []
    mean, std = (np.repeat(value, 2) for value in level)
    return mean_line("unregularized", ends, mean, std, BASELINE_LOOK._replace(symbol="none"))


def _baseline_level(study: Study, metric: str) -> tuple[float, float] | None:
    """Mean of the baseline and its SD over seeds (NaN of one); None if it lacks the metric."""
    group = baseline(study, metric)
    if group is None:
        return None
    return float(group.mean[0]), float(group.std[0])


def components_panel(folder: Path, split: str) -> Chart:
    """Section 6: clean and robust accuracy of every variant of the regularizer.

    Raises:
        ResultsError: the folder's results cannot be used.
    """
    study = load_study(folder, split)
    variants = sorted(groups(study), key=lambda group: min(group.trials))  # as they were tried
    usual = _usual(study, variants[0].values)
    named = [(group_label(group.values, usual) or "reference", group) for group in variants]
    named.sort(key=lambda pair: pair[0] != "reference")  # stable
    own = [group for _, group in named]
    series = tuple(
        _dots(study, metric, own, place)
        for place, metric in enumerate(("clean_accuracy", "robust_accuracy"))
    )
    names = ["unregularized", *(label for label, _ in named)]
    y_axis = categories(names, from_top=True)
    panel = Panel("What differs from the reference", AxisSpec("accuracy"), y_axis, series)
    reference = ", ".join(
        short_value(name, value) for name, value in usual.items() if pd.notna(value)
    )
    note = conditions(study, images_text(study.complete[f"num_{split}"]))
    if reference:
        note += f"; reference: {reference}"
    return Chart("6_components", "6. Components of the regularizer", (panel,), "", note)


def _usual(study: Study, varying: Iterable[str]) -> dict[str, Any]:
    """The most frequent value of each varying parameter (null is a value)."""
    counts = {name: study.complete[name].value_counts(dropna=False) for name in varying}
    return {name: tally.index[0] for name, tally in counts.items()}


def _dots(study: Study, metric: str, variants: Sequence[Group], place: int) -> Series:
    """A metric of the baseline, at 0, and of each variant, as mean ± SD over seeds."""
    levels = {0: _baseline_level(study, metric)}
    column = f"{study.split}.{metric}"
    for number, variant in enumerate(variants, start=1):
        rows = study.networks[study.networks["trial"].isin(variant.trials)].assign(place=0.0)
        _, mean, std = mean_over_seeds(study, rows, "place", column)
        levels[number] = mean[0], std[0]
    known = {number: level for number, level in levels.items() if level is not None}
    mean, std = np.array(list(known.values())).T
    own = look(place)
    return Series(
        _METRIC_LABELS[metric],
        mean,
        np.array(list(known), dtype=np.float64) + 0.16 * (2 * place - 1) / 2,
        color=own.color,
        symbol=own.symbol,
        x_bounds=np.stack([mean - std, mean + std]),
    )
