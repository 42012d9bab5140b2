"""Which files are on a machine of a cluster: what file mounts bring and commands make."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tuner.cluster_shell import Call, place_of

# Their arguments may be what they make.
_MAKERS = {
    *("mkdir", "touch", "tee", "cp", "mv", "ln", "install", "rsync", "scp", "tar", "unzip", "git"),
    *("curl", "wget", "aws", "gsutil", "gcloud", "venv", "virtualenv"),
}
_ASKING = {"test", "[", "[[", "rm", "echo", "printf"}  # and theirs need not be there
_PARTS_OF_A_PROJECT = ("pyproject.toml", "setup.py")


class Machine:
    """A machine's files, as far as they are known offline.

    Args:
        config: A cluster file's content, of Ray's schema.
        folder: Where the file is: relative sources of file mounts start there.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        user = config.get("auth", {}).get("ssh_user", "ubuntu")
        home = "/root" if user == "root" else f"/home/{user}"
        self._home = re.compile(rf"^{re.escape(home)}(?=/|$)")
        self._mounts = {
            PurePosixPath(self.place(str(to))): local_path(source, folder)
            for to, source in config.get("file_mounts", {}).items()
        }
        self._made: set[PurePosixPath] = set()

    def place(self, path: str, folder: str = "~") -> str:
        """``path`` from ``~`` on if it is in the home of the cluster's user, else absolute."""
        return self._home.sub("~", place_of(path, folder))

    def note(self, call: Call) -> None:
        """Remember what a call may make."""
        made = list(call.outputs)
        for reading in call.readings():
            if reading.words and reading.words[0] in _MAKERS:
                # git clone and curl -O make what the address ends in.
                made += [*reading.words[1:], *(w.rpartition("/")[2] for w in reading.words[1:])]
        for path in made:
            if path and not path.startswith("-"):
                self._made.add(PurePosixPath(self.place(path.removesuffix(".git"), call.folder)))

    def has(self, place: str) -> bool:
        """Whether a mount brings a file or folder, or a command may have made it."""
        path = PurePosixPath(place)
        if self._made.intersection((path, *path.parents)):
            return True
        if any(path in target.parents for target in self._mounts):
            return True
        source = self._source(place)
        # A source that is not here is reported as such; what is in it is unknown.
        return source is not None and (exists(source[1]) or not exists(source[0]))

    def _source(self, place: str) -> tuple[Path, Path] | None:
        """The source of the mount that covers a place, and the place's own source."""
        path = PurePosixPath(place)
        for target in (path, *path.parents):
            if target in self._mounts:
                return self._mounts[target], self._mounts[target] / path.relative_to(target)
        return None

    def read(self, place: str) -> str | None:
        """The text of a file that a mount brings, or None."""
        source = self._source(place)
        try:
            return source[1].read_text(encoding="utf-8") if source else None
        except (OSError, ValueError):
            return None

    def missing_of_project(self, place: str) -> str | None:
        """The first file or folder that a Python project lacks to be installed, or None."""
        found = [f"{place}/{name}" for name in _PARTS_OF_A_PROJECT if self.has(f"{place}/{name}")]
        if not found:
            return f"{place}/{_PARTS_OF_A_PROJECT[0]}"
        parts = _parts(self.read(f"{place}/pyproject.toml") or "")
        return next((path for part in parts if not self.has(path := f"{place}/{part}")), None)

    def missing_of_words(self, call: Call) -> Iterator[str]:
        """Places that a call names in the folders that mounts fill, and that are not there.

        The values of long options are left out: they may be a place for results.
        """
        if call.words[0] in _ASKING:
            return
        homes = [target.parts for target in self._mounts if target.parts[:1] == ("~",)]
        filled = {parts[1] for parts in homes if len(parts) > 1 and parts[1][0] != "."}
        for before, word in zip(["", *call.words], call.words, strict=False):
            is_value = before.startswith("--") and "=" not in before
            if is_value or not re.match(r"[~/]|\$\{?HOME", word):
                continue
            place = self.place(word, call.folder)
            home, *parts = PurePosixPath(place).parts
            is_below = home == "~" and len(parts) > 1 and parts[0] in filled
            if is_below and not re.search(r"[*?\[{$\s]", place) and not self.has(place):
                yield place


def exists(path: Path) -> bool:
    """Whether a path is there; no path that cannot be one is."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a null byte
        return False


def local_path(source: object, folder: Path) -> Path:
    """The path of a mount's source on this machine."""
    try:
        return folder / Path(str(source)).expanduser()
    except RuntimeError:  # no such user
        return folder / str(source)


def _parts(pyproject: str) -> Sequence[str]:
    """What ``pyproject.toml`` says that there is: packages, the readme, licences."""
    try:
        tree = tomllib.loads(pyproject)
    except tomllib.TOMLDecodeError:
        return []
    project, tools = tree.get("project", {}), tree.get("tool", {}).get("setuptools", {})
    parts = [project.get("readme"), *_list(project.get("license-files"))]
    parts += [str(name).replace(".", "/") for name in _list(tools.get("packages"))]
    return [part for part in parts if isinstance(part, str) and not re.search(r"[*?\[]", part)]


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []
