from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tuner.study.unit_values import unit_of, value_at

DISTRIBUTIONS = [
    FloatDistribution(-1.0, 3.0),
    FloatDistribution(1e-4, 10.0, log=True),
    FloatDistribution(0.0, 1.0, step=0.25),
    IntDistribution(1, 7),
    IntDistribution(2, 100, log=True),
    IntDistribution(4, 32, step=4),
    CategoricalDistribution(["a", "b", None, 3]),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
@given(unit=st.floats(0, 1))
def test_values_are_allowed_and_return_to_their_place(
    distribution: BaseDistribution, unit: float
) -> None:
    value = value_at(distribution, unit)
    assert distribution._contains(distribution.to_internal_repr(value))
    assert value_at(distribution, unit_of(distribution, value)) == pytest.approx(value)


@pytest.mark.parametrize("distribution", [DISTRIBUTIONS[n] for n in (2, 3, 5, 6)])
def test_steps_are_equally_likely(distribution: BaseDistribution) -> None:
    found = Counter(value_at(distribution, (n + 0.5) / 2800) for n in range(2800))
    assert max(found.values()) - min(found.values()) <= 2


def test_logarithmic_ranges_are_uniform_in_the_logarithm() -> None:
    distribution = FloatDistribution(0.01, 1.0, log=True)
    assert value_at(distribution, 0.5) == pytest.approx(0.1)
    assert unit_of(distribution, 0.1) == pytest.approx(0.5)
