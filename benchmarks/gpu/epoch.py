"""Stage ``epoch``: seconds of an epoch in several ways, the plain style, and the arithmetic floor.

Slow ways train on a fraction of the images; their seconds are scaled by the number of steps, and
the note says so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from benchmarks import timing
from benchmarks.gpu.conditions import gpu_state
from benchmarks.gpu.data import load_cifar10, make_trial, part_of
from benchmarks.gpu.results import Recorder, Settings
from benchmarks.plain_training import PlainTraining
from benchmarks.step import PRECISIONS, operations, peaks
from simreg_core.data.task import TaskData
from simreg_core.training.fit import fit
from simreg_core.training.start import start

_EPOCHS = 3
_PRODUCTS = 10  # of the peak rate, after a warm-up


class Way(NamedTuple):
    """One way of training."""

    name: str
    training: dict[str, Any]
    fraction: float = 1.0
    """Share of the training images."""
    memory_format: torch.memory_format | None = None
    """Memory format of the network; None keeps its own, channels last."""


_SLOW = 0.2  # of the images, for steps that Python holds up
WAYS = (
    Way("CUDA graph, TF32", {}),
    Way("CUDA graph, bf16", {"precision": "bf16"}),
    Way("eager, TF32", {"cuda_graph": "off"}, _SLOW),
    Way("eager, bf16", {"cuda_graph": "off", "precision": "bf16"}, _SLOW),
    Way("CUDA graph, TF32, NCHW", {}, 0.5, torch.contiguous_format),
    Way("CUDA graph, bf16, NCHW", {"precision": "bf16"}, 0.5, torch.contiguous_format),
)
_PLAIN, _PLAIN_FRACTION = "plain style, TF32", 0.1


def run(settings: Settings, recorder: Recorder) -> None:
    """Measure every way, then the floor, then the plain style."""
    torch.set_num_threads(1)
    data = load_cifar10(settings)
    for way in WAYS:
        if recorder.has_measured(way.name):
            continue
        with recorder.attempt(way.name):
            _measure_own(settings, recorder, data, way)
    if not recorder.has_measured("floor, bf16"):
        with recorder.attempt("floor"):
            _measure_floor(settings, recorder, data)
    if recorder.has_measured(_PLAIN):
        return
    with recorder.attempt(_PLAIN):
        _measure_plain(settings, recorder, data)


def _num_steps(data: TaskData, batch_size: int) -> int:
    return math.ceil(len(data.train.labels) / batch_size)


def _measure_own(settings: Settings, recorder: Recorder, data: TaskData, way: Way) -> None:
    config, part = make_trial(settings, training=way.training), part_of(data, way.fraction)
    state = start(config, part, settings.torch_device)
    if way.memory_format is not None:
        state.model.to(memory_format=way.memory_format)  # type: ignore[call-overload]
    epochs = fit(state, part, config.training, seed=config.seed)

    def comment() -> str:
        wants_graph = config.training.cuda_graph == "auto"
        return "; **without a CUDA graph**" if wants_graph and not state.uses_cuda_graph else ""

    _record(settings, recorder, data, part, way.name, lambda: next(epochs), comment)


def _record(
    settings: Settings,
    recorder: Recorder,
    data: TaskData,
    part: TaskData,
    name: str,
    epoch: Callable[[], object],
    comment: Callable[[], str] = str,
) -> None:
    """Time an epoch and scale it to all images."""
    seconds = timing.interleaved({name: epoch}, settings.torch_device, _EPOCHS)[name]
    batch_size = make_trial(settings).training.batch_size
    steps, all_steps = _num_steps(part, batch_size), _num_steps(data, batch_size)
    note = f"{len(part.train.labels)} images, {steps} steps"
    if steps < all_steps:
        note += f"; s of an epoch scaled to {all_steps} steps"
    values = {
        "s of an epoch": [s * all_steps / steps for s in seconds],
        "ms of a step": [1e3 * s / steps for s in seconds],
    }
    recorder.add(name, values, note + comment())


def _measure_floor(settings: Settings, recorder: Recorder, data: TaskData) -> None:
    """The counted operations of an epoch at the rate of a large matrix product."""
    config, device = make_trial(settings), settings.torch_device
    count = operations(config, data, device)
    steps = _num_steps(data, config.training.batch_size)
    # As convolutions do.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    for precision, dtype in PRECISIONS.items():
        label = "TF32" if dtype == torch.float32 else precision
        product, product_count = peaks(device, dtype)["matrix product"]
        number = 2 if settings.quick else _PRODUCTS
        found = timing.interleaved({"": product}, device, number, warm_up=3)[""]
        clock = gpu_state().get("clocks.sm", "unknown") if settings.is_cuda else "unknown"
        recorder.add(
            f"floor, {label}",
            {
                "s of an epoch": [s * count * steps / product_count for s in found],
                "ms of a step": [1e3 * s * count / product_count for s in found],
                "TFLOP/s of a matrix product": [product_count / s / 1e12 for s in found],
            },
            f"{count / 1e9:.4g} GFLOP a step, forward and backward; SM clock just after: {clock}",
        )


def _measure_plain(settings: Settings, recorder: Recorder, data: TaskData) -> None:
    part = part_of(data, _PLAIN_FRACTION)
    number = min(5000, len(part.train.labels))
    config = make_trial(settings, regularizer={} if settings.quick else {"num_images": number})
    workers = 0 if settings.quick else min(8, len(os.sched_getaffinity(0)))
    plain = PlainTraining(config, part, settings.torch_device, workers)
    _record(settings, recorder, data, part, _PLAIN, plain.epoch)
