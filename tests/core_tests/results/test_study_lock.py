from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simreg_core.errors import ConfigError
from simreg_core.results.study_lock import HEARTBEAT_FILE, StudyLock, is_held, read_heartbeat
from simreg_core.results.tables import ResultStore
from simreg_core.storage import object_store
from simreg_core.storage.atomic import write_text
from simreg_core.storage.base import LeaseLost

HOLD = """
import sys, time
from pathlib import Path
from simreg_core.results.study_lock import StudyLock
with StudyLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(900)
"""


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


def test_tables_are_not_written_once_the_lock_is_lost(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "LEASE_SECONDS", 0.0)  # so that every write looks
    lock = StudyLock(bucket).__enter__()
    store = ResultStore(bucket, lock.require_held)
    store.write("trials", "00000", [{"trial": 0}])
    write_text(bucket / f"{HEARTBEAT_FILE}.2", json.dumps({"until": time.time() + 60}))
    with pytest.raises(LeaseLost):
        store.write("trials", "00001", [{"trial": 1}])
    with pytest.raises(LeaseLost):
        lock.__exit__(None, None, None)
    assert [row["trial"] for row in ResultStore(bucket).read("trials")] == [0]
