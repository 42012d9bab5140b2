"""Confirmation: the best configurations again, with fresh seeds, beside the baseline's.

One seed per trial is a screening, and the best of many screened figures flatters itself (the
winner's curse). Here each chosen configuration and the baseline are trained with seeds that the
search never used, and their test figures are reported as mean, 95 % interval and n.
``python -m tuner.confirm OUTPUT/NAME`` confirms a search later, or with more seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from simreg_core.config import TrialConfig
from simreg_core.config_io import ConfigError
from simreg_core.records import CONFIRMATION_COLUMNS, METRICS, Role
from tuner.cluster import Resources, run_tasks
from tuner.objectives import SEARCH_SPLIT
from tuner.progress import SearchView
from tuner.space import SearchSpace
from tuner.store import ResultStore
from tuner.summary import SUMMARY_FILE, Candidate, confirmation_table, summarize, write_summary
from tuner.trainable import WorkerSettings, prepare_worker, reason_of

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


def choose(
    rows: Sequence[dict[str, Any]], front: set[int], space: SearchSpace, top: int
) -> list[int]:
    """Numbers of the ``top`` best complete trials, best first.

    With one objective, by its value. With several, members of the front first, each by tradeoff
    score (of which the best is on the front of accuracies by definition).

    Args:
        rows: Rows of the trials table.
        front: Numbers of the trials on the study's Pareto front.
        space: The search space.
        top: How many; all if there are fewer.
    """
    complete = [row for row in rows if row["status"] == "complete"]
    single = len(space.objectives) == 1
    metric = METRICS[space.objectives[0] if single else "tradeoff_score"]
    sign = -1 if metric.direction == "minimize" else 1

    def rank(row: dict[str, Any]) -> tuple[bool, float, int]:
        is_front = not single and row["trial"] in front
        return (not is_front, -sign * row[f"{SEARCH_SPLIT}.{metric.name}"], row["trial"])

    return [row["trial"] for row in sorted(complete, key=rank)[:top]]


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
) -> list[Candidate]:
    """Train every chosen configuration and its baseline with fresh seeds; write rows and summary.

    Networks that an earlier confirmation has already trained are not trained again.

    Args:
        space: The search space.
        store: The study's tables.
        chosen: Searched values per trial number.
        num_seeds: Fresh seeds per configuration.
        settings: What workers are told.
        resources: What one network uses.
        console: Where progress is shown.
    """
    rows = store.read("trials")
    configs = {number: space.trial_config(params) for number, params in chosen.items()}
    used = {int(row["seed"]) for row in rows if row["seed"] is not None}
    used |= {s for config in configs.values() for s in config.robustness.baseline_seeds}
    seeds = fresh_seeds(num_seeds, used)
    runs = _runs(configs, seeds)
    done = _complete_rows(store)
    missing = [run for digest, run in runs.items() if digest not in done]
    with SearchView(console, "confirmation network", len(missing)) as view:

        def collect(index: int, value: Any) -> None:
            run = missing[index]
            if isinstance(value, Exception):
                value = {"status": "failed", "reason": reason_of(value), **run.config.flat()}
            row = {
                **value,
                "role": run.role,
                "trial": run.trial,
                "config_digest": run.config.digest(),
            }
            store.write("confirmation", run.part, [row])
            reason = f"{run.label}: {row['reason']}" if row.get("reason") else None
            view.finished(index, row["status"], reason)

        calls = [(run.config.to_dict(), settings) for run in missing]
        run_tasks(_confirm_one, calls, resources, collect)
    screened = {row["trial"]: row[f"{SEARCH_SPLIT}.tradeoff_score"] for row in rows}
    done = _complete_rows(store)
    candidates = [
        summarize(number, chosen[number], screened.get(number), config, seeds, done)
        for number, config in configs.items()
    ]
    write_summary(store, candidates, seeds, list(configs.values()), done)
    return candidates


def _complete_rows(store: ResultStore) -> dict[str, dict[str, Any]]:
    """Rows of the networks that were confirmed, by the digest of their configuration."""
    rows = store.read("confirmation")
    return {row["config_digest"]: row for row in rows if row["status"] == "complete"}


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
    from simreg_core.experiment import run_experiment

    device = prepare_worker(settings)
    trial = TrialConfig.from_dict(config)
    try:
        result = run_experiment(trial, cache=settings.cache, device=device)
    except Exception as err:  # recorded with its reason; the other networks go on
        return {"status": "failed", "reason": reason_of(err), **trial.flat()}
    names = {column.name for column in CONFIRMATION_COLUMNS}
    columns = {name: value for name, value in result.columns.items() if name in names}
    return {**columns, "status": "complete"}


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m tuner.confirm``; exit code 0 done, 1 every network failed, 2 bad input."""
    from tuner.run import add_resource_flags, error_line, positive

    parser = argparse.ArgumentParser(
        prog="python -m tuner.confirm",
        description="Train the best configurations of a search again, with fresh seeds.",
    )
    parser.add_argument("folder", type=Path, metavar="OUTPUT/NAME", help="results of a search")
    parser.add_argument("--top", type=positive, default=3, help="configurations to confirm")
    parser.add_argument("--seeds", type=positive, default=5, help="fresh seeds per configuration")
    add_resource_flags(parser)
    args = parser.parse_args(argv)
    try:
        return _confirm_folder(args)
    except ConfigError as err:
        return error_line("tuner.confirm", err)
    except KeyboardInterrupt:
        print("tuner.confirm: interrupted; run it again to go on", file=sys.stderr)
        return 130


def _confirm_folder(args: argparse.Namespace) -> int:
    from tuner.cluster import fit_resources, ray_session, set_environment

    set_environment()
    from tuner.search import SPACE_FILE, SearchPlan, worker_settings
    from tuner.space import load_space

    if not (args.folder / SPACE_FILE).is_file():
        raise ConfigError(f"{args.folder}: no results of a search (it has no {SPACE_FILE})")
    space = load_space(args.folder / SPACE_FILE)
    plan = SearchPlan(space, args.folder, args.folder.parent / "references")
    console = Console(stderr=True)
    with ray_session(args.address):
        resources = fit_resources(
            args.cpus_per_trial,
            args.gpus_per_trial,
            args.max_concurrent,
            is_local=args.address is None,
        )
        settings = worker_settings(plan, resources)
        store = ResultStore(args.folder)
        return confirm_best(plan, store, args.top, args.seeds, settings, resources, console)


def confirm_best(
    plan: Any,
    store: ResultStore,
    top: int,
    num_seeds: int,
    settings: WorkerSettings,
    resources: Resources,
    console: Console,
) -> int:
    """Choose, confirm and print; returns the exit code (1 when nothing could be confirmed)."""
    from tuner.searcher import open_study

    study = open_study(plan.folder, plan.space)
    front = {trial.number for trial in study.best_trials}
    numbers = choose(store.read("trials"), front, plan.space, top)
    if not numbers:
        print(f"{plan.folder}: no complete trial to confirm", file=sys.stderr)
        return 1
    chosen = {n: plan.space.decode(study.trials[n].params) for n in numbers}
    found = confirm(plan.space, store, chosen, num_seeds, settings, resources, console)
    Console(width=200).print(confirmation_table(plan.folder / SUMMARY_FILE))
    return 0 if any(candidate.estimates for candidate in found) else 1


if __name__ == "__main__":
    sys.exit(main())
