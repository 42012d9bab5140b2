"""The Optuna study is the truth of a search: what was asked, what came of it, and why.

Ray Tune only runs trials. :class:`StudySearcher` asks the study, hands the trial to Tune and tells
the study the outcome: COMPLETE only at full budget with finite objectives, PRUNED below it, FAIL
with the reason otherwise. A trial's rows are written before the study is told, so a trial that the
study calls finished always has its rows. Nothing rests on Ray's snapshots.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from pydantic import ValidationError
from ray.tune.search import Searcher

from simreg_core.config import TrialConfig
from simreg_core.config_io import explain, problems
from simreg_core.records import SCHEMA_VERSION, Status
from tuner.grid import design
from tuner.objectives import directions, objective_values
from tuner.space import SearchSpace

STUDY_FILE = "study.journal"
_STATES = {
    "complete": optuna.trial.TrialState.COMPLETE,
    "pruned": optuna.trial.TrialState.PRUNED,
    "failed": optuna.trial.TrialState.FAIL,
}


class Outcome(NamedTuple):
    """How one trial ended."""

    number: int
    status: Status
    reason: str | None
    config: TrialConfig | None
    """None where the sampled values do not make a configuration."""
    record: Mapping[str, Any]
    """What the worker reported (see :mod:`tuner.trainable`); empty where there is nothing."""


def open_study(folder: Path, space: SearchSpace) -> optuna.Study:
    """The study in a result folder: reopened if it is there, created (with warm starts) if not."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / STUDY_FILE
    is_new = not path.exists()
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=space.name,
        sampler=make_sampler(space.tuning.sampler, space.tuning.seed),
        directions=directions(space.objectives),
        load_if_exists=True,
    )
    if is_new:
        with _experimental():
            study.set_metric_names(list(space.objectives))
        study.set_user_attr("schema_version", SCHEMA_VERSION)
        _queue(study, space)
    return study


def _queue(study: optuna.Study, space: SearchSpace) -> None:
    """Put what is to be tried first into the study: under ``grid``, everything."""
    tuning = space.tuning
    if tuning.sampler == "grid":
        for params in design(space.search, tuning.warm_starts, tuning.num_trials, tuning.seed):
            study.enqueue_trial(space.encode(params))
        return
    for start in tuning.warm_starts:
        study.enqueue_trial(space.encode(start), user_attrs={"warm_start": True})


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """The Optuna sampler by the name that a space file uses; ``grid`` never asks its sampler."""
    with _experimental():
        match name:
            case "tpe":
                return optuna.samplers.TPESampler(
                    seed=seed, multivariate=True, group=True, constant_liar=True
                )
            case "nsgaii":
                return optuna.samplers.NSGAIISampler(seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed)
            case "random" | "grid":  # a grid's trials are queued when the study is made
                return optuna.samplers.RandomSampler(seed=seed)
    raise ValueError(f"unknown sampler {name!r}")


@contextmanager
def _experimental() -> Iterator[None]:
    """Accept what Optuna has called experimental for years."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


class StudySearcher(Searcher):  # type: ignore[misc]
    """Ray Tune's view of the study.

    Args:
        study: Open study.
        space: What is searched.
        num_trials: Trials that the study shall have in the end.
        on_outcome: Called once per finished trial, before the study is told; writes the rows.
        on_start: Called when a trial begins.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        num_trials: int,
        on_outcome: Callable[[Outcome], None],
        on_start: Callable[[int], None],
    ) -> None:
        super().__init__()
        self.study = study
        self.space = space
        self.num_trials = num_trials
        self.error: BaseException | None = None
        """What broke the recording of a trial; Tune would only log it. The caller raises it."""
        self._on_outcome = on_outcome
        self._on_start = on_start
        self._running: dict[str, tuple[optuna.Trial, TrialConfig]] = {}
        self._num_asked = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial for Tune, or FINISHED."""
        while self.error is None and self._num_asked < self.num_trials:
            trial = self.study.ask(self.space.distributions())
            self._num_asked += 1
            self._on_start(trial.number)
            try:
                config = self.space.trial_config(self.space.decode(trial.params))
            except ValidationError as err:
                reason = f"no valid configuration: {explain(problems(err)[0], TrialConfig)}"
                self._finish(trial, Outcome(trial.number, "failed", reason, None, {}))
                continue
            self._running[trial_id] = (trial, config)
            return {"trial": trial.number, "config": config.to_dict()}
        return Searcher.FINISHED  # type: ignore[no-any-return]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tune's word that a trial ended. A lost worker's reason follows by :meth:`fail`."""
        if error or trial_id not in self._running:
            return
        trial, config = self._running.pop(trial_id)
        result = result or {}
        if "failure" in result:
            status: Status = "failed"
            reason, record = result["failure"], {}
        elif "record" in result:
            record = json.loads(result["record"])
            status, reason = self._judge(record, config)
        else:
            done = result.get("epochs_done", 0)
            status, reason, record = "pruned", f"stopped after {done} epochs", {}
        self._finish(trial, Outcome(trial.number, status, reason, config, record))

    def fail(self, trial_id: str, reason: str) -> None:
        """Record that a trial's worker was lost or that it was interrupted."""
        if trial_id in self._running:
            trial, config = self._running.pop(trial_id)
            self._finish(trial, Outcome(trial.number, "failed", reason, config, {}))

    def close(self, reason: str) -> None:
        """Record every trial that is still open as failed: the study keeps no zombies."""
        for trial_id in list(self._running):
            self.fail(trial_id, reason)

    def _judge(self, record: Mapping[str, Any], config: TrialConfig) -> tuple[Status, str | None]:
        num_epochs = len(record["epochs"])
        if num_epochs < config.training.epochs:
            return "pruned", f"stopped after {num_epochs} of {config.training.epochs} epochs"
        try:
            objective_values(record["columns"], self.space.objectives)
        except ValueError as err:
            return "failed", str(err)
        return "complete", None

    def _finish(self, trial: optuna.Trial, outcome: Outcome) -> None:
        values = None
        if outcome.status == "complete":
            values = objective_values(outcome.record["columns"], self.space.objectives)
        try:
            self._on_outcome(outcome)
            if outcome.reason is not None:
                trial.set_user_attr("reason", outcome.reason)
            self.study.tell(trial, values, state=_STATES[outcome.status])
        except Exception as err:  # a full disk, say: Tune would log it and go on
            self.error = self.error or err

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk already."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Not supported: a search is resumed by reopening its study."""
        raise NotImplementedError("reopen the study instead of restoring Ray's snapshot")

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles searchers into its own snapshot, which nothing here reads.
        return {}
