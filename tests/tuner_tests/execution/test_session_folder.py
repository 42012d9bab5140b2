"""Ray's own files, with a process for each session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """\
import os, signal, sys
from pathlib import Path
from tuner.execution.ray_session import ray_session

with ray_session(None):
    print(len(list(Path(os.environ["RAY_TMPDIR"]).glob("ray/session_2*"))), flush=True)
    if sys.argv[1:]:
        raise KeyboardInterrupt
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for Ray's files, with a short name because of its sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("arguments", [[], ["interrupted"]], ids=["done", "interrupted"])
def test_local_session_leaves_no_files_of_its_own_and_all_others(
    arguments: list[str], home: Path
) -> None:
    other = home / "ray" / "session_1999_1" / "logs"
    other.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env={**os.environ, "RAY_TMPDIR": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in ([-signal.SIGINT, 130, 1] if arguments else [0])
    assert done.stdout == "1\n"
    assert sorted(path.name for path in home.glob("ray/session*")) == ["session_1999_1"]
    assert other.is_dir()
