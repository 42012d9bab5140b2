"""Starts Ray on this machine or connects to a cluster; a failure is one line, soon.

Ray starts private to its search on this machine: it listens on the loopback interface only, needs
no home folder, and its workers run at the niceness of the search.
"""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from simreg_core.cli import USAGE_ERROR, os_reason
from simreg_core.errors import ConfigError, one_line

# Without it, Ray uses the loopback interface only. On Linux, it is on by default.
_ALL_INTERFACES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Of Ray on this machine. The user's own settings win.
_LOCAL_ENVIRONMENT = {
    "RAY_worker_niceness": "0",  # Ray's 15 makes workers crawl beside any other program
    _ALL_INTERFACES: "0",
    # Workers of the baselines wait for the confirmation, with all that they have loaded.
    "RAY_idle_worker_killing_time_threshold_ms": str(7 * 24 * 3600 * 1000),
}
_AUTH_MODE = "RAY_AUTH_MODE"
_START_SECONDS = 120  # Ray's own limits end most failed starts after about 40 seconds
_TRIAL_SECONDS = 60
_CONNECT_SECONDS = 60
_ANSWER_SECONDS = 10
_LONGEST_SOCKET = 107  # of the name of a Unix socket, in bytes
_LONGEST_NAME = "ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
_MESSAGE_LENGTH = 300
_REMOVAL_TRIES = 50
_ADDRESS_SPACE = "10 GiB"
# The address is explicit, since Ray would otherwise use RAY_ADDRESS.
_LOCAL_OPTIONS = {"include_dashboard": False, "address": "local"}
_TRIAL_START = f"""
import ray
ray.init(log_to_driver=False, **{_LOCAL_OPTIONS})
ray.get(ray.remote(lambda: None).remote())
"""
# How an HTTP/2 connection begins: a fixed text and a frame of type SETTINGS, without any.
_GRPC_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_FRAME_HEADER, _SETTINGS = 9, b"\x04"


def is_local(address: str | None) -> bool:
    """Whether the address stands for a Ray of our own on this machine."""
    return address in (None, "", "local")


@contextmanager
def started(address: str | None, command: str) -> Iterator[None]:
    """Ray for the block: the cluster at ``address``, or one of our own on this machine.

    ``command`` begins the message if Ray hangs, which ends this process.

    Raises:
        ConfigError: no cluster is reachable at ``address``, or Ray cannot be started here.
        KeyboardInterrupt: SIGTERM while Ray started.
    """
    with ExitStack() as stack:
        if address is None or is_local(address):
            stack.enter_context(_own_settings())
            stack.callback(_remove_session, _start(command))
        else:
            with _environment({"RAY_BACKEND_LOG_LEVEL": "fatal"}):  # no lines of Ray's own
                _connect(address, command)
        stack.callback(_shut_down)
        yield


def _start(command: str) -> Path:
    """Start Ray on this machine; returns the folder of its session."""
    import ray

    problem = "Ray cannot be started on this machine"
    hint = _address_space_hint()
    late = f"{command}: {problem}: it did not start within {_START_SECONDS} seconds{hint}"
    with _deadline(_START_SECONDS, late), _in_one_line(problem, hint):
        if hint:
            _try_in_child()
        _init(_LOCAL_OPTIONS)
        return Path(ray._private.worker._global_node.get_session_dir_path())


def _connect(address: str, command: str) -> None:
    """Connect to a cluster."""
    problem = f"--address {address}: no Ray cluster reached"
    late = f"{command}: {problem}: no answer within {_CONNECT_SECONDS} seconds"
    with _deadline(_CONNECT_SECONDS, late), _in_one_line(problem):
        _require_reachable(address)
        _init({"address": address})


def _init(options: Mapping[str, Any]) -> None:
    import ray

    from tuner.execution.own_code import job_config

    if "://" not in options["address"]:  # Ray's client pickles it
        options = {**options, "job_config": job_config()}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except SystemExit as err:  # raised by Ray's own handler of SIGTERM
        raise KeyboardInterrupt from err
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)


def _shut_down() -> None:
    import ray

    # A second Ctrl-C must not interrupt Ray's shutdown.
    handlers = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}
    ray.shutdown()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _remove_session(folder: Path) -> None:
    """Remove the files of a session of Ray that has ended, and the link to it."""
    latest = folder.with_name("session_latest")
    for _ in range(_REMOVAL_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.1)  # one of Ray's processes still writes its log
    with suppress(OSError):
        if os.path.realpath(latest) == os.path.realpath(folder):
            latest.unlink()


