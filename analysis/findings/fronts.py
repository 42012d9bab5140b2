"""The Pareto front of a search in two metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.findings.front_uncertainty import t_half_widths, wilson
from analysis.results.load import Array, Results, ResultsError
from analysis.results.parameters import Color, choose_color, varying_parameters
from analysis.results.seed_groups import (
    SeedGroup,
    baseline_groups,
    confirmed_groups,
    fresh_baselines,
    num_failed_confirmations,
    trial_networks,
)
from simreg_core.errors import counted
from simreg_core.registry import Metric
from simreg_core.results.schema import SPLITS
from simreg_core.statistics.pareto import front_among, hypervolume


class NoCompleteTrialsError(ResultsError):
    """Trials have ended, but none of them is complete."""


class Axis(NamedTuple):
    """One metric of one split."""

    metric: Metric
    split: str

    @property
    def column(self) -> str:
        """Name of the metric's column in the tables."""
        return f"{self.split}.{self.metric.name}"

    @property
    def maximize(self) -> bool:
        """Whether larger is better."""
        return self.metric.direction == "maximize"

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is a fraction of images, so that binomial errors apply."""
        return self.metric.name.startswith(("clean_accuracy", "robust_accuracy"))


class ParetoInfo(NamedTuple):
    """One search in two metrics; N complete trials with finite values of both."""

    study: str
    x: Axis
    y: Axis
    num_images: tuple[int, int]
    """Fewest and most images that a trial's accuracies are over."""
    counts: Counter[str]
    """Number of trials by status, also of those without values."""
    table: pd.DataFrame
    """One row per complete trial, by number: trial, on_front, feasible, the varying parameters,
    the metrics of the split, seed, num_seeds."""
    points: Array
    """(N, 2), x and y."""
    feasible: NDArray[np.bool_]
    """(N,), False for trials that miss the search's constraints."""
    on_front: NDArray[np.bool_]
    """(N,), among the feasible trials."""
    num_seeds: tuple[int, int]
    """Fewest and most networks of a trial, whose mean it is."""
    standard_errors: Array
    """(N, 2), over a trial's seeds. For a single network binomial, which is an upper bound for a
    mean over attacks, since they share their images; NaN for metrics that are no accuracy."""
    intervals: Array
    """(2, N, 2), ends of 95 % intervals of x and y: Student's t over a trial's seeds, Wilson's for
    an accuracy of a single network; NaN for other metrics of a single network."""
    parameters: tuple[str, ...]
    """Those that vary among the complete trials."""
    color: Color | None
    baselines: tuple[SeedGroup, ...]
    confirmed: tuple[SeedGroup, ...]
    """On the test split, which is all that a confirmation measures."""
    fresh_baselines: tuple[SeedGroup, ...]
    """Those that the confirmed trials are paired with by seed."""
    num_failed_confirmations: int
    hypervolume: float
    reference: Array
    """(2,), see :func:`reference_point`."""

    @property
    def num_left_out(self) -> int:
        """Complete trials that lack a finite value of a metric."""
        return self.counts["complete"] - len(self.points)

    @property
    def split(self) -> str:
        """The split of both axes."""
        return self.x.split

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Both axes."""
        return self.x, self.y

    @property
    def trials(self) -> NDArray[np.int64]:
        """(N,), the numbers of the trials."""
        return self.table["trial"].to_numpy(dtype=np.int64)


def pareto_info(results: Results, x: str, y: str, split: str, color: str | None) -> ParetoInfo:
    """The Pareto front of the complete trials in two metrics of one split.

    The parameter ``color`` colours the points; None picks one (see :func:`choose_color`).

    Raises:
        NoCompleteTrialsError: names the most frequent reason.
        ResultsError: unknown metric, split or parameter; a metric without direction; no complete
            trial has finite values of both.
    """
    axes = (axis_of(x, split, results.metrics, "x: "), axis_of(y, split, results.metrics, "y: "))
    if x == y:
        raise ResultsError(f"x and y are both {x!r}; a front needs two metrics")
    columns = (axes[0].column, axes[1].column)
    complete = _with_values(results, complete_trials(results), columns, split)
    points = complete[list(columns)].to_numpy(dtype=np.float64)
    num_images, num_seeds = complete[f"num_{split}"], complete["num_seeds"]
    feasible, maximize = complete["feasible"].to_numpy(dtype=np.bool_), [a.maximize for a in axes]
    on_front = front_among(points, feasible, maximize)
    errors, intervals = _uncertainty(results, complete, axes, points)
    parameters = varying_parameters(complete)
    metrics = [f"{split}.{name}" for name in results.metrics]
    table = complete[["trial", *parameters, *metrics, "seed", "num_seeds"]].copy()
    table.insert(1, "on_front", on_front)
    table.insert(2, "feasible", feasible)
    reference = reference_point(axes, points)
    on_test = (f"test.{x}", f"test.{y}")
    return ParetoInfo(
        study=results.study,
        x=axes[0],
        y=axes[1],
        num_images=(int(num_images.min()), int(num_images.max())),
        counts=Counter(results.trials["status"]),
        table=table,
        points=points,
        feasible=feasible,
        on_front=on_front,
        num_seeds=(int(num_seeds.min()), int(num_seeds.max())),
        standard_errors=errors,
        intervals=intervals,
        parameters=parameters,
        color=choose_color(complete, color),
        baselines=baseline_groups(results, complete, (x, y), split),
        confirmed=confirmed_groups(results, on_test),
        fresh_baselines=fresh_baselines(results, on_test),
        num_failed_confirmations=num_failed_confirmations(results),
        hypervolume=hypervolume(points[feasible], reference, maximize),
        reference=reference,
    )


def by_axes(points: Array, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows of a mask (N,), ordered by x, then y of their points (N, 2)."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    return order[mask[order]]


def check_split(split: str) -> None:
    """Refuse an unknown split with a :class:`ResultsError`."""
    if split not in SPLITS:
        raise ResultsError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")


def axis_of(name: str, split: str, metrics: Mapping[str, Metric], where: str = "") -> Axis:
    """The axis of a metric with a direction; ``metrics`` are those of the study, by name.

    Raises:
        ResultsError: unknown split or metric, or a metric without a direction; begins with
            ``where``.
    """
    check_split(split)
    directed = [metric.name for metric in metrics.values() if metric.direction is not None]
    if name in directed:
        return Axis(metrics[name], split)
    is_known = name in metrics
    problem = f"{name} has no direction, so no front" if is_known else f"unknown metric {name!r}"
    raise ResultsError(f"{where}{problem}; allowed: {', '.join(directed)}")


def complete_trials(results: Results) -> pd.DataFrame:
    """Rows of the complete trials, by number.

    Raises:
        NoCompleteTrialsError: there are none; names the most frequent reason.
    """
    trials = results.trials
    complete = trials[trials["status"] == "complete"].reset_index(drop=True)
    if complete.empty:
        counts = Counter(trials["status"])
        raise NoCompleteTrialsError(
            f"{results.folder}: none of {counted(len(trials), 'trial')} is complete "
            f"({counts['failed']} failed, {counts['pruned']} pruned); "
            f"{_most_frequent_reason(trials)}"
        )
    return complete


def _most_frequent_reason(trials: pd.DataFrame) -> str:
    if trials.empty:
        return "no trial has ended"
    reasons = trials["reason"].fillna("").str.split().str.join(" ").replace("", "none recorded")
    tally = reasons.value_counts(sort=False).sort_index()
    return f"most frequent reason ({tally.max()} x): {str(tally.idxmax())[:300]}"


def finite_rows(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows whose values in all columns are finite, numbered from 0."""
    values = rows[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)
    finite: pd.DataFrame = rows[np.isfinite(values).all(axis=1)].reset_index(drop=True)
    return finite


