"""``python -m tuner.confirm OUTPUT/NAME``: train the best configurations with fresh seeds.

A search trains one network per trial, and the best of many noisy results is too optimistic (the
winner's curse). A confirmation trains each chosen configuration and the baseline with seeds that
the search never used, and reports the mean of the test metrics with a 95 % interval and n.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Literal

from rich.console import Console

from simreg_core import cli
from simreg_core.errors import ConfigError
from simreg_core.results.study_lock import StudyLock
from simreg_core.results.tables import ResultStore
from simreg_core.storage.location import as_place
from tuner.confirmation.retraining import confirm_best
from tuner.execution.gpu_sharing import count_by_memory
from tuner.execution.ray_session import add_resource_flags, connected, set_environment
from tuner.space.tuning import MIN_SEEDS, ConfirmConfig
from tuner.study.folder import SearchPlan, read_space
from tuner.study.storage import add_storage_flag


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
        help="number of configurations to confirm, or the whole front (default: %(default)s)",
    )
    which.add_argument(
        "--trials",
        type=cli.whole_number(0),
        nargs="+",
        metavar="ID",
        help="confirm the configurations of these trials",
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
    return cli.run(parser, argv, _confirm_folder, interrupted="run it again to resume")


def _top(text: str) -> int | Literal["front"]:
    return "front" if text == "front" else cli.whole_number(1)(text)


def _confirm_folder(args: argparse.Namespace) -> int:
    set_environment()
    plan = SearchPlan(read_space(args.folder), args.folder, storage=args.storage)
    _check_trials(args.trials or (), ResultStore(args.folder))
    count = partial(count_by_memory, plan.space)
    with StudyLock(args.folder) as lock, connected(args, count) as resources:
        lock.enter_phase("confirmation")
        store = ResultStore(args.folder, lock.require_held)
        wanted = ConfirmConfig(top=args.top, seeds=args.seeds)
        code = confirm_best(plan, store, wanted, resources, Console(stderr=True), args.trials)
        lock.enter_phase("done")
        return code


def _check_trials(numbers: Sequence[int], store: ResultStore) -> None:
    """Reject trials that are missing or not complete."""
    status = {row["trial"]: row["status"] for row in store.read("trials")}
    complete = [str(n) for n, found in sorted(status.items()) if found == "complete"]
    for number in numbers:
        if status.get(number) != "complete":
            found = f"is {status[number]}" if number in status else "does not exist"
            raise ConfigError(
                f"--trials: trial {number} {found}; complete: {', '.join(complete) or 'none'}"
            )


if __name__ == "__main__":
    cli.leave(main())
