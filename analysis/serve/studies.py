"""The studies below a folder, how far each is, and when it changed; files are only read.

A study is a folder with ``space.yaml`` and ``trials/``. Nothing outside the folder is looked at,
whatever a symbolic link says.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from analysis.results.load import ResultsError
from simreg_core.cli import os_reason
from simreg_core.results.progress import SPACE_FILE, StudyProgress, is_running, study_progress
from simreg_core.results.schema import TABLES
from simreg_core.results.study_lock import HEARTBEAT_FILE, read_heartbeat

MAX_DEPTH = 4  # of a study below the folder: OUTPUT/poster-DATE/curves has 2
# What changes without changing a report: the heartbeat, of which the phase counts, and Optuna's
# journal.
_NOT_REPORTED = (HEARTBEAT_FILE, "study.journal")


class ListedStudy(NamedTuple):
    """One study as the index shows it."""

    progress: StudyProgress
    changed_at: datetime
    """When a file that a report may show was last written, UTC."""


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
    phase = read_heartbeat(folder).get("phase")
    digest = hashlib.sha256(f"{is_running(folder)}\0{phase}\n".encode())
    for entry in _shown_files(folder, root):
        found = entry.stat()
        line = f"{os.path.relpath(entry.path, folder)}\0{found.st_mtime_ns}\0{found.st_size}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:20]


def listed_study(folder: Path, root: Path) -> ListedStudy:
    """How far a study is, and when it changed.

    Raises:
        FileNotFoundError: it has been deleted.
    """
    changed = folder.stat().st_mtime
    try:
        changed = max((e.stat().st_mtime for e in _shown_files(folder, root)), default=changed)
        progress = study_progress(folder)
    except ResultsError as err:  # a link leads out of the folder: nothing is read
        progress = StudyProgress(folder.name, problem=str(err))
    except OSError as err:
        progress = StudyProgress(folder.name, problem=os_reason(err))
    return ListedStudy(progress, datetime.fromtimestamp(changed, UTC))


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
