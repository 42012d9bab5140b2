"""Commands in a folder of the user's that has packages of our names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.searches import ROOT, SPACE

SCRIPT = f"#!{sys.executable}\nfrom tuner.simreg import script\nscript()\n"
THEIRS = "raise SystemExit('theirs')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module and packages that end every program that imports them."""
    folder = tmp_path / "project"
    for name in ("analysis", "simreg_core"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(THEIRS)
    (folder / "tuner.py").write_text(THEIRS)
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture
def simreg(tmp_path: Path) -> str:
    """The installed program: Python looks in its folder, not in the working directory."""
    (tmp_path / "bin").mkdir()
    file = tmp_path / "bin" / "simreg"
    file.write_text(SCRIPT)
    file.chmod(0o755)
    return str(file)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_simreg_searches_and_draws_where_names_clash(folder: Path, simreg: str) -> None:
    flags = ("--space", str(SPACE), "--num-trials", "1", "--output", "out", "--name", "own")
    search = run(folder, simreg, "search", *flags)
    assert search.returncode == 0, search.stderr
    assert "trials 1/1" in search.stderr
    for command in ("status", "pareto"):
        ended = run(folder, simreg, command, "out/own")
        assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("module", ["tuner.run", "analysis.pareto"])
def test_package_that_is_in_the_way_is_named(module: str, folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (folder / "simreg_core").rename(other / "simreg_core")
    ended = run(other, sys.executable, "-m", module, "--help")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{module.partition('.')[0]}: found another simreg_core, {other}/")
