"""The networks of one study of the poster, grouped by everything but their seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.charts.wording import images_text, range_text
from analysis.findings.fronts import complete_trials
from analysis.results.load import Array, Results, ResultsError, load_results, require_finite
from analysis.results.parameters import format_value, varying_parameters
from analysis.results.seed_groups import SeedGroup, baseline_groups, over_seeds, trial_networks
from simreg_core.errors import counted

_SYMBOLS = {
    "regularizer.alpha": "alpha",
    "regularizer.threshold": "Th",
    "regularizer.threshold_low": "Th2",
    "regularizer.batch_size": "k",
    "regularizer.num_images": "N",
}
_STATED = (
    "regularizer.alpha",
    "regularizer.threshold",
    "regularizer.batch_size",
    "regularizer.num_images",
    "regularizer.dataset",
)


class Study(NamedTuple):
    """One search of the poster, seen on one split."""

    results: Results
    complete: pd.DataFrame
    """The complete trials, by number; of several networks, a row is their mean."""
    networks: pd.DataFrame
    """One row per network of the complete trials."""
    split: str


class Group(NamedTuple):
    """Trials that differ in their seed only."""

    label: str
    """What distinguishes it from the other groups; empty if it is the only one."""
    values: dict[str, Any]
    """Values of the parameters that vary among the groups."""
    trials: tuple[int, ...]


def load_study(folder: Path, split: str) -> Study:
    """The complete trials of a search and what was measured on a split.

    Raises:
        ConfigError: a table cannot be read, no trial is complete, a complete trial lacks its
            accuracies, or trials are compared with different baselines.
    """
    results = load_results(folder)
    complete = complete_trials(results)
    columns = [f"{split}.clean_accuracy", f"{split}.robust_accuracy", f"num_{split}", "seed"]
    require_finite(complete, columns, folder / "trials")
    num_baselines = complete["baseline_digest"].nunique()
    if num_baselines > 1:
        raise ResultsError(
            f"{folder}: its trials are compared with {num_baselines} different baselines; "
            "a panel needs one"
        )
    return Study(results, complete, trial_networks(results, complete), split)


def groups(study: Study, without: str | None = None) -> tuple[Group, ...]:
    """Trials grouped by their varying parameters but seed and ``without``, in order of values."""
    complete = study.complete
    names = [name for name in varying_parameters(complete) if name != without]
    if not names:
        return (Group("", {}, tuple(complete["trial"])),)
    found = []
    for _, rows in complete.groupby(names, dropna=False, sort=True):
        values = {name: rows[name].iloc[0] for name in names}
        found.append(Group(group_label(values), values, tuple(rows["trial"])))
    return tuple(found)


def group_label(values: Mapping[str, Any], usual: Mapping[str, Any] | None = None) -> str:
    """Parameters as short text, without those that have their usual value (if given)."""
    return ", ".join(
        short_value(name, value)
        for name, value in values.items()
        if usual is None or format_value(value) != format_value(usual[name])
    )


def short_value(name: str, value: object) -> str:
    """``alpha 0.1``, ``pairs high``: symbol or last part of the name, and the value."""
    symbol = _SYMBOLS.get(name, name.rpartition(".")[2].replace("_", " "))
    text = format_value(value)
    if name == "regularizer.dataset":
        return dataset_name(text)
    return f"{symbol} {target_name(text) if name == 'regularizer.target' else text}"


def target_name(target: str) -> str:
    """A target's name in a few letters: of ``features:PATH``, that of the file."""
    kind, _, path = target.partition(":")
    return Path(path).stem if kind == "features" else target


def dataset_name(dataset: str) -> str:
    """A dataset's name in a few letters; the last part of a path."""
    # The kind of a dataset is its name, unless it only states how the path is read.
    kind, _, path = dataset.partition(":")
    if kind in ("parquet", "arrow", "npz", "folder"):
        return Path(path).name
    return "own images" if kind == "task" else kind


def network_rows(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table on the split: of the complete trials, then of their baselines."""
    table = table[table["split"] == study.split]
    own = (table["role"] == "trial") & table["trial"].isin(study.complete["trial"])
    digests = study.complete["baseline_digest"].dropna()
    baselines = (table["role"] == "baseline") & table["baseline_digest"].isin(digests)
    return pd.concat([table[own], table[baselines]])


def mean_over_seeds(
    study: Study, rows: pd.DataFrame, x: str, value: str
) -> tuple[Array, Array, Array]:
    """:func:`over_seeds` of rows without gaps.

    Raises:
        ResultsError: a value is null or NaN.
    """
    values = rows[[x, value]].astype(float)
    gaps = rows.loc[~np.isfinite(values.to_numpy()).all(axis=1), "trial"]
    if len(gaps):
        network = "the baseline" if pd.isna(gaps.iloc[0]) else f"trial {gaps.iloc[0]}"
        raise ResultsError(f"{study.results.folder}: {value} of {network} is null or NaN")
    return over_seeds(values, x, value)


def baseline(study: Study, metric: str) -> SeedGroup | None:
    """One metric of the baseline's seeds (its first coordinate); None if there is no baseline."""
    found = baseline_groups(study.results, study.complete, (metric, metric), study.split)
    return found[0] if found else None


def conditions(study: Study, images: str | None = None) -> str:
    """Task, network, constant settings of the regularizer, split, images and seeds, as text.

    The images, as text, are those that the numbers are over; None: those of the accuracies.
    """
    row = study.complete.iloc[0]
    varying = varying_parameters(study.complete)
    network = [dataset_name(row["task.dataset"]), format_value(row["model.architecture"])]
    if pd.notna(row["model.base_channels"]):
        network.append(f"base {row['model.base_channels']}")
    if pd.notna(row["training.epochs"]):
        network.append(counted(row["training.epochs"], "epoch"))
    settings = [
        short_value(name, row[name])
        for name in _STATED
        if name not in varying and pd.notna(row[name])
    ]
    images = images or images_text(study.complete[f"num_{study.split}"])
    return (
        f"{', '.join(network)}; {', '.join(settings)}; {study.split} split, {images}; "
        f"{_seeds_text(study)}"
    )


def _seeds_text(study: Study) -> str:
    seeds = study.networks.set_index("trial")["seed"]
    counts = [seeds.loc[list(group.trials)].nunique() for group in groups(study)]
    unregularized = baseline(study, "clean_accuracy")
    number = 0 if unregularized is None else len(unregularized.seeds)
    if max(counts) > 1:
        return f"mean ± SD of {range_text(counts)} seeds, {number} of the unregularized network"
    if number > 1:
        return f"1 seed; unregularized network: mean ± SD of {number} seeds"
    return f"1 seed, {number} of the unregularized network"
