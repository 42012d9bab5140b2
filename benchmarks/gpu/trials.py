"""Stage ``trials``: trials per hour when M networks share the GPU in several ways."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch

from benchmarks import timing
from benchmarks.gpu.data import QUICK_MODEL
from benchmarks.gpu.mps import MpsUnavailableError, mps
from benchmarks.gpu.results import Recorder, Settings
from benchmarks.packing import (
    EPOCHS,
    Epoch,
    Load,
    processes,
    stacked,
    threads,
    trials_per_hour,
)

_EPOCHS = 3  # timed, after a warm-up

WAYS: dict[str, Callable[[Load, int], AbstractContextManager[Epoch]]] = {
    "threads": threads,
    "stacked, CUDA graph": partial(stacked, uses_graph=True),
    "processes, MPS": processes,
    "processes": processes,
    "stacked": stacked,
}


class Task(NamedTuple):
    """Measurements of one way, in this order."""

    way: str
    sizes: tuple[tuple[str, int], ...]
    """Kind of the network, and M."""


PLAN = (  # what matters most first: the time may not suffice for all
    Task("threads", (("small", 1), ("small", 8), ("full", 1), ("full", 4), ("small", 16))),
    Task("stacked, CUDA graph", (("small", 8), ("small", 16))),
    Task("processes, MPS", (("small", 8), ("full", 4), ("small", 16))),
    Task("processes", (("small", 8), ("full", 4), ("small", 1), ("full", 1))),
    Task("threads", (("small", 4), ("full", 2), ("small", 2))),
    Task("stacked", (("small", 8),)),
    Task("processes, MPS", (("full", 2), ("small", 4), ("small", 2))),
    Task("stacked, CUDA graph", (("small", 4), ("small", 2), ("small", 1))),
    Task("processes", (("small", 16), ("full", 2), ("small", 4), ("small", 2))),
    Task("stacked", (("small", 16), ("small", 4), ("small", 2), ("small", 1))),
)
QUICK_PLAN = tuple(Task(way, (("small", 2),)) for way in WAYS)


def load_of(settings: Settings, kind: str) -> Load:
    """The trials of a kind, on random images."""
    if settings.quick:
        return Load(settings.device, None, 128, QUICK_MODEL)
    if kind == "small":
        return Load(settings.device, None, 5120, {"base_channels": 16, "blocks": [1, 1, 1]})
    return Load(settings.device, None, 10240, {"base_channels": 64})


def run(settings: Settings, recorder: Recorder) -> None:
    """Measure the plan."""
    torch.set_num_threads(1)
    for task in QUICK_PLAN if settings.quick else PLAN:
        names = {size: f"{size[0]}, M = {size[1]}, {task.way}" for size in task.sizes}
        sizes = [size for size, name in names.items() if not recorder.has_measured(name)]
        if not sizes:
            continue
        if "graph" in task.way and not settings.is_cuda:
            for size in sizes:
                recorder.add(names[size], note="CUDA graphs need a GPU", status="skipped")
            continue
        try:
            with mps(settings.out) if "MPS" in task.way else nullcontext():
                for size in sizes:
                    with recorder.attempt(names[size]):
                        _measure(settings, recorder, task.way, size, names[size])
        except MpsUnavailableError as err:
            for size in sizes:
                recorder.add(names[size], note=str(err), status="skipped")


def _measure(
    settings: Settings, recorder: Recorder, way: str, size: tuple[str, int], name: str
) -> None:
    kind, number = size
    load = load_of(settings, kind)
    try:
        note = ""
        seconds = _seconds(settings, way, load, number)
    except RuntimeError as err:
        if "stacked" not in way or not settings.is_cuda:
            raise
        torch.cuda.empty_cache()
        torch.backends.cudnn.enabled = False
        try:
            note = f"; without cuDNN, because with it: {str(err).splitlines()[0][:100]}"
            seconds = _seconds(settings, way, load, number)
        finally:
            torch.backends.cudnn.enabled = True
    model = ", ".join(f"{key} {value}" for key, value in load.model.items())
    recorder.add(
        name,
        {
            "trials/h": trials_per_hour(number, seconds),
            "s of an epoch of all": seconds,
        },
        f"{model}, {load.num_images} images, {EPOCHS} epochs{note}",
    )


def _seconds(settings: Settings, way: str, load: Load, number: int) -> list[float]:
    with WAYS[way](load, number) as epoch:
        found = timing.interleaved({way: epoch}, settings.torch_device, _EPOCHS)[way]
    if settings.is_cuda:
        torch.cuda.empty_cache()
    return found
