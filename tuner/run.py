"""``python -m tuner.run``: a search from a space file, on this machine or on a Ray cluster."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from simreg_core import cli
from simreg_core.config_io import ConfigError
from simreg_core.places import as_place, is_remote, is_store_error, store_problem
from simreg_core.records import METRICS
from tuner.loggers.targets import add_log_flag, check_logs
from tuner.objectives import SEARCH_SPLIT, parse_constraint, total_violation
from tuner.ray_session import add_resource_flags, connected, set_environment
from tuner.space import ConfirmConfig, EarlyStoppingConfig, SearchSpace, load_space
from tuner.study_storage import add_storage_flag, database_problem

if TYPE_CHECKING:
    from tuner.search import SearchPlan
    from tuner.store import ResultStore


DEFAULT_OUTPUT = Path("results")
_NUM_NEAREST = 3  # trials to show where none meets the constraints


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 when the search finished, 1 when every trial failed, 2 for bad input, 130 when it was
        interrupted.
    """
    return cli.run(_parser(), argv, _run)


def _run(args: argparse.Namespace) -> int:
    set_environment()
    from tuner.baselines import SearchFailed
    from tuner.search import check_data, check_resumable

    plan = make_plan(args)
    check_data(plan.space, str(args.space or plan.folder))
    if args.dry_run:
        if plan.resumes:
            check_resumable(plan)
        print(describe_plan(plan, args))
        return 0
    try:
        return _search(plan, args)
    except SearchFailed as err:
        print(f"tuner.run: {err}", file=sys.stderr)
    except OSError as err:
        print(f"tuner.run: results cannot be written: {cli.os_reason(err)}", file=sys.stderr)
    return 1


def _search(plan: SearchPlan, args: argparse.Namespace) -> int:
    from tuner.confirm import confirm_best
    from tuner.driver import Driver
    from tuner.search import check_resumable, create_folder, run_search
    from tuner.store import ResultStore

    console = Console(stderr=True)
    with ExitStack() as stack:
        if plan.resumes:  # before the seconds that Ray takes to start
            driver = stack.enter_context(Driver(plan.folder))
            check_resumable(plan)
        resources = stack.enter_context(connected(args))
        if not plan.resumes:
            plan = create_folder(plan)
            driver = stack.enter_context(Driver(plan.folder))
        store = ResultStore(plan.folder)
        folder = shlex.quote(str(plan.folder))
        go_on = f"go on with: python -m tuner.run --resume {folder}"
        try:
            found = run_search(plan, store, resources, console, driver)
            if found.num_complete:
                Console(width=200).print(pareto_table(plan, store))
            if found.was_interrupted:
                raise KeyboardInterrupt(go_on)
            if not found.num_complete:
                reasons = f"reasons in {plan.folder}/trials"
                failed = f"all {found.num_failed} trials failed"
                if found.num_pruned:
                    failed = f"{found.num_failed} trials failed and {found.num_pruned} were stopped"
                print(f"tuner.run: {failed}; {reasons}", file=sys.stderr)
                return 1
            confirmation = plan.space.tuning.confirm
            if confirmation is not None:
                driver.enter_phase("confirmation")
                confirm_best(plan, store, confirmation, resources, console)
            driver.enter_phase("done")
        except KeyboardInterrupt as err:
            raise KeyboardInterrupt(go_on) from err
        except OSError as err:
            raise OSError(f"{cli.os_reason(err)}; {go_on}") from err
        except Exception as err:
            problem = database_problem(err) or (store_problem(err) if is_store_error(err) else None)
            if problem is None:
                raise
            raise OSError(f"{problem}; {go_on}") from err
    print(f"\nresults: {folder}\npicture: python -m analysis.pareto {folder}")
    return 0


