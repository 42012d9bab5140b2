"""The interface of storage: where a local disk and an object store differ.

A location of either kind is handled as a :class:`pathlib.Path`, and read, listed and removed by its
methods. Everything else is asked of its :class:`Storage`, which
:func:`~simreg_core.storage.location.storage_of` returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

Heartbeat = Callable[[], Mapping[str, Any]]
"""Returns what the holder of a lock shows to other processes; called from another thread."""

_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "google", "gcsfs")
"""Packages whose exceptions, like OSError, mean that a store cannot be used."""


class Held(RuntimeError):
    """Another process holds the lock."""


class LockError(OSError):
    """The lock cannot be written."""


class LeaseLost(OSError):
    """A lock was not renewed in time, and another process has taken it."""


class Storage(Protocol):
    """Files that are whole or absent, folders that appear at once, and locks.

    Besides OSError, every method may raise an error for which :func:`is_store_error` is true.
    """

    def require_reachable(self, path: Path) -> None:
        """Check that the storage answers.

        Raises:
            ConfigError: no such bucket, no credentials, no permission or no network.
        """

    def local_path(self, path: Path) -> Path | None:
        """The path for libraries that append to files; None where nothing can be appended to."""

    def atomic_file(self, path: Path) -> AbstractContextManager[BinaryIO]:
        """A stream whose content becomes ``path`` when the block ends without an exception.

        Missing folders are created.
        """

    def read_all(self, paths: Sequence[Path]) -> list[Path | BinaryIO]:
        """Files in a form that any library reads: local paths, or content fetched in parallel."""

    def create_folder(
        self, folder: Path, fill: Callable[[Path], None], last: str, text: str
    ) -> bool:
        """Create a folder whole or not at all.

        Args:
            folder: Where to create it.
            fill: Writes files into the folder that it is called with. In an object store, a folder
                that is taken meanwhile gets them too, so they must be the same every time.
            last: Name of one more file. A folder without it is not one of results.
            text: Content of that file.

        Returns:
            Whether it was created; False if something is there.
        """

    def remove_folder(self, folder: Path) -> None:
        """Remove a folder and everything in it."""

    def lock(
        self, path: Path, *, waits: bool = True, heartbeat: Heartbeat | None = None
    ) -> AbstractContextManager[Callable[[], None]]:
        """Hold the lock of a path for the block; nodes that share the storage share its locks.

        Args:
            path: Any name; nothing needs to exist there.
            waits: Wait until another holder releases it, instead of raising :class:`Held`.
            heartbeat: What :meth:`read_heartbeat` returns elsewhere, updated every few seconds.

        Returns:
            On entering, a function to call before a write. It raises :class:`LeaseLost` once
            another process has taken the lock.

        Raises:
            Held: another process holds the lock.
            LockError: the lock cannot be written.
            LeaseLost: at the end of the block, another process has taken the lock.
        """

    def is_held(self, path: Path) -> bool:
        """Whether a process holds the lock of a path now."""

    def read_heartbeat(self, path: Path) -> dict[str, Any]:
        """The last heartbeat of the last holder; empty if there is none."""


@contextmanager
def repeated(action: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call ``action`` every so many seconds from a thread; it is skipped while a store fails."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(seconds):
            try:
                action()
            except Exception as err:
                if store_problem(err) is None:
                    raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def store_problem(err: BaseException) -> str | None:
    """What is wrong with the storage, in one line; None if the error is about something else."""
    package = type(err).__module__.partition(".")[0]
    if not isinstance(err, OSError) and package not in _CLIENTS:
        return None
    return " ".join(str(err).split()) or type(err).__name__


def is_store_error(err: BaseException) -> bool:
    """Whether an error comes from the client of an object store and is not an OSError."""
    return not isinstance(err, OSError) and store_problem(err) is not None
