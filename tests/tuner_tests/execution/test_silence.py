"""When a trial counts as silent, without Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tuner.execution.silence import SilenceWatch


class Search:
    """Trials under a clock that the test moves."""

    def __init__(self, limit: float | None, num_trials: int = 1) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.lost: list[int] = []
        self.watch = SilenceWatch(limit, self.lines.append, self._end, lambda: self.now)
        self.trials = [
            SimpleNamespace(trial_id=f"t{number}", config={"trial": number})
            for number in range(7, 7 + num_trials)
        ]
        for trial in self.trials:
            self.start(trial)

    def _end(self, trial: Any) -> None:
        self.lost.append(trial.config["trial"])

    def start(self, trial: Any) -> None:
        self.watch.on_trial_start(0, self.trials, trial)

    def report(self, trial: Any) -> None:
        self.watch.on_trial_result(0, self.trials, trial, {})

    def wait(self, seconds: float) -> None:
        """Let time pass in the steps of Tune's loop."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1)
            self.watch.on_step_end(0, self.trials)


def test_silence_is_named_once_and_again_after_a_report() -> None:
    search = Search(None, num_trials=2)
    for _ in range(6):
        search.wait(100)
        search.report(search.trials[1])
    assert search.lines == ["no report from trial 7 for 5 minutes"]
    search.report(search.trials[0])
    search.wait(5000)
    assert search.lines[1:] == [
        "no report from trial 7 for 20 minutes",  # twice the longest time so far
        "no report from trial 8 for 20 minutes",
    ]
    assert search.lost == []


def test_silence_counts_and_not_duration() -> None:
    search = Search(150.0)
    for _ in range(10):
        search.wait(149)
        search.report(search.trials[0])
    assert search.lost == []
    search.wait(150)
    assert search.lost == [7]
    assert search.watch.reason(search.trials[0]) == "no report for 2 minutes"


@pytest.mark.parametrize("end", ["complete", "error", "recover"])
def test_trial_without_a_worker_is_not_silent(end: str) -> None:
    search = Search(150.0)
    getattr(search.watch, f"on_trial_{end}")(0, search.trials, search.trials[0])
    search.wait(1000)
    assert (search.lines, search.lost) == ([], [])


def test_new_worker_has_all_the_time_again() -> None:
    search = Search(150.0)
    search.wait(150)
    search.watch.on_trial_recover(0, search.trials, search.trials[0])
    search.wait(1000)
    search.start(search.trials[0])
    search.wait(149)
    assert search.lost == [7]
    assert search.watch.reason(search.trials[0]) is None
