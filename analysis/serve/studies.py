"""The studies below a folder, how far each is, and when it changed; files are only read.

A study is a folder with ``space.yaml`` and ``trials/``. Symbolic links that lead out of the folder
are not followed, and only regular files are opened.
"""

from __future__ import annotations

import hashlib
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from analysis.results.load import ResultsError
from simreg_core.cli import os_reason
from simreg_core.errors import one_line
from simreg_core.results.progress import StudyProgress, is_running, study_progress
from simreg_core.results.request import SPACE_FILE
from simreg_core.results.schema import TABLES
from simreg_core.results.study_lock import HEARTBEAT_FILE, read_heartbeat
from simreg_core.storage.location import to_path

MAX_DEPTH = 4  # of a study below the folder: OUTPUT/poster-DATE/curves has 2
_REPORTED = (
    *("*", *(f"{table}/*" for table in TABLES)),
    *("audit*/*.json", *(f"checkpoints/{'*/' * depth}*.json" for depth in range(3))),
)
# These change without changing a report: the heartbeat, but for its phase, and Optuna's journal.
_NOT_REPORTED = (HEARTBEAT_FILE, "study.journal")

_log = logging.getLogger(__name__)


class ListedStudy(NamedTuple):
    """One study as the index shows it."""

    progress: StudyProgress
    changed_at: datetime
    """When a file that a report may show was last written, UTC."""


def find_studies(root: str | Path) -> dict[str, Path]:
    """Every study below a folder by its relative path, ascending; or the folder itself by its name.

    Symbolic links to folders are not followed: a study has one name and lies below ``root``.
    """
    root = to_path(root)
    if _is_study(root):
        return {root.resolve().name: root}
    found = {}
    for place, folders, _ in os.walk(root):
        path = Path(place)
        name = path.relative_to(root).as_posix()
        if _is_study(path):
            folders.clear()
            if name.encode(errors="ignore").decode() == name:  # file systems allow other bytes
                found[name] = path
        is_deepest = len(path.relative_to(root).parts) == MAX_DEPTH
        folders[:] = [name for name in folders if not (is_deepest or name.startswith("."))]
    return dict(sorted(found.items()))


def study_version(folder: Path, root: Path) -> str:
    """A text that changes whenever something does that a report may show.

    Raises:
        ResultsError: a file is a link that leads out of the served folder ``root``.
        OSError: a file cannot be looked at.
    """
    phase = read_heartbeat(folder).get("phase")
    lines = [f"{is_running(folder)}\0{phase}"]
    for path in _shown_files(folder, root):
        found = path.stat()
        lines.append(f"{path.relative_to(folder)}\0{found.st_mtime_ns}\0{found.st_size}")
    return digest("\n".join(lines))


def digest(text: str) -> str:
    """A short text that changes with the text."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:20]


def listed_study(folder: Path, root: Path) -> ListedStudy:
    """How far a study is, and when it changed.

    Raises:
        FileNotFoundError: it has been deleted.
    """
    changed = folder.stat().st_mtime
    try:
        changed = max((p.stat().st_mtime for p in _shown_files(folder, root)), default=changed)
        progress = study_progress(folder)
    except ResultsError as err:  # a link leads out of the folder: nothing is read
        progress = StudyProgress(folder.name, problem=str(err))
    except OSError as err:
        progress = StudyProgress(folder.name, problem=os_reason(err))
    except Exception as err:  # whatever its files are, the other studies are shown
        _log.error("%s: %s", folder, err, exc_info=err)
        progress = StudyProgress(folder.name, problem=one_line(err))
    return ListedStudy(progress, datetime.fromtimestamp(changed, UTC))


def _is_study(folder: Path) -> bool:
    try:
        return (folder / SPACE_FILE).is_file() and (folder / "trials").is_dir()
    except OSError:  # it belongs to another user
        return False


def _shown_files(folder: Path, root: Path) -> list[Path]:
    """The files of a study that a report may show, ascending: tables, texts, audits."""
    inside = root.resolve()
    files = []
    for path in sorted({path for pattern in _REPORTED for path in folder.glob(pattern)}):
        is_hidden = any(name[0] in "._" for name in path.relative_to(folder).parts)
        if is_hidden or path.name in _NOT_REPORTED:
            continue
        if not path.resolve().is_relative_to(inside):
            raise ResultsError(f"{path}: a link that leads out of the folder that is served")
        if path.is_file():
            files.append(path)
    return files
