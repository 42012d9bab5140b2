from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simreg_core.errors import ConfigError
from simreg_core.results.study_lock import DRIVER_FILE, StudyLock, is_held, read_heartbeat

HOLD = """
import sys, time
from pathlib import Path
from simreg_core.results.study_lock import StudyLock
with StudyLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_folder_is_held_while_the_block_runs(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with StudyLock(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(ConfigError, match=rf"{tmp_path}: another .* \(process {first.pid} on "),
            StudyLock(tmp_path),
        ):
            pass
        assert is_held(tmp_path)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    with StudyLock(tmp_path):
        assert read_heartbeat(tmp_path)["pid"] == os.getpid()


def test_what_runs_is_said(tmp_path: Path) -> None:
    with StudyLock(tmp_path) as driver:
        driver.enter_phase("trials")
        driver.ended(0)  # written at once, unlike epochs
        driver.progressed(3, 7, 2, 5)
        driver.progressed(4, 7, 1, 5)
        driver.ended(4)
        said = read_heartbeat(tmp_path)
    assert said["phase"] == "trials"
    assert said["running"] == {"3": {"7": {"epochs_done": 2, "epochs": 5}}}


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_damaged_word_of_a_driver_is_no_word(content: str, tmp_path: Path) -> None:
    (tmp_path / DRIVER_FILE).write_text(content)
    assert read_heartbeat(tmp_path) == {}
