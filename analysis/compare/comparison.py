"""Several studies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.findings.bootstrap import SEED, Interval, percentile_interval, resampled_hypervolumes
from analysis.findings.comparable import WEIGHT, check_comparable, conditions
from analysis.findings.fronts import Axis, ParetoInfo, pareto_info, reference_point
from analysis.results.load import Array, Results, ResultsError, load_results
from analysis.results.parameters import varying_parameters
from analysis.results.seed_groups import SeedGroup
from simreg_core.errors import counted
from simreg_core.statistics.pareto import hypervolume

MAX_STUDIES = 15  # that a picture can tell apart


class Study(NamedTuple):
    """One study of a comparison."""

    label: str
    """Name of its folder; the whole path if two folders have the same name."""
    info: ParetoInfo
    hypervolume: float
    """With the comparison's reference point."""
    interval: Interval
    """Percentile interval of :mod:`analysis.findings.bootstrap`; NaN with a single trial."""
    difference: float
    """Hypervolume minus that of the first study."""
    difference_interval: Interval
    best: tuple[int, float] | None
    """Trial and score of the best tradeoff score among those that meet the constraints."""
    wall_hours: float
    """From the first start of a trial to the last end, pauses included; NaN if unknown."""
    network_hours: float
    """Training and evaluation of all trials, added up; NaN if unknown."""


class Comparison(NamedTuple):
    """Studies of one task under one evaluation, through the same two metrics."""

    studies: tuple[Study, ...]
    """In the given order; the others are compared with the first."""
    reference: Array
    """(2,), the corner that bounds all hypervolumes."""
    table: pd.DataFrame
    """One row per complete trial: study, trial, on_front, feasible, the parameters that vary
    within or between the studies, the split's metrics, seed, num_seeds."""
    baselines: tuple[tuple[SeedGroup, list[int]], ...]
    """Distinct ones in order of the studies, with the places of the studies that have them."""
    same_weight: bool
    """Whether all tradeoff scores weigh the accuracy cost alike."""

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Both axes."""
        return self.studies[0].info.axes

    @property
    def same_baselines(self) -> bool:
        """Whether every study has all the baselines."""
        return all(len(places) == len(self.studies) for _, places in self.baselines)


def compare(folders: Sequence[Path], x: str, y: str, split: str) -> Comparison:
    """Compare the complete trials of two or more studies in two metrics of one split.

    Raises:
        NoCompleteTrialsError: a study has none.
        ResultsError: too few or too many folders, one given twice, results that cannot be read or
            lack the metrics, or studies that are not comparable (names the difference).
    """
    _check_folders(folders)
    results = [load_results(folder) for folder in folders]
    infos = [pareto_info(result, x, y, split, None) for result in results]
    complete = [
        result.trials[result.trials["trial"].isin(info.trials)].reset_index(drop=True)
        for result, info in zip(results, infos, strict=True)
    ]
    check_comparable(folders, [conditions(trials, (x, y)) for trials in complete])
    axes = infos[0].axes
    reference = reference_point(axes, np.concatenate([info.points for info in infos]))
    labels = _labels(folders)
    weights = {weight for trials in complete for weight in trials[WEIGHT].dropna()}
    return Comparison(
        studies=_studies(labels, results, infos, reference),
        reference=reference,
        table=_table(labels, infos, complete),
        baselines=_baselines(infos),
        same_weight=len(weights) <= 1,
    )


def _check_folders(folders: Sequence[Path]) -> None:
    if not 2 <= len(folders) <= MAX_STUDIES:
        given = counted(len(folders), "result folder")
        raise ResultsError(f"{given} given; allowed: 2 to {MAX_STUDIES}")
    seen: dict[str, Path] = {}
    for folder in folders:
        own = str(folder.resolve())
        if own in seen:
            raise ResultsError(f"{folder} is given twice (also as {seen[own]})")
        seen[own] = folder


def _labels(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return [
        name if names.count(name) == 1 else str(folder)
        for name, folder in zip(names, folders, strict=True)
    ]


def _baselines(infos: Sequence[ParetoInfo]) -> tuple[tuple[SeedGroup, list[int]], ...]:
    found: dict[tuple[object, ...], tuple[SeedGroup, list[int]]] = {}
    for place, info in enumerate(infos):
        for group in info.baselines:
            found.setdefault((group.seeds, group.points.tobytes()), (group, []))[1].append(place)
    return tuple(found.values())


def _studies(
    labels: Sequence[str],
    results: Sequence[Results],
    infos: Sequence[ParetoInfo],
    reference: Array,
) -> tuple[Study, ...]:
    maximize = [axis.maximize for axis in infos[0].axes]
    # A stream for each place: the first study's interval is the same whatever it is compared with.
    streams = np.random.SeedSequence(SEED).spawn(len(infos))
    volumes = [hypervolume(info.points[info.feasible], reference, maximize) for info in infos]
    studies: list[Study] = []
    first = np.empty(0)
    for label, result, info, volume, stream in zip(
        labels, results, infos, volumes, streams, strict=True
    ):
        points = np.where(info.feasible[:, None], info.points, reference)
        rng = np.random.default_rng(stream)
        samples = resampled_hypervolumes(points, reference, maximize, rng)
        first = first if studies else samples
        study = Study(
            label=label,
            info=info,
            hypervolume=volume,
            interval=_interval(samples, info),
            difference=volume - volumes[0],
            difference_interval=_interval(samples - first, info, infos[0]),
            best=_best(info),
            wall_hours=_wall_hours(result.trials),
            network_hours=_network_hours(result.trials),
        )
        studies.append(study)
    return tuple(studies)


def _interval(samples: Array, *infos: ParetoInfo) -> Interval:
    """Percentile interval; NaN if a study has a single trial, which makes all samples the same."""
    if any(len(info.points) < 2 for info in infos):
        return Interval(np.nan, np.nan)
    return percentile_interval(samples)


def _best(info: ParetoInfo) -> tuple[int, float] | None:
    scores = info.table[f"{info.split}.tradeoff_score"].where(info.feasible).to_numpy(dtype=float)
    if np.isnan(scores).all():
        return None
    best = int(np.nanargmax(scores))
    return int(info.trials[best]), float(scores[best])


def _wall_hours(trials: pd.DataFrame) -> float:
    start, end = (
        pd.to_datetime(trials[name].dropna(), utc=True, format="ISO8601", errors="coerce").dropna()
        for name in ("started_at", "finished_at")
    )
    return float((end.max() - start.min()).total_seconds()) / 3600


def _network_hours(trials: pd.DataFrame) -> float:
    seconds = trials[["train_seconds", "evaluate_seconds"]].to_numpy(dtype=np.float64)
    return float(np.nansum(seconds)) / 3600 if np.isfinite(seconds).any() else float("nan")


def _table(
    labels: Sequence[str], infos: Sequence[ParetoInfo], complete: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    parameters = varying_parameters(pd.concat(complete, ignore_index=True))
    split = f"{infos[0].split}."
    tables = []
    for label, info, trials in zip(labels, infos, complete, strict=True):
        metrics = [c for c in map(str, trials) if c.startswith(split) and ".baseline_" not in c]
        columns = ["study", "trial", "on_front", "feasible", *parameters, *metrics]
        own = trials.assign(study=label, on_front=info.on_front)
        tables.append(own[[*columns, "seed", "num_seeds"]])
    return pd.concat(tables, ignore_index=True)
