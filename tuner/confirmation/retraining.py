"""Train chosen configurations again with fresh seeds."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from simreg_core.config.trial import TrialConfig
from simreg_core.errors import reason_of
from simreg_core.registry import METRICS
from simreg_core.results.objectives import SEARCH_SPLIT
from simreg_core.results.schema import CONFIRMATION_COLUMNS, Role, optional_column
from simreg_core.results.tables import ResultStore
from simreg_core.results.tradeoff import baseline_accuracy, tradeoff
from simreg_core.storage.base import store_problem
from tuner.confirmation.selection import choose
from tuner.confirmation.summary import (
    SUMMARY_FILE,
    Candidate,
    confirmation_table,
    summarize,
    write_summary,
)
from tuner.execution.progress import SearchView
from tuner.execution.ray_session import Resources, run_tasks
from tuner.execution.worker import (
    STATE_FILE,
    WorkerSettings,
    is_out_of_memory,
    prepare_worker,
    train,
)
from tuner.space.search_space import SearchSpace
from tuner.space.tuning import ConfirmConfig
from tuner.study.folder import SearchPlan

FIRST_FRESH_SEED = 1000


class Run(NamedTuple):
    """One network to train for confirmation."""

    role: Role
    trial: int | None
    config: TrialConfig

    @property
    def label(self) -> str:
        """What it is, for people."""
        name = "baseline" if self.trial is None else f"trial {self.trial}"
        return f"{name}, seed {self.config.seed}"

    @property
    def part(self) -> str:
        """Name of the part file that holds its row."""
        name = "baseline" if self.trial is None else f"trial-{self.trial:05d}"
        return f"{name}-{self.config.digest()}"


def _seeds_of(row: dict[str, Any]) -> range:
    """The seeds of a trial's networks."""
    if row["seed"] is None:
        return range(0)
    return range(row["seed"], row["seed"] + row["num_seeds"])


def fresh_seeds(count: int, used: set[int]) -> list[int]:
    """The first ``count`` seeds from 1000 on that no trial and no baseline has used."""
    seeds: list[int] = []
    seed = FIRST_FRESH_SEED
    while len(seeds) < count:
        if seed not in used:
            seeds.append(seed)
        seed += 1
    return seeds


def confirm(
    space: SearchSpace,
    store: ResultStore,
    chosen: dict[int, dict[str, Any]],
    num_seeds: int,
    settings: WorkerSettings,
    resources: Resources,
    console: Console,
    earlier: Mapping[int, dict[str, Any]] | None = None,
) -> list[Candidate]:
    """Train every chosen configuration and its baseline with fresh seeds; write rows and summary.

    Networks that an earlier confirmation has already trained are not trained again. Cost, gain
    and score of every network are against the baseline of its own seed.

    Args:
        space: The search space.
        store: The study's tables.
        chosen: Searched values per trial number.
        num_seeds: Fresh seeds per configuration.
        settings: What workers are told.
        resources: What one network uses.
        console: Where progress is shown.
        earlier: Searched values of trials that were confirmed before; they stay in the summary.
    """
    rows = store.read("trials")
    configs = {number: space.trial_config(params) for number, params in chosen.items()}
    used = set().union(*(_seeds_of(row) for row in rows))
    used |= {s for config in configs.values() for s in config.robustness.baseline_seeds}
    seeds = fresh_seeds(num_seeds, used)
    runs = _runs(configs, seeds)
    _train_missing(runs, store, settings, resources, console)
    done = _pair(store, runs)
    screened = {row["trial"]: row[f"{SEARCH_SPLIT}.tradeoff_score"] for row in rows}
    known = _seeds_by_trial(store)
    everything = {**chosen, **(earlier or {})}
    configs |= {number: space.trial_config(params) for number, params in (earlier or {}).items()}
    candidates = [
        summarize(
            number, everything[number], screened.get(number), config, sorted(known[number]), done
        )
        for number, config in configs.items()
    ]
    all_seeds = sorted(set().union(*known.values()))
    write_summary(store, candidates, all_seeds, list(configs.values()), done)
    return candidates


def _train_missing(
    runs: Mapping[str, Run],
    store: ResultStore,
    settings: WorkerSettings,
    resources: Resources,
    console: Console,
) -> None:
    """Train the networks that have no complete row yet, and write their rows."""
    done = _complete_rows(store)
    missing = [run for digest, run in runs.items() if digest not in done]
    with SearchView(console, "confirmation network", len(missing)) as view:

        def collect(index: int, value: Any) -> None:
            run = missing[index]
            if isinstance(value, Exception):
                value = {"status": "failed", "reason": reason_of(value), **run.config.flat()}
            identity = {"role": run.role, "trial": run.trial, "config_digest": run.config.digest()}
            row = {**value, **identity}
            store.write("confirmation", run.part, [row])
            reason = f"{run.label}: {row['reason']}" if row.get("reason") else None
            view.finished(index, row["status"], reason)

        calls = [(run.config.to_dict(), settings) for run in missing]
        run_tasks(_confirm_one, calls, resources, collect)


