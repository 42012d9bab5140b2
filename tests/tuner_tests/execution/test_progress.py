from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from simreg_core.results.objectives import BestTrial
from tuner.execution.progress import SearchView

BEST = BestTrial(
    0, "tradeoff_score", 0.0625, is_feasible=True, title="tradeoff score", is_signed=True
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time that the view reads, in seconds since it was made."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def set_time(seconds: float) -> None:
        now[0] = seconds

    return set_time


@pytest.fixture
def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=60)


@pytest.fixture
def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def wait_for_text(console: Console, text: str) -> None:
    """Wait for the thread that draws."""
    deadline = time.monotonic() + 300
    while text not in printed(console) and time.monotonic() < deadline:
        time.sleep(0.02)


def test_finished_item_is_a_plain_line_where_there_is_no_terminal(
    plain: Console, clock: Callable[[float], None]
) -> None:
    with SearchView(plain, "trial", 4) as view:
        view.started(0)
        view.started(1)
        assert printed(plain) == ""
        clock(20)
        view.best = BEST
        view.finished(0)
        view.finished(1)
    assert printed(plain) == (
        "trials 1/4, 1 running, best measured tradeoff score +0.062 (trial 0), 0:20 elapsed\n"
        "trials 2/4, best measured tradeoff score +0.062 (trial 0), 0:20 elapsed, about 0:20 left\n"
    )


def test_failed_item_is_counted_and_its_reason_printed_in_one_line(
    plain: Console, clock: Callable[[float], None]
) -> None:
    reason = "NonFiniteLossError: [red]loss[/red] is " + "very " * 30 + "large"
    with SearchView(plain, "trial", 1) as view:
        view.started(7)
        view.finished(7, "failed", reason)
    assert printed(plain) == f"trial 7 failed: {reason}\ntrials 1/1, 1 failed, 0:00 elapsed\n"


def test_remaining_time_is_in_proportion_to_what_is_done(
    plain: Console, clock: Callable[[float], None]
) -> None:
    view = SearchView(plain, "baseline network", 10)
    clock(30)
    for number in range(4):
        view.finished(number, "pruned", "stopped after 1 epochs")
    assert view.line() == "baseline networks 4/10, 0:30 elapsed, about 0:45 left"
    assert view.num_failed == 0


def test_terminal_shows_one_line_that_is_redrawn(terminal: Console) -> None:
    with SearchView(terminal, "trial", 2) as view:
        for number in range(2):
            view.started(number)
            view.best = BEST
            view.finished(number)
            wait_for_text(terminal, f"trials {number + 1}/2")
    text = printed(terminal)
    assert "trials 1/2, best measured tradeoff score +0.062 (trial 0)" in text
    assert "trials 2/2, best measured tradeoff score +0.062 (trial 0)" in text
    assert text.count("\n") <= 1
    assert "\x1b[2K" in text  # the line is erased before it is drawn again


def test_terminal_keeps_the_one_line_a_failure_above_the_line(terminal: Console) -> None:
    with SearchView(terminal, "trial", 2) as view:
        view.finished(0, "failed", "RuntimeError: no")
    text = printed(terminal)
    assert text.index("trial 0 failed: RuntimeError: no") < text.rindex("trials 1/2, 1 failed")
