"""Sentences that several figures of the report share: conditions, intervals, noise."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from analysis.findings.study import Study
from analysis.pareto.text import images_text

MAX_LISTED = 8


def number(value: float, digits: int = 4) -> str:
    """A number as short text; ``-`` for NaN."""
    if not np.isfinite(value):
        return "-"
    if abs(value) >= 10**digits:
        return f"{value:.0f}"
    # Adding 0.0 turns the rounded minus zero into zero.
    return f"{float(f'{value:.{digits}g}') + 0.0:.{digits}g}"


def signed(value: float) -> str:
    """A difference of accuracies, with its sign and three decimals."""
    return f"{round(value, 3) + 0.0:+.3f}"


def seeds_words(study: Study) -> str:
    """How many networks a trial's figures are the mean of."""
    counts = study.trials["num_seeds"].fillna(1)
    if counts.empty or counts.max() == 1:
        return "one seed per trial"
    fewest, most = int(counts.min()), int(counts.max())
    return f"mean of {most if fewest == most else f'{fewest} to {most}'} seeds per trial"


def conditions(study: Study) -> str:
    """Split, trials, images and seeds, in a sentence."""
    images = f", {images_text(study.pairs[0])}" if study.pairs else ""
    return (
        f"{study.split.capitalize()} split{images}, {len(study.trials)} complete trials, "
        f"{seeds_words(study)}."
    )


def interval_words(study: Study) -> str:
    """What the error bars are."""
    counts = study.trials["num_seeds"].fillna(1)
    parts = []
    if (counts == 1).any():
        parts.append(
            "Wilson's for the accuracies of one network (it leaves out how seeds differ; of a mean "
            "over attacks an upper bound)"
        )
    if (counts > 1).any():
        parts.append("Student's t over a trial's seeds")
    return f"Error bars (drawn for the front): 95 % intervals, {'; '.join(parts)}."


def baseline_words(study: Study) -> str:
    """The baseline's mean, spread and number of seeds."""
    if study.baseline is None:
        return "There are no curves of a baseline that give these metrics."
    means, deviations, seeds = study.baseline
    figures = ", ".join(
        f"{axis.metric.label} {number(mean)}"
        + ("" if np.isnan(deviation) else f" (SD {number(deviation, 2)})")
        for axis, mean, deviation in zip(study.axes, means, deviations, strict=True)
        if np.isfinite(mean)
    )
    one = "1 seed" if seeds == 1 else f"mean of {seeds} seeds, 95 % interval by Student's t"
    other = study.num_baselines - 1
    more = f" {other} more baselines are drawn as squares." if other > 0 else ""
    return f"Baseline ({one}): {figures}.{more}"


def noise_words() -> str:
    """What noise is drawn for each trial."""
    return (
        "Noise: normal, with the standard error over a trial's seeds; for a single network the "
        "larger of the binomial standard error and the SD over the baseline's seeds."
    )


def list_trials(numbers: Iterable[int]) -> str:
    """``trials 1, 2 and 5``; of many the first ones and how many more."""
    known = [str(n) for n in numbers]
    if len(known) > MAX_LISTED:
        return f"trials {', '.join(known[:MAX_LISTED])} and {len(known) - MAX_LISTED} more"
    text = " and ".join(filter(None, [", ".join(known[:-1]), known[-1] if known else "none"]))
    return f"trial{'s' if len(known) > 1 else ''} {text}"


def one_line(reason: object, limit: int = 300) -> str:
    """A recorded reason in one line; ``none recorded`` for null."""
    if not isinstance(reason, str) or not reason.strip():
        return "none recorded"
    text = " ".join(reason.split())
    return text if len(text) <= limit else f"{text[:limit]}..."
