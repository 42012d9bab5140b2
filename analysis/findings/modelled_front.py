"""The noise-aware front: the front by a model of each metric over the searched parameters.

A trial of one network is a draw from what its configuration gives with other seeds. The best of
many draws are lucky ones, so a front of raw values promises more than its configurations keep.
Here every metric is modelled over the parameters, with all trials together
(:mod:`simreg_core.statistics.gaussian_process`), and the front is that of the modelled means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.findings.front_uncertainty import front_probability, num_draws
from analysis.findings.fronts import axis_of, complete_trials
from analysis.findings.study import read_space
from analysis.results.load import Results, ResultsError
from analysis.results.parameters import varying_parameters
from simreg_core.registry import Metric
from simreg_core.results.schema import PARAMETERS
from simreg_core.statistics.gaussian_process import Surface, fit, pooled_variance
from simreg_core.statistics.parameter_points import parameter_points
from simreg_core.statistics.pareto import non_dominated

_SEED = 0  # of the models


class MetricModel(NamedTuple):
    """How one metric was modelled, and how well."""

    metric: Metric
    num_trials: int
    """Complete trials with a value, whether feasible or not, that the model was fitted on."""
    noise_std: float
    """Standard deviation of a trial's noise as the model has it, in the metric's unit."""
    mean_absolute_error: float
    """Leave-one-out: of a trial's value predicted by the others."""
    r2: float
    """Leave-one-out; see :class:`simreg_core.statistics.gaussian_process.LeaveOneOut`."""
    coverage: float
    """Leave-one-out: share of values within their 95 % interval."""
    explains: bool
    """False: the parameters predict this metric no better than its mean. Do not trust its model."""


class NoiseAwareFront(NamedTuple):
    """N complete, feasible trials with values of M metrics, raw and modelled."""

    split: str
    metrics: tuple[Metric, ...]
    parameters: tuple[str, ...]
    """What the metrics are modelled over: the searched parameters that vary, without the seed."""
    trials: NDArray[np.int64]
    """(N,), their numbers, ascending."""
    raw: NDArray[np.float64]
    """(N, M), as recorded."""
    means: NDArray[np.float64]
    """(N, M), of the models: what other seeds would give on average."""
    deviations: NDArray[np.float64]
    """(N, M), how uncertain the means are, one standard deviation; NaN for a single trial."""
    on_raw_front: NDArray[np.bool_]
    """(N,)."""
    on_front: NDArray[np.bool_]
    """(N,), no other trial's means dominate its means."""
    probability: NDArray[np.float64]
    """(N,), share of draws from the models in which the trial is on the front. Trials and metrics
    are drawn independently, though close configurations move together: among many of them the
    probabilities are too small."""
    num_draws: int
    models: tuple[MetricModel, ...]
    """(M,)."""

    @property
    def is_trustworthy(self) -> bool:
        """Whether every metric's model explains something."""
        return all(model.explains for model in self.models)

    def table(self) -> pd.DataFrame:
        """One row per trial.

        Columns: ``trial``, ``on_raw_front``, ``on_model_front``, ``front_probability``, and for
        each metric ``SPLIT.METRIC``, ``SPLIT.METRIC.model`` and ``SPLIT.METRIC.model_sd``.
        """
        columns: dict[str, Any] = {
            "trial": self.trials,
            "on_raw_front": self.on_raw_front,
            "on_model_front": self.on_front,
            "front_probability": self.probability,
        }
        for index, metric in enumerate(self.metrics):
            name = f"{self.split}.{metric.name}"
            columns[name] = self.raw[:, index]
            columns[f"{name}.model"] = self.means[:, index]
            columns[f"{name}.model_sd"] = self.deviations[:, index]
        return pd.DataFrame(columns)


