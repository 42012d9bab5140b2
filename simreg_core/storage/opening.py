"""Open files of a results folder, which may be somebody else's.

A results folder is data: nothing in it may lead to other files, block the reader or fill its
memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MAX_TABLE_BYTES = 4 * 2**30
MAX_TEXT_BYTES = 16 * 2**20

_PLACE = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
# Opening a pipe without O_NONBLOCK waits for its writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC


class UnusableFile(OSError):
    """A file that is not read: a link out of its folder, no regular file, or too large."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def open_regular(path: Path, root: Path, limit: int) -> BinaryIO:
    """Open a regular file below ``root`` for reading, without blocking.

    Links are followed if they stay below ``root``.

    Raises:
        UnusableFile: a link leads out of ``root``, the file is no regular file, or it has more
            than ``limit`` bytes.
        OSError: the file does not exist or cannot be read.
    """
    real, inside = (os.path.realpath(place, strict=True) for place in (path, root))
    if not Path(real).is_relative_to(inside):
        raise UnusableFile(path, "a link that leads out of the folder")
    _require_regular(path, os.lstat(real))
    descriptor = _open_below(inside, Path(real).relative_to(inside).parts)
    try:
        status = os.fstat(descriptor)
        _require_regular(path, status)
        require_size(path, status.st_size, limit)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_size(path: object, size: int, limit: int) -> None:
    """Raise :class:`UnusableFile` if a file is larger than ``limit``."""
    if size > limit:
        raise UnusableFile(path, f"{size} bytes; allowed: at most {limit}")


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFile(path, "not a regular file")


def _open_below(root: str, parts: tuple[str, ...]) -> int:
    """Open a path without links, so that a link that replaces one of its parts now is refused."""
    folder = os.open(root, _PLACE)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _PLACE, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], _READ, dir_fd=folder)
    finally:
        os.close(folder)
