"""What the cluster files repeat agrees with where it comes from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster-gcp.yaml", "cluster-local.yaml"])
def test_ray_is_pinned_and_all_that_an_installation_needs_is_copied(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert re.findall(r"'ray\[default\]==([^']+)'", text) == [pinned[1]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    needed = {*(pattern.rstrip("*") for pattern in patterns), "pyproject.toml", "README.md"}
    mounts = yaml.safe_load(text)["file_mounts"].values()
    assert needed | {"LICENSE", "constraints.txt", "search_spaces"} <= set(mounts)
