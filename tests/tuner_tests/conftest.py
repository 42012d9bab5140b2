from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tuner_tests.spaces import Run
from tuner.run import main


@pytest.fixture
def dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Runs the program on a space file, dry, with results going to ``tmp_path/output``."""

    def run(space: Path, *flags: str) -> Run:
        arguments = ["--space", str(space), "--dry-run", "--output", str(tmp_path / "output")]
        code = main([*arguments, *flags])
        return Run(code, *capsys.readouterr())

    return run
