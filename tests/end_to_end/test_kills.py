"""Searches whose processes are killed or interrupted, and that go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from simreg_core.results.progress import StudyProgress, study_progress
from tests.end_to_end.searches import (
    CLOCK_COLUMNS,
    FAST,
    SLOW,
    Search,
    assert_all_tables_readable,
    checkpoint,
    descendants,
    finished,
    pairs,
    resume,
    run,
    running,
    start,
    wait_until,
)
from tuner.execution.worker import OPEN_FILES

pytestmark = [pytest.mark.slow]


def signal_worker(process: subprocess.Popen[str], number: signal.Signals) -> None:
    os.kill(worker_of(process), number)


def worker_of(process: subprocess.Popen[str]) -> int:
    (worker,) = [pid for pid in descendants(process.pid) if _title(pid).startswith("ray::Impl")]
    return worker


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def figures(search: Search, table: str, num_trials: int) -> pd.DataFrame:
    """What a table says of the first trials, clocks and places apart."""
    rows = search.table(table)
    rows = rows[rows["trial"] < num_trials]
    keys = [key for key in ("trial", "split", "attack", "epsilon", "epoch") if key in rows]
    rows = rows.sort_values(keys).reset_index(drop=True)
    return rows.drop(columns=CLOCK_COLUMNS & set(rows.columns))


@pytest.fixture(scope="module")
def calm(good: Search, cluster: list[str], output: Path) -> Search:
    return run(output, "calm", *pairs(SLOW, FAST, SLOW), *cluster)


class Story:
    """What was seen of a search that is hit again and again."""

    interrupted: Search
    second: Search
    status_running: StudyProgress
    resumed: Search


@pytest.fixture(scope="module")
def story(good: Search, cluster: list[str], output: Path) -> Story:
    """A worker dies, then Ctrl-C, then the driver dies, then the search goes on to its end."""
    story, folder = Story(), output / "eventful"
    with running(output, "eventful", *pairs(SLOW, FAST, SLOW)) as process:
        wait_until(checkpoint(folder, 0).exists, process)
        signal_worker(process, signal.SIGSTOP)  # nothing happens while others look
        story.second = resume(folder)
        story.status_running = study_progress(folder)
        signal_worker(process, signal.SIGKILL)
        wait_until(checkpoint(folder, 2).exists, process)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        story.interrupted = finished(process, folder)
    flags = ["--max-concurrent", "1", *cluster]
    process = start("tuner.run", "--resume", str(folder), *flags)
    try:
        heartbeat = folder / "heartbeat.json"
        wait_until(lambda: json.loads(heartbeat.read_text())["phase"] == "trials", process)
    finally:
        process.kill()
        process.communicate()
    story.resumed = resume(folder, "--num-trials", "4", *flags)
    return story


def test_trial_whose_worker_is_killed_starts_again(story: Story) -> None:
    lines = story.interrupted.errors.splitlines()
    assert any(line.startswith("trial 0 starts again (1 of 3): worker lost: ") for line in lines)
    assert story.resumed.row(0)["status"] == "complete"


def test_second_driver_of_a_folder_is_refused(story: Story) -> None:
    assert story.second.code == 2
    (line,) = story.second.errors.splitlines()
    assert "another process works on it" in line


def test_status_tells_a_running_search_from_a_stopped_one(story: Story) -> None:
    assert story.status_running.state == "running"
    assert story.status_running.phase == "trials"
    after = study_progress(story.resumed.folder)
    assert after.state == "finished"
    assert after.trials == {"complete": 4}


def test_interrupted_search_says_how_to_resume(story: Story) -> None:
    search = story.interrupted
    assert search.code == 130
    assert search.errors.splitlines()[-1].endswith(f"tuner.run --resume {search.folder}")
    assert "Traceback" not in search.errors
    assert search.printed.startswith("Pareto front of 2 trials")


def test_search_goes_on_to_its_end_and_to_more_trials(story: Story) -> None:
    assert story.resumed.code == 0, story.resumed.errors
    assert story.resumed.states == ["COMPLETE"] * 4
    assert_all_tables_readable(story.resumed)
    assert story.resumed.space.tuning.num_trials == 4
    files = {path.name for path in (story.resumed.folder / "checkpoints").rglob("*.*")}
    assert files == {"weights.pt"}


@pytest.mark.parametrize("table", ["trials", "curves", "epochs"])
def test_what_was_disturbed_has_the_figures_of_what_was_not(
    table: str, story: Story, calm: Search
) -> None:
    assert calm.code == 0, calm.errors
    pd.testing.assert_frame_equal(
        figures(story.resumed, table, 3), figures(calm, table, 3), check_exact=True
    )


@pytest.mark.long
def test_worker_that_is_lost_too_often_fails_its_trial_and_the_search_goes_on(
    good: Search, output: Path
) -> None:
    with running(output, "lost", *pairs(SLOW, FAST), "--set", "tuning.retries=0") as process:
        folder = output / "lost"
        wait_until(checkpoint(folder, 0).exists, process)
        signal_worker(process, signal.SIGKILL)
        search = finished(process, folder)
    assert search.states == ["FAIL", "COMPLETE"]
    assert search.row(0)["reason"].startswith("worker lost: ")
    assert search.row(0)["regularizer.batch_size"] == SLOW
    assert not checkpoint(folder, 0).exists()


@pytest.mark.long
def test_trial_whose_worker_is_stopped_starts_again(good: Search, output: Path) -> None:
    flags = (*pairs(SLOW, FAST), "--set", "tuning.stall_timeout=40")
    with running(output, "stopped", *flags) as process:
        folder = output / "stopped"
        wait_until(checkpoint(folder, 0).exists, process)
        worker = worker_of(process)
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: not _title(worker), process)
        search = finished(process, folder)
    assert search.code == 0, search.errors
    assert search.states == ["COMPLETE"] * 2
    assert "trial 0 starts again (1 of 3): no report for 40 seconds" in search.errors.splitlines()


@pytest.mark.long
def test_terminated_search_leaves_its_trial_to_be_gone_on_with(
    good: Search, cluster: list[str], output: Path
) -> None:
    with running(output, "terminated", *pairs(FAST, SLOW), *cluster) as process:
        folder = output / "terminated"
        wait_until(checkpoint(folder, 1).exists, process)
        process.terminate()
        search = finished(process, folder)
    assert search.code == 130, search.errors
    assert search.states == ["COMPLETE", "RUNNING"]
    assert list(search.table("trials")["trial"]) == [0]
    assert_all_tables_readable(search)


def test_files_that_a_kill_after_a_trials_row_left_are_removed_by_the_next_start(
    good: Search, cluster: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "good"
    shutil.copytree(good.folder, folder)
    for name in OPEN_FILES:
        (folder / "checkpoints" / "00001" / name).write_text("left")
    assert resume(folder, *cluster).code == 0
    assert [path.name for path in (folder / "checkpoints" / "00001").iterdir()] == ["weights.pt"]
