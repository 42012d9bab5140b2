from __future__ import annotations

import json
from typing import Any

import pytest

from simreg_core.statistics.parameter_points import parameter_points


def columns(
    distribution: dict[str, Any], values: list[Any], key: str = "regularizer.alpha"
) -> dict[str, list[float]]:
    found = parameter_points({key: distribution}, [{key: value} for value in values])
    assert found.points.shape == (len(values), len(found.inputs))
    return dict(zip(found.inputs, found.points.T.tolist(), strict=True))


@pytest.mark.parametrize(
    ("distribution", "values", "expected"),
    [
        ({"type": "float", "low": 0.2, "high": 0.6}, [0.2, 0.3, 0.6], [0, 0.25, 1]),
        ({"type": "float", "low": 0.01, "high": 1, "log": True}, [0.01, 0.1, 1.0], [0, 0.5, 1]),
        ({"type": "int", "low": 1, "high": 5, "log": False, "step": 1}, [1, 2, 5], [0, 0.25, 1]),
        ({"type": "categorical", "choices": [0.2, 0.4, 0.8]}, [0.2, 0.4, 0.8], [0, 1 / 3, 1]),
        # Logarithmic from a factor of 8 on.
        ({"type": "categorical", "choices": [4, 8, 32]}, [4, 8, 32], [0, 1 / 3, 1]),
    ],
)
def test_numbers_go_from_the_lowest_to_the_highest(
    distribution: dict[str, Any], values: list[Any], expected: list[float]
) -> None:
    assert columns(distribution, values) == {"regularizer.alpha": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("choices", "values", "expected"),
    [
        (["a", "b"], ["b", "a", "b"], {"b": [1, 0, 1]}),
        (["a", "b", "c"], ["b", "a", "c"], {"a": [0, 1, 0], "b": [1, 0, 0], "c": [0, 0, 1]}),
        ([False, True], [True, False], {"true": [1, 0]}),
    ],
    ids=["two share an input", "more have an input each", "truth values"],
)
def test_categories_have_inputs_of_zeros_and_ones(
    choices: list[Any], values: list[Any], expected: dict[str, list[float]]
) -> None:
    found = columns({"type": "categorical", "choices": choices}, values)
    assert found == {f"regularizer.alpha = {choice}": v for choice, v in expected.items()}


def test_what_does_not_vary_is_left_out_and_so_is_the_seed() -> None:
    search: dict[str, dict[str, Any]] = {
        "seed": {"type": "categorical", "choices": [0, 1]},
        "regularizer.alpha": {"type": "float", "low": 0, "high": 1},
    }
    rows = [{"seed": seed, "regularizer.alpha": 0.5} for seed in (0, 1)]
    found = parameter_points(search, rows)
    assert found.points.shape == (2, 0)
    assert found.parameters == ()


def test_missing_number_is_marked() -> None:
    found = columns({"type": "float", "low": 0, "high": 1}, [0.0, None, 1.0])
    assert found == {"regularizer.alpha": [0, 0.5, 1], "regularizer.alpha = none": [0, 1, 0]}


def test_parameters_are_named_once_in_the_order_of_the_search() -> None:
    search: dict[str, dict[str, Any]] = {
        "b": {"type": "categorical", "choices": ["x", "y", "z"]},
        "a": {"type": "float", "low": 0, "high": 1},
    }
    rows = [{"a": 0.1, "b": "x"}, {"a": 0.2, "b": "y"}, {"a": 0.3, "b": "z"}]
    assert parameter_points(search, rows).parameters == ("b", "a")


def test_entry_of_a_table_is_read_from_its_text() -> None:
    key = "robustness.attacks.my.attacks:stripes.max_epsilon"
    rows = [
        {"robustness.attacks": json.dumps({"my.attacks:stripes": {"max_epsilon": epsilon}})}
        for epsilon in (0.1, 0.2, 0.3)
    ]
    found = parameter_points({key: {"type": "float", "low": 0.1, "high": 0.3}}, rows)
    assert found.points[:, 0].tolist() == pytest.approx([0, 0.5, 1])


def test_text_in_a_range_is_refused_with_its_key_and_nothing_gives_no_points() -> None:
    with pytest.raises(ValueError, match=r"regularizer\.alpha: a value is no number"):
        columns({"type": "float", "low": 0, "high": 1}, ["much", 0.5])
    assert parameter_points({}, [{}, {}]).points.shape == (2, 0)
    assert parameter_points({"a": {"type": "categorical"}}, []).points.shape == (0, 0)
