"""What the searches share: one output folder, and with it the reference networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from tests.end_to_end.searches import Search, run
from tests.ray_sessions import local_ray, ray_folder

__all__ = ["local_ray", "ray_folder"]


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output")


@pytest.fixture(scope="session")
def good(output: Path) -> Search:
    """Three trials, one after another."""
    return run(output, "good", "--num-trials", "3", "--seed", "7", "--max-concurrent", "1")


@pytest.fixture(scope="module")
def cluster(local_ray: None) -> list[str]:
    """Flags that run a search on a cluster that is there already."""
    return ["--address", ray.get_runtime_context().gcs_address]
