"""Files of tensors that are either whole or absent: atomic save, strict load.

``load`` reads with ``weights_only=True``: a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from simreg_core.config.trial import TrialConfig
from simreg_core.storage.atomic import atomic_file
from simreg_core.storage.location import readable

if TYPE_CHECKING:
    from simreg_core.networks.network import FeatureNetwork

CHECKPOINT_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint is damaged or is not the one that was asked for."""


def save(payload: dict[str, Any], path: Path) -> None:
    """Write tensors and plain data; a kill at any byte leaves the old file or the new one."""
    buffer = io.BytesIO()  # torch's own writer hides that a disk is full
    torch.save({**payload, "checkpoint_version": CHECKPOINT_VERSION}, buffer)
    with atomic_file(path) as stream:
        stream.write(buffer.getbuffer())


def load(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What :func:`save` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or of another version.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if not path.is_file():  # reading a pipe would wait for its writer
        raise CheckpointError(f"{path} is damaged or not a checkpoint: no regular file")
    source = readable(path)  # a store that does not answer says nothing about the file
    try:
        with zipfile.ZipFile(source) as archive:  # torch itself skips the checksums
            if (member := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {member} is wrong")
        if isinstance(source, io.BytesIO):
            source.seek(0)
        payload = torch.load(source, map_location=device, weights_only=True)
    except (
        RuntimeError,
        ValueError,
        EOFError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        OSError,
    ) as err:
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {err}") from err
    version = payload.get("checkpoint_version") if isinstance(payload, dict) else None
    if version != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {version!r}; this program reads {CHECKPOINT_VERSION}"
        )
    return dict(payload)


def save_weights(path: Path, config: TrialConfig, model: FeatureNetwork) -> None:
    """Write a trained classifier with the configuration that it came from."""
    payload = {
        "config": config.to_dict(),
        "channels": model.channels,
        "num_classes": model.num_classes,
        "weights": model.state_dict(),
    }
    save(payload, path)


def load_weights(path: Path, *, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The classifier that :func:`save_weights` wrote, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or no weights file.
    """
    return load_network(path, device=device)[1]


def load_network(
    path: Path, *, device: torch.device | str = "cpu"
) -> tuple[TrialConfig, FeatureNetwork]:
    """The classifier that :func:`save_weights` wrote, and the configuration it came from.

    Raises:
        CheckpointError: the file is missing, damaged, no weights file, or its configuration is
            not one of this version.
    """
    from simreg_core.networks.network import build_network

    payload = load(path, device=device)
    if missing := {"config", "channels", "num_classes", "weights"} - set(payload):
        raise CheckpointError(f"{path} is no weights file: it lacks {', '.join(sorted(missing))}")
    try:
        config = TrialConfig.from_dict(payload["config"])
    except ValidationError as err:
        reason = " ".join(str(err).split())
        raise CheckpointError(f"{path} holds a configuration of another version: {reason}") from err
    shape = {"channels": payload["channels"], "num_classes": payload["num_classes"]}
    model = build_network(config.model, **shape, seed=0)
    model.load_state_dict(payload["weights"])
    return config, model.to(device).eval()
