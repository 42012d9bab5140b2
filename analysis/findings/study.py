"""One search, read once: its usable trials and how noisy they are.

N usable trials (complete, with finite objectives on the split), M objectives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.findings.delivered import constraints_of, delivered_front
from analysis.findings.front_uncertainty import Z95, front_probability, num_draws
from analysis.findings.fronts import (
    Axis,
    ParetoInfo,
    check_split,
    finite_rows,
    pareto_info,
)
from analysis.results.evidence import Audit, Confirmation, read_audits, read_confirmation
from analysis.results.load import Array, Results, ResultsError, load_started, numbers
from analysis.results.parameters import DTYPES, varying_parameters
from simreg_core.config.yaml_io import read_yaml_mapping
from simreg_core.errors import describe
from simreg_core.registry import Metric
from simreg_core.results.delivered import Delivered
from simreg_core.results.objectives import SEARCH_SPLIT, ranking_metric
from simreg_core.results.study_lock import read_heartbeat
from simreg_core.storage.location import to_path

ACCURACIES = ("clean_accuracy", "robust_accuracy")
_MAX_SEARCHED = 1000  # trials among which warm starts are looked for; they come first


@dataclass(frozen=True, eq=False, kw_only=True)
class Study:
    """One search as its report sees it."""

    folder: Path
    split: str
    results: Results
    space: Mapping[str, Any]
    """The space file; empty if there is none."""
    objectives: tuple[str, ...]
    """Metrics that span the front: those of the search, or the accuracies if it has only one."""
    searched: tuple[str, ...]
    """The objectives of the search; empty if unknown."""
    trials: pd.DataFrame
    """The N usable trials, by number."""
    num_unusable: int
    """Complete trials that lack a finite value of an objective."""
    pairs: tuple[ParetoInfo, ...]
    """The usable trials in every two of the first three objectives; empty if N = 0. Their fronts
    are those of two objectives only; see ``on_front``."""
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

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Those that vary among all trials."""
        return varying_parameters(self.results.trials)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(N,), the numbers of the trials."""
        return self.trials["trial"].to_numpy(dtype=np.int64)

    @cached_property
    def warm_starts(self) -> NDArray[np.int64]:
        """Rows of the warm starts: for each one the first trial that has its values."""
        starts = self.section("tuning").get("warm_starts")
        rows: set[int] = set()
        for start in starts if isinstance(starts, list) else []:
            if isinstance(start, Mapping) and set(start) <= set(DTYPES):
                first = self.trials.head(_MAX_SEARCHED)[list(start)].itertuples(index=False)
                same = (n for n, row in enumerate(first) if all(map(_is_same, row, start.values())))
                rows |= set(islice(same, 1))
        return np.array(sorted(rows), dtype=np.int64)

    @cached_property
    def points(self) -> Array:
        """(N, M)."""
        return np.column_stack([numbers(self.trials, axis.column) for axis in self.axes])

    @cached_property
    def errors(self) -> Array:
        """(N, M), standard errors over seeds, binomial for single networks; NaN if unknown."""
        errors = np.full(self.points.shape, np.nan)
        for columns, pair in self._placed_pairs():
            errors[:, columns] = pair.standard_errors
        return errors

    @cached_property
    def noise(self) -> Array:
        """(N, M), ``errors``, but for single networks at least the SD over the baseline's seeds."""
        is_single = self.trials["num_seeds"].to_numpy(dtype=np.int64)[:, None] == 1
        deviations = 0.0 if self.baseline is None else np.nan_to_num(self.baseline[1])
        return np.maximum(np.nan_to_num(self.errors), np.where(is_single, deviations, 0.0))

    @cached_property
    def baseline(self) -> tuple[Array, Array, int] | None:
        """Mean (M,), sample SD over seeds (M,; NaN if one) and their number, of the first baseline.

        NaN for metrics that its curves do not give; None if they give none.
        """
        means, deviations = np.full((2, len(self.objectives)), np.nan)
        num_seeds = 0
        for columns, pair in self._placed_pairs():
            for group in pair.baselines[:1]:
                means[columns], deviations[columns] = group.mean, group.std
                num_seeds = len(group.seeds)
        return (means, deviations, num_seeds) if np.isfinite(means).any() else None

    @property
    def num_baselines(self) -> int:
        """How many different baselines the trials are compared with."""
        return len(self.pairs[0].baselines) if self.pairs else 0

    @cached_property
    def delivered(self) -> Delivered:
        """The front in all objectives; its rows are the N trials, ranked as the search does."""
        own = self._ranked
        if [metric.name for metric in own.metrics] == list(self.objectives):
            return own
        found = self._delivered_in(self.objectives)
        return found._replace(rank=own.rank, is_rank_modelled=own.is_rank_modelled)

    @cached_property
    def best(self) -> int:
        """Row of the trial that the search ranks first; N > 0."""
        return self._ranked.best_first()[0]

    @cached_property
    def _ranked(self) -> Delivered:
        """The front in what the search optimizes, which may be one metric."""
        found = self._delivered_in(self.searched or self.objectives)
        is_whole = len(found.trials) == len(self.trials)
        return found if is_whole else self._delivered_in(self.objectives)

    def _delivered_in(self, names: Sequence[str]) -> Delivered:
        usable = self.results._replace(trials=self.trials)
        metrics, score = [self.metrics[name] for name in names], self.metrics[self.score_name]
        return delivered_front(usable, self.space, self.split, metrics, score)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """(N,), False for trials that miss the search's constraints."""
        return self.delivered.feasible

    @property
    def on_front(self) -> NDArray[np.bool_]:
        """(N,), by all objectives, among the feasible trials."""
        return self.delivered.on_front

    @cached_property
    def draws(self) -> int:
        """How many draws of the estimates ``probability`` rests on."""
        return num_draws(*self._uncertain()) if self.feasible.any() else 0

    @cached_property
    def probability(self) -> Array:
        """(N,), of being on the front when the estimates are drawn anew; 0 for the infeasible.

        The estimates vary by their intervals, or measured values by ``noise``.
        """
        probability = np.zeros(len(self.points))
        if self.feasible.any():
            probability[self.feasible] = front_probability(*self._uncertain(), self.draws)
        return probability

    def _uncertain(self) -> tuple[Array, Array, list[bool]]:
        """Estimates of the feasible trials, their standard errors, and the directions."""
        found, own = self.delivered, self.feasible
        noise = (found.high - found.low) / (2 * Z95) if found.is_modelled else self.noise
        return found.mean[own], noise[own], self.maximize

    @cached_property
    def front(self) -> NDArray[np.int64]:
        """Rows of the front, best first by the estimated score (or first objective)."""
        rows = [row for row in self.delivered.best_first() if self.on_front[row]]
        return np.array(rows, dtype=np.int64)

    @cached_property
    def score_name(self) -> str:
        """The metric that ranks trials if it is known, else the first objective."""
        name = ranking_metric(self.searched)
        known = self.trials[f"{self.split}.{name}"].notna().any()
        return name if known else self.objectives[0]

    @cached_property
    def score(self) -> Array:
        """(N,), larger is better; NaN where a trial has none."""
        sign = 1.0 if self.metrics[self.score_name].direction == "maximize" else -1.0
        return sign * self.values(self.score_name)

    def values(self, metric: str) -> Array:
        """A metric of the usable trials on the split, (N,); NaN where a trial has none."""
        return numbers(self.trials, f"{self.split}.{metric}")

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the space file; empty if it is missing or no mapping."""
        found = self.space.get(name)
        return found if isinstance(found, Mapping) else {}

    def search_of(self, parameter: str) -> Mapping[str, Any]:
        """The space file's entry of a searched parameter; empty if there is none."""
        found = self.section("search").get(parameter)
        return found if isinstance(found, Mapping) else {}

    def _placed_pairs(self) -> Iterator[tuple[list[int], ParetoInfo]]:
        """Every pair with the places of its two objectives."""
        for columns, pair in zip(combinations(range(3), 2), self.pairs, strict=False):
            yield list(columns), pair


