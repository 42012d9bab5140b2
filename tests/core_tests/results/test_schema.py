from __future__ import annotations

import math

import pytest

from simreg_core.config.robustness import ATTACKS
from simreg_core.config.trial import field_paths
from simreg_core.results.schema import METRICS, PARAMETERS, SCHEMA_VERSION


def test_metrics_are_filed_under_their_own_names() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())


def test_every_attack_has_a_metric() -> None:
    under_attack = {n.removeprefix("robust_accuracy.") for n in METRICS if "robust_accuracy." in n}
    assert under_attack == set(ATTACKS)


def test_ratio_is_no_objective() -> None:
    assert [name for name, metric in METRICS.items() if metric.direction is None] == [
        "tradeoff_ratio"
    ]


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("clean_accuracy", "maximize"),
        ("robust_accuracy", "maximize"),
        ("tradeoff_score", "maximize"),
        ("robustness_gain", "maximize"),
        ("accuracy_cost", "minimize"),
    ],
)
def test_metric_has_its_direction(name: str, direction: str) -> None:
    assert METRICS[name].direction == direction


def test_worst_values_are_finite_where_given() -> None:
    assert all(m.worst is None or math.isfinite(m.worst) for m in METRICS.values())


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
