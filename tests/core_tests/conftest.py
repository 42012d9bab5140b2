"""Fixtures of several modules that test the core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from simreg_core.config.trial import TrialConfig
from simreg_core.training import baselines
from simreg_core.training.fit import EpochRecord, fit


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrialConfig]:
    """The configurations that are trained while a test runs."""
    configs: list[TrialConfig] = []

    def counted(config: TrialConfig, *rest: Any) -> Iterator[EpochRecord]:
        configs.append(config)
        return fit(config, *rest)

    monkeypatch.setattr(baselines, "fit", counted)
    return configs
