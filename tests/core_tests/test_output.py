from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simreg_core.output import lasting_output

ROOT = Path(__file__).resolve().parents[2]
# Prints before and after, far more than a pipe takes, and works in between.
PROGRAM = """\
import sys
from pathlib import Path
from simreg_core import cli

def work(args):
    for number in range(8000):
        print("out \\u00b1", number)
        print("err \\u00b1", number, file=sys.stderr)
    with open(sys.argv[1], "w") as stream:
        stream.write("done")
        print("to nobody", flush=True)
    return int(sys.argv[2])

cli.leave(cli.run(cli.Parser("some.module", ""), [], work))
"""
FULL = "some.module: standard output: No space left on device\n"


def shell(script: str, folder: Path, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in which PROGRAM stands for a command that works and ends with ``code``."""
    command = f"{sys.executable} {folder / 'program.py'} {folder / 'done'} {code}"
    (folder / "program.py").write_text(PROGRAM)
    kept = {name: value for name, value in os.environ.items() if "UNBUFFERED" not in name}
    return subprocess.run(
        ["bash", "-c", script.replace("PROGRAM", command)],
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    ("script", "code", "errors"),
    [
        ("PROGRAM 2>/dev/null | head -1; exit ${PIPESTATUS[0]}", 141, ""),
        ("PROGRAM 2>&1 >/dev/null | head -1; exit ${PIPESTATUS[0]}", 141, ""),
        ("PROGRAM 2>&1 | head -1; exit ${PIPESTATUS[0]}", 141, ""),
        ("PROGRAM 2>&1 >/dev/full | tail -1 >&2; exit ${PIPESTATUS[0]}", 1, FULL),
        ("PROGRAM >/dev/null 2>/dev/full", 141, ""),
        ("PROGRAM >/dev/full 2>/dev/full", 141, ""),
        ("PROGRAM 2>&1 >&- | tail -1 >&2; exit ${PIPESTATUS[0]}", 1, "Bad file descriptor"),
        ("PROGRAM >/dev/null 2>&-", 141, ""),
        ("PROGRAM <&- >&- 2>&-", 141, ""),
    ],
    ids=[
        "head", "head-of-errors", "head-of-both", "full", "full-errors", "full-both", "closed",
        "closed-errors", "all-closed",
    ],
)  # fmt: skip
def test_lost_output_does_not_stop_work(
    script: str, code: int, errors: str, unbuffered: str, tmp_path: Path
) -> None:
    done = shell(script, tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert (tmp_path / "done").read_text() == "done"  # and nothing that was printed
    assert done.returncode == code
    assert done.stderr.endswith(f"{errors}\n" if errors == "Bad file descriptor" else errors)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("end", [2, 7])
def test_exit_code_of_the_work_is_kept(end: int, tmp_path: Path) -> None:
    assert shell("PROGRAM >/dev/full 2>&1", tmp_path, end).returncode == end


def test_characters_that_the_encoding_lacks_become_question_marks(tmp_path: Path) -> None:
    done = shell("PROGRAM", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, (tmp_path / "done").read_text()) == (0, "done")
    assert done.stdout.startswith("out ? 0\n")
    assert done.stderr.startswith("err ? 0\n")


@pytest.mark.parametrize("arguments", ["", "--help", "--version", "pareto --help", "search --help"])
def test_help_that_nobody_reads_is_no_traceback(arguments: str, tmp_path: Path) -> None:
    program = f"{sys.executable} -c 'from tuner.simreg import script; script()' {arguments}"
    done = shell(f"{program} >/dev/full", tmp_path)
    assert done.returncode == (1 if arguments else 2)
    assert done.stderr.count("\n") == (1 if arguments else 0)


def test_streams_without_a_file_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = io.StringIO()
    monkeypatch.setattr(sys, "stdout", notebook)
    with lasting_output() as outputs:
        print("±")
        assert outputs.stdout is None
    assert sys.stdout is notebook
    assert notebook.getvalue() == "±\n"
