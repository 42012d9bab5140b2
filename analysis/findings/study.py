"""One search, read once: its usable trials and how noisy they are.

N usable trials (complete, with finite objectives on the split), M objectives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.findings.front_uncertainty import front_probability, num_draws
from analysis.findings.fronts import Axis, ParetoInfo, front_among, pareto_info
from analysis.results.evidence import Audit, Confirmation, read_audits, read_confirmation
from analysis.results.load import Results, ResultsError, load_started
from analysis.results.parameters import Array, varying_parameters
from simreg_core.config.yaml_io import read_yaml_mapping
from simreg_core.errors import ConfigError
from simreg_core.registry import Metric
from simreg_core.results.objectives import ranking_metric
from simreg_core.results.schema import PARAMETERS, SPLITS
from simreg_core.results.study_lock import read_heartbeat

ACCURACIES = ("clean_accuracy", "robust_accuracy")
_MAX_SEARCHED = 1000  # trials among which warm starts are looked for; they come first
_PARAMETER_NAMES = {column.name for column in PARAMETERS}


class Study(NamedTuple):
    """One search as its report sees it."""

    folder: Path
    split: str
    results: Results
    space: Mapping[str, Any]
    """Its space file; empty where there is none."""
    objectives: tuple[str, ...]
    """Metrics that span the front: those of the search, or the accuracies if it has only one."""
    searched: tuple[str, ...]
    """The search's own objectives; empty if unknown."""
    parameters: tuple[str, ...]
    """Those that vary among all trials."""
    trials: pd.DataFrame
    """The N usable trials, by number."""
    warm_starts: NDArray[np.int64]
    """Rows of the usable trials that the search was given to start with."""
    num_unusable: int
    """Complete trials that lack a finite value of an objective."""
    pairs: tuple[ParetoInfo, ...]
    """The usable trials in every two of the first three objectives; empty if N = 0. Their fronts
    are those of two objectives only; see ``on_front``."""
    points: Array
    """(N, M)."""
    errors: Array
    """(N, M), standard errors over seeds, of single networks binomial; NaN where unknown."""
    noise: Array
    """(N, M), ``errors``, but for single networks at least the SD over the baseline's seeds."""
    baseline: tuple[Array, Array, int] | None
    """Mean (M,), sample SD over seeds (M,; NaN if one) and their number, of the first baseline;
    NaN for metrics that its curves do not give, None if they give none."""
    num_baselines: int
    feasible: NDArray[np.bool_]
    """(N,)."""
    on_front: NDArray[np.bool_]
    """(N,), by all objectives, among the feasible."""
    probability: Array
    """(N,), of being on the front under ``noise``; 0 for the infeasible."""
    draws: int
    confirmation: Confirmation
    audits: tuple[Audit, ...]
    heartbeat: Mapping[str, Any]
    """The last heartbeat of the search; empty if there is none."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What was measured, by name."""
        return self.results.metrics

    @property
    def axes(self) -> tuple[Axis, ...]:
        """One per objective."""
        return tuple(Axis(self.metrics[name], self.split) for name in self.objectives)

    @property
    def maximize(self) -> list[bool]:
        """One per objective."""
        return [axis.maximize for axis in self.axes]

    @property
    def front(self) -> NDArray[np.int64]:
        """Rows of the front, by score (or first objective), best first."""
        rows = np.flatnonzero(self.on_front)
        return rows[np.argsort(-self.score[rows], kind="stable")]

    @property
    def score_name(self) -> str:
        """The metric that ranks trials if it is known, else the first objective."""
        name = ranking_metric(self.searched)
        known = self.trials[f"{self.split}.{name}"].notna().any()
        return name if known else self.objectives[0]

    @property
    def score(self) -> Array:
        """(N,), larger is better; NaN where a trial has none."""
        sign = 1.0 if self.metrics[self.score_name].direction == "maximize" else -1.0
        return sign * numbers(self.trials, f"{self.split}.{self.score_name}")


def numbers(rows: pd.DataFrame, column: str) -> Array:
    """A numeric column as floats, null as NaN."""
    return rows[column].to_numpy(dtype=np.float64, na_value=np.nan)


def load_study(folder: Path, split: str) -> Study:
    """Read the folder of a search, which may still be running.

    Args:
        folder: ``OUTPUT/NAME``.
        split: ``validation`` or ``test``.

    Raises:
        ResultsError: it is no search's folder, or a table in it is unusable; an unknown split.
    """
    if split not in SPLITS:
        raise ResultsError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    results = load_started(folder)
    space = read_space(folder)
    searched = _searched_objectives(space, results.metrics)
    objectives = searched if len(searched) > 1 else ACCURACIES
    complete = results.trials[results.trials["status"] == "complete"]
    columns = [f"{split}.{name}" for name in objectives] + [f"num_{split}"]
    is_usable = np.isfinite(np.column_stack([numbers(complete, c) for c in columns])).all(axis=1)
    usable = complete.iloc[np.flatnonzero(is_usable)].reset_index(drop=True)
    ended = results.trials[results.trials["status"] != "complete"]
    clean = results._replace(trials=pd.concat([usable, ended]) if len(ended) else usable)
    pairs = (
        tuple(pareto_info(clean, x, y, split, None) for x, y in combinations(objectives[:3], 2))
        if len(usable)
        else ()
    )
    return Study(
        folder=folder,
        split=split,
        results=results,
        space=space,
        objectives=objectives,
        searched=searched,
        parameters=varying_parameters(results.trials),
        trials=usable,
        warm_starts=_warm_starts(space, usable),
        num_unusable=len(complete) - len(usable),
        pairs=pairs,
        **_arrays(usable, pairs, objectives, split, results.metrics),
        confirmation=read_confirmation(folder),
        audits=read_audits(folder, results.trials),
        heartbeat=read_heartbeat(folder),
    )


