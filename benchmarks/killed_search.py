"""A search that is killed with SIGKILL at random moments and resumed each time.

``python -m benchmarks.killed_search --kills 20`` runs a small search twice, once undisturbed and
once with kills. It prints lost or doubled results (and exits with 1 if there are any) and the time
that the kills cost.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from simreg_core.results.progress import SPACE_FILE
from simreg_core.results.schema import TABLES
from tuner.study.folder import read_space
from tuner.study.study import read_study

SPACE = Path(__file__).parents[1] / "search_spaces" / "smoke.yaml"
ALPHAS = [0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.4, 3.2, 4.8]
CHANGES = [  # a grid, because its order of trials does not depend on interruptions
    "search.regularizer.threshold={type: categorical, choices: [0.2, 0.8]}",
    f"search.regularizer.alpha={{type: categorical, choices: {ALPHAS}}}",
    "tuning.sampler=grid",
    f"tuning.num_trials={2 * len(ALPHAS)}",
    "training.epochs=6",
    "regularizer.batch_size=400",
]
CLOCKS = ("study", "seconds", "started_at", "finished_at")


def main() -> int:
    """Run the comparison. Returns 0 if nothing was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--output", type=Path, default=None, help="default: a temporary folder")
    args = parser.parse_args()
    output = args.output or Path(tempfile.mkdtemp(prefix="killed-"))
    calm, killed = output / "calm", output / "killed"
    run(output / "first", "--num-trials", "1").wait()  # fills the cache of baselines

    clock = time.monotonic()
    process = run(calm)
    while process.poll() is None and not any(calm.glob("checkpoints/*/state.pt")):
        time.sleep(0.1)
    start_seconds = time.monotonic() - clock  # until the first epoch is done
    process.wait()
    calm_seconds = time.monotonic() - clock
    longest = longest_moment(start_seconds, calm_seconds - start_seconds, args.kills)

    moments = random.Random(args.seed)
    num_kills, wasted = 0, 0.0
    clock = time.monotonic()
    while num_kills < args.kills:
        process = run(killed)
        moment = moments.uniform(1.0, longest)
        try:
            process.wait(timeout=moment)
            break  # finished before the last kill
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            num_kills += 1
            wasted += moment
            print(f"kill {num_kills} after {moment:.1f} s: {state_of(killed)}", flush=True)
    code = run(killed).wait()
    seconds = time.monotonic() - clock

    problems = ["the last run failed"] if code else []
    problems += [*check(killed), *differences(calm, killed)]
    print(f"undisturbed {calm_seconds:.0f} s; with {num_kills} kills {seconds:.0f} s in total")
    print("\n".join(problems) or "nothing lost, nothing doubled, all values equal")
    return 1 if problems else 0


def longest_moment(start_seconds: float, work_seconds: float, num_kills: int) -> float:
    """The latest moment of a kill in seconds, such that kills spread over the whole search.

    A search that starts in s seconds and is killed at a uniform moment in [0, s + x] proceeds by
    x^2 / (2 (s + x)) seconds on average. All kills together leave a tenth of the work.
    """
    progress = 0.9 * work_seconds / num_kills
    return start_seconds + progress + math.sqrt(progress**2 + 2 * progress * start_seconds)


def run(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start the search of a folder, or resume it if the folder exists."""
    flags = ["--resume", str(folder)]
    if not (folder / SPACE_FILE).exists():
        flags = ["--space", str(SPACE), "--output", str(folder.parent), "--name", folder.name]
        flags += [part for change in CHANGES for part in ("--set", change)]
    command = [sys.executable, "-m", "tuner.run", *flags, *more, "--gpus-per-trial", "0"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)


def state_of(folder: Path) -> str:
    """The number of trials by state, as text."""
    if not (folder / SPACE_FILE).exists():
        return "no folder yet"
    if not (folder / "study.journal").exists():
        return "no study yet"
    trials = read_study(folder, read_space(folder)).trials
    return str(dict(Counter(trial.state.name for trial in trials)))


def check(folder: Path) -> list[str]:
    """Problems of a finished search."""
    problems = []
    num_trials = 2 * len(ALPHAS)
    states = Counter(trial.state.name for trial in read_study(folder, read_space(folder)).trials)
    if states != {"COMPLETE": num_trials}:
        problems.append(f"the study has {dict(states)}")
    tables = {table: pd.read_parquet(folder / table) for table in TABLES}  # raises if unreadable
    if sorted(tables["trials"]["trial"]) != list(range(num_trials)):
        problems.append(f"rows of trials {sorted(tables['trials']['trial'])}")
    keys = {"curves": ["split", "attack", "epsilon"], "epochs": ["epoch"]}
    for table, key in keys.items():
        identity = ["role", "trial", "seed", *key]
        if tables[table].duplicated(identity).any():
            problems.append(f"doubled rows in {table}")
    return problems


def differences(calm: Path, killed: Path) -> list[str]:
    """Tables whose values differ between the two searches."""
    return [
        f"values in {table} differ"
        for table in ("trials", "curves", "epochs")
        if not values(calm / table).equals(values(killed / table))
    ]


def values(table: Path) -> pd.DataFrame:
    """The rows of trials in a fixed order, without clocks."""
    rows = pd.read_parquet(table)
    rows = rows[rows["trial"].notna()]
    keys = [key for key in ("trial", "split", "attack", "epsilon", "epoch") if key in rows]
    clocks = [name for name in rows if name in CLOCKS or str(name).endswith("_seconds")]
    return rows.sort_values(keys).reset_index(drop=True).drop(columns=clocks)


if __name__ == "__main__":
    sys.exit(main())
