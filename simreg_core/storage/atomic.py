"""Files that are whole or absent, whenever the writer is killed."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from simreg_core.storage import location


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes ``path`` when the block ends without an exception.

    It is written under a hidden temporary name in the same folder, synced and renamed. The folder
    is made if it is missing. In an object store it is collected in memory and written in one
    request.

    Raises:
        OSError: the folder cannot be made or the file not be written.
    """
    if location.is_remote(path):
        buffer = io.BytesIO()
        yield buffer
        location.put(path, buffer.getvalue())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text by :func:`atomic_file`."""
    with atomic_file(path) as stream:
        stream.write(text.encode())
