"""Searches that are disturbed at random moments, and resumed until they end.

``python -m benchmarks.chaos --rounds 100`` runs small searches with early stopping, several seeds
and confirmation. In every round one process of a search is hurt: the driver or a worker is killed,
a worker is stopped for a while, the disk is full for a while, or the reader of the output goes
away. At the end every trial must exist once, every table must be whole, and all values must equal
those of an undisturbed search (except with early stopping, which depends on the order in which
trials report). The exit code is 1 if they do not.

The disk is a small file system in memory, which needs root; without root, that kind is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from simreg_core.results.request import SPACE_FILE
from simreg_core.results.schema import TABLES
from tuner.study.folder import read_space
from tuner.study.study import read_study

SPACE = Path(__file__).parents[1] / "search_spaces" / "smoke.yaml"
ALPHAS = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
COMMON = [  # a grid, because its order of trials does not depend on interruptions
    "search.regularizer.threshold={type: categorical, choices: [0.2, 0.8]}",
    f"search.regularizer.alpha={{type: categorical, choices: {ALPHAS}}}",
    "tuning.sampler=grid",
    f"tuning.num_trials={2 * len(ALPHAS)}",
    "training.epochs=6",
    "training.checkpoint_seconds=0",
    "regularizer.batch_size=400",
]
VARIANTS = {
    "plain": [],
    "seeds": ["tuning.num_seeds=2"],
    "stopping": ["tuning.early_stopping={type: median, metric: robust_accuracy}"],
    "confirm": ["tuning.confirm={top: 2, seeds: 2}"],
}
CLOCKS = ("study", "seconds", "started_at", "finished_at", "host", "commit")
KEYS = ("trial", "seed", "split", "attack", "epsilon", "epoch")
DISK_MEGABYTES = 64
_PAUSE = 5.0  # seconds that a worker is stopped, or the disk is full


class Search:
    """One search, in the foreground or hurt in the background."""

    def __init__(self, folder: Path, changes: list[str]) -> None:
        self.folder = folder
        self.changes = changes

    def start(self, output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start the search, or resume it if its folder exists."""
        flags = ["--resume", str(self.folder)]
        if not (self.folder / SPACE_FILE).exists():
            flags = ["--space", str(SPACE), "--output", str(self.folder.parent)]
            flags += ["--name", self.folder.name]
            flags += [part for change in self.changes for part in ("--set", change)]
        command = [sys.executable, "-m", "tuner.run", *flags, "--gpus-per-trial", "0"]
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)


def kill_driver(search: Search, process: subprocess.Popen[bytes]) -> None:
    """Kill the driver."""
    process.kill()


def kill_worker(search: Search, process: subprocess.Popen[bytes]) -> None:
    """Kill a worker; the search goes on."""
    for pid in workers(process)[:1]:
        os.kill(pid, signal.SIGKILL)


def stop_worker(search: Search, process: subprocess.Popen[bytes]) -> None:
    """Stop a worker for a while; then kill the driver."""
    for pid in workers(process)[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(_PAUSE)
            os.kill(pid, signal.SIGCONT)
    process.kill()


def fill_disk(search: Search, process: subprocess.Popen[bytes]) -> None:
    """Fill the disk for a while."""
    filler = search.folder.parent / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(2**16))
    time.sleep(_PAUSE)
    filler.unlink(missing_ok=True)


def close_output(search: Search, process: subprocess.Popen[bytes]) -> None:
    """Nothing more to do: the output of such a round is closed from the start."""


Hurt = Callable[[Search, subprocess.Popen[bytes]], None]


