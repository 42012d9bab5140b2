"""Optuna's samplers under the names of a space file, and the seed of a resumed search."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from tuner.space.samplers import sampler


@sampler("tpe")
def _tpe(*, seed: int, **options: Any) -> BaseSampler:
    """Tree-structured Parzen estimator, multivariate, for parallel workers."""
    chosen = {"multivariate": True, "constant_liar": True, **options}
    return optuna.samplers.TPESampler(seed=seed, **chosen)


@sampler("nsgaii")
def _nsgaii(*, seed: int, **options: Any) -> BaseSampler:
    return optuna.samplers.NSGAIISampler(seed=seed, **options)


@sampler("gp")
def _gp(*, seed: int, **options: Any) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, **options)


@sampler("random")
def _random(*, seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


@sampler("grid", is_exhaustive=True)
def _grid(*, seed: int) -> BaseSampler:
    """Never asked for a value: a grid's trials are queued when the study is created."""
    return optuna.samplers.RandomSampler(seed=seed)


def sampler_seed(study: optuna.Study, seed: int) -> int:
    """The seed; where a search resumes, another one, since the same would repeat the search."""
    waiting = optuna.trial.TrialState.WAITING
    num_asked = sum(trial.state != waiting for trial in study.get_trials(deepcopy=False))
    if num_asked == 0:
        return seed
    return int(np.random.SeedSequence([seed, num_asked]).generate_state(1)[0])
