"""Texts of charts as matplotlib draws them literally.

Matplotlib takes what stands between two ``$`` for a formula, and fails if it is none. Names of
datasets and studies may have any characters, and no chart has a formula.
"""

from __future__ import annotations

import textwrap
from typing import Any, TypeVar, cast

from analysis.charts.chart import Chart, Dimension, ParallelChart

T = TypeVar("T")


def literal(text: str) -> str:
    """A text that is drawn as it is."""
    return text.replace("$", r"\$")


def literal_chart(part: T) -> T:
    """A chart, or a part of one, with literal texts.

    Notes and the dimensions of parallel coordinates stay as they are: their lines are broken later,
    by :func:`wrapped`, which must not part a ``$`` from its escape.
    """
    changed: Any = part
    if isinstance(part, str):
        changed = literal(part)
    elif isinstance(part, tuple) and not isinstance(part, Dimension):
        values = [literal_chart(value) for value in part]
        changed = type(part)._make(values) if hasattr(part, "_make") else tuple(values)
        if isinstance(part, Chart | ParallelChart):
            changed = changed._replace(note=part.note)
    return cast(T, changed)


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text, literal."""
    return [literal(line) for line in textwrap.wrap(text, width)]
