"""Searches whose processes are killed or interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.searches import (
    Search,
    assert_all_tables_readable,
    choices,
    descendants,
    end,
    finished,
    running,
    trials,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

# A trial of 3000 pairs takes seconds per epoch: long enough to be hit by a signal.
FAST, SLOW = 2, 3000


def pairs(*numbers: int) -> list[str]:
    """Flags that run trials with these numbers of pairs, one after another."""
    return [
        *choices("regularizer.batch_size", FAST, SLOW),
        *trials(*({"regularizer.batch_size": number} for number in numbers)),
        "--max-concurrent",
        "1",
    ]


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Return once the condition holds; fail if the process ends first, or after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the search has ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
