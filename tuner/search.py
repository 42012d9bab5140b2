"""A whole search: references, trials, and the study that says what came of them."""

from __future__ import annotations

import itertools
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from rich.console import Console

from simreg_core.attacks import check_attacks
from simreg_core.cli import os_reason
from simreg_core.config_io import ConfigError
from simreg_core.data import load_regularization_images, load_task
from simreg_core.experiment import check_corruptions
from simreg_core.files import write_text
from simreg_core.places import is_remote, put, remove
from simreg_core.targets import check_target
from tuner.baselines import train_references
from tuner.driver import Driver
from tuner.loggers.targets import LogTarget
from tuner.objectives import SEARCH_SPLIT, total_violation
from tuner.progress import SearchView
from tuner.ray_session import Resources
from tuner.ray_tune import run_networks
from tuner.searcher import Outcome, StudySearcher
from tuner.space import SearchSpace, load_space
from tuner.store import ResultStore
from tuner.study import check_space, check_whole, claim_study, open_study, read_study, settle
from tuner.study_storage import has_study
from tuner.trainable import OPEN_FILES, WorkerSettings

SPACE_FILE = "space.yaml"
_NETWORK_TABLES = ("curves", "spectra", "epochs")  # several rows a network


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
    resumes: bool = False
    """Whether the folder holds a search that is to be gone on with."""
    storage: str | None = field(default=None, repr=False)
    """URL of the study's database, maybe with a password; None for a journal, or what the folder
    remembers."""
    logs: tuple[LogTarget, ...] = ()
    """Where networks are logged beside the tables."""

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
    num_pruned: int
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
                load_regularization_images(config, data.train, (data.validation, data.test))
            check_target(regularizer)
        except ConfigError as err:
            raise ConfigError(f"{where}: trial.{err}") from err


def create_folder(plan: SearchPlan) -> SearchPlan:
    """Make ``OUTPUT/NAME`` with empty tables and the space file as used, whole or not at all.

    Returns:
        The plan with the folder that was made: where the name is free to vary, another search
        may have taken it in the meantime.

    An object store cannot rename: there the space file comes last, and before it the folder is no
    result that anything could go on with. Of two searches that make one folder, one gets it.

    Raises:
        ConfigError: it exists (results are never overwritten) or cannot be made.
    """
    try:
        plan = _create_remote(plan) if is_remote(plan.folder) else _create_local(plan)
    except OSError as err:
        raise ConfigError(f"{plan.folder}: cannot be written: {os_reason(err)}") from err
    if plan.storage is not None:
        try:
            claim_study(plan.folder, plan.space, plan.storage)
        except ConfigError:
            _remove_folder(plan.folder)
            raise
    return plan


def _create_remote(plan: SearchPlan) -> SearchPlan:
    while True:
        ResultStore(plan.folder).create()
        try:
            put(plan.folder / SPACE_FILE, plan.space.to_yaml().encode(), is_new=True)
        except FileExistsError:
            plan = replace(plan, folder=plan.free_folder())
        else:
            return plan


def _remove_folder(folder: Path) -> None:
    if is_remote(folder):
        remove([place for place in folder.rglob("*") if place.is_file()])
    else:
        shutil.rmtree(folder)