def _seeds_by_trial(store: ResultStore) -> dict[int, set[int]]:
    """The seeds that every trial was confirmed with, or failed with."""
    seeds: dict[int, set[int]] = {}
    for row in store.read("confirmation"):
        if row["role"] == "trial":
            seeds.setdefault(row["trial"], set()).add(row["seed"])
    return seeds


def _complete_rows(store: ResultStore) -> dict[str, dict[str, Any]]:
    """Rows of the networks that were confirmed, by the digest of their configuration."""
    rows = store.read("confirmation")
    return {row["config_digest"]: row for row in rows if row["status"] == "complete"}


def _pair(store: ResultStore, runs: dict[str, Run]) -> dict[str, dict[str, Any]]:
    """Fill in cost, gain, score and ratio of every complete row; returns the complete rows."""
    done = _complete_rows(store)
    for digest, run in runs.items():
        baseline = done.get(run.config.unregularized(run.config.seed).digest())
        if digest in done and baseline is not None:
            paired = {**done[digest], **_paired_metrics(done[digest], baseline, run.config)}
            if paired != done[digest]:
                store.write("confirmation", run.part, [paired])
                done[digest] = paired
    return done


def _paired_metrics(
    own: dict[str, Any], baseline: dict[str, Any], config: TrialConfig
) -> dict[str, float | None]:
    clean, robust = "test.clean_accuracy", "test.robust_accuracy"
    of_this_seed = baseline_accuracy([baseline[clean]], [baseline[robust]])
    weight = config.robustness.tradeoff_weight
    figures = tradeoff(own[clean], own[robust], of_this_seed, weight)
    return {f"test.{name}": value for name, value in figures.items()}


def _runs(configs: dict[int, TrialConfig], seeds: Sequence[int]) -> dict[str, Run]:
    """Every network to train, by digest: candidates share their baselines."""
    runs: dict[str, Run] = {}
    for seed in seeds:
        for number, config in configs.items():
            for run in (
                Run("baseline", None, config.unregularized(seed)),
                Run("trial", number, config.model_copy(update={"seed": seed})),
            ):
                runs.setdefault(run.config.digest(), run)
    return runs


def _confirm_one(config: dict[str, Any], settings: WorkerSettings) -> dict[str, Any]:
    """Row of one network, in a worker."""
    device = prepare_worker(settings)
    trial = TrialConfig.from_dict(config)
    state = settings.folder / "checkpoints" / f"confirmation-{trial.digest()}" / STATE_FILE
    try:
        result = train(trial, state, settings, device)
        shutil.rmtree(state.parent, ignore_errors=True)
    except Exception as err:  # recorded with its reason; the other networks go on
        if is_out_of_memory(err) or store_problem(err):  # Ray tries it again
            raise
        return {"status": "failed", "reason": reason_of(err), **trial.flat()}
    # What compares with a baseline is filled in when the baseline of the same seed is there.
    unpaired = {f"test.{m.name}": None for m in METRICS.own.values() if m.against_baseline}
    columns = {**result.columns, **unpaired, "status": "complete"}
    known = {column.name: columns.get(column.name) for column in CONFIRMATION_COLUMNS}
    optional = {
        name: value
        for name, value in columns.items()
        if name.startswith("test.") and optional_column(name)
    }
    return known | optional


def confirm_best(
    plan: SearchPlan,
    store: ResultStore,
    wanted: ConfirmConfig,
    resources: Resources,
    console: Console,
    trials: Sequence[int] | None = None,
) -> int:
    """Choose, confirm and print; returns the exit code (1 when nothing could be confirmed).

    ``trials``, complete ones, are taken instead of choosing.
    """
    from tuner.search import worker_settings
    from tuner.study.study import read_study

    study = read_study(plan.folder, plan.space, plan.storage)
    numbers = list(dict.fromkeys(trials or ()))
    if trials is None:
        front = {trial.number for trial in study.best_trials}
        numbers = choose(store.read("trials"), front, plan.space, wanted.top)
    if not numbers:
        missed = ", ".join(plan.space.constraints)
        is_front = wanted.top == "front"
        which = f"trial that meets {missed}" if is_front and missed else "complete trial"
        print(f"{plan.folder}: no {which} to confirm", file=sys.stderr)
        return 1
    chosen = {n: plan.space.decode(study.trials[n].params) for n in numbers}
    confirmed = set(_seeds_by_trial(store)) - set(chosen)
    earlier = {n: plan.space.decode(study.trials[n].params) for n in sorted(confirmed)}
    settings = worker_settings(plan, resources)
    found = confirm(plan.space, store, chosen, wanted.seeds, settings, resources, console, earlier)
    Console(width=200).print(confirmation_table(plan.folder / SUMMARY_FILE))
    return 0 if any(candidate.estimates for candidate in found) else 1
