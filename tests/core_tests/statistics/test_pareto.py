from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from simreg_core.statistics.pareto import hypervolume, non_dominated

Points = NDArray[Any]


def brute_force_front(values: Points, maximize: list[bool]) -> list[bool]:
    def better(a: Any, b: Any, larger_is_better: bool) -> bool:
        return bool(a > b) if larger_is_better else bool(a < b)

    def dominates(a: Points, b: Points) -> bool:
        sides = list(zip(a.tolist(), b.tolist(), maximize, strict=True))
        no_worse = not any(better(y, x, up) for x, y, up in sides)
        return no_worse and any(better(x, y, up) for x, y, up in sides)

    return [not any(dominates(other, point) for other in values) for point in values]


def brute_force_volume(values: Points, reference: list[int], maximize: list[bool]) -> int:
    """Counts the unit cells between the reference and -6..6 that some integer point dominates."""
    signs = [1 if up else -1 for up in maximize]
    corners = [[s * (v - r) for s, v, r in zip(signs, p, reference, strict=True)] for p in values]
    cells = product(range(13), repeat=len(reference))
    return sum(
        any(all(low < c for low, c in zip(cell, p, strict=True)) for p in corners) for cell in cells
    )


@st.composite
def sets_of_points(
    draw: st.DrawFn, objectives: st.SearchStrategy[int], max_size: int = 12
) -> tuple[Points, list[bool]]:
    """Few distinct integers or halves, so that ties and duplicates are common."""
    num_objectives = draw(objectives)
    maximize = draw(st.lists(st.booleans(), min_size=num_objectives, max_size=num_objectives))
    number = st.integers(-3, 3)
    row = st.lists(number, min_size=num_objectives, max_size=num_objectives)
    values = np.array(draw(st.lists(row, min_size=1, max_size=max_size)))
    return (values / 2 if draw(st.booleans()) else values), maximize


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@given(data=st.data())
def test_front_equals_brute_force(number: int, data: st.DataObject) -> None:
    values, maximize = data.draw(sets_of_points(st.just(number)))
    assert non_dominated(values, maximize).tolist() == brute_force_front(values, maximize)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.empty((0, 2)), []),
        ([[1, 2], [1, 2], [1, 2]], [True, True, True]),
        ([[0, 2], [2, 0], [1, 1], [1, 1], [0, 0]], [True, True, True, True, False]),
        ([[np.inf, 0], [1, 1], [0, np.inf]], [True, True, True]),
        ([[0.0, -0.0], [-0.0, 0.0]], [True, True]),
    ],
    ids=["no point", "all equal", "duplicates", "infinite", "signed zeros"],
)
def test_front_by_hand(values: Any, expected: list[bool]) -> None:
    assert non_dominated(values, [True, True]).tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        np.array([[2**62, 0], [2**62 + 1, 0]], dtype=np.int64),
        np.array([[0, 7], [1, 7]], dtype=np.uint8),
        np.array([[np.iinfo(np.int64).min, 0], [0, 0]], dtype=np.int64),
    ],
    ids=["beyond float64", "unsigned", "smallest integer"],
)
def test_integers_are_compared_exactly(values: Points) -> None:
    assert non_dominated(values, [True, True]).tolist() == [False, True]
    assert non_dominated(values, [False, True]).tolist() == [True, False]


def test_front_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="NaN"):
        non_dominated([[0.0, np.nan]], [True, True])


@given(sets_of_points(st.sampled_from([1, 2, 3]), max_size=6), st.data())
def test_hypervolume_counts_unit_cells(
    case: tuple[Points, list[bool]], data: st.DataObject
) -> None:
    values, maximize = np.round(case[0]).astype(int), case[1]
    size = values.shape[1]
    reference = data.draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))
    expected = brute_force_volume(values, reference, maximize)
    assert hypervolume(values, reference, maximize) == expected
    assert hypervolume(values[:0], reference, maximize) == 0


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)), min_size=1, max_size=5))
def test_hypervolume_equals_inclusion_and_exclusion(points: list[tuple[float, float]]) -> None:
    values = np.array(points)
    expected = 0.0
    for members in product((False, True), repeat=len(values)):
        chosen = values[np.array(members)]
        if len(chosen):
            expected -= (-1) ** len(chosen) * float(np.prod(chosen.min(axis=0)))
    assert hypervolume(values, [0.0, 0.0], [True, True]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("value", "reference"), [(np.inf, 0.0), (1.0, -np.inf)])
def test_infinite_hypervolume_is_refused(value: float, reference: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        hypervolume([[1.0, value]], [0.0, reference], [True, True])
