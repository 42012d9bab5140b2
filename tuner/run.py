"""``python -m tuner.run``: run or resume a search, on this machine or on a Ray cluster."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from simreg_core import cli
from simreg_core.errors import ConfigError, counted
from simreg_core.results.objectives import SEARCH_SPLIT, objective
from simreg_core.results.study_lock import StudyLock
from simreg_core.results.tables import ResultStore
from simreg_core.storage.base import store_problem
from simreg_core.storage.location import as_place, local_path
from tuner.execution.gpu_sharing import count_by_memory
from tuner.execution.ray_session import Resources, add_resource_flags, connected, set_environment
from tuner.loggers.targets import add_log_flag, check_logs
from tuner.space.loading import load_space
from tuner.space.tuning import EarlyStoppingConfig
from tuner.study.folder import SearchPlan, check_resumable, create_folder, resume_plan
from tuner.study.storage import add_storage_flag, database_problem, require_free, without_passwords

DEFAULT_OUTPUT = Path("results")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 done, 1 no trial is complete, 2 bad input, 130 interrupted."""
    return cli.run(_parser(), argv, _run)


def _run(args: argparse.Namespace) -> int:
    set_environment()
    from simreg_core.data.summary import LEFT_OUT, MISSING
    from tuner.execution.baseline_networks import SearchFailed
    from tuner.search import check_data

    plan = make_plan(args)
    data = check_data(plan.space, str(args.space or plan.folder))
    if args.dry_run:
        if plan.resumes:
            check_resumable(plan)
        print("\n".join((describe_plan(plan, args), *map(_in_lines, data))))
        return 0
    for label, text in ((label, text) for lines in data for label, text in lines.items()):
        if label.startswith((LEFT_OUT, MISSING)):
            print(f"tuner.run: {label}: {text}", file=sys.stderr)
    try:
        return _search(plan, args)
    except SearchFailed as err:
        print(f"tuner.run: {err}", file=sys.stderr)
    except OSError as err:
        print(f"tuner.run: results cannot be written: {cli.os_reason(err)}", file=sys.stderr)
    return 1


def _search(plan: SearchPlan, args: argparse.Namespace) -> int:
    with ExitStack() as stack:
        if plan.resumes:  # before Ray starts, which takes seconds
            lock = stack.enter_context(StudyLock(plan.folder))
            check_resumable(plan)
        resources = stack.enter_context(connected(args, partial(count_by_memory, plan.space)))
        if not plan.resumes:
            plan = create_folder(plan)
            lock = stack.enter_context(StudyLock(plan.folder))
        store = ResultStore(plan.folder, lock.require_held)
        folder = shlex.quote(str(plan.folder))
        resume = f"resume with: {cli.program('tuner.run')} --resume {folder}{_storage_flag(plan)}"
        try:
            code = _run_phases(plan, store, resources, lock)
        except KeyboardInterrupt as err:
            raise KeyboardInterrupt(resume) from err
        except OSError as err:
            raise OSError(f"{cli.os_reason(err)}; {resume}") from err
        except Exception as err:
            problem = database_problem(err) or store_problem(err)
            if problem is None:
                raise
            raise OSError(f"{problem}; {resume}") from err
    if code == 0:
        print(f"\nresults: {folder}\nreport: {cli.program('analysis.report')} {folder}")
    return code


def _storage_flag(plan: SearchPlan) -> str:
    """The flag that names the study's database again, without its password."""
    return f" --storage {shlex.quote(without_passwords(plan.storage))}" if plan.storage else ""


def _run_phases(plan: SearchPlan, store: ResultStore, resources: Resources, lock: StudyLock) -> int:
    """Search, print the front and confirm; returns the exit code."""
    from simreg_core.results.delivered import delivered_in
    from tuner.confirmation.retraining import confirm_best
    from tuner.search import front_table, run_search

    console = Console(stderr=True)
    count, was_interrupted = run_search(plan, store, resources, console, lock)
    if count["complete"]:
        found = delivered_in(plan.folder)
        Console(width=200).print(front_table(plan, store, found))
        if found.problem:
            print(f"The front is that of the measured values, because {found.problem}.")
    if was_interrupted:
        raise KeyboardInterrupt
    if not count["complete"]:
        failed = f"{counted(count['failed'], 'trial')} failed"
        if count["pruned"]:
            failed = f"{failed}, {count['pruned']} stopped early"
        print(
            f"tuner.run: no trial is complete: {failed}; see the reasons in {plan.folder}/trials",
            file=sys.stderr,
        )
        return 1
    if plan.space.tuning.confirm is not None:
        lock.enter_phase("confirmation")
        confirm_best(plan, store, plan.space.tuning.confirm, resources, console)
    lock.enter_phase("done")
    return 0


