"""Locks that processes on any node hold while they write: files here, leases in an object store.

A lease is an object that its holder renews; one that has not been renewed for a minute is dead. The
store refuses to make an object that exists, and that is all that is asked of it: each holder makes
the object of the next number, so of several who find a dead lease one gets the next. The clocks of
the nodes must agree to within half a minute.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from simreg_core.storage import location

LEASE_SECONDS = 60.0
_RENEW_SECONDS = 15.0
_POLL_SECONDS = 1.0
_LOOK_SECONDS = 1.0  # is_held has the lock for an instant, which is not to be refused for


class Held(RuntimeError):
    """Another process holds the lock."""


class LeaseLost(OSError):
    """A lease could not be renewed in time, and another process has taken it."""


class _Lease(NamedTuple):
    number: int
    """0 where there has been none."""
    is_alive: bool


@contextmanager
def lock(path: Path, *, waits: bool = True) -> Iterator[None]:
    """Hold a lock for the block.

    Args:
        path: Of the lock; its folder exists.
        waits: Wait for another holder to end, instead of raising.

    Raises:
        Held: another process holds it, and ``waits`` is false.
        LeaseLost: at the end of the block, another process has taken it in the meantime.
        OSError: the lock cannot be written.
    """
    if location.is_remote(path):
        with _lease(path, waits=waits):
            yield
        return
    held = FileLock(path, timeout=-1 if waits else _LOOK_SECONDS)
    try:
        held.acquire()
    except Timeout as err:
        raise Held(f"{path} is held by another process") from err
    try:
        yield
    finally:
        held.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock now."""
    if location.is_remote(path):
        return _newest(path).is_alive
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def _lease(path: Path, *, waits: bool) -> Iterator[None]:
    while (number := _take(path)) is None:
        if not waits:
            raise Held(f"{path} is held by another process")
        time.sleep(_POLL_SECONDS)
    done = threading.Event()
    keeper = threading.Thread(target=_renew, args=(path, number, done), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        is_lost = _newest(path).number != number
        if not is_lost:
            _write(path, number, is_alive=False)
    if is_lost:
        raise LeaseLost(f"{path}: another process has taken this lock")


def _take(path: Path) -> int | None:
    """Number of a new lease, or None where another process has one."""
    found = _newest(path)
    if found.is_alive:
        return None
    number = found.number + 1
    try:
        location.put(_object(path, number), _content(is_alive=True), is_new=True)
    except FileExistsError:  # another process was faster
        return None
    if _newest(path).number != number:  # our look was old: others have come and gone since
        location.remove([_object(path, number)])
        return None
    location.remove(_object(path, old) for old in _numbers(path) if old < number)
    return number


def _renew(path: Path, number: int, done: threading.Event) -> None:
    while not done.wait(_RENEW_SECONDS):
        try:
            if _newest(path).number != number:
                return  # lost, which the holder learns at its end
            _write(path, number, is_alive=True)
        except Exception as err:  # the store may answer again before the lease is over
            if location.store_problem(err) is None:
                raise


def _newest(path: Path) -> _Lease:
    number = max(_numbers(path), default=0)
    if number == 0:
        return _Lease(0, is_alive=False)
    try:
        said = json.loads(_object(path, number).read_text())
    except FileNotFoundError:  # taken over between the two requests
        return _Lease(number, is_alive=True)
    return _Lease(number, is_alive=time.time() < said["until"])


def _numbers(path: Path) -> list[int]:
    prefix = f"{path.name}."
    try:
        names = [place.name for place in path.parent.iterdir() if place.name.startswith(prefix)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(name.removeprefix(prefix)) for name in names]


def _object(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _write(path: Path, number: int, *, is_alive: bool) -> None:
    location.put(_object(path, number), _content(is_alive=is_alive))


def _content(*, is_alive: bool) -> bytes:
    until = time.time() + LEASE_SECONDS if is_alive else 0
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "until": until}).encode()
