"""How good are the searches and fronts that this project offers, when every training is noisy?

``python -m benchmarks.search_quality results.jsonl`` runs searches by ask and tell over simulated
trainings (:mod:`benchmarks.simulated_trainings`) and prints a table. A line of the file is one
front of one search. Lines that are there already are not computed again, so that a long run can be
split and resumed; ``--repetitions 0`` only prints.

* delivered: true hypervolume of the front, as a share of the best possible one.
* as chosen: the same if a user takes the entry whose *shown* values are best, averaged over his
  possible preferences (:func:`share_as_chosen`). This is what a user gets.
* bias: shown less true robust accuracy of the entry with the greatest shown sum, the winner.
* winner's interval, all intervals: the share of 95 % intervals (of the winner's robust accuracy, of
  both objectives of all entries of the front) that hold the truth.
* s: seconds of CPU time per proposal.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from benchmarks.simulated_trainings import (
    NUM_DRAWS,
    OBJECTIVES,
    REFERENCE,
    TRUTHS,
    Array,
    Name,
    Truth,
)
from simreg_core.statistics.noisy_front import noisy_front
from simreg_core.statistics.parameter_points import parameter_points
from simreg_core.statistics.pareto import non_dominated
from tuner.space.samplers import SAMPLERS, experimental
from tuner.study.unit_values import spec_of

SEARCHES = ("random", "tpe", "nsgaii", "gp", "nehvi", "botorch")
_BOTH = [True, True]
_PREFERENCES = 400
_COLUMNS = {
    "delivered": "delivered",
    "chosen": "as chosen",
    "bias": "bias",
    "winner_holds": "winner's interval",
    "all_hold": "all intervals",
    "seconds": "s",
}
Line = dict[str, Any]


class Task(NamedTuple):
    """One search."""

    truth: Name
    search: str
    workers: int
    repetition: int
    trainings: tuple[int, ...]
    """Numbers of finished trainings at which the front is looked at, ascending."""


def run_search(task: Task) -> list[Line]:
    """Run one search and judge its fronts, raw and modelled, on the way."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    truth = Truth(task.truth, task.repetition % NUM_DRAWS)
    rng = np.random.default_rng([task.repetition, 1])
    with experimental():
        study = optuna.create_study(
            directions=["maximize"] * 2, sampler=_sampler(task.search, task.repetition)
        )
        study.set_metric_names(list(OBJECTIVES))
    running: deque[optuna.Trial] = deque()
    params: list[dict[str, Any]] = []
    values: list[Array] = []
    seconds: list[float] = []
    lines: list[Line] = []
    while len(values) < task.trainings[-1]:
        while len(running) < task.workers:
            start = time.process_time()
            running.append(study.ask(truth.search))
            seconds.append(time.process_time() - start)
        trial = running.popleft()
        params.append(trial.params)
        values.append(truth.train(trial.params, rng))
        study.tell(trial, list(map(float, values[-1])))
        if len(values) in task.trainings:
            common = task._asdict() | {"trainings": len(values), "seconds": np.mean(seconds)}
            lines += [common | line for line in judge(truth, params, np.array(values))]
    return lines


def _sampler(name: str, seed: int) -> BaseSampler:
    if name != "botorch":
        return SAMPLERS.get(name).make(seed, {})
    from optuna_integration import BoTorchSampler
    from optuna_integration.botorch import qnehvi_candidates_func

    made: BaseSampler = BoTorchSampler(
        candidates_func=qnehvi_candidates_func, consider_running_trials=True, seed=seed
    )
    return made


