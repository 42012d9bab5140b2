"""The console output of a search: a live line on a terminal, plain lines elsewhere, and tables."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from simreg_core.results.objectives import BestTrial
from simreg_core.results.schema import Status

MIN_DONE = 2  # one item is too little to estimate the remaining time


class SearchView:
    """Counts the finished items of one phase of a search and shows the number.

    On a terminal a single line is redrawn. Otherwise a line is printed for every finished item.
    ``item`` names one in the singular, and ``num_before`` were finished before this process began.
    """

    def __init__(self, console: Console, item: str, total: int, num_before: int = 0) -> None:
        self.console = console
        self.item = item
        self.total = total
        self.num_running = 0
        self.num_before = num_before
        self.num_done = num_before
        self.num_failed = 0
        self.best: BestTrial | None = None
        """Shown next to the counts."""
        self._started = time.monotonic()
        self._live: AbstractContextManager[Any] = nullcontext()
        if console.is_terminal:
            self._live = Live(get_renderable=self._text, console=console, refresh_per_second=4)

    def started(self, number: int) -> None:
        """Count an item as running."""
        self.num_running += 1

    def finished(self, number: int, status: Status = "complete", reason: str | None = None) -> None:
        """Count an item as finished; print the reason if there is one."""
        self.num_running = max(0, self.num_running - 1)
        self.num_done += 1
        self.num_failed += status == "failed"
        if reason is not None:
            self.print(f"{self.item} {number} {status}: {reason}")
        if not self.console.is_terminal:
            self.print(self.line())

    def print(self, text: str) -> None:
        """Print a permanent line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def line(self) -> str:
        """The counts, the best trial and the times as text."""
        elapsed = time.monotonic() - self._started
        parts = [f"{self.item}s {self.num_done}/{self.total}"]
        if self.num_running:
            parts.append(f"{self.num_running} running")
        if self.num_failed:
            parts.append(f"{self.num_failed} failed")
        if self.best is not None:
            parts.append(f"best {self.best}")
        parts.append(f"{_clock(elapsed)} elapsed")
        num_here = self.num_done - self.num_before
        if MIN_DONE <= num_here and self.num_done < self.total:
            remaining = elapsed / num_here * (self.total - self.num_done)
            parts.append(f"about {_clock(remaining)} left")
        return ", ".join(parts)

    def _text(self) -> Text:
        return Text(self.line(), no_wrap=True, overflow="ellipsis")

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)


def console_table(title: str, headings: Iterable[str]) -> Table:
    """An empty table without lines; the column ``what`` is aligned left, the others right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "what" else "right", no_wrap=True)
    return table


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
