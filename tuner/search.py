"""A whole search: references, trials, and the study that says what came of them."""

from __future__ import annotations

import itertools
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from ray import cloudpickle, tune
from rich.console import Console

from simreg_core.attacks import check_attacks
from simreg_core.cli import os_reason
from simreg_core.config_io import ConfigError
from simreg_core.data import load_regularization_images, load_task
from simreg_core.experiment import check_corruptions
from simreg_core.files import write_text
from simreg_core.targets import check_target
from tuner.baselines import train_references
from tuner.objectives import SEARCH_SPLIT
from tuner.progress import SearchView
from tuner.ray_session import Resources, raylet_silenced
from tuner.searcher import Outcome, StudySearcher, open_study
from tuner.space import SearchSpace
from tuner.store import ResultStore
from tuner.trainable import WorkerSettings, run_trial

SPACE_FILE = "space.yaml"
_NETWORK_TABLES = ("curves", "spectra", "epochs")  # several rows a network
_RAY_FOLDER = "ray"  # Ray's own snapshots; nothing reads them


@dataclass(frozen=True)
class SearchPlan:
    """A search that has been checked and is ready to run."""

    space: SearchSpace
    folder: Path
    """``OUTPUT/NAME``."""
    cache: Path
    """``OUTPUT/references``: reference networks, shared by the searches of one output."""
    is_named: bool = True
    """Whether the user chose this folder; if not, a number is appended where it exists."""

    def free_folder(self) -> Path:
        """The folder, or the first numbered one that does not exist.

        Raises:
            ConfigError: it exists and was chosen by name.
        """
        if not self.folder.exists():
            return self.folder
        if self.is_named:
            raise ConfigError(
                f"{self.folder} exists; choose another --name (nothing is overwritten)"
            )
        name = self.space.name
        numbered = (self.folder.with_name(f"{name}-{number}") for number in itertools.count(2))
        return next(folder for folder in numbered if not folder.exists())


class SearchResult(NamedTuple):
    """What a finished search left."""

    num_complete: int
    num_failed: int
    was_interrupted: bool


def check_data(space: SearchSpace, where: str) -> None:
    """Load everything that a trial of the space may ask for: datasets, attacks, corruptions.

    Raises:
        ConfigError: one is missing, damaged or too small; names file and key.
    """
    checked = set()
    for config in space.extreme_configs():
        regularizer = config.regularizer
        key = (
            config.task,
            regularizer.dataset,
            regularizer.num_images,
            regularizer.target,
            regularizer.neural_model,
            config.robustness.model_dump_json(),
        )
        if key in checked:
            continue
        checked.add(key)
        try:
            check_attacks(config.robustness)
            data = load_task(config.task)
            check_corruptions(config, data)
            if regularizer.alpha > 0:
                load_regularization_images(config, data.train)
            check_target(regularizer)
        except ConfigError as err:
            raise ConfigError(f"{where}: trial.{err}") from err


def create_folder(plan: SearchPlan) -> SearchPlan:
    """Make ``OUTPUT/NAME`` with empty tables and the space file as used, whole or not at all.

    Returns:
        The plan with the folder that was made: where the name is free to vary, another search
        may have taken it in the meantime.

    Raises:
        ConfigError: it exists (results are never overwritten) or cannot be made.
    """
    output = plan.folder.parent
    draft = output / f".{plan.folder.name}.{secrets.token_hex(4)}.tmp"
    try:
        output.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        write_text(draft / SPACE_FILE, plan.space.to_yaml())
        ResultStore(draft).create()
        while True:
            try:
                draft.rename(plan.folder)  # fails where the folder holds anything
            except OSError:
                if not plan.folder.exists():
                    raise
                plan = replace(plan, folder=plan.free_folder())
            else:
                return plan
    except OSError as err:
        raise ConfigError(f"{plan.folder}: cannot be written: {os_reason(err)}") from err
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def run_search(
    plan: SearchPlan, store: ResultStore, resources: Resources, console: Console
) -> SearchResult:
    """Train the references, run the trials, and leave study and tables complete.

    Args:
        plan: What to do; Ray is connected.
        store: The tables in ``plan.folder``.
        resources: What a trial uses.
        console: Where progress is shown.

    Raises:
        SearchFailed: the reference networks cannot be trained.
        OSError: results cannot be written.
    """
    space = plan.space
    settings = worker_settings(plan, resources)
    if not space.baseline_varies():
        _prepare_references(space, settings, resources, store, console)
    study = open_study(plan.folder, space)
    with SearchView(console, "trial", space.tuning.num_trials) as view:
        recorder = _Recorder(store, view)
        searcher = StudySearcher(
            study, space, space.tuning.num_trials, recorder.record, view.started
        )
        was_interrupted = False
        try:
            _tune(plan, searcher, settings, resources)
        except KeyboardInterrupt:
            was_interrupted = True
        finally:
            searcher.close("interrupted")
            shutil.rmtree(plan.folder / _RAY_FOLDER, ignore_errors=True)
    if searcher.error is not None:
        raise searcher.error
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    return SearchResult(
        num_complete=states.count(optuna.trial.TrialState.COMPLETE),
        num_failed=states.count(optuna.trial.TrialState.FAIL),
        was_interrupted=was_interrupted,
    )


