"""Starting Ray, quietly, and what a trial may use of it."""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from simreg_core.cli import os_reason, real_number, whole_number
from simreg_core.errors import ConfigError

# Read by Ray when it is imported or started. What the user sets wins.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # our own live view instead of Tune's tables
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a logger that outlives the session shall not start another
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results are ours to write
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt must reach us, to close open trials
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


@dataclass(frozen=True)
class Resources:
    """What one trial uses, and how many run at once."""

    cpus: float
    gpus: float
    max_concurrent: int

    @property
    def device(self) -> str:
        """Torch device of a trial."""
        return "cuda" if self.gpus > 0 else "cpu"

    @property
    def num_threads(self) -> int:
        """CPU threads of a trial."""
        return max(1, int(self.cpus))


def set_environment() -> None:
    """Make Ray quiet; must come before Ray is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def add_resource_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say what a trial may use and where; :func:`connected` obeys them."""
    parser.add_argument(
        "--max-concurrent",
        type=whole_number(1),
        metavar="N",
        help="trials at once (default: as many as fit)",
    )
    parser.add_argument(
        "--cpus-per-trial",
        type=real_number(0.01),
        default=1.0,
        metavar="X",
        help="may be a fraction (default: 1)",
    )
    parser.add_argument(
        "--gpus-per-trial",
        type=real_number(0),
        metavar="X",
        help="may be a fraction (default: 1 where there is a GPU)",
    )
    parser.add_argument(
        "--address",
        metavar="ADDR",
        default=os.environ.get("RAY_ADDRESS"),
        help="Ray cluster (default: RAY_ADDRESS if it is set, else this machine)",
    )


@contextmanager
def connected(args: argparse.Namespace) -> Iterator[Resources]:
    """A Ray session for the block, and what one trial gets of it, from the parsed flags.

    Raises:
        ConfigError: no cluster is reached, or a trial asks for more than this machine has.
    """
    with ray_session(args.address):
        yield fit_resources(
            args.cpus_per_trial,
            args.gpus_per_trial,
            args.max_concurrent,
            is_local=_is_local(args.address),
        )


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """A Ray connection for the block: the cluster at ``address``, or one on this machine.

    Raises:
        ConfigError: no cluster answers at ``address``, or Ray cannot be started here.
        KeyboardInterrupt: SIGTERM came while Ray started.
    """
    set_environment()
    import ray

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None or _is_local(address):
        # Named, so that a RAY_ADDRESS in the environment is not obeyed behind our back.
        options |= {"include_dashboard": False, "address": "local"}
        problem = "Ray cannot be started on this machine"
    else:
        _require_reachable(address)
        options |= {"address": address}
        problem = f"--address {address}: no Ray cluster reached"
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as err:
        raise ConfigError(f"{problem}: {' '.join(str(err).split())}") from err
    except OSError as err:
        folder = os.environ.get("RAY_TMPDIR", "/tmp")
        raise ConfigError(f"{problem} (its files go to {folder}): {os_reason(err)}") from err
    except SystemExit as err:  # by the handler of SIGTERM that Ray installs
        raise KeyboardInterrupt from err
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        # A second Ctrl-C must not stop Ray half-way through its own end.
        handlers = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}
        ray.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def raylet_silenced() -> Iterator[None]:
    """Drop what Ray prints on stdout when a worker is lost; its reason is recorded instead."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def _is_local(address: str | None) -> bool:
    return address in (None, "", "local")


def _require_reachable(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # not HOST:PORT; Ray knows what is meant
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as err:
        raise ConfigError(f"--address {address}: no Ray cluster reached: {err}") from err


def fit_resources(
    cpus: float, gpus: float | None, max_concurrent: int | None, *, is_local: bool
) -> Resources:
    """What a trial gets on the cluster that Ray is connected to.

    Args:
        cpus: CPUs per trial.
        gpus: GPUs per trial; None for one where the cluster has any, else none.
        max_concurrent: Trials at once; None for as many as fit now.
        is_local: The cluster is this machine and will not grow.

    Raises:
        ConfigError: a trial asks for more than this machine has.
    """
    import ray

    total = ray.cluster_resources()
    if gpus is None:
        gpus = 1.0 if total.get("GPU", 0) >= 1 else 0.0
    if is_local:
        for flag, kind, asked in (
            ("--cpus-per-trial", "CPU", cpus),
            ("--gpus-per-trial", "GPU", gpus),
        ):
            if asked > total.get(kind, 0):
                raise ConfigError(
                    f"{flag}: {asked:g} asked, but this machine has {total.get(kind, 0):g} {kind}s"
                )
    fits = [total.get("CPU", 0) / cpus] if cpus else []
    fits += [total.get("GPU", 0) / gpus] if gpus else []
    at_once = max(1, math.floor(min(fits))) if fits else 1
    return Resources(cpus, gpus, max_concurrent or at_once)


def run_tasks(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    resources: Resources,
    on_done: Callable[[int, Any], None],
) -> None:
    """Run ``function(*call)`` for every call as Ray tasks, a few at a time.

    A call that is lost or raises is made twice more.

    Args:
        function: Module-level function.
        calls: Arguments of each call.
        resources: What one call uses and how many run at once.
        on_done: Called in this process with the call's index and its value, or with the
            exception if Ray lost the task, in order of completion.
    """
    import ray

    remote = ray.remote(function).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=2, retry_exceptions=True
    )
    waiting = list(enumerate(calls))[::-1]
    running: dict[Any, int] = {}
    with raylet_silenced():
        while waiting or running:
            while waiting and len(running) < resources.max_concurrent:
                index, call = waiting.pop()
                running[remote.remote(*call)] = index
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                index = running.pop(reference)
                try:
                    value = ray.get(reference)
                except ray.exceptions.RayTaskError as err:
                    value = err.cause
                except ray.exceptions.RayError as err:
                    value = err
                on_done(index, value)
