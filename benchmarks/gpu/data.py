"""The task and the trials of the stages: grey CIFAR-10 from Parquet files."""

from __future__ import annotations

from typing import Any

from benchmarks import timing
from benchmarks.gpu.results import Settings
from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData, load_task

QUICK_MODEL = {"base_channels": 4, "blocks": [1, 1]}


def dataset(settings: Settings, name: str) -> str:
    """``parquet:PATH`` of a folder of the data."""
    return f"parquet:{settings.data}/{name}"


def load_cifar10(settings: Settings) -> TaskData:
    """All of CIFAR-10, or a little of it, on the device of the measurements."""
    few = {"num_train": 256, "num_validation": 64, "num_test": 64} if settings.quick else {}
    task = {"dataset": dataset(settings, "cifar10"), "protocol": "cifar10", **few}
    config = TrialConfig.from_dict({"task": task})
    return load_task(config.task).to(settings.torch_device)


def make_trial(settings: Settings, **sections: dict[str, Any]) -> TrialConfig:
    """The published protocol with changes by section; endless, see :func:`timing.make_trial`."""
    if settings.quick:
        sections["regularizer"] = {"num_images": 16, **sections.get("regularizer", {})}
        sections["model"] = {**sections.get("model", {}), **QUICK_MODEL}
    return timing.make_trial(dataset(settings, "cifar10"), **sections)


def part_of(data: TaskData, fraction: float) -> TaskData:
    """The first images of the training and validation splits."""
    train, validation = (
        Split(*(values[: round(fraction * len(values))] for values in split))
        for split in (data.train, data.validation)
    )
    return data._replace(train=train, validation=validation)
