"""Storage in an object store (S3, Google Cloud Storage), through fsspec.

A lock is a lease: an object that its holder rewrites every few seconds and that expires a minute
after the last write. Leases are numbered. A process takes the lock when it creates the object with
the next number. Of several processes, only one succeeds, because the store refuses to create an
object that exists. The object also contains the heartbeat. The clocks of the nodes must agree to
within half a minute.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from simreg_core.errors import ConfigError, one_line
from simreg_core.storage.base import Heartbeat, Held, LeaseLost, Storage, repeated, store_problem
from simreg_core.storage.opening import require_size

LEASE_SECONDS = 60.0
_RENEW_SECONDS = 10.0
_POLL_SECONDS = 1.0

_Path = Any  # a path of universal_pathlib, which need not be installed


class ObjectStore(Storage):
    """Writes in single requests, which succeed or change nothing, and leases."""

    def require_reachable(self, path: _Path) -> None:
        """List the location."""
        try:
            path.fs.ls(path.path)
        except Exception as err:
            if isinstance(err, FileNotFoundError) and path.path in str(err):
                return  # the location does not exist yet
            if isinstance(err, OSError) or store_problem(err) is not None:
                raise ConfigError(f"{path}: {one_line(err)}") from err
            raise

    @contextmanager
    def atomic_file(self, path: _Path) -> Iterator[BinaryIO]:
        """Collect the content in memory and write it in one request."""
        buffer = io.BytesIO()
        yield buffer
        put(path, buffer.getvalue())

    def read_all(self, paths: Sequence[_Path]) -> list[Path | BinaryIO]:
        """Fetch the content of the objects in parallel."""
        return [*self._fetch(paths)]

    def _fetch(self, paths: Sequence[_Path]) -> Iterator[BinaryIO]:
        contents = paths[0].fs.cat([path.path for path in paths])
        return (io.BytesIO(contents[path.path]) for path in paths)

    def open_all(self, paths: Sequence[_Path], root: Path, limit: int) -> Iterator[BinaryIO]:
        """Fetch the content of the objects in parallel; a store has no links."""
        if paths:
            sizes = paths[0].fs.sizes([path.path for path in paths])
            for path, size in zip(paths, sizes, strict=True):
                require_size(path, size or 0, limit)
            yield from self._fetch(paths)

    def create_folder(
        self, folder: Path, fill: Callable[[Path], None], last: str, text: str
    ) -> bool:
        """Fill the folder; it belongs to the process that creates ``last``."""
        fill(folder)
        try:
            put(folder / last, text.encode(), is_new=True)
        except FileExistsError:
            return False
        return True

    def remove_folder(self, folder: _Path) -> None:
        """Remove every object below a location."""
        folder.fs.rm(folder.path, recursive=True)

    @contextmanager
    def lock(
        self, path: Path, *, waits: bool = True, heartbeat: Heartbeat | None = None
    ) -> Iterator[Callable[[], None]]:
        """Hold a lease during a block."""
        lease = _Lease(path, heartbeat or dict)
        while not lease.take():
            if not waits:
                raise Held(f"{path} is held by another process")
            time.sleep(_POLL_SECONDS)
        try:
            with repeated(lease.renew, _RENEW_SECONDS):
                yield lease.require_held
        finally:
            lease.release()
        lease.require_held()

    def is_held(self, path: Path) -> bool:
        """Whether the newest lease has not expired."""
        return _is_alive(_read(path, _newest(path)))

    def read_heartbeat(self, path: Path) -> dict[str, Any]:
        """The content of the newest lease."""
        return _read(path, _newest(path))


class _Lease:
    def __init__(self, path: Path, heartbeat: Heartbeat) -> None:
        self._path = path
        self._heartbeat = heartbeat
        self._number = 0
        self._until = 0.0
        self._is_lost = False

    def take(self) -> bool:
        """Create the lease; False if another process holds one."""
        newest = _newest(self._path)
        if _is_alive(_read(self._path, newest)):
            return False
        self._number = newest + 1
        try:
            self._write(LEASE_SECONDS, is_new=True)
        except FileExistsError:  # another process created it first
            return False
        # Since the check, a later lease may have come and gone, or the holder may have renewed.
        others = [number for number in _numbers(self._path) if number != self._number]
        is_late = any(n > self._number or _is_alive(_read(self._path, n)) for n in others)
        for number in [self._number] if is_late else others:
            _object(self._path, number).unlink(missing_ok=True)
        return not is_late

    def renew(self) -> None:
        """Rewrite the lease, unless another process has taken it."""
        if self._is_lost:
            return
        self._write(LEASE_SECONDS)
        # Checked after the write: a process that missed this renewal has created its lease by now.
        self._is_lost = _newest(self._path) > self._number
        if self._is_lost:
            _object(self._path, self._number).unlink(missing_ok=True)

    def require_held(self) -> None:
        """Raise :class:`LeaseLost` if another process has taken the lease."""
        if time.time() > self._until:
            self.renew()
        if self._is_lost:
            raise LeaseLost(f"{self._path}: another process has taken this lock")

    def release(self) -> None:
        """Expire the lease and keep its heartbeat."""
        self._is_lost = self._is_lost or _newest(self._path) > self._number
        if not self._is_lost:
            self._write(0)
            self._until = float("inf")  # a late call of require_held must not renew it

    def _write(self, seconds: float, *, is_new: bool = False) -> None:
        self._until = time.time() + seconds
        content = json.dumps({**self._heartbeat(), "until": self._until})
        put(_object(self._path, self._number), content.encode(), is_new=is_new)


def _newest(path: Path) -> int:
    """Number of the newest lease; 0 if there is none."""
    return max(_numbers(path), default=0)


def _numbers(path: Path) -> list[int]:
    prefix = f"{path.name}."
    try:
        names = [child.name for child in path.parent.iterdir() if child.name.startswith(prefix)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(name.removeprefix(prefix)) for name in names]


def _read(path: Path, number: int) -> dict[str, Any]:
    """Content of a lease; empty for number 0."""
    if number == 0:
        return {}
    found: _Path = _object(path, number)
    try:
        return dict(json.loads(found.fs.cat_file(found.path)))
    except FileNotFoundError:  # another process has taken the lock between two requests
        return {"until": time.time() + LEASE_SECONDS}


def _is_alive(lease: dict[str, Any]) -> bool:
    return time.time() < float(lease.get("until", 0))


def _object(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def put(path: _Path, content: bytes, *, is_new: bool = False) -> None:
    """Write an object in one request; FileExistsError if ``is_new`` is set and it exists."""
    path.fs.pipe_file(path.path, content, mode="create" if is_new else "overwrite")
