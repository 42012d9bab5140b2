"""The Pareto front of a search: everything that its picture, CSV and console text render."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.results.load import Results, ResultsError
from analysis.results.parameters import Color, choose_color, varying_parameters
from analysis.results.seed_groups import (
    SeedGroup,
    baseline_groups,
    confirmed_groups,
    fresh_baselines,
    num_failed_confirmations,
    trial_networks,
)
from simreg_core.results.schema import METRICS, SPLITS, Metric
from simreg_core.statistics.pareto import hypervolume, non_dominated


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


class Counts(NamedTuple):
    """How many trials ended how."""

    complete: int
    pruned: int
    failed: int


class ParetoInfo(NamedTuple):
    """One search seen through two metrics; N complete trials, F of them on the front.

    Complete trials that lack a finite figure of a metric are left out, and counted.
    """

    study: str
    x: Axis
    y: Axis
    num_images: tuple[int, int]
    """Fewest and most images that a trial's accuracies are over."""
    counts: Counts
    table: pd.DataFrame
    """One row per complete trial, by number: trial, on_front, feasible, the varying parameters,
    the metrics of the split, seed, num_seeds."""
    points: NDArray[np.float64]
    """(N, 2), x and y."""
    feasible: NDArray[np.bool_]
    """(N,), False for trials that miss the search's constraints."""
    on_front: NDArray[np.bool_]
    """(N,), among the feasible trials."""
    num_seeds: tuple[int, int]
    """Fewest and most networks of a trial, whose mean it is."""
    standard_errors: NDArray[np.float64]
    """(N, 2), of a mean over seeds: their sample standard deviation by the root of their
    number. Of a single network, binomial: of a single accuracy exact, of a mean over
    attacks an upper bound (they share their images); NaN for metrics that are no accuracy."""
    parameters: tuple[str, ...]
    """Those that vary among the complete trials."""
    color: Color | None
    baselines: tuple[SeedGroup, ...]
    confirmed: tuple[SeedGroup, ...]
    """Only on the test split, which is all that a confirmation measures."""
    fresh_baselines: tuple[SeedGroup, ...]
    """Those that the confirmed trials are paired with by seed."""
    num_failed_confirmations: int
    """0 on the validation split."""
    hypervolume: float
    reference: tuple[float, float]
    """The corner that bounds the hypervolume: a useless network's value where there is one, else
    the worst value of a complete trial."""

    @property
    def num_left_out(self) -> int:
        """Complete trials that lack a finite figure of a metric."""
        return self.counts.complete - len(self.points)

    @property
    def split(self) -> str:
        """The split of both axes."""
        return self.x.split

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Both axes."""
        return self.x, self.y


def pareto_info(results: Results, x: str, y: str, split: str, color: str | None) -> ParetoInfo:
    """The Pareto front of the complete trials in two metrics of one split.

    Args:
        results: The search.
        x: Name of the horizontal metric.
        y: Name of the vertical metric.
        split: ``validation`` or ``test``.
        color: Parameter that colours the points; None picks one (see :func:`choose_color`).

    Raises:
        NoCompleteTrialsError: names the most frequent reason.
        ResultsError: unknown metric, split or parameter; a metric without direction; no complete
            trial has finite figures of both.
    """
    axes = (_axis("x", x, split), _axis("y", y, split))
    if x == y:
        raise ResultsError(f"x and y are both {x!r}; a front needs two metrics")
    columns = (axes[0].column, axes[1].column)
    complete = _with_figures(results, _complete_trials(results), columns, split)
    points = complete[list(columns)].to_numpy(dtype=np.float64)
    num_images = complete[f"num_{split}"].to_numpy(dtype=np.int64)
    maximize = [axis.maximize for axis in axes]
    feasible = complete["feasible"].to_numpy(dtype=np.bool_)
    on_front = np.zeros(len(points), dtype=np.bool_)
    on_front[feasible] = non_dominated(points[feasible], maximize)
    num_seeds = complete["num_seeds"].to_numpy(dtype=np.int64)
    reference = reference_point(axes, points)
    parameters = varying_parameters(complete)
    is_test = split == "test"
    return ParetoInfo(
        study=results.study,
        x=axes[0],
        y=axes[1],
        num_images=(int(num_images.min()), int(num_images.max())),
        counts=_counts(results.trials),
        table=_table(complete, on_front, feasible, parameters, split),
        points=points,
        feasible=feasible,
        on_front=on_front,
        num_seeds=(int(num_seeds.min()), int(num_seeds.max())),
        standard_errors=_standard_errors(results, complete, axes, points, num_images),
        parameters=parameters,
        color=choose_color(complete, color),
        baselines=baseline_groups(results, complete, (x, y), split),
        confirmed=confirmed_groups(results, columns) if is_test else (),
        fresh_baselines=fresh_baselines(results, columns) if is_test else (),
        num_failed_confirmations=num_failed_confirmations(results) if is_test else 0,
        hypervolume=hypervolume(points[feasible], reference, maximize),
        reference=reference,
    )


def _axis(which: str, name: str, split: str) -> Axis:
    if split not in SPLITS:
        raise ResultsError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    directed = [metric.name for metric in METRICS.values() if metric.direction is not None]
    if name not in METRICS:
        raise ResultsError(f"{which}: unknown metric {name!r}; allowed: {', '.join(directed)}")
    if name not in directed:
        raise ResultsError(
            f"{which}: {name} has no direction, so no front; allowed: {', '.join(directed)}"
        )
    return Axis(METRICS[name], split)


def _counts(trials: pd.DataFrame) -> Counts:
    return Counts(*(int((trials["status"] == status).sum()) for status in Counts._fields))


def _complete_trials(results: Results) -> pd.DataFrame:
    trials = results.trials
    complete = trials[trials["status"] == "complete"].reset_index(drop=True)
    if complete.empty:
        counts = _counts(trials)
        raise NoCompleteTrialsError(
            f"{results.folder}: none of {len(trials)} trials is complete "
            f"({counts.failed} failed, {counts.pruned} pruned); {_most_frequent_reason(trials)}"
        )
    return complete


def _most_frequent_reason(trials: pd.DataFrame) -> str:
    reasons = trials["reason"].fillna("").str.split().str.join(" ").replace("", "none recorded")
    tally = reasons.value_counts(sort=False).sort_index()
    return f"most frequent reason ({tally.max()} times): {str(tally.idxmax())[:300]}"


def _with_figures(
    results: Results, complete: pd.DataFrame, columns: Sequence[str], split: str
) -> pd.DataFrame:
    """The complete trials whose figures are finite; at least one."""
    needed = complete[[*columns, f"num_{split}"]].to_numpy(dtype=np.float64, na_value=np.nan)
    is_finite = np.isfinite(needed)
    usable = complete.iloc[np.flatnonzero(is_finite.all(axis=1))].reset_index(drop=True)
    if len(usable):
        return usable
    for column, known in zip(columns, is_finite.T, strict=False):
        if not known.any():
            measured = [
                metric.name
                for metric in METRICS.values()
                if metric.direction is not None and complete[f"{split}.{metric.name}"].notna().all()
            ]
            raise ResultsError(
                f"{results.folder}: no complete trial has a value of {column}; "
                f"metrics with values: {', '.join(measured) or 'none'}"
            )
    raise ResultsError(
        f"{results.folder}: no complete trial has finite {', '.join(columns)} and num_{split}"
    )


def reference_point(axes: tuple[Axis, Axis], points: NDArray[np.float64]) -> tuple[float, float]:
    """The corner that bounds a hypervolume.

    Of each metric the value of a useless network, or where there is no bound the worst among the
    points (N, 2).
    """
    observed = [
        values.min() if axis.maximize else values.max()
        for axis, values in zip(axes, points.T, strict=True)
    ]
    first, second = (
        float(seen) if axis.metric.worst is None else axis.metric.worst
        for axis, seen in zip(axes, observed, strict=True)
    )
    return first, second


def _standard_errors(
    results: Results,
    complete: pd.DataFrame,
    axes: tuple[Axis, Axis],
    points: NDArray[np.float64],
    num_images: NDArray[np.int64],
) -> NDArray[np.float64]:
    errors = np.full(points.shape, np.nan)
    for column, axis in enumerate(axes):
        if axis.is_accuracy:
            share = points[:, column]
            errors[:, column] = np.sqrt(share * (1 - share) / num_images)
    networks = trial_networks(results, complete).groupby("trial")
    over_seeds = networks[[axis.column for axis in axes]].sem()  # NaN for a single network
    of_trial = over_seeds.loc[complete["trial"]].to_numpy(dtype=np.float64)
    return np.where(np.isnan(of_trial), errors, of_trial)


def _table(
    complete: pd.DataFrame,
    on_front: NDArray[np.bool_],
    feasible: NDArray[np.bool_],
    parameters: Sequence[str],
    split: str,
) -> pd.DataFrame:
    metrics = [f"{split}.{name}" for name in METRICS]
    table = complete[["trial", *parameters, *metrics, "seed", "num_seeds"]].copy()
    table.insert(1, "on_front", on_front)
    table.insert(2, "feasible", feasible)
    return table
