"""Build the Optuna sampler that a space file names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import optuna


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The Optuna sampler by the name that a space file uses; ``grid`` never asks its sampler."""
    with _experimental():
        match name:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            case "nsgaii":
                return optuna.samplers.NSGAIISampler(seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed)
            case "random" | "grid":  # a grid's trials are queued when the study is made
                return optuna.samplers.RandomSampler(seed=seed)
    raise ValueError(f"unknown sampler {name!r}")


def _sampler_seed(study: optuna.Study, seed: int) -> int:
    """The seed, or where the search goes on another: with the same it would repeat itself."""
    waiting = optuna.trial.TrialState.WAITING
    num_asked = sum(trial.state != waiting for trial in study.get_trials(deepcopy=False))
    if num_asked == 0:
        return seed
    return int(np.random.SeedSequence([seed, num_asked]).generate_state(1)[0])


@contextmanager
def _experimental() -> Iterator[None]:
    """Accept what Optuna has called experimental for years."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
