"""Optuna's journal in an object store, where nothing can be appended to.

Every append creates an object, which is named by the number of its first line and never changes.
As the store refuses to create an object that exists, two writers cannot both continue a journal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from simreg_core.storage.location import read_all
from simreg_core.storage.object_store import put


class ObjectJournalBackend(BaseJournalBackend):
    """The journal in a folder of an object store, as it was when it was opened and since added to.

    Args:
        folder: Of the journal's objects, which need not be there.

    Raises:
        OSError: the journal cannot be read, or lines are missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._logs = _load(folder)
        self._num_written = len(self._logs)
        self._is_batch = False

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The lines from a number on, as far as this process knows them."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines; they are in the store when this returns, or when the batch ends.

        Raises:
            OSError: they cannot be written, or another process has written these lines.
        """
        self._logs += [json.loads(json.dumps(log)) for log in logs]
        if not self._is_batch:
            self._write()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Write what the block appends as one object, when it ends."""
        self._is_batch = True
        try:
            yield
        finally:
            self._is_batch = False
            self._write()

    def _write(self) -> None:
        lines = self._logs[self._num_written :]
        if not lines:
            return
        path = self.folder / f"{self._num_written:010d}.jsonl"
        content = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
        try:
            put(path, content, is_new=True)
        except FileExistsError:  # by our own first attempt, perhaps, whose answer was lost
            if path.read_bytes() != content:
                raise
        self._num_written = len(self._logs)


def batched(study: optuna.Study) -> AbstractContextManager[None]:
    """Write what the block changes in a study at once, where every write is a request."""
    storage = study._storage
    if isinstance(storage, JournalStorage) and isinstance(storage._backend, ObjectJournalBackend):
        return storage._backend.batch()
    return nullcontext()


def _load(folder: Path) -> list[dict[str, Any]]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".jsonl")
    except (FileNotFoundError, NotADirectoryError):
        return []
    logs: list[dict[str, Any]] = []
    for path, stream in zip(paths, read_all(paths), strict=True):
        assert not isinstance(stream, Path)
        if int(path.stem) != len(logs):
            raise OSError(f"{folder}: line {len(logs)} of the study's journal is missing")
        logs += [json.loads(line) for line in stream.read().splitlines()]
    return logs
