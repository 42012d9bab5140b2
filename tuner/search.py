"""A whole search: references, trials, and the study that says what came of them."""

from __future__ import annotations

import logging
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from ray import tune
from rich.console import Console

from simreg_core.config_io import ConfigError
from simreg_core.data import load_regularization_images, load_task
from tuner.baselines import SearchFailed, train_references
from tuner.cluster import Resources
from tuner.objectives import SEARCH_SPLIT
from tuner.progress import SearchView
from tuner.searcher import Outcome, StudySearcher, open_study
from tuner.space import SearchSpace
from tuner.store import ResultStore
from tuner.trainable import WorkerSettings, run_trial

SPACE_FILE = "space.yaml"
_RAY_FOLDER = "ray"  # Ray's own snapshots; nothing reads them


@dataclass(frozen=True)
class SearchPlan:
    """A search that has been checked and is ready to run."""

    space: SearchSpace
    folder: Path
    """``OUTPUT/NAME``."""
    cache: Path
    """``OUTPUT/references``: reference networks, shared by the searches of one output."""


class SearchResult(NamedTuple):
    """What a finished search left."""

    num_complete: int
    num_failed: int
    was_interrupted: bool


def check_data(space: SearchSpace, where: str) -> None:
    """Load every dataset that a trial of the space may ask for, and count its images.

    Raises:
        ConfigError: one is missing, damaged or too small; names file and key.
    """
    checked = set()
    for config in space.extreme_configs():
        key = (config.task, config.regularizer.dataset, config.regularizer.num_images)
        if key in checked:
            continue
        checked.add(key)
        try:
            data = load_task(config.task)
            if config.regularizer.alpha > 0:
                load_regularization_images(config, data.train)
        except ConfigError as err:
            raise ConfigError(f"{where}: trial.{err}") from err


def create_folder(plan: SearchPlan) -> ResultStore:
    """Make ``OUTPUT/NAME`` with empty tables and the space file as used.

    Raises:
        ConfigError: it exists (results are never overwritten) or cannot be made.
    """
    try:
        plan.folder.parent.mkdir(parents=True, exist_ok=True)
        plan.folder.mkdir()
        (plan.folder / SPACE_FILE).write_text(plan.space.to_yaml(), encoding="utf-8")
        store = ResultStore(plan.folder)
        store.create()
    except OSError as err:
        if isinstance(err, FileExistsError) and plan.folder.exists():
            raise ConfigError(
                f"{plan.folder} exists; choose another --name or --output (nothing is overwritten)"
            ) from err
        place = err.filename or plan.folder
        raise ConfigError(f"{place}: cannot be written: {err.strerror or err}") from err
    return store


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
        for table in ("curves", "epochs"):
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
        error = trial.get_error()
        reason = " ".join(str(error).split()) if error is not None else "unknown reason"
        self.searcher.fail(trial.trial_id, f"worker lost: {reason[:300]}")

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
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with redirect_stdout(sys.stderr):  # Ray prints what its raylet says of a lost worker
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
        for table in ("curves", "epochs"):
            if not store.has(table, record["part"]):
                store.write(table, record["part"], record[table])


__all__ = [
    "SearchFailed",
    "SearchPlan",
    "SearchResult",
    "check_data",
    "create_folder",
    "run_search",
    "worker_settings",
    "write_references",
]
