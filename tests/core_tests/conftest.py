"""Fixtures of several modules that test the core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from simreg_core.training import baselines
from simreg_core.training.fit import EpochRecord, fit


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Root seeds of the networks that are trained for the cache while a test runs."""
    seeds: list[int] = []

    def counted(*arguments: Any, seed: int) -> Iterator[EpochRecord]:
        seeds.append(seed)
        return fit(*arguments, seed=seed)

    monkeypatch.setattr(baselines, "fit", counted)
    return seeds
