from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simreg_core.config.trial import TrainingConfig, TrialConfig
from simreg_core.training.fit import learning_rate
from tests import oracles

CPU = torch.device("cpu")
MakeConfig = Callable[..., TrialConfig]


# The learning rate


@given(
    st.fractions(Fraction(1, 4), 10, max_denominator=8),
    st.fractions(1, 4, max_denominator=8),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_rate_per_epochs_is_the_loop(step: Fraction, times: Fraction, factor: float) -> None:
    restart = step * times
    schedule = {"unit": "epochs", "factor": factor, "step": float(step), "restart": float(restart)}
    config = TrainingConfig.model_validate({"epochs": 40, "schedule": schedule})
    rates = [learning_rate(config, epoch) for epoch in range(40)]
    positions = [Fraction(epoch) for epoch in range(40)]
    assert rates == pytest.approx(oracles.learning_rates(0.1, factor, step, restart, positions))


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 12))
def test_rate_per_fraction_of_the_run_is_the_loop(epochs: int, parts: int, times: int) -> None:
    step = Fraction(1, parts)
    restart = step * times
    schedule = {"unit": "fraction", "step": float(step), "restart": float(restart)}
    config = TrainingConfig.model_validate({"epochs": epochs, "schedule": schedule})
    rates = [learning_rate(config, epoch) for epoch in range(epochs)]
    positions = [Fraction(epoch, epochs) for epoch in range(epochs)]
    assert rates == pytest.approx(oracles.learning_rates(0.1, 0.3, step, restart, positions))


def test_published_schedule_falls_every_4_epochs_and_restarts_every_20() -> None:
    rates = [learning_rate(TrainingConfig(), epoch) for epoch in range(40)]
    cycle = [0.1 * 0.3**phase for phase in range(5) for _ in range(4)]
    assert rates == pytest.approx(cycle + cycle)
