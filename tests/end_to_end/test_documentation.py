"""The commands of the documentation, page by page, on a search that is small enough."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from simreg_core.config.yaml_io import read_yaml_mapping
from tests.documents import ROOT, blocks

PAGES = ["README", "docs/search", "docs/analysis", "docs/results"]
PROGRAMS = ("tuner", "analysis", "simreg_core")

pytestmark = [pytest.mark.long, pytest.mark.slow]


def run(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Path:
    """A folder like the project's, in which ``th_alpha`` is a small search that has finished."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "search_spaces").mkdir()
    space: dict[str, Any] = read_yaml_mapping(ROOT / "search_spaces" / "smoke.yaml")
    space["trial"]["training"]["epochs"] = 1
    space["tuning"] = {"num_trials": 10, "sampler": "random"}
    for path, name in (("search_spaces/th_alpha", "th_alpha"), ("my_space", "my_space")):
        (folder / f"{path}.yaml").write_text(yaml.safe_dump(space | {"name": name}))
    (folder / "trial.yaml").write_text(yaml.safe_dump(space["trial"]))
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    run(folder, "-m", "tuner.run", "--space", "search_spaces/th_alpha.yaml")
    shutil.copytree(folder / "results/th_alpha", folder / "results/th_alpha-gp")
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_succeed(page: str, folder: Path) -> None:
    for block in blocks(ROOT / f"{page}.md"):
        if block.language == "python" and block.needs:
            assert (folder / block.needs).exists()
            run(folder, "-c", block.text)
        if block.language == "shell" and block.is_run:
            for words in block.commands():
                if words[0] == "python" and words[2].startswith(PROGRAMS):
                    run(folder, *words[1:])
