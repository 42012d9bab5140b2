"""What is said of a mistake in a cluster file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake: the dotted path of its key, and what was found and is allowed."""

    path: str
    message: str
