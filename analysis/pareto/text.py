"""The front of a search as text; every number states what it is over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.charts.wording import counts_text, images_text, model_lines, range_text
from analysis.findings.fronts import Axis, ParetoInfo
from analysis.findings.modelled_front import NoiseAwareFront
from analysis.results.parameters import format_value
from analysis.results.seed_groups import SeedGroup


def pareto_text(
    info: ParetoInfo, model_front: NoiseAwareFront | None = None, *, with_raw: bool = True
) -> str:
    """Counts, the front as a table, the baselines, the hypervolume, and how far to trust them.

    Args:
        info: The search.
        model_front: The front by models of its two metrics, which follows the raw one.
        with_raw: False leaves the table of the raw front out.
    """
    lines = [
        f"{info.study}: {counts_text(info)}; {info.split} split, {images_text(info.num_images)}",
        *(_front_lines(info) if with_raw else []),
        *([""] if with_raw and model_front is not None else []),
        *(_model_front_lines(info, model_front) if model_front is not None else []),
        "",
        *_group_lines(info, info.baselines, "baseline"),
        *_group_lines(info, info.confirmed, "confirmed trial"),
        *_group_lines(info, info.fresh_baselines, "its baseline, fresh seeds"),
        *_failed_confirmation_lines(info.num_failed_confirmations),
        f"hypervolume {'of the raw front ' if model_front else ''}{info.hypervolume:.6g} "
        "with reference point "
        + ", ".join(
            f"{axis.metric.title} {value:.6g}"
            for axis, value in zip(info.axes, info.reference, strict=True)
        ),
        _caveat(info),
    ]
    return "\n".join(lines)


def error_text(info: ParetoInfo) -> str:
    """What the standard errors of trials are of."""
    if info.num_seeds[1] == 1:
        return "± binomial standard error"
    return f"± standard error of the mean over {range_text(info.num_seeds)} seeds"


def group_text(group: SeedGroup) -> str:
    """What the values of a group are over."""
    number = len(group.seeds)
    return "1 seed" if number == 1 else f"mean ± SD of {number} seeds"


def _caveat(info: ParetoInfo) -> str:
    seeds = "one seed" if info.num_seeds[1] == 1 else f"{range_text(info.num_seeds)} seeds"
    if info.split == "validation":
        return (
            f"These are the values that the search selected on, {seeds} per trial: a screening, "
            "not a result."
        )
    return (
        f"{seeds.capitalize()} per trial is a screening, and a front that is selected on test "
        "values is biased upwards: report confirmed trials."
    )


def _front_lines(info: ParetoInfo) -> list[str]:
    if not info.feasible.any():
        return ["No complete trial meets the search's constraints: there is no Pareto front."]
    return [
        f"Pareto front, {_goal(info.x)} against {_goal(info.y)} ({error_text(info)} where given):",
        "",
        *align(_front_rows(info)),
    ]


def _goal(axis: Axis) -> str:
    return f"{axis.metric.title} ({axis.metric.direction})"


def _front_rows(info: ParetoInfo) -> list[list[str]]:
    score = f"{info.split}.tradeoff_score"
    shows_score = score not in (info.x.column, info.y.column)
    header = ["trial", *info.parameters, info.x.metric.title, info.y.metric.title]
    rows = [[*header, "tradeoff score"] if shows_score else header]
    front = np.flatnonzero(info.on_front)
    for index in front[np.lexsort((info.points[front, 1], info.points[front, 0]))]:
        row = [format_value(info.table[name].iloc[index]) for name in ("trial", *info.parameters)]
        row += [
            _with_error(value, error)
            for value, error in zip(info.points[index], info.standard_errors[index], strict=True)
        ]
        rows.append([*row, _number(float(info.table[score].iloc[index]))] if shows_score else row)
    return rows


def _model_front_lines(info: ParetoInfo, front: NoiseAwareFront) -> list[str]:
    over = ", ".join(front.parameters) or "no parameter that varies"
    title = (
        f"Modelled front, {_goal(info.x)} against {_goal(info.y)}: Gaussian process of each metric "
        f"over {over} (mean ± SD of the model; P: probability of being on the front, "
        f"{front.num_draws} draws)"
    )
    if not front.on_front.any():
        return ["No complete trial meets the search's constraints: there is no modelled front."]
    return [f"{title}:", "", *align(_model_rows(info, front)), "", *model_lines(front)]


def _model_rows(info: ParetoInfo, front: NoiseAwareFront) -> list[list[str]]:
    labels = [axis.metric.title for axis in info.axes]
    raw = [f"raw {label}" for label in labels]
    rows = [["trial", *info.parameters, *labels, *raw, "on raw front", "P"]]
    table = info.table.set_index("trial")
    on_front = np.flatnonzero(front.on_front)
    for index in on_front[np.lexsort((front.means[on_front, 1], front.means[on_front, 0]))]:
        trial = int(front.trials[index])
        rows.append(
            [
                str(trial),
                *(format_value(table[name].loc[trial]) for name in info.parameters),
                *map(_with_error, front.means[index], front.deviations[index]),
                *map(_number, front.raw[index]),
                "yes" if front.on_raw_front[index] else "no",
                f"{front.probability[index]:.2f}",
            ]
        )
    return rows


def _group_lines(info: ParetoInfo, groups: Sequence[SeedGroup], title: str) -> list[str]:
    """One line per group: mean and spread over its seeds, on both axes."""
    if not groups and title == "baseline":
        return ["baseline: no curves that give both metrics"]
    lines = []
    for group in groups:
        is_named = group.name and (len(groups) > 1 or title != "baseline")
        name = f"{title} {group.name}" if is_named else title
        values = (
            f"{axis.metric.title} {value}"
            for axis, value in zip(info.axes, _spread(group), strict=True)
        )
        lines.append(f"{name} ({group_text(group)}): {', '.join(values)}")
    return lines


def _failed_confirmation_lines(number: int) -> list[str]:
    return [f"confirmation runs that failed and are left out: {number}"] if number else []


def _spread(group: SeedGroup) -> list[str]:
    std = group.std
    if std is None:
        return [_number(value) for value in group.mean]
    return [_with_error(value, sd) for value, sd in zip(group.mean, std, strict=True)]


def _with_error(value: float, error: float) -> str:
    return _number(value) if np.isnan(error) else f"{_number(value)} ± {error:.4f}"


def _number(value: float) -> str:
    # Adding 0.0 turns the rounded minus zero of a baseline's own cost into zero.
    return "-" if np.isnan(value) else f"{round(float(value), 4) + 0.0:.4f}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines with their columns under one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
