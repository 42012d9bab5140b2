"""Export of a trained network to files that contain no code.

``model.safetensors`` contains the weights. Its metadata contains the version of this format and the
checksums of the weights and of the configuration, because safetensors has none. ``config.yaml`` is
the configuration, from which :func:`load_exported` builds the network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import read_yaml_mapping, to_yaml
from simreg_core.errors import ConfigError
from simreg_core.networks.checkpoint import CheckpointError, read_config, rebuild
from simreg_core.networks.network import Classifier
from simreg_core.storage.atomic import atomic_file, write_text
from simreg_core.storage.location import to_path

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
EXPORT_VERSION = "1"
_VERSION_KEY = "simreg_export_version"


def write_network(folder: str | Path, config: TrialConfig, model: Classifier) -> None:
    """Write the two files of a trained classifier into a folder."""
    folder = to_path(folder)
    # The format requires contiguous tensors that share no memory; those of networks are in
    # channels_last order, and may be shared.
    state = model.network.state_dict()
    weights = {name: tensor.cpu().contiguous().clone() for name, tensor in state.items()}
    metadata = {
        "format": "pt",
        _VERSION_KEY: EXPORT_VERSION,
        "channels": str(model.channels),
        "num_classes": str(model.num_classes),
        "weights_sha256": _weights_digest(weights),
        "config_sha256": _config_digest(config.to_dict()),
    }
    with atomic_file(folder / WEIGHTS_FILE) as stream:
        stream.write(save(weights, metadata))
    write_text(folder / CONFIG_FILE, to_yaml(config.to_dict()))


def load_exported(folder: str | Path, *, device: torch.device | str = "cpu") -> Classifier:
    """The classifier in a folder of ``python -m tuner.export``, in evaluation mode.

    Raises:
        CheckpointError: a file is missing, damaged, changed, or of another version.
    """
    folder = to_path(folder)
    path = Path(folder) / WEIGHTS_FILE
    metadata, weights = _read_weights(path)
    file = path.with_name(CONFIG_FILE)
    try:
        content = read_yaml_mapping(file)
    except ConfigError as err:
        raise CheckpointError(str(err)) from err
    if _config_digest(content) != metadata.get("config_sha256"):
        raise CheckpointError(f"{file} is not the configuration that the weights were saved with")
    return rebuild(path, read_config(file, content), metadata, weights).to(device)


def _read_weights(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError as err:
        raise CheckpointError(f"{path} does not exist") from err
    except (SafetensorError, OSError) as err:
        raise CheckpointError(f"{path} is damaged or not a safetensors file: {err}") from err
    version = metadata.get(_VERSION_KEY)
    if version != EXPORT_VERSION:
        raise CheckpointError(
            f"{path} has export version {version!r}; this program reads {EXPORT_VERSION!r}"
        )
    if _weights_digest(weights) != metadata.get("weights_sha256"):
        raise CheckpointError(f"{path} is damaged: the checksum of its weights is wrong")
    return metadata, weights


def _weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, in order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of the data in the file, which ignores its comments and layout.

    A new field with a default would change ``TrialConfig.digest``.
    """
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
