"""Networks of one configuration that differ in their seed: trials, baselines, confirmed trials."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.results.load import Results, ResultsError, require_finite
from analysis.results.parameters import Array
from simreg_core.results.schema import PARAMETERS, Role

_AGAINST_BASELINE = ("accuracy_cost", "robustness_gain", "tradeoff_score")


class SeedGroup(NamedTuple):
    """Seeds of one configuration and their values of two metrics."""

    name: str
    """Digest of the baseline, or number of the confirmed trial."""
    seeds: tuple[int, ...]
    """Ascending."""
    points: NDArray[np.float64]
    """(S, 2), in order of ``seeds``."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Over the seeds, (2,)."""
        return np.asarray(self.points.mean(axis=0), dtype=np.float64)

    @property
    def std(self) -> NDArray[np.float64] | None:
        """Sample standard deviation over the seeds, (2,); None with a single seed."""
        if len(self.seeds) < 2:
            return None
        return np.asarray(self.points.std(axis=0, ddof=1), dtype=np.float64)


def trial_networks(results: Results, complete: pd.DataFrame) -> pd.DataFrame:
    """One row per network of complete trials: those of several seeds each, in order of the trials.

    Args:
        results: The search.
        complete: Complete trials; of several networks, a row is their mean.

    Raises:
        ResultsError: the table of networks does not have all of a trial's.
    """
    asked = complete.set_index("trial")["num_seeds"]
    several = asked[asked > 1]
    if several.empty:
        return complete
    networks = results.seeds[results.seeds["trial"].isin(several.index)]
    found = networks.groupby("trial").size()
    for trial, number in several.items():
        if found.get(trial, 0) != number:
            raise ResultsError(
                f"{results.folder / 'seeds'}: {found.get(trial, 0)} networks of trial {trial}, "
                f"which is the mean of {number}"
            )
    single = complete[~complete["trial"].isin(several.index)]
    both = pd.concat([single, networks]) if len(single) else networks
    return both.sort_values(["trial", "seed"], ignore_index=True)


def over_seeds(rows: pd.DataFrame, x: str, value: str) -> tuple[Array, Array, Array]:
    """The mean of a column over networks at each place of another, and its spread.

    Returns:
        The places, ascending, and there the mean and the sample standard deviation (NaN of one).
    """
    grouped = rows.groupby(x)[value]
    mean, std = grouped.mean(), grouped.std()
    places, means, deviations = (np.asarray(v, dtype=np.float64) for v in (mean.index, mean, std))
    return places, means, deviations


def baseline_groups(
    results: Results, complete: pd.DataFrame, metrics: tuple[str, str], split: str
) -> tuple[SeedGroup, ...]:
    """The baselines that the complete trials are compared with, one group per distinct baseline.

    A baseline's cost, gain and score are those of each seed against the mean of its own group,
    so these means are 0.

    Args:
        results: The search; ``curves`` holds the baselines.
        complete: The trials that are shown.
        metrics: Names of the two metrics.
        split: ``validation`` or ``test``.

    Returns:
        In the order in which the trials first refer to them. Groups with the same seeds and
        points are one. Empty if a metric is not defined for a baseline, or the curves hold none of
        these baselines.
    """
    rows = results.curves
    rows = rows[(rows["role"] == "baseline") & (rows["split"] == split)]
    weights = complete.groupby("baseline_digest", sort=False)["robustness.tradeoff_weight"].first()
    groups: dict[tuple[object, ...], SeedGroup] = {}
    for digest, weight in weights.items():
        group = _baseline(
            str(digest), rows[rows["baseline_digest"] == digest], metrics, float(weight)
        )
        if group is not None:
            groups.setdefault((group.seeds, group.points.tobytes()), group)
    return tuple(groups.values())


def confirmed_groups(results: Results, columns: tuple[str, str]) -> tuple[SeedGroup, ...]:
    """Confirmed configurations, one group of fresh seeds each, in order of the trial's number.

    Their cost, gain and score are against the baseline of the same fresh seed; a run whose
    baseline is not there (yet) has none and is left out where a column needs one. Runs that
    failed have no values; :func:`num_failed_confirmations` counts them.

    Raises:
        ResultsError: a confirmed network lacks a number in one of ``columns``.
    """
    rows = _fresh_rows(results, "trial", columns)
    return tuple(_fresh_group(str(trial), group, columns) for trial, group in rows.groupby("trial"))


