"""The interface of storage, with its implementation for disks, network file systems included."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from filelock import FileLock, Timeout

Heartbeat = Callable[[], Mapping[str, Any]]
"""Returns what the holder of a lock shows to other processes; called from another thread."""
T = TypeVar("T")

_HEARTBEAT_SECONDS = 1.0
_LOOK_SECONDS = 1.0  # is_held takes the lock for an instant, during which nobody is refused
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "google", "gcsfs")
"""Packages whose exceptions mean that a store cannot be used."""


class Held(RuntimeError):
    """Another process holds the lock."""


class LockError(OSError):
    """The lock cannot be written."""


class LeaseLost(OSError):
    """A lock was not renewed in time, and another process has taken it."""


class Storage:
    """Files that are whole or absent, folders that appear at once, and locks.

    This class is for disks; a subclass overrides what differs in an object store. Reading, listing
    and removing files is the same for both, by the methods of their paths. Every method may raise
    OSError, or an error of which :func:`store_problem` says what is wrong.
    """

    def require_reachable(self, path: Path) -> None:
        """Check that the storage answers, as a disk does.

        Raises:
            ConfigError: no such bucket, no credentials, no permission or no network.
        """

    @contextmanager
    def atomic_file(self, path: Path) -> Iterator[BinaryIO]:
        """A stream whose content becomes ``path`` when the block ends without an exception.

        Missing folders are created.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _draft(path)
        try:
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def read_all(self, paths: Sequence[Path]) -> list[Path | BinaryIO]:
        """Files in a form that any library reads: local paths, or content fetched in parallel."""
        return list(paths)

    def create_folder(
        self, folder: Path, fill: Callable[[Path], None], last: str, text: str
    ) -> bool:
        """Create a folder whole or not at all; False if something is there.

        Args:
            folder: Where to create it.
            fill: Writes files into the folder that it is called with, the same ones every time: in
                an object store, a folder that another process has just created gets them, too.
            last: Name of one more file, without which the folder does not count as created.
            text: Content of that file.
        """
        draft = _draft(folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft.mkdir()
            fill(draft)
            with self.atomic_file(draft / last) as stream:
                stream.write(text.encode())
            draft.rename(folder)  # fails where the folder holds anything
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
        """Hold the lock of a path for the block.

        On a disk, the operating system releases it when its process ends, however it ends; in an
        object store, the lock of a process that was killed ends after a minute. Entering returns a
        function to call before a write: it raises :class:`LeaseLost`, like the end of the block, if
        another process has taken the lock.

        Args:
            path: Where the heartbeat is written; nothing needs to exist there.
            waits: Wait until another holder releases it.
            heartbeat: What :meth:`read_heartbeat` returns elsewhere, a few seconds later.

        Raises:
            Held: another process holds the lock, and ``waits`` is false.
            LockError: the lock cannot be written.
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
        """Whether a process holds the lock of a path now."""
        if not lock_file(path).exists():
            return False
        try:
            with FileLock(lock_file(path), timeout=0):
                return False
        except Timeout:
            return True

    def read_heartbeat(self, path: Path) -> dict[str, Any]:
        """The last heartbeat of the last holder; empty if there is none, or it is damaged."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def build_once(self, path: Path, read: Callable[[], T | None], build: Callable[[], T]) -> T:
        """What ``read`` finds, unless that is None; else what ``build`` makes and writes.

        Other processes wait for that by the lock of ``path``, which may raise LockError.
        """
        if (found := read()) is None:
            with self.lock(path):
                if (found := read()) is None:
                    found = build()
        return found


def lock_file(path: Path) -> Path:
    """The hidden file by which the operating system locks a path."""
    return path.with_name(f".{path.name}.lock")


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def repeated(action: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call ``action`` every so many seconds from a thread; failures of the storage are ignored."""
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
    """What the client of an object store complains of, in one line; None for any other error."""
    is_clients = type(err).__module__.partition(".")[0] in _CLIENTS and not isinstance(err, OSError)
    return (" ".join(str(err).split()) or type(err).__name__) if is_clients else None
