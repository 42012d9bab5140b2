from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simreg_core.config.trial import TrainingConfig
from simreg_core.training.fit import learning_rate
from tests import oracles


def _assert_rates(
    step: Fraction, restart: Fraction, positions: list[Fraction], **schedule: Any
) -> None:
    schedule |= {"step": float(step), "restart": float(restart)}
    config = TrainingConfig.model_validate({"epochs": len(positions), "schedule": schedule})
    rates = [learning_rate(config, epoch) for epoch in range(len(positions))]
    factor = schedule.get("factor", 0.3)
    assert rates == pytest.approx(oracles.learning_rates(0.1, factor, step, restart, positions))


@given(
    st.fractions(Fraction(1, 4), 10, max_denominator=8),
    st.fractions(1, 4, max_denominator=8),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_rate_per_epochs_is_the_loop(step: Fraction, times: Fraction, factor: float) -> None:
    positions = [Fraction(epoch) for epoch in range(40)]
    _assert_rates(step, step * times, positions, unit="epochs", factor=factor)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 12))
def test_rate_per_fraction_of_the_run_is_the_loop(epochs: int, parts: int, times: int) -> None:
    step, positions = Fraction(1, parts), [Fraction(epoch, epochs) for epoch in range(epochs)]
    _assert_rates(step, step * times, positions, unit="fraction")


def test_published_schedule_falls_every_4_epochs_and_restarts_every_20() -> None:
    rates = [learning_rate(TrainingConfig(), epoch) for epoch in range(40)]
    cycle = [0.1 * 0.3**phase for phase in range(5) for _ in range(4)]
    assert rates == pytest.approx(cycle + cycle)
