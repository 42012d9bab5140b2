"""The files of cached networks: reading them, and what they depend on.

A missing or damaged file is read as None and built again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from simreg_core.config.trial import TrialConfig
from simreg_core.networks import checkpoint
from simreg_core.networks.network import Classifier
from simreg_core.plugins import is_plugin, source_digest
from simreg_core.registry import CORRUPTION_PREFIX
from simreg_core.results.measurements import CurvePoint
from simreg_core.results.schema import SPLITS
from simreg_core.robustness.cifar10c import stored_digest
from simreg_core.robustness.frequency import SpectrumPoint
from simreg_core.training.state import EpochRecord

log = logging.getLogger(__name__)

T = TypeVar("T")
_DAMAGED = (ValueError, TypeError, KeyError, IndexError, AttributeError)
"""What reading a damaged file raises; ValueError includes CheckpointError and JSON's errors."""


class Measured(NamedTuple):
    """The measurements of a network, of all splits."""

    curves: tuple[CurvePoint, ...]
    boundary_distance: Mapping[str, float | None]
    """By split."""
    spectra: tuple[SpectrumPoint, ...]


def epochs_file(weights: Path) -> Path:
    """The file of the epochs of the network in a weights file."""
    return weights.with_suffix(".epochs.json")


def whole_weights(path: Path) -> Path | None:
    """The path of a weights file that exists and whose epochs are whole.

    The weights are written last: if they exist, so do the epochs. They are not read.
    """
    return path if path.is_file() and read_epochs(epochs_file(path)) is not None else None


def read_network(path: Path, network_digest: str, device: torch.device) -> Classifier | None:
    """The network in a weights file, if it is the one with this digest."""

    def read() -> Classifier:
        config, model = checkpoint.load_network(path, device=device)
        if config.network_digest() != network_digest:
            raise ValueError("it is another network")
        return model

    return _whole(path, read)


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """A tensor for each split, on the CPU."""

    def read() -> dict[str, Tensor]:
        found = checkpoint.load(path)
        if not all(isinstance(found[name], Tensor) for name in SPLITS):
            raise TypeError("it holds something else than tensors")
        return {name: found[name] for name in SPLITS}

    return _whole(path, read)


def read_epochs(path: Path) -> tuple[EpochRecord, ...] | None:
    """The epochs of a network's training."""
    return _whole(path, lambda: tuple(EpochRecord(*epoch) for epoch in _json(path)))


def read_measured(path: Path) -> Measured | None:
    """The measurements of a network."""

    def read() -> Measured:
        found = _json(path)
        return Measured(
            tuple(CurvePoint(*point) for split in SPLITS for point in found[split]["curves"]),
            {split: found[split]["boundary_distance"] for split in SPLITS},
            tuple(SpectrumPoint(*point) for split in SPLITS for point in found[split]["spectra"]),
        )

    return _whole(path, read)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _whole(path: Path, read: Callable[[], T]) -> T | None:
    if not path.is_file():  # reading a pipe would block
        return None
    try:
        return read()
    except FileNotFoundError:  # removed in between
        return None
    except _DAMAGED as err:
        log.warning("%s is damaged (%s) and will be rebuilt", path, err)
        return None


def measured_digest(config: TrialConfig) -> str:
    """Identifies what is measured: the configuration, and the files that it names."""
    robustness = config.robustness
    kinds = robustness.corruptions.kinds if robustness.corruptions else ()
    names = [name.removeprefix(CORRUPTION_PREFIX) for name in (*robustness.attacks, *kinds)]
    used = [source_digest(name) for name in names if is_plugin(name)]
    if robustness.corruptions is not None:
        used += filter(None, [stored_digest(robustness.corruptions)])
    return "-".join([config.digest(), *used])
