"""The live view of a search: one tidy line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from simreg_core.results.objectives import BestTrial
from simreg_core.results.schema import Status

MIN_DONE = 2  # a time that one item took says little


class SearchView:
    """Counts what happens in one phase of a search and shows it.

    On a terminal a single line is redrawn; otherwise a line is printed per finished item.

    Args:
        console: Where to show it (logs belong on stderr).
        item: What is counted, in the singular, for example ``"trial"``.
        total: Items in all.
        num_before: Items that were done before this process began.
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
        """Shown beside the counts."""
        self._started = time.monotonic()
        self._live = (
            Live(get_renderable=self._text, console=console, refresh_per_second=4)
            if console.is_terminal
            else None
        )

    def started(self, number: int) -> None:
        """An item began."""
        self.num_running += 1

    def finished(self, number: int, status: Status = "complete", reason: str | None = None) -> None:
        """An item ended."""
        self.num_running = max(0, self.num_running - 1)
        self.num_done += 1
        self.num_failed += status == "failed"
        if reason is not None:
            self.say(f"{self.item} {number} {status}: {reason}")
        if self._live is None:
            self.say(self.line())

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def line(self) -> str:
        """The view as text."""
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
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