def make_plan(args: argparse.Namespace) -> SearchPlan:
    """The checked plan of the parsed command line.

    Raises:
        ConfigError: the space file, an override or the place of the results is wrong.
    """
    from tuner.search import SearchPlan, resume_plan
    from tuner.study_storage import require_free

    overrides = list(args.set)
    for key, value in (("tuning.num_trials", args.num_trials), ("tuning.seed", args.seed)):
        if value is not None:
            overrides.append(f"{key}={value}")
    if args.name is not None:
        overrides.append(f"name={json.dumps(args.name)}")  # text, even if it is 2024
    if args.resume is not None:
        if args.name is not None or args.output is not None:
            raise ConfigError("--resume: names the folder of results; leave --output and --name")
        asked = None if args.space is None else load_space(args.space, overrides)
        plan = resume_plan(args.resume, asked, overrides, args.storage)
        return replace(plan, logs=check_logs(args.log, plan.folder))
    if args.space is None:
        raise ConfigError("one of --space FILE and --resume OUTPUT/NAME is required (see --help)")
    space = load_space(args.space, overrides)
    output = args.output or DEFAULT_OUTPUT
    folder, cache = output / space.name, output / "references"
    if folder == cache:
        raise ConfigError(f"{args.space}: name: {space.name} is the folder of reference networks")
    if not is_remote(output):
        _require_writable(output)
    is_named = args.name is not None
    plan = SearchPlan(space, folder, cache, is_named=is_named, storage=args.storage)
    plan = replace(plan, folder=plan.free_folder(), logs=check_logs(args.log, folder))
    if args.storage is not None:
        require_free(args.storage, plan.folder.name)
    return plan


