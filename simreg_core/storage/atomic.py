"""Files that are whole or absent, whenever the writer is killed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from simreg_core.storage.location import storage_of


def atomic_file(path: Path) -> AbstractContextManager[BinaryIO]:
    """A stream whose content becomes ``path`` when the block ends without an exception.

    Raises:
        OSError: the folder cannot be created, or the file cannot be written.
    """
    return storage_of(path).atomic_file(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by :func:`atomic_file`."""
    with atomic_file(path) as stream:
        stream.write(text.encode())
