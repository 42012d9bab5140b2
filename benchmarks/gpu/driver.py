"""Runs stages one after another, each as a process with a time limit of its own.

A stage that crashes or overruns loses only what it has not written yet.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks.gpu.mps import stop_mps
from benchmarks.gpu.results import Recorder, Run, Settings

ROOT = Path(__file__).resolve().parents[2]
_GRACE = 3.0  # seconds between asking a stage to end and killing it


class Stage(NamedTuple):
    """One part of the measurements."""

    title: str
    function: str
    """``module:function``, a :data:`~benchmarks.gpu.results.Run`."""
    share: float
    """Share of the remaining time, relative to the stages that follow."""


def run_stages(
    stages: Mapping[str, Stage],
    settings: Settings,
    seconds: float,
    after_each: Callable[[], object] = lambda: None,
) -> None:
    """Run stages in order within a total time; what one does not use, the others get.

    Args:
        stages: By name.
        settings: Their deadline is set here.
        seconds: For all stages.
        after_each: Called after every stage, and when the stages are interrupted.
    """
    end = time.time() + seconds
    names = list(stages)
    for position, name in enumerate(names):
        weights = [stages[later].share for later in names[position:]]
        deadline = time.time() + max(0.0, end - time.time()) * weights[0] / sum(weights)
        try:
            run_stage(name, stages[name], replace(settings, deadline=deadline))
        finally:
            after_each()


def run_stage(name: str, stage: Stage, settings: Settings) -> None:
    """Run one stage until its deadline; a crash and an overrun are recorded as results."""
    folder, started = Path(settings.out), time.time()
    recorder = Recorder(folder, name)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    recorder.add(name, status="started")
    log = folder / "logs" / f"{name}.log"
    command = [sys.executable, "-m", "benchmarks.gpu.driver", name, stage.function]
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [*command, json.dumps(asdict(settings))],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            code = process.wait(max(0.0, settings.seconds_left()))
        except subprocess.TimeoutExpired:
            seconds = time.time() - started
            recorder.add("time limit", note=f"stopped after {seconds:.0f} s", status="stopped")
        else:
            seconds = time.time() - started
            if code:
                recorder.add("process", note=f"exit code {code}: {_last(log)}", status="failed")
            else:
                recorder.add("whole stage", note=f"{seconds:.0f} s")
        finally:  # also when this process is interrupted
            _kill_group(process)
            stop_mps(settings.out)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a stage and all processes that it has started."""
    for number, wait in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)


def _last(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


class _Warnings(logging.Handler):
    """Records warnings, such as that of a step that cannot be captured as a CUDA graph."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(logging.WARNING)
        self.recorder = recorder

    def emit(self, record: logging.LogRecord) -> None:
        self.recorder.add("warning", note=record.getMessage()[:300], status="warned")


def main() -> None:
    """Run one stage in this process: arguments are its name, function and settings."""
    name, function, text = sys.argv[1:]
    settings = Settings(**json.loads(text))
    module, _, attribute = function.partition(":")
    run: Run = getattr(import_module(module), attribute)
    recorder = Recorder(Path(settings.out), name)
    logging.getLogger("simreg_core").addHandler(_Warnings(recorder))
    run(settings, recorder)


if __name__ == "__main__":
    main()
