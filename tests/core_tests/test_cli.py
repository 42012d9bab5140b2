from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from simreg_core import cli
from simreg_core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def parser() -> cli.Parser:
    parser = cli.Parser("some.module", "Does something.")
    parser.add_argument("--count", type=cli.whole_number(2), default=2)
    parser.add_argument("--share", type=cli.real_number(0.5), default=0.5)
    parser.add_argument("--count-per-s", type=cli.real_number(1, 2))
    parser.add_argument("--kind", choices=("a", "b"))
    return parser


WRONG = "--count 1,--count 2.5,--share 0.4,--share nan,--share inf,--share x,--count-per-s 3"


@pytest.mark.parametrize("flags", [*WRONG.split(","), "--kind c", "--cou 3"])
def test_wrong_flag_is_one_line_and_exit_2(
    parser: cli.Parser, flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(parser, flags.split(), lambda args: 0) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("some.module: ")
    assert printed.err.count("\n") == 1
    assert all(word in printed.err for word in flags.split())


def test_bad_input_is_one_line_and_exit_2_and_a_bug_is_raised(
    parser: cli.Parser, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(args: argparse.Namespace) -> int:
        if args.count == 7:
            return 7
        raise OSError("a bug") if args.count == 3 else ConfigError("a.yaml: wrong")

    assert cli.run(parser, ["--count", "7"], body) == 7
    assert cli.run(parser, [], body) == 2
    assert capsys.readouterr().err == "some.module: a.yaml: wrong\n"
    with pytest.raises(OSError, match="a bug"):
        cli.run(parser, ["--count", "3"], body)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_one_line_and_exit_130(
    parser: cli.Parser, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(args: argparse.Namespace) -> int:
        os.kill(os.getpid(), number)
        time.sleep(300)
        return 0

    before = signal.getsignal(signal.SIGTERM)
    # A shell's background job ignores SIGINT, and so do its children.
    sigint = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.run(parser, [], body, interrupted="run it again") == 130
    finally:
        signal.signal(signal.SIGINT, sigint)
    assert capsys.readouterr().err == "some.module: interrupted; run it again\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("out/single/a.pt", "--output: {}/out/single/a.pt: No space left on device"),
        ("", "--output: {}: No space left on device"),
        ("data/a.npy", "{}/data/a.npy: No space left on device"),
        (None, "--output: No space left on device"),
    ],
    ids=["in-the-folder", "above-it", "elsewhere", "unknown"],
)
def test_error_of_the_system_names_the_file_and_blames_the_flag_for_its_own_only(
    file: str | None, message: str, tmp_path: Path
) -> None:
    path = None if file is None else str(tmp_path / file)
    err = OSError(errno.ENOSPC, "No space left on device", path)
    found = cli.os_error(err, "--output", tmp_path / "out")
    assert str(found) == message.format(tmp_path)
    assert cli.os_reason(OSError("odd")) == "odd"


@pytest.mark.parametrize("options", [["-u"], []], ids=["unbuffered", "buffered"])
def test_output_that_cannot_be_written_is_one_line_and_exit_1(options: list[str]) -> None:
    env = {name: value for name, value in os.environ.items() if "UNBUFFERED" not in name}
    program = (
        "from simreg_core import cli; "
        "cli.leave(cli.run(cli.Parser('some.module', ''), [], lambda args: print('x') or 0))"
    )
    command = [sys.executable, *options, "-c", program]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "some.module: standard output: No space left on device\n"


@pytest.mark.parametrize("has_gpu", [True, False])
def test_gpu_is_picked_where_there_is_one(has_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert cli.pick_device("cpu").type == "cpu"
    assert cli.pick_device("auto").type == ("cuda" if has_gpu else "cpu")
    if not has_gpu:
        with pytest.raises(ConfigError, match=r"^--device: "):
            cli.pick_device("cuda")
