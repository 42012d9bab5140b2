"""What the searches share: one output folder with its reference networks, and one Ray."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import ray
from filelock import FileLock

from tests.end_to_end.searches import Search, run


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "output"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def good(output: Path) -> Search:
    """Three trials, one after another: searched once, by the process that comes first."""
    done = output.with_name("good.json")
    with FileLock(output.with_name("good.lock")):
        if not done.exists():
            flags = ["--num-trials", "3", "--seed", "7", "--max-concurrent", "1"]
            done.write_text(json.dumps(run(output, "good", *flags)[1:]))
    return Search(output / "good", *json.loads(done.read_text()))


@pytest.fixture(scope="session")
def cluster(local_ray: None) -> list[str]:
    """Flags that run a search on a cluster that is there already."""
    return ["--address", ray.get_runtime_context().gcs_address]
