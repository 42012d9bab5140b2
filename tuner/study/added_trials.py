"""Tells the trials of a search from finished ones that its user added to the study.

An added trial (``Study.add_trial``) teaches the sampler. It has no row in the tables, and does not
count as one of the trials requested.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, check_distribution_compatibility
from optuna.trial import FrozenTrial

from simreg_core.errors import ConfigError, one_line

_ID = "id"  # of the study
_MARK = "simreg:asked"  # of a trial; names study and number, since users copy trials


def give_id(study: optuna.Study) -> None:
    """Name a new study, so that its trials can be marked."""
    study.set_user_attr(_ID, secrets.token_hex(8))


def mark_what_is_asked(study: optuna.Study) -> None:
    """Mark every trial that is asked for from now on; to be called when the sampler is set."""
    sampler = study.sampler
    before_trial = sampler.before_trial  # Optuna calls it for every trial, and for no added one

    def mark(inner: optuna.Study, trial: FrozenTrial) -> None:
        wanted = _mark_of(study, trial.number)
        if wanted is not None and trial.system_attrs.get(_MARK) != wanted:
            study._storage.set_trial_system_attr(trial._trial_id, _MARK, wanted)
        before_trial(inner, trial)

    sampler.before_trial = mark  # type: ignore[method-assign]


def own_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of the search: all but finished ones that it has not asked for."""
    return [trial for trial in study.get_trials(deepcopy=False) if not _is_added(study, trial)]


def check_added(study: optuna.Study, distributions: Mapping[str, BaseDistribution]) -> None:
    """Refuse added trials that the sampler cannot use.

    Raises:
        ConfigError: a parameter has another type than the searched key.
    """
    for trial in study.get_trials(deepcopy=False):
        if not _is_added(study, trial):
            continue
        for key in trial.distributions.keys() & distributions.keys():
            try:
                check_distribution_compatibility(distributions[key], trial.distributions[key])
            except ValueError as err:
                raise ConfigError(
                    f"trial {trial.number}, added to the study: {key} does not fit the search "
                    f"space: {one_line(err)}"
                ) from err


def _is_added(study: optuna.Study, trial: FrozenTrial) -> bool:
    wanted = _mark_of(study, trial.number)
    is_marked = wanted is None or trial.system_attrs.get(_MARK) == wanted
    return trial.state.is_finished() and not is_marked


def _mark_of(study: optuna.Study, number: int) -> str | None:
    identity = study.user_attrs.get(_ID)
    return None if identity is None else f"{identity}-{number}"
