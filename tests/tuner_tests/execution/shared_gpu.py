"""Run as a program: networks that share one GPU that Ray believes in, placed by Tune.

It takes the folder of a space file and the resource flags. It prints the resources of a trial, how
many networks every network met, and where, and the processes of two tasks that free the GPU.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console

from simreg_core.cli import Parser
from simreg_core.errors import ConfigError
from tests.tuner_tests.drivers import Driver
from tuner.execution.gpu_sharing import GpuMemory, trials_that_fit
from tuner.execution.progress import SearchView
from tuner.execution.ray_session import Resources, add_resource_flags, connected, run_tasks
from tuner.execution.tune_runner import run_networks
from tuner.execution.worker import WorkerSettings
from tuner.space.loading import load_space


def meet(config: dict[str, Any], settings: WorkerSettings) -> None:
    """Wait for as many networks as should run at once; write down how many are there."""
    expected, name = settings.num_threads, str(config["trial"])
    came, here = settings.folder / "came", settings.folder / "here"
    (came / name).touch()
    (here / name).touch()
    deadline = time.monotonic() + 300
    while len(list(came.iterdir())) < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)  # for one too many
    found = {"met": len(list(here.iterdir())), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
    (settings.folder / "met" / name).write_text(json.dumps(found))
    time.sleep(0.5)  # until the others have counted
    (here / name).unlink()
    tune.report({"epochs_done": 0, "failure": "no training here"})


def own_pid() -> int:
    return os.getpid()


def main(folder: Path, *flags: str) -> None:
    parser = Parser("shared_gpu", "Trials that share a GPU.")
    add_resource_flags(parser)
    space = load_space(folder / "space.yaml")
    for name in ("came", "here", "met"):
        (folder / name).mkdir()
    memory = GpuMemory(trial=2, total=9)  # 4 trials fit
    count = lambda limit: trials_that_fit(memory, limit)  # noqa: E731
    try:
        with connected(parser.parse_args(flags), count) as resources:
            expected = resources.max_concurrent
            settings = WorkerSettings(folder, folder, "cpu", num_threads=expected)
            driver = Driver(folder, space)
            with SearchView(Console(stderr=True), "trial", space.tuning.num_trials) as view:
                run_networks(driver.searcher, settings, resources, view, (), run=meet)
            found = [json.loads(path.read_text()) for path in (folder / "met").iterdir()]
            pids: list[int] = []
            one = Resources(resources.cpus, resources.gpus, max_concurrent=1)
            calls = [(), ()]
            run_tasks(own_pid, calls, one, lambda _, pid: pids.append(pid), frees_gpu=True)
            shares = {"cpus": resources.cpus, "gpus": resources.gpus, "at_once": expected}
            print(json.dumps({**shares, "networks": found, "pids": pids}))
    except ConfigError as err:
        print(json.dumps({"error": str(err)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
