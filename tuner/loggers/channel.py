"""A background thread per logger, so that a slow or failing logger never delays the search.

The search passes on the current state of a run whenever it changes. The thread opens, writes and
closes runs. After a failure it pauses, opens the run again and logs its current state. A writer
skips what is already logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from simreg_core.errors import counted, one_line
from tuner.loggers.targets import without_credentials

_LONGEST_PAUSE = 600.0  # seconds
Status = Literal["running", "finished", "failed", "interrupted"]
Values = Mapping[int, Mapping[str, float]]
"""Values by number of epochs done, then by name."""


@dataclass(frozen=True)
class Run:
    """The current state of one seed run."""

    key: str
    """Unique among all searches; the same after a resume."""
    study: str
    trial: int
    name: str
    """Unique within the search."""
    params: Mapping[str, bool | int | float | str]
    """Searched parameters and the seed."""
    values: Values = field(default_factory=dict)
    status: Status = "running"
    """``interrupted`` if the search ends before the run."""


class Writer(Protocol):
    """An open run of a logger; any call may raise any exception."""

    def log(self, values: Values) -> None:
        """Log the values that are not logged yet."""

    def close(self, run: Run) -> None:
        """Mark the run as ended, with its status."""


Backend = Callable[[Run], Writer]
"""Creates a run, or continues the run with the same key."""


class LogChannel:
    """Keeps one logger up to date from its own thread.

    After a failure it waits ``pause`` seconds, which double with each further failure. Only the
    thread calls ``backend``; ``say`` prints a line.
    """

    def __init__(
        self, name: str, backend: Backend, say: Callable[[str], None], pause: float = 30.0
    ) -> None:
        self._name = name
        self._backend = backend
        self._say = say
        self._pause = pause
        self._pending: dict[str, Run] = {}  # runs with something to log, by name
        self._open: dict[str, tuple[Run, Writer]] = {}
        self._reasons: dict[str, str] = {}  # first failure of each pending run, by name
        self._has_warned = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        # A daemon, because a logger that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=f"log-{name}", daemon=True)
        self._thread.start()

    def put(self, run: Run) -> None:
        """Pass on the current state of a run without waiting."""
        with self._lock:
            self._pending[run.name] = run
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to log the rest and end, without waiting."""
        self._closing.set()
        self._wake.set()

    def close(self, seconds: float) -> None:
        """Stop, wait at most ``seconds`` for the thread, and print a line if values are lost."""
        self.stop()
        self._thread.join(seconds)
        lost = sorted({*self._pending, *(self._open if self._thread.is_alive() else ())})
        if lost:
            reasons = (self._reasons[name] for name in lost if name in self._reasons)
            reason = next(reasons, "no answer before the end of the search")
            names = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
            runs = counted(len(lost), "run")
            self._say(f"--log {self._name}: {runs} not fully logged ({names}): {reason}")

    def _work(self) -> None:
        pause = self._pause
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            if self._log_pending():
                pause = self._pause
            else:
                self._closing.wait(pause)
                self._wake.set()
                pause = min(2 * pause, _LONGEST_PAUSE)
        latest = {**{name: run for name, (run, _) in self._open.items()}, **self._pending}
        for run in latest.values():
            if run.status == "running":
                self.put(replace(run, status="interrupted"))
        self._log_pending()

    def _log_pending(self) -> bool:
        """Log every pending run. Stops at the first failure unless the search ends."""
        for name in [*self._pending]:
            run = self._pending[name]
            try:
                self._log(run)
            except Exception as err:  # loggers raise anything, and the search must continue
                self._failed(name, short_reason(err))
                if not self._closing.is_set():
                    return False
                continue
            with self._lock:
                self._reasons.pop(name, None)
                if self._pending[name] is run:
                    del self._pending[name]
        return True

    def _log(self, run: Run) -> None:
        writer = self._open.pop(run.name, (run, None))[1] or self._backend(run)
        writer.log(run.values)
        if run.status == "running":
            self._open[run.name] = run, writer
        else:
            writer.close(run)

    def _failed(self, name: str, reason: str) -> None:
        with self._lock:  # move the run behind the others, which may succeed
            self._pending[name] = self._pending.pop(name)
            self._reasons.setdefault(name, reason)
        if not self._has_warned and not self._closing.is_set():
            self._has_warned = True
            self._say(f"--log {self._name}: {reason}; the search continues and logging is retried")


def short_reason(err: BaseException) -> str:
    """The message of an exception in one short line without passwords."""
    text = without_credentials(one_line(err))
    return text if len(text) <= 200 else f"{text[:200]}..."
