from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tuner.log_channel import Entry, LogChannel, Lost, Network, one_line
from tuner.log_forwarder import note_report, readable

PROMPT = 0.2  # seconds; what a call that waits for nothing stays far below


class Notes:
    """A logger that remembers its calls, and fails or hangs as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails: Callable[[str], bool] = lambda call: False
        self.known = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def _note(self, *call: Any) -> None:
        self.may_go_on.wait()
        if self.fails(call[0]):
            raise ConnectionError("no\nanswer")
        self.calls.append(call)

    def begin(self, network: Network) -> int:
        self._note("begin", network.name)
        return self.known

    def log(self, network: Network, entry: Entry) -> None:
        self._note("log", network.name, entry.step)

    def finish(self, network: Network) -> None:
        self._note("finish", network.name)

    def halt(self, network: Network) -> None:
        self._note("halt", network.name)

    def close(self) -> None:
        self._note("close")


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def channel(notes: Notes, said: list[str]) -> Callable[..., Any]:
    """A channel to the notes, closed at the end of its block."""

    @contextmanager
    def make(pause: float = 0.01, patience: float = 10) -> Iterator[LogChannel]:
        made = LogChannel("notes", lambda lost: notes, said.append, pause)
        yield made
        made.close(patience)

    return make


def network(name: str = "a", *steps: int) -> Network:
    made = Network(f"key-{name}", "study", 0, name, {})
    made.entries += [Entry(step, {}, is_final=False) for step in steps]
    return made


def ended(made: Network) -> Network:
    made.entries.append(Entry(made.entries[-1].step, {"x": 1.0}, is_final=True))
    made.ended = True
    return made


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_logger_is_told_everything_in_order(
    notes: Notes, channel: Callable[..., Any], said: list[str]
) -> None:
    first = network("a", 1)
    with channel() as made:
        made.changed(first)
        first.entries.append(Entry(2, {}, is_final=False))
        made.changed(first)
        made.changed(ended(first))
    told = [("begin", "a"), ("log", "a", 1), ("log", "a", 2), ("log", "a", 2), ("finish", "a")]
    assert notes.calls == [*told, ("close",)]
    assert said == []


def test_what_an_earlier_process_logged_is_left_out(
    notes: Notes, channel: Callable[..., Any]
) -> None:
    notes.known = 2
    with channel() as made:
        made.changed(ended(network("a", 1, 2, 3)))
    assert [call[2] for call in notes.calls if call[0] == "log"] == [3, 3]


def test_final_figures_are_logged_though_their_step_is_known(
    notes: Notes, channel: Callable[..., Any]
) -> None:
    notes.known = 3
    with channel() as made:
        made.changed(ended(network("a", 1, 2, 3)))
    assert [call[2] for call in notes.calls if call[0] == "log"] == [3]


def test_open_network_is_halted_at_the_end(notes: Notes, channel: Callable[..., Any]) -> None:
    with channel() as made:
        made.changed(network("a", 1))
    assert notes.calls[-2:] == [("halt", "a"), ("close",)]


@pytest.mark.parametrize("call", ["begin", "log", "finish"])
def test_failure_is_made_up_for(
    call: str, notes: Notes, channel: Callable[..., Any], said: list[str]
) -> None:
    failures = iter([True, True])
    notes.fails = lambda name: name == call and next(failures, False)
    with channel() as made:
        made.changed(ended(network("a", 1, 2)))
        made.changed(ended(network("b", 1)))
        wait(lambda: {("finish", "a"), ("finish", "b")} <= {*notes.calls})
    assert [c[2] for c in notes.calls if c[:2] == ("log", "a")] == [1, 2, 2]
    (line,) = said
    assert line == "--log notes: no answer; the search goes on, and so do attempts to log"


def test_logger_that_is_never_there_is_told_of_at_the_end(
    notes: Notes, channel: Callable[..., Any], said: list[str]
) -> None:
    notes.fails = lambda name: True
    with channel(pause=60) as made:
        made.changed(ended(network("a", 1)))
        wait(lambda: bool(said))
        started = time.monotonic()
        made.changed(ended(network("b", 1)))
    assert time.monotonic() - started < 10  # the pause is cut short
    assert said[1:] == ["--log notes: 2 networks are not logged whole: no answer"]


def test_logger_that_hangs_holds_nothing_up(
    notes: Notes, channel: Callable[..., Any], said: list[str]
) -> None:
    notes.may_go_on.clear()
    started = time.monotonic()
    with channel(patience=0.05) as made:
        for number in range(20):
            made.changed(ended(network(str(number), 1)))
        assert time.monotonic() - started < PROMPT
    assert said == ["--log notes: 20 networks are not logged whole: no answer in 0.05 s"]
    notes.may_go_on.set()


def test_network_whose_end_is_told_late_is_not_logged_twice(
    notes: Notes, channel: Callable[..., Any]
) -> None:
    first = ended(network("a", 1))
    with channel() as made:
        made.changed(first)
        wait(lambda: ("finish", "a") in notes.calls)
        made.changed(first)
    assert notes.calls.count(("begin", "a")) == 1


class Loses(Notes):
    """A logger that finds out that a network is lost when it is told of its end, or at its own."""

    def __init__(self, lost: Lost, at: str) -> None:
        super().__init__()
        self._lost = lost
        self._at = at
        self._networks: list[Network] = []

    def finish(self, network: Network) -> None:
        super().finish(network)
        self._networks.append(network)
        if self._at == "finish":
            self._lost(network, "wrong key")

    def close(self) -> None:
        if self._at == "close":
            for each in self._networks:
                self._lost(each, "no answer")


def test_lost_networks_are_told_of_once_and_counted_at_the_end(said: list[str]) -> None:
    made = LogChannel("notes", lambda lost: Loses(lost, "finish"), said.append)
    made.changed(ended(network("a", 1)))
    made.changed(ended(network("b", 1)))
    wait(lambda: bool(said))
    made.close(10)
    assert said == [
        "--log notes: wrong key; the search goes on",
        "--log notes: 2 networks are not logged whole: wrong key",
    ]


def test_networks_that_the_end_finds_lost_are_told_of_in_one_line(said: list[str]) -> None:
    made = LogChannel("notes", lambda lost: Loses(lost, "close"), said.append)
    made.changed(ended(network("a", 1)))
    made.changed(ended(network("b", 1)))
    made.close(10)
    assert said == ["--log notes: 2 networks are not logged whole: no answer"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("to http://me:secret@host:1/api?a=b@c no", "to http://***@c no"),
        (
            "http://me:secret@host:1/api: http://secret@host",
            "http://***@host:1/api: http://***@host",
        ),
        ("mysql+pymysql://:se/cr@et@host/db", "mysql+pymysql://***@host/db"),
        ("http://host:1/api and me@host", "http://host:1/api and me@host"),
        ("sqlite:////home/me@corp/runs.db", "sqlite:////home/me@corp/runs.db"),
    ],
)
def test_passwords_of_addresses_are_not_shown(said: str, shown: str) -> None:
    assert one_line(ConnectionError(said)) == shown


def test_channel_that_nothing_was_told_ends(channel: Callable[..., Any], said: list[str]) -> None:
    with channel():
        pass
    assert said == []


# what is logged of a report


def row(epoch: int, **values: Any) -> dict[str, Any]:
    identity = {"role": "trial", "trial": 0, "baseline_digest": None, "seed": 3}
    return {**identity, "epoch": epoch, "task_loss": 1.0 / (epoch + 1), **values}


def report(epochs_done: int, record: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"epochs_done": epochs_done, "record": json.dumps(record), "pid": 7, **values}


def test_numbers_of_every_epoch_are_logged_once() -> None:
    made = network()
    rows = [row(0, gamma=[0.25, 0.75], similarity_loss=None), row(1)]
    note_report(made, {}, report(1, {"epochs": rows[:1]}))
    note_report(made, {}, report(2, {"epochs": rows}))
    assert made.entries == [
        Entry(1, {"task_loss": 1.0, "gamma.0": 0.25, "gamma.1": 0.75}, is_final=False),
        Entry(2, {"task_loss": 0.5}, is_final=False),
    ]


def test_epochs_before_a_resumption_are_logged() -> None:
    made = network()
    note_report(made, {}, report(3, {"epochs": [row(0), row(1), row(2)]}))
    assert [entry.step for entry in made.entries] == [1, 2, 3]


def test_figures_of_the_finished_network_are_logged_once() -> None:
    made = network()
    columns = {"validation.clean_accuracy": 0.9, "test.clean_accuracy": 0.8, "host": "h",
               "test.tradeoff_ratio": None, "train_seconds": 2.0}  # fmt: skip
    last = report(2, {"epochs": [row(0), row(1)], "columns": columns, "curves": [{"n": 1}]})
    note_report(made, {}, last)
    note_report(made, {}, last)
    final = {"validation.clean_accuracy": 0.9, "test.clean_accuracy": 0.8}
    assert made.entries[2:] == [Entry(2, final, is_final=True)]


def test_metrics_of_an_epochs_network_go_with_its_epoch() -> None:
    made, measured = network(), {}  # type: Network, dict[int, dict[str, float]]
    note_report(made, measured, report(1, {}, clean_accuracy=0.5))  # said again by a new worker
    note_report(made, measured, report(2, {"epochs": [row(0), row(1)]}, clean_accuracy=0.6))
    assert [entry.values["epoch.clean_accuracy"] for entry in made.entries] == [0.5, 0.6]


def test_network_that_fails_has_no_figures() -> None:
    made = network()
    note_report(made, {}, report(0, {}, failure="out of luck"))
    assert made.entries == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, 0.5), (True, True), ("task", "task"), (None, "null"), ([1, 2], "[1, 2]")],
)
def test_parameter_is_a_number_or_text(value: Any, text: Any) -> None:
    assert readable(value) == text
