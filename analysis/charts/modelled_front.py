"""The modelled front in a panel, and what a front of models is, in words."""

from __future__ import annotations

import numpy as np

from analysis.charts.chart import Series, scatter
from analysis.charts.style import MODEL, MUTED
from analysis.charts.wording import number
from analysis.results.load import Array
from simreg_core.results.delivered import Delivered
from simreg_core.statistics.pareto import front_among

_WHY = (
    "One training is one noisy measurement, and the best of many measurements are lucky ones, so "
    "that a front of measured values promises more than its configurations keep. Here a Gaussian "
    "process of each metric uses all trials together and estimates what other seeds would give on "
    "average. The front is that of these estimates; the measured values stand beside them."
)


def model_series(found: Delivered, columns: tuple[int, int]) -> list[Series]:
    """The front in two metrics: band of intervals, lines to measured values, estimates."""
    front, some = found.on_front, list(columns)
    mean, measured = found.mean[front][:, some], found.measured[front][:, some]
    bounds = np.stack([found.low[front][:, some], found.high[front][:, some]])
    gaps = np.full(mean.shape, np.nan)
    x, y = np.stack([mean, measured, gaps], axis=1).reshape(-1, 2).T
    squares = scatter("modelled front", mean, bounds, color=MODEL, symbol="square")
    return [
        *_stairs(found, mean, bounds, columns),
        Series("from estimate to measured value", x, y, "line", MUTED, "none", "dot", reacts=False),
        squares._replace(trials=found.trials[front]),
    ]


def _stairs(
    found: Delivered, mean: Array, bounds: Array, columns: tuple[int, int]
) -> tuple[Series, Series]:
    """The band of intervals and the line of what a front (F, 2) attains, as staircases."""
    maximize = [found.metrics[column].direction == "maximize" for column in columns]
    line = np.flatnonzero(front_among(mean, np.ones(len(mean), dtype=np.bool_), maximize))
    line = line[np.argsort(mean[line, 0])]
    # Between two entries, y is that of the entry with the better x.
    steps = (slice(-1), slice(1, None)) if maximize[0] else (slice(1, None), slice(-1))
    x = np.repeat(mean[line, 0], 2)[steps[0]]
    y = np.repeat(mean[line, 1], 2)[steps[1]]
    band = np.repeat(bounds[:, line, 1], 2, axis=1)[:, steps[1]]
    if len(line) == 1:
        x, y, band = mean[line, 0], mean[line, 1], bounds[:, line, 1]
    stairs = Series("", x, y, "line", MODEL, "none", in_legend=False, reacts=False)
    return Series("95 % intervals", x, y, "band", MODEL, "none", y_bounds=band), stairs


def model_text(found: Delivered) -> str:
    """How well the metrics are modelled, or why the front is that of the measured values."""
    if found.problem:
        return f"The front is that of the measured values: {found.problem}."
    shares = ", ".join(
        f"{metric.title} {number(r2, 2)}"
        for metric, r2 in zip(found.metrics, found.r2, strict=True)
    )
    return (
        f"Models over {', '.join(found.parameters)}; share of the variance that they predict of "
        f"left-out trials (R2): {shares}."
    )


def model_caption(found: Delivered) -> str:
    """:func:`model_text`, with the reason for a modelled front."""
    return f"{_WHY} {model_text(found)}" if found.is_modelled else model_text(found)
