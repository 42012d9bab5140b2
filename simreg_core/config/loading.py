"""Read configuration files and apply ``key=value`` overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simreg_core.config.messages import validated
from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import get_dotted, parse_override, read_yaml_mapping, set_dotted
from simreg_core.errors import ConfigError
from simreg_core.registry import DATASETS

_PATH_KEYS = ("neural_model", "folder")


def set_field(trial: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set one field of a trial dictionary, in place, and nothing else.

    ``robustness.reference`` and ``attacks`` replace the protocol's as a whole, so setting one
    attack in a table that the user did not write starts from the protocol's table.

    Raises:
        ConfigError: a part of the path holds something other than a mapping.
    """
    for table in ("robustness.attacks", "robustness.reference"):
        if key.startswith(f"{table}.") and get_dotted(trial, table) is None:
            with suppress(ValidationError):  # a wrong task is reported by the validation to come
                defaults = TrialConfig.from_dict({"task": trial.get("task")}).to_dict()
                set_dotted(trial, table, get_dotted(defaults, table), where)
    set_dotted(trial, key, value, where)


def absolute_paths(value: Any, key: str = "") -> Any:
    """``value`` with every path in it made absolute against the working directory.

    Paths are what follows ``parquet:`` and the like, and the values of :data:`_PATH_KEYS`.
    Trials run elsewhere: in other processes, with other working directories.
    """
    if isinstance(value, Mapping):
        # Below a searched key (regularizer.neural_model) its choices are meant.
        return {
            name: absolute_paths(item, key if key in _PATH_KEYS else str(name).rpartition(".")[2])
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [absolute_paths(item, key) for item in value]
    if isinstance(value, str):
        kind, colon, path = value.partition(":")
        found = DATASETS.known.get(kind)
        if found is not None and found.takes_path and path:
            return f"{kind}{colon}{_absolute(path)}"
        if key in _PATH_KEYS and value and value != "categorical":
            return _absolute(value)
    return value


def _absolute(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())


def load_trial_config(path: Path, overrides: Sequence[str] = ()) -> TrialConfig:
    """The trial configuration in a YAML file, with ``key=value`` overrides laid over it.

    Raises:
        ConfigError: the file or an override is wrong.
    """
    tree = read_yaml_mapping(path)
    if {"trial", "search"} <= tree.keys():
        raise ConfigError(
            f"{path}: this is the space file of a search (python -m tuner.run --space); "
            "expected one trial's keys, such as task and training"
        )
    for text in overrides:
        key, value = parse_override(text)
        set_field(tree, key, value, f"--set {key}")
    return validated(TrialConfig.from_dict, absolute_paths(tree), TrialConfig, str(path))
