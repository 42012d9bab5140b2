"""Trains chosen configurations again with fresh seeds."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console

from simreg_core.config.trial import TrialConfig
from simreg_core.errors import one_line
from simreg_core.registry import METRICS
from simreg_core.results.delivered import Delivered, delivered_in
from simreg_core.results.objectives import SEARCH_SPLIT
from simreg_core.results.schema import CONFIRMATION_COLUMNS, Role, optional_column
from simreg_core.results.tables import ResultStore
from simreg_core.results.tradeoff import baseline_accuracy, tradeoff
from simreg_core.storage.base import store_problem
from simreg_core.storage.location import storage_of
from tuner.confirmation.summary import (
    SUMMARY_FILE,
    Candidate,
    answer_of,
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
from tuner.study.study import read_study

FRESH_FROM = 1_000_000
"""Distance of fresh seeds from ``trial.seed``; the seeds of trials follow ``trial.seed``, and those
of later trials must not meet confirmed ones."""


class Run(NamedTuple):
    """One network to train for confirmation."""

    trial: int | None
    """None for a baseline."""
    config: TrialConfig

    @property
    def role(self) -> Role:
        """Its role in the confirmation table."""
        return "baseline" if self.trial is None else "trial"

    @property
    def label(self) -> str:
        """Its name in messages."""
        number = "" if self.trial is None else f" {self.trial}"
        return f"{self.role}{number}, seed {self.config.seed}"

    @property
    def part(self) -> str:
        """Name of the part file that holds its row."""
        number = "" if self.trial is None else f"-{self.trial:05d}"
        return f"{self.role}{number}-{self.config.digest()}"


def fresh_seeds(count: int, first: int, used: set[int]) -> list[int]:
    """The next ``count`` seeds from ``first`` on that no trial and no baseline has used."""
    seeds = (seed % 2**32 for seed in itertools.count(first))
    return list(itertools.islice((seed for seed in seeds if seed not in used), count))


def confirm(
    space: SearchSpace,
    store: ResultStore,
    params: Mapping[int, dict[str, Any]],
    numbers: Iterable[int],
    num_seeds: int,
    settings: WorkerSettings,
    resources: Resources,
    console: Console,
) -> list[Candidate]:
    """Train chosen configurations and their baselines with fresh seeds; write rows and summary.

    ``params`` has the searched values of the chosen trials (``numbers``) and of those of earlier
    confirmations, which stay in the summary. Networks that exist are not trained again. Cost, gain
    and score of every network are relative to the baseline with the same seed.
    """
    rows = store.read("trials")
    configs = {number: space.trial_config(values) for number, values in params.items()}
    chosen = {number: configs[number] for number in numbers}
    used = {s for config in chosen.values() for s in config.robustness.baseline_seeds}
    for row in rows:
        if row["seed"] is not None:  # None: the sampled values are not a valid configuration
            used.update(range(row["seed"], row["seed"] + row["num_seeds"]))
    first = space.trial.get("seed", 0) + FRESH_FROM
    runs = _runs(chosen, fresh_seeds(num_seeds, first, used))
    _train_missing(runs, store, settings, resources, console)
    done = _pair(store, runs)
    screened = {row["trial"]: row[f"{SEARCH_SPLIT}.tradeoff_score"] for row in rows}
    seeds = _seeds_by_trial(store)
    candidates = [
        summarize(number, params[number], screened.get(number), config, sorted(seeds[number]), done)
        for number, config in configs.items()
    ]
    all_seeds = sorted(set().union(*seeds.values()))
    write_summary(store, candidates, all_seeds, list(configs.values()), done)
    return candidates


def _runs(configs: Mapping[int, TrialConfig], seeds: Sequence[int]) -> dict[str, Run]:
    """Every network to train, by digest; configurations share their baselines."""
    runs: dict[str, Run] = {}
    for seed in seeds:
        for number, config in configs.items():
            for run in (
                Run(None, config.unregularized(seed)),
                Run(number, config.model_copy(update={"seed": seed})),
            ):
                runs.setdefault(run.config.digest(), run)
    return runs


def _train_missing(
    runs: Mapping[str, Run],
    store: ResultStore,
    settings: WorkerSettings,
    resources: Resources,
    console: Console,
) -> None:
    """Train the networks without a complete row, and write their rows."""
    done = _complete_rows(store)
    for digest in runs.keys() & done.keys():  # a kill after a network's training leaves it
        _remove_checkpoint(settings.folder, digest)
    missing = [run for digest, run in runs.items() if digest not in done]
    with SearchView(console, "confirmation network", len(missing)) as view:

        def collect(index: int, value: Any) -> None:
            run = missing[index]
            if isinstance(value, Exception):
                value = _failed(run.config, value)
            identity = {"role": run.role, "trial": run.trial, "config_digest": run.config.digest()}
            store.write("confirmation", run.part, [{**value, **identity}])
            reason = f"{run.label}: {value['reason']}" if value.get("reason") else None
            view.finished(index, value["status"], reason)

        calls = [(run.config.to_dict(), settings) for run in missing]
        run_tasks(_confirm_one, calls, resources, collect)


def _failed(config: TrialConfig, err: Exception) -> dict[str, Any]:
    return {"status": "failed", "reason": one_line(err), **config.flat()}


def _confirm_one(config: dict[str, Any], settings: WorkerSettings) -> dict[str, Any]:
    """Train one network in a worker and return its row."""
    device = prepare_worker(settings)
    trial = TrialConfig.from_dict(config)
    state = _checkpoint_folder(settings.folder, trial.digest()) / STATE_FILE
    try:
        result = train(trial, state, settings, device)
        _remove_checkpoint(settings.folder, trial.digest())
    except Exception as err:  # recorded with its reason; the other networks continue
        if is_out_of_memory(err) or store_problem(err):  # Ray tries again
            raise
        return _failed(trial, err)
    # Comparisons are added when the baseline of the same seed is available.
    unpaired = {f"test.{m.name}": None for m in METRICS.own.values() if m.against_baseline}
    columns = {**result.columns, **unpaired, "status": "complete"}
    known = {column.name: columns.get(column.name) for column in CONFIRMATION_COLUMNS}
    optional = {
        name: value
        for name, value in columns.items()
        if name.startswith("test.") and optional_column(name)
    }
    return known | optional


def _checkpoint_folder(folder: Path, digest: str) -> Path:
    return folder / "checkpoints" / f"confirmation-{digest}"


def _remove_checkpoint(folder: Path, digest: str) -> None:
    checkpoint = _checkpoint_folder(folder, digest)
    with suppress(OSError):
        storage_of(checkpoint).remove_folder(checkpoint)


def _seeds_by_trial(store: ResultStore) -> dict[int, set[int]]:
    """The fresh seeds of every confirmed trial, including failed networks."""
    seeds: dict[int, set[int]] = {}
    for row in store.read("confirmation"):
        if row["role"] == "trial":
            seeds.setdefault(row["trial"], set()).add(row["seed"])
    return seeds


def _complete_rows(store: ResultStore) -> dict[str, dict[str, Any]]:
    """The rows of complete networks by the digest of their configuration."""
    rows = store.read("confirmation")
    return {row["config_digest"]: row for row in rows if row["status"] == "complete"}


def _pair(store: ResultStore, runs: Mapping[str, Run]) -> dict[str, dict[str, Any]]:
    """Compare every complete network with the baseline of its seed; return all complete rows."""
    clean, robust = "test.clean_accuracy", "test.robust_accuracy"
    done = _complete_rows(store)
    for digest, run in runs.items():
        own = done.get(digest)
        baseline = done.get(run.config.unregularized(run.config.seed).digest())
        if own is None or baseline is None:
            continue
        accuracy = baseline_accuracy([baseline[clean]], [baseline[robust]])
        weight = run.config.robustness.tradeoff_weight
        values = tradeoff(own[clean], own[robust], accuracy, weight)
        paired = {**own, **{f"test.{name}": value for name, value in values.items()}}
        if paired != own:
            store.write("confirmation", run.part, [paired])
            done[digest] = paired
    return done


def choose(found: Delivered, top: int | Literal["front"]) -> list[int]:
    """Numbers of the ``top`` best trials, or of the whole front, best first."""
    rows = found.best_first()
    rows = [row for row in rows if found.on_front[row]] if top == "front" else rows[:top]
    return [int(found.trials[row]) for row in rows]


def confirm_best(
    plan: SearchPlan,
    store: ResultStore,
    wanted: ConfirmConfig,
    resources: Resources,
    console: Console,
    trials: Sequence[int] | None = None,
) -> int:
    """Choose configurations (or take those of ``trials``), confirm them and print the summary.

    Returns the exit code: 1 if nothing could be confirmed.
    """
    from tuner.search import worker_settings

    study = read_study(plan.folder, plan.space, plan.storage)
    numbers = list(dict.fromkeys(trials or ()))
    if trials is None:
        delivered = delivered_in(plan.folder)
        numbers = choose(delivered, wanted.top)
        if not numbers:
            why = "no trial is complete with finite objectives"
            if len(delivered.trials):
                why = delivered.none_feasible(", ".join(plan.space.constraints))
            print(f"{plan.folder}: nothing to confirm: {why}", file=sys.stderr)
            return 1
    confirmed = sorted(set(_seeds_by_trial(store)) - set(numbers))
    params = {n: plan.space.decode(study.trials[n].params) for n in (*numbers, *confirmed)}
    settings = worker_settings(plan, resources)
    found = confirm(plan.space, store, params, numbers, wanted.seeds, settings, resources, console)
    Console(width=200).print(confirmation_table(plan.folder / SUMMARY_FILE))
    if (sentence := answer_of(found)) is not None:
        print(f"\n{sentence[0].upper()}{sentence[1:]}")
    return 0 if any(candidate.estimates for candidate in found) else 1
