"""Trials per hour on one device: in parallel processes, in threads, or stacked.

``python -m benchmarks.packing --device cuda`` compares these for M = 1, 2, 4, 8 trials that differ
in alpha, Th and seed. Start NVIDIA's MPS before to let the kernels of processes overlap. Threads of
one process replay a CUDA graph each. Stacked trials (:mod:`benchmarks.vectorised`) share every
kernel. One warm epoch is timed; a trial has ``--epochs`` of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import count
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import Any, NamedTuple

import torch

from benchmarks import timing
from benchmarks.vectorised import VectorisedTraining
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData

_PATIENCE = 600.0  # seconds; a process that fails breaks the barrier immediately
EPOCHS = 40  # of a trial

Epoch = Callable[[], object]
"""Trains one epoch of all M trials."""


class Load(NamedTuple):
    """What every trial trains, and where."""

    device: str
    dataset: str | None
    """None: random images."""
    num_images: int
    model: dict[str, Any]
    threads: int = 1
    """CPU threads of torch, shared by processes."""

    def configs(self, number: int) -> list[TrialConfig]:
        """Trials whose seed, alpha and Th differ."""
        regularizer = {"num_images": min(self.num_images, 5000)}
        return [
            timing.make_trial(
                self.dataset,
                model=self.model,
                regularizer={
                    "alpha": 0.1 * (1 + n),
                    "threshold": 0.9 * n / (number + 1),
                    **regularizer,
                },
            ).model_copy(update={"seed": n})
            for n in range(1, number + 1)
        ]

    def data(self) -> TaskData:
        """The splits of the task on the device."""
        return timing.make_task(
            self.dataset,
            torch.device(self.device),
            train=self.num_images,
            validation=max(2, self.num_images // 10),
        )


def work(load: Load, number: int, threads: int, barrier: Barrier) -> None:
    """Train one epoch of a trial each time the processes meet, until the barrier breaks."""
    torch.set_num_threads(threads)
    device = torch.device(load.device)
    try:
        epoch = timing.epochs_of(load.configs(number)[-1], load.data(), device)
        epoch()  # warm-up
        while True:
            barrier.wait(_PATIENCE)
            epoch()
            timing.synchronize(device)
            barrier.wait(_PATIENCE)
    except BrokenBarrierError:
        pass
    finally:
        barrier.abort()


@contextmanager
def processes(load: Load, number: int) -> Iterator[Epoch]:
    """M waiting processes."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(number + 1)
    threads = max(1, load.threads // number)
    workers = [
        context.Process(target=work, args=(load, n, threads, barrier), daemon=True)
        for n in range(1, number + 1)
    ]
    for worker in workers:
        worker.start()

    def epoch() -> None:
        try:
            barrier.wait(_PATIENCE)
            barrier.wait(_PATIENCE)
        except BrokenBarrierError as err:
            raise RuntimeError("a process failed; its output says why") from err

    try:
        yield epoch
    finally:
        barrier.abort()
        for worker in workers:
            worker.join()


@contextmanager
def threads(load: Load, number: int) -> Iterator[Epoch]:
    """M threads of this process, each with a CUDA stream and a graph of its own."""
    device, data = torch.device(load.device), load.data()
    timing.synchronize(device)

    def train(stream: torch.cuda.Stream | None, epoch: Epoch) -> None:
        # On the default stream, which all threads share, networks would wait for each other.
        with torch.cuda.stream(stream) if stream is not None else nullcontext():
            epoch()

    streams = [torch.cuda.Stream() if device.type == "cuda" else None for _ in range(number)]
    epochs = [timing.epochs_of(config, data, device) for config in load.configs(number)]
    timing.synchronize(device)
    with ThreadPoolExecutor(number) as pool:
        yield lambda: list(pool.map(train, streams, epochs))


@contextmanager
def stacked(load: Load, number: int, *, uses_graph: bool = False) -> Iterator[Epoch]:
    """M networks as one, if ``uses_graph`` with a CUDA graph.

    Raises:
        RuntimeError: the graph is not there after the first epoch.
    """
    training = VectorisedTraining(
        load.configs(number), load.data(), torch.device(load.device), uses_graph=uses_graph
    )
    numbers = count()

    def epoch() -> None:
        training.epoch(next(numbers))
        if uses_graph and not (training.graph and training.graph.is_captured):
            raise RuntimeError("the step was not captured as a CUDA graph")

    yield epoch


@contextmanager
def in_turn(load: Load, number: int) -> Iterator[Epoch]:
    """One network after another."""
    device, data = torch.device(load.device), load.data()
    epochs = [timing.epochs_of(config, data, device) for config in load.configs(number)]
    yield lambda: [epoch() for epoch in epochs]


def trials_per_hour(number: int, seconds: Sequence[float], epochs: int = EPOCHS) -> list[float]:
    """From the seconds that M trials take for one epoch."""
    return [3600 * number / (epochs * s) for s in seconds]


def report(args: argparse.Namespace, load: Load, number: int) -> None:
    """Print trials per hour of every variant for M trials."""
    contexts = {
        "one after another": in_turn,
        "processes": processes,
        "threads": threads,
        "stacked": stacked,
    }
    if load.device == "cuda":
        contexts["stacked, CUDA graph"] = partial(stacked, uses_graph=True)
    with ExitStack() as stack:
        variants = {name: stack.enter_context(c(load, number)) for name, c in contexts.items()}
        seconds = timing.interleaved(variants, torch.device(load.device), args.repetitions)
    print(f"M = {number}")
    for name, values in seconds.items():
        rate = timing.spread(trials_per_hour(number, values, args.epochs))
        gain = timing.ratio(seconds["one after another"], values)
        print(f"  {name + ', trials/h:':30}{rate!s:28} x {gain}")
    print(flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one comparison per number of trials."""
    parser = timing.make_parser(__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 2, 4, 8], help="M")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of a trial")
    parser.add_argument("--num-images", type=int, help="training images; 512, on cuda 10000")
    parser.add_argument("--base-channels", type=int, default=16)
    args = parser.parse_args(argv)
    num_images = args.num_images or (10000 if args.device == "cuda" else 512)
    device = timing.begin(
        args,
        num_images=num_images,
        base_channels=args.base_channels,
        epochs_of_a_trial=args.epochs,
    )
    if device.type == "cuda":
        pipe = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
        print(f"MPS {'on' if os.path.exists(pipe) else 'off'} (according to {pipe})\n")
    model = {"base_channels": args.base_channels}
    load = Load(args.device, args.dataset, num_images, model, args.threads)
    for number in args.trials:
        report(args, load, number)


if __name__ == "__main__":
    main()
