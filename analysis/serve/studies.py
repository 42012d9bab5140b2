"""The studies below a folder, and how far each is: from their files alone, which are only read.

A study is a folder with ``space.yaml`` and ``trials/``. Nothing outside the folder is looked at,
whatever a symbolic link says.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from analysis.results.load import ResultsError, load_table
from simreg_core.cli import os_reason
from simreg_core.config.yaml_io import read_yaml_mapping
from simreg_core.errors import ConfigError
from simreg_core.results.schema import TABLES
from simreg_core.results.study_lock import HEARTBEAT_FILE, LOCK_FILE, is_held, read_heartbeat

SPACE_FILE = "space.yaml"
MAX_DEPTH = 4  # of a study below the folder: OUTPUT/poster-DATE/curves has 2
_SCORE = "validation.tradeoff_score"  # of the split that a search selects on
# What changes without changing a report: the heartbeat, of which the phase counts, and Optuna's
# journal.
_NOT_REPORTED = (HEARTBEAT_FILE, "study.journal")

State = Literal["running", "stopped", "finished", "unknown"]

_look = threading.Lock()  # two looks at one lock at once would each take the other for a search


class StudyStatus(NamedTuple):
    """One study as the index shows it."""

    state: State
    """``unknown`` where the files do not tell: the lock or the space file cannot be read."""
    phase: str | None
    """What a running search does."""
    num_ended: int | None
    """Trials that have ended; None if the table cannot be read."""
    num_trials: int | None
    """Trials asked for; None if the space file cannot be read."""
    best_score: float | None
    """Best tradeoff score on the validation split, of trials that meet the constraints if any."""
    best_trial: int | None
    changed_at: datetime
    """When a file that a report may show was last written, UTC."""
    problem: str | None
    """What cannot be read, in one line."""


class OutsideError(ResultsError):
    """A symbolic link in a study leads out of the folder that is served."""


def find_studies(root: Path) -> dict[str, Path]:
    """Every study below a folder by its relative path, ascending; or the folder itself by its name.

    Symbolic links to folders are not followed: a study has one name and lies below ``root``.
    """
    if _is_study(root):
        return {root.resolve().name: root}
    return dict(sorted(_studies_below(root, root, MAX_DEPTH)))


def study_version(folder: Path, root: Path) -> str:
    """A text that changes whenever something does that a report may show.

    Args:
        folder: Of the study.
        root: The folder that is served.

    Raises:
        OutsideError: a file is a link that leads out of ``root``.
        OSError: the folder cannot be listed.
    """
    is_running, heartbeat = study_state(folder)
    digest = hashlib.sha256(f"{is_running}\0{heartbeat.get('phase')}\n".encode())
    for entry in _shown_files(folder, root):
        found = entry.stat()
        line = f"{os.path.relpath(entry.path, folder)}\0{found.st_mtime_ns}\0{found.st_size}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:20]


def study_state(folder: Path) -> tuple[bool | None, Mapping[str, Any]]:
    """Whether a process works on a study (None: unknown), and its last heartbeat."""
    return _is_running(folder), read_heartbeat(folder)


def study_status(folder: Path, root: Path) -> StudyStatus:
    """How far a study is; what cannot be read is said in ``problem``.

    Raises:
        FileNotFoundError: it is there no more.
    """
    problems: list[str] = []
    changed = folder.stat().st_mtime
    table: Mapping[str, Any] = {}
    tuning: Mapping[str, Any] = {}
    try:
        changed = max((e.stat().st_mtime for e in _shown_files(folder, root)), default=changed)
        table = _table_summary(folder)
        found = read_yaml_mapping(folder / SPACE_FILE).get("tuning")
        tuning = found if isinstance(found, Mapping) else {}
    except (ResultsError, ConfigError) as err:
        problems.append(str(err))
    except OSError as err:
        problems.append(os_reason(err))
    num_trials = tuning.get("num_trials")
    num_trials = num_trials if isinstance(num_trials, int) else None
    is_running, heartbeat = study_state(folder)
    lacks_confirmation = bool(num_trials is not None and tuning.get("confirm")) and heartbeat.get(
        "phase"
    ) not in (None, "done")
    return StudyStatus(
        state=_state(is_running, table.get("num_ended"), num_trials, lacks_confirmation),
        phase=str(heartbeat.get("phase")) if is_running and heartbeat else None,
        num_ended=table.get("num_ended"),
        num_trials=num_trials,
        best_score=table.get("best_score"),
        best_trial=table.get("best_trial"),
        changed_at=datetime.fromtimestamp(changed, UTC),
        problem="; ".join(problems) or None,
    )


def _state(
    is_running: bool | None,
    num_ended: int | None,
    num_trials: int | None,
    lacks_confirmation: bool,
) -> State:
    if is_running:
        return "running"
    if is_running is None or num_ended is None or num_trials is None:
        return "unknown"
    return "stopped" if num_ended < num_trials or lacks_confirmation else "finished"


def _is_running(folder: Path) -> bool | None:
    try:
        if (folder / LOCK_FILE).is_symlink():  # which may lead anywhere
            return False
        with _look:
            return is_held(folder)
    except OSError:  # the file is another user's, or the file system has no locks
        return None


def _table_summary(folder: Path) -> dict[str, Any]:
    trials = load_table(folder, "trials")
    summary: dict[str, Any] = {"num_ended": len(trials)}
    scored = trials[trials[_SCORE].between(-math.inf, math.inf, inclusive="neither")]
    meets = scored["feasible"].fillna(True).astype(bool)
    if meets.any():
        scored = scored[meets]
    if len(scored):
        row = scored.iloc[int(scored[_SCORE].to_numpy().argmax())]
        summary |= {"best_score": float(row[_SCORE]), "best_trial": int(row["trial"])}
    return summary


def _is_study(folder: Path) -> bool:
    return (folder / SPACE_FILE).is_file() and (folder / "trials").is_dir()


def _studies_below(folder: Path, root: Path, depth: int) -> Iterator[tuple[str, Path]]:
    try:
        with os.scandir(folder) as entries:
            folders = [
                Path(entry.path)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]
    except OSError:  # not ours to read, or just deleted
        return
    for path in folders:
        if _is_study(path):
            name = path.relative_to(root).as_posix()
            if _is_text(name):
                yield name, path
        elif depth > 1:
            yield from _studies_below(path, root, depth - 1)


def _is_text(name: str) -> bool:
    """Whether a name can be shown; file systems allow bytes that are no UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown_files(folder: Path, root: Path) -> Iterator[os.DirEntry[str]]:
    """The files of a study that a report may show, in a fixed order: tables, texts, audits."""
    inside = root.resolve()
    yield from _files(folder, inside)
    for table in TABLES:
        yield from _files(folder / table, inside)
    for place in sorted(folder.glob("audit*")):
        yield from _files(place, inside, suffix=".json")
    yield from _files(folder / "checkpoints", inside, suffix=".json", depth=2)


def _files(
    place: Path, root: Path, *, suffix: str = "", depth: int = 0
) -> Iterator[os.DirEntry[str]]:
    """Visible files in a folder, and ``depth`` levels below it; none where there is no folder."""
    if place.is_symlink():
        _require_inside(place, root)
    try:
        with os.scandir(place) as entries:
            visible = sorted((e for e in entries if e.name[0] not in "._"), key=_name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in visible:
        if entry.name in _NOT_REPORTED:
            continue
        if depth and entry.is_dir():
            yield from _files(Path(entry.path), root, suffix=suffix, depth=depth - 1)
        elif entry.name.endswith(suffix):
            if entry.is_symlink():
                _require_inside(Path(entry.path), root)
            if entry.is_file():
                yield entry


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _require_inside(path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root):
        raise OutsideError(f"{path}: a link that leads out of the folder that is served")
