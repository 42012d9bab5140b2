"""How the hypervolume of a search grew with its trials and device hours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.findings.study import Study
from analysis.results.load import Array, numbers
from simreg_core.statistics.pareto import hypervolume, non_dominated

MAX_STEPS_OF_MANY = 150  # for three objectives, whose volumes take longer
HOURS = (
    "Hours are seconds of training and evaluation as recorded (of CPUs times threads); trials that "
    "recorded none, such as failed ones, count 0."
)


class Growth(NamedTuple):
    """S moments at which the hypervolume was computed; constant in between."""

    trials: Array
    """(S,), trials that had ended, 0 first."""
    hours: Array
    """(S,), device hours that these had used."""
    volume: Array
    """(S,), 0 first."""
    unit: str


def device_hours(rows: pd.DataFrame) -> Array:
    """Hours that each trial used a device, (N,), summed over its networks; 0 where unknown.

    Hours of CPUs are multiplied by the number of threads.
    """
    parts = [numbers(rows, name) for name in ("train_seconds", "evaluate_seconds")]
    seconds = np.nan_to_num(parts).sum(axis=0)
    is_gpu = rows["device"].fillna("").str.startswith("cuda").to_numpy(dtype=np.bool_)
    threads = rows["num_threads"].fillna(1).to_numpy(dtype=np.float64)
    return np.asarray(seconds * np.where(is_gpu, 1.0, threads) / 3600)


def hours_unit(rows: pd.DataFrame) -> str:
    """``GPU-hours``, ``CPU-hours`` or, for both, ``device-hours``."""
    kinds = {str(name).partition("(")[0].strip() for name in rows["device"].dropna().unique()}
    units = {"cuda": "GPU-hours", "cpu": "CPU-hours"}
    return units.get(kinds.pop(), "device-hours") if len(kinds) == 1 else "device-hours"


def growth(study: Study, corner: Array) -> Growth:
    """The hypervolume after each trial that moved the front, in the order in which trials ended.

    Args:
        study: With at least one usable trial.
        corner: (M,), the reference point; M from 1 to 3.
    """
    rows = study.results.trials
    # A trial without a recorded time counts as ending with the one before it.
    ended_at = rows["finished_at"].ffill().fillna("").to_numpy(dtype=str)
    order = np.lexsort((rows["trial"], ended_at))
    hours = np.cumsum(device_hours(rows)[order])
    place = {int(trial): i for i, trial in enumerate(rows["trial"].iloc[order])}
    usable = np.flatnonzero(study.feasible)
    ended = np.array([place[int(trial)] for trial in study.numbers[usable]], dtype=np.int64)
    usable, ended = usable[np.argsort(ended)], np.sort(ended)
    moments, volumes = _volumes(study.points[usable], ended, corner, study.maximize)
    return Growth(
        trials=np.array([0, *(m + 1 for m in moments), len(rows)], dtype=np.float64),
        hours=np.array([0.0, *hours[moments], hours[-1]]),
        volume=np.array([0.0, *volumes, volumes[-1] if volumes else 0.0]),
        unit=hours_unit(rows),
    )


def _volumes(
    points: Array, ended: NDArray[np.int64], corner: Array, maximize: list[bool]
) -> tuple[list[int], list[float]]:
    """Moments at which the front moved (places in the order of ending), and the volumes then."""
    moved: list[tuple[int, Array]] = []
    front = np.empty((0, points.shape[1]))
    for point, moment in zip(points, ended, strict=True):
        grown = np.concatenate([front, point[None]])
        mask = non_dominated(grown, maximize)
        if mask[-1]:
            front = grown[mask]
            moved.append((int(moment), front))
    if points.shape[1] > 2 and len(moved) > MAX_STEPS_OF_MANY:
        kept = np.unique(np.linspace(0, len(moved) - 1, MAX_STEPS_OF_MANY).astype(int))
        moved = [moved[index] for index in kept]
    volumes = [hypervolume(front, corner, maximize) for _, front in moved]
    return [moment for moment, _ in moved], volumes
