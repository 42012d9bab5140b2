"""Optuna's samplers under their names in a space file, and the seed of a resumed search."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from tuner.space.samplers import sampler
from tuner.study.nehvi import NEHVISampler

NEHVI = sampler("nehvi")(NEHVISampler)


TPE = sampler("tpe", defaults={"multivariate": True, "constant_liar": True})(TPESampler)
NSGAII = sampler("nsgaii")(NSGAIISampler)
GP = sampler("gp")(GPSampler)
RANDOM = sampler("random")(RandomSampler)


@sampler("grid", is_exhaustive=True)
def _grid(*, seed: int) -> BaseSampler:
    """Every combination once; all are queued when the study is created."""
    return RandomSampler(seed=seed)  # never asked for a value


def sampler_seed(study: optuna.Study, seed: int) -> int:
    """The seed of the sampler; a resumed search gets another, so that it repeats no proposals."""
    waiting = optuna.trial.TrialState.WAITING
    num_asked = sum(trial.state != waiting for trial in study.get_trials(deepcopy=False))
    if num_asked == 0:
        return seed
    return int(np.random.SeedSequence([seed, num_asked]).generate_state(1)[0])
