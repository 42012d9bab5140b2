"""Builds result folders as a search writes them, row by row, without the search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.findings.fronts import ParetoInfo, pareto_info
from analysis.results.load import load_results
from simreg_core.registry import METRICS
from simreg_core.results.schema import (
    PARAMETERS,
    SCHEMA_VERSION,
    TABLES,
    VERSION_KEY,
    arrow_schema,
)

Row = dict[str, Any]

DEFAULTS: Row = {
    "task.dataset": "digits",
    "model.architecture": "resnet18",
    "regularizer.alpha": 10.0,
    "regularizer.threshold": 0.8,
    "regularizer.dataset": "task",
    "regularizer.batch_size": 16,
    "robustness.tradeoff_weight": 1.0,
    "seed": 0,
}
ATTACKS = ("gaussian", "uniform")
BASELINE = {101: (0.90, 0.40), 102: (0.92, 0.44), 103: (0.94, 0.42)}
"""Seed -> (clean, robust) accuracy: means 0.92 and 0.42, sample standard deviations 0.02."""


def table_schema(
    table: str, version: str | None = str(SCHEMA_VERSION), optional: Iterable[str] = ()
) -> pa.Schema:
    """Schema as the search writes it; no version entry if ``version`` is None."""
    metadata = {} if version is None else {VERSION_KEY: version.encode()}
    return arrow_schema(table, optional).with_metadata(metadata)


def write_part(
    folder: Path, table: str, name: str, rows: Sequence[Mapping[str, Any]], **schema: Any
) -> Path:
    """Write rows (columns that they lack are null) as one part file; returns its path.

    The other tables of the folder are there, too, perhaps without a file.
    """
    path = folder / table / name
    for other in TABLES:
        (folder / other).mkdir(parents=True, exist_ok=True)
    fixed = {column.name for column in TABLES[table]}
    optional = dict.fromkeys(name for row in rows for name in row if name not in fixed)
    content = pa.Table.from_pylist(list(rows), table_schema(table, optional=optional, **schema))
    pq.write_table(content, path)
    return path


def complete_row(trial: int, clean: float, robust: float, **changes: Any) -> Row:
    """A complete trial: accuracies (c, r) on validation and (c - 0.01, r - 0.01) on test."""
    row: Row = {
        "study": "demo",
        "trial": trial,
        "status": "complete",
        "feasible": True,
        "num_seeds": 1,
        "baseline_digest": "base0",
        **DEFAULTS,
        "num_validation": 100,
        "num_test": 400,
    }
    for split, drop in (("validation", 0.0), ("test", 0.01)):
        row |= metric_columns(split, clean - drop, robust - drop)
    return row | changes


def metric_columns(split: str, clean: float, robust: float) -> Row:
    """Metrics of one split against the mean of :data:`BASELINE`, weight 1; no ratio."""
    values = {
        "clean_accuracy": clean,
        "robust_accuracy": robust,
        "robust_accuracy.gaussian": robust + 0.02,
        "robust_accuracy.uniform": robust - 0.02,
        "accuracy_cost": 0.92 - clean,
        "robustness_gain": robust - 0.42,
        "tradeoff_score": (robust - 0.42) - (0.92 - clean),
    }
    return {f"{split}.{name}": values.get(name) for name in {**METRICS.own, **values}}


def alpha_rows() -> list[Row]:
    """Trials 0 and 1 are the front, 2 is behind both; alpha is 1, 10 and 100."""
    figures = ((0.9, 0.5), (0.8, 0.7), (0.7, 0.4))
    return [
        complete_row(n, *figures[n], **{"regularizer.alpha": 10.0**n}) for n in range(len(figures))
    ]


def info_of(
    folder: Path,
    rows: Sequence[Mapping[str, Any]] | None = None,
    x: str = "clean_accuracy",
    y: str = "robust_accuracy",
    split: str = "validation",
    color: str | None = None,
    curves: Sequence[Mapping[str, Any]] | None = None,
) -> ParetoInfo:
    """The front of trials (:func:`alpha_rows` if none are given), written to ``folder``."""
    write_results(folder, alpha_rows() if rows is None else rows, curves)
    return pareto_info(load_results(folder), x, y, split, color)


def ended_row(trial: int, status: str, reason: str | None) -> Row:
    """A failed or pruned trial: parameters, but no figures."""
    return {"study": "demo", "trial": trial, "status": status, "reason": reason, **DEFAULTS}


def baseline_curves(
    digest: str = "base0", seeds: Mapping[int, tuple[float, float]] = BASELINE
) -> list[Row]:
    """Curves of baselines on both splits: robust - 0.02 under uniform, + 0.02 under gaussian."""
    return [
        {
            "role": "baseline",
            "baseline_digest": digest,
            "seed": seed,
            "split": split,
            "attack": attack,
            "epsilon": epsilon,
            "is_reference": epsilon == 0.1,
            "accuracy": accuracy,
            "num_images": 100,
        }
        for seed, (clean, robust) in seeds.items()
        for split in ("validation", "test")
        for attack, shift in zip(ATTACKS, (0.02, -0.02), strict=True)
        for epsilon, accuracy in ((0.0, clean), (0.05, 0.7), (0.1, robust + shift))
    ]


def confirmation_rows(trial: int, accuracies: Mapping[int, tuple[float, float]]) -> list[Row]:
    """A confirmed configuration: seed -> (clean, robust) accuracy on the test split."""
    return [
        {"role": "trial", "trial": trial, "status": "complete", **DEFAULTS}
        | {"config_digest": f"{trial}-{seed}", "seed": seed}
        | metric_columns("test", clean, robust)
        for seed, (clean, robust) in accuracies.items()
    ]


def write_results(
    folder: Path,
    trials: Sequence[Mapping[str, Any]],
    curves: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """One file per trial and one of curves (the default baselines'); returns ``folder``."""
    for row in trials:
        write_part(folder, "trials", f"{row['trial']:05d}.parquet", [row])
    rows = baseline_curves() if curves is None else curves
    write_part(folder, "curves", "baseline-base0.parquet", rows)
    (folder / "space.yaml").write_text("name: demo\n")
    return folder


def random_rows(num_trials: int, seed: int = 0) -> list[Row]:
    """Trials with a plausible cloud: a larger alpha costs accuracy and buys robustness."""
    rng = np.random.default_rng(seed)
    assert set(DEFAULTS) <= {column.name for column in PARAMETERS}
    rows = []
    for trial in range(num_trials):
        alpha = float(10 ** rng.uniform(-2, 2))
        strength = np.log10(alpha) / 4 + 0.5
        clean = float(np.clip(0.93 - 0.12 * strength**2 + rng.normal(0, 0.015), 0, 1))
        robust = float(np.clip(0.4 + 0.35 * strength + rng.normal(0, 0.05), 0.03, 0.97))
        rows.append(complete_row(trial, clean, robust, **{"regularizer.alpha": alpha}))
    return rows
