"""The noise-aware front: the front by a model of each metric over the searched parameters.

A trial of one network is a draw from what its configuration gives with other seeds. The best of
many draws are the lucky ones, so a front of raw figures promises more than its configurations keep.
Here every metric is modelled over the parameters by all trials together
(:mod:`simreg_core.statistics.gaussian_process`), and the front is that of the modelled means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.findings.fronts import NoCompleteTrialsError
from analysis.results.load import Results, ResultsError
from analysis.results.parameters import varying_parameters
from simreg_core.config.yaml_io import read_yaml_mapping
from simreg_core.errors import ConfigError
from simreg_core.results.schema import METRICS, PARAMETERS, SPLITS, Metric
from simreg_core.statistics.gaussian_process import Surface, fit, pooled_variance
from simreg_core.statistics.parameter_points import parameter_points
from simreg_core.statistics.pareto import non_dominated

NUM_DRAWS = 1000
_FEWER_DRAWS = 200  # of more than MANY_TRIALS
_MANY_TRIALS = 1000
_SURE = 4.0  # standard deviations beyond which a draw is left out of account
_DEFAULT_METRICS = ("clean_accuracy", "robust_accuracy")


class MetricModel(NamedTuple):
    """How one metric was modelled, and how well."""

    metric: Metric
    num_trials: int
    """Complete trials with a value, whether feasible or not, that the model was fitted on."""
    noise_std: float
    """What the model takes for noise: standard deviation of a trial's figure, in its unit."""
    mean_absolute_error: float
    """Leave-one-out: of a trial's figure predicted by the others."""
    r2: float
    """Leave-one-out; see :class:`simreg_core.statistics.gaussian_process.LeaveOneOut`."""
    coverage: float
    """Leave-one-out: share of figures within their 95 % interval."""
    explains: bool
    """False: the parameters predict this metric no better than its mean. Do not trust its model."""


class NoiseAwareFront(NamedTuple):
    """N complete, feasible trials with figures of M metrics, raw and modelled."""

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
    """(N,), share of draws from the models in which the trial is on the front. Each trial and
    metric is drawn by itself; close configurations really move together, so that among many of
    them the probabilities are rather too small."""
    num_draws: int
    models: tuple[MetricModel, ...]
    """(M,)."""
    num_left_out: int
    """Complete, feasible trials that lack a figure of a metric."""

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


def noise_aware_front(
    results: Results,
    split: str,
    metrics: Sequence[str] | None = None,
    *,
    num_draws: int | None = None,
    seed: int = 0,
) -> NoiseAwareFront:
    """The front of the modelled means, beside the raw one; equal results give equal fronts.

    Args:
        results: The search; what is searched is read from its ``space.yaml`` (without one, what
            varies among the complete trials).
        split: ``validation`` or ``test``.
        metrics: Names of metrics with a direction; None takes the search's objectives.
        num_draws: For the probabilities; None takes 1000, or 200 for more than 1000 trials.
        seed: Of the models and the draws.

    Raises:
        NoCompleteTrialsError: no trial is complete.
        ResultsError: unknown split or metric, or a metric of which no complete trial has a figure;
            ``space.yaml`` is damaged.
    """
    space = _space(results)
    chosen = _metrics(metrics or space.get("objectives") or _DEFAULT_METRICS, split)
    complete = results.trials[results.trials["status"] == "complete"].reset_index(drop=True)
    if complete.empty:
        raise NoCompleteTrialsError(
            f"{results.folder}: none of {len(results.trials)} trials is complete"
        )
    names, points = _points(results, complete, space)
    columns = [f"{split}.{metric.name}" for metric in chosen]
    raw = complete[columns].to_numpy(dtype=np.float64, na_value=np.nan)
    raw = np.where(np.isfinite(raw), raw, np.nan)
    for column, values in zip(columns, raw.T, strict=True):
        if np.isnan(values).all():
            raise ResultsError(f"{results.folder}: no complete trial has a value of {column}")
    surfaces = [
        fit(points, raw[:, index], _known_noise(results, complete, column), seed)
        for index, column in enumerate(columns)
    ]
    feasible = complete["feasible"].to_numpy(dtype=np.bool_)
    has_all = ~np.isnan(raw).any(axis=1)
    shown = feasible & has_all
    means = np.column_stack([surface.mean for surface in surfaces])[shown]
    deviations = np.column_stack([surface.std for surface in surfaces])[shown]
    maximize = [metric.direction == "maximize" for metric in chosen]
    num_draws = num_draws or (NUM_DRAWS if len(means) <= _MANY_TRIALS else _FEWER_DRAWS)
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
        probability=front_probability(means, deviations, maximize, num_draws, seed),
        num_draws=num_draws,
        models=tuple(
            _report(metric, surface, raw[:, index])
            for index, (metric, surface) in enumerate(zip(chosen, surfaces, strict=True))
        ),
        num_left_out=int((feasible & ~has_all).sum()),
    )


def front_probability(
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    maximize: Sequence[bool],
    num_draws: int,
    seed: int,
) -> NDArray[np.float64]:
    """Share of draws in which each point is on the front; every number is drawn by itself.

    Points that lie beyond four standard deviations behind another one are not drawn: they are on
    no front, and dominate nothing that the other does not.

    Args:
        means: (N, M), N >= 0.
        deviations: (N, M), normal; NaN counts as 0.
        maximize: (M,).
        num_draws: At least 1.
        seed: Of the draws.

    Returns:
        (N,), in [0, 1].
    """
    spread = np.nan_to_num(deviations) * np.where(maximize, 1.0, -1.0)
    worst, best = means - _SURE * spread, means + _SURE * spread
    ahead = worst[non_dominated(worst, maximize)]
    sign = np.where(maximize, 1.0, -1.0)
    is_behind = np.zeros(len(means), dtype=np.bool_)
    for point in ahead:
        is_behind |= ((point - best) * sign > 0).all(axis=1)
    drawn = np.flatnonzero(~is_behind)
    counts = np.zeros(len(means), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for _ in range(num_draws):
        draw = means[drawn] + spread[drawn] * rng.standard_normal((len(drawn), means.shape[1]))
        counts[drawn] += non_dominated(draw, maximize)
    return counts / num_draws


def _space(results: Results) -> Mapping[str, Any]:
    path = results.folder / "space.yaml"
    if not path.is_file():
        return {}
    try:
        return read_yaml_mapping(path)
    except ConfigError as err:
        raise ResultsError(str(err)) from err


def _metrics(names: Sequence[str], split: str) -> tuple[Metric, ...]:
    if split not in SPLITS:
        raise ResultsError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    directed = [metric.name for metric in METRICS.values() if metric.direction is not None]
    for name in names:
        if name not in directed:
            raise ResultsError(f"no front in {name!r}; allowed: {', '.join(directed)}")
    return tuple(METRICS[name] for name in names)


def _points(
    results: Results, complete: pd.DataFrame, space: Mapping[str, Any]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The complete trials in the unit cube, and the parameters that its inputs stand for."""
    search = space.get("search") or {key: {} for key in varying_parameters(complete)}
    parameters = complete[[column.name for column in PARAMETERS]].astype(object)
    rows = parameters.where(parameters.notna(), None).to_dict("records")
    try:
        found = parameter_points(search, [{str(k): v for k, v in row.items()} for row in rows])
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        reason = f"{type(err).__name__}: {err}"
        raise ResultsError(f"{results.folder / 'space.yaml'}: search is damaged: {reason}") from err
    return found.parameters, found.points


def _known_noise(results: Results, complete: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """Variance of each trial's figure that its networks' seeds show, (N,); 0 for single networks.

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
