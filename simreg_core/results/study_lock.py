"""The lock of the one process that works on a result folder, and its heartbeat.

The heartbeat is for people and for programs that show how far a study is. Nothing is resumed from
it. On a disk it is the file ``heartbeat.json``; in an object store it is the lock itself.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from simreg_core.cli import os_reason
from simreg_core.errors import ConfigError
from simreg_core.storage.base import Held, lock_file
from simreg_core.storage.location import storage_of

HEARTBEAT_FILE = "heartbeat.json"
LOCK_FILE = lock_file(Path(HEARTBEAT_FILE)).name


class StudyLock:
    """Holds a result folder for this process while its block runs.

    The operating system releases the lock when the process ends, however it ends; in an object
    store, the lock of a process that was killed ends after a minute.

    Args:
        folder: ``OUTPUT/NAME``; exists.

    Raises:
        ConfigError: on entering, another process holds the folder, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._started_at = self._updated_at = _now()
        self._phase = "start"
        self._running: Mapping[str, Mapping[str, Mapping[str, int]]] = {}
        """By trial and seed; replaced and never changed, as another thread reads it."""

    def __enter__(self) -> Self:
        lock = storage_of(self.folder).lock(
            self.folder / HEARTBEAT_FILE, waits=False, heartbeat=self._heartbeat
        )
        try:
            self._require_held = self._stack.enter_context(lock)
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

    def require_held(self) -> None:
        """Check that the folder is still held; to be called before every write.

        Raises:
            LeaseLost: this process could not renew the lock in time, and another has taken it.
        """
        self._require_held()

    def enter_phase(self, phase: str) -> None:
        """Show what is being done: ``baselines``, ``trials``, ``confirmation`` or ``done``."""
        self._phase = phase
        self._show({})

    def progressed(self, trial: int, seed: int, epochs_done: int, num_epochs: int) -> None:
        """Show how far one of the running networks is."""
        network = {str(seed): {"epochs_done": epochs_done, "epochs": num_epochs}}
        networks = {**self._running.get(str(trial), {}), **network}
        self._show({**self._running, str(trial): networks})

    def ended(self, trial: int) -> None:
        """Show a trial as running no longer."""
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


def describe_holder(folder: Path) -> str:
    """Who works on a folder that is held, in words."""
    heartbeat = read_heartbeat(folder)
    who = f" (process {heartbeat.get('pid')} on {heartbeat.get('host')})" if heartbeat else ""
    return f"another process works on it{who}; wait for it or end it"


def is_held(folder: Path) -> bool:
    """Whether a process works on the result folder now."""
    return storage_of(folder).is_held(folder / HEARTBEAT_FILE)


def read_heartbeat(folder: Path) -> dict[str, Any]:
    """The last heartbeat of the last process that worked on the folder; empty if there is none."""
    return storage_of(folder).read_heartbeat(folder / HEARTBEAT_FILE)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
