"""Fixtures of several modules that test the core."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.training import baselines
from simreg_core.training.checkpoints import fit_with_checkpoints
from simreg_core.training.state import TrainingState
from tests.object_stores import bucket, make_bucket, s3_server

__all__ = ["bucket", "make_bucket", "s3_server"]

MakeModule = Callable[[str], Path]


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeModule]:
    """Writes the source of a user's module, which is called ``mine``."""

    def make(source: str) -> Path:
        sys.modules.pop("mine", None)
        path = tmp_path / "modules" / "mine.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(path.parent)  # forgets what Python knew of the folder
        return path

    yield make
    for name in ("mine", "mine_too"):
        sys.modules.pop(name, None)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Root seeds of the networks that are trained for the cache while a test runs."""
    seeds: list[int] = []

    def counted(state: TrainingState, data: TaskData, config: TrialConfig, path: Path) -> None:
        seeds.append(config.seed)
        fit_with_checkpoints(state, data, config, path)

    monkeypatch.setattr(baselines, "fit_with_checkpoints", counted)
    return seeds
