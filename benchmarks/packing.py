"""Trials per hour on one device: one after another, in parallel processes, or vectorised.

``python -m benchmarks.packing --device cuda`` compares these for M = 1, 2, 4, 8 trials that differ
in alpha, Th and seed. Start NVIDIA's MPS before to let the kernels of processes overlap. Vectorised
trials (:mod:`benchmarks.vectorised`) share every kernel. One warm epoch is timed; a trial has
``--epochs`` of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

import torch

from benchmarks import timing
from benchmarks.vectorised import VectorisedTraining
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData

_PATIENCE = 600.0  # seconds; a process that fails breaks the barrier immediately


def make_configs(args: argparse.Namespace, number: int) -> list[TrialConfig]:
    """Trials whose seed, alpha and Th differ."""
    num_images = min(args.num_images, 5000)
    return [
        timing.make_trial(
            args.dataset,
            model={"base_channels": args.base_channels},
            regularizer={
                "alpha": 0.1 * (1 + n),
                "threshold": 0.9 * n / (number + 1),
                "num_images": num_images,
            },
        ).model_copy(update={"seed": n})
        for n in range(1, number + 1)
    ]


def make_data(args: argparse.Namespace, device: torch.device) -> TaskData:
    """The splits of the task on the device."""
    return timing.make_task(
        args.dataset, device, train=args.num_images, validation=max(2, args.num_images // 10)
    )


def work(args: argparse.Namespace, number: int, threads: int, barrier: Barrier) -> None:
    """Train one epoch of a trial each time the processes meet, until the barrier breaks."""
    torch.set_num_threads(threads)
    device = torch.device(args.device)
    try:
        epoch = timing.epochs_of(make_configs(args, number)[-1], make_data(args, device), device)
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
def processes(args: argparse.Namespace, number: int) -> Iterator[Callable[[], None]]:
    """M waiting processes; a call makes each of them train one epoch."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(number + 1)
    threads = max(1, args.threads // number)
    workers = [
        context.Process(target=work, args=(args, n, threads, barrier), daemon=True)
        for n in range(1, number + 1)
    ]
    for worker in workers:
        worker.start()

    def epoch() -> None:
        barrier.wait(_PATIENCE)
        barrier.wait(_PATIENCE)

    try:
        yield epoch
    finally:
        barrier.abort()
        for worker in workers:
            worker.join()


def report(args: argparse.Namespace, data: TaskData, device: torch.device, number: int) -> None:
    """Print trials per hour of every variant for M trials."""
    configs = make_configs(args, number)
    in_turn = [timing.epochs_of(config, data, device) for config in configs]
    with processes(args, number) as side_by_side:
        variants: dict[str, Callable[[], object]] = {
            "one after another": lambda: [epoch() for epoch in in_turn],
            "processes": side_by_side,
        }
        # On CUDA, vmap of torch 2.11 fails in batch normalisation: it calls is_contiguous with a
        # memory format, which vmap does not implement.
        if device.type == "cpu":
            stacked = VectorisedTraining(configs, data, device)
            epoch_index = count()
            variants["vectorised"] = lambda: stacked.epoch(next(epoch_index))
        seconds = timing.interleaved(variants, device, args.repetitions)
    print(f"M = {number}")
    for name, values in seconds.items():
        rate = timing.spread([3600 * number / (args.epochs * s) for s in values])
        gain = timing.ratio(seconds["one after another"], values)
        print(f"  {name + ', trials/h:':30}{rate!s:28} x {gain}")
    print(flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one comparison per number of trials."""
    parser = timing.make_parser(__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 2, 4, 8], help="M")
    parser.add_argument("--epochs", type=int, default=40, help="epochs of a trial")
    parser.add_argument("--num-images", type=int, help="training images; 512, on cuda 10000")
    parser.add_argument("--base-channels", type=int, default=16)
    args = parser.parse_args(argv)
    args.num_images = args.num_images or (10000 if args.device == "cuda" else 512)
    device = timing.begin(
        args,
        num_images=args.num_images,
        base_channels=args.base_channels,
        epochs_of_a_trial=args.epochs,
    )
    if device.type == "cuda":
        pipe = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
        print(f"MPS {'on' if os.path.exists(pipe) else 'off'} (according to {pipe})\n")
    data = make_data(args, device)
    for number in args.trials:
        report(args, data, device, number)


if __name__ == "__main__":
    main()
