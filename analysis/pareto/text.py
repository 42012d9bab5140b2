"""The front of a search as text; every number states what it is over."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.charts.modelled_front import model_text
from analysis.charts.wording import (
    axis_values,
    counts_text,
    goals,
    images_text,
    range_text,
    with_error,
)
from analysis.findings.fronts import ParetoInfo, by_axes
from analysis.results.parameters import format_value
from analysis.results.seed_groups import SeedGroup
from simreg_core.errors import counted
from simreg_core.results.delivered import Delivered


def pareto_text(
    info: ParetoInfo,
    found: Delivered | None = None,
    answer: str = "",
    objectives: Sequence[str] = (),
) -> str:
    """Counts, the front as a table, the baselines, the hypervolume, and how far to trust them.

    ``found`` is the front in the same two metrics; None: that of the measured values. ``answer``
    is the sentence of a confirmation. ``objectives`` are those of the search.
    """
    failed = info.num_failed_confirmations
    is_modelled = found is not None and found.is_modelled
    lines = [
        f"{info.study}: {counts_text(info)}; {info.split} split, {images_text(info.num_images)}",
        *_objective_lines(info, objectives),
        *(_model_lines(info, found) if found is not None and is_modelled else _front_lines(info)),
        *(["", model_text(found)] if found is not None else []),
        "",
        *([] if info.baselines else ["baseline: no curves that give both metrics"]),
        *_group_lines(info, info.baselines, "baseline"),
        *_group_lines(info, info.confirmed, "confirmed on test, trial"),
        *_group_lines(info, info.fresh_baselines, "its baseline on test, fresh seeds"),
        *([f"confirmation runs that failed and are left out: {failed}"] if failed else []),
        f"hypervolume of the measured values {info.hypervolume:.6g} with reference "
        f"point {axis_values(info.axes, info.reference, 6)}",
        _caveat(info),
        *(["", f"Confirmed: {answer}"] if answer else []),
    ]
    return "\n".join(lines)


def _objective_lines(info: ParetoInfo, objectives: Sequence[str]) -> list[str]:
    """What the search optimizes, if that is not the two metrics shown."""
    shown = [axis.metric.name for axis in info.axes]
    if not objectives or set(objectives) == set(shown):
        return []
    return [
        f"The search optimizes {', '.join(objectives)}; this front is in {' and '.join(shown)}."
    ]


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
    errors = "± binomial standard error"
    if info.num_seeds[1] > 1:
        errors = f"± standard error of the mean over {range_text(info.num_seeds)} seeds"
    title = f"Pareto front, {goals(info.axes)} ({errors} where given):"
    return [title, "", *align(_front_rows(info))]


def _front_rows(info: ParetoInfo) -> list[list[str]]:
    score = f"{info.split}.tradeoff_score"
    scores = [score] if score not in (info.x.column, info.y.column) else []
    rows = [["trial", *info.parameters, *_titles(info), *["tradeoff score" for _ in scores]]]
    for index in by_axes(info.points, info.on_front):
        trial = info.table.iloc[index]
        rows.append(
            [
                *(format_value(trial[name]) for name in ("trial", *info.parameters)),
                *map(with_error, info.points[index], info.standard_errors[index]),
                *(with_error(trial[name]) for name in scores),
            ]
        )
    return rows


def _titles(info: ParetoInfo) -> list[str]:
    return [axis.metric.title for axis in info.axes]


def _model_lines(info: ParetoInfo, found: Delivered) -> list[str]:
    if not found.on_front.any():
        return [f"{found.none_feasible()}: there is no Pareto front."]
    title = (
        f"Modelled Pareto front, {goals(info.axes)}: means over seeds with 95 % intervals, "
        "measured values in parentheses:"
    )
    return [title, "", *align(_model_rows(info, found))]


def _model_rows(info: ParetoInfo, found: Delivered) -> list[list[str]]:
    rows = [["trial", *info.parameters, *_titles(info)]]
    table = info.table.set_index("trial", drop=False)
    for row in by_axes(found.mean, found.on_front):
        trial = table.loc[found.trials[row]]
        parameters = (format_value(trial[name]) for name in ("trial", *info.parameters))
        rows.append([*parameters, *(found.entry(row, column) for column in (0, 1))])
    return rows


def _group_lines(info: ParetoInfo, groups: Sequence[SeedGroup], title: str) -> list[str]:
    """One line per group: mean and spread over its seeds, on both axes."""
    lines = []
    for group in groups:
        is_named = group.name and (len(groups) > 1 or title != "baseline")
        name = f"{title} {group.name}" if is_named else title
        seeds = counted(len(group.seeds), "seed")
        over = seeds if len(group.seeds) == 1 else f"mean ± SD of {seeds}"
        values = map(with_error, group.mean, group.std)
        pairs = zip(_titles(info), values, strict=True)
        lines.append(f"{name} ({over}): {', '.join(map(' '.join, pairs))}")
    return lines


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines with their columns under one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.rjust, row, widths)) for row in rows]
