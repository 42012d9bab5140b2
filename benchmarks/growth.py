"""Growth of costs with the number of pairs k and the number of regularization images N.

``python -m benchmarks.growth --threads 2`` measures three costs. A step with k pairs may cost
(B + 2k) / B times a step without. The set-up should be linear in N. Drawing a batch of pairs with
its targets should not depend on N.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence

import torch

from benchmarks import timing
from benchmarks.set_up import RANGES, measure
from benchmarks.step import step_seconds


def report_pairs(args: argparse.Namespace, device: torch.device) -> None:
    """Print the cost of a step for every k."""
    model = {"base_channels": args.base_channels}
    configs = {"0": timing.make_trial(args.dataset, model=model, regularizer={"alpha": 0.0})}
    for k in args.pairs:
        configs[str(k)] = timing.make_trial(
            args.dataset, model=model, regularizer={"batch_size": k}
        )
    batch = configs["0"].training.batch_size
    data = timing.make_task(args.dataset, device, train=max(5000, (args.steps + 1) * batch))
    seconds = step_seconds(
        configs, data, device, num_steps=args.steps, repetitions=args.repetitions
    )
    print(f"{'k':>7}  {'a step, ms':26}{'/ without':26}{'arithmetic':>10}{'excess':>9}")
    for name, values in seconds.items():
        share = (batch + 2 * int(name)) / batch
        found = timing.ratio(values, seconds["0"])
        excess = found.median / share - 1
        shown = f"{timing.spread(values, 1e3)!s:26}{found!s:26}"
        print(f"{name:>7}  {shown}{share:10.4g}{excess:+9.1%}")
    print(flush=True)


def report_images(args: argparse.Namespace) -> None:
    """Print the costs of set-up and batch for every N, on the CPU with one thread."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for name in args.ranges:
            rounds = [
                [pool.apply(measure, (number, RANGES[name])) for number in args.num_images]
                for _ in range(args.repetitions + 1)
            ][1:]
            set_up, batch = (
                [[measured[n][figure] for measured in rounds] for n in range(len(args.num_images))]
                for figure in (0, 1)
            )
            print(f"pairs {name} (CPU, 1 thread); ratios to N = {args.num_images[0]}")
            print(f"{'N':>7}  {'set-up, s':28}{'ratio':26}{'a batch, ms':26}{'ratio':26}")
            for n, number in enumerate(args.num_images):
                cells = (
                    f"{timing.spread(set_up[n])!s:28}{timing.ratio(set_up[n], set_up[0])!s:26}"
                    f"{timing.spread(batch[n])!s:26}{timing.ratio(batch[n], batch[0])}"
                )
                print(f"{number:7}  {cells}")
            print(flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one table for k and one per range for N."""
    parser = timing.make_parser(__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[4, 8, 16, 32, 64, 128, 256])
    parser.add_argument("--base-channels", type=int, default=16)
    parser.add_argument("--steps", type=int, help="steps per measurement; default: 4, on cuda 50")
    parser.add_argument("--num-images", type=int, nargs="+", default=[500, 5000, 50000], help="N")
    parser.add_argument("--ranges", nargs="+", choices=RANGES, default=["all"])
    args = parser.parse_args(argv)
    args.steps = args.steps or (50 if args.device == "cuda" else 4)
    device = timing.begin(args, base_channels=args.base_channels, steps=args.steps)
    report_pairs(args, device)
    report_images(args)


if __name__ == "__main__":
    main()
