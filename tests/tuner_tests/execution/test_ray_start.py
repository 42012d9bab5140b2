"""Starting Ray on this machine, and what it says where that fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from simreg_core.errors import ConfigError
from tests.end_to_end.searches import ROOT, descendants
from tests.tuner_tests.spaces import write_space
from tuner.execution import ray_start
from tuner.execution.ray_session import ray_session

TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")
LOOPBACK = {
    "0100007F",
    "0000000000000000FFFF00000100007F",
    "00000000000000000000000001000000",
}
START = """
from tuner.execution.ray_session import ray_session
with ray_session(None):
    import ray
    print(ray.get(ray.remote(num_cpus=0)(lambda: 7).remote()))
"""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in another process, without what this one's Ray sets."""
    own = {name: value for name, value in os.environ.items() if name not in TOKENS}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**own, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )


def listening(pids: list[int]) -> list[str]:
    """Local addresses, as in /proc/net, at which the processes accept connections."""
    sockets = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(file))
            except FileNotFoundError:
                continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.append(fields[1].partition(":")[0])
    return found


def niceness() -> int:
    return os.nice(0)


@pytest.mark.usefixtures("local_ray")
def test_workers_have_the_niceness_of_the_search() -> None:
    assert ray.get(ray.remote(num_cpus=0)(niceness).remote()) == os.nice(0)


def meet(folder: Path, count: int) -> int:
    """The process, once as many calls as expected are running."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < count:
        time.sleep(0.01)
    return os.getpid()


@pytest.mark.usefixtures("local_ray")
def test_idle_workers_stay(tmp_path: Path) -> None:
    count = 2 * int(ray.cluster_resources()["CPU"]) + 1
    remote = ray.remote(num_cpus=0)(meet)
    pids = ray.get([remote.remote(tmp_path, count) for _ in range(count)])
    time.sleep(4)  # Ray's own limit is one second
    assert set(pids) <= set(descendants(os.getpid()))


@pytest.mark.usefixtures("local_ray")
def test_ray_on_this_machine_listens_on_the_loopback_interface_only() -> None:
    ray.get(ray.remote(num_cpus=0)(niceness).remote())  # a worker is there
    addresses = listening([os.getpid(), *descendants(os.getpid())])
    assert len(addresses) > 4
    assert set(addresses) <= LOOPBACK


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("home", [pytest.param("writable", marks=pytest.mark.long), "unwritable"])
def test_home_is_neither_needed_nor_written_to(home: str, tmp_path: Path) -> None:
    folder = str(tmp_path) if home == "writable" else "/proc/1"
    ended = python("-c", START, HOME=folder)
    assert (ended.returncode, ended.stdout) == (0, "7\n"), ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_temporary_folder_with_a_long_name_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    ended = python("-c", START, RAY_TMPDIR="", TMPDIR=str(folder))
    assert (ended.returncode, ended.stdout) == (0, "7\n"), ended.stderr


def test_folder_for_ray_with_a_long_name_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = str(tmp_path / ("x" * 90))
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(ConfigError, match=f"^RAY_TMPDIR: {folder}: .* allowed"), ray_session(None):
        pass


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_missing_token_file_is_one_line(tmp_path: Path) -> None:
    arguments = ("--space", str(write_space(tmp_path)), "--output", str(tmp_path / "output"))
    ended = python("-m", "tuner.run", *arguments, RAY_AUTH_TOKEN_PATH="/nowhere")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("tuner.run: Ray cannot be started on this machine: ")
    assert "RAY_AUTH_TOKEN_PATH" in line
    assert "/nowhere" in line
    assert ended.returncode == 2
    assert not (tmp_path / "output" / "smoke").exists()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_limited_address_space_is_one_line(tmp_path: Path) -> None:
    arguments = f"--space {write_space(tmp_path)} --output {tmp_path / 'output'}"
    command = f"ulimit -v 6000000; exec {sys.executable} -m tuner.run {arguments}"
    ended = python("-c", f"import os; os.execv('/bin/sh', ['sh', '-c', {command!r}])")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("tuner.run: Ray cannot be started on this machine: ")
    assert "ulimit -v allows 5.72 GiB" in line
    assert ended.returncode == 2


@pytest.mark.parametrize("error", [Exception, OSError, AssertionError, ray.exceptions.RayError])
def test_whatever_ray_raises_is_one_line(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise error("this\n  is why")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    message = r"^Ray cannot be started on this machine: this is why$"
    with pytest.raises(ConfigError, match=message), ray_session(None):
        pass


@pytest.mark.timeout(120)
def test_ray_that_hangs_ends_the_command_with_one_line() -> None:
    code = """
import time, ray
from tuner.execution import ray_start
from tuner.execution.ray_session import ray_session
ray.init = lambda **options: time.sleep(100)
ray_start._CONNECT_SECONDS = 0.5
with ray_session("auto", "tuner.run"):
    pass
"""
    ended = python("-c", code)
    assert ended.returncode == 2
    first, last = ended.stderr.splitlines()
    assert first == "connecting to the Ray cluster at auto"
    assert last.startswith("tuner.run: --address auto: no Ray cluster reached: no answer within")


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """The address of a server that is not Ray: it accepts, and says this or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer)
                while connection.recv(1000):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(60)


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad request\r\n\r\n", b""], ids=["http", "mute"])
def test_address_of_something_else_is_refused(
    answer: bytes,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ray_start, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray would wait for minutes"))
    with server(answer) as place:
        address = f"{scheme}{place}"
        with pytest.raises(ConfigError, match=f"^--address {address}: "), ray_session(address):
            pass
    assert capsys.readouterr().err == f"connecting to the Ray cluster at {address}\n"


@pytest.mark.usefixtures("local_ray")
def test_running_ray_is_recognized(capsys: pytest.CaptureFixture[str]) -> None:
    address = ray.get_runtime_context().gcs_address
    ray_start._require_reachable(address)
    assert capsys.readouterr().err == f"connecting to the Ray cluster at {address}\n"
