"""Logging that cannot hold up a search: what is known of networks, and a thread per logger.

A logger may be slow, or its server away. It gets what is new of a network in a thread of its own,
after a failure all that it missed, and a last chance when the search ends.
"""

from __future__ import annotations

import functools
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

_PAUSE = 30.0  # seconds after a failure


class Entry(NamedTuple):
    """Figures of a network after some of its epochs."""

    step: int
    """Epochs done."""
    values: Mapping[str, float]
    is_final: bool
    """Whether they are those of the finished network."""


class Network:
    """One network as loggers know it.

    Args:
        key: Unlike that of any other network of any search; the same when the search is resumed.
        study: Name of the search.
        trial: Number of its trial.
        name: Unlike that of any other network of the search.
        params: Its searched parameters and its seed.
    """

    def __init__(
        self, key: str, study: str, trial: int, name: str, params: Mapping[str, Any]
    ) -> None:
        self.key = key
        self.study = study
        self.trial = trial
        self.name = name
        self.params = params
        self.entries: list[Entry] = []
        """Only ever grows, so that other threads may read it."""
        self.ended: bool = False
        self.failed: bool = False


class Logger(Protocol):
    """Where networks are logged; every call may fail, and is then made again or not."""

    def begin(self, network: Network) -> int:
        """A network is there; returns the last step of it that is logged already, or 0."""

    def log(self, network: Network, entry: Entry) -> None:
        """Figures of a network that has begun."""

    def finish(self, network: Network) -> None:
        """A network has ended."""

    def halt(self, network: Network) -> None:
        """The search ends while this network is open; a resumed one goes on with it."""

    def close(self) -> None:
        """The search ends."""


Lost = Callable[[Network, str], None]
"""Told, in the channel's thread, of a network that is not logged whole for good, and why."""


class LogChannel:
    """Brings one logger up to date, in a thread of its own.

    Args:
        name: Of the logger, for messages.
        make: Makes it, given whom it tells what it finds out too late for an exception; called in
            the thread, since it may import much or speak to a server.
        say: Prints a line.
        pause: Seconds to wait after a failure.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[Lost], Logger],
        say: Callable[[str], None],
        pause: float = _PAUSE,
    ) -> None:
        self.name = name
        self._make = make
        self._say = say
        self._pause = pause
        self._logger: Logger | None = None
        self._told: dict[Network, int] = {}
        """How many entries of an open network the logger has."""
        self._known: dict[Network, int] = {}
        """The last step of an open network that an earlier process logged."""
        self._finished: weakref.WeakSet[Network] = weakref.WeakSet()
        self._missing: dict[Network, str] = {}
        """What the logger lacks something of, and why."""
        self._lost: dict[Network, str] = {}
        """The same of what is not logged again."""
        self._waiting: dict[Network, None] = {}
        self._condition = threading.Condition()
        self._has_started = False
        self._is_closing = False
        self._has_warned = False
        # A daemon: one that hangs must not keep the process from its end.
        self._thread = threading.Thread(target=self._work, name=f"log-{name}", daemon=True)

    def changed(self, network: Network) -> None:
        """Say that there is something new of a network; returns at once."""
        with self._condition:
            self._waiting[network] = None
            if not self._has_started and not self._is_closing:
                self._has_started = True
                self._thread.start()
            self._condition.notify()

    def close(self, seconds: float) -> None:
        """End the thread, with what it can still log in so many seconds."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        if self._has_started:
            self._thread.join(seconds)
        hangs = self._thread.is_alive()
        with self._condition:
            late = [*self._waiting] if hangs else []
            missing = {
                **dict.fromkeys(late, f"no answer in {seconds:g} s"),
                **self._missing,
                **self._lost,
            }
        if hangs and not missing:
            self._say(f"--log {self.name}: not finished in {seconds:g} s")
        elif missing:
            reason = next(iter(missing.values()))
            count = "1 network is" if len(missing) == 1 else f"{len(missing)} networks are"
            self._say(f"--log {self.name}: {count} not logged whole: {reason}")

    def _work(self) -> None:
        while (network := self._next()) is not None:
            try:
                self._bring_up_to_date(network)
            except Exception as err:  # whatever a logger does, the search goes on
                self._failed(network, one_line(err))
        if self._logger is None:
            return
        calls: list[Callable[[], None]] = [
            functools.partial(self._logger.halt, network) for network in self._told
        ]
        for call in (*calls, self._logger.close):
            try:
                call()
            except Exception as err:
                if not (self._missing or self._lost):  # else more is told
                    self._say(f"--log {self.name}: {one_line(err)}")

    def _next(self) -> Network | None:
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._is_closing)
            return next(iter(self._waiting), None)

    def _bring_up_to_date(self, network: Network) -> None:
        if self._logger is None:
            self._logger = self._make(self._note_lost)
        if network in self._finished:  # its end was seen before it was told of
            with self._condition:
                self._waiting.pop(network, None)
            return
        has_ended = network.ended  # before the entries are counted: none comes after the end
        count = len(network.entries)
        if network not in self._told:
            self._known[network] = self._logger.begin(network)
            self._told[network] = 0
        for entry in network.entries[self._told[network] : count]:
            if entry.is_final or entry.step > self._known[network]:
                self._logger.log(network, entry)
            self._told[network] += 1
        if has_ended:
            self._logger.finish(network)
            del self._told[network], self._known[network]
            self._finished.add(network)
        self._missing.pop(network, None)
        with self._condition:
            if len(network.entries) == count and network.ended == has_ended:
                self._waiting.pop(network, None)

    def _failed(self, network: Network, reason: str) -> None:
        self._missing[network] = reason
        with self._condition:
            self._waiting.pop(network, None)
            if self._is_closing:
                return
            self._waiting[network] = None  # behind the others, which may do better
        self._warn(f"{reason}; the search goes on, and so do attempts to log")
        deadline = time.monotonic() + self._pause
        with self._condition:
            self._condition.wait_for(
                lambda: self._is_closing or time.monotonic() >= deadline, self._pause
            )

    def _note_lost(self, network: Network, reason: str) -> None:
        self._lost[network] = reason
        with self._condition:
            if self._is_closing:  # the end tells of it
                return
        self._warn(f"{reason}; the search goes on")

    def _warn(self, problem: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._say(f"--log {self.name}: {problem}")


_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/:]*:\S*|[^\s/]*)@")  # some passwords have a slash


def without_credentials(text: str) -> str:
    """A text with what stands before the host in its URLs left out."""
    return _CREDENTIALS.sub("***@", text)


def one_line(err: BaseException) -> str:
    """What an exception says, short, in one line and without passwords."""
    text = without_credentials(" ".join(str(err).split())) or type(err).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
