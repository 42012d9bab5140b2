"""Atomic writes: a killed writer leaves a file unchanged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from simreg_core.storage.location import storage_of, to_path


def atomic_file(path: str | Path) -> AbstractContextManager[BinaryIO]:
    """A stream whose content becomes ``path`` if the block ends without an exception."""
    path = to_path(path)
    return storage_of(path).atomic_file(path)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with :func:`atomic_file`."""
    path = to_path(path)
    with atomic_file(path) as stream:
        stream.write(text.encode())
