"""Reasons to distrust a front."""

from __future__ import annotations

import numpy as np

from analysis.charts.wording import list_trials, number, signed
from analysis.findings.study import Study, noise_of_score

LIKELY = 0.5


def warnings_of(study: Study) -> list[str]:
    """Every reason to distrust the report, the gravest first."""
    return [*_selection(study), *_noise(study), *_audits(study), *_incomplete(study)]


def _selection(study: Study) -> list[str]:
    if not len(study.points):
        return []
    found = []
    confirmed = [c for c in study.confirmation.candidates if c.estimates]
    if study.split == "validation" and not confirmed:
        found.append(
            "The front rests on validation values alone, which the search selected on: a "
            "screening, not a result. Nothing is confirmed with fresh seeds yet."
        )
    elif study.split == "validation":
        found.append(
            "Front and table show the validation values that the search selected on; confirmed on "
            f"test: only {list_trials(sorted(c.trial for c in confirmed))}."
        )
    else:
        found.append(
            "A front that is selected on test values is biased upwards: report confirmed trials."
        )
    failed = sum(c.num_failed for c in study.confirmation.candidates)
    if failed:
        found.append(f"{failed} networks of the confirmation failed or have no baseline yet.")
    if study.confirmation.problem:
        found.append(f"{study.confirmation.problem}.")
    return found


def _noise(study: Study) -> list[str]:
    found = []
    front = study.front
    numbers_of = study.trials["trial"].to_numpy(dtype=np.int64)
    unsure = [int(numbers_of[r]) for r in front if study.probability[r] < LIKELY]
    if unsure:
        found.append(
            f"{len(unsure)} of {len(front)} trials on the front are on it with a probability below "
            f"{LIKELY:g} when noise is drawn anew: {list_trials(unsure)}."
        )
    noise = noise_of_score(study)
    if len(front) and noise is not None:
        score = study.values("tradeoff_score")[front[0]]
        error = float(noise[front[0]])
        if 0 < score < 2 * error:
            found.append(
                f"The best score of the front, {signed(score)}, is within noise: less than two "
                f"standard errors ({number(error, 2)} each: binomial, or the SD over the "
                "baseline's seeds where that is larger) from the baseline's 0."
            )
    if len(study.points) and study.baseline is None:
        found.append("There is no baseline with curves of these metrics.")
    elif study.baseline is not None and study.baseline[2] < 3:
        found.append(
            f"The baseline has {study.baseline[2]} seed{'s' if study.baseline[2] > 1 else ''}: "
            "how much seeds differ is poorly known."
        )
    return found


def _audits(study: Study) -> list[str]:
    found = []
    numbers_of = study.trials["trial"].to_numpy(dtype=np.int64)
    front = {int(numbers_of[row]) for row in study.front}
    for audit in study.audits:
        if audit.problem:
            found.append(f"{audit.file} is damaged and ignored: {audit.problem}.")
        if not audit.warnings:
            continue
        whose = "a network of another search" if audit.trial is None else f"trial {audit.trial}"
        where = ", which is on the front" if audit.trial in front else ""
        n = len(audit.warnings)
        found.append(
            f"The audit of {whose}{where} ({audit.file}, n = {audit.num_images} images) shows "
            f"{n} sign{'s' if n > 1 else ''} of masked gradients: {audit.warnings[0]}"
            + ("" if n == 1 else f"; and {n - 1} more")
            + ". Its robust accuracies are not reliable."
        )
    return found


def _incomplete(study: Study) -> list[str]:
    found = []
    trials = study.results.trials
    failed = int((trials["status"] == "failed").sum())
    if failed:
        found.append(
            f"{failed} of {len(trials)} trials failed and are in no chart (see Failures). If "
            "failures depend on the parameters, the charts are biased."
        )
    if study.num_unusable:
        found.append(
            f"{study.num_unusable} complete trials lack a finite "
            f"{', '.join(study.objectives)} on the {study.split} split and are in no chart."
        )
    missed = int((~study.feasible).sum())
    if missed:
        found.append(
            f"{missed} complete trials miss the search's constraints; none is on the front."
        )
    if study.num_baselines > 1:
        found.append(
            f"Trials are compared with {study.num_baselines} different baselines; in this report "
            "the baseline means the first one."
        )
    return found
