from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from benchmarks.gpu.driver import Stage, run_stages
from benchmarks.gpu.mps import MpsUnavailableError, mps
from benchmarks.gpu.results import Recorder, Settings, read_results
from benchmarks.gpu.right import record_lines
from benchmarks.gpu.table import write_table


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.long
def test_a_crash_and_an_overrun_lose_no_result(tmp_path: Path) -> None:
    names = {"crashing": 1.0, "overrunning": 0.001, "good": 1.0}
    stages = {
        name: Stage(name.title(), f"tests.benchmark_tests.gpu_stages:{name}", share)
        for name, share in names.items()
    }
    settings = Settings(str(tmp_path), str(tmp_path), "cpu", quick=True)
    written: list[int] = []
    # The overrunning stage gets a thousandth of what is left, which is enough to start.
    run_stages(
        {"crashing": stages["crashing"], "good": stages["good"]},
        settings,
        120,
        lambda: written.append(len(read_results(tmp_path))),
    )
    started = time.monotonic()
    run_stages({"overrunning": stages["overrunning"]}, settings, 20)
    assert time.monotonic() - started < 300
    found = {(r.stage, r.name): r for r in read_results(tmp_path)}
    assert found["crashing", "before"].values == {"s": [3.0]}
    assert found["crashing", "this one"].status == "failed"
    assert "no such way" in found["crashing", "this one"].note
    assert "exit code 7" in found["crashing", "process"].note
    assert found["overrunning", "before"].values == {"s": [5.0]}
    assert found["overrunning", "time limit"].status == "stopped"
    assert found["good", "speed"].status == "measured"
    assert found["good", "warning"].note == "no graph"
    assert written == [3, 6]
    pid = int((tmp_path / "child").read_text())
    for _ in range(50):
        if not is_running(pid):
            break
        time.sleep(0.1)
    assert not is_running(pid)
    titles = {name: stage.title for name, stage in stages.items()}
    text = write_table(tmp_path, "a device", "a command", titles).read_text()
    assert text.startswith("```shell\na command\n```\n\na device. ")
    assert "### Good\n\n| measurement | s | n | note |\n| --- | --- | --- | --- |\n" in text
    assert "| speed | 2 [1, 4] | 3 | a\\|b |\n" in text
    assert "* time limit: stopped, " in text


def test_a_half_written_line_is_left_out_and_the_last_result_counts(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "epoch")
    recorder.add("own", note="no GPU", status="failed")
    assert not recorder.has_measured("own")
    recorder.add("own", {"s": [1.0]})
    assert recorder.has_measured("own")
    with recorder.path.open("a") as file:
        file.write(json.dumps({"stage": "epoch", "name": "other"})[:-4])
        file.write("\n")
    assert [(r.name, r.status) for r in read_results(tmp_path)] == [("own", "measured")]


def test_a_new_call_forgets_what_the_last_one_could_not_measure(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "epoch")
    recorder.add("own", {"s": [1.0]})
    recorder.add("plain", note="no memory", status="failed")
    recorder.add("epoch", status="started")
    assert [result.name for result in read_results(tmp_path)] == ["own"]


def test_tests_are_recorded_by_name(tmp_path: Path) -> None:
    lines = (
        "tests/cuda_tests/test_graph.py::test_same[a b] PASSED [ 50%]\n",
        "tests/cuda_tests/test_graph.py::test_other FAILED [100%]\n",
        "tests/cuda_tests/test_graph.py::test_mps SKIPPED (no MPS) [100%]\n",
        "FAILED tests/cuda_tests/test_graph.py::test_other - AssertionError: 1 is not 2\n",
    )
    assert record_lines(lines, Recorder(tmp_path, "right")) == ["passed", "failed", "skipped"]
    found = {r.name: (r.status, r.note) for r in read_results(tmp_path)}
    assert found == {
        "test_graph::test_same[a b]": ("passed", ""),
        "test_graph::test_other": ("failed", "AssertionError: 1 is not 2"),
        "test_graph::test_mps": ("skipped", ""),
    }
    text = write_table(tmp_path, "a device", "a command", {"right": "Right"}).read_text()
    assert "* passed: 1 (names in results.jsonl)\n* skipped: 1 (names" in text
    assert "* test_graph::test_other: failed, AssertionError: 1 is not 2\n" in text


def test_mps_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    before = dict(os.environ)
    with pytest.raises(MpsUnavailableError, match="nvidia-cuda-mps-control"), mps(str(tmp_path)):
        pass
    assert dict(os.environ) == before
