"""The progress of a study, from the files in its folder."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from simreg_core.cli import os_reason
from simreg_core.errors import ConfigError
from simreg_core.results.delivered import best_of, delivered_in
from simreg_core.results.objectives import BestTrial
from simreg_core.results.request import StudyRequest, read_request
from simreg_core.results.study_lock import LOCK_FILE, is_held, read_heartbeat
from simreg_core.results.tables import read_table
from simreg_core.storage.location import to_path

_HOLDER = ("host", "pid", "started_at", "updated_at")

State = Literal["running", "stopped", "finished", "unknown"]
Found = TypeVar("Found")

_probe = threading.Lock()  # one thread at a time: probing takes the study lock for a moment


@dataclass(frozen=True)
class StudyProgress:
    """The progress of a study; values that cannot be read keep their defaults."""

    name: str
    """The name in the space file, or else of the folder."""
    state: State = "unknown"
    """``unknown``: the lock, the space file or the table of trials cannot be read."""
    phase: str | None = None
    """See :meth:`StudyLock.enter_phase`; None if the study is not running."""
    num_trials: int | None = None
    """Trials requested; None if the space file cannot be read."""
    trials: Mapping[str, int] | None = None
    """Number of trials that have ended, by status; None if the table cannot be read."""
    best: BestTrial | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    """Number of failed trials by reason."""
    confirmation: Mapping[str, int] = field(default_factory=dict)
    """Number of confirmation networks by status."""
    running: Mapping[str, Any] = field(default_factory=dict)
    """``epochs_done`` and ``epochs`` of every network in training, by trial and seed."""
    heartbeat: Mapping[str, Any] = field(default_factory=dict)
    """``host``, ``pid``, ``started_at`` and ``updated_at`` of the last process that ran the search;
    empty before the first."""
    problem: str | None = None
    """Why something cannot be read, in one line."""

    @property
    def num_ended(self) -> int | None:
        """Trials that have ended; None if the table cannot be read."""
        return None if self.trials is None else sum(self.trials.values())


def study_progress(folder: str | Path) -> StudyProgress:
    """The progress of the study in a folder; errors become :attr:`StudyProgress.problem`.

    Metrics that the folder names are not imported.
    """
    folder = to_path(folder)
    problems: list[str] = []

    def read_rows(table: str, columns: Sequence[str]) -> list[dict[str, Any]] | None:
        return _attempt(problems, lambda: read_table(folder, table, columns=columns).to_pylist())

    request = _attempt(problems, lambda: read_request(folder))
    rows = read_rows("trials", ["status", "reason"])
    networks = read_rows("confirmation", ["status"])
    running = is_running(folder)
    heartbeat = read_heartbeat(folder)
    best = None
    if request is not None and rows is not None:
        best = _attempt(problems, lambda: best_of(delivered_in(folder, request)))
    return StudyProgress(
        name=request.name if request else folder.name,
        state=_state(running, request, rows, heartbeat.get("phase")),
        phase=heartbeat.get("phase") if running else None,
        num_trials=request.num_trials if request else None,
        trials=None if rows is None else dict(Counter(row["status"] for row in rows)),
        best=best,
        failures=dict(Counter(r["reason"] for r in rows or () if r["status"] == "failed")),
        confirmation=dict(Counter(row["status"] for row in networks or ())),
        running=heartbeat.get("running", {}) if running else {},
        heartbeat={name: heartbeat[name] for name in _HOLDER if name in heartbeat},
        problem="; ".join(dict.fromkeys(problems)) or None,
    )


def is_running(folder: str | Path) -> bool | None:
    """Whether a process works on a study; None if that cannot be determined."""
    folder = to_path(folder)
    try:
        if (folder / LOCK_FILE).is_symlink():  # never follow it out of the folder
            return False
        with _probe:
            return is_held(folder)
    except OSError:  # the file belongs to another user, or the file system has no locks
        return None


def _attempt(problems: list[str], read: Callable[[], Found]) -> Found | None:
    try:
        return read()
    except ConfigError as err:
        problems.append(str(err))
    except OSError as err:
        problems.append(os_reason(err))
    return None


def _state(
    running: bool | None,
    request: StudyRequest | None,
    rows: Sequence[object] | None,
    phase: str | None,
) -> State:
    if running:
        return "running"
    if running is None or request is None or rows is None:
        return "unknown"
    lacks_confirmation = request.confirms and phase not in (None, "done")
    return "stopped" if len(rows) < request.num_trials or lacks_confirmation else "finished"
