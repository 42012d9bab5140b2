"""Info objects as matplotlib figures. No pyplot, no global style, nothing read or computed."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from analysis.findings.fronts import Axis, ParetoInfo
from analysis.findings.modelled_front import NoiseAwareFront
from analysis.pareto.modelled_picture import draw_model_front
from analysis.pareto.text import counts_text, error_text, images_text, seeds_text
from analysis.results.parameters import CategoricalColor, ContinuousColor
from analysis.results.seed_groups import SeedGroup

# Okabe and Ito's palette, safe for colour-blind readers; vermilion and black are kept for the
# baseline and the front.
CATEGORY_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442")
CATEGORY_MARKERS = ("o", "s")
BASELINE_COLOR = "#D55E00"
BASELINE_MARKERS = ("D", "^", "v", "P")
FRONT_COLOR = "black"
NEUTRAL_COLOR = "0.45"
INFEASIBLE_MARKER = "x"
ERROR_COLOR = "0.78"
CONFIRMED_COLOR = "black"
CONFIRMED_MARKER = "*"
LABEL_SIDES = ((1, 1), (-1, -1), (1, -1), (-1, 1))
MAX_CATEGORY_LETTERS = 26
SIZE_INCHES = (7.2, 5.6)
DPI = 150


def draw_pareto(
    info: ParetoInfo, model_front: NoiseAwareFront | None = None, *, with_raw: bool = True
) -> Figure:
    """All complete trials, the front as a staircase, the baselines and the confirmed trials.

    Args:
        info: The search.
        model_front: The front by models of its two metrics, drawn beside the raw one.
        with_raw: False leaves the raw front and the errors of its trials out.

    Returns:
        A figure of 7.2 x 5.6 inches that belongs to no pyplot state.
    """
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    if with_raw:
        _draw_errors(axes, info)
    _draw_trials(axes, info)
    if with_raw:
        _draw_front(axes, info, "Pareto front" if model_front is None else "raw Pareto front")
    if model_front is not None:
        draw_model_front(axes, model_front)
    draw_baselines(axes, info.baselines)
    _draw_confirmed(axes, info)
    _describe(axes, info)
    add_legend(figure, axes)
    return figure


def _draw_errors(axes: Axes, info: ParetoInfo) -> None:
    front = info.on_front
    errors = info.standard_errors[front]
    if np.isnan(errors).all():  # of no points, too
        return
    axes.errorbar(
        info.points[front, 0],
        info.points[front, 1],
        xerr=None if np.isnan(errors[:, 0]).all() else errors[:, 0],
        yerr=None if np.isnan(errors[:, 1]).all() else errors[:, 1],
        fmt="none",
        ecolor=ERROR_COLOR,
        elinewidth=0.9,
        zorder=1,
        label=error_text(info),
    )


def _draw_trials(axes: Axes, info: ParetoInfo) -> None:
    size = point_size(len(info.points))
    color, feasible = info.color, info.feasible
    if color is None:
        axes.scatter(
            *_xy(info.points[feasible]), s=size, color=CATEGORY_COLORS[0], label="trial", zorder=3
        )
    elif isinstance(color, ContinuousColor):
        _draw_continuous(axes, info.points, color, feasible, size)
    else:
        _draw_categories(axes, info.points, color, feasible, size)
    if not feasible.all():
        axes.scatter(
            *_xy(info.points[~feasible]),
            s=size,
            marker=INFEASIBLE_MARKER,
            color=NEUTRAL_COLOR,
            linewidths=1.0,
            label="trial that misses the constraints",
            zorder=3,
        )


def _xy(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return points[:, 0], points[:, 1]


def _draw_continuous(
    axes: Axes,
    points: NDArray[np.float64],
    color: ContinuousColor,
    feasible: NDArray[np.bool_],
    size: float,
) -> None:
    drawn = axes.scatter(
        *_xy(points[feasible]),
        s=size,
        c=color.values[feasible],
        cmap="viridis",
        norm=_norm(color),
        edgecolors="white",
        linewidths=0.4,
        zorder=3,
    )
    # Its own entry in the legend: one point's colour would stand for all.
    axes.scatter([], [], s=size, color=NEUTRAL_COLOR, label="trial")
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.02)
    bar.set_label(color.parameter)


def _draw_categories(
    axes: Axes,
    points: NDArray[np.float64],
    color: CategoricalColor,
    feasible: NDArray[np.bool_],
    size: float,
) -> None:
    for code, label in enumerate(color.labels):
        rounds, place = divmod(code, len(CATEGORY_COLORS))
        of_label = points[(color.codes == code) & feasible]
        axes.scatter(
            of_label[:, 0],
            of_label[:, 1],
            s=size,
            color=CATEGORY_COLORS[place],
            marker=CATEGORY_MARKERS[rounds],
            edgecolors="white",
            linewidths=0.4,
            label=f"{color.parameter} = {shorten(label)}",
            zorder=3,
        )


def _norm(color: ContinuousColor) -> Normalize:
    low, high = color.values.min(), color.values.max()
    if color.scale == "log":
        return LogNorm(low, high)
    if color.scale == "symlog":
        return SymLogNorm(color.values[color.values > 0].min(), vmin=low, vmax=high)
    return Normalize(low, high)


def point_size(num_points: int) -> float:
    """Marker area in square points: 70 for a few points, 26 for hundreds."""
    return float(np.clip(340 / np.sqrt(num_points), 26, 70))


def shorten(text: str) -> str:
    """The end of a long text: names of data sets differ there."""
    kept = MAX_CATEGORY_LETTERS
    return text if len(text) <= kept else f"...{text[-kept + 3 :]}"


def _draw_front(axes: Axes, info: ParetoInfo, label: str) -> None:
    points = info.points[info.on_front]
    if not len(points):
        return
    points = points[np.lexsort((points[:, 1], points[:, 0]))]
    # Between two points of the front, the reachable y is that of the point with the better x.
    axes.plot(
        *points.T,
        color=FRONT_COLOR,
        linewidth=1.2,
        drawstyle="steps-pre" if info.x.maximize else "steps-post",
        marker="o",
        markersize=np.sqrt(point_size(len(info.points))) + 3.5,
        markerfacecolor="none",
        markeredgewidth=1.2,
        label=label,
        zorder=2,
    )


def draw_baselines(axes: Axes, groups: tuple[SeedGroup, ...]) -> None:
    """Each baseline with its seeds; of more than a handful only the means, under one name."""
    if len(groups) > len(BASELINE_MARKERS):
        _draw_many_baselines(axes, groups)
        return
    for group, marker in zip(groups, BASELINE_MARKERS, strict=False):
        name = "baseline" if len(groups) == 1 else f"baseline {group.name[:6]}"
        draw_group(axes, group, BASELINE_COLOR, marker, f"{name}, {seeds_text(group)}")
        if len(group.seeds) > 1:
            axes.scatter(
                group.points[:, 0],
                group.points[:, 1],
                s=26,
                marker="x",
                color=BASELINE_COLOR,
                linewidths=1.2,
                label="baseline, single seeds" if group is groups[0] else "_single seeds",
                zorder=5,
            )


def _draw_many_baselines(axes: Axes, groups: tuple[SeedGroup, ...]) -> None:
    means = np.array([group.mean for group in groups])
    axes.scatter(
        means[:, 0],
        means[:, 1],
        s=26,
        marker=BASELINE_MARKERS[0],
        facecolors="none",
        edgecolors=BASELINE_COLOR,
        linewidths=1.0,
        label=f"{len(groups)} baselines, mean over seeds",
        zorder=5,
    )


def _draw_confirmed(axes: Axes, info: ParetoInfo) -> None:
    for group in info.fresh_baselines:
        label = f"baseline, fresh seeds, {seeds_text(group)}"
        is_first = group is info.fresh_baselines[0]
        draw_group(
            axes, group, BASELINE_COLOR, CONFIRMED_MARKER, label if is_first else "_baseline"
        )
    # Confirmed trials often lie close together: from the top, each label on another side.
    for number, group in enumerate(sorted(info.confirmed, key=lambda group: -group.mean[1])):
        label = f"confirmed, {seeds_text(group)}" if number == 0 else "_confirmed"
        draw_group(axes, group, CONFIRMED_COLOR, CONFIRMED_MARKER, label)
        right, up = LABEL_SIDES[number % len(LABEL_SIDES)]
        axes.annotate(
            f"trial {group.name}",
            (float(group.mean[0]), float(group.mean[1])),
            xytext=(7 * right, 9 * up),
            textcoords="offset points",
            ha="left" if right > 0 else "right",
            va="center",
            fontsize=8,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=7,
        )


def draw_group(axes: Axes, group: SeedGroup, color: str, marker: str, label: str) -> None:
    """The mean of a group of seeds, with its standard deviation as error bars."""
    mean, std = group.mean, group.std
    if std is not None:
        axes.errorbar(
            mean[0],
            mean[1],
            xerr=std[0],
            yerr=std[1],
            fmt="none",
            ecolor=color,
            elinewidth=1.4,
            capsize=3,
            zorder=6,
        )
    axes.plot(
        mean[0],
        mean[1],
        color=color,
        marker=marker,
        markersize=12 if marker == CONFIRMED_MARKER else 8,
        markeredgecolor="white",
        markeredgewidth=0.8,
        linestyle="none",
        label=label,
        zorder=6,
    )


def _describe(axes: Axes, info: ParetoInfo) -> None:
    axes.set_xlabel(axis_label(info.x, info))
    axes.set_ylabel(axis_label(info.y, info))
    axes.set_title(f"{info.study}\n{counts_text(info)}", fontsize=10)
    axes.margins(0.08)
    style_axes(axes)


def style_axes(axes: Axes) -> None:
    """A faint grid behind the data, and no frame around it."""
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def axis_label(axis: Axis, info: ParetoInfo) -> str:
    """What an axis shows, of which images."""
    hint = "" if axis.maximize else ", smaller is better"
    return f"{axis.metric.label} ({axis.split}, {images_text(info)}{hint})"


def add_legend(figure: Figure, axes: Axes) -> None:
    """Below the axes, where it can hide no point."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=3 if max(map(len, labels)) <= 40 else 2,
        fontsize=8,
        frameon=False,
    )
