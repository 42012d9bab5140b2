"""Build the Optuna sampler that a space file names.

A sampler is one function from a seed and options to an ``optuna.samplers.BaseSampler``.
:func:`tuner.space.samplers.sampler` declares one. A space file names any other sampler as
``module:Class``, for example ``optuna.samplers:CmaEsSampler``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from simreg_core.errors import ConfigError, reason_of
from tuner.space.samplers import SAMPLERS, sampler


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


def make_sampler(name: str, seed: int, options: Mapping[str, Any] | None = None) -> BaseSampler:
    """The Optuna sampler that a space file names.

    Args:
        name: A sampler's name, or ``module:Class``.
        seed: Its seed, where it takes one.
        options: Keyword arguments.

    Raises:
        ConfigError: the sampler cannot be imported, refuses the options, or is none.
    """
    found = SAMPLERS.get(name)
    takes_seed = "seed" in inspect.signature(found.function).parameters
    arguments = {**(options or {}), **({"seed": seed} if takes_seed else {})}
    try:
        with _experimental():
            made = found(**arguments)
    except Exception as err:  # whatever a foreign sampler raises
        raise ConfigError(f"tuning.options: {name}: {reason_of(err)}") from err
    if not isinstance(made, BaseSampler):
        kind = type(made).__name__
        raise ConfigError(f"tuning.sampler: {name} is no Optuna sampler (it made {kind})")
    return made


def check_sampler(name: str, options: Mapping[str, Any], directions: list[str]) -> None:
    """Refuse a sampler that cannot be made, or cannot pursue so many objectives.

    Raises:
        ConfigError: names the key and the reason.
    """
    study = optuna.create_study(directions=directions, sampler=make_sampler(name, 0, options))
    try:
        with _experimental():
            study.ask({"value": optuna.distributions.FloatDistribution(0.0, 1.0)})
    except Exception as err:  # whatever a foreign sampler raises
        raise ConfigError(f"tuning.sampler: {name}: {reason_of(err)}") from err


def _sampler_seed(study: optuna.Study, seed: int) -> int:
    """The seed; where a search resumes, another one, since the same would repeat the search."""
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
