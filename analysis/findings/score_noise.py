"""How noisy the tradeoff score of one trial is."""

from __future__ import annotations

import numpy as np

from analysis.findings.study import ACCURACIES, Study
from analysis.results.load import Array, numbers


def noise_of_score(study: Study) -> Array | None:
    """Standard error of each trial's tradeoff score, (N,); None if the accuracies are unknown.

    It combines the errors of the trial and of the baseline's mean, and takes clean and robust
    accuracy to be independent.
    """
    if not set(ACCURACIES) <= set(study.objectives) or study.baseline is None:
        return None
    clean, robust = (study.objectives.index(name) for name in ACCURACIES)
    means, deviations, num_seeds = study.baseline
    if not np.isfinite(means[[clean, robust]]).all():
        return None
    weight = numbers(study.trials, "robustness.tradeoff_weight")
    weight = np.where(np.isnan(weight), 1.0, weight)
    own = study.noise[:, robust] ** 2 + (weight * study.noise[:, clean]) ** 2
    spread = np.nan_to_num(deviations)
    of_baseline = (spread[robust] ** 2 + (weight * spread[clean]) ** 2) / num_seeds
    return np.asarray(np.sqrt(own + of_baseline))