@contextmanager
def _in_one_line(problem: str, hint: str = "") -> Iterator[None]:
    """Turn whatever Ray raises in the block into a ConfigError, and clean up."""
    try:
        yield
    except Exception as err:  # Ray raises many types, plain Exception among them
        with suppress(Exception):
            _shut_down()
        reason = one_line(err)
        if isinstance(err, OSError):
            reason = " ".join(os_reason(err).split())
        if len(reason) > _MESSAGE_LENGTH:
            reason = f"{reason[:_MESSAGE_LENGTH]} ..."
        raise ConfigError(f"{problem}: {reason}{hint}") from err


@contextmanager
def _deadline(seconds: float, message: str) -> Iterator[None]:
    """End this process with the message unless the block ends in time.

    Ray waits in C++, where no exception and no signal handler of Python interrupts it.
    """

    def give_up() -> None:
        with suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)
        os._exit(USAGE_ERROR)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the block, except for those that the user has set."""
    new = {name: value for name, value in settings.items() if not os.environ.get(name)}
    before = {name: os.environ.get(name) for name in (*new, _AUTH_MODE)}  # Ray sets the mode
    os.environ.update(new)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _own_settings() -> Iterator[None]:
    """Settings of Ray on this machine, for the block."""
    from ray._private import ray_constants

    settings = dict(_LOCAL_ENVIRONMENT)
    if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        # Ray would write one to ~/.ray, readable by every user of this machine.
        settings["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    if (folder := _short_folder()) is not None:
        settings["RAY_TMPDIR"] = folder
    is_imported = ray_constants.ENABLE_RAY_CLUSTER  # read when Ray was imported
    with _environment(settings):
        ray_constants.ENABLE_RAY_CLUSTER = os.environ[_ALL_INTERFACES].lower() in ("1", "true")
        _forget_token()
        try:
            yield
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = is_imported


def _forget_token() -> None:
    """Let Ray read the token again; it keeps the one of an earlier session of this process."""
    with suppress(ImportError):  # a Ray without tokens
        from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

        AuthenticationTokenLoader.instance().reset_cache()


def _short_folder() -> str | None:
    """Folder for Ray's sessions if the one that it would take is too long; else None.

    Raises:
        ConfigError: RAY_TMPDIR is too long.
    """
    limit = _LONGEST_SOCKET - len(_LONGEST_NAME) - 1
    if folder := os.environ.get("RAY_TMPDIR"):
        if (length := len(os.fsencode(folder))) > limit:
            raise ConfigError(
                f"RAY_TMPDIR: {folder}: found a path of {length} bytes, allowed are {limit}, "
                "since Ray creates sockets in it"
            )
        return None
    folder = os.environ.get("TMPDIR", "")
    return None if 0 < len(os.fsencode(folder)) <= limit else "/tmp"


def _address_space_hint() -> str:
    """What to add to a message if the address space is limited, which Ray does not survive."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return ""
    return (
        f"; ulimit -v allows {limit / 2**30:.3g} GiB of address space, "
        f"and every process of Ray needs about {_ADDRESS_SPACE}"
    )


def _try_in_child() -> None:
    """Start Ray and a worker in another process, which may hang or be aborted.

    Raises:
        RuntimeError: Ray does not work under the limits of this process.
    """
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _TRIAL_START],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = child.wait(_TRIAL_SECONDS)
    except subprocess.TimeoutExpired as err:
        raise RuntimeError(f"no worker started within {_TRIAL_SECONDS} seconds") from err
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if code != 0:
        raise RuntimeError("its processes end while they start")


def _require_reachable(address: str) -> None:
    """Raise OSError if no gRPC server is at the address, for which Ray itself waits minutes."""
    announcement = f"connecting to the Ray cluster at {address}"
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if scheme not in ("", "ray") or not port.isdigit():  # for example auto
        print(announcement, file=sys.stderr, flush=True)
        return
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=5)
    except OverflowError as err:
        raise OSError(str(err)) from err
    with connection:
        print(announcement, file=sys.stderr, flush=True)
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return
        connection.settimeout(_ANSWER_SECONDS)
        connection.sendall(_GRPC_HELLO)
        if connection.makefile("rb").read(_FRAME_HEADER)[3:4] != _SETTINGS:
            raise OSError("something else answers there")
