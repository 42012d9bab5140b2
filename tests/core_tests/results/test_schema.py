from __future__ import annotations

import pytest

from simreg_core.config.trial import field_paths
from simreg_core.results.schema import PARAMETERS, SCHEMA_VERSION


def test_parameters_are_the_fields_of_a_trial() -> None:
    assert [column.name for column in PARAMETERS] == [path for path, _ in field_paths()]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("seed", "int64"),
        ("task.dataset", "string"),
        ("task.num_train", "int64"),
        ("task.image_size", "int64"),
        ("task.color", "bool"),
        ("model.architecture", "string"),
        ("model.blocks", "string"),
        ("model.scale", "float64"),
        ("regularizer.alpha", "float64"),
        ("regularizer.shuffle_targets", "bool"),
        ("robustness.attacks", "string"),
        ("robustness.reference", "string"),
        ("robustness.baseline_seeds", "string"),
    ],
)
def test_parameter_has_the_type_of_its_field(name: str, dtype: str) -> None:
    assert {column.name: column.dtype for column in PARAMETERS}[name] == dtype


def test_schema_has_a_version() -> None:
    assert SCHEMA_VERSION >= 1
