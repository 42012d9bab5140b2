"""A comparison of studies as text; every number states what it is over."""

from __future__ import annotations

import numpy as np

from analysis.charts.modelled_front import model_text
from analysis.charts.wording import axis_values, counts_text, goals, images_text
from analysis.compare.comparison import Comparison, Study
from analysis.findings.bootstrap import NUM_RESAMPLES, SEED, Interval
from analysis.pareto.text import align

_HEADER = (
    "study",
    "complete",
    "hypervolume",
    "95 % interval",
    "minus first",
    "95 % interval",
    "best score",
    "wall h",
    "network h",
)


def comparison_text(comparison: Comparison) -> str:
    """The table of studies, the reference point, and how far to trust the values."""
    first = comparison.studies[0].info
    rows = [_row(study, is_first=study.info is first) for study in comparison.studies]
    lines = [
        f"{goals(comparison.axes)}; {first.split} split, {images_text(first.num_images)}",
        "",
        *align([_HEADER, *rows]),
        "",
        *(f"{study.label}: {counts_text(study.info)}" for study in comparison.studies),
        *_fronts(comparison),
        "reference point of all hypervolumes: "
        + axis_values(comparison.axes, comparison.reference, 6),
        f"intervals: bootstrap over the complete trials of a study ({NUM_RESAMPLES} samples, "
        f"seed {SEED}). They show how far a value depends on single trials, not what another "
        "search would find; the interval of a hypervolume ends at or below it.",
        *_warnings(comparison),
    ]
    return "\n".join(lines)


def _fronts(comparison: Comparison) -> list[str]:
    """What the fronts, hypervolumes and scores are made of."""
    if comparison.problem:
        return [f"The fronts are those of the measured values: {comparison.problem}."]
    lines = [f"{s.label}: {model_text(s.front.found)}" for s in comparison.studies if s.front.found]
    if lines:
        lines.append(
            "Fronts, hypervolumes and best scores are of the modelled means over seeds, whose own "
            "errors the intervals leave out."
        )
    return lines


def _row(study: Study, *, is_first: bool) -> list[str]:
    difference = ["-", "-"]
    if not is_first:
        difference = [f"{study.difference:+.5f}", _interval(study.difference_interval, "+.5f")]
    return [
        study.label,
        str(len(study.front.points)),
        f"{study.hypervolume:.5f}",
        _interval(study.interval, ".5f"),
        *difference,
        "-" if study.best is None else f"{study.best[1]:+.4f} (trial {study.best[0]})",
        *("-" if np.isnan(h) else f"{h:.3g}" for h in (study.wall_hours, study.network_hours)),
    ]


def _interval(interval: Interval, form: str) -> str:
    is_known = not np.isnan(interval.low)
    return f"{interval.low:{form}} to {interval.high:{form}}" if is_known else "-"


def _warnings(comparison: Comparison) -> list[str]:
    lines = []
    if len({len(study.front.points) for study in comparison.studies}) > 1:
        lines.append(
            "The studies have different numbers of trials: more trials alone enlarge a hypervolume."
        )
    if not comparison.same_baselines:
        lines.append(
            "The studies have different baselines: costs, gains and tradeoff scores are each "
            "against their own, and transferred attacks may come from different surrogates."
        )
    if not comparison.same_weight:
        lines.append(
            "The tradeoff scores weigh the accuracy cost differently (robustness.tradeoff_weight): "
            "do not compare them."
        )
    if comparison.is_modelled:
        lines.append("A modelled front is no substitute for fresh seeds: compare confirmed trials.")
    elif comparison.studies[0].info.split == "validation":
        lines.append(
            "The searches selected on these values, which are biased upwards: compare confirmed "
            "trials."
        )
    else:
        lines.append(
            "A front that is selected on test values is biased upwards: compare confirmed trials."
        )
    return lines