def _require_writable(output: Path) -> None:
    """Refuse an output that cannot be written, before minutes are spent on it."""
    place = next(
        parent for parent in (output.absolute(), *output.absolute().parents) if parent.exists()
    )
    if not place.is_dir():
        raise ConfigError(f"--output {output}: {place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"--output {output}: {place} cannot be written")


def describe_plan(plan: SearchPlan, args: argparse.Namespace) -> str:
    """What would be done, in plain text."""
    space, tuning = plan.space, plan.space.tuning
    config = next(space.extreme_configs())
    robustness = config.robustness
    baselines = f"{len(robustness.baseline_seeds)} baselines and 1 surrogate"
    if space.baseline_varies():
        baselines += " for every combination of task, model and training that a trial asks for"
    gpus = "1 if there are any" if args.gpus_per_trial is None else f"{args.gpus_per_trial:g}"
    confirmed = (
        "none"
        if tuning.confirm is None
        else f"{_confirmed(tuning.confirm)} and the baseline, "
        f"{tuning.confirm.seeds} fresh seeds each"
    )
    reference = ", ".join(f"{name} {eps:g}" for name, eps in robustness.reference.items())
    stopping = tuning.early_stopping
    lines = [
        f"search       {space.name}: {tuning.num_trials} trials, sampler {tuning.sampler}, "
        f"seed {tuning.seed}",
        "objectives   "
        + ", ".join(f"{METRICS[name].direction} {name}" for name in space.objectives)
        + f" ({SEARCH_SPLIT} split)",
        *([f"constraints  {', '.join(space.constraints)}"] if space.constraints else []),
        *(f"  {key}: {_range(space, key)}" for key in space.search),
        f"task         {config.task.dataset}, {config.training.epochs} epochs",
        f"robust at    {reference}",
        f"references   {baselines} (cached in {plan.cache})",
        f"seeds        {tuning.num_seeds} per trial",
        f"warm starts  {min(len(tuning.warm_starts), tuning.num_trials)}",
        f"confirmation {confirmed}",
        *([f"stopped by   {_stopping(stopping)}"] if stopping is not None else []),
        f"per trial    {args.cpus_per_trial:g} CPUs, GPUs: {gpus}; "
        f"at once: {args.max_concurrent or 'as many as fit'}",
        f"cluster      {args.address or 'this machine'}",
        *([f"logs         {', '.join(map(str, plan.logs))}"] if plan.logs else []),
        f"results      {plan.folder}",
    ]
    return "\n".join(lines)


def _stopping(rule: EarlyStoppingConfig) -> str:
    given = rule.model_dump(exclude={"type", "metric"}, exclude_none=True)
    options = ", ".join(f"{name} {value}" for name, value in given.items())
    return f"{rule.type} on {rule.metric} of every epoch, {options}"


def _confirmed(confirm: ConfirmConfig) -> str:
    which = "the whole front" if confirm.top == "front" else f"top {confirm.top}"
    return f"{which} by a model of the figures" if confirm.by == "model" else which


def _range(space: SearchSpace, key: str) -> str:
    values = space.search[key].model_dump(exclude_defaults=True)
    return ", ".join(f"{name} {value}" for name, value in values.items())


def pareto_table(plan: SearchPlan, store: ResultStore) -> Table:
    """The trials that no other beats on all objectives, by the first objective.

    Under constraints, of those that meet them; where none does, the nearest, and the title says so.
    """
    from tuner.study import read_study
    from tuner.summary import describe

    space = plan.space
    study = read_study(plan.folder, space, plan.storage)
    front = {trial.number for trial in study.best_trials}
    ended = store.read("trials")
    constrained = [parse_constraint(text).metric for text in space.constraints]
    shown = list(dict.fromkeys((*space.objectives, "tradeoff_score", *constrained)))
    rows = [row for row in ended if row["status"] == "complete"]
    bounds = ", ".join(space.constraints)
    what = f"Pareto set of {len(ended)} trials" + (f" under {bounds}" if bounds else "")
    if front:
        rows = [row for row in rows if row["trial"] in front]
    else:
        what = f"None of {len(ended)} trials meets {bounds}; the nearest are"
        rows.sort(key=lambda row: (total_violation(row, space.constraints), row["trial"]))
        del rows[_NUM_NEAREST:]
    first = f"{SEARCH_SPLIT}.{space.objectives[0]}"
    rows.sort(key=lambda row: row[first], reverse=True)
    num_seeds = space.tuning.num_seeds
    seeds = "one seed each" if num_seeds == 1 else f"means of {num_seeds} seeds"
    table = Table(
        title=f"{what} ({SEARCH_SPLIT} split, {seeds})",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for heading in ("trial", *shown, "what"):
        table.add_column(heading, justify="left" if heading == "what" else "right", no_wrap=True)
    for row in rows:
        values = (f"{row[f'{SEARCH_SPLIT}.{name}']:.3f}" for name in shown)
        params = space.decode(study.trials[row["trial"]].params)
        table.add_row(str(row["trial"]), *values, describe(params))
    return table


def _parser() -> cli.Parser:
    parser = cli.Parser("tuner.run", "Search the hyperparameters of the similarity regularizer.")
    parser.add_argument("--space", type=Path, metavar="FILE", help="space file")
    parser.add_argument(
        "--resume",
        type=as_place,
        metavar="OUTPUT/NAME",
        help="go on with a search that was stopped, or give it more trials",
    )
    parser.add_argument(
        "--num-trials",
        type=cli.whole_number(1),
        metavar="N",
        help="trials in all: tuning.num_trials",
    )
    parser.add_argument(
        "--seed", type=cli.whole_number(0), metavar="S", help="of the sampler: tuning.seed"
    )
    parser.add_argument(
        "--output",
        type=as_place,
        metavar="DIR",
        help=f"results go to DIR/NAME, DIR may be s3://BUCKET/PATH (default: {DEFAULT_OUTPUT})",
    )
    parser.add_argument("--name", help="of the results (default: the space's name)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the space file or of the trial, for example training.epochs=5",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan, and stop"
    )
    add_log_flag(parser)
    add_storage_flag(parser)
    add_resource_flags(parser)
    return parser


if __name__ == "__main__":
    cli.leave(main())
