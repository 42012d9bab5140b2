"""Starting Ray, quietly, and what a trial may use of it."""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simreg_core.config_io import ConfigError

# Read by Ray when it is imported or started. What the user sets wins.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # our own live view instead of Tune's tables
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
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


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """A Ray connection for the block: the cluster at ``address``, or one on this machine.

    SIGTERM becomes ``KeyboardInterrupt`` inside, so that a stopped search closes its trials.

    Raises:
        ConfigError: no cluster answers at ``address``.
    """
    set_environment()
    import logging

    import ray

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {"include_dashboard": False}
    else:
        _require_reachable(address)
        options |= {"address": address}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError) as err:
        reason = " ".join(str(err).split())
        raise ConfigError(f"--address {address}: no Ray cluster reached: {reason}") from err
    # After ray.init, which installs a handler of its own that exits at once.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
        ray.shutdown()


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

    Args:
        function: Module-level function.
        calls: Arguments of each call.
        resources: What one call uses and how many run at once.
        on_done: Called in this process with the call's index and its value, or with the
            exception if Ray lost the task, in order of completion.
    """
    import ray

    remote = ray.remote(function).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=2
    )
    waiting = list(enumerate(calls))[::-1]
    running: dict[Any, int] = {}
    while waiting or running:
        while waiting and len(running) < resources.max_concurrent:
            index, call = waiting.pop()
            running[remote.remote(*call)] = index
        done, _ = ray.wait(list(running), num_returns=1)
        for reference in done:
            index = running.pop(reference)
            try:
                value = ray.get(reference)
            except ray.exceptions.RayError as err:
                value = err
            on_done(index, value)
