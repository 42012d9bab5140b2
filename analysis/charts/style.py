"""Colours, markers and sizes that all charts share.

The palette is Okabe and Ito's, which colour-blind readers can tell apart. Vermilion is kept for the
baseline and ink for the front.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from analysis.results.load import Array

INK = "ink"  # the text's colour: black on white, white on black
MUTED = "muted"
BASELINE = "#D55E00"
CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
LINES = CATEGORIES[:5]  # yellow, the last, is too light for thin lines
TRIAL = CATEGORIES[0]
MODEL = CATEGORIES[3]

Symbol = Literal[
    "none",
    "circle",
    "circle-open",
    "cross",
    "diamond",
    "square",
    "square-open",
    "star",
    "triangle-down",
    "triangle-up",
    "x",
]
Dash = Literal["solid", "dash", "dot", "dashdot"]
# Diamonds mark the baseline, stars what is confirmed, x what misses a constraint.
SYMBOLS: tuple[Symbol, ...] = ("circle", "square", "triangle-up", "triangle-down", "cross")
DASHES: tuple[Dash, ...] = ("solid", "dot", "dashdot")  # dashes are the baseline's

MAX_LETTERS = 26


class Look(NamedTuple):
    """What distinguishes a line from others; the fields are those of a series."""

    color: str
    symbol: Symbol
    dash: Dash


BASELINE_LOOK = Look(BASELINE, "diamond", "dash")


def look(number: int) -> Look:
    """The look of the line with this number; the first 15 differ."""
    rounds, place = divmod(number, len(LINES))
    return Look(LINES[place], SYMBOLS[place], DASHES[rounds % len(DASHES)])


def point_size(num_points: int) -> float:
    """Diameter of a marker in pixels: 9 for a few points, 4 for thousands."""
    return float(np.clip(300 / np.sqrt(max(num_points, 1)), 4, 9))


def shorten(text: str) -> str:
    """The end of a long text, where the names of datasets differ."""
    return text if len(text) <= MAX_LETTERS else f"...{text[-MAX_LETTERS + 3 :]}"


def limits_of(values: Array) -> tuple[float, float] | None:
    """Limits of an axis that shows all finite values with some space; None if there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = float(finite.min()), float(finite.max())
    space = (high - low) * 0.06 or 0.02 * max(abs(high), 0.1)
    return low - space, high + space


def log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Ticks at powers of ten (and at 2 and 5 in a short range), at their decimal logarithms."""
    steps = (1.0,) if np.log10(high / low) > 2.5 else (1.0, 2.0, 5.0)
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    values = [step * 10.0**exponent for exponent in exponents for step in steps]
    return tuple(
        (float(np.log10(value)), f"{value:g}")
        for value in values
        if low * 0.999 <= value <= high * 1.001
    )
