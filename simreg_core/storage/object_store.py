"""Storage in an object store (S3, Google Cloud Storage), through fsspec.

A lock is a lease: an object that its holder rewrites every few seconds, and which is dead a minute
after the last time. Only one thing is asked of the store: that it refuses to create an object that
exists. Each holder creates the object of the next number, so that of several processes that find a
dead lease one gets the next. The object also holds the heartbeat. The clocks of the nodes must
agree to within half a minute.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from simreg_core.errors import ConfigError
from simreg_core.storage.base import Heartbeat, Held, LeaseLost, repeated, store_problem

LEASE_SECONDS = 60.0
_RENEW_SECONDS = 10.0
_POLL_SECONDS = 1.0
_UNTIL = "until"
"""Key of a lease's object: when it ends, in seconds since 1970."""


class ObjectStore:
    """Single requests, each of which succeeds or changes nothing, and leases."""

    def require_reachable(self, path: Path) -> None:
        """Lists the location."""
        try:
            _fs(path).ls(_key(path))
        except FileNotFoundError as err:
            if _key(path) in str(err):  # nothing is there yet
                return
            raise ConfigError(f"{path}: {store_problem(err)}") from err
        except Exception as err:
            problem = store_problem(err)
            if problem is None:
                raise
            raise ConfigError(f"{path}: {problem}") from err

    def local_path(self, path: Path) -> Path | None:
        """Objects cannot be appended to."""
        return None

    @contextmanager
    def atomic_file(self, path: Path) -> Iterator[BinaryIO]:
        """Collected in memory and written in one request."""
        buffer = io.BytesIO()
        yield buffer
        put(path, buffer.getvalue())

    def read_all(self, paths: Sequence[Path]) -> list[Path | BinaryIO]:
        """The content of the objects, fetched in parallel."""
        contents = _fs(paths[0]).cat([_key(path) for path in paths])
        return [io.BytesIO(contents[_key(path)]) for path in paths]

    def create_folder(
        self, folder: Path, fill: Callable[[Path], None], last: str, text: str
    ) -> bool:
        """Created with its last object; of two processes that fill the folder one creates it."""
        fill(folder)
        try:
            put(folder / last, text.encode(), is_new=True)
        except FileExistsError:
            return False
        return True

    def remove_folder(self, folder: Path) -> None:
        """Remove every object below a location."""
        _fs(folder).rm(_key(folder), recursive=True)

    @contextmanager
    def lock(
        self, path: Path, *, waits: bool = True, heartbeat: Heartbeat | None = None
    ) -> Iterator[Callable[[], None]]:
        """The lease of a process that was killed ends after a minute."""
        lease = _Lease(path, heartbeat or dict)
        while not lease.take():
            if not waits:
                raise Held(f"{path} is held by another process")
            time.sleep(_POLL_SECONDS)
        try:
            with repeated(lease.renew, _RENEW_SECONDS):
                yield lease.require_held
        finally:
            was_held = lease.release()
        if not was_held:
            raise LeaseLost(f"{path}: another process has taken this lock")

    def is_held(self, path: Path) -> bool:
        """Whether the newest lease is alive."""
        return _is_alive(_newest(path)[1])

    def read_heartbeat(self, path: Path) -> dict[str, Any]:
        """The content of the newest lease."""
        return _newest(path)[1]


class _Lease:
    """The lease of this process."""

    def __init__(self, path: Path, heartbeat: Heartbeat) -> None:
        self._path = path
        self._heartbeat = heartbeat
        self._number = 0
        self._until = 0.0
        self._is_lost = False

    def take(self) -> bool:
        """Create the lease; False if another process has one."""
        number, found = _newest(self._path)
        if _is_alive(found):
            return False
        self._number = number + 1
        try:
            self._write(LEASE_SECONDS, is_new=True)
        except FileExistsError:  # another process was faster
            return False
        # Since we looked, others may have come and gone, or the holder may have woken up.
        others = [number for number in _numbers(self._path) if number != self._number]
        if any(n > self._number or _is_alive(_read(self._path, n)) for n in others):
            remove([_object(self._path, self._number)])
            return False
        remove(_object(self._path, number) for number in others)
        return True

    def renew(self) -> None:
        """Rewrite the lease, unless another process has taken it."""
        if self._is_lost:
            return
        self._write(LEASE_SECONDS)
        # Only then: a process that has not seen the renewal has created its own lease by now.
        self._is_lost = self._is_taken()
        if self._is_lost:
            remove([_object(self._path, self._number)])

    def require_held(self) -> None:
        """Raise :class:`LeaseLost` if another process has taken the lease."""
        if time.time() > self._until:
            self.renew()
        if self._is_lost:
            raise LeaseLost(f"{self._path}: another process has taken this lock")

    def release(self) -> bool:
        """End the lease, whose heartbeat stays; False if another process has taken it."""
        was_lost = self._is_lost or self._is_taken()
        self._is_lost = True  # not to be renewed by a late caller
        if not was_lost:
            self._write(-1)
        return not was_lost

    def _is_taken(self) -> bool:
        return max(_numbers(self._path), default=0) > self._number

    def _write(self, seconds: float, *, is_new: bool = False) -> None:
        self._until = time.time() + seconds
        content = json.dumps({**self._heartbeat(), _UNTIL: self._until})
        put(_object(self._path, self._number), content.encode(), is_new=is_new)


def _newest(path: Path) -> tuple[int, dict[str, Any]]:
    """Number and content of the newest lease; 0 and nothing if there has been none."""
    number = max(_numbers(path), default=0)
    return number, _read(path, number) if number else {}


def _numbers(path: Path) -> list[int]:
    prefix = f"{path.name}."
    try:
        names = [place.name for place in path.parent.iterdir() if place.name.startswith(prefix)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(name.removeprefix(prefix)) for name in names]


def _read(path: Path, number: int) -> dict[str, Any]:
    try:
        return dict(json.loads(_object(path, number).read_text(encoding="utf-8")))
    except FileNotFoundError:  # taken over between two requests
        return {_UNTIL: time.time() + LEASE_SECONDS}


def _is_alive(lease: dict[str, Any]) -> bool:
    return time.time() < float(lease.get(_UNTIL, 0))


def _object(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def put(path: Path, content: bytes, *, is_new: bool = False) -> None:
    """Write an object in one request: it is there whole or not at all.

    Args:
        path: In an object store.
        content: All of it.
        is_new: Let the store refuse where the object exists.

    Raises:
        FileExistsError: the object exists, and ``is_new``.
    """
    _fs(path).pipe_file(_key(path), content, mode="create" if is_new else "overwrite")


def remove(paths: Iterable[Path]) -> None:
    """Remove objects; one that is gone already is no error."""
    by_key = {_key(path): path for path in paths}
    if by_key:
        try:
            _fs(next(iter(by_key.values()))).rm(list(by_key))
        except FileNotFoundError:
            return


def _fs(path: object) -> Any:
    return cast(Any, path).fs


def _key(path: object) -> str:
    return str(cast(Any, path).path)
