"""Runs a whole search: checks of the data, baselines, trials, and the table of the front."""

from __future__ import annotations

from collections import Counter

import torch
from rich.console import Console
from rich.table import Table

from simreg_core.config.messages import describe_params
from simreg_core.config.trial import TaskConfig
from simreg_core.data.summary import describe_data, describe_regularization
from simreg_core.data.task import load_regularization_images, load_task
from simreg_core.errors import ConfigError, counted
from simreg_core.regularizer.targets import check_target
from simreg_core.results import metrics
from simreg_core.results.delivered import Delivered
from simreg_core.results.objectives import SEARCH_SPLIT, parse_constraint
from simreg_core.results.request import SPACE_FILE
from simreg_core.results.schema import Status
from simreg_core.results.study_lock import StudyLock
from simreg_core.results.tables import ResultStore
from simreg_core.robustness.attack import check_attacks
from simreg_core.robustness.cifar10c import open_folder
from simreg_core.storage.atomic import write_text
from simreg_core.training.baselines import check_before_training
from tuner.execution.baseline_networks import train_baselines
from tuner.execution.progress import SearchView, console_table
from tuner.execution.ray_session import Resources
from tuner.execution.recorder import Recorder
from tuner.execution.records import write_baselines
from tuner.execution.searcher import StudySearcher
from tuner.execution.tune_runner import run_networks
from tuner.execution.worker import WorkerSettings, remove_open_files
from tuner.space.search_space import SearchSpace
from tuner.study.folder import SearchPlan
from tuner.study.study import open_study, read_study, reconcile

_NUM_NEAREST = 3  # trials to show if none meets the constraints


def check_data(space: SearchSpace, where: str) -> list[dict[str, str]]:
    """Load everything that a trial of the space may need, and try what is not our own code.

    Returns:
        Label to text of the classes and images of every task.

    Raises:
        ConfigError: something is missing, damaged or too small; names file and key.
    """
    checked = set()
    found: dict[TaskConfig, dict[str, str]] = {}
    for config in space.extreme_configs():
        regularizer = config.regularizer
        key = (
            config.task,
            regularizer.alpha > 0,
            regularizer.dataset,
            regularizer.num_images,
            regularizer.target,
            regularizer.neural_model,
            config.robustness.model_dump_json(),
            config.model.model_dump_json(),
            (regularizer.layers, regularizer.gamma),
        )
        if key in checked:
            continue
        checked.add(key)
        try:
            check_attacks(config.robustness)
            metrics.check(config.robustness.metrics)
            data = load_task(config.task)
            lines = found.setdefault(config.task, describe_data(data))
            open_folder(config.robustness.corruptions, config.task, data.test)
            source = None
            if regularizer.alpha > 0:
                source = load_regularization_images(regularizer, config.task, data)
                lines |= describe_regularization(regularizer, config.task)
            check_target(regularizer, source)
            check_before_training(config, data, torch.device("cpu"))
        except ConfigError as err:
            raise ConfigError(f"{where}: trial.{err}") from err
    return [{"data": task.dataset, **lines} for task, lines in found.items()]


def run_search(
    plan: SearchPlan, store: ResultStore, resources: Resources, console: Console, lock: StudyLock
) -> tuple[Counter[Status], bool]:
    """Train the baselines, run the trials, and update study and tables.

    Ray must be connected, and ``lock`` must hold ``plan.folder``. Returns the number of trials by
    status, and whether the search was interrupted.

    Raises:
        ConfigError: the folder's study has another space, or a table is damaged.
        SearchFailed: the baseline networks cannot be trained.
        OSError: results cannot be written.
    """
    space = plan.space
    study = open_study(plan.folder, space, plan.storage)
    if plan.resumes:  # possibly with more trials
        write_text(plan.folder / SPACE_FILE, space.to_yaml())
    rows = store.read("trials")
    if plan.resumes:  # a kill after a trial's row leaves them
        remove_open_files(plan.folder, {row["trial"] for row in rows})
    interrupted = reconcile(study, rows, space)
    settings = worker_settings(plan, resources)
    if not space.baseline_varies():
        lock.enter_phase("baselines")
        config = next(space.extreme_configs())
        total = len(config.robustness.baseline_seeds) + 1
        with SearchView(console, "baseline network", total) as view:
            records = train_baselines(config, settings, resources, lambda: view.finished(0))
        write_baselines(store, records)
    lock.enter_phase("trials")
    was_interrupted = False
    with SearchView(console, "trial", space.tuning.num_trials, num_before=len(rows)) as view:
        recorder = Recorder(space, store, view, lock, rows)
        searcher = StudySearcher(study, space, recorder, interrupted)
        try:
            if searcher.num_networks:
                run_networks(searcher, settings, resources, view, plan.logs)
        except KeyboardInterrupt:
            was_interrupted = True
    if searcher.error is not None:
        raise searcher.error
    return Counter(row["status"] for row in store.read("trials")), was_interrupted


def worker_settings(plan: SearchPlan, resources: Resources) -> WorkerSettings:
    """The settings of the plan's workers."""
    return WorkerSettings(
        folder=plan.folder.resolve(),
        cache=plan.cache.resolve(),
        device=resources.device,
        num_threads=resources.num_threads,
        measures_epochs=plan.space.tuning.early_stopping is not None,
    )


def front_table(plan: SearchPlan, store: ResultStore, found: Delivered) -> Table:
    """The entries of the front that add most hypervolume, sorted by the first objective.

    Metrics that are only constrained are shown as measured. If no trial meets the constraints, the
    table shows the trials closest to meeting them.
    """
    space, number = plan.space, len(found.trials)
    study = read_study(plan.folder, space, plan.storage)
    rows, size = found.shown(), int(found.on_front.sum())
    how = "Modelled Pareto front" if found.is_modelled else "Pareto front"
    bounds = ", ".join(space.constraints)
    what = f"{how} of {counted(number, 'trial')}" + (f" under {bounds}" if bounds else "")
    by_number = {row["trial"]: row for row in store.read("trials")}
    if left_out := len(by_number) - number:
        what += f" (left out: {left_out} pruned, failed or without finite objectives)"
    if not rows:
        rows = found.best_first()[:_NUM_NEAREST]
        what = f"{found.none_feasible(bounds)}; the closest are"
    elif len(rows) < size:
        what += f", the {len(rows)} of {size} that add most hypervolume"
    values = "measured values"
    if found.is_modelled:
        values = "means over seeds with 95 % intervals, measured values in parentheses"
    shown = [metric.name for metric in found.metrics]
    ranking = [found.ranking.name] if found.ranking.name not in shown else []
    constrained = [parse_constraint(text).metric for text in space.constraints]
    others = [name for name in dict.fromkeys(constrained) if name not in (*shown, *ranking)]
    table = console_table(
        f"{what}\n({SEARCH_SPLIT} split; {values})", ("trial", *shown, *ranking, *others, "what")
    )
    for row in rows:
        trial = int(found.trials[row])
        cells = [found.entry(row, column) for column in range(len(shown))]
        cells += [found.rank_entry(row) for _ in ranking]
        cells += [f"{by_number[trial][f'{SEARCH_SPLIT}.{name}']:.3f}" for name in others]
        params = space.decode(study.trials[trial].params)
        table.add_row(str(trial), *cells, describe_params(params))
    return table
