"""Atomic writes: a killed writer leaves a file unchanged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from simreg_core.storage.location import storage_of


def atomic_file(path: Path) -> AbstractContextManager[BinaryIO]:
    """A stream whose content becomes ``path`` if the block ends without an exception."""
    return storage_of(path).atomic_file(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with :func:`atomic_file`."""
    with atomic_file(path) as stream:
        stream.write(text.encode())
