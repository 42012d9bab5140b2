"""Optuna's journal in an object store, where nothing can be appended to.

Every append is an object of its own, ``FIRST-LAST.jsonl`` by the numbers of its lines. From time to
time the one process that writes merges the newest into a larger one, and removes them after: a
reader takes, line by line, the object that reaches furthest, so both states read the same. The
study is read from some hundred objects, all at once, however many trials it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from optuna.storages.journal import BaseJournalBackend

from simreg_core.storage import location

_MERGE_AT = 256  # objects that are not full
_FULL = 8192  # lines of an object that is not merged any more
_ATTEMPTS = 5  # a reader may find an object gone that has been merged since it looked


class _Part(NamedTuple):
    """One object of the journal."""

    first: int
    last: int
    place: Path


class ObjectJournalBackend(BaseJournalBackend):
    """The journal in a folder of an object store, as it was when it was opened and since added to.

    Args:
        folder: Of the journal's objects, which need not be there.
        merges: Whether this process is the one that writes.

    Raises:
        OSError: the journal cannot be read, or lines are missing.
    """

    def __init__(self, folder: Path, *, merges: bool) -> None:
        self.folder = folder
        self._parts, self._logs = _load(folder)
        if merges:
            self._merge()

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """The lines from a number on, as far as this process knows them."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines; they are in the store when this returns.

        Raises:
            OSError: they cannot be written, or another process has written these numbers.
        """
        first = len(self._logs)
        part = self._part(first, first + len(logs) - 1)
        content = _content(logs)
        try:
            location.put(part.place, content, is_new=True)
        except FileExistsError:  # by our own first attempt, perhaps, whose answer was lost
            if part.place.read_bytes() != content:
                raise
        self._logs += [json.loads(line) for line in content.splitlines()]
        self._parts.append(part)
        if len(self._open_parts()) >= _MERGE_AT:
            self._merge()

    def _part(self, first: int, last: int) -> _Part:
        return _Part(first, last, self.folder / f"{first:010d}-{last:010d}.jsonl")

    def _open_parts(self) -> list[_Part]:
        """The newest objects, back to the last full one."""
        full = [n for n, part in enumerate(self._parts) if part.last - part.first + 1 >= _FULL]
        return self._parts[full[-1] + 1 :] if full else self._parts

    def _merge(self) -> None:
        merged = self._open_parts()
        if len(merged) < 2:
            return
        whole = self._part(merged[0].first, merged[-1].last)
        location.put(whole.place, _content(self._logs[whole.first : whole.last + 1]))
        self._parts = [*self._parts[: -len(merged)], whole]
        location.remove(part.place for part in merged)


def _load(folder: Path) -> tuple[list[_Part], list[dict[str, Any]]]:
    """The objects that make up the journal, and its lines."""
    for attempt in range(_ATTEMPTS):
        parts = _chain(folder)
        try:
            streams = location.read_all([part.place for part in parts])
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            break
    logs: list[dict[str, Any]] = []
    for part, stream in zip(parts, streams, strict=True):
        assert not isinstance(stream, Path)
        lines = [json.loads(line) for line in stream.read().splitlines()]
        if len(lines) != part.last - part.first + 1:
            raise OSError(f"{part.place}: {len(lines)} lines where its name says otherwise")
        logs += lines
    return parts, logs


def _chain(folder: Path) -> list[_Part]:
    """Objects without overlap that hold every line once; what a merge left over is not in it."""
    try:
        names = [place.name for place in folder.iterdir() if place.suffix == ".jsonl"]
    except (FileNotFoundError, NotADirectoryError):
        return []
    furthest: dict[int, int] = {}
    for name in names:
        first, last = (int(number) for number in name.removesuffix(".jsonl").split("-"))
        furthest[first] = max(last, furthest.get(first, -1))
    parts, line = [], 0
    while line in furthest:
        last = furthest[line]
        parts.append(_Part(line, last, folder / f"{line:010d}-{last:010d}.jsonl"))
        line = last + 1
    if any(first >= line for first in furthest):
        raise OSError(f"{folder}: line {line} of the study's journal is missing")
    return parts


def _content(logs: list[dict[str, Any]]) -> bytes:
    lines = (json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
    return "".join(lines).encode()
