"""Decoded or computed arrays, cached on disk for all processes.

``DIGEST`` identifies everything that an entry depends on. The entry consists of the files
``DIGEST.NAME.npy`` and, written last, ``DIGEST.json`` with their checksums. You can delete the
cache at any time.
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

_FORMAT_VERSION = 4  # increase it when the decoded pixels or the layout of the files change

log = logging.getLogger(__name__)


def data_folder() -> Path:
    """Folder of datasets and cached arrays: ``SIMREG_DATA``, else ``~/.cache/simreg-tune``.

    Raises:
        ConfigError: the path is not absolute; trials run in other working directories.
    """
    folder = Path(os.environ.get("SIMREG_DATA") or "~/.cache/simreg-tune").expanduser()
    if not folder.is_absolute():
        raise ConfigError(
            f"the environment variable SIMREG_DATA is {str(folder)!r}; "
            "allowed: the absolute path of a folder"
        )
    return folder


def file_stamp(path: Path | str) -> tuple[str, int, int]:
    """Path, size in bytes and mtime in ns, which change when the file changes.

    Raises:
        ConfigError: the path is not a readable regular file (reading a pipe would block).
    """
    try:
        status = os.stat(path)
    except OSError as err:
        raise ConfigError(f"{path} cannot be read: {err.strerror or err}") from err
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is not a regular file")
    return (os.path.abspath(path), status.st_size, status.st_mtime_ns)


def cached_arrays(identity: Iterable[object], build: Callable[[], Arrays]) -> Arrays:
    """The arrays that ``build`` returns, from the cache if possible.

    Concurrent processes build an entry once. A damaged entry is rebuilt. If the cache cannot be
    written, a warning is logged and every process builds the arrays.

    Args:
        identity: Everything that the arrays depend on, as JSON values.
        build: Builds the arrays by name.

    Returns:
        Writable arrays, mapped copy-on-write: they need memory only where they are read.
    """
    digest = hashlib.sha256(f"{_FORMAT_VERSION}\n".encode())
    for part in identity:
        digest.update(f"{json.dumps(part)}\n".encode())
    entry = data_folder() / "arrays" / digest.hexdigest()[:32]
    try:
        return storage_of(entry).build_once(
            entry, lambda: _read(entry), lambda: _build_and_write(entry, build)
        )
    except LockError as err:
        _warn_unwritable(entry.parent, str(err))
        return build()


def _build_and_write(entry: Path, build: Callable[[], Arrays]) -> Arrays:
    arrays = build()
    checksums = {}
    try:
        for name, array in arrays.items():
            with atomic_file(_file(entry, name)) as stream:
                np.save(stream, array, allow_pickle=False)
            checksums[name] = _checksum(_file(entry, name))
        write_text(entry.with_suffix(".json"), json.dumps(checksums))
    except OSError as err:
        _warn_unwritable(entry.parent, str(err))
    return arrays


def _read(entry: Path) -> Arrays | None:
    """The arrays of an entry; None if the entry is missing or damaged."""
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
    except (OSError, ValueError, AttributeError) as err:  # AttributeError: JSON, but not a mapping
        log.warning("%s is damaged (%s) and will be rebuilt", manifest, err)
        return None


def _checksum(path: Path) -> int:
    return zlib.crc32(np.memmap(path, np.uint8, mode="r").data)


def _file(entry: Path, name: str) -> Path:
    return entry.with_suffix(f".{name}.npy")


@lru_cache(maxsize=64)  # one warning per folder and reason
def _warn_unwritable(folder: Path, reason: str) -> None:
    log.warning("%s: cannot be written (%s); every process builds its arrays", folder, reason)