def worker_settings(plan: SearchPlan, resources: Resources) -> WorkerSettings:
    """What every worker of the plan is told."""
    return WorkerSettings(
        folder=plan.folder.resolve(),
        cache=plan.cache.resolve(),
        device=resources.device,
        num_threads=resources.num_threads,
    )


class _Recorder:
    """Writes the rows of finished trials; every write replaces, so a repeat does no harm."""

    def __init__(self, store: ResultStore, view: SearchView) -> None:
        self.store = store
        self.view = view

    def record(self, outcome: Outcome) -> None:
        columns = {
            **(outcome.config.flat() if outcome.config is not None else {}),
            **outcome.record.get("columns", {}),
            "study": self.store.folder.name,
            "trial": outcome.number,
            "status": outcome.status,
            "reason": outcome.reason,
        }
        write_references(self.store, outcome.record.get("references", []))
        for table in _NETWORK_TABLES:
            if table in outcome.record:
                self.store.write(table, f"trial-{outcome.number:05d}", outcome.record[table])
        # Last: a trial that has its row has all its rows.
        self.store.write("trials", f"{outcome.number:05d}", [columns])
        score = columns.get(f"{SEARCH_SPLIT}.tradeoff_score")
        self.view.finished(outcome.number, outcome.status, outcome.reason, score)


class _LostWorkers(tune.Callback):  # type: ignore[misc]
    """Tells the searcher why a trial's worker was lost; a user error never comes this way."""

    def __init__(self, searcher: StudySearcher) -> None:
        self.searcher = searcher

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Ray's own reader looks for this file where it is copied later.
        with open(trial.pickled_error_file, "rb") as stream:
            text = " ".join(str(cloudpickle.load(stream)).split())
        detail = text.rpartition("Worker exit detail: ")[2]  # before it: names of classes and ids
        self.searcher.fail(trial.trial_id, f"worker lost: {detail[:300]}")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # pickled into Ray's snapshot, which nothing here reads


def _tune(
    plan: SearchPlan, searcher: StudySearcher, settings: WorkerSettings, resources: Resources
) -> None:
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, settings=settings),
        {"cpu": resources.cpus, "gpu": resources.gpus},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=plan.space.tuning.num_trials,
            max_concurrent_trials=resources.max_concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=_RAY_FOLDER,
            storage_path=str(settings.folder),
            callbacks=[_LostWorkers(searcher)],
            verbose=0,
        ),
    )
    with raylet_silenced():
        tuner.fit()


def _prepare_references(
    space: SearchSpace,
    settings: WorkerSettings,
    resources: Resources,
    store: ResultStore,
    console: Console,
) -> None:
    config = next(space.extreme_configs())
    total = len(config.robustness.baseline_seeds) + 1
    with SearchView(console, "reference network", total) as view:
        records = train_references(config, settings, resources, lambda: view.finished(0))
    write_references(store, records)


def write_references(store: ResultStore, records: list[dict[str, Any]]) -> None:
    """Write the curves and epochs of reference networks that the tables do not have yet."""
    for record in records:
        for table in _NETWORK_TABLES:
            if not store.has(table, record["part"]):
                store.write(table, record["part"], record[table])
