"""Confirmation: the best configurations again, with fresh seeds, beside the baseline's.

One seed per trial is a screening, and the best of many screened figures flatters itself (the
winner's curse). Here each chosen configuration and the baseline are trained with seeds that the
search never used, and their test figures are reported as mean, 95 % interval and n.
``python -m tuner.confirm OUTPUT/NAME`` confirms a search later, or with more seeds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rich.console import Console

from simreg_core import cli
from simreg_core.config import TrialConfig
from simreg_core.config_io import ConfigError, reason_of
from simreg_core.places import as_place, is_store_error
from simreg_core.records import CONFIRMATION_COLUMNS, Role
from simreg_core.tradeoff import TRADEOFF_METRICS, baseline_accuracy, tradeoff
from tuner.choice import choose_by
from tuner.driver import Driver
from tuner.objectives import SEARCH_SPLIT
from tuner.progress import SearchView
from tuner.ray_session import Resources, add_resource_flags, connected, run_tasks, set_environment
from tuner.space import MIN_SEEDS, ConfirmConfig, SearchSpace
from tuner.store import ResultStore
from tuner.study_storage import add_storage_flag
from tuner.summary import SUMMARY_FILE, Candidate, confirmation_table, summarize, write_summary
from tuner.trainable import (
    STATE_FILE,
    WorkerSettings,
    is_out_of_memory,
    prepare_worker,
    train,
)

if TYPE_CHECKING:
    from tuner.search import SearchPlan

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
    return range(row["seed"], row["seed"] + (row["num_seeds"] or 1))


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
    of_this_seed = baseline_accuracy(
        [{"clean_accuracy": baseline[clean], "robust_accuracy": baseline[robust]}]
    )
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
        if is_out_of_memory(err) or is_store_error(err):  # Ray tries it again
            raise
        return {"status": "failed", "reason": reason_of(err), **trial.flat()}
    # What compares with a baseline is filled in when the baseline of the same seed is there.
    unpaired = dict.fromkeys(f"test.{name}" for name in TRADEOFF_METRICS)
    columns = {**result.columns, **unpaired, "status": "complete"}
    return {column.name: columns.get(column.name) for column in CONFIRMATION_COLUMNS}


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m tuner.confirm``; 0 done, 1 nothing confirmed, 2 bad input, 130 interrupted."""
    parser = cli.Parser(
        "tuner.confirm", "Train the best configurations of a search again, with fresh seeds."
    )
    parser.add_argument("folder", type=as_place, metavar="OUTPUT/NAME", help="results of a search")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--top",
        type=_top,
        default=3,
        metavar="K|front",
        help="configurations to confirm: so many, or the whole front (default: %(default)s)",
    )
    which.add_argument(
        "--trials",
        type=cli.whole_number(0),
        nargs="+",
        metavar="ID",
        help="confirm the configurations of these trials",
    )
    parser.add_argument(
        "--by",
        choices=("raw", "model"),
        default="raw",
        help="choose the --top by their recorded figures, or by a model of the figures over the "
        "searched parameters (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=cli.whole_number(MIN_SEEDS),
        default=5,
        metavar="S",
        help="fresh seeds per configuration (default: %(default)s)",
    )
    add_storage_flag(parser)
    add_resource_flags(parser)
    return cli.run(parser, argv, _confirm_folder, interrupted="run it again to go on")


def _top(text: str) -> int | Literal["front"]:
    return "front" if text == "front" else cli.whole_number(1)(text)


def _confirm_folder(args: argparse.Namespace) -> int:
    set_environment()
    from tuner.search import SearchPlan, read_space

    space = read_space(args.folder)
    cache = args.folder.parent / "references"
    plan = SearchPlan(space, args.folder, cache, storage=args.storage)
    store = ResultStore(args.folder)
    if args.trials is not None:
        if args.by == "model":
            raise ConfigError("--by model: it chooses the --top; --trials leaves nothing to choose")
        _check_trials(args.trials, store.read("trials"))
    with Driver(args.folder) as driver, connected(args) as resources:
        driver.enter_phase("confirmation")
        wanted = ConfirmConfig(top=args.top, seeds=args.seeds, by=args.by)
        code = confirm_best(plan, store, wanted, resources, Console(stderr=True), args.trials)
        driver.enter_phase("done")
        return code


def _check_trials(numbers: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse trials that there are no figures of.

    Raises:
        ConfigError: a trial is not there or not complete.
    """
    status = {row["trial"]: row["status"] for row in rows}
    complete = [str(n) for n, found in sorted(status.items()) if found == "complete"]
    for number in numbers:
        if status.get(number) != "complete":
            found = f"is {status[number]}" if number in status else "is not there"
            raise ConfigError(
                f"--trials: trial {number} {found}; complete: {', '.join(complete) or 'none'}"
            )


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
    from tuner.study import read_study

    study = read_study(plan.folder, plan.space, plan.storage)
    numbers, how = list(dict.fromkeys(trials or ())), ""
    if trials is None:
        front = {trial.number for trial in study.best_trials}
        rows, networks = store.read("trials"), store.read("seeds")
        numbers, how = choose_by(wanted, rows, networks, front, plan.space)
    if how:
        console.print(how, soft_wrap=True, markup=False, highlight=False)
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


if __name__ == "__main__":
    cli.leave(main())
