"""Networks of one configuration that differ in their seed: trials, baselines, confirmed trials."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.results.load import Array, Results, ResultsError, require_finite
from simreg_core.errors import counted
from simreg_core.results.schema import PARAMETERS, Role


class SeedGroup(NamedTuple):
    """Seeds of one configuration and their values of two metrics."""

    name: str
    """Digest of the baseline, or number of the confirmed trial."""
    seeds: tuple[int, ...]
    """Ascending."""
    points: Array
    """(S, 2), in order of ``seeds``."""

    @property
    def mean(self) -> Array:
        """Over the seeds, (2,)."""
        return np.asarray(self.points.mean(axis=0), dtype=np.float64)

    @property
    def std(self) -> Array:
        """Sample standard deviation over the seeds, (2,); NaN for a single seed."""
        if len(self.seeds) < 2:
            return np.full(2, np.nan)
        return np.asarray(self.points.std(axis=0, ddof=1), dtype=np.float64)


def trial_networks(results: Results, complete: pd.DataFrame) -> pd.DataFrame:
    """One row per network of the complete trials, ordered by trial and seed.

    Raises:
        ResultsError: networks of a trial with several are missing.
    """
    several = complete[complete["num_seeds"] > 1].set_index("trial")["num_seeds"]
    if several.empty:
        return complete
    networks = results.seeds[results.seeds["trial"].isin(several.index)]
    found = networks["trial"].value_counts().reindex(several.index, fill_value=0)
    for trial, number, expected in zip(several.index, found, several, strict=True):
        if number != expected:
            raise ResultsError(
                f"{results.folder / 'seeds'}: {counted(number, 'network')} of trial {trial}, "
                f"which is the mean of {expected}"
            )
    single = complete[complete["num_seeds"] == 1]
    both = pd.concat([single, networks]) if len(single) else networks
    return both.sort_values(["trial", "seed"], ignore_index=True)


def over_seeds(rows: pd.DataFrame, x: str, value: str) -> tuple[Array, Array, Array]:
    """The values of ``x``, ascending, and mean and sample SD (NaN of one) of ``value`` at each."""
    grouped = rows.groupby(x)[value]
    mean, std = grouped.mean(), grouped.std()
    places, means, deviations = (np.asarray(v, dtype=np.float64) for v in (mean.index, mean, std))
    return places, means, deviations


def baseline_groups(
    results: Results, complete: pd.DataFrame, metrics: tuple[str, str], split: str
) -> tuple[SeedGroup, ...]:
    """The baselines that the complete trials are compared with, one group per distinct baseline.

    Cost, gain and score of a seed are against the mean of its own group, so their means are 0.
    Groups are in the order in which the trials first refer to them; those with the same seeds and
    points are one. There are none if a metric is not defined for a baseline, or the curves hold
    none of these baselines.
    """
    rows = results.curves
    rows = rows[(rows["role"] == "baseline") & (rows["split"] == split)]
    weights = complete.groupby("baseline_digest", sort=False)["robustness.tradeoff_weight"].first()
    groups: dict[tuple[object, ...], SeedGroup] = {}
    for digest, weight in weights.items():
        by_seed = rows[rows["baseline_digest"] == digest].groupby("seed")
        curves = {int(str(seed)): curve for seed, curve in by_seed}
        if not curves:
            continue
        values = [_values(name, list(curves.values()), float(weight)) for name in metrics]
        group = SeedGroup(str(digest), tuple(curves), np.stack(values, axis=1))
        if not np.isnan(group.points).any():
            groups.setdefault((group.seeds, group.points.tobytes()), group)
    return tuple(groups.values())


def confirmed_groups(results: Results, columns: tuple[str, str]) -> tuple[SeedGroup, ...]:
    """Confirmed configurations, one group of fresh seeds each, ordered by trial.

    Cost, gain and score are against the baseline of the same fresh seed. A run without such a
    baseline (yet) is left out where a column needs one. Runs that failed have no values;
    :func:`num_failed_confirmations` counts them.

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
    rows = results.confirmation[results.confirmation["role"] == "trial"]
    runs = {status: set(group) for status, group in rows.groupby("status")["config_digest"]}
    return len(runs.get("failed", set()) - runs.get("complete", set()))


def _fresh_rows(results: Results, role: Role, columns: tuple[str, str]) -> pd.DataFrame:
    rows = results.confirmation
    rows = rows[(rows["role"] == role) & (rows["status"] == "complete")]
    if any(results.metrics[column.removeprefix("test.")].against_baseline for column in columns):
        rows = rows[rows["test.tradeoff_score"].notna()]
    require_finite(rows, columns, results.folder / "confirmation")
    return rows


def _fresh_group(name: str, rows: pd.DataFrame, columns: tuple[str, str]) -> SeedGroup:
    rows = rows.sort_values("seed")
    seeds = tuple(int(seed) for seed in rows["seed"])
    return SeedGroup(name, seeds, rows[list(columns)].to_numpy(dtype=np.float64))


def _values(name: str, curves: list[pd.DataFrame], weight: float) -> Array:
    """A metric of each seed of a baseline, (S,); NaN where it is not defined for a baseline."""
    attack = name.removeprefix("robust_accuracy.")
    if attack != name:
        curves = [curve[curve["attack"] == attack] for curve in curves]
    # Accuracy at zero distortion is the same under every attack.
    clean = np.array([c.loc[c["epsilon"] == 0, "accuracy"].mean() for c in curves], dtype=float)
    robust = np.array([_reference_accuracy(curve) for curve in curves])
    cost, gain = clean.mean() - clean, robust - robust.mean()
    values: dict[str, Array] = {
        "clean_accuracy": clean,
        "robust_accuracy": robust,
        "accuracy_cost": cost,
        "robustness_gain": gain,
        "tradeoff_score": gain - weight * cost,
    }
    return robust if attack != name else values.get(name, np.full(len(curves), np.nan))


def _reference_accuracy(curve: pd.DataFrame) -> float:
    """Mean over the attacks of the accuracy at their reference epsilon; NaN if there is none."""
    at_reference = curve[curve["is_reference"].fillna(False)]
    return float(at_reference.groupby("attack")["accuracy"].first().mean())
