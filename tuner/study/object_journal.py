"""Optuna's journal in an object store, which cannot append to objects.

Every append creates a new object, named by the number of its first line. The store refuses to
create an object that exists, so two writers cannot continue the same journal.
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
    """A journal in a folder of an object store, read once and extended by this process only.

    The folder need not exist.

    Raises:
        OSError: the journal cannot be read, or lines are missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._logs = _load(folder)
        self._num_written = len(self._logs)
        self._is_batch = False
        self._problem: Exception | None = None

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The lines from a number on."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines. They are stored when this returns or, within a batch, when that ends.

        Raises:
            OSError: they or earlier lines cannot be written, or another process has written these.
        """
        if self._problem is not None:
            raise self._problem
        self._logs += [json.loads(json.dumps(log)) for log in logs]
        if not self._is_batch:
            self._write()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Write all lines that the block appends as one object."""
        self._is_batch = True
        try:
            yield
        finally:
            self._is_batch = False
            self._write()

    def _write(self) -> None:
        lines = self._logs[self._num_written :]
        if not lines or self._problem is not None:
            return
        path = self.folder / f"{self._num_written:010d}.jsonl"
        content = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
        try:
            _put_once(path, content)
        except Exception as err:
            self._problem = err
            raise
        self._num_written = len(self._logs)


def _put_once(path: Path, content: bytes) -> None:
    try:
        put(path, content, is_new=True)
    except FileExistsError:  # possibly written by an attempt whose response was lost
        if path.read_bytes() != content:
            raise


def batched(study: optuna.Study) -> AbstractContextManager[None]:
    """Combine the block's changes to a study into one request if it is in an object store."""
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
