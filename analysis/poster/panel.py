"""The parts of a poster panel: computed elsewhere, drawn by :mod:`analysis.poster.layout`."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Line(NamedTuple):
    """One quantity of networks that differ in their seed alone, over P positions."""

    label: str
    x: NDArray[np.float64]
    """(P,), ascending."""
    mean: NDArray[np.float64]
    """(P,), over the seeds."""
    std: NDArray[np.float64]
    """(P,), sample standard deviation over the seeds; NaN with a single one."""
    is_baseline: bool = False


class Level(NamedTuple):
    """A value that does not depend on the position: the baseline's."""

    mean: float
    std: float
    """NaN with a single seed."""


class LinePlot(NamedTuple):
    """Lines over a common axis."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    scale: Literal["linear", "log"] = "linear"
    ticks: tuple[float, ...] = ()
    """Positions to label on the x axis; empty: matplotlib's choice."""
    level: Level | None = None
    reference: float | None = None
    """Position on the x axis to mark: the attack's reference epsilon."""


class DotPlot(NamedTuple):
    """Quantities of named variants, from the top; each line's x counts the variants from 0."""

    title: str
    x_label: str
    variants: tuple[str, ...]
    lines: tuple[Line, ...]


class ScatterPlot(NamedTuple):
    """Pairs of images in two similarities."""

    title: str
    x_label: str
    y_label: str
    points: NDArray[np.float64]
    """(P, 2), those that are drawn."""


Plot = LinePlot | DotPlot | ScatterPlot


class Panel(NamedTuple):
    """One panel of the poster."""

    name: str
    """Stem of its files."""
    title: str
    caption: str
    """Under which conditions its numbers hold."""
    plots: tuple[Plot, ...]
