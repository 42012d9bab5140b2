from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.findings.importance import NoImportanceError, importances

A, B = "regularizer.alpha", "regularizer.threshold"
C, K = "regularizer.dataset", "regularizer.batch_size"


def table(num: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            A: 10 ** rng.uniform(-3, 0, num),
            B: rng.uniform(0, 1, num),
            C: pd.array(["x", "y"] * (num // 2) + ["x"] * (num % 2), "string"),
            K: pd.array(rng.integers(1, 5, num), "Int64"),
        }
    )


def test_the_parameter_that_decides_matters_most() -> None:
    trials = table(60)
    values = -((np.log10(trials[A]) + 1) ** 2).to_numpy()
    search = {A: {"type": "float", "low": 0.001, "high": 1.0, "log": True}}
    found = importances(trials, values, [A, B, C, K], search, maximize=True)
    assert next(iter(found)) == A
    assert found[A] > 0.8
    assert sum(found.values()) == pytest.approx(1)


def test_direction_is_heeded() -> None:
    """The smallest figures are those of a small b, the largest those of any b."""
    trials = table(200)
    values = np.random.default_rng(1).random(200) - 100.0 * (trials[B] < 0.1).to_numpy()
    low = importances(trials, values, [B, K], {}, maximize=False)
    high = importances(trials, values, [B, K], {}, maximize=True)
    assert low[B] > 0.8
    assert low[B] > high[B]


@pytest.mark.parametrize(
    ("num", "parameters", "values", "reason"),
    [
        (9, [A, B], None, "needs 10 complete trials, found 9"),
        (20, [A], None, "needs two parameters that vary, found 1"),
        (20, [A, B], 0.5, "same value"),
    ],
)
def test_reason_without_importances(
    num: int, parameters: list[str], values: float | None, reason: str
) -> None:
    figures = np.arange(num, dtype=np.float64) if values is None else np.full(num, values)
    with pytest.raises(NoImportanceError, match=reason):
        importances(table(num), figures, parameters, {}, maximize=True)


@pytest.mark.parametrize(
    "asked",
    [{}, {B: {"type": "categorical", "choices": [0.1]}}, {B: None}, {B: {"low": "x"}}],
)
def test_any_search_section_is_survived_silently(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    trials = table(20)
    trials[B] = trials[B].round(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importances(trials, np.arange(20.0), [A, B], asked, maximize=True)
    assert capsys.readouterr().err == ""


def test_nulls_are_a_category() -> None:
    trials = table(20)
    trials.loc[3, B] = np.nan
    assert set(importances(trials, np.arange(20.0), [A, B], {}, maximize=True)) == {
        A,
        B,
    }
