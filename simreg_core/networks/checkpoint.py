"""Checkpoints: saved atomically, loaded strictly and without executing code from the file."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from simreg_core.config.trial import TrialConfig
from simreg_core.errors import describe, one_line
from simreg_core.networks.network import Classifier, build_network
from simreg_core.storage.atomic import atomic_file
from simreg_core.storage.location import readable, to_path

CHECKPOINT_VERSION = 1
MAX_CLASSES = 100_000
_MAX_REASON = 300  # letters of a message; torch lists every tensor of a network
_DAMAGED = (
    *(RuntimeError, ValueError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, OSError),
    *(AttributeError, TypeError, LookupError, ArithmeticError, AssertionError),
)
_UNFIT = (RuntimeError, ValueError, AttributeError, TypeError, LookupError, ArithmeticError)


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or does not belong to the configuration."""


def save(payload: dict[str, Any], path: str | Path) -> None:
    """Write tensors and plain data atomically."""
    path = to_path(path)
    buffer = io.BytesIO()  # torch's own writer does not report a full disk
    torch.save({**payload, "checkpoint_version": CHECKPOINT_VERSION}, buffer)
    with atomic_file(path) as stream:
        stream.write(buffer.getbuffer())


def load(path: str | Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read the payload that :func:`save` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or of another version.
    """
    path = to_path(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if not path.is_file():  # reading a pipe would block
        raise CheckpointError(f"{path} is damaged or not a checkpoint: no regular file")
    source = readable(path)  # outside of the block: a network error is not a damaged file
    try:
        with zipfile.ZipFile(source) as archive:  # torch does not verify the checksums
            if (member := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {member} is wrong")
        if isinstance(source, io.BytesIO):
            source.seek(0)
        payload = torch.load(source, map_location=device, weights_only=True)
    except _DAMAGED as err:
        reason = shorten(one_line(err), _MAX_REASON)
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {reason}") from err
    version = payload.get("checkpoint_version") if isinstance(payload, dict) else None
    if version != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {version!r}; this program reads {CHECKPOINT_VERSION}"
        )
    return dict(payload)


def save_weights(path: str | Path, config: TrialConfig, model: Classifier) -> None:
    """Write a trained classifier and its configuration."""
    path = to_path(path)
    payload = {
        "config": config.to_dict(),
        "channels": model.channels,
        "num_classes": model.num_classes,
        "weights": model.network.state_dict(),
    }
    save(payload, path)


def load_weights(path: str | Path, *, device: torch.device | str = "cpu") -> Classifier:
    """The classifier that :func:`load_network` loads, in evaluation mode."""
    path = to_path(path)
    return load_network(path, device=device)[1]


def load_network(
    path: str | Path, *, device: torch.device | str = "cpu"
) -> tuple[TrialConfig, Classifier]:
    """The configuration and the classifier in a file of :func:`save_weights`.

    Raises:
        CheckpointError: the file is missing, damaged, not a weights file, or does not fit its
            configuration or this version.
    """
    path = to_path(path)
    payload = load(path, device=device)
    if missing := {"config", "channels", "num_classes", "weights"} - set(payload):
        raise CheckpointError(f"{path} is no weights file: it lacks {', '.join(sorted(missing))}")
    config = read_config(path, payload["config"])
    return config, rebuild(path, config, payload, payload["weights"]).to(device)


def read_config(path: Path, content: Mapping[str, Any]) -> TrialConfig:
    """The configuration that was saved in a file."""
    try:
        return TrialConfig.from_dict(content)
    except _UNFIT as err:
        raise CheckpointError(
            f"{path} holds a configuration of another version: {one_line(err)}"
        ) from err


def rebuild(
    path: Path, config: TrialConfig, shape: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Classifier:
    """The network of a configuration with saved weights, in evaluation mode.

    ``shape`` has its ``channels`` and ``num_classes``.
    """
    try:
        channels, num_classes = int(shape["channels"]), int(shape["num_classes"])
        _check_weights(channels, num_classes, weights)
        model = build_network(config.model, channels=channels, num_classes=num_classes, seed=0)
        model.network.load_state_dict(weights)
    except _UNFIT as err:
        reason = shorten(one_line(err), _MAX_REASON)
        raise CheckpointError(f"{path} does not fit its configuration: {reason}") from err
    return model.eval()


def _check_weights(channels: int, num_classes: int, weights: Any) -> None:
    """Refuse, before a network is built, what no network can have."""
    if channels not in (1, 3):
        raise ValueError(f"{channels} channels; allowed: 1 and 3")
    if not 1 <= num_classes <= MAX_CLASSES:
        raise ValueError(f"{num_classes} classes; allowed: 1 to {MAX_CLASSES}")
    if not isinstance(weights, Mapping):
        raise TypeError(f"its weights are {describe(weights)}, no tensors by name")
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise TypeError(f"its weights have {describe(tensor)} as {name!r}, no tensor")
