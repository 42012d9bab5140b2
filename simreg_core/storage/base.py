"""The interface of storage and its implementation for disks and network file systems."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from filelock import FileLock, Timeout

from simreg_core.errors import one_line
from simreg_core.storage.json_text import parse_json
from simreg_core.storage.opening import MAX_TEXT_BYTES, open_regular

Heartbeat = Callable[[], Mapping[str, Any]]
"""Returns what the holder of a lock publishes to other processes; called from a thread."""
T = TypeVar("T")

_HEARTBEAT_SECONDS = 1.0
_LOOK_SECONDS = 1.0  # wait, because is_held of another process takes the lock for an instant
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "google", "gcsfs")
"""Packages whose exceptions mean that an object store cannot be used."""


class Held(RuntimeError):
    """Another process holds the lock."""


class LockError(OSError):
    """The lock file cannot be created."""


class LeaseLost(OSError):
    """A lock was not renewed in time, and another process has taken it."""


class Storage:
    """Atomic files and folders, and locks.

    This class is for disks; a subclass overrides what differs in an object store. To read, list or
    remove files, use the methods of the path. Every method may raise OSError or an exception that
    :func:`store_problem` explains.
    """

    def require_reachable(self, path: Path) -> None:
        """Check that the location can be reached; a disk always can.

        Raises:
            ConfigError: no such bucket, no credentials, no permission or no network.
        """

    @contextmanager
    def atomic_file(self, path: Path) -> Iterator[BinaryIO]:
        """A stream whose content becomes ``path`` if the block ends without an exception.

        Creates missing folders.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _draft(path)
        try:
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def read_all(self, paths: Sequence[Path]) -> list[Path | BinaryIO]:
        """Local paths, or the content of the files, fetched in parallel."""
        return list(paths)

    def open_all(self, paths: Sequence[Path], root: Path, limit: int) -> Iterator[BinaryIO]:
        """The files of a results folder ``root``, open for reading, one after the other.

        Raises:
            UnusableFile: see :func:`~simreg_core.storage.opening.open_regular`.
        """
        for path in paths:
            yield open_regular(path, root, limit)

    def create_folder(
        self, folder: Path, fill: Callable[[Path], None], last: str, text: str
    ) -> bool:
        """Create a folder completely or not at all; False if it exists.

        ``fill`` writes the files into the folder that it gets. It must always write the same ones:
        in an object store, two processes may fill one folder. The file ``last`` with the content
        ``text`` marks the folder as complete.
        """
        draft = _draft(folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft.mkdir()
            fill(draft)
            with self.atomic_file(draft / last) as stream:
                stream.write(text.encode())
            draft.rename(folder)  # fails if the folder exists and is not empty
            sync_folder(folder.parent)
        except OSError:
            if not folder.exists():
                raise
            return False
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder and everything in it."""
        shutil.rmtree(folder)

    @contextmanager
    def lock(
        self, path: Path, *, waits: bool = True, heartbeat: Heartbeat | None = None
    ) -> Iterator[Callable[[], None]]:
        """Hold the lock of a path during a block.

        After a kill, the operating system releases a lock on a disk at once; a lock in an object
        store expires after a minute. The block gets a function to call before each write. It
        raises :class:`LeaseLost` if another process has taken the lock, as does the end of the
        block.

        ``heartbeat`` is the content for :meth:`read_heartbeat` in other processes, updated every
        few seconds.

        Raises:
            Held: another process holds the lock, and ``waits`` is false.
            LockError: the lock file cannot be created.
        """
        held = FileLock(lock_file(path), timeout=-1 if waits else _LOOK_SECONDS)
        try:
            held.acquire()
        except Timeout as err:
            raise Held(f"{path} is held by another process") from err
        except (OSError, NotImplementedError) as err:
            raise LockError(getattr(err, "strerror", None) or str(err)) from err
        try:
            with self._beating(path, heartbeat) if heartbeat else nullcontext():
                yield lambda: None
        finally:
            held.release()

    @contextmanager
    def _beating(self, path: Path, heartbeat: Heartbeat) -> Iterator[None]:
        written: list[str] = []

        def write() -> None:
            if (text := json.dumps(heartbeat(), indent=1)) not in written:
                with self.atomic_file(path) as stream:
                    stream.write(text.encode())
                written[:] = [text]

        write()
        try:
            with repeated(write, _HEARTBEAT_SECONDS):
                yield
        finally:
            with suppress(OSError):
                write()

    def is_held(self, path: Path) -> bool:
        """Whether a process holds the lock of a path."""
        if not lock_file(path).exists():
            return False
        try:
            with FileLock(lock_file(path), timeout=0):
                return False
        except Timeout:
            return True

    def read_heartbeat(self, path: Path) -> dict[str, Any]:
        """The latest heartbeat of the latest holder; empty if it is missing or damaged."""
        try:
            with open_regular(path, path.parent, MAX_TEXT_BYTES) as stream:
                content = parse_json(stream.read())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def build_once(self, path: Path, read: Callable[[], T | None], build: Callable[[], T]) -> T:
        """The result of ``read``, or that of ``build`` if ``read`` returns None.

        Only one process at a time builds, under the lock of ``path``, which may raise LockError.
        """
        if (found := read()) is None:
            with self.lock(path):
                if (found := read()) is None:
                    found = build()
        return found


def lock_file(path: Path) -> Path:
    """The hidden file that the operating system locks for a path."""
    return path.with_name(f".{path.name}.lock")


def sync_folder(folder: Path) -> None:
    """Make created and renamed files of a folder outlast a power failure."""
    with suppress(OSError):  # some network file systems cannot sync folders
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def is_draft(path: Path) -> bool:
    """Whether a file is one that an atomic write has begun, or left when it was killed."""
    return re.fullmatch(r"\..+\.[0-9a-f]{8}\.tmp", path.name) is not None


@contextmanager
def repeated(action: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call ``action`` at intervals from a thread; storage failures are ignored."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(seconds):
            try:
                action()
            except Exception as err:
                if not isinstance(err, OSError) and store_problem(err) is None:
                    raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def store_problem(err: BaseException) -> str | None:
    """Message of an exception from the client of an object store; None for other exceptions."""
    is_clients = type(err).__module__.partition(".")[0] in _CLIENTS and not isinstance(err, OSError)
    return one_line(err) if is_clients else None
