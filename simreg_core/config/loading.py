"""Read configuration files and apply ``key=value`` overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simreg_core.cli import program
from simreg_core.config.messages import validated
from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import get_dotted, parse_override, read_yaml_mapping, set_dotted
from simreg_core.errors import ConfigError
from simreg_core.registry import DATASETS, TARGETS
from simreg_core.storage.location import to_path

_PATH_KEYS = ("neural_model", "folder")


def set_field(trial: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set one field of a trial dictionary in place.

    To set one entry of an attack table that the user has not given, the protocol's table is copied
    first, because a user's table replaces the protocol's.

    Raises:
        ConfigError: a part of the path is not a mapping.
    """
    for table in ("robustness.attacks", "robustness.reference"):
        if key.startswith(f"{table}.") and get_dotted(trial, table) is None:
            with suppress(ValidationError):  # a later validation reports a wrong task
                defaults = TrialConfig.from_dict({"task": trial.get("task")}).to_dict()
                set_dotted(trial, table, get_dotted(defaults, table), where)
    set_dotted(trial, key, value, where)


def absolute_paths(value: Any, key: str = "") -> Any:
    """``value`` with all paths made absolute, because trials run in other working directories.

    Paths follow ``parquet:``, ``features:`` and the like, or are values of the keys
    ``neural_model`` and ``folder``.
    """
    if isinstance(value, Mapping):
        # The choices of a searched path (regularizer.neural_model) are paths, too.
        return {
            name: absolute_paths(item, key if key in _PATH_KEYS else str(name).rpartition(".")[2])
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [absolute_paths(item, key) for item in value]
    if isinstance(value, str):
        kind, _, path = value.partition(":")
        if path and (DATASETS.is_known(value) or TARGETS.is_known(value)):
            return f"{kind}:{os.path.abspath(os.path.expanduser(path))}"
        if key in _PATH_KEYS and value and value != "categorical":
            return os.path.abspath(os.path.expanduser(value))
    return value


def load_trial_config(path: str | Path, overrides: Sequence[str] = ()) -> TrialConfig:
    """The trial configuration in a YAML file, changed by ``key=value`` overrides.

    Raises:
        ConfigError: the file or an override is wrong.
    """
    path = to_path(path)
    tree = read_yaml_mapping(path)
    if {"trial", "search"} <= tree.keys():
        raise ConfigError(
            f"{path}: found the space file of a search ({program('tuner.run')} --space), "
            "expected the keys of one trial, such as task and training"
        )
    for text in overrides:
        key, value = parse_override(text)
        set_field(tree, key, value, f"--set {key}")
    return validated(TrialConfig.from_dict, absolute_paths(tree), TrialConfig, str(path))
