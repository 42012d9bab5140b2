"""Rendered reports in memory, each kept until a file of its study changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from analysis.serve.studies import digest, find_studies, study_version
from simreg_core.errors import one_line
from simreg_core.results.schema import SPLITS

Render = Callable[[Path, str], str]
"""The report of a study's folder and a split, as a whole HTML page."""

MAX_PAGES = 16  # kept in memory, a few MB each


class Page(NamedTuple):
    """A rendered report, of the files as they were when its rendering began."""

    version: str
    html: str


class Reports:
    """The reports of the studies below a folder; one is rendered at a time."""

    def __init__(self, root: Path, render: Render) -> None:
        self._root = root
        self._render = render
        self._rendering = threading.Lock()  # held to change the two below
        self._pages: dict[tuple[Path, str], Page] = {}
        self._failures: dict[tuple[Path, str], tuple[str, str]] = {}

    def page(self, folder: Path, split: str) -> Page:
        """The report of a study as its files are now."""
        found = self._kept(folder, split)
        if found is not None:
            return found
        with self._rendering:
            found = self._kept(folder, split)  # another request may have waited for the same
            if found is not None:
                return found
            # Before the files are read: what changes meanwhile makes the page an old one.
            version = study_version(folder, self._root)
            self._pages.pop((folder, split), None)
            try:
                page = Page(version, self._render(folder, split))
            except Exception as err:
                self._failures[folder, split] = version, one_line(err)
                raise
            self._failures.pop((folder, split), None)
            self._pages[folder, split] = page
            for oldest in list(self._pages)[:-MAX_PAGES]:
                del self._pages[oldest]
            return page

    def _kept(self, folder: Path, split: str) -> Page | None:
        version, found = study_version(folder, self._root), self._pages.get((folder, split))
        return found if found is not None and found.version == version else None

    def problem(self, folder: Path) -> str | None:
        """Why a report of a study's files as they are now could not be made, if one was tried."""
        for split in SPLITS:
            version, message = self._failures.get((folder, split), ("", None))
            if message and version == self.version(folder):
                return f"no {split} report: {message}"
        return None

    def version(self, folder: Path) -> str:
        """Version of a study's files, or of what keeps them from being listed."""
        try:
            return study_version(folder, self._root)
        except Exception as err:  # of one study, which must not hide the others
            return digest(str(err))

    def index_version(self) -> str:
        """Version of everything that the index shows."""
        studies = find_studies(self._root).items()
        lines = (f"{name}\0{self.version(f)}\0{self.problem(f)}" for name, f in studies)
        return digest("\n".join(lines))