def fresh_baselines(results: Results, columns: tuple[str, str]) -> tuple[SeedGroup, ...]:
    """The baselines that the confirmed trials are paired with, one group per distinct baseline.

    Raises:
        ResultsError: a network lacks a number in one of ``columns``.
    """
    rows = _fresh_rows(results, "baseline", columns)
    configuration = [column.name for column in PARAMETERS if column.name != "seed"]
    groups = rows.groupby(configuration, dropna=False, sort=False)
    return tuple(_fresh_group("", group, columns) for _, group in groups)


def num_failed_confirmations(results: Results) -> int:
    """How many runs of confirmed configurations failed and did not succeed when run again."""
    rows = _confirmations(results)
    failed, complete = (
        set(rows.loc[rows["status"] == status, "config_digest"])
        for status in ("failed", "complete")
    )
    return len(failed - complete)


def _confirmations(results: Results, role: Role = "trial") -> pd.DataFrame:
    return results.confirmation[results.confirmation["role"] == role]


def _fresh_rows(results: Results, role: Role, columns: tuple[str, str]) -> pd.DataFrame:
    rows = _confirmations(results, role)
    rows = rows[rows["status"] == "complete"]
    if any(column.removeprefix("test.") in _AGAINST_BASELINE for column in columns):
        rows = rows[rows["test.tradeoff_score"].notna()]
    require_finite(rows, columns, results.folder / "confirmation")
    return rows


def _fresh_group(name: str, rows: pd.DataFrame, columns: tuple[str, str]) -> SeedGroup:
    rows = rows.sort_values("seed")
    seeds = tuple(int(seed) for seed in rows["seed"])
    return SeedGroup(name, seeds, rows[list(columns)].to_numpy(dtype=np.float64))


def _baseline(
    digest: str, rows: pd.DataFrame, metrics: tuple[str, str], weight: float
) -> SeedGroup | None:
    by_seed = dict(sorted((int(str(seed)), group) for seed, group in rows.groupby("seed")))
    if not by_seed:
        return None
    axes = [_metric(name, by_seed.values(), weight) for name in metrics]
    if any(axis is None for axis in axes):
        return None
    return SeedGroup(digest, tuple(by_seed), np.array(axes, dtype=np.float64).T)


def _metric(name: str, seeds: Iterable[pd.DataFrame], weight: float) -> list[float] | None:
    """The metric of each seed; None if it is not defined for a baseline."""
    curves = list(seeds)
    if name.startswith("robust_accuracy."):
        attack = name.removeprefix("robust_accuracy.")
        return _known([_reference_accuracy(c[c["attack"] == attack]) for c in curves])
    clean = _known([_clean_accuracy(c) for c in curves])
    robust = _known([_reference_accuracy(c) for c in curves])
    if clean is None or robust is None:
        return None
    cost = [float(np.mean(clean)) - value for value in clean]
    gain = [value - float(np.mean(robust)) for value in robust]
    return {
        "clean_accuracy": clean,
        "robust_accuracy": robust,
        "accuracy_cost": cost,
        "robustness_gain": gain,
        "tradeoff_score": [g - weight * c for g, c in zip(gain, cost, strict=True)],
    }.get(name)


def _clean_accuracy(curve: pd.DataFrame) -> float:
    """Accuracy at zero distortion, the same under every attack; NaN if there is none."""
    return float(curve.loc[curve["epsilon"] == 0, "accuracy"].mean())


def _reference_accuracy(curve: pd.DataFrame) -> float:
    """Mean over the attacks of the accuracy at their reference distortion; NaN if there is none."""
    at_reference = curve[curve["is_reference"].fillna(False)]
    return float(at_reference.groupby("attack")["accuracy"].first().mean())


def _known(values: Sequence[float]) -> list[float] | None:
    return None if any(np.isnan(value) for value in values) else list(values)
