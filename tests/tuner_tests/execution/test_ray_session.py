from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from simreg_core.errors import ConfigError
from tests.tuner_tests.spaces import write_space
from tuner.execution.ray_session import Resources, fit_resources, run_tasks
from tuner.run import main

pytestmark = pytest.mark.usefixtures("local_ray")


def double(number: int) -> int:
    return 2 * number


def meet(folder: Path, name: str, other: str) -> float:
    """Return the time once the other is here too."""
    (folder / name).touch()
    deadline = time.monotonic() + 300
    while not (folder / other).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{other} did not come")
        time.sleep(0.01)
    return time.monotonic()


def count_others(folder: Path, name: str) -> int:
    (folder / name).touch()
    time.sleep(0.2)
    number = len(list(folder.iterdir())) - 1
    (folder / name).unlink()
    return number


def die_if_negative(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    raise ValueError(f"no {number} here")


RunAll = Callable[..., list[tuple[int, Any]]]


@pytest.fixture
def run_all() -> RunAll:
    """Runs tasks with a tenth of a CPU each; returns what ``on_done`` was called with."""

    def run(
        function: Callable[..., Any], calls: list[tuple[Any, ...]], max_concurrent: int
    ) -> list[tuple[int, Any]]:
        done: list[tuple[int, Any]] = []
        resources = Resources(cpus=0.1, gpus=0.0, max_concurrent=max_concurrent)
        run_tasks(function, calls, resources, lambda index, value: done.append((index, value)))
        return done

    return run


def test_tasks_start_in_the_order_of_the_calls(run_all: RunAll) -> None:
    assert run_all(double, [(3,), (1,), (2,)], 1) == [(0, 6), (1, 2), (2, 4)]


def test_tasks_run_together_up_to_the_limit(run_all: RunAll, tmp_path: Path) -> None:
    done = run_all(meet, [(tmp_path, "a", "b"), (tmp_path, "b", "a")], 2)
    assert sorted(index for index, _ in done) == [0, 1]
    assert all(isinstance(value, float) for _, value in done)


def test_no_more_tasks_than_the_limit_run_together(run_all: RunAll, tmp_path: Path) -> None:
    done = run_all(count_others, [(tmp_path, name) for name in "abcde"], 2)
    assert max(value for _, value in done) <= 1


def test_lost_task_is_handed_over_as_its_error_and_the_others_go_on(run_all: RunAll) -> None:
    done = dict(run_all(die_if_negative, [(1,), (-1,), (2,)], 2))
    assert (done[0], done[2]) == (1, 2)
    assert isinstance(done[1], ray.exceptions.RayError)


def test_task_that_raises_is_handed_over_as_its_error(run_all: RunAll) -> None:
    ((index, error),) = run_all(refuse, [(7,)], 1)
    assert index == 0
    assert isinstance(error, ValueError)
    assert str(error) == "no 7 here"
    assert run_all(double, [], 1) == []


def test_as_many_trials_run_at_once_as_fit_or_are_asked_for() -> None:
    cpus = ray.cluster_resources()["CPU"]
    assert fit_resources(cpus / 4, 0.0, None, is_local=True).max_concurrent == 4
    assert fit_resources(0.6 * cpus, 0.0, None, is_local=True).max_concurrent == 1
    assert fit_resources(1.0, 0.0, 7, is_local=True).max_concurrent == 7
    assert fit_resources(0.0, 0.0, None, is_local=True).max_concurrent == 1
    # A cluster may grow.
    assert fit_resources(9999.0, 0.0, None, is_local=False).max_concurrent == 1


def test_trial_gets_a_gpu_only_where_there_is_one() -> None:
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    resources = fit_resources(1.0, None, None, is_local=True)
    assert (resources.gpus, resources.device) == ((1.0, "cuda") if has_gpu else (0.0, "cpu"))


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1.0, 1), (3.0, 3), (2.5, 2)], ids=str)
def test_trial_has_a_thread_per_whole_cpu(cpus: float, threads: int) -> None:
    assert Resources(cpus, 0.0, 1).num_threads == threads


@pytest.mark.parametrize(("cpus", "gpus", "flag"), [(9999.0, 0.0, "cpus"), (1.0, 99.0, "gpus")])
def test_more_than_this_machine_has_is_refused(cpus: float, gpus: float, flag: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--{flag}-per-trial: (9999|99) "):
        fit_resources(cpus, gpus, None, is_local=True)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_address_where_nothing_listens_is_refused_in_one_line(
    scheme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"
        output = tmp_path / "output"
        space = write_space(tmp_path)
        code = main(["--space", str(space), "--output", str(output), "--address", address])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tuner.run: --address {address}: ")
    assert not output.exists()