def main() -> int:
    """Hurt searches until the rounds are used up. Returns 0 if nothing was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--longest", type=float, default=12.0, help="latest moment, seconds")
    args = parser.parse_args()
    kinds: list[Hurt] = [kill_driver, kill_worker, stop_worker, close_output]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, disk(Path(name)) as has_disk:
        kinds += [fill_disk] if has_disk else []
        rng, output = random.Random(args.seed), Path(name)
        calm = {variant: undisturbed(output, variant) for variant in VARIANTS}
        done: Counter[str] = Counter()
        problems: list[str] = []
        num_searches = 0
        while done.total() < args.rounds and not problems:
            variant = list(VARIANTS)[num_searches % len(VARIANTS)]
            search = Search(output / f"{variant}-{num_searches}", COMMON + VARIANTS[variant])
            problems = disturb(search, kinds, args, rng, done) + check(search, calm[variant])
            num_searches += 1
            print(f"{search.folder.name}: {dict(done)} {problems or 'as undisturbed'}", flush=True)
            shutil.rmtree(search.folder)
    print(f"{done.total()} rounds in {num_searches} searches: {len(problems)} problems")
    return 1 if problems else 0


def disturb(
    search: Search,
    kinds: list[Hurt],
    args: argparse.Namespace,
    rng: random.Random,
    done: Counter[str],
) -> list[str]:
    """Hurt a search in several rounds, then let it end; problems of the last run."""
    for _ in range(rng.randint(4, 8)):
        if done.total() == args.rounds:
            break
        hurt = rng.choice(kinds)
        process = start_round(search, hurt)
        try:
            process.wait(timeout=rng.uniform(1.0, args.longest))
            break  # it ended before
        except subprocess.TimeoutExpired:
            hurt(search, process)
            done[hurt.__name__] += 1
            if hurt is not kill_driver and rng.random() < 0.5:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=rng.uniform(1.0, args.longest))
            process.kill()
            process.wait()
    code = search.start().wait()
    return [f"the last run ended with {code}"] if code else []


def start_round(search: Search, hurt: Hurt) -> subprocess.Popen[bytes]:
    """Start a search for a round; without a reader of its output if that is what hurts."""
    if hurt is not close_output:
        return search.start()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return search.start(writer)
    finally:
        os.close(writer)


def undisturbed(output: Path, variant: str) -> dict[str, pd.DataFrame]:
    """The tables of a search that nothing disturbs."""
    search = Search(output / f"calm-{variant}", COMMON + VARIANTS[variant])
    if code := search.start().wait():
        raise SystemExit(f"the undisturbed search {variant} ended with {code}")
    found = {table: values(search.folder / table) for table in TABLES}
    shutil.rmtree(search.folder)
    return found


def check(search: Search, calm: dict[str, pd.DataFrame]) -> list[str]:
    """Problems of a finished search."""
    problems = []
    trials = read_study(search.folder, read_space(search.folder)).trials
    if [trial.number for trial in trials] != list(range(2 * len(ALPHAS))):
        problems.append(f"the study has trials {[trial.number for trial in trials]}")
    if unfinished := [trial.number for trial in trials if not trial.state.is_finished()]:
        problems.append(f"unfinished in the study: {unfinished}")
    for table, expected in calm.items():
        found = values(search.folder / table)  # raises if a file is damaged
        keys = [key for key in KEYS if key in found]
        if keys and found.duplicated(keys).any():
            problems.append(f"doubled rows in {table}")
        # Which trials are stopped early depends on the order in which several report.
        if "stopping" not in search.folder.name and not found.equals(expected):
            problems.append(f"{table} differs ({len(found)} rows, {len(expected)} expected)")
    return problems


def values(table: Path) -> pd.DataFrame:
    """The rows of a table in a fixed order, without clocks."""
    rows = pd.read_parquet(table) if table.exists() else pd.DataFrame()
    if "role" in rows:
        rows = rows[rows["role"] == "trial"]  # baselines are trained by the first search only
    keys = [key for key in KEYS if key in rows]
    clocks = [name for name in rows if name in CLOCKS or str(name).endswith("_seconds")]
    if not keys:
        return rows.drop(columns=clocks)
    return rows.sort_values(keys).reset_index(drop=True).drop(columns=clocks)


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Ray's workers below a driver that train now."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                titles[int(entry.name)] = (entry / "cmdline").read_bytes()
    found, newest = [], [process.pid]
    while newest:
        newest = [child for child, parent in parents.items() if parent in newest]
        found += [child for child in newest if titles[child].startswith(b"ray::")]
    return found


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """Mount a small file system in memory at a folder; False if that is not allowed."""
    options = ["-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(folder)]
    is_mounted = (
        os.geteuid() == 0 and subprocess.run(["mount", *options], check=False).returncode == 0
    )
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


if __name__ == "__main__":
    sys.exit(main())
