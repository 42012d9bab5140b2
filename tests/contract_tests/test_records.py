from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.provenance import provenance
from simreg_core.registry import METRICS
from simreg_core.results.measurements import CurvePoint
from simreg_core.results.schema import (
    CONFIRMATION_COLUMNS,
    CURVE_COLUMNS,
    EPOCH_COLUMNS,
    SPLITS,
    TABLES,
    TRIAL_COLUMNS,
    Column,
    optional_column,
)
from simreg_core.training.state import EpochRecord
from tests.core_tests.measuring import run

ATTACKED = ("gaussian", "transfer_fgsm")
DTYPES = {"int64", "float64", "string", "bool", "list<float64>"}


def _dtypes(columns: tuple[Column, ...]) -> dict[str, str]:
    return {column.name: column.dtype for column in columns}


def test_columns_are_unique_typed_and_described() -> None:
    found: dict[str, set[str]] = {}
    for columns in TABLES.values():
        assert len(_dtypes(columns)) == len(columns)
        assert [column.name for column in columns if not column.description] == []
        for column in columns:
            found.setdefault(column.name, set()).add(column.dtype)
    assert all(len(dtypes) == 1 and dtypes <= DTYPES for dtypes in found.values())


def test_every_metric_is_a_column_and_confirmation_shows_no_validation() -> None:
    names = [f"{split}.{metric}" for split in SPLITS for metric in METRICS.own]
    assert {_dtypes(TRIAL_COLUMNS)[name] for name in names} == {"float64"}
    shown = _dtypes(CONFIRMATION_COLUMNS)
    assert [name for name in shown if name.startswith("validation.")] == []
    assert {f"test.{metric}" for metric in METRICS.own} <= set(shown)


def test_fields_of_records_and_provenance_are_columns() -> None:
    found = set(provenance(torch.device("cpu")))
    assert found <= set(_dtypes(TRIAL_COLUMNS))
    assert found <= set(_dtypes(CONFIRMATION_COLUMNS))
    assert set(CurvePoint._fields) <= set(_dtypes(CURVE_COLUMNS))
    assert set(EpochRecord._fields) <= set(_dtypes(EPOCH_COLUMNS))


def test_result_of_a_trial_fits_the_columns_and_fills_all_but_the_searchs(
    tiny_config: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    result = run(tiny_config(), tmp_path)
    names = [f"{split}.robust_accuracy.{name}" for split in SPLITS for name in ATTACKED]
    optional = tuple(column for column in map(optional_column, names) if column)
    dtypes = _dtypes((*TRIAL_COLUMNS, *optional))
    kinds: dict[str, Any] = {"int64": int, "float64": int | float, "string": str, "bool": bool}
    for name, value in result.columns.items():
        assert value is None or isinstance(value, kinds[dtypes[name]]), name
    of_the_search = {"study", "trial", "status", "reason", "feasible", "num_seeds"}
    assert set(dtypes) - set(result.columns) == of_the_search
