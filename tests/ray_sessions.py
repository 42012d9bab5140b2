"""Fixtures for tests that start Ray: a temporary place for it, and a session on this machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.cluster import ray_session


@pytest.fixture(autouse=True, scope="session")
def ray_folder() -> Iterator[Path]:
    """Where Ray puts its sessions: a short path, since its sockets' names have 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def local_ray(ray_folder: Path) -> Iterator[None]:
    """Ray on this machine, started once for a file of tests."""
    with ray_session(None):
        yield