def make_plan(args: argparse.Namespace) -> SearchPlan:
    """Check the parsed command line and return its plan.

    Raises:
        ConfigError: the space file, an override or the output folder is invalid.
    """
    overrides = list(args.set)
    for key, value in (("tuning.num_trials", args.num_trials), ("tuning.seed", args.seed)):
        if value is not None:
            overrides.append(f"{key}={value}")
    if args.name is not None:
        overrides.append(f"name={json.dumps(args.name)}")  # text, even for 2024
    if args.resume is not None:
        if args.name is not None or args.output is not None:
            raise ConfigError("--resume: names the result folder; leave out --output and --name")
        expected = None if args.space is None else load_space(args.space, overrides)
        plan = resume_plan(args.resume, expected, overrides, args.storage)
        return replace(plan, logs=check_logs(args.log, plan.folder))
    if args.space is None:
        raise ConfigError("one of --space FILE and --resume OUTPUT/NAME is required (see --help)")
    space = load_space(args.space, overrides)
    output = args.output or DEFAULT_OUTPUT
    plan = SearchPlan(space, output / space.name, args.name is not None, storage=args.storage)
    if plan.folder == plan.cache:
        raise ConfigError(f"{args.space}: name: {space.name} is reserved for the baseline networks")
    if (local := local_path(output)) is not None:
        _require_writable(local)
    plan = replace(plan, folder=plan.free_folder(), logs=check_logs(args.log, plan.folder))
    if args.storage is not None:
        require_free(args.storage, plan.folder.name)
    return plan


def _require_writable(output: Path) -> None:
    """Reject an output folder that cannot be written, before the search begins."""
    folders = (output.absolute(), *output.absolute().parents)
    existing = next(folder for folder in folders if folder.exists())
    if not existing.is_dir():
        raise ConfigError(f"--output {output}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"--output {output}: {existing} cannot be written")


def describe_plan(plan: SearchPlan, args: argparse.Namespace) -> str:
    """The plan in plain text."""
    space, tuning = plan.space, plan.space.tuning
    config = next(space.extreme_configs())
    robustness = config.robustness
    objectives = ", ".join(f"{objective(name).direction} {name}" for name in space.objectives)
    baselines = f"{counted(len(robustness.baseline_seeds), 'baseline')} and 1 surrogate"
    if space.baseline_varies():
        baselines += " for every combination of task, model and training in a trial"
    confirmation = "none"
    if tuning.confirm is not None:
        top = tuning.confirm.top
        which = "the whole front" if top == "front" else f"top {top}"
        confirmation = (
            f"{which} and the baseline, {counted(tuning.confirm.seeds, 'fresh seed')} each"
        )
    reference = ", ".join(f"{name} {eps:g}" for name, eps in robustness.reference.items())
    lines = {
        "search": f"{space.name}: {counted(tuning.num_trials, 'trial')}, sampler {tuning.sampler}, "
        f"seed {tuning.seed}",
        "objectives": f"{objectives} ({SEARCH_SPLIT} split)",
        "constraints": ", ".join(space.constraints),
        **{
            f"  {key}:": _joined(distribution.model_dump(exclude_defaults=True))
            for key, distribution in space.search.items()
        },
        "task": f"{config.task.dataset}, {counted(config.training.epochs, 'epoch')}",
        "robust at": reference,
        "baselines": f"{baselines} (cached in {plan.cache})",
        "seeds": f"{tuning.num_seeds} per trial",
        "warm starts": str(min(len(tuning.warm_starts), tuning.num_trials)),
        "confirmation": confirmation,
        "stopped by": _stopping(tuning.early_stopping),
        "per trial": f"{_resources(args)}; at once: {args.max_concurrent or 'as many as fit'}",
        "cluster": args.address or "this machine",
        "logs": ", ".join(map(str, plan.logs)),
        "results": str(plan.folder),
    }
    return _in_lines(lines)


def _in_lines(lines: Mapping[str, str]) -> str:
    return "\n".join(f"{label:12} {text}" for label, text in lines.items() if text)


def _resources(args: argparse.Namespace) -> str:
    """CPUs and GPUs of a trial, as far as the flags say."""
    cpus, gpus, count = args.cpus_per_trial, args.gpus_per_trial, args.trials_per_gpu
    text = "1 CPU" if (cpus or 1) == 1 else f"{cpus:g} CPUs"
    if count is None:
        return f"{text}, GPUs: {'1 if available' if gpus is None else f'{gpus:g}'}"
    number = "as many as its memory allows" if count == "auto" else count
    return f"{text if cpus else f'at most {text}'}, trials per GPU: {number}"


def _stopping(rule: EarlyStoppingConfig | None) -> str:
    if rule is None:
        return ""
    options = rule.model_dump(exclude={"type", "metric"}, exclude_none=True)
    return f"{rule.type} on {rule.metric} of every epoch, {_joined(options)}"


def _joined(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _parser() -> cli.Parser:
    parser = cli.Parser("tuner.run", "Search the hyperparameters of the similarity regularizer.")
    parser.add_argument(
        "--space",
        type=Path,
        metavar="FILE",
        help="space file, or the name of one that comes with the package, such as th_alpha",
    )
    parser.add_argument(
        "--resume",
        type=as_place,
        metavar="OUTPUT/NAME",
        help="resume a search that was stopped, or extend it with more trials",
    )
    parser.add_argument(
        "--num-trials",
        type=cli.whole_number(1),
        metavar="N",
        help="total number of trials (overrides tuning.num_trials)",
    )
    parser.add_argument(
        "--seed",
        type=cli.whole_number(0),
        metavar="S",
        help="seed of the sampler (overrides tuning.seed)",
    )
    parser.add_argument(
        "--output",
        type=as_place,
        metavar="DIR",
        help=f"write results to DIR/NAME; DIR may be s3://BUCKET/PATH (default: {DEFAULT_OUTPUT})",
    )
    parser.add_argument("--name", help="name of the results (default: the space's name)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the space file or the trial, for example training.epochs=5",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print the plan and exit"
    )
    add_log_flag(parser)
    add_storage_flag(parser)
    add_resource_flags(parser)
    return parser


if __name__ == "__main__":
    cli.leave(main())
