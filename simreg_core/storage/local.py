"""Storage on disks of this machine, network file systems included."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from simreg_core.storage.base import Heartbeat, Held, LockError, repeated

_HEARTBEAT_SECONDS = 1.0
_LOOK_SECONDS = 1.0  # is_held takes the lock for an instant, during which nobody is refused


class LocalStorage:
    """Temporary names that are renamed, and the operating system's file locks."""

    def require_reachable(self, path: Path) -> None:
        """A disk always answers."""

    def local_path(self, path: Path) -> Path | None:
        """The path itself."""
        return path

    @contextmanager
    def atomic_file(self, path: Path) -> Iterator[BinaryIO]:
        """Written under a hidden temporary name in the same folder, synced and renamed."""
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
        """The paths themselves."""
        return list(paths)

    def create_folder(
        self, folder: Path, fill: Callable[[Path], None], last: str, text: str
    ) -> bool:
        """Filled under a hidden temporary name beside it, and renamed."""
        draft = _draft(folder)
        try:
            draft.mkdir(parents=True)
            fill(draft)
            (draft / last).write_text(text, encoding="utf-8")
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
        """The operating system releases the lock when its process ends, however it ends.

        The heartbeat is written to ``path``.
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
                yield lambda: None  # the operating system takes no lock away
        finally:
            held.release()

    @contextmanager
    def _beating(self, path: Path, heartbeat: Heartbeat) -> Iterator[None]:
        written = ""

        def write() -> None:
            nonlocal written
            text = json.dumps(heartbeat(), indent=1)
            if text != written:
                with self.atomic_file(path) as stream:
                    stream.write(text.encode())
                written = text

        write()
        try:
            with repeated(write, _HEARTBEAT_SECONDS):
                yield
        finally:
            with suppress(OSError):
                write()

    def is_held(self, path: Path) -> bool:
        """Takes the lock for an instant, where there has been one."""
        file = lock_file(path)
        if not file.exists():
            return False
        try:
            with FileLock(file, timeout=0):
                return False
        except Timeout:
            return True

    def read_heartbeat(self, path: Path) -> dict[str, Any]:
        """Empty if the file is damaged, too."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def lock_file(path: Path) -> Path:
    """The hidden file that the operating system locks."""
    return path.with_name(f".{path.name}.lock")


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
