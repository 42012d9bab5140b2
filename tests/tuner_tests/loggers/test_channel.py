from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tuner.loggers.channel import LogChannel, Run, Values, one_line


class Notes:
    """A backend in memory, which fails or hangs on request."""

    def __init__(self) -> None:
        self.values: dict[str, Values] = {}
        self.ended: dict[str, str] = {}
        self.num_opened = 0
        self.fails: Callable[[str, str], bool] = lambda call, name: False
        self.answers = threading.Event()
        self.answers.set()

    def call(self, call: str, name: str) -> None:
        self.answers.wait()
        if self.fails(call, name):
            raise ConnectionError("no\nanswer from http://me:secret@host")

    def __call__(self, run: Run) -> NotesWriter:
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


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def channel(notes: Notes, said: list[str]) -> LogChannel:
    return LogChannel("notes", notes, said.append, pause=0.01)


def run(name: str, num_epochs: int = 1) -> Run:
    values = {step: {"loss": 1 / step} for step in range(1, num_epochs + 1)}
    return Run(f"key-{name}", "study", 0, name, {}, values)


def finished(name: str, num_epochs: int = 1) -> Run:
    return replace(run(name, num_epochs), status="finished")


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_state_of_a_run_is_logged_until_it_ends(
    notes: Notes, channel: LogChannel, said: list[str]
) -> None:
    channel.put(run("a", 1))
    wait(lambda: notes.values.get("a") == run("a", 1).values)
    channel.put(run("a", 2))
    channel.put(finished("a", 3))
    channel.close(10)
    assert notes.values == {"a": run("a", 3).values}
    assert notes.ended == {"a": "finished"}
    assert notes.num_opened == 1
    assert said == []


def test_open_run_is_interrupted_at_the_end(notes: Notes, channel: LogChannel) -> None:
    channel.put(run("a"))
    wait(lambda: "a" in notes.values)
    channel.put(run("b"))
    channel.close(10)
    assert notes.ended == {"a": "interrupted", "b": "interrupted"}


def test_channel_without_runs_ends(channel: LogChannel, said: list[str]) -> None:
    channel.close(10)
    assert said == []


@pytest.mark.parametrize("call", ["open", "log", "close"])
def test_current_state_is_logged_after_an_outage(
    call: str, notes: Notes, channel: LogChannel, said: list[str]
) -> None:
    away = True
    notes.fails = lambda name, _: away and name == call
    channel.put(finished("a", 1))
    wait(lambda: bool(said))
    channel.put(finished("b", 1))
    channel.put(run("c", 1))
    channel.put(run("c", 2))
    away = False
    wait(lambda: notes.ended.keys() == {"a", "b"} and "c" in notes.values)
    channel.put(finished("c", 3))
    channel.close(10)
    assert notes.values["c"] == run("c", 3).values
    assert notes.ended == dict.fromkeys("abc", "finished")
    assert len(said) == 1
    assert "--log notes" in said[0]


def test_run_that_always_fails_does_not_keep_others_from_being_logged(
    notes: Notes, channel: LogChannel, said: list[str]
) -> None:
    notes.fails = lambda _, name: name == "a"
    channel.put(finished("a"))
    wait(lambda: bool(said))
    channel.put(finished("b"))
    wait(lambda: "b" in notes.ended)
    channel.close(10)
    assert len(said) == 2
    assert "1 run" in said[1]
    assert "(a)" in said[1]


def test_what_is_lost_is_said_in_one_line_at_the_end(notes: Notes, said: list[str]) -> None:
    notes.fails = lambda call, name: True
    channel = LogChannel("notes", notes, said.append, pause=60)
    channel.put(finished("a"))
    wait(lambda: bool(said))
    channel.put(finished("b"))
    started = time.monotonic()
    channel.close(30)
    assert time.monotonic() - started < 10  # the pause is cut short
    assert len(said) == 2
    assert "2 runs" in said[1]
    assert "(a, b): no answer from http://***@host" in said[1]


def test_logger_that_hangs_holds_nothing_up(
    notes: Notes, channel: LogChannel, said: list[str]
) -> None:
    notes.answers.clear()
    started = time.monotonic()
    for number in range(20):
        channel.put(finished(f"{number:02}"))
    channel.close(0.05)
    assert time.monotonic() - started < 1
    (line,) = said
    assert "20 runs" in line
    assert "(00, 01, 02, 03, 04, ...)" in line
    notes.answers.set()


def test_message_of_an_exception_is_short_and_in_one_line() -> None:
    assert one_line(ConnectionError()) == "ConnectionError"
    assert one_line(ValueError("a\n  b")) == "a b"
    assert len(one_line(ValueError("a" * 1000))) < 210
