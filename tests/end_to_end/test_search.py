"""Searches as a user starts them: real processes, real Ray, real training of tiny networks.

All searches share one output folder, and with it the reference networks.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pandas as pd
import pytest
import ray
import torch
import yaml

from simreg_core.checkpoint import load_weights
from simreg_core.data import load_task
from simreg_core.records import SPLITS, TABLES
from tuner.space import SearchSpace, load_space
from tuner.store import ResultStore
from tuner.study import open_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "search_spaces" / "smoke.yaml"
# A trial of 3000 pairs takes seconds per epoch: long enough to be hit by a signal.
FAST, SLOW = 2, 3000
CLOCK_COLUMNS = {
    "study", "started_at", "finished_at", "host", "train_seconds", "evaluate_seconds", "seconds",
}  # fmt: skip


class Search(NamedTuple):
    """A finished command and the results that it left."""

    folder: Path
    code: int
    printed: str
    errors: str

    def table(self, name: str) -> pd.DataFrame:
        """A result table as an analyst reads it."""
        return pd.read_parquet(self.folder / name)

    def row(self, number: int) -> dict[str, Any]:
        """A trial's row of the trials table."""
        (row,) = [row for row in self.rows("trials") if row["trial"] == number]
        return row

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Rows of a result table as plain data."""
        return ResultStore(self.folder).read(name)

    @property
    def space(self) -> SearchSpace:
        """The space that was searched."""
        return load_space(self.folder / "space.yaml")

    @property
    def study(self) -> optuna.Study:
        """The study as another process reads it."""
        return open_study(self.folder, self.space)

    @property
    def states(self) -> list[str]:
        """States of the study's trials, by number."""
        return [trial.state.name for trial in self.study.trials]


def choices(key: str, *values: object) -> list[str]:
    """Flags that search some values of a key."""
    return _set(f"search.{key}", {"type": "categorical", "choices": list(values)})


def trials(*params: dict[str, Any]) -> list[str]:
    """Flags that run trials with these values of the searched keys, and no others."""
    return ["--num-trials", str(len(params)), *_set("tuning.warm_starts", list(params))]


def _set(key: str, value: object) -> list[str]:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return ["--set", f"{key}={text.strip()}"]


