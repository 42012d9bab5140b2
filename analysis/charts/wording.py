"""Numbers, conditions and errors in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from analysis.findings.fronts import Axis, ParetoInfo
from analysis.findings.study import Study
from simreg_core.errors import counted

MAX_LISTED = 8
NOISE = (
    "The noise of a trial is normal. Its standard deviation is the standard error over the trial's "
    "seeds; for a single network it is the binomial standard error or the SD over the baseline's "
    "seeds, whichever is larger."
)


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


def with_error(value: float, error: float = np.nan) -> str:
    """A value ± its error with four decimals; no error if it is NaN, ``-`` for a value of NaN."""
    # As in :func:`number`, no minus zero.
    text = "-" if np.isnan(value) else f"{round(float(value), 4) + 0.0:.4f}"
    return text if np.isnan(error) else f"{text} ± {error:.4f}"


def goals(axes: Iterable[Axis], between: str = " against ") -> str:
    """The metrics of some axes and which direction is better."""
    return between.join(f"{axis.metric.title} ({axis.metric.direction})" for axis in axes)


def axis_values(axes: Sequence[Axis], values: Iterable[float], digits: int = 4) -> str:
    """A value per axis with the name of its metric."""
    pairs = zip(axes, values, strict=True)
    return ", ".join(f"{axis.metric.title} {number(value, digits)}" for axis, value in pairs)


def range_text(numbers: Iterable[int]) -> str:
    """The smallest and the largest of some numbers, or the one they all are."""
    known = [int(n) for n in numbers]
    low, high = min(known), max(known)
    return f"{low}" if low == high else f"{low} to {high}"


def images_text(counts: Iterable[int]) -> str:
    """How many images accuracies are over, of one or several networks."""
    known = list(counts)
    if not known:
        return "not measured"
    same = len(set(known)) == 1
    return f"n = {counted(known[0], 'image') if same else f'{range_text(known)} images'}"


def seeds_text(num_seeds: Iterable[int]) -> str:
    """How many networks each trial's values are the mean of."""
    known = list(num_seeds)
    if max(known, default=1) == 1:
        return "one seed per trial"
    return f"mean of {range_text(known)} seeds per trial"


def counts_text(info: ParetoInfo) -> str:
    """How many trials ended how."""
    counts = info.counts
    infeasible = int((~info.feasible).sum())
    notes = [f"{infeasible} of them miss the constraints"] if infeasible else []
    if info.num_left_out:
        notes.append(f"{info.num_left_out} without finite values left out")
    note = f" ({', '.join(notes)})" if notes else ""
    return (
        f"{counts['complete']} complete{note}, {counts['pruned']} pruned, "
        f"{counts['failed']} failed trials"
    )


def conditions(info: ParetoInfo) -> str:
    """Split, images, trials and seeds, in a sentence."""
    return (
        f"{info.split.capitalize()} split, {images_text(info.num_images)}; {counts_text(info)}; "
        f"{seeds_text(info.num_seeds)}."
    )


def interval_text(info: ParetoInfo) -> str:
    """What the error bars of a front are, in a sentence."""
    kinds = "Student's t for means over seeds"
    if info.num_seeds[0] == 1:
        kinds += ", Wilson's for accuracies of one network, which leave out how seeds differ"
    return f"Bars: 95 % intervals ({kinds})."


def baseline_text(study: Study) -> str:
    """The baseline's mean, spread and number of seeds, in a sentence."""
    if study.baseline is None:
        return "There are no curves of a baseline with these metrics."
    means, deviations, seeds = study.baseline
    values = ", ".join(
        f"{axis.metric.title} {number(mean)}"
        + ("" if np.isnan(deviation) else f" (SD {number(deviation, 2)})")
        for axis, mean, deviation in zip(study.axes, means, deviations, strict=True)
        if np.isfinite(mean)
    )
    others = study.num_baselines - 1
    more = f" {others} other baselines are drawn as well." if others > 0 else ""
    return f"Baseline ({'' if seeds == 1 else 'mean of '}{counted(seeds, 'seed')}): {values}.{more}"


def list_trials(numbers: Iterable[int]) -> str:
    """``trials 1, 2 and 5``; of many the first ones and how many more."""
    known = [str(n) for n in numbers]
    if len(known) > MAX_LISTED:
        return f"trials {', '.join(known[:MAX_LISTED])} and {len(known) - MAX_LISTED} more"
    text = " and ".join([*filter(None, [", ".join(known[:-1])]), *(known[-1:] or ["none"])])
    return f"trial{'s' if len(known) > 1 else ''} {text}"


def one_line(reason: object, limit: int = 300) -> str:
    """A recorded reason in one line; ``none recorded`` for null."""
    if not isinstance(reason, str) or not reason.strip():
        return "none recorded"
    text = " ".join(reason.split())
    return text if len(text) <= limit else f"{text[:limit]}..."
