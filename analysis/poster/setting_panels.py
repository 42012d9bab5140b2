"""The poster's panels of what the regularizer's settings do, as charts.

Each is computed from one folder of results; its function raises :class:`ConfigError` if they cannot
be used. Sections are those of the source poster (Attias, Pehlevan, Obeid). Bands and bars are
sample standard deviations over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.charts.chart import AxisSpec, Chart, Panel, Series, categories, mean_line
from analysis.charts.style import BASELINE_LOOK, look
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
from simreg_core.storage.location import to_path

MAX_TICKS = 8  # of a searched grid; more would overlap
_SHORT = {
    "regularizer.batch_size": "pairs per step, k",
    "regularizer.num_images": "regularization images, N",
    "regularizer.threshold": "threshold, Th",
}
_METRIC_LABELS = {
    "clean_accuracy": "clean accuracy C",
    "robust_accuracy": "robust accuracy R",
    "accuracy_cost": "accuracy cost, C₀ - C",
    "robustness_gain": "robustness gain, R - R₀",
    "tradeoff_score": "tradeoff score, gain - cost",
}


def cost_panel(folder: str | Path, split: str) -> Chart:
    """Section 4.iii: robust accuracy against pairs per step and number of images."""
    folder = to_path(folder)
    study = load_study(folder, split)
    keys = ("regularizer.batch_size", "regularizer.num_images")
    panels = tuple(_metric_panel(study, x, "robust_accuracy") for x in keys if _varies(study, x))
    if not panels:
        raise ResultsError(f"{folder}: all trials have the same {' and '.join(keys)}")
    title = "4.iii Size of the regularization batch and dataset"
    return Chart("4iii_cost", title, panels, "", conditions(study))


def tradeoff_panel(folder: str | Path, split: str) -> Chart:
    """Section 5: accuracy cost, robustness gain and tradeoff score over Th, a line per alpha."""
    folder = to_path(folder)
    study = load_study(folder, split)
    if not _varies(study, "regularizer.threshold"):
        raise ResultsError(f"{folder}: all trials have the same regularizer.threshold")
    metrics = ("accuracy_cost", "robustness_gain", "tradeoff_score")
    panels = tuple(_metric_panel(study, "regularizer.threshold", metric) for metric in metrics)
    weights = np.unique(study.complete["robustness.tradeoff_weight"])
    shown = ", ".join(f"{weight:g}" for weight in weights)
    note = f"{conditions(study)}; weight of the cost in the score: {shown}"
    return Chart("5_tradeoff", "5. Accuracy-robustness tradeoff", panels, "", note)


def _varies(study: Study, parameter: str) -> bool:
    return study.complete[parameter].nunique() > 1


def _metric_panel(study: Study, x: str, metric: str) -> Panel:
    values = np.unique(study.complete[x].to_numpy(dtype=np.float64))
    series: list[Series] = []
    if (level := _baseline_level(study, metric)) is not None:
        # The baseline does not depend on x: a line from one end of the axis to the other.
        mean, std = (np.repeat(value, 2) for value in level)
        own = BASELINE_LOOK._replace(symbol="none")
        series += mean_line("unregularized", values[[0, -1]], mean, std, own)
    for number, group in enumerate(groups(study, without=x)):
        places, mean, std = _over_seeds(study, group, metric, x)
        series += mean_line(group.label or "regularized", places, mean, std, look(number))
    ticks = tuple((value, f"{value:g}") for value in values.tolist() if len(values) <= MAX_TICKS)
    x_axis = AxisSpec(_SHORT[x], scale_of(values) == "log", ticks=ticks)
    label = _METRIC_LABELS[metric]
    return Panel(label.partition(",")[0], x_axis, AxisSpec(label), tuple(series))


def _over_seeds(study: Study, group: Group, metric: str, x: str) -> tuple[Array, Array, Array]:
    """A metric over the networks of a group; see :func:`mean_over_seeds`."""
    own = study.networks[study.networks["trial"].isin(group.trials)].assign(all=0.0)
    return mean_over_seeds(study, own, x, f"{study.split}.{metric}")


def _baseline_level(study: Study, metric: str) -> tuple[float, float] | None:
    """Mean of the baseline and its SD over seeds (NaN of one); None if it lacks the metric."""
    group = baseline(study, metric)
    return None if group is None else (float(group.mean[0]), float(group.std[0]))


def components_panel(folder: str | Path, split: str) -> Chart:
    """Section 6: clean and robust accuracy of every variant of the regularizer."""
    folder = to_path(folder)
    study = load_study(folder, split)
    variants = sorted(groups(study), key=lambda group: min(group.trials))  # as they were tried
    # The most frequent value of each varying parameter; null is a value.
    counts = {n: study.complete[n].value_counts(dropna=False) for n in variants[0].values}
    usual = {name: tally.index[0] for name, tally in counts.items()}
    named = [(group_label(group.values, usual) or "reference", group) for group in variants]
    named.sort(key=lambda pair: pair[0] != "reference")  # stable
    own = [group for _, group in named]
    series = tuple(
        _dots(study, metric, own, place)
        for place, metric in enumerate(("clean_accuracy", "robust_accuracy"))
    )
    y_axis = categories(["unregularized", *(label for label, _ in named)], from_top=True)
    panel = Panel("What differs from the reference", AxisSpec("accuracy"), y_axis, series)
    reference = ", ".join(
        short_value(name, value) for name, value in usual.items() if pd.notna(value)
    )
    note = conditions(study) + (f"; reference: {reference}" if reference else "")
    return Chart("6_components", "6. Components of the regularizer", (panel,), "", note)


def _dots(study: Study, metric: str, variants: Sequence[Group], place: int) -> Series:
    """A metric of the baseline, at 0, and of each variant, as mean ± SD over seeds."""
    levels = {0: _baseline_level(study, metric)}
    for number, variant in enumerate(variants, start=1):
        _, mean, std = _over_seeds(study, variant, metric, "all")
        levels[number] = mean[0], std[0]
    known = {number: level for number, level in levels.items() if level is not None}
    mean, std = np.array(list(known.values())).T
    color, symbol, _ = look(place)
    y = np.array(list(known), dtype=np.float64) + 0.16 * (2 * place - 1) / 2
    bounds = np.stack([mean - std, mean + std])
    return Series(_METRIC_LABELS[metric], mean, y, color=color, symbol=symbol, x_bounds=bounds)
