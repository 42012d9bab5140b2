"""The lock of the one process that works on a result folder, and its heartbeat.

The heartbeat shows the progress of a study; nothing is resumed from it. On a disk it is the file
``heartbeat.json``; in an object store it is the lock itself.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from simreg_core.cli import os_reason
from simreg_core.errors import ConfigError
from simreg_core.storage.base import Held, lock_file
from simreg_core.storage.location import storage_of, to_path

HEARTBEAT_FILE = "heartbeat.json"
LOCK_FILE = lock_file(Path(HEARTBEAT_FILE)).name


class StudyLock:
    """Locks a result folder for this process inside a ``with`` block.

    On a disk, the lock of a killed process ends with the process; in an object store, after a
    minute.

    Raises:
        ConfigError: on entering, another process holds the folder, or it cannot be written.
    """

    require_held: Callable[[], None]
    """To call before every write; raises :class:`LeaseLost` if this process did not renew the lock
    in time, and another has taken it."""

    def __init__(self, folder: str | Path) -> None:
        folder = to_path(folder)
        self.folder = folder
        self._stack = ExitStack()
        self._started_at = self._updated_at = _now()
        self._phase = "start"
        self._running: Mapping[str, Mapping[str, Mapping[str, int]]] = {}
        """By trial and seed; replaced, never modified, because another thread reads it."""

    def __enter__(self) -> Self:
        lock = storage_of(self.folder).lock(
            self.folder / HEARTBEAT_FILE, waits=False, heartbeat=self._heartbeat
        )
        try:
            self.require_held = self._stack.enter_context(lock)
        except Held as err:
            found = read_heartbeat(self.folder)
            who = f" (process {found.get('pid')} on {found.get('host')})" if found else ""
            raise ConfigError(
                f"{self.folder}: another process works on it{who}; wait for it or end it"
            ) from err
        except OSError as err:
            raise ConfigError(f"{self.folder}: cannot be written: {os_reason(err)}") from err
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def enter_phase(self, phase: str) -> None:
        """Set the phase: ``baselines``, ``trials``, ``confirmation`` or ``done``."""
        self._phase = phase
        self._show({})

    def progressed(self, trial: int, seed: int, epochs_done: int, num_epochs: int) -> None:
        """Set the progress of one of the running networks."""
        network = {str(seed): {"epochs_done": epochs_done, "epochs": num_epochs}}
        networks = {**self._running.get(str(trial), {}), **network}
        self._show({**self._running, str(trial): networks})

    def ended(self, trial: int) -> None:
        """Remove a trial from the running ones."""
        self._show({key: value for key, value in self._running.items() if key != str(trial)})

    def _show(self, running: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
        self._running = running
        self._updated_at = _now()

    def _heartbeat(self) -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._started_at,
            "updated_at": self._updated_at,
            "phase": self._phase,
            "running": self._running,
        }


def is_held(folder: str | Path) -> bool:
    """Whether a process works on the result folder now."""
    folder = to_path(folder)
    return storage_of(folder).is_held(folder / HEARTBEAT_FILE)


def read_heartbeat(folder: str | Path) -> dict[str, Any]:
    """The heartbeat of the last process that worked on the folder; empty before the first."""
    folder = to_path(folder)
    return storage_of(folder).read_heartbeat(folder / HEARTBEAT_FILE)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