def _create_local(plan: SearchPlan) -> SearchPlan:
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
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read_space(folder: Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """The space of the search in a result folder, as it was used, with overrides.

    Raises:
        ConfigError: there is no search, or its space file or an override is wrong.
    """
    if not (folder / SPACE_FILE).is_file():
        raise ConfigError(f"{folder}: no results of a search (it has no {SPACE_FILE})")
    return load_space(folder / SPACE_FILE, overrides)


def resume_plan(
    folder: Path,
    asked: SearchSpace | None,
    overrides: Sequence[str],
    storage: str | None = None,
) -> SearchPlan:
    """The plan that goes on with the search in a result folder.

    Args:
        folder: ``OUTPUT/NAME``.
        asked: The space that the user believes this search to have; None for that of the folder.
        overrides: ``key=value`` texts that are laid over the folder's own space.
        storage: See :class:`SearchPlan`.

    Raises:
        ConfigError: there is no search, or it has another space or name.
    """
    found = read_space(folder)
    if any(text.startswith("name=") for text in overrides):
        raise ConfigError(f"--set name: a search keeps its name, {found.name}")
    space = asked or read_space(folder, overrides)
    space = space.model_copy(update={"name": found.name})
    check_space(folder, found, space)
    return SearchPlan(space, folder, folder.parent / "references", resumes=True, storage=storage)


def check_resumable(plan: SearchPlan) -> None:
    """Refuse to go on with results that are not whole; for a folder that nobody works on.

    Raises:
        ConfigError: as of :func:`tuner.study.check_whole`, or the study is missing or damaged.
    """
    rows = ResultStore(plan.folder).read("trials")
    if not has_study(plan.folder) and not rows:  # killed before there was anything
        return
    study = read_study(plan.folder, plan.space, plan.storage)
    check_whole(plan.folder, study, rows, plan.space.tuning.num_trials)


def run_search(
    plan: SearchPlan,
    store: ResultStore,
    resources: Resources,
    console: Console,
    driver: Driver,
) -> SearchResult:
    """Train the references, run the trials, and leave study and tables complete.

    Args:
        plan: What to do; Ray is connected.
        store: The tables in ``plan.folder``.
        resources: What a trial uses.
        console: Where progress is shown.
        driver: Holds ``plan.folder``.

    Raises:
        ConfigError: the folder's study has searched another space, or a table is damaged.
        SearchFailed: the reference networks cannot be trained.
        OSError: results cannot be written.
    """
    space = plan.space
    study = open_study(plan.folder, space, plan.storage)
    if plan.resumes:  # with more trials, say
        write_text(plan.folder / SPACE_FILE, space.to_yaml())
    rows = store.read("trials")
    interrupted = settle(study, rows, space)
    settings = worker_settings(plan, resources)
    if not space.baseline_varies():
        driver.enter_phase("references")
        _prepare_references(space, settings, resources, store, console)
    driver.enter_phase("trials")
    was_interrupted = False
    with SearchView(console, "trial", space.tuning.num_trials, num_before=len(rows)) as view:
        for row in rows:
            view.note_score(row["trial"], _shown_score(row))
        recorder = Recorder(space, store, view, driver)
        searcher = StudySearcher(study, space, recorder, interrupted)
        try:
            if searcher.num_networks:
                run_networks(searcher, settings, resources, view, logs=plan.logs)
        except KeyboardInterrupt:
            was_interrupted = True
    if searcher.error is not None:
        raise searcher.error
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    return SearchResult(
        num_complete=states.count(optuna.trial.TrialState.COMPLETE),
        num_failed=states.count(optuna.trial.TrialState.FAIL),
        num_pruned=states.count(optuna.trial.TrialState.PRUNED),
        was_interrupted=was_interrupted,
    )


def worker_settings(plan: SearchPlan, resources: Resources) -> WorkerSettings:
    """What every worker of the plan is told."""
    return WorkerSettings(
        folder=plan.folder.resolve(),
        cache=plan.cache.resolve(),
        device=resources.device,
        num_threads=resources.num_threads,
        measures_epochs=plan.space.tuning.early_stopping is not None,
    )


class Recorder:
    """Writes the rows of finished trials; every write replaces, so a repeat does no harm.

    Args:
        space: What is searched.
        store: The tables of the search.
        view: Where the trials are counted.
        driver: Holds the folder of the tables.
    """

    def __init__(
        self, space: SearchSpace, store: ResultStore, view: SearchView, driver: Driver
    ) -> None:
        self.space = space
        self.store = store
        self.view = view
        self.driver = driver

    def started(self, number: int) -> None:
        """Show that a trial begins."""
        self.view.started(number)

    def progressed(self, number: int, seed: int, epochs_done: int, num_epochs: int) -> None:
        """Say for other processes how far a network is."""
        self.driver.progressed(number, seed, epochs_done, num_epochs)

    def ended(self, outcome: Outcome) -> dict[str, Any]:
        """Write the rows of a trial; returns that of the trials table.

        Raises:
            ConfigError: a file of the tables is damaged.
            OSError: results cannot be written.
        """
        identity = {"study": self.store.folder.name, "trial": outcome.number}
        row = {
            **(outcome.config.flat() if outcome.config is not None else {}),
            **outcome.record.get("columns", {}),
            **identity,
            "status": outcome.status,
            "reason": outcome.reason,
            "num_seeds": self.space.tuning.num_seeds,
        }
        if outcome.status == "complete":
            row["feasible"] = total_violation(row, self.space.constraints) == 0
        write_references(self.store, outcome.record.get("references", []))
        for table in _NETWORK_TABLES:
            if table in outcome.record:
                self.store.write_trial(table, outcome.number, outcome.record[table])
        if networks := outcome.record.get("seeds"):
            complete = {**identity, "status": "complete", "num_seeds": 1}
            rows = [{**columns, **complete} for columns in networks]
            self.store.write_trial("seeds", outcome.number, rows)
        # Last: a trial that has its row has all its rows.
        self.store.write_trial("trials", outcome.number, [row])
        folder = self.store.folder / "checkpoints" / f"{outcome.number:05d}"
        for name in OPEN_FILES:  # nothing goes on from these any more
            for path in folder.rglob(name):
                path.unlink(missing_ok=True)
        self.driver.ended(outcome.number)
        self.view.finished(outcome.number, outcome.status, outcome.reason, _shown_score(row))
        return row


def _shown_score(row: Mapping[str, Any]) -> float | None:
    """The tradeoff score of a trial that may be the best one."""
    return row.get(f"{SEARCH_SPLIT}.tradeoff_score") if row.get("feasible") else None


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
