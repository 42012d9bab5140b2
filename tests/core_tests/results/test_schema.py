from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from simreg_core.config.trial import field_paths
from simreg_core.registry import METRICS
from simreg_core.results.schema import (
    PARAMETERS,
    SCHEMA_VERSION,
    VERSION_KEY,
    arrow_schema,
    metrics_in,
    optional_column,
)

DTYPES = {
    "int64": "seed task.num_train task.image_size",
    "float64": "model.scale regularizer.alpha",
    "bool": "task.color regularizer.shuffle_targets",
    "string": "task.dataset model.architecture model.blocks robustness.attacks "
    "robustness.reference robustness.baseline_seeds",
}


def test_parameters_are_the_fields_of_a_trial_with_their_types() -> None:
    assert [column.name for column in PARAMETERS] == [path for path, _ in field_paths()]
    found = {column.name: column.dtype for column in PARAMETERS}
    for dtype, names in DTYPES.items():
        assert {found[name] for name in names.split()} == {dtype}


# Optional columns: accuracies under single attacks, and metrics from elsewhere

STRIPES = "test.robust_accuracy.my:stripes"


def test_columns_of_single_attacks_are_optional_and_leave_the_schema_alone() -> None:
    plain, more = arrow_schema("trials"), arrow_schema("trials", [STRIPES])
    assert STRIPES not in plain.names
    assert more.names == [*plain.names, STRIPES]
    assert str(more.field(STRIPES).type) == "double"
    assert more.metadata == plain.metadata == {VERSION_KEY: str(SCHEMA_VERSION).encode()}


OTHERS = (
    "test.clean_accuracy test.unknown test. train.robust_accuracy.gaussian gaussian "
    "test.no_such_module:metric"
)


@pytest.mark.parametrize("name", OTHERS.split())
def test_other_names_are_no_optional_columns(name: str) -> None:
    assert optional_column(name) is None
    with pytest.raises(ValueError, match="has no columns"):
        arrow_schema("trials", [name])


def test_files_say_how_their_metrics_are_shown() -> None:
    found = metrics_in(arrow_schema("trials", [STRIPES]))
    assert list(found) == [*METRICS.own, "robust_accuracy.my:stripes"]
    for name, metric in METRICS.own.items():
        for shown in ("title", "direction", "worst", "description", "is_accuracy"):
            assert getattr(found[name], shown) == getattr(metric, shown)
    attacked = found["robust_accuracy.my:stripes"]
    assert (attacked.direction, attacked.worst, attacked.is_accuracy) == ("maximize", 0, True)
    assert "my:stripes" in attacked.label
    with pytest.raises(NotImplementedError):
        attacked(None)


def test_metric_from_elsewhere_is_described_by_the_file_alone(
    make_module: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_module("""
        from simreg_core.registry import metric

        @metric("calm", direction="minimize", worst=2.0, label="lack of calm")
        def calm(measured):
            return 1.0
    """)
    schema = arrow_schema("trials", ["validation.mine:calm"])
    monkeypatch.delitem(sys.modules, "mine")
    monkeypatch.setattr(sys, "path", [])
    found = metrics_in(schema)["mine:calm"]
    assert (found.name, found.label) == ("mine:calm", "lack of calm")
    assert (found.direction, found.worst, found.is_accuracy) == ("minimize", 2.0, False)
