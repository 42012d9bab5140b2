"""The Optuna study of a search: creating, opening, updating and resuming it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from simreg_core.errors import ConfigError, counted
from simreg_core.results.objectives import directions, objective_values, parse_constraint
from simreg_core.results.schema import SCHEMA_VERSION, Status
from simreg_core.storage.location import to_path
from tuner.space.grid import design
from tuner.space.samplers import SAMPLERS, experimental
from tuner.space.search_space import SearchSpace
from tuner.study.added_trials import check_added, give_id, mark_what_is_asked, own_trials
from tuner.study.object_journal import batched
from tuner.study.samplers import sampler_seed
from tuner.study.storage import StudyLocation, has_study, store_url, study_location

STATES: dict[Status, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_SPACE_ATTRIBUTE = "space"
_CHANGEABLE = ("tuning.num_trials", "tuning.retries", "tuning.stall_timeout", "tuning.confirm")
"""Keys that may change when a search is resumed, since they do not affect single trials."""


def open_study(folder: str | Path, space: SearchSpace, url: str | None = None) -> optuna.Study:
    """Open the study in a result folder for the process that writes it; create it if missing.

    Warm starts or a grid are queued. If an earlier process was stopped while queueing, the rest
    follows. A study in a database already exists: :func:`claim_study` creates it with the folder.

    ``url`` is the URL of the study's database; None for the one that the folder stores.

    Raises:
        ConfigError: the study has another space (the message shows the difference) or is damaged,
            or its database cannot be reached or does not have it.
    """
    folder = to_path(folder)
    location = study_location(folder, space.name, url, writes=True)
    if location.in_database:
        study = _load(folder, location)
        if url is not None:
            store_url(folder, url, location.name)
    else:
        study = _create(location, space, is_new=False)
    with batched(study):
        wanted = _identity(space)
        found = study.user_attrs.get(_SPACE_ATTRIBUTE)
        if found is None:
            with experimental():
                study.set_metric_names(list(space.objectives))
            study.set_user_attr("schema_version", SCHEMA_VERSION)
            give_id(study)
            study.set_user_attr(_SPACE_ATTRIBUTE, json.dumps(wanted))
        else:
            _require_same(folder, json.loads(found), wanted)
        check_added(study, space.distributions())
        tuning = space.tuning
        seed = sampler_seed(study, tuning.seed)
        study.sampler = SAMPLERS.get(tuning.sampler).make(seed, tuning.options)
        mark_what_is_asked(study)
        _queue(study, space)
    return study


def claim_study(folder: str | Path, space: SearchSpace, url: str) -> None:
    """Create the study of a new result folder in a database, under the folder's name.

    Raises:
        ConfigError: the name is taken, or the database cannot be reached.
    """
    folder = to_path(folder)
    store_url(folder, url, folder.name)
    location = study_location(folder, space.name, url, writes=True)
    try:
        _create(location, space, is_new=True)
    except optuna.exceptions.DuplicatedStudyError as err:
        raise location.name_taken() from err


def read_study(folder: str | Path, space: SearchSpace, url: str | None = None) -> optuna.Study:
    """Open the study in a result folder for reading; ``url`` as in :func:`open_study`.

    Raises:
        ConfigError: the folder has no study, or its database cannot be reached.
    """
    folder = to_path(folder)
    if not has_study(folder):
        raise ConfigError(f"{folder}: has no study")
    return _load(folder, study_location(folder, space.name, url, writes=False))


def check_space(folder: Path, found: SearchSpace, wanted: SearchSpace) -> None:
    """Refuse to resume a search with another space; the error shows every difference."""
    _require_same(folder, _identity(found), _identity(wanted))


def check_consistent(
    folder: Path, study: optuna.Study, rows: Sequence[Mapping[str, Any]], num_trials: int
) -> None:
    """Refuse to resume a search whose study contradicts the rows of its trials table.

    ``num_trials`` is the number of trials requested, including those that exist.

    Raises:
        ConfigError: one of the two has lost trials, or fewer trials are requested than have begun.
    """
    trials = own_trials(study)
    begun = {trial.number for trial in trials if trial.state != TrialState.WAITING}
    finished = {trial.number for trial in trials if trial.state.is_finished()}
    recorded = {row["trial"] for row in rows}
    if lost := recorded - begun:
        raise ConfigError(
            f"{folder}: its study has lost trial {_numbers(lost)}, which trials/ has; resuming "
            "would overwrite it. Restore the study from a copy, or begin a new search"
        )
    if lost := finished - recorded:
        raise ConfigError(
            f"{folder}: trials/ has lost the row of trial {_numbers(lost)}, which its study has as "
            "finished. Restore the file from a copy, or begin a new search"
        )
    if num_trials < len(begun):
        raise ConfigError(
            f"tuning.num_trials: {num_trials} requested, but {folder} has begun "
            f"{counted(len(begun), 'trial')}; allowed: {len(begun)} or more"
        )


def _numbers(trials: set[int]) -> str:
    shown = [str(number) for number in sorted(trials)[:5]]
    return ", ".join(shown) + (" ..." if len(trials) > len(shown) else "")


def tell(
    study: optuna.Study, trial: optuna.Trial, row: Mapping[str, Any], space: SearchSpace
) -> None:
    """Report the outcome of a trial, taken from its row in the trials table, to the study."""
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
    """Update the study from the trials table.

    A trial's row is written before the study is updated. If the process is killed in between, the
    study still has the finished trial as running. Returns the numbers of the trials that were
    interrupted, ascending.
    """
    finished = {row["trial"]: row for row in rows}
    interrupted = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number in finished:
            tell(study, _live(study, trial), finished[trial.number], space)
        else:
            interrupted.append(trial.number)
    return interrupted


def resume(
    study: optuna.Study, number: int, distributions: Mapping[str, BaseDistribution]
) -> optuna.Trial:
    """A trial that was interrupted, with a value for every searched key.

    The study keeps the values that it has; missing values are sampled now.
    """
    trial = _live(study, study.get_trials(deepcopy=False)[number])
    for key, distribution in distributions.items():
        trial._suggest(key, distribution)  # as Study.ask does
    return trial


def _live(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> optuna.Trial:
    """Handle of a running trial; Optuna has no public way to get it."""
    return optuna.Trial(study, trial._trial_id)


def _create(location: StudyLocation, space: SearchSpace, *, is_new: bool) -> optuna.Study:
    return optuna.create_study(
        storage=location.storage,
        study_name=location.name,
        directions=directions(space.objectives),
        load_if_exists=not is_new,
    )


def _load(folder: Path, location: StudyLocation) -> optuna.Study:
    try:
        return optuna.load_study(study_name=location.name, storage=location.storage)
    except KeyError as err:
        raise ConfigError(f"{folder}: no study {location.name} in {location.where}") from err


def _queue(study: optuna.Study, space: SearchSpace) -> None:
    """Queue the whole grid or the warm starts, except what is queued already."""
    tuning = space.tuning
    trials = own_trials(study)
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
    """The parts of a space that may not change when a search is resumed, as flat JSON keys."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif not prefix.startswith(_CHANGEABLE):
            flat[prefix] = value

    walk("", space.model_dump(mode="json"))
    return dict(json.loads(json.dumps(flat)))


def _require_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differences = [
        f"{key}: {old!r} there, {new!r} requested"
        for key in {**found, **wanted}
        if (old := found.get(key, "absent")) != (new := wanted.get(key, "absent"))
    ]
    if differences:
        raise ConfigError(
            f"{folder} has another search space ({'; '.join(differences)}); "
            "begin a new search instead"
        )
