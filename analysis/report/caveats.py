"""Reasons to distrust a front."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real

import numpy as np

from analysis.charts.wording import list_trials, number, signed
from analysis.findings.score_noise import noise_of_score
from analysis.findings.study import Study
from analysis.results.parameters import format_value
from simreg_core.errors import counted

LIKELY = 0.5
_END = 0.05  # of a range, at either end


def warnings_of(study: Study) -> list[str]:
    """Every reason to distrust the report, the gravest first."""
    return [*_selection(study), *_noise(study), *_ends(study), *_audits(study), *_incomplete(study)]


def _selection(study: Study) -> Iterator[str]:
    if not len(study.points):
        return
    confirmed = [c.trial for c in study.confirmation.candidates if c.estimates]
    if study.split == "test":
        yield "A front that is selected on test values is biased upwards: report confirmed trials."
    elif confirmed:
        yield (
            "Front and table show the validation values that the search selected on; confirmed on "
            f"test: only {list_trials(sorted(confirmed))}."
        )
    else:
        yield (
            "The front rests on validation values alone, which the search selected on: a "
            "screening, not a result. Nothing is confirmed with fresh seeds yet."
        )
    if failed := sum(c.num_failed for c in study.confirmation.candidates):
        yield f"Confirmation: {counted(failed, 'network')} failed or without a baseline yet."
    if study.confirmation.problem:
        yield f"{study.confirmation.problem}."


def _noise(study: Study) -> Iterator[str]:
    front = study.front
    if unsure := study.numbers[front][study.probability[front] < LIKELY].tolist():
        yield (
            f"On the front with a probability below {LIKELY:g} when noise is drawn anew: "
            f"{list_trials(unsure)} ({len(unsure)} of {len(front)})."
        )
    noise = None if study.delivered.is_rank_modelled else noise_of_score(study)
    if len(front) and noise is not None:
        score, error = study.values("tradeoff_score")[study.best], float(noise[study.best])
        if 0 < score < 2 * error:
            yield (
                f"The best score, {signed(score)}, is within noise: less than two "
                f"standard errors ({number(error, 2)} each: binomial, or the SD over the "
                "baseline's seeds where that is larger) from the baseline's 0."
            )
    if len(study.points) and study.baseline is None:
        yield "There is no baseline with curves of these metrics."
    elif study.baseline is not None and study.baseline[2] < 3:
        seeds = counted(study.baseline[2], "seed")
        yield f"The baseline has {seeds}: how much seeds differ is poorly known."


def _ends(study: Study) -> Iterator[str]:
    """Parameters whose best value is so close to an end of their range that it may lie outside."""
    for name in study.delivered.parameters if len(study.front) else ():
        spec, value = study.search_of(name), study.trials[name].iloc[study.best]
        ends = [spec.get("low"), spec.get("high"), value]
        if not all(isinstance(end, Real) and math.isfinite(end) for end in ends):
            continue
        low, high, place = np.log(ends) if spec.get("log") and min(ends) > 0 else ends
        if min(place - low, high - place) <= _END * (high - low):
            yield (
                f"The best trial, {study.numbers[study.best]}, has {name} "
                f"{format_value(value)}, close to an end of its range ({format_value(ends[0])} to "
                f"{format_value(ends[1])}). Better values may lie outside."
            )


def _audits(study: Study) -> Iterator[str]:
    for audit in study.audits:
        if audit.problem:
            yield f"{audit.file} is damaged and ignored: {audit.problem}."
        if not audit.warnings:
            continue
        whose = "a network of another search" if audit.trial is None else f"trial {audit.trial}"
        where = ", which is on the front" if audit.trial in study.numbers[study.front] else ""
        more = len(audit.warnings) - 1
        yield (
            f"The audit of {whose}{where} ({audit.file}, "
            f"n = {counted(audit.num_images, 'image')}) shows "
            f"{counted(more + 1, 'sign')} of masked gradients: {audit.warnings[0]}"
            + (f"; and {more} more" if more else "")
            + ". Its robust accuracies are not reliable."
        )


def _incomplete(study: Study) -> Iterator[str]:
    trials = study.results.trials
    if failed := int((trials["status"] == "failed").sum()):
        yield (
            f"{failed} of {counted(len(trials), 'trial')} failed and left out (see Failures). If "
            "failures depend on the parameters, the charts are biased."
        )
    if study.num_unusable:
        yield (
            f"Left out of all charts: {counted(study.num_unusable, 'complete trial')} without a "
            f"finite {', '.join(study.objectives)} on the {study.split} split."
        )
    if missed := int((~study.feasible).sum()):
        yield f"Never on the front: {counted(missed, 'complete trial')} outside the constraints."
    if study.num_baselines > 1:
        yield (
            f"Trials are compared with {study.num_baselines} different baselines; in this report "
            "the baseline means the first one."
        )
