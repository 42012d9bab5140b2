"""Fixtures for tests that start Ray: a folder for it, and one session on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.execution.ray_session import ray_session

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="session")
def ray_folder() -> Iterator[Path]:
    """Where Ray puts its sessions: a short path, since names of its sockets have 107 characters.

    Its workers find the project, the tests included, from any working directory.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def local_ray(ray_folder: Path) -> Iterator[None]:
    """Ray on this machine, started once."""
    with ray_session(None):
        yield