def load_study(folder: str | Path, split: str) -> Study:
    """Read the folder of a search, ``OUTPUT/NAME``, which may still be running.

    Raises:
        ConfigError: it is no search's folder, or a file in it is unusable; an unknown split.
    """
    folder = to_path(folder)
    check_split(split)
    results, space = load_started(folder), read_space(folder)
    searched, known = searched_objectives(space, results), results.metrics
    objectives = searched if len(searched) > 1 else ACCURACIES
    complete = results.trials[results.trials["status"] == "complete"]
    needed = [*(f"{split}.{name}" for name in objectives), f"num_{split}", *_bounded(space, known)]
    usable = finite_rows(complete, [name for name in needed if name in complete])
    ended = results.trials[results.trials["status"] != "complete"]
    clean = results._replace(trials=pd.concat([usable, ended]) if len(ended) else usable)
    pairs = combinations(objectives[:3], 2) if len(usable) else ()
    return Study(
        folder=folder,
        split=split,
        results=results,
        space=space,
        objectives=objectives,
        searched=searched,
        trials=usable,
        num_unusable=len(complete) - len(usable),
        pairs=tuple(pareto_info(clean, x, y, split, None) for x, y in pairs),
        confirmation=read_confirmation(folder),
        audits=read_audits(folder, results.trials),
        heartbeat=read_heartbeat(folder),
    )


def read_space(folder: str | Path) -> Mapping[str, Any]:
    """The space file of a search; empty if there is none.

    Raises:
        ConfigError: it is not valid YAML, or no mapping.
    """
    folder = to_path(folder)
    path = folder / "space.yaml"
    return read_yaml_mapping(path, folder) if path.exists() else {}


def _bounded(space: Mapping[str, Any], known: Mapping[str, Metric]) -> list[str]:
    """Columns of the constrained metrics; none if the space file is damaged, reported later."""
    with suppress(AttributeError, TypeError, ValueError):
        return [f"{SEARCH_SPLIT}.{bound.metric}" for bound in constraints_of(space, known)]
    return []


def searched_objectives(space: Mapping[str, Any], results: Results) -> tuple[str, ...]:
    """The objectives in a space file, without metrics that the results do not know."""
    names = space.get("objectives", [])
    wrong = [n for n in names if not isinstance(n, str)] if isinstance(names, list) else [names]
    if wrong:
        raise ResultsError(
            f"{results.folder / 'space.yaml'}: objectives: expected a list of names of metrics, "
            f"found {describe(wrong[0])}"
        )
    known = results.metrics
    return tuple(n for n in names if n in known and known[n].direction is not None)


def _is_same(found: Any, asked: Any) -> bool:
    """Whether a trial's value of a parameter is that of a warm start."""
    if isinstance(asked, list | dict):
        return isinstance(found, str) and found == json.dumps(asked, sort_keys=True)
    if asked is None or pd.isna(found):
        return asked is None and bool(pd.isna(found))
    if isinstance(asked, str) != isinstance(found, str):
        return False
    if isinstance(asked, str):  # relative paths are kept as absolute ones
        return bool(found == asked or found.endswith("/" + asked.rpartition(":")[2].lstrip("./")))
    return bool(np.isclose(float(found), float(asked), rtol=1e-9, atol=0))