def judge(truth: Truth, params: Sequence[dict[str, Any]], values: Array) -> list[Line]:
    """Figures of the raw and the modelled front of measured values (n, 2)."""
    true = np.array([truth.means(one) for one in params])
    search = {name: spec_of(one) for name, one in truth.search.items()}
    points = parameter_points(search, params).points
    front = noisy_front(points, values, OBJECTIVES, is_accuracy=_BOTH, maximize=_BOTH)
    holds = (front.low <= true) & (true <= front.high)
    lines = []
    for name, shown, on_front in (
        ("raw", values, non_dominated(values, _BOTH)),
        ("model", front.mean, front.on_front),
    ):
        shown, kept = shown[on_front], true[on_front]
        winner = int(np.argmax(shown.sum(axis=1)))
        line = {
            "front": name,
            "delivered": truth.share(kept),
            "chosen": share_as_chosen(truth, shown, kept),
            "bias": float(shown[winner, 1] - kept[winner, 1]),
        }
        if name == "model" and front.is_modelled:
            inside = holds[on_front]
            line |= {"winner_holds": float(inside[winner, 1]), "all_hold": float(inside.mean())}
        lines.append(line)
    return lines


def share_as_chosen(truth: Truth, shown: Array, true: Array) -> float:
    """Hypervolume of what users take, as a share of the best possible one.

    The hypervolume is a mean over preferences, which are directions from the reference point: of
    the squared length up to the edge of what the best entry dominates (Zhang and Golovin,
    arXiv:2006.04655). Here, the entry is the one that looks best, and its true length counts.
    """
    angles = (np.arange(_PREFERENCES) + 0.5) / _PREFERENCES * np.pi / 2
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, None]
    looks, lengths = (
        ((values - REFERENCE).clip(min=0) / directions).min(axis=-1) for values in (shown, true)
    )
    taken = np.take_along_axis(lengths, looks.argmax(axis=1)[:, None], axis=1)
    return float(np.pi / 4 * (taken**2).mean() / truth.best)


def print_table(lines: Iterable[Line]) -> None:
    """Print a Markdown table of means ± standard errors over the repetitions."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        key = tuple(line[name] for name in ("truth", "trainings", "workers", "search", "front"))
        groups.setdefault(key, []).append(line)
    print(
        "| truth | trainings | workers | search | front | n |", " | ".join(_COLUMNS.values()), "|"
    )
    print("|---" * (6 + len(_COLUMNS)) + "|")
    for key in sorted(groups):
        cells = [_cell([line.get(name) for line in groups[key]]) for name in _COLUMNS]
        print("|", " | ".join([*map(str, key), str(len(groups[key])), *cells]), "|")


def _cell(values: Sequence[float | None]) -> str:
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return ""
    error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else np.nan
    return f"{known.mean():.3f} ± {error:.3f}"


def _key(line: Line) -> tuple[Any, ...]:
    return tuple(line[name] for name in Task._fields)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the file lacks, then print a table of all that it has."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path, help="JSON lines; created or continued")
    parser.add_argument("--truths", nargs="+", choices=get_args(Name), default=list(TRUTHS))
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES[:-1]))
    parser.add_argument("--trainings", type=int, nargs="+", default=[24, 48, 96])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="number of the first repetition")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    if "botorch" in args.searches and importlib.util.find_spec("optuna_integration") is None:
        print("botorch: skipped, because optuna-integration is not installed")
        args.searches.remove("botorch")
    found: list[Line] = []
    if args.output.exists():
        found = [json.loads(line) for line in args.output.read_text("utf-8").splitlines()]
    done = {_key(line) for line in found}
    repetitions = range(args.first, args.first + args.repetitions)
    tasks = [
        Task(truth, search, workers, repetition, tuple(sorted(args.trainings)))
        for truth, search, workers, repetition in product(
            args.truths, args.searches, args.workers, repetitions
        )
    ]
    missing = [t for t in tasks if any((*t[:-1], number) not in done for number in t.trainings)]
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # children's
    with (
        multiprocessing.get_context("spawn").Pool(args.processes) as pool,
        args.output.open("a", encoding="utf-8") as file,
    ):
        for lines in pool.imap_unordered(run_search, missing):
            new = [line for line in lines if _key(line) not in done]
            found += new
            file.writelines(json.dumps(line) + "\n" for line in new)
            file.flush()
    print_table(found)


if __name__ == "__main__":
    main()
