from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
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
from simreg_core.training.fit import EpochRecord
from tests.core_tests.measuring import run

ATTACKED = ("gaussian", "transfer_fgsm")
DTYPES = {"int64", "float64", "string", "bool", "list<float64>"}


def _dtypes(columns: tuple[Column, ...]) -> dict[str, str]:
    return {column.name: column.dtype for column in columns}


@pytest.mark.parametrize("table", TABLES)
def test_columns_are_unique_typed_and_described(table: str) -> None:
    counts = Counter(column.name for column in TABLES[table])
    assert [name for name, count in counts.items() if count > 1] == []
    assert {column.dtype for column in TABLES[table]} <= DTYPES
    assert [column.name for column in TABLES[table] if not column.description] == []


def test_column_of_two_tables_has_one_dtype() -> None:
    found: dict[str, set[str]] = {}
    for columns in TABLES.values():
        for column in columns:
            found.setdefault(column.name, set()).add(column.dtype)
    assert {name: dtypes for name, dtypes in found.items() if len(dtypes) > 1} == {}


def test_every_metric_is_a_column_of_both_splits() -> None:
    names = [f"{split}.{metric}" for split in SPLITS for metric in METRICS.own]
    assert {_dtypes(TRIAL_COLUMNS)[name] for name in names} == {"float64"}


def test_confirmation_shows_no_validation_figure() -> None:
    names = [column.name for column in CONFIRMATION_COLUMNS]
    assert [name for name in names if name.startswith("validation.")] == []
    assert {f"test.{metric}" for metric in METRICS.own} <= set(names)


def test_provenance_is_part_of_trials_and_confirmation() -> None:
    found = set(provenance(torch.device("cpu")))
    assert found <= set(_dtypes(TRIAL_COLUMNS))
    assert found <= set(_dtypes(CONFIRMATION_COLUMNS))


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        pytest.param(CurvePoint._fields, CURVE_COLUMNS, id="curves"),
        pytest.param(EpochRecord._fields, EPOCH_COLUMNS, id="epochs"),
    ],
)
def test_record_fields_are_columns(fields: tuple[str, ...], columns: tuple[Column, ...]) -> None:
    assert set(fields) <= set(_dtypes(columns))


def test_result_of_a_trial_fits_the_columns_and_fills_all_but_the_searchs(
    tiny_config: Callable[..., TrialConfig], tmp_path: Path
) -> None:
    result = run(tiny_config(), tmp_path)
    optional = [
        optional_column(f"{split}.robust_accuracy.{name}") for split in SPLITS for name in ATTACKED
    ]
    dtypes = _dtypes((*TRIAL_COLUMNS, *filter(None, optional)))
    assert set(result.columns) <= set(dtypes)
    kinds: dict[str, type | tuple[type, ...]] = {
        "int64": int,
        "float64": (int, float),
        "string": str,
        "bool": bool,
    }
    misfits = {
        name: value
        for name, value in result.columns.items()
        if value is not None and not isinstance(value, kinds[dtypes[name]])
    }
    assert misfits == {}
    of_the_search = {"study", "trial", "status", "reason", "feasible", "num_seeds"}
    assert set(dtypes) - set(result.columns) == of_the_search