def read_space(folder: Path) -> Mapping[str, Any]:
    """The space file of a search; empty where there is none.

    Raises:
        ResultsError: it is not valid YAML, or no mapping.
    """
    path = folder / "space.yaml"
    try:
        return read_yaml_mapping(path) if path.exists() else {}
    except ConfigError as err:
        raise ResultsError(str(err)) from err


def _searched_objectives(
    space: Mapping[str, Any], metrics: Mapping[str, Metric]
) -> tuple[str, ...]:
    names = space.get("objectives")
    if not isinstance(names, list):
        return ()
    return tuple(n for n in names if n in metrics and metrics[n].direction is not None)


def _arrays(
    trials: pd.DataFrame,
    pairs: tuple[ParetoInfo, ...],
    objectives: tuple[str, ...],
    split: str,
    metrics: Mapping[str, Metric],
) -> dict[str, Any]:
    """The fields of a :class:`Study` that are arrays over its trials."""
    maximize = [metrics[name].direction == "maximize" for name in objectives]
    points = np.column_stack([numbers(trials, f"{split}.{name}") for name in objectives])
    errors = np.full(points.shape, np.nan)
    means, deviations = np.full((2, len(objectives)), np.nan)
    num_seeds = 0
    for pair in pairs:
        for column, axis in enumerate(pair.axes):
            place = objectives.index(axis.metric.name)
            errors[:, place] = pair.standard_errors[:, column]
            if pair.baselines:
                group = pair.baselines[0]
                means[place], num_seeds = group.mean[column], len(group.seeds)
                deviations[place] = np.nan if group.std is None else group.std[column]
    is_single = trials["num_seeds"].to_numpy(dtype=np.int64)[:, None] == 1
    floor = np.where(is_single, np.nan_to_num(deviations), 0.0)
    noise = np.maximum(np.nan_to_num(errors), floor)
    feasible = trials["feasible"].to_numpy(dtype=np.bool_)
    probability, draws = np.zeros(len(points)), 0
    if feasible.any():
        draws = num_draws(points[feasible], noise[feasible], maximize)
        probability[feasible] = front_probability(
            points[feasible], noise[feasible], maximize, draws
        )
    return {
        "points": points,
        "errors": errors,
        "noise": noise,
        "baseline": (means, deviations, num_seeds) if np.isfinite(means).any() else None,
        "num_baselines": len(pairs[0].baselines) if pairs else 0,
        "feasible": feasible,
        "on_front": front_among(points, feasible, maximize),
        "probability": probability,
        "draws": draws,
    }


def noise_of_score(study: Study) -> Array | None:
    """Standard error of each trial's tradeoff score, (N,); None if the accuracies are unknown.

    It combines the errors of the trial and of the baseline's mean, and takes clean and robust
    accuracy to be independent.
    """
    if not set(ACCURACIES) <= set(study.objectives) or study.baseline is None:
        return None
    clean, robust = (study.objectives.index(name) for name in ACCURACIES)
    means, deviations, num_seeds = study.baseline
    if not np.isfinite(means[[clean, robust]]).all():
        return None
    weight = numbers(study.trials, "robustness.tradeoff_weight")
    weight = np.where(np.isnan(weight), 1.0, weight)
    own = study.noise[:, robust] ** 2 + (weight * study.noise[:, clean]) ** 2
    spread = np.nan_to_num(deviations)
    of_baseline = (spread[robust] ** 2 + (weight * spread[clean]) ** 2) / num_seeds
    return np.asarray(np.sqrt(own + of_baseline))


def search_of(study: Study, parameter: str) -> Mapping[str, Any]:
    """The space file's entry of a searched parameter; empty if there is none."""
    search = study.space.get("search")
    found = search.get(parameter) if isinstance(search, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _warm_starts(space: Mapping[str, Any], trials: pd.DataFrame) -> NDArray[np.int64]:
    """Rows of the trials that are warm starts: for each one the first that has its values."""
    tuning = space.get("tuning")
    starts = tuning.get("warm_starts") if isinstance(tuning, Mapping) else None
    rows: set[int] = set()
    for start in starts if isinstance(starts, list) else []:
        if isinstance(start, Mapping) and set(start) <= _PARAMETER_NAMES:
            first = trials.head(_MAX_SEARCHED)[list(start)].itertuples(index=False)
            same = (n for n, row in enumerate(first) if all(map(_is_same, row, start.values())))
            rows |= set(islice(same, 1))
    return np.array(sorted(rows), dtype=np.int64)


def _is_same(found: Any, asked: Any) -> bool:
    if isinstance(asked, list | dict):
        return isinstance(found, str) and found == json.dumps(asked, sort_keys=True)
    if pd.isna(found) or isinstance(asked, str) != isinstance(found, str):
        return False
    if isinstance(asked, str):  # relative paths are kept as absolute ones
        return bool(found == asked or found.endswith("/" + asked.rpartition(":")[2].lstrip("./")))
    return bool(np.isclose(float(found), float(asked), rtol=1e-9, atol=0))
