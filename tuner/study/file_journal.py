"""Optuna's journal in a file, which stays readable when a disk is full or a writer is killed.

A line that is written in part makes the file unreadable as soon as another line follows. Therefore
a failed append is cut off at once, and what a killed writer left when the journal is opened.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from simreg_core.storage.base import sync_folder


class FileJournalBackend(JournalFileBackend):
    """A journal file that this process writes until an append fails.

    The file has Optuna's format, and Optuna's lock protects every append, so that other programs
    (optuna-dashboard) can open it.
    """

    def __init__(self, path: Path) -> None:
        is_new = not path.exists()
        super().__init__(str(path))
        if is_new:
            sync_folder(path.parent)
        self._path = path
        self._problem: OSError | None = None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append whole lines, or nothing.

        Raises:
            OSError: they cannot be written, or an earlier append failed.
        """
        if self._problem is not None:
            raise self._problem
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        try:
            self._lock.acquire()
            try:
                self._append(lines)
            finally:
                with suppress(RuntimeError):  # another program has broken the lock
                    self._lock.release()
        except OSError as err:
            self._problem = err
            raise

    def _append(self, lines: bytes) -> None:
        with self._path.open("rb+", buffering=0) as stream:
            end = _cut_after_last_line(stream)
            try:
                left = memoryview(lines)
                while left:
                    left = left[stream.write(left) or 0 :]
                os.fsync(stream.fileno())
            except BaseException:  # also Ctrl-C
                with suppress(OSError):  # the next process to open the journal cuts it
                    stream.truncate(end)
                    os.fsync(stream.fileno())
                raise


def repair_journal(path: Path) -> None:
    """Remove a killed writer's lock, and whatever follows the last whole line.

    This process must hold the lock of the result folder.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    if not path.exists():
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        with path.open("rb+", buffering=0) as stream:
            content = stream.read()
            end = _end_of_whole_lines(content)
            if end < len(content):
                stream.truncate(end)
                os.fsync(stream.fileno())
    finally:
        with suppress(RuntimeError):
            lock.release()


def _cut_after_last_line(stream: BinaryIO) -> int:
    """Remove what follows the last line break, and return the new end, where the stream is then.

    Another program may have left a part of a line.
    """
    end = stream.seek(0, os.SEEK_END)
    if end:
        stream.seek(end - 1)
        if stream.read(1) != b"\n":
            stream.seek(0)
            end = stream.read().rfind(b"\n") + 1
            stream.truncate(end)
    return stream.seek(end)


def _end_of_whole_lines(content: bytes) -> int:
    """The end of the last line that is a record; if there is none, of the last line."""
    last = end = content.rfind(b"\n") + 1
    while end:
        start = content.rfind(b"\n", 0, end - 1) + 1
        if _is_record(content[start:end]):
            return end
        end = start
    return last


def _is_record(line: bytes) -> bool:
    with suppress(ValueError):
        return isinstance(json.loads(line), dict)
    return False
