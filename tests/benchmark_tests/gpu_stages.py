"""Stages that go wrong, for the tests of the driver."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.results import Recorder, Settings


def good(settings: Settings, recorder: Recorder) -> None:
    logging.getLogger("simreg_core.training.graph").warning("no graph")
    recorder.add("speed", {"s": [1.0, 2.0, 4.0]}, "a|b")


def crashing(settings: Settings, recorder: Recorder) -> None:
    recorder.add("before", {"s": [3.0]})
    with recorder.attempt("this one"):
        raise ValueError("no such way")
    os._exit(7)


def overrunning(settings: Settings, recorder: Recorder) -> None:
    recorder.add("before", {"s": [5.0]})
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(settings.out, "child").write_text(str(child.pid))
    time.sleep(600)
