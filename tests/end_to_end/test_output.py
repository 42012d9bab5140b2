"""Searches whose output is lost."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from simreg_core.results.tables import ResultStore
from tests.end_to_end.searches import ROOT, SPACE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("redirection", "code"),
    [
        pytest.param("2>&1 | head -1", 141, id="head"),
        pytest.param(">&- 2>&-", 141, id="closed", marks=pytest.mark.long),
        pytest.param(">/dev/full", 1, id="full", marks=pytest.mark.long),
    ],
)
def test_search_goes_on_when_its_output_is_lost(
    redirection: str, code: int, tmp_path: Path
) -> None:
    flags = ["--space", str(SPACE), "--output", str(tmp_path), "--name", "quiet"]
    command = [sys.executable, "-m", "tuner.run", *flags, "--gpus-per-trial", "0"]
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(command)} {redirection}; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "results cannot be written" not in done.stderr
    rows = ResultStore(tmp_path / "quiet").read("trials")
    assert [row["status"] for row in rows] == ["complete"] * len(rows)
    assert len(rows) >= 2