def noise_aware_front(results: Results, split: str, metrics: Sequence[str]) -> NoiseAwareFront:
    """The front of the modelled means, beside the raw one; equal results give equal fronts.

    Args:
        results: The search. Its ``space.yaml`` says which parameters are searched; without one
            they are those that vary among the complete trials.
        split: ``validation`` or ``test``.
        metrics: Names of metrics with a direction.

    Raises:
        NoCompleteTrialsError: no trial is complete.
        ResultsError: unknown split or metric, or a metric of which no complete trial has a value;
            ``space.yaml`` is damaged.
    """
    chosen = tuple(axis_of(name, split, results.metrics).metric for name in metrics)
    complete = complete_trials(results)
    names, points = _points(results, complete)
    columns = [f"{split}.{metric.name}" for metric in chosen]
    raw = _raw_values(results, complete, columns)
    surfaces = [
        fit(points, raw[:, index], _known_noise(results, complete, column), _SEED)
        for index, column in enumerate(columns)
    ]
    shown = complete["feasible"].to_numpy(dtype=np.bool_) & ~np.isnan(raw).any(axis=1)
    means = np.column_stack([surface.mean for surface in surfaces])[shown]
    deviations = np.column_stack([surface.std for surface in surfaces])[shown]
    maximize = [metric.direction == "maximize" for metric in chosen]
    draws = num_draws(means, deviations, maximize)
    return NoiseAwareFront(
        split=split,
        metrics=chosen,
        parameters=names,
        trials=complete.loc[shown, "trial"].to_numpy(dtype=np.int64),
        raw=raw[shown],
        means=means,
        deviations=deviations,
        on_raw_front=non_dominated(raw[shown], maximize),
        on_front=non_dominated(means, maximize),
        probability=front_probability(means, deviations, maximize, draws),
        num_draws=draws,
        models=tuple(
            _report(metric, surface, raw[:, index])
            for index, (metric, surface) in enumerate(zip(chosen, surfaces, strict=True))
        ),
    )


def _raw_values(
    results: Results, complete: pd.DataFrame, columns: Sequence[str]
) -> NDArray[np.float64]:
    """The recorded values, (N, M), NaN where they are not finite."""
    raw = complete[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)
    raw = np.where(np.isfinite(raw), raw, np.nan)
    for column, values in zip(columns, raw.T, strict=True):
        if np.isnan(values).all():
            raise ResultsError(f"{results.folder}: no complete trial has a value of {column}")
    return raw


def _points(
    results: Results, complete: pd.DataFrame
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The parameters that are inputs of the models, and the trials in their unit cube."""
    search = read_space(results.folder).get("search") or {
        key: {} for key in varying_parameters(complete)
    }
    parameters = complete[[column.name for column in PARAMETERS]].astype(object)
    rows = parameters.where(parameters.notna(), None).to_dict("records")
    try:
        found = parameter_points(search, [{str(k): v for k, v in row.items()} for row in rows])
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        reason = f"{type(err).__name__}: {err}"
        raise ResultsError(f"{results.folder / 'space.yaml'}: search is damaged: {reason}") from err
    return found.parameters, found.points


def _known_noise(results: Results, complete: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Variance of each trial's value by its networks' seeds, (N,); 0 for single networks.

    The binomial variance of an accuracy is no lower bound: all trials share their images.
    """
    networks = results.seeds[results.seeds["trial"].isin(complete["trial"])].dropna(subset=[column])
    values = networks[column].to_numpy(dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        return np.zeros(len(complete))
    variance = pooled_variance(values, networks["trial"].to_numpy(dtype=np.int64))
    return variance / complete["num_seeds"].to_numpy(dtype=np.float64)


def _report(metric: Metric, surface: Surface, values: NDArray[np.float64]) -> MetricModel:
    found = surface.leave_one_out
    return MetricModel(
        metric,
        int((~np.isnan(values)).sum()),
        surface.noise_std,
        found.mean_absolute_error,
        found.r2,
        found.coverage,
        surface.explains,
    )
