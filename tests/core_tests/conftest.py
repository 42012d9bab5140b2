"""Fixtures of several modules that test the core."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simreg_core.training import baselines
from simreg_core.training.fit import EpochRecord, fit
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

    def counted(*arguments: Any, seed: int) -> Iterator[EpochRecord]:
        seeds.append(seed)
        return fit(*arguments, seed=seed)

    monkeypatch.setattr(baselines, "fit", counted)
    return seeds
