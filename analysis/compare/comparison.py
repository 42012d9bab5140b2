"""Several studies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.findings.bootstrap import SEED, Interval, percentile_interval, resampled_hypervolumes
from analysis.findings.comparable import WEIGHT, check_comparable, conditions
from analysis.findings.delivered import delivered_front, front_columns
from analysis.findings.fronts import Axis, ParetoInfo, pareto_info, reference_point
from analysis.findings.study import read_space
from analysis.results.load import Array, Results, ResultsError, load_results, numbers
from analysis.results.parameters import varying_parameters
from analysis.results.seed_groups import SeedGroup
from simreg_core.errors import counted
from simreg_core.results.delivered import Delivered
from simreg_core.statistics.pareto import hypervolume

MAX_STUDIES = 15  # that a picture can tell apart


class Front(NamedTuple):
    """The front of one study among N complete trials, modelled or measured."""

    info: ParetoInfo
    """The measured values."""
    found: Delivered | None
    """The modelled front; None: that of the measured values."""

    @property
    def trials(self) -> NDArray[np.int64]:
        """(N,), the numbers of the trials."""
        return self.info.trials if self.found is None else self.found.trials

    @property
    def points(self) -> Array:
        """(N, 2), x and y."""
        return self.info.points if self.found is None else self.found.mean

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """(N,), whether the search's constraints are met."""
        return self.info.feasible if self.found is None else self.found.feasible

    @property
    def on_front(self) -> NDArray[np.bool_]:
        """(N,), among the feasible trials."""
        return self.info.on_front if self.found is None else self.found.on_front

    @property
    def scores(self) -> Array:
        """(N,), tradeoff scores; NaN if unknown."""
        measured = numbers(self.info.table, f"{self.info.split}.tradeoff_score")
        return measured if self.found is None else self.found.rank


class Study(NamedTuple):
    """One study of a comparison."""

    label: str
    """Name of its folder; the whole path if two folders have the same name."""
    front: Front
    hypervolume: float
    """Hypervolume of the front from the comparison's reference point."""
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

    @property
    def info(self) -> ParetoInfo:
        """The measured values."""
        return self.front.info


class Comparison(NamedTuple):
    """Studies of one task under one evaluation, through the same two metrics."""

    studies: tuple[Study, ...]
    """In the given order; the others are compared with the first."""
    is_raw: bool
    """Whether the fronts of the measured values were asked for."""
    problem: str
    """Why the fronts are those of the measured values if modelled ones were asked for, as a clause;
    empty otherwise."""
    reference: Array
    """(2,), the corner that bounds all hypervolumes."""
    table: pd.DataFrame
    """One row per complete trial: study, trial, on_front, feasible, the parameters that vary
    within or between the studies, the split's metrics, seed, num_seeds; for modelled fronts also
    the columns of :func:`analysis.findings.delivered.front_columns`."""
    baselines: tuple[tuple[SeedGroup, list[int]], ...]
    """Distinct ones in order of the studies, with the places of the studies that have them."""
    same_weight: bool
    """Whether all tradeoff scores weigh the accuracy cost alike."""

    @property
    def is_modelled(self) -> bool:
        """Whether the fronts are modelled."""
        return not (self.is_raw or self.problem)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Both axes."""
        return self.studies[0].info.axes

    @property
    def same_baselines(self) -> bool:
        """Whether every study has all the baselines."""
        return all(len(places) == len(self.studies) for _, places in self.baselines)


def compare(
    folders: Sequence[Path],
    x: str,
    y: str,
    split: str,
    kind: Literal["model", "raw"] = "model",
) -> Comparison:
    """Compare the complete trials of two or more studies in two metrics of one split.

    The fronts are those that the searches deliver if ``kind`` is model. Measured values are biased
    upwards, so all fronts are measured if the front of one study cannot be modelled.

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
    labels = _labels(folders)
    fronts, problem = [Front(info, None) for info in infos], ""
    if kind == "model":
        fronts, problem = _modelled(labels, results, infos)
    reference = reference_point(infos[0].axes, np.concatenate([front.points for front in fronts]))
    weights = {weight for trials in complete for weight in trials[WEIGHT].dropna()}
    return Comparison(
        studies=_studies(labels, results, fronts, reference),
        is_raw=kind == "raw",
        problem=problem,
        reference=reference,
        table=_table(labels, fronts, complete),
        baselines=_baselines(infos),
        same_weight=len(weights) <= 1,
    )


def _modelled(
    labels: Sequence[str], results: Sequence[Results], infos: Sequence[ParetoInfo]
) -> tuple[list[Front], str]:
    """The delivered fronts, and "" or why they are all those of the measured values."""
    fronts, problems = [], []
    for label, result, info in zip(labels, results, infos, strict=True):
        usable = result._replace(trials=result.trials[result.trials["trial"].isin(info.trials)])
        space, metrics = read_space(result.folder), [axis.metric for axis in info.axes]
        score = result.metrics["tradeoff_score"]
        found = delivered_front(usable, space, info.split, metrics, score)
        fronts.append(Front(info, found))
        problems += [f"{label}: {found.problem}"] if found.problem else []
    if problems:
        fronts = [Front(info, None) for info in infos]
    return fronts, "; ".join(problems)


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
    fronts: Sequence[Front],
    reference: Array,
) -> tuple[Study, ...]:
    maximize = [axis.maximize for axis in fronts[0].info.axes]
    # A stream for each place: the first study's interval is the same whatever it is compared with.
    streams = np.random.SeedSequence(SEED).spawn(len(fronts))
    volumes = [hypervolume(front.points[front.feasible], reference, maximize) for front in fronts]
    studies: list[Study] = []
    first = np.empty(0)
    for label, result, front, volume, stream in zip(
        labels, results, fronts, volumes, streams, strict=True
    ):
        points = np.where(front.feasible[:, None], front.points, reference)
        rng = np.random.default_rng(stream)
        samples = resampled_hypervolumes(points, reference, maximize, rng)
        first = first if studies else samples
        study = Study(
            label=label,
            front=front,
            hypervolume=volume,
            interval=_interval(samples, front),
            difference=volume - volumes[0],
            difference_interval=_interval(samples - first, front, fronts[0]),
            best=_best(front),
            wall_hours=_wall_hours(result.trials),
            network_hours=_network_hours(result.trials),
        )
        studies.append(study)
    return tuple(studies)


def _interval(samples: Array, *fronts: Front) -> Interval:
    """Percentile interval; NaN if a study has a single trial, which makes all samples the same."""
    if any(len(front.points) < 2 for front in fronts):
        return Interval(np.nan, np.nan)
    return percentile_interval(samples)


def _best(front: Front) -> tuple[int, float] | None:
    scores = np.where(front.feasible, front.scores, np.nan)
    if np.isnan(scores).all():
        return None
    best = int(np.nanargmax(scores))
    return int(front.trials[best]), float(scores[best])


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
    labels: Sequence[str], fronts: Sequence[Front], complete: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    parameters = varying_parameters(pd.concat(complete, ignore_index=True))
    split = f"{fronts[0].info.split}."
    tables = []
    for label, front, trials in zip(labels, fronts, complete, strict=True):
        metrics = [c for c in map(str, trials) if c.startswith(split) and ".baseline_" not in c]
        columns = ["study", "trial", "on_front", "feasible", *parameters, *metrics]
        own = trials.assign(study=label, on_front=front.info.on_front)
        own = own[[*columns, "seed", "num_seeds"]]
        if front.found is not None:
            own = own.merge(front_columns(front.found, front.info.split), on="trial", how="left")
        tables.append(own)
    return pd.concat(tables, ignore_index=True)
