"""Result folders for the tests of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.analysis_tests.result_rows import Row, complete_row, ended_row, write_part, write_results

SPACE: dict[str, Any] = {
    "name": "demo",
    "search": {
        "regularizer.alpha": {"type": "float", "low": 1.0, "high": 100.0, "log": True},
        "regularizer.threshold": {"type": "float", "low": 0.1, "high": 0.9},
    },
    "objectives": ["clean_accuracy", "robust_accuracy"],
    "tuning": {"num_trials": 4, "warm_starts": [{"regularizer.alpha": 10.0}]},
}
RUN = {"device": "cpu (x)", "num_threads": 2, "train_seconds": 1700.0, "evaluate_seconds": 100.0}


def small_trials() -> list[Row]:
    """Trials 0 and 1 are the front, 2 is behind, 3 failed; each took an hour of two threads."""
    figures = ((0.9, 0.5, 1.0, 0.2), (0.8, 0.7, 10.0, 0.5), (0.7, 0.4, 100.0, 0.8))
    rows = [
        complete_row(n, clean, robust, **RUN, finished_at=f"2026-01-01T0{n}:00:00+00:00")
        | {"regularizer.alpha": alpha, "regularizer.threshold": threshold}
        for n, (clean, robust, alpha, threshold) in enumerate(figures)
    ]
    return [*rows, ended_row(3, "failed", "no\nmemory")]


def write_space(folder: Path, **changes: Any) -> None:
    (folder / "space.yaml").write_text(json.dumps(SPACE | changes))


def small_results(folder: Path, trials: Sequence[Mapping[str, Any]] | None = None) -> Path:
    """A search with baselines, curves of a trial and epochs; returns ``folder``."""
    write_results(folder, small_trials() if trials is None else trials)
    write_space(folder)
    own = {"role": "trial", "trial": 0, "seed": 0, "split": "validation", "attack": "gaussian"}
    curve = [
        {**own, "epsilon": epsilon, "accuracy": accuracy, "num_images": 100}
        for epsilon, accuracy in ((0.0, 0.9), (0.05, 0.8), (0.1, 0.52))
    ]
    write_part(folder, "curves", "00000.parquet", curve)
    epochs = [
        {"role": "trial", "trial": 0, "seed": 0, "epoch": epoch, "gamma": [0.25, 0.75]}
        | {"validation_accuracy": accuracy, "validation_loss": 0.5, "similarity_correlation": 0.1}
        for epoch, accuracy in enumerate((0.5, 0.9))
    ]
    write_part(folder, "epochs", "00000.parquet", epochs)
    return folder


def write_confirmation(folder: Path, scores: Mapping[int, tuple[float, float | None]]) -> None:
    """``confirmation.json``: per trial the score's mean and half the width of its interval."""
    candidates = [
        {
            "trial": trial,
            "params": {},
            "num_failed": 0,
            "seeds": [1000, 1001],
            "estimates": {
                name: {"mean": mean, "half_width": half, "n": 2}
                for name in ("clean_accuracy", "accuracy_cost", "robustness_gain", "tradeoff_score")
            },
        }
        for trial, (mean, half) in scores.items()
    ]
    head = {"answer": None, "split": "test", "seeds": [1000, 1001], "baselines": []}
    content = {**head, "candidates": candidates}
    (folder / "confirmation.json").write_text(json.dumps(content))


def write_audit(path: Path, digest: str, warnings: Sequence[str]) -> None:
    """What ``simreg_core.audit --output`` writes, as far as the report reads it."""
    content = {"weights": "w.pt", "config_digest": digest, "plan": {}, "clean_accuracy": 0.9}
    content |= {"num_images": 200, "curves": [], "minimal": [], "warnings": list(warnings)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
