"""The noise-aware front: the front by a model of each metric over the searched parameters.

A trial of one network is a draw from what its configuration gives with other seeds. The best of
many draws are lucky ones, so a front of raw values promises more than its configurations keep.
Here all trials together give a model of every metric over the parameters
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
from analysis.results.load import Array, Results, ResultsError
from analysis.results.parameters import DTYPES, varying_parameters
from simreg_core.errors import one_line
from simreg_core.registry import Metric
from simreg_core.statistics.gaussian_process import Surface, fit, pooled_variance
from simreg_core.statistics.parameter_points import parameter_points
from simreg_core.statistics.pareto import non_dominated

_SEED = 0  # of the models


class MetricModel(NamedTuple):
    """One metric and its model over the parameters."""

    metric: Metric
    num_trials: int
    """Complete trials with a value, feasible or not, that the model was fitted on."""
    surface: Surface
    """``surface.explains`` is False if the parameters predict the metric no better than its mean:
    do not trust such a model."""


class NoiseAwareFront(NamedTuple):
    """N complete, feasible trials with values of M metrics, raw and modelled."""

    split: str
    metrics: tuple[Metric, ...]
    parameters: tuple[str, ...]
    """What the metrics are modelled over: the searched parameters that vary, without the seed."""
    trials: NDArray[np.int64]
    """(N,), their numbers, ascending."""
    raw: Array
    """(N, M), as recorded."""
    means: Array
    """(N, M), of the models: what other seeds would give on average."""
    deviations: Array
    """(N, M), how uncertain the means are, one standard deviation; NaN for a single trial."""
    on_raw_front: NDArray[np.bool_]
    """(N,)."""
    on_front: NDArray[np.bool_]
    """(N,), no other trial's means dominate its means."""
    probability: Array
    """(N,), share of draws from the models in which the trial is on the front. Trials and metrics
    are drawn independently although close configurations move together, so that among many of them
    the probabilities are too small."""
    num_draws: int
    models: tuple[MetricModel, ...]
    """(M,)."""

    @property
    def is_trustworthy(self) -> bool:
        """Whether every metric's model explains something."""
        return all(model.surface.explains for model in self.models)

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
    """The front of the modelled means, and the raw one; equal results give equal fronts.

    The search's ``space.yaml`` names the searched parameters; without one they are those that vary
    among the complete trials. Metrics need a direction.

    Raises:
        NoCompleteTrialsError: no trial is complete.
        ConfigError: unknown split or metric, or a metric of which no complete trial has a value;
            ``space.yaml`` is damaged.
    """
    axes = [axis_of(name, split, results.metrics) for name in metrics]
    complete = complete_trials(results)
    parameters, points = _points(results, complete)
    raw = complete[[axis.column for axis in axes]].to_numpy(dtype=np.float64, na_value=np.nan)
    raw = np.where(np.isfinite(raw), raw, np.nan)
    models = []
    for axis, values in zip(axes, raw.T, strict=True):
        if np.isnan(values).all():
            raise ResultsError(f"{results.folder}: no complete trial has a value of {axis.column}")
        surface = fit(points, values, _known_noise(results, complete, axis.column), _SEED)
        models.append(MetricModel(axis.metric, int((~np.isnan(values)).sum()), surface))
    shown = complete["feasible"].to_numpy(dtype=np.bool_) & ~np.isnan(raw).any(axis=1)
    means = np.column_stack([model.surface.mean for model in models])[shown]
    deviations = np.column_stack([model.surface.std for model in models])[shown]
    maximize = [axis.maximize for axis in axes]
    draws = num_draws(means, deviations, maximize)
    return NoiseAwareFront(
        split=split,
        metrics=tuple(axis.metric for axis in axes),
        parameters=parameters,
        trials=complete.loc[shown, "trial"].to_numpy(dtype=np.int64),
        raw=raw[shown],
        means=means,
        deviations=deviations,
        on_raw_front=non_dominated(raw[shown], maximize),
        on_front=non_dominated(means, maximize),
        probability=front_probability(means, deviations, maximize, draws),
        num_draws=draws,
        models=tuple(models),
    )


def _points(results: Results, complete: pd.DataFrame) -> tuple[tuple[str, ...], Array]:
    """The parameters that are inputs of the models, and the trials in their unit cube."""
    search = read_space(results.folder).get("search")
    search = search or {key: {} for key in varying_parameters(complete)}
    parameters = complete[[*DTYPES]].astype(object)
    rows = parameters.where(parameters.notna(), None).to_dict("records")
    try:
        found = parameter_points(search, [{str(k): v for k, v in row.items()} for row in rows])
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        path = results.folder / "space.yaml"
        raise ResultsError(f"{path}: search is damaged: {one_line(err)}") from err
    return found.parameters, found.points


def _known_noise(results: Results, complete: pd.DataFrame, column: str) -> Array:
    """Variance of each trial's value by its networks' seeds, (N,); 0 for single networks.

    The binomial variance of an accuracy is no lower bound: all trials share their images.
    """
    networks = results.seeds[results.seeds["trial"].isin(complete["trial"])].dropna(subset=[column])
    values = networks[column].to_numpy(dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        return np.zeros(len(complete))
    variance = pooled_variance(values, networks["trial"].to_numpy(dtype=np.int64))
    return variance / complete["num_seeds"].to_numpy(dtype=np.float64)
