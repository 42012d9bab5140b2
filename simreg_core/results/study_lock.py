"""The lock of the one process that works on a result folder, and its heartbeat.

The heartbeat, ``driver.json``, is for people and for programs that show how far a study is. Nothing
is resumed from it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from simreg_core.cli import os_reason
from simreg_core.errors import ConfigError
from simreg_core.storage import locks
from simreg_core.storage.atomic import write_text
from simreg_core.storage.location import is_remote
from simreg_core.storage.locks import Held, lock

DRIVER_FILE = "driver.json"
LOCK_FILE = ".driver.lock"
_MIN_SECONDS = 1.0  # between two writes that only tell of epochs
_MIN_REMOTE_SECONDS = 10.0  # the same in an object store, of ends of trials too


class StudyLock:
    """Holds a result folder for this process while its block runs.

    The operating system lets go of the lock when the process ends, however it ends; in an object
    store the lease of a process that was killed is over after a minute.

    Args:
        folder: ``OUTPUT/NAME``; exists.

    Raises:
        ConfigError: on entering, another process holds the folder, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._started_at = _now()
        self._min_seconds = _MIN_REMOTE_SECONDS if is_remote(folder) else _MIN_SECONDS
        self._written = -self._min_seconds
        self._phase = "start"
        self._running: dict[str, dict[str, dict[str, int]]] = {}
        """By trial and seed."""

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(lock(self.folder / LOCK_FILE, waits=False))
            self._write()
        except Held as err:
            raise ConfigError(f"{self.folder}: {describe_holder(self.folder)}") from err
        except OSError as err:
            raise ConfigError(f"{self.folder}: cannot be written: {os_reason(err)}") from err
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def enter_phase(self, phase: str) -> None:
        """Say what is being done: ``references``, ``trials`` or ``confirmation``."""
        self._phase = phase
        self._running = {}
        self._write()

    def progressed(self, trial: int, seed: int, epochs_done: int, num_epochs: int) -> None:
        """Say how far one of the running networks is."""
        running = self._running.setdefault(str(trial), {})
        running[str(seed)] = {"epochs_done": epochs_done, "epochs": num_epochs}
        self._write_seldom()

    def ended(self, trial: int) -> None:
        """Say that a trial is not running any more."""
        self._running.pop(str(trial), None)
        if is_remote(self.folder):
            self._write_seldom()
        else:
            self._write()

    def _write_seldom(self) -> None:
        if time.monotonic() - self._written >= self._min_seconds:
            self._write()

    def _write(self) -> None:
        said = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._started_at,
            "updated_at": _now(),
            "phase": self._phase,
            "running": self._running,
        }
        write_text(self.folder / DRIVER_FILE, json.dumps(said, indent=1))
        self._written = time.monotonic()


def describe_holder(folder: Path) -> str:
    """Who works on a folder that is held, in words."""
    said = read_heartbeat(folder)
    who = f" (process {said.get('pid')} on {said.get('host')})" if said else ""
    return f"another process works on it{who}; wait for it or end it"


def is_held(folder: Path) -> bool:
    """Whether a process works on the result folder now."""
    return locks.is_held(folder / LOCK_FILE)


def read_heartbeat(folder: Path) -> dict[str, Any]:
    """What the last process that worked on the folder said; empty if none has."""
    try:
        said = json.loads((folder / DRIVER_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
