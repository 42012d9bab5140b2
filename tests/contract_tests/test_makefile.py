from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("size", ["small", "full"])
def test_poster_runs_a_search_for_every_space_there_is(size: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    command = ["make", "--silent", "-o", ".venv/installed", f"BIN={tmp_path}", f"SIZE={size}"]
    printed = subprocess.run(
        [*command, "POSTER=out", "poster"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    *searches, drawing = [shlex.split(line) for line in printed.splitlines()]
    spaces = {flags[flags.index("--space") + 1] for flags in searches}
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("search_spaces/poster/*.yaml")}
    assert spaces == {name for name in files if name.endswith("_small.yaml") == (size == "small")}
    assert drawing == ["-m", "analysis.poster", "out"]
