"""The Optuna study of a search: how it is created, opened and resumed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from simreg_core.errors import ConfigError
from simreg_core.results.objectives import directions, objective_values, parse_constraint
from simreg_core.results.schema import SCHEMA_VERSION, Status
from tuner.space.grid import design
from tuner.space.samplers import SAMPLERS, experimental
from tuner.space.search_space import SearchSpace
from tuner.study.object_journal import batched
from tuner.study.samplers import sampler_seed
from tuner.study.storage import StudyPlace, has_study, name_taken, remember, study_place

STATES: dict[Status, optuna.trial.TrialState] = {
    "complete": optuna.trial.TrialState.COMPLETE,
    "pruned": optuna.trial.TrialState.PRUNED,
    "failed": optuna.trial.TrialState.FAIL,
}
_SPACE_ATTRIBUTE = "space"
_FREE = ("tuning.num_trials", "tuning.retries", "tuning.confirm")
"""Keys of a space that do not change what a trial is: they may differ when a search goes on."""


def open_study(folder: Path, space: SearchSpace, url: str | None = None) -> optuna.Study:
    """The study in a result folder, made if it is not there, for the one process that writes it.

    What is to be tried first is queued; where that was cut short before, the rest of it. A study
    in a database was made with the folder, by :func:`claim_study`.

    Args:
        folder: ``OUTPUT/NAME``.
        space: What is searched.
        url: Of the study's database, if the folder's own does not do (for want of a password).

    Raises:
        ConfigError: the study searched another space (shows the difference), is damaged, or its
            database is not reached or does not have it.
    """
    _set_verbosity()
    place = study_place(folder, space.name, url, writes=True)
    if place.in_database:
        study = _load(folder, place)
        if url is not None:
            remember(folder, url, place.name)
    else:
        study = _create(place, space, is_new=False)
    with batched(study):
        wanted = _identity(space)
        found = study.user_attrs.get(_SPACE_ATTRIBUTE)
        if found is None:
            with experimental():
                study.set_metric_names(list(space.objectives))
            study.set_user_attr("schema_version", SCHEMA_VERSION)
            study.set_user_attr(_SPACE_ATTRIBUTE, json.dumps(wanted))
        else:
            _require_same(folder, json.loads(found), wanted)
        tuning = space.tuning
        seed = sampler_seed(study, tuning.seed)
        study.sampler = SAMPLERS.get(tuning.sampler).make(seed, tuning.options)
        _queue(study, space)
    return study


def claim_study(folder: Path, space: SearchSpace, url: str) -> None:
    """Make the study of a new result folder in a database, under the folder's name.

    Raises:
        ConfigError: a study has that name, or the database is not reached.
    """
    _set_verbosity()
    remember(folder, url, folder.name)
    place = study_place(folder, space.name, url, writes=True)
    try:
        _create(place, space, is_new=True)
    except optuna.exceptions.DuplicatedStudyError as err:
        raise name_taken(place) from err


def read_study(folder: Path, space: SearchSpace, url: str | None = None) -> optuna.Study:
    """The study in a result folder, to be read only; ``url`` as for :func:`open_study`.

    Raises:
        ConfigError: there is none, or its database is not reached.
    """
    _set_verbosity()
    if not has_study(folder):
        raise ConfigError(f"{folder}: has no study")
    return _load(folder, study_place(folder, space.name, url, writes=False))


def check_space(folder: Path, found: SearchSpace, wanted: SearchSpace) -> None:
    """Refuse to resume a search under another space.

    Raises:
        ConfigError: names every key that differs, with both values.
    """
    _require_same(folder, _identity(found), _identity(wanted))


def check_consistent(
    folder: Path, study: optuna.Study, rows: Sequence[Mapping[str, Any]], num_trials: int
) -> None:
    """Refuse to resume where the study and the trials table contradict each other.

    Args:
        folder: ``OUTPUT/NAME``.
        study: Its study.
        rows: Of its trials table.
        num_trials: Number of trials requested, including those that exist.

    Raises:
        ConfigError: one of the two has lost trials, or fewer trials are requested than have begun.
    """
    trials = study.get_trials(deepcopy=False)
    begun = {t.number for t in trials if t.state != optuna.trial.TrialState.WAITING}
    finished = {trial.number for trial in trials if trial.state.is_finished()}
    recorded = {row["trial"] for row in rows}
    if lost := recorded - begun:
        raise ConfigError(
            f"{folder}: its study has lost trial {_numbers(lost)}, which trials/ has; going on "
            "would overwrite it. Bring the study back from a copy, or begin a new search"
        )
    if lost := finished - recorded:
        raise ConfigError(
            f"{folder}: trials/ has lost the row of trial {_numbers(lost)}, which its study has as "
            "finished. Bring the file back from a copy, or begin a new search"
        )
    if num_trials < len(begun):
        raise ConfigError(
            f"tuning.num_trials: {num_trials} asked, but {len(begun)} trials of {folder} have "
            f"finished or begun; allowed: {len(begun)} or more"
        )


def _numbers(trials: set[int]) -> str:
    shown = [str(number) for number in sorted(trials)[:5]]
    return ", ".join(shown) + (" ..." if len(trials) > len(shown) else "")


def tell(
    study: optuna.Study, trial: optuna.Trial, row: Mapping[str, Any], space: SearchSpace
) -> None:
    """Tell the study the outcome of a trial, taken from its row in the trials table.

    Raises:
        ValueError: a complete trial lacks an objective or what a constraint is about.
    """
    status: Status = row["status"]
    values, violations = None, {}
    if status == "complete":
        values = objective_values(row, space.objectives)
        violations = {t: parse_constraint(t).violation(row) for t in space.constraints}
    with batched(study):
        for text, violation in violations.items():
            if text not in trial.constraints:
                trial.set_constraint(text, violation)
        if row["reason"] is not None:
            trial.set_user_attr("reason", row["reason"])
        study.tell(trial, values, state=STATES[status])


def reconcile(
    study: optuna.Study, rows: Sequence[Mapping[str, Any]], space: SearchSpace
) -> list[int]:
    """Bring the study up to date with the trials table.

    A trial's row is written before the study is told. A kill between the two leaves a finished
    trial that the study still calls running.

    Returns:
        Numbers of the trials that were interrupted, ascending.
    """
    finished = {row["trial"]: row for row in rows}
    interrupted = []
    running = (optuna.trial.TrialState.RUNNING,)
    for trial in study.get_trials(deepcopy=False, states=running):
        if trial.number in finished:
            tell(study, _live(study, trial), finished[trial.number], space)
        else:
            interrupted.append(trial.number)
    return interrupted


def resume(
    study: optuna.Study,
    number: int,
    distributions: Mapping[str, optuna.distributions.BaseDistribution],
) -> optuna.Trial:
    """A trial that was running when the search was killed, with a value for every searched key.

    Values that the study has are kept. Values that were not drawn before the kill are drawn now.
    """
    trial = _live(study, study.get_trials(deepcopy=False)[number])
    for key, distribution in distributions.items():
        match distribution:
            case FloatDistribution(low=low, high=high, step=step, log=log):
                trial.suggest_float(key, low, high, step=step, log=log)
            case IntDistribution(low=low, high=high, step=step, log=log):
                trial.suggest_int(key, low, high, step=step, log=log)
            case optuna.distributions.CategoricalDistribution(choices=choices):
                trial.suggest_categorical(key, choices)
    return trial


def _live(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> optuna.Trial:
    """Handle of a running trial; Optuna has no public way to get it."""
    return optuna.Trial(study, trial._trial_id)


def _create(place: StudyPlace, space: SearchSpace, *, is_new: bool) -> optuna.Study:
    return optuna.create_study(
        storage=place.storage,
        study_name=place.name,
        directions=directions(space.objectives),
        load_if_exists=not is_new,
    )


def _load(folder: Path, place: StudyPlace) -> optuna.Study:
    try:
        return optuna.load_study(study_name=place.name, storage=place.storage)
    except KeyError as err:
        raise ConfigError(f"{folder}: no study {place.name} in {place.where}") from err


def _queue(study: optuna.Study, space: SearchSpace) -> None:
    """Put what is to be tried first into the study: under ``grid``, everything."""
    tuning = space.tuning
    trials = study.get_trials(deepcopy=False)
    if space.is_exhaustive():
        # A longer design begins with the shorter one.
        combinations = design(space.search, tuning.warm_starts, tuning.num_trials, tuning.seed)
        for params in itertools.islice(combinations, len(trials), None):
            study.enqueue_trial(space.encode(params))
        return
    num_queued = sum("warm_start" in trial.user_attrs for trial in trials)
    for start in tuning.warm_starts[num_queued : tuning.num_trials]:
        study.enqueue_trial(space.encode(start), user_attrs={"warm_start": True})


def _identity(space: SearchSpace) -> dict[str, Any]:
    """What a study must not change, as flat keys; written as JSON and back."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif not prefix.startswith(_FREE):
            flat[prefix] = value

    walk("", space.model_dump(mode="json"))
    return dict(json.loads(json.dumps(flat)))


def _require_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    absent = "absent"
    differences = [
        f"{key}: {found.get(key, absent)!r} there, {wanted.get(key, absent)!r} asked"
        for key in {**found, **wanted}
        if found.get(key, absent) != wanted.get(key, absent)
    ]
    if differences:
        raise ConfigError(
            f"{folder} searches another space ({'; '.join(differences)}); "
            "a changed space is a new search"
        )


def _set_verbosity() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
