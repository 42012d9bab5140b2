"""Runs programs of the analysis as a user does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "ray", "optuna", "foolbox", "matplotlib.pyplot"}


def assert_refused(
    main: Callable[[list[str]], int],
    arguments: Iterable[object],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The program must end with code 2 and one line that has the message."""
    assert main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)


def files_in(folder: Path) -> set[str]:
    """Paths of all files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def runs_without_training_libraries(module: str, *arguments: object) -> str:
    """What ``python -m MODULE`` prints; it must succeed and import nothing heavy."""
    program = (
        f"import sys; from {module}.__main__ import main; code = main(sys.argv[1:]); "
        f"heavy = {HEAVY} & set(sys.modules); sys.exit(f'imported {{heavy}}' if heavy else code)"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
