from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.results.load import ResultsError
from analysis.results.parameters import (
    CategoricalColor,
    ContinuousColor,
    Scale,
    choose_color,
    format_value,
    scale_of,
    varying_parameters,
)
from simreg_core.results.schema import PARAMETERS

PANDAS = {"int64": "Int64", "float64": "float64", "bool": "boolean", "string": "string"}


def trials(**columns: list[Any]) -> pd.DataFrame:
    """Parameters as the loader gives them; those not named are null. ``__`` stands for a dot."""
    given = {name.replace("__", "."): values for name, values in columns.items()}
    length = len(next(iter(given.values())))
    columns_of_objects = {c.name: given.get(c.name, [None] * length) for c in PARAMETERS}
    frame = pd.DataFrame(columns_of_objects, dtype=object)
    return frame.astype({c.name: PANDAS[c.dtype] for c in PARAMETERS})


def test_varying_parameters_leave_out_constants_and_the_seed() -> None:
    frame = trials(regularizer__alpha=[1.0, 2.0], regularizer__threshold=[0.5, 0.5], seed=[1, 2])
    assert varying_parameters(frame) == ("regularizer.alpha",)


def test_null_is_a_value_that_varies() -> None:
    assert varying_parameters(trials(task__num_train=[500, None])) == ("task.num_train",)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {
                "model__base_channels": [8, 16],
                "regularizer__alpha": [1.0, 2.0],
                "regularizer__threshold": [0.2, 0.4],
            },
            "regularizer.threshold",
        ),
        (
            {"model__base_channels": [8, 16], "regularizer__num_images": [10, 20]},
            "model.base_channels",
        ),
        (
            {
                "model__blocks": [str(i) for i in range(13)],
                "regularizer__num_images": list(range(13)),
            },
            "regularizer.num_images",
        ),
    ],
    ids=["threshold", "first", "skips too many categories"],
)
def test_default_parameter(columns: dict[str, list[Any]], expected: str) -> None:
    color = choose_color(trials(**columns), None)
    assert color is not None
    assert color.parameter == expected


def test_no_color_where_nothing_varies() -> None:
    assert choose_color(trials(regularizer__alpha=[1.0, 1.0]), None) is None


def test_numbers_are_continuous() -> None:
    color = choose_color(trials(regularizer__num_images=[30, 10, 20]), "regularizer.num_images")
    assert isinstance(color, ContinuousColor)
    assert color.values.tolist() == [30.0, 10.0, 20.0]


@pytest.mark.parametrize(
    ("name", "values", "labels", "codes"),
    [
        ("regularizer.dataset", ["task", "digits", "task"], ("digits", "task"), [1, 0, 1]),
        ("task.color", [True, False, True], ("false", "true"), [1, 0, 1]),
        ("task.num_train", [500, None, 100], ("100", "500", "none"), [1, 2, 0]),
        ("regularizer.alpha", [10.0, 10.0, 10.0], ("10",), [0, 0, 0]),
    ],
    ids=["text", "bool", "number with nulls", "constant"],
)
def test_categories(
    name: str, values: list[Any], labels: tuple[str, ...], codes: list[int]
) -> None:
    color = choose_color(trials(**{name.replace(".", "__"): values}), name)
    assert isinstance(color, CategoricalColor)
    assert color.labels == labels
    assert color.codes.tolist() == codes


def test_unknown_parameter_lists_those_that_vary() -> None:
    with pytest.raises(ResultsError, match=r"'alpha' .*; allowed: regularizer\.alpha$"):
        choose_color(trials(regularizer__alpha=[1.0, 2.0]), "alpha")


def test_too_many_categories_are_refused() -> None:
    frame = trials(model__blocks=[str(i) for i in range(13)])
    with pytest.raises(ResultsError, match=r"model\.blocks has 13 categories .* at most 12"):
        choose_color(frame, "model.blocks")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.geomspace(0.01, 100, 9), "log"),
        ([0.0, 0.1, 1.0, 10.0, 100.0], "symlog"),
        (np.linspace(0.01, 1, 9), "linear"),
        ([0.2, 0.4, 0.8], "linear"),
        ([-1.0, 1.0, 100.0], "linear"),
    ],
    ids=["decades", "zero", "even", "narrow", "negative"],
)
def test_scale(values: Any, expected: Scale) -> None:
    assert scale_of(np.array(values, dtype=np.float64)) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (1e-5, "1e-05"),
        (7, "7"),
        (True, "true"),
        (pd.NA, "none"),
        ("task", "task"),
    ],
    ids=repr,
)
def test_values_as_text(value: object, text: str) -> None:
    assert format_value(value) == text
