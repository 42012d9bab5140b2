"""Shared parts of the timing scripts: interleaved repetitions, ratios and random tasks.

The variants of a comparison take turns (A B A B ...) within one process, so that changes of clock
or load affect all of them. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from simreg_core.config.trial import TaskConfig, TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData, load_task
from simreg_core.training.fit import fit
from simreg_core.training.start import start
from simreg_core.training.state import EpochRecord

_CLASSES = 10


class Spread(NamedTuple):
    """Median and range of repeated measurements."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


def spread(values: Sequence[float], scale: float = 1.0) -> Spread:
    """Median, minimum and maximum of ``scale`` times the values."""
    scaled = [scale * value for value in values]
    return Spread(statistics.median(scaled), min(scaled), max(scaled))


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Spread of the ratios within each round."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    device: torch.device,
    repetitions: int,
    *,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Seconds of every variant in every round after the warm-up; the variants take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(warm_up + repetitions):
        for name, run in variants.items():
            synchronize(device)
            started = time.perf_counter()
            run()
            synchronize(device)
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def make_parser(doc: str | None, repetitions: int = 5) -> argparse.ArgumentParser:
    """A parser with the options of every timing script."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument(
        "--repetitions", type=int, default=repetitions, help="rounds after the warm-up"
    )
    parser.add_argument("--dataset", help="dataset; default: random images like cifar10's")
    return parser


def begin(args: argparse.Namespace, **sizes: object) -> torch.device:
    """Set the number of threads and print the conditions; returns the device."""
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    shown = {"dataset": args.dataset or "random, 1x32x32", **sizes}
    print(f"{name}, torch {torch.__version__}, {args.threads} threads, {args.repetitions} rounds")
    print(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items()))
    print("median [minimum, maximum] over rounds; ratios are taken within a round\n", flush=True)
    return device


def make_task(
    dataset: str | None, device: torch.device, *, train: int, validation: int = 2, test: int = 2
) -> TaskData:
    """Splits of the dataset, or random splits that can be learned, with these numbers of images."""
    if dataset is not None:
        config = TaskConfig(
            dataset=dataset, num_train=train, num_validation=validation, num_test=test
        )
        return load_task(config).to(device)
    rng = torch.Generator().manual_seed(0)
    patterns = torch.randint(128, (_CLASSES, 1, 32, 32), generator=rng, dtype=torch.uint8)

    def split(number: int) -> Split:
        labels = torch.randint(_CLASSES, (number,), generator=rng)
        noise = torch.randint(128, (number, 1, 32, 32), generator=rng, dtype=torch.uint8)
        return Split(patterns[labels] + noise, labels)

    splits = split(train), split(validation), split(test)
    return TaskData(*splits, _CLASSES, "0" * 16, torch.arange(train), train).to(device)


def make_trial(dataset: str | None = None, **sections: dict[str, Any]) -> TrialConfig:
    """The published protocol with changes by section, endless and with a small learning rate."""
    endless = {"epochs": 10**6, "learning_rate": 1e-3, **sections.pop("training", {})}
    task = {"dataset": dataset or "cifar10"}
    return TrialConfig.from_dict({"task": task, "training": endless, **sections})


def epochs_of(
    config: TrialConfig, data: TaskData, device: torch.device, train: Split | None = None
) -> Callable[[], EpochRecord]:
    """A function that trains a new network by one epoch per call, on ``train`` if given."""
    state = start(config, data, device)
    epochs = fit(
        state,
        data if train is None else data._replace(train=train),
        config.training,
        seed=config.seed,
    )
    return lambda: next(epochs)