def pairs(*numbers: int) -> list[str]:
    """Flags that run trials with these numbers of pairs, one after another."""
    return [
        *choices("regularizer.batch_size", FAST, SLOW),
        *trials(*({"regularizer.batch_size": number} for number in numbers)),
        "--max-concurrent",
        "1",
    ]


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
    process = start(
        "tuner.run", "--space", str(SPACE), "--output", str(output), "--name", name, *flags
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            end(descendants(process.pid))
            process.kill()
            process.communicate()


def run(output: Path, name: str, *flags: str) -> Search:
    """A search from beginning to end."""
    with running(output, name, *flags) as process:
        return finished(process, output / name)


def finished(process: subprocess.Popen[str], folder: Path) -> Search:
    """The search once its process has ended."""
    printed, errors = process.communicate(timeout=120)
    return Search(folder, process.returncode, printed, errors)


def descendants(pid: int) -> list[int]:
    """Process ids of a process's children and their children."""
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


def end(pids: list[int]) -> None:
    """Kill what is still there of some processes."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Return once the condition holds; fail if the process ends first, or after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the search has ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_all_tables_readable(search: Search) -> None:
    for table, columns in TABLES.items():
        assert list(search.table(table).columns) == [column.name for column in columns]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="module")
def good(output: Path) -> Search:
    """Three trials, one after another."""
    return run(output, "good", "--num-trials", "3", "--seed", "7", "--max-concurrent", "1")


@pytest.fixture(scope="module")
def cluster(local_ray: None) -> list[str]:
    """Flags that run a search on a cluster that is there already."""
    return ["--address", ray.get_runtime_context().gcs_address]


def cache_of(search: Search) -> dict[str, int]:
    """Files of cached reference networks with the time of their writing."""
    files = (search.folder.parent / "references").iterdir()
    return {path.name: path.stat().st_mtime_ns for path in files if path.suffix != ".lock"}


@pytest.fixture(scope="module")
def cache_after_good(good: Search) -> dict[str, int]:
    return cache_of(good)


@pytest.fixture(scope="module")
def repeated(
    good: Search, cache_after_good: dict[str, int], cluster: list[str], output: Path
) -> Search:
    """The good search once more, under another name and on a cluster that is there already."""
    flags = ["--num-trials", "3", "--seed", "7", "--max-concurrent", "1"]
    return run(output, "again", *flags, *cluster)


# a search that succeeds


def test_good_search_succeeds(good: Search) -> None:
    assert good.code == 0, good.errors


def test_tables_have_the_columns_of_the_records(good: Search) -> None:
    assert_all_tables_readable(good)


def test_every_trial_has_one_row(good: Search) -> None:
    rows = good.table("trials")
    assert sorted(rows["trial"]) == [0, 1, 2]
    assert set(rows["status"]) == {"complete"}
    assert set(rows["study"]) == {"good"}
    assert rows["reason"].isna().all()


def test_study_has_a_complete_trial_per_row(good: Search) -> None:
    assert good.states == ["COMPLETE"] * 3


def test_study_and_table_agree_on_parameters_and_objectives(good: Search) -> None:
    assert good.study.metric_names == ["clean_accuracy", "robust_accuracy"]
    for trial in good.study.trials:
        row = good.row(trial.number)
        assert trial.values == [
            row["validation.clean_accuracy"],
            row["validation.robust_accuracy"],
        ]
        for key, value in trial.params.items():
            assert row[key] == value


def test_figures_of_both_splits_are_there(good: Search) -> None:
    rows = good.table("trials")
    for split in SPLITS:
        for name in ("clean_accuracy", "robust_accuracy", "tradeoff_score", "accuracy_cost"):
            assert rows[f"{split}.{name}"].notna().all()


def test_curves_have_every_network_on_both_splits(good: Search) -> None:
    curves = good.table("curves")
    for split in SPLITS:
        rows = curves[curves["split"] == split]
        networks = rows.drop_duplicates(["role", "trial", "seed"])
        assert sorted(networks["role"]) == ["baseline"] * 2 + ["surrogate"] + ["trial"] * 3
    baselines = curves[curves["role"] == "baseline"]
    assert set(baselines["seed"]) == {101, 102}


def test_epochs_have_every_epoch_of_every_network(good: Search) -> None:
    epochs = good.table("epochs")
    counts = epochs.groupby(["role", "seed", epochs["trial"].fillna(-1)])["epoch"].apply(sorted)
    assert len(counts) == 6
    assert all(numbers == [0, 1] for numbers in counts)


def test_weights_reproduce_the_recorded_clean_accuracy(good: Search) -> None:
    for number in range(3):
        model = load_weights(good.folder / "checkpoints" / f"{number:05d}" / "weights.pt")
        params = good.space.decode(good.study.trials[number].params)
        data = load_task(good.space.trial_config(params).task)
        for split in SPLITS:
            images, labels = data.split(split)
            with torch.no_grad():
                predicted = model(images.float() / 255).argmax(dim=1)
            accuracy = float((predicted == labels).double().mean())
            assert accuracy == good.row(number)[f"{split}.clean_accuracy"]


def test_nothing_but_results_is_left_in_the_folder(good: Search) -> None:
    names = {path.name for path in good.folder.iterdir()}
    assert names == {*TABLES, "checkpoints", "space.yaml", "study.journal"}
    checkpoints = {path.name for path in (good.folder / "checkpoints").rglob("*.pt")}
    assert checkpoints == {"weights.pt"}


def test_errors_are_only_the_lines_of_progress(good: Search) -> None:
    time_text = r"\d+:\d\d elapsed(, about \d+:\d\d left)?"
    expected = [rf"reference networks {number}/3, {time_text}" for number in (1, 2, 3)]
    expected += [
        rf"trials {number}/3, best score [+-]\d\.\d{{3}} \(trial \d\), {time_text}"
        for number in (1, 2, 3)
    ]
    lines = good.errors.splitlines()
    assert len(lines) == len(expected), good.errors
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line)


def test_output_is_the_pareto_set_and_the_place_of_the_results(good: Search) -> None:
    title, heading, *rows, empty, results, picture = good.printed.splitlines()
    assert title.startswith("Pareto set of 3 trials (validation split, one seed each)")
    assert heading.split()[:3] == ["trial", "clean_accuracy", "robust_accuracy"]
    assert [int(row.split()[0]) for row in rows] == [
        trial.number for trial in sorted(good.study.best_trials, key=lambda trial: -trial.values[0])
    ]
    assert empty == ""
    assert results == f"results: {good.folder}"
    assert picture == f"picture: python -m analysis.pareto {good.folder}"


# the same again


@pytest.mark.parametrize("table", ["trials", "curves", "epochs"])
def test_same_seed_gives_the_same_results(table: str, good: Search, repeated: Search) -> None:
    assert repeated.code == 0, repeated.errors

    def results(search: Search) -> pd.DataFrame:
        frame = search.table(table)
        return frame.drop(columns=CLOCK_COLUMNS & set(frame.columns))

    pd.testing.assert_frame_equal(results(good), results(repeated), check_exact=True)


def test_references_are_trained_once_for_all_searches_of_an_output(
    cache_after_good: dict[str, int], repeated: Search
) -> None:
    networks = {name.split("-")[0] for name in cache_after_good if name.endswith(".pt")}
    assert networks == {"baseline", "surrogate"}
    assert cache_of(repeated) == cache_after_good


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    search = run(tmp_path / "output", "dry", "--dry-run")
    assert search.code == 0
    assert search.printed.startswith("search       dry: 2 trials")
    assert search.errors == ""
    assert list(tmp_path.iterdir()) == []


# confirmation


@pytest.fixture(scope="module")
def confirmed(good: Search, cluster: list[str]) -> Search:
    """The best of the good search, with two fresh seeds."""
    arguments = [str(good.folder), "--top", "1", "--seeds", "2", "--max-concurrent", "1", *cluster]
    return finished(start("tuner.confirm", *arguments), good.folder)


def test_search_can_be_confirmed_later(confirmed: Search) -> None:
    assert confirmed.code == 0, confirmed.errors
    rows = confirmed.table("confirmation")
    assert sorted(rows["role"]) == ["baseline", "baseline", "trial", "trial"]
    assert set(rows["seed"]) == {1000, 1001}
    front = [confirmed.row(trial.number) for trial in confirmed.study.best_trials]
    best = max(front, key=lambda row: row["validation.tradeoff_score"])
    assert set(rows["trial"].dropna()) == {best["trial"]}


def test_confirmation_prints_its_table_and_plain_lines(confirmed: Search) -> None:
    assert confirmed.printed.startswith("Confirmed on test, mean ± 95 % interval over 2 fresh")
    lines = confirmed.errors.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        f"confirmation networks {number}/4" for number in (1, 2, 3, 4)
    ]


# trials that fail


@pytest.fixture(scope="module")
def mixed(good: Search, cluster: list[str], output: Path) -> Search:
    """Two models, and a trial that diverges; on a cluster that is there already."""
    return run(
        output,
        "mixed",
        *choices("model.scale", 1.0, 3.0),
        *choices("regularizer.alpha", 0.1, 1.0e30),
        *trials(
            {"model.scale": 1.0, "regularizer.alpha": 0.1},
            {"model.scale": 1.0, "regularizer.alpha": 1.0e30},
            {"model.scale": 3.0, "regularizer.alpha": 0.1},
        ),
        *cluster,
    )


def test_search_goes_on_after_a_trial_that_fails(mixed: Search) -> None:
    assert mixed.code == 0, mixed.errors
    assert mixed.states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert_all_tables_readable(mixed)


def test_failed_trial_is_recorded_with_its_reason_and_configuration(mixed: Search) -> None:
    row = mixed.row(1)
    assert row["status"] == "failed"
    assert row["reason"].startswith("NonFiniteLossError: ")
    assert row["reason"] == mixed.study.trials[1].user_attrs["reason"]
    assert row["regularizer.alpha"] == 1.0e30
    assert row["validation.clean_accuracy"] is None
    assert f"trial 1 failed: {row['reason']}" in mixed.errors.splitlines()


def test_every_model_is_compared_with_baselines_of_its_own(mixed: Search) -> None:
    rows = {number: mixed.row(number) for number in (0, 2)}
    digests = {row["baseline_digest"] for row in rows.values()}
    assert len(digests) == 2
    baselines = [row for row in mixed.rows("curves") if row["role"] == "baseline"]
    assert {row["baseline_digest"] for row in baselines} == digests
    for row in rows.values():
        clean = {
            point["seed"]: point["accuracy"]
            for point in baselines
            if point["baseline_digest"] == row["baseline_digest"]
            and (point["split"], point["epsilon"]) == ("validation", 0)
        }
        assert row["validation.baseline_clean_accuracy"] == statistics.fmean(clean.values())


def test_search_in_which_all_trials_fail_says_so(
    good: Search, cluster: list[str], output: Path
) -> None:
    search = run(
        output,
        "failing",
        *choices("regularizer.alpha", 1.0e30, 1.0e31),
        "--max-concurrent",
        "1",
        *cluster,
    )
    assert search.code == 1
    assert search.states == ["FAIL", "FAIL"]
    assert set(search.table("trials")["status"]) == {"failed"}
    assert search.errors.splitlines()[-1] == (
        f"tuner.run: all 2 trials failed; reasons in {search.folder}/trials"
    )
    assert search.printed == ""


# kills


@pytest.fixture(scope="module")
def eventful(good: Search, output: Path) -> Search:
    """The first worker is killed, the second trial is left alone, the third sees a Ctrl-C."""
    with running(output, "eventful", *pairs(SLOW, FAST, SLOW), "--num-trials", "4") as process:
        folder = output / "eventful"
        wait_until(checkpoint(folder, 0).exists, process)
        (worker,) = [pid for pid in descendants(process.pid) if _title(pid).startswith("ray::Impl")]
        os.kill(worker, signal.SIGKILL)
        wait_until(checkpoint(folder, 2).exists, process)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        return finished(process, folder)


def checkpoint(folder: Path, number: int) -> Path:
    """File of a trial that is being trained, from the end of its first epoch on."""
    return folder / "checkpoints" / f"{number:05d}" / "state.pt"


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_trial_whose_worker_is_killed_is_lost_and_the_search_goes_on(eventful: Search) -> None:
    assert eventful.row(0)["status"] == "failed"
    assert eventful.row(0)["reason"].startswith("worker lost: ")
    assert eventful.row(0)["regularizer.batch_size"] == SLOW
    assert eventful.row(1)["status"] == "complete"
    assert eventful.states[:2] == ["FAIL", "COMPLETE"]


def test_interrupted_search_closes_what_is_open(eventful: Search) -> None:
    assert eventful.row(2)["status"] == "failed"
    assert eventful.row(2)["reason"] == "interrupted"
    assert eventful.states == ["FAIL", "COMPLETE", "FAIL"]


def test_interrupted_search_says_where_its_results_are(eventful: Search) -> None:
    assert eventful.code == 130
    assert eventful.errors.splitlines()[-1] == (
        f"tuner.run: interrupted; what is finished is in {eventful.folder}"
    )
    assert "Traceback" not in eventful.errors
    assert eventful.printed.startswith("Pareto set of 3 trials")


def test_results_of_an_interrupted_search_are_readable(eventful: Search) -> None:
    assert_all_tables_readable(eventful)


def test_terminated_search_closes_what_is_open(
    good: Search, cluster: list[str], output: Path
) -> None:
    with running(output, "terminated", *pairs(FAST, SLOW), *cluster) as process:
        folder = output / "terminated"
        wait_until(checkpoint(folder, 1).exists, process)
        process.terminate()
        search = finished(process, folder)
    assert search.code == 130, search.errors
    assert search.states == ["COMPLETE", "FAIL"]
    assert search.row(1)["reason"] == "interrupted"
    assert_all_tables_readable(search)


def test_results_are_readable_after_the_search_is_killed(good: Search, output: Path) -> None:
    with running(output, "killed", *pairs(FAST, SLOW)) as process:
        folder = output / "killed"
        wait_until(checkpoint(folder, 1).exists, process)
        left = descendants(process.pid)
        process.kill()
        search = finished(process, folder)
        end(left)
    assert_all_tables_readable(search)
    assert list(search.table("trials")["trial"]) == [0]
    assert search.states == ["COMPLETE", "RUNNING"]
