"""Stage ``right``: the tests marked ``cuda``, each test one result as soon as it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.gpu.driver import ROOT
from benchmarks.gpu.results import Recorder, Settings

TESTS = "tests/cuda_tests"
_ENDED = re.compile(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
_REASON = re.compile(r"^(?:FAILED|ERROR) (\S+?)(?: - (.*))?$")
_STATUS = {"PASSED": "passed", "SKIPPED": "skipped", "XFAIL": "skipped"}


def run(settings: Settings, recorder: Recorder) -> None:
    """Run the tests that need a GPU."""
    if not (ROOT / TESTS).is_dir():
        recorder.add("tests", note=f"no folder {TESTS}", status="skipped")
        return
    run_tests([TESTS], recorder)


def run_tests(paths: Sequence[str], recorder: Recorder, marker: str = "cuda") -> None:
    """Run the tests with a marker; records every name and how it ended."""
    command = [sys.executable, "-m", "pytest", "-m", marker, "-v", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, "--color=no", *paths],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    found = record_lines(process.stdout, recorder)
    code = process.wait()
    summary = f"{found.count('passed')} passed, {found.count('failed')} failed"
    if code in (0, 1) and found:
        recorder.add("all tests", note=f"{summary}, {found.count('skipped')} skipped")
    else:
        reason = "none of them ran" if code == 5 or not found else f"exit code {code}"
        recorder.add("all tests", note=f"{summary}; {reason}", status="failed")


def record_lines(lines: Iterable[str], recorder: Recorder) -> list[str]:
    """Record tests from pytest's verbose output; how each of them ended."""
    ended: dict[str, str] = {}
    for line in lines:
        print(line, end="")
        if match := _ENDED.match(line):
            name, how = match.groups()
            ended[name] = _STATUS.get(how, "failed")
            recorder.add(_short(name), status=ended[name])
        elif (match := _REASON.match(line.rstrip())) and match[2]:
            ended[match[1]] = "failed"
            recorder.add(_short(match[1]), note=match[2][:300], status="failed")
    return list(ended.values())


def _short(name: str) -> str:
    """The test's file and function, without folders."""
    path, _, test = name.partition("::")
    return f"{Path(path).stem}::{test}"
