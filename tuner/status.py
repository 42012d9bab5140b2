"""``python -m tuner.status``: show the progress of a search, from its files alone."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from simreg_core import cli
from simreg_core.errors import ConfigError, counted
from simreg_core.results.progress import StudyProgress, study_progress
from simreg_core.storage.location import as_place


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 done, 2 no search found."""
    parser = cli.Parser("tuner.status", "Show the progress of a search, running or stopped.")
    parser.add_argument("folder", type=as_place, metavar="OUTPUT/NAME", help="results of a search")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    return cli.run(parser, argv, _show)


def _show(args: argparse.Namespace) -> int:
    progress = study_progress(args.folder)
    if progress.problem is not None:
        raise ConfigError(progress.problem)
    print(json.dumps(asdict(progress), indent=1) if args.json else describe(progress, args.folder))
    return 0


def describe(progress: StudyProgress, folder: Path) -> str:
    """The progress of a study in plain text."""
    heartbeat = progress.heartbeat
    state: str = progress.state
    if state == "running":
        who = f"process {heartbeat.get('pid')} on {heartbeat.get('host')}"
        state = f"running: {progress.phase} ({who})"
    elif state == "stopped":
        resume = f"{cli.program('tuner.run')} --resume {shlex.quote(str(folder))}"
        state = f"stopped; resume with: {resume}"
    counts = _counts(progress.trials or {})
    lines = [
        f"search       {progress.name}",
        f"state        {state}",
        f"trials       {progress.num_ended} of {progress.num_trials}"
        + (f" ({counts})" if counts else ""),
    ]
    for trial, networks in progress.running.items():
        epochs = ", ".join(
            f"{network['epochs_done']} of {counted(network['epochs'], 'epoch')}"
            for network in networks.values()
        )
        lines.append(f"  trial {trial}: {epochs}")
    if progress.best is not None:
        lines.append(f"best         {progress.best}")
    lines += [f"failed       {n} x {reason}" for reason, n in progress.failures.items()]
    if progress.confirmation:
        lines.append(f"confirmation {_counts(progress.confirmation)}")
    if "updated_at" in heartbeat:
        lines.append(f"updated      {heartbeat['updated_at']}")
    return "\n".join(lines)


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(numbers.items()))


if __name__ == "__main__":
    cli.leave(main())
