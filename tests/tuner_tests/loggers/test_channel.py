from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tuner.loggers.channel import LogChannel, Run, Values, short_reason


class Notes(LogChannel):
    """A channel whose backend is in memory, and fails or hangs on request."""

    def __init__(self, pause: float = 0.01) -> None:
        self.values: dict[str, Values] = {}
        self.ended: dict[str, str] = {}
        self.warnings: list[str] = []
        self.num_opened = 0
        self.fails: Callable[[str, str], bool] = lambda call, name: False
        self.answers = threading.Event()
        self.answers.set()
        super().__init__("notes", self.open, self.warnings.append, pause=pause)

    def call(self, call: str, name: str) -> None:
        self.answers.wait()
        if self.fails(call, name):
            raise ConnectionError("no\nanswer from http://me:secret@host")

    def open(self, run: Run) -> NotesWriter:
        self.call("open", run.name)
        self.num_opened += 1
        return NotesWriter(self, run.name)


class NotesWriter:
    def __init__(self, notes: Notes, name: str) -> None:
        self.notes = notes
        self.name = name

    def log(self, values: Values) -> None:
        self.notes.call("log", self.name)
        self.notes.values[self.name] = values

    def close(self, run: Run) -> None:
        self.notes.call("close", self.name)
        self.notes.ended[self.name] = run.status


@pytest.fixture
def notes() -> Notes:
    return Notes()


def run(name: str, num_epochs: int = 1) -> Run:
    values = {step: {"loss": 1 / step} for step in range(1, num_epochs + 1)}
    return Run(f"key-{name}", "study", 0, name, {}, values)


def finished(name: str, num_epochs: int = 1) -> Run:
    return replace(run(name, num_epochs), status="finished")


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_state_of_a_run_is_logged_until_it_ends(notes: Notes) -> None:
    notes.put(run("a", 1))
    wait(lambda: notes.values.get("a") == run("a", 1).values)
    notes.put(run("a", 2))
    notes.put(finished("a", 3))
    notes.close(10)
    assert notes.values == {"a": run("a", 3).values}
    assert notes.ended == {"a": "finished"}
    assert notes.num_opened == 1
    assert notes.warnings == []


def test_open_run_is_interrupted_at_the_end(notes: Notes) -> None:
    notes.put(run("a"))
    wait(lambda: "a" in notes.values)
    notes.put(run("b"))
    notes.close(10)
    assert notes.ended == {"a": "interrupted", "b": "interrupted"}


@pytest.mark.parametrize("call", ["open", "log", "close"])
def test_current_state_is_logged_after_an_outage(call: str, notes: Notes) -> None:
    away = True
    notes.fails = lambda name, _: away and name == call
    notes.put(finished("a", 1))
    wait(lambda: bool(notes.warnings))
    for state in (finished("b", 1), run("c", 1), run("c", 2)):
        notes.put(state)
    away = False
    wait(lambda: notes.ended.keys() == {"a", "b"} and "c" in notes.values)
    notes.put(finished("c", 3))
    notes.close(10)
    assert notes.values["c"] == run("c", 3).values
    assert notes.ended == dict.fromkeys("abc", "finished")
    (warning,) = notes.warnings
    assert "--log notes" in warning


def test_run_that_always_fails_does_not_block_others(notes: Notes) -> None:
    notes.fails = lambda _, name: name == "a"
    notes.put(finished("a"))
    wait(lambda: bool(notes.warnings))
    notes.put(finished("b"))
    wait(lambda: "b" in notes.ended)
    notes.close(10)
    assert len(notes.warnings) == 2
    assert "1 run" in notes.warnings[1]
    assert "(a)" in notes.warnings[1]


def test_lost_runs_are_named_in_short_reason_at_the_end() -> None:
    notes = Notes(pause=3600)
    notes.fails = lambda call, name: True
    notes.put(finished("a"))
    wait(lambda: bool(notes.warnings))
    notes.put(finished("b"))
    started = time.monotonic()
    notes.close(30)
    assert time.monotonic() - started < 600  # the pause is cut short
    assert len(notes.warnings) == 2
    assert "2 runs" in notes.warnings[1]
    assert "(a, b): no answer from http://***@host" in notes.warnings[1]


def test_logger_that_hangs_delays_nothing(notes: Notes) -> None:
    notes.answers.clear()
    started = time.monotonic()
    for number in range(20):
        notes.put(finished(f"{number:02}"))
    notes.close(0.05)
    assert time.monotonic() - started < 300
    (line,) = notes.warnings
    assert "20 runs" in line
    assert "(00, 01, 02, 03, 04, ...)" in line
    notes.answers.set()


def test_message_of_an_exception_is_short_and_in_short_reason() -> None:
    assert short_reason(ConnectionError()) == "connection error"
    assert short_reason(ValueError("a\n  b")) == "a b"
    assert len(short_reason(ValueError("a" * 1000))) < 210
