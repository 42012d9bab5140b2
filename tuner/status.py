"""``python -m tuner.status``: how far a search is, running or stopped, from its files alone."""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simreg_core import cli
from simreg_core.results.objectives import SEARCH_SPLIT, best_trial
from simreg_core.results.schema import METRICS
from simreg_core.results.study_lock import is_held, read_heartbeat
from simreg_core.results.tables import ResultStore
from simreg_core.storage.location import as_place


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 2 where there is no search."""
    parser = cli.Parser("tuner.status", "Say how far a search is, running or stopped.")
    parser.add_argument("folder", type=as_place, metavar="OUTPUT/NAME", help="results of a search")
    parser.add_argument("--json", action="store_true", help="for programs")
    return cli.run(parser, argv, _show)


def _show(args: argparse.Namespace) -> int:
    status = search_status(args.folder)
    print(json.dumps(status, indent=1) if args.json else describe(status, args.folder))
    return 0


def search_status(folder: Path) -> dict[str, Any]:
    """What the files in a result folder say of its search; JSON-able.

    Raises:
        ConfigError: there is no search, or a table is damaged.
    """
    from tuner.study.folder import read_space

    space = read_space(folder)
    store = ResultStore(folder)
    rows = store.read("trials")
    score = f"{SEARCH_SPLIT}.tradeoff_score"
    best = best_trial(rows)
    heartbeat = read_heartbeat(folder)
    phase = heartbeat.get("phase")
    is_running = is_held(folder)
    return {
        "name": space.name,
        "is_running": is_running,
        "phase": phase if is_running else None,
        "heartbeat": {
            key: heartbeat.get(key) for key in ("host", "pid", "started_at", "updated_at")
        },
        "num_trials": space.tuning.num_trials,
        "trials": dict(Counter(row["status"] for row in rows)),
        "lacks_confirmation": space.tuning.confirm is not None and phase not in (None, "done"),
        "running": heartbeat.get("running", {}) if is_running else {},
        "best": None if best is None else {"trial": best["trial"], "tradeoff_score": best[score]},
        "failures": dict(Counter(row["reason"] for row in rows if row["status"] == "failed")),
        "confirmation": dict(Counter(row["status"] for row in store.read("confirmation"))),
    }


def describe(status: Mapping[str, Any], folder: Path) -> str:
    """The status in plain text."""
    num_done = sum(status["trials"].values())
    heartbeat, best = status["heartbeat"], status["best"]
    if status["is_running"]:
        state = f"running: {status['phase']} (process {heartbeat['pid']} on {heartbeat['host']})"
    elif num_done < status["num_trials"] or status["lacks_confirmation"]:
        go_on = f"python -m tuner.run --resume {shlex.quote(str(folder))}"
        state = f"stopped; go on with: {go_on}"
    else:
        state = "finished"
    counts = ", ".join(f"{number} {name}" for name, number in sorted(status["trials"].items()))
    lines = [
        f"search       {status['name']}",
        f"state        {state}",
        f"trials       {num_done} of {status['num_trials']}" + (f" ({counts})" if counts else ""),
    ]
    for trial, networks in status["running"].items():
        epochs = ", ".join(
            f"{network['epochs_done']} of {network['epochs']} epochs"
            for network in networks.values()
        )
        lines.append(f"  trial {trial}: {epochs}")
    if best is not None:
        label = METRICS["tradeoff_score"].label
        lines.append(f"best         {label} {best['tradeoff_score']:+.3f} (trial {best['trial']})")
    lines += [f"failed       {n} x {reason}" for reason, n in status["failures"].items()]
    if status["confirmation"]:
        done = ", ".join(f"{n} {name}" for name, n in sorted(status["confirmation"].items()))
        lines.append(f"confirmation {done}")
    if heartbeat["updated_at"]:
        lines.append(f"heartbeat    {heartbeat['updated_at']}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.leave(main())
