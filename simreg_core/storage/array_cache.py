"""Arrays on disk: what the first process decoded or computed, every later one reads.

An entry is named by the digest of what it was made from. It consists of ``DIGEST.NAME.npy`` files
and, written last, ``DIGEST.json`` with their checksums: without it there is no entry.
Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simreg_core.errors import ConfigError
from simreg_core.storage.atomic import atomic_file, write_text
from simreg_core.storage.base import LockError
from simreg_core.storage.location import storage_of

Arrays = Mapping[str, NDArray[Any]]

_FORMAT_VERSION = 1  # raise it when decoding gives other pixels, or the files' layout changes

log = logging.getLogger(__name__)


def data_folder(key: str) -> Path:
    """Where datasets and cached arrays lie: ``SIMREG_DATA``, else ``~/.cache/simreg-tune``.

    Args:
        key: Configuration key whose dataset is looked for, for messages.

    Raises:
        ConfigError: it is not absolute; trials run in other working directories.
    """
    name = os.environ.get("SIMREG_DATA") or "~/.cache/simreg-tune"
    folder = Path(os.path.expanduser(name))
    if not folder.is_absolute():
        raise ConfigError(
            f"{key}: the environment variable SIMREG_DATA is {str(folder)!r}; "
            "allowed: the absolute path of a folder"
        )
    return folder


def file_stamp(path: Path | str, key: str) -> tuple[str, int, int]:
    """Path, size in bytes and mtime in ns: a file whose stamp is the same has not changed.

    Raises:
        ConfigError: the file cannot be examined, or is none (reading a pipe would wait for its
            writer); names ``key`` and the file.
    """
    try:
        status = os.stat(path)
    except OSError as err:
        raise ConfigError(f"{key}: {path} cannot be read: {err.strerror or err}") from err
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{key}: {path} is no regular file")
    return (os.path.abspath(path), status.st_size, status.st_mtime_ns)


def cached_arrays(identity: Iterable[object], build: Callable[[], Arrays], key: str) -> Arrays:
    """The arrays that ``build`` makes, from the cache where an earlier process made them.

    Processes that ask at once build once. A damaged entry is built again; where the cache cannot
    be written, that is logged and the arrays are built each time.

    Args:
        identity: Plain values, everything that the arrays depend on.
        build: Makes the arrays; what it raises is passed on.
        key: Configuration key that named what they are made from, for messages.

    Returns:
        Arrays by name, writable (cached ones are mapped copy-on-write, so they cost memory only
        where they are read).
    """
    entry = data_folder(key) / "arrays" / _digest(identity)
    try:
        return storage_of(entry).build_once(
            entry, lambda: _read(entry), lambda: _build_and_write(entry, build)
        )
    except LockError as err:
        _warn_unwritable(entry.parent, str(err))
        return build()


def _digest(identity: Iterable[object]) -> str:
    digest = hashlib.sha256(f"{_FORMAT_VERSION}\n".encode())
    for part in identity:
        digest.update(f"{json.dumps(part)}\n".encode())
    return digest.hexdigest()[:32]


def _build_and_write(entry: Path, build: Callable[[], Arrays]) -> Arrays:
    arrays = build()
    try:
        checksums = {name: _write(_file(entry, name), array) for name, array in arrays.items()}
        write_text(entry.with_suffix(".json"), json.dumps(checksums))
    except OSError as err:
        _warn_unwritable(entry.parent, str(err))
    return arrays


def _write(path: Path, array: NDArray[Any]) -> int:
    with atomic_file(path) as stream:
        np.save(stream, array, allow_pickle=False)
    return _checksum(path)


def _read(entry: Path) -> Arrays | None:
    """The entry's arrays; None where there is no entry, or a damaged one."""
    manifest = entry.with_suffix(".json")
    try:
        checksums = json.loads(manifest.read_text(encoding="utf-8"))
        for name, checksum in checksums.items():
            if _checksum(_file(entry, name)) != checksum:
                raise ValueError(f"checksum of {name}")
        # Copy-on-write: torch warns about arrays that it may not write to.
        return {name: np.load(_file(entry, name), mmap_mode="c") for name in checksums}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError) as err:  # AttributeError: JSON, but no mapping
        log.warning("%s is damaged (%s); it is built again", manifest, err)
        return None


def _checksum(path: Path) -> int:
    return zlib.crc32(np.memmap(path, np.uint8, mode="r").data)


def _file(entry: Path, name: str) -> Path:
    return entry.with_suffix(f".{name}.npy")


@lru_cache(maxsize=64)  # says each thing once
def _warn_unwritable(folder: Path, reason: str) -> None:
    log.warning("%s: cannot be written (%s); arrays are built in every process", folder, reason)
