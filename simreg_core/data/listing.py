"""Lists the image files of a folder, and counts the files that it leaves out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from simreg_core.errors import ConfigError, counted

# Formats that Pillow reads and that data sets come in.
SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".j2k", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
# Folders that file servers, archives, file systems and programs make, in small letters.
_LITTER = {
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot"),
    *("__macosx", "__pycache__", "lost+found", "$recycle.bin", "system volume information"),
}
_NUM_SHOWN = 4  # kinds of files in the line of those left out


class Listing:
    """Lists folders of one dataset, and counts the files that are not read, by the reason.

    Args:
        root: Folder of the dataset.

    Links are followed, as torchvision does, but never to a folder above.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()

    def left_out_text(self) -> str:
        """Number and kinds of the files that are not read; empty if there are none."""
        kinds = sorted(self.left_out.items(), key=lambda kind: (-kind[1], kind[0]))
        shown = [f"{count:,} {printable(reason)}" for reason, count in kinds[:_NUM_SHOWN]]
        if rest := sum(count for _, count in kinds[_NUM_SHOWN:]):
            shown.append(f"{rest:,} other")
        return f"{counted(self.left_out.total(), 'file')}: {', '.join(shown)}" if shown else ""

    def leave_out(self, folder: str | Path, reason: str) -> None:
        """Count all files below a folder, as far as they can be listed."""
        for _, _, files in os.walk(folder):
            self.left_out[reason] += len(files)

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in ``folder``, sorted, without litter."""
        return sorted(e.name for e in self._entries(folder) if _is_folder(e))

    def has_images(self, folder: Path) -> bool:
        """Whether an image file is directly in ``folder``."""
        return any(_is_image(e.name) and not _is_folder(e) for e in self._entries(folder))

    def count_others(self, folder: Path) -> None:
        """Count the files of ``folder`` itself and of the litter in it as left out."""
        for entry in self._entries(folder, counts=True):
            if not _is_folder(entry):
                self._require_no_broken_link(entry)
                self.left_out["outside of class folders"] += 1

    def images(self, folder: Path) -> list[str]:
        """Paths of the image files below a class folder, sorted."""
        above = [p for place in (folder, self.root) for p in (place, *place.resolve().parents)]
        above += [self.root.resolve(), folder.resolve(), *folder.absolute().parents]
        seen = {_identity(path) for path in above}
        return sorted(self._walk(folder, seen))

    def _walk(self, folder: Path, seen: set[tuple[int, int]]) -> Iterator[str]:
        for entry in self._entries(folder, counts=True):
            if _is_folder(entry):
                identity = _identity(entry.path)
                if identity in seen:
                    self.left_out["links to folders that are read already"] += 1
                    continue
                seen.add(identity)
                yield from self._walk(Path(entry.path), seen)
            elif _is_image(entry.name):
                yield entry.path
            else:
                suffix = os.path.splitext(entry.name)[1]
                self._require_no_broken_link(entry)
                self.left_out[f"*{suffix.lower()}" if suffix else "without a suffix"] += 1

    def _entries(self, folder: Path, counts: bool = False) -> Iterator[os.DirEntry[str]]:
        """What is in a folder, without hidden files and litter."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as err:
            raise ConfigError(f"{folder} cannot be read: {err.strerror or err}") from err
        for entry in entries:
            if not entry.name.startswith(".") and entry.name.lower() not in _LITTER:
                yield entry
            elif counts and entry.is_dir(follow_symlinks=False):
                is_hidden = entry.name.startswith(".")
                self.leave_out(entry.path, "hidden" if is_hidden else f"in {entry.name}")
            elif counts:
                self.left_out["hidden"] += 1

    def _require_no_broken_link(self, entry: os.DirEntry[str]) -> None:
        """Reject a link that may have led to a folder of images."""
        if not os.path.splitext(entry.name)[1] and not os.path.exists(entry.path):
            raise ConfigError(f"{entry.path} is a broken link")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where one may not look
        return False


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _identity(path: Path | str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def printable(name: str) -> str:
    """A name of a file or folder that can be printed in one line."""
    return name if name.isprintable() else ascii(name)
