"""Running searches as a user does, and reading what they left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pandas as pd
import yaml

from simreg_core.results.schema import TABLES, optional_column
from simreg_core.results.tables import ResultStore
from tuner.space.loading import load_space
from tuner.space.search_space import SearchSpace
from tuner.study.study import read_study

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "search_spaces" / "smoke.yaml"
CLOCK_COLUMNS = {
    "study", "started_at", "finished_at", "host", "train_seconds", "evaluate_seconds", "seconds",
}  # fmt: skip


class Search(NamedTuple):
    folder: Path
    code: int
    printed: str
    errors: str

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / name)

    def row(self, number: int) -> dict[str, Any]:
        (row,) = [row for row in self.rows("trials") if row["trial"] == number]
        return row

    def rows(self, name: str) -> list[dict[str, Any]]:
        return ResultStore(self.folder).read(name)

    @property
    def space(self) -> SearchSpace:
        return load_space(self.folder / "space.yaml")

    @property
    def study(self) -> optuna.Study:
        return read_study(self.folder, self.space)

    @property
    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.trials]


def choices(key: str, *values: object) -> list[str]:
    return _set(f"search.{key}", {"type": "categorical", "choices": list(values)})


def trials(*params: dict[str, Any]) -> list[str]:
    """Flags that run trials with these values of the searched keys, and no others."""
    return ["--num-trials", str(len(params)), *_set("tuning.warm_starts", list(params))]


def _set(key: str, value: object) -> list[str]:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return ["--set", f"{key}={text.strip()}"]


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    """``python -m module`` in a process group of its own, as a shell would start it."""
    # A job in the background ignores Ctrl-C, and so would its children: a handler does not pass on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments, "--gpus-per-trial", "0"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def running(output: Path, name: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A search in the background, ended with all of its processes if it is still there."""
    named = ["--space", str(SPACE), "--output", str(output), "--name", name]
    every_epoch = ["--set", "training.checkpoint_seconds=0"]
    process = start("tuner.run", *named, *every_epoch, *flags)
    try:
        yield process
    finally:
        if process.poll() is None:
            kill(process)


def run(output: Path, name: str, *flags: str) -> Search:
    with running(output, name, *flags) as process:
        return finished(process, output / name)


def finished(process: subprocess.Popen[str], folder: Path) -> Search:
    printed, errors = process.communicate(timeout=800)
    return Search(folder, process.returncode, printed, errors)


def descendants(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if entry.name.isdigit():
            parents[int(entry.name)] = int(fields[1])
    found, newest = [], [pid]
    while newest:
        newest = [child for child, parent in parents.items() if parent in newest]
        found += newest
    return found


# A trial of 3000 pairs takes seconds per epoch: long enough to be hit by a signal.
FAST, SLOW = 2, 3000


def pairs(*numbers: int) -> list[str]:
    """Flags that run trials with these numbers of pairs, one after another."""
    key = "regularizer.batch_size"
    starts = trials(*({key: number} for number in numbers))
    every_epoch = ("--set", "training.checkpoint_seconds=0")
    return [*choices(key, FAST, SLOW), *starts, *every_epoch, "--max-concurrent", "1"]


def checkpoint(folder: Path, number: int) -> Path:
    """File of a trial that is being trained, from the end of its first epoch on."""
    return folder / "checkpoints" / f"{number:05d}" / "state.pt"


def resume(folder: Path, *flags: str) -> Search:
    return finished(start("tuner.run", "--resume", str(folder), *flags), folder)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Return once the condition holds; fail if the process ends first, or after minutes."""
    deadline = time.monotonic() + 800
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a driver and then what it started."""
    children = descendants(process.pid)
    end([process.pid])
    process.communicate()
    end(children)


def end(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def assert_all_tables_readable(search: Search) -> None:
    for table, columns in TABLES.items():
        names = list(search.table(table).columns)
        assert names[: len(columns)] == [column.name for column in columns]
        assert all(optional_column(name) for name in names[len(columns) :])
