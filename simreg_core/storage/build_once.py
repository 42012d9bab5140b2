"""Files that several processes want, and that one of them makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from simreg_core.storage.location import storage_of

T = TypeVar("T")


def build_once(path: Path, read: Callable[[], T | None], build: Callable[[], T]) -> T:
    """What ``read`` finds; else what ``build`` makes, while other processes wait for it.

    Args:
        path: Whose lock is held while building.
        read: Returns None where there is nothing yet, or something damaged.
        build: Makes it, and writes what ``read`` will find.

    Raises:
        LockError: the lock cannot be written.
        Exception: whatever ``read`` and ``build`` raise.
    """
    if (found := read()) is None:
        with storage_of(path).lock(path):
            if (found := read()) is None:
                found = build()
    return found
