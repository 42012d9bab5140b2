"""A search whose true accuracies are known, with noise of known size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.analysis_tests.result_rows import Row, complete_row, write_results

ALPHA, THRESHOLD = "regularizer.alpha", "regularizer.threshold"
SEARCH = {
    THRESHOLD: {"type": "float", "low": 0.1, "high": 0.9},
    ALPHA: {"type": "float", "low": 0.01, "high": 1.0, "log": True},
}
SPACE = {"name": "demo", "search": SEARCH, "objectives": ["clean_accuracy", "robust_accuracy"]}


def truth(threshold: float, alpha: float) -> tuple[float, float]:
    """A tradeoff in alpha (s from 0 to 1), best at a threshold of 0.5."""
    strength = math.log10(alpha) / 2 + 1
    loss = 0.2 * (threshold - 0.5) ** 2
    return 0.95 - 0.2 * strength**2 - loss, 0.4 + 0.2 * strength - loss


def noisy_rows(number: int, noise: float = 0.05, seed: int = 0, **changes: Any) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows = []
    for trial in range(number):
        threshold, alpha = float(rng.uniform(0.1, 0.9)), float(10 ** rng.uniform(-2, 0))
        clean, robust = truth(threshold, alpha)
        parameters = {THRESHOLD: threshold, ALPHA: alpha}
        clean, robust = clean + rng.normal(0, noise / 10), robust + rng.normal(0, noise)
        rows.append(complete_row(trial, clean, robust, **parameters, **changes))
    return rows


def search(folder: Path, rows: Sequence[Row], space: object = SPACE) -> Path:
    write_results(folder, rows)
    (folder / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    return folder
