"""Starts Ray without its output, and determines the resources of a trial."""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any, Literal

from simreg_core.cli import Parser, real_number, whole_number
from simreg_core.errors import ConfigError
from tuner.execution.ray_start import is_local, started

# Read by Ray when it is imported or started. The user's own settings win.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # no tables of Tune next to our live view
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a late logger must not start another session
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # this project writes the results itself
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # handled in tuner.run
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}
_PARTS = 10_000  # Ray counts resources in ten-thousandths,
_MOST_PER_GPU = 100  # which tell up to 100 trials per GPU apart


@dataclass(frozen=True)
class Resources:
    """Resources of one trial, and the number of trials that run at once."""

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
    """Silence Ray; to be called before Ray is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def add_resource_flags(parser: Parser) -> None:
    """Add the flags for :func:`connected`: resources of a trial, and the cluster."""
    parser.set_defaults(command=parser.module)  # for messages
    parser.add_argument(
        "--max-concurrent",
        type=whole_number(1),
        metavar="N",
        help="trials at once (default: as many as fit)",
    )
    parser.add_argument(
        "--cpus-per-trial",
        type=real_number(0.01),
        metavar="X",
        help="may be a fraction (default: 1, or less if --trials-per-gpu needs it)",
    )
    gpus = parser.add_mutually_exclusive_group()
    gpus.add_argument(
        "--gpus-per-trial",
        type=real_number(0),
        metavar="X",
        help="may be a fraction (default: 1 if the cluster has a GPU)",
    )
    gpus.add_argument(
        "--trials-per-gpu",
        type=_trials_per_gpu,
        metavar="M|auto",
        help="number of trials that share a GPU; auto: measure the memory of a trial first",
    )
    parser.add_argument(
        "--address",
        metavar="ADDR",
        default=os.environ.get("RAY_ADDRESS"),
        help="Ray cluster (default: RAY_ADDRESS if it is set, else this machine)",
    )


def _trials_per_gpu(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    with suppress(ValueError):
        if 1 <= (number := int(text)) <= _MOST_PER_GPU:
            return number
    raise argparse.ArgumentTypeError(
        f"expected auto or a whole number from 1 to {_MOST_PER_GPU}, found {text!r}"
    )


@contextmanager
def connected(
    args: argparse.Namespace, count_by_memory: Callable[[float], int]
) -> Iterator[Resources]:
    """Connect to Ray for the block and yield the resources of one trial, from the parsed flags.

    With ``--trials-per-gpu auto``, ``count_by_memory`` returns how many trials share a GPU. Its
    argument is the number of trials for which the CPUs suffice.

    Raises:
        ConfigError: no cluster is reachable, or a trial needs more than this machine has.
    """
    local = is_local(args.address)
    with ray_session(args.address, args.command):
        cpus, gpus, count = args.cpus_per_trial, args.gpus_per_trial, args.trials_per_gpu
        if count is not None:
            cpus_per_gpu = _cpus_per_gpu()
            if cpus_per_gpu is None:
                if local or count == "auto":
                    where = "this machine" if local else "the cluster"
                    raise ConfigError(f"--trials-per-gpu {count}: {where} has no GPU")
            else:
                if count == "auto":
                    count = count_by_memory(cpus_per_gpu / (cpus or 1.0))
                cpus = cpus or min(1.0, share(cpus_per_gpu, count))
            gpus = share(1.0, count)
        yield fit_resources(cpus or 1.0, gpus, args.max_concurrent, is_local=local)


def share(amount: float, count: int) -> float:
    """The largest part of a resource of which ``count`` fit into ``amount`` in Ray's arithmetic."""
    return math.floor(_PARTS * amount / count) / _PARTS


def _cpus_per_gpu() -> float | None:
    """CPUs per GPU of the node that has the fewest; None if no node has a GPU."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    counts = [node.get("CPU", 0) / node["GPU"] for node in nodes if node.get("GPU", 0) >= 1]
    return min(counts, default=None)


@contextmanager
def ray_session(address: str | None, command: str = "tuner") -> Iterator[None]:
    """Connect to the Ray cluster at ``address`` for the block, or start one on this machine.

    ``command`` begins the message if Ray hangs, which ends this process.

    Raises:
        ConfigError: no cluster is reachable at ``address``, or Ray cannot be started here.
        KeyboardInterrupt: SIGTERM while Ray started.
    """
    set_environment()
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with started(address, command):
        yield


@contextmanager
def raylet_silenced() -> Iterator[None]:
    """Discard what Ray prints when a worker is lost; the reason is recorded elsewhere."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def fit_resources(
    cpus: float, gpus: float | None, max_concurrent: int | None, *, is_local: bool
) -> Resources:
    """The resources of a trial on the connected cluster, from the values of the flags.

    A local cluster (``is_local``) cannot grow.

    Raises:
        ConfigError: a trial needs more than this machine has.
    """
    import ray

    total = ray.cluster_resources()
    if gpus is None:
        gpus = 1.0 if total.get("GPU", 0) >= 1 else 0.0
    fits = []
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        available = total.get(kind, 0)
        if is_local and needed > available:
            raise ConfigError(
                f"--{kind.lower()}s-per-trial: {needed:g} requested, "
                f"but this machine has {available:g} {kind}s"
            )
        if needed:
            fits.append(math.floor(available / needed))
    return Resources(cpus, gpus, max_concurrent or max(1, min(fits, default=1)))


def run_tasks(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    resources: Resources,
    on_done: Callable[[int, Any], None],
    *,
    frees_gpu: bool = False,
) -> None:
    """Run ``function(*call)`` for every call as Ray tasks, several at a time.

    A call that is lost or raises an exception is retried twice.

    ``on_done`` is called in this process, in order of completion, with the index of the call and
    its value or final exception.

    ``frees_gpu`` ends the worker of a call on a GPU with the call. Otherwise idle workers keep GPU
    memory that later trials may need.
    """
    import ray

    max_calls = 1 if frees_gpu and resources.gpus else 0  # 0: any number
    remote = ray.remote(max_calls=max_calls)(function).options(
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
