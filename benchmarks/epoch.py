"""Duration of an epoch compared with the plain style of published research code.

``python -m benchmarks.epoch --threads 2`` trains the same network on the same images in both styles
(:mod:`benchmarks.plain_training`), and times the set-up before the first step.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks import timing
from benchmarks.plain_training import PlainTraining, list_pairs
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData
from simreg_core.regularizer.pairs import PairSampler
from simreg_core.regularizer.similarity import PixelSimilarity
from simreg_core.regularizer.targets import TargetInput, make_target


def report_set_up(args: argparse.Namespace, data: TaskData, device: torch.device) -> None:
    """Print the set-up times for N images: target and pair sampler, or the list of pairs."""
    number, listed = args.regularization_images, min(args.regularization_images, 1000)
    config = timing.make_trial(args.dataset).regularizer
    images = data.train.images[:number]

    def own() -> PairSampler:
        pixels = PixelSimilarity(images)
        make_target(TargetInput(images, None, pixels, config))
        return PairSampler(config, pixels)

    variants: dict[str, Callable[[], object]] = {"own": own, "list": lambda: list_pairs(listed)}
    seconds = timing.interleaved(variants, device, args.repetitions)
    scale = number * (number - 1) / (listed * (listed - 1))
    plain = [scale * s for s in seconds["list"]]
    print(f"set-up for N = {number}, ms: own {timing.spread(seconds['own'], 1e3)}")
    print(
        f"  list of pairs {timing.spread(plain, 1e3)} (measured for {listed} images, x {scale:.3g})"
    )
    print(f"  list / own {timing.ratio(plain, seconds['own'])}\n", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print seconds per epoch in both styles, and their ratio."""
    parser = timing.make_parser(__doc__)
    parser.add_argument("--num-images", type=int, help="training images; 2000, on cuda 45000")
    parser.add_argument("--regularization-images", type=int, default=5000, help="N of the set-up")
    parser.add_argument("--base-channels", type=int, help="default: 16, on cuda 64")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=cores, help="for the plain DataLoader")
    args = parser.parse_args(argv)
    number = args.num_images or (45000 if args.device == "cuda" else 2000)
    base = args.base_channels or (64 if args.device == "cuda" else 16)
    device = timing.begin(args, num_images=number, base_channels=base, workers=args.workers)
    data = timing.make_task(
        args.dataset,
        device,
        train=max(number, args.regularization_images),
        validation=number // 10,
    )
    report_set_up(args, data, device)
    train = Split(data.train.images[:number], data.train.labels[:number])
    data = data._replace(train=train)
    regularizer = {"num_images": min(number, args.regularization_images)}
    config = timing.make_trial(args.dataset, model={"base_channels": base}, regularizer=regularizer)
    own = timing.epochs_of(config, data, device)
    started = time.perf_counter()
    plain = PlainTraining(config, data, device, args.workers)
    timing.synchronize(device)
    print(f"complete plain set-up, s: {time.perf_counter() - started:.3g}")
    seconds = timing.interleaved({"own": own, "plain": plain.epoch}, device, args.repetitions)
    for name, values in seconds.items():
        print(f"{name} epoch, s: {timing.spread(values)}")
    print(f"plain / own: {timing.ratio(seconds['plain'], seconds['own'])}")


if __name__ == "__main__":
    main()
