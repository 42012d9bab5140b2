"""Cost of the regularizer in a training step, and of a step compared with bare arithmetic.

``python -m benchmarks.step --device cuda --precision float32 bf16`` times training steps with and
without regularizer. By arithmetic, their ratio is (B + 2k) / B. The floor is the time for the
counted operations of a step at the rate of a large matrix product or of a typical convolution,
measured in the same rounds and number format.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import timing
from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData
from simreg_core.seeding import generator
from simreg_core.training.start import start

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def step_seconds(
    configs: Mapping[str, TrialConfig],
    data: TaskData,
    device: torch.device,
    *,
    num_steps: int,
    repetitions: int,
    others: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of a training step of every configuration, and of the ``others``, by round.

    The duration of an epoch of one step is subtracted from that of ``num_steps`` more. This cancels
    the other costs of an epoch (validation, keeping the weights).
    """
    variants: dict[str, Callable[[], object]] = {}
    for name, config in configs.items():
        for kind, steps in (("short", 1), ("long", num_steps + 1)):
            number = steps * config.training.batch_size
            train = Split(data.train.images[:number], data.train.labels[:number])
            variants[f"{name}, {kind}"] = timing.epochs_of(config, data, device, train)
    found = timing.interleaved({**variants, **(others or {})}, device, repetitions)
    for name in configs:
        rounds = zip(found.pop(f"{name}, long"), found.pop(f"{name}, short"), strict=True)
        found[name] = [(long - short) / num_steps for long, short in rounds]
    return found


def operations(config: TrialConfig, data: TaskData, device: torch.device) -> int:
    """Floating-point operations of one step; a multiplication and an addition count as two."""
    state = start(config, data, device)
    batch = slice(config.training.batch_size)
    with FlopCounterMode(display=False) as counter:
        logits = state.model(data.train.images[batch].to(torch.float32) / 255)
        loss = functional.cross_entropy(logits, data.train.labels[batch])
        if state.regularizer is not None:
            pairs = state.regularizer.draw(1, generator(0, "pairs"))[0].to(device)
            loss = loss + state.regularizer(state.model, pairs).loss
        loss.backward()
    return int(counter.get_total_flops())


def peaks(device: torch.device, dtype: torch.dtype) -> dict[str, tuple[Callable[[], object], int]]:
    """Calls at the best rate of the device, with their floating-point operations."""
    side, batch = (8192, 256) if device.type == "cuda" else (2048, 64)
    channels, pixels = 128, 16
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    image = torch.randn(batch, channels, pixels, pixels, device=device, dtype=dtype)
    kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    image, kernel = (x.to(memory_format=torch.channels_last) for x in (image, kernel))
    per_image = 2 * 9 * channels**2 * pixels**2
    repeats = 10  # because the convolution is smaller
    return {
        "matrix product": (lambda: matrix @ matrix, 2 * side**3),
        "convolution": (
            lambda: [functional.conv2d(image, kernel, padding=1) for _ in range(repeats)],
            repeats * batch * per_image,
        ),
    }


def report(args: argparse.Namespace, device: torch.device, base: int, precision: str) -> None:
    """Print the comparison for one width and number format."""
    k = args.pairs
    configs = {
        name: timing.make_trial(
            args.dataset,
            model={"base_channels": base},
            training={"precision": precision},
            regularizer=regularizer,
        )
        for name, regularizer in {"plain": {"alpha": 0.0}, "regularized": {"batch_size": k}}.items()
    }
    batch = configs["plain"].training.batch_size
    data = timing.make_task(args.dataset, device, train=max(5000, (args.steps + 1) * batch))
    bare = peaks(device, PRECISIONS[precision])
    seconds = step_seconds(
        configs,
        data,
        device,
        num_steps=args.steps,
        repetitions=args.repetitions,
        others={name: call for name, (call, _) in bare.items()},
    )
    print(f"base {base}, {precision}, batch {batch}, k {k}")
    for name, config in configs.items():
        count = operations(config, data, device)
        print(f"  {name} step, ms:  {timing.spread(seconds[name], 1e3)}  ({count / 1e9:.3g} GFLOP)")
        for kind, (_, bare_count) in bare.items():
            floor = [s * count / bare_count for s in seconds[kind]]
            rate = timing.spread([bare_count / s / 1e9 for s in seconds[kind]])
            shown = f"{timing.ratio(seconds[name], floor)} x the floor by {kind}"
            print(f"    {shown} ({rate} GFLOP/s)")
    share = (batch + 2 * k) / batch
    found = timing.ratio(seconds["regularized"], seconds["plain"])
    excess = found.median / share - 1
    print(
        f"  regularized / plain: {found}, arithmetic share {share:.3g}: {excess:+.1%} (goal 10 %)"
    )
    print(flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one comparison per width and number format."""
    parser = timing.make_parser(__doc__)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["float32"])
    parser.add_argument("--base-channels", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--pairs", type=int, default=16, help="k")
    parser.add_argument("--steps", type=int, help="steps per measurement; default: 4, on cuda 50")
    args = parser.parse_args(argv)
    args.steps = args.steps or (50 if args.device == "cuda" else 4)
    device = timing.begin(args, steps=args.steps)
    # Let matrix products use TF32 if convolutions do, which is their default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    for base in args.base_channels:
        for precision in args.precision:
            report(args, device, base, precision)


if __name__ == "__main__":
    main()
