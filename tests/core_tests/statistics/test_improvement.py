from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreg_core.statistics.improvement import expected_gains, hypervolume_gains
from simreg_core.statistics.pareto import hypervolume


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 8))
def test_gain_is_the_difference_of_hypervolumes(seed: int, objectives: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    # Few levels, so that there are ties; some points are below the reference point.
    front, candidates = (rng.integers(-2, 6, (count, objectives)) / 4.0 for count in (number, 5))
    zero, best = np.zeros(objectives), [True] * objectives
    before = hypervolume(front, zero, best)
    expected = [
        hypervolume(np.concatenate([front, [candidate]]), zero, best) - before
        for candidate in candidates
    ]
    np.testing.assert_allclose(hypervolume_gains(front, candidates), expected, atol=1e-12)


def test_expected_gain_is_the_mean_over_draws_times_the_probability_to_be_feasible() -> None:
    known = np.array([[[1.0, 1.0]], [[2.0, 2.0]]])
    candidates = np.array([[[2.0, 1.0], [1.0, 3.0]], [[3.0, 1.0], [1.0, 3.0]]])
    yes = np.ones((2, 1), dtype=np.bool_)
    feasible = np.array([[True, True], [True, False]])
    # First draw: 1 and 2. Second draw: 1, and a candidate that is not feasible.
    assert expected_gains(known, candidates, yes, feasible).tolist() == [1.0, 0.5]


def test_infeasible_known_points_do_not_count() -> None:
    known, candidates = np.array([[[5.0]], [[1.0]]]), np.array([[[2.0]], [[2.0]]])
    known_ok = np.array([[False], [True]])
    gains = expected_gains(known, candidates, known_ok, np.ones((2, 1), dtype=np.bool_))
    assert gains.tolist() == [1.5]


def test_without_a_feasible_point_feasibility_counts() -> None:
    known, candidates = np.ones((4, 1, 2)), np.ones((4, 2, 2))
    feasible = np.array([[True, False], [True, False], [False, False], [False, True]])
    gains = expected_gains(known, candidates, np.zeros((4, 1), dtype=np.bool_), feasible)
    assert gains.tolist() == pytest.approx([0.5, 0.25])