def _with_values(
    results: Results, complete: pd.DataFrame, columns: Sequence[str], split: str
) -> pd.DataFrame:
    """The complete trials whose values are finite; at least one."""
    usable = finite_rows(complete, [*columns, f"num_{split}"])
    if len(usable):
        return usable
    names = [m for m in results.metrics if complete[f"{split}.{m}"].notna().any()]
    for column in columns:
        if finite_rows(complete, [column]).empty:
            raise ResultsError(
                f"{results.folder}: no complete trial has a value of {column}; "
                f"metrics with values: {', '.join(names) or 'none'}"
            )
    raise ResultsError(
        f"{results.folder}: no complete trial has finite {', '.join(columns)} and num_{split}"
    )


def reference_point(axes: Sequence[Axis], points: Array) -> Array:
    """The corner that bounds a hypervolume, (M,).

    For each metric the value of a useless network, or if it has no bound the worst among the
    points (N, M).
    """
    seen = np.where([axis.maximize for axis in axes], points.min(axis=0), points.max(axis=0))
    known = [axis.metric.worst for axis in axes]
    pairs = zip(known, seen, strict=True)
    return np.array([observed if worst is None else worst for worst, observed in pairs])


def _uncertainty(
    results: Results, complete: pd.DataFrame, axes: Sequence[Axis], points: Array
) -> tuple[Array, Array]:
    """Standard errors (N, 2) and the ends of 95 % intervals (2, N, 2); see :class:`ParetoInfo`."""
    num_images = complete[f"num_{axes[0].split}"].to_numpy(dtype=np.int64)
    num_seeds = complete["num_seeds"].to_numpy(dtype=np.int64)
    networks = trial_networks(results, complete).groupby("trial")
    over_seeds = networks[[axis.column for axis in axes]].sem()  # NaN for a single network
    errors = over_seeds.loc[complete["trial"]].to_numpy(dtype=np.float64, copy=True)
    accuracies = [column for column, axis in enumerate(axes) if axis.is_accuracy]
    for column in accuracies:
        share, own = points[:, column], errors[:, column]
        binomial = np.sqrt(share * (1 - share) / num_images)
        errors[:, column] = np.where(np.isnan(own), binomial, own)
    half = t_half_widths(num_seeds)[:, None] * errors
    bounds = np.stack([points - half, points + half])
    single = num_seeds == 1
    for column in accuracies:
        share = points[single, column].clip(0, 1)
        bounds[:, single, column] = wilson(share, num_images[single])
    return errors, bounds
