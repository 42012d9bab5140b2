"""Load a space file, apply overrides and validate the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simreg_core.config.loading import absolute_paths, set_field
from simreg_core.config.messages import validated
from simreg_core.config.yaml_io import parse_override, read_yaml_mapping, set_dotted
from tuner.space.checks import validate_space
from tuner.space.search_space import SearchSpace


def load_space(path: Path, overrides: Sequence[str] = (), root: Path | None = None) -> SearchSpace:
    """The validated space in a YAML file, with ``key=value`` overrides applied.

    The key of an override is a path in the space file (``tuning.num_trials``,
    ``search.regularizer.alpha.high``, ``trial.training.epochs``) or, shorter, in the trial
    configuration (``training.epochs``). If the file belongs to a results folder ``root``, it must
    be a regular file inside it.

    Raises:
        ConfigError: the file or an override is invalid; the message names the key.
    """
    tree = read_yaml_mapping(path, root)
    for key, value in map(parse_override, overrides):
        _override(tree, key, value)
    where = str(path)
    space = validated(SearchSpace.model_validate, absolute_paths(tree), SearchSpace, where)
    validate_space(space, where)
    return space


def _override(tree: dict[str, Any], key: str, value: Any) -> None:
    first, _, rest = key.partition(".")
    if first not in SearchSpace.model_fields:
        key, first, rest = f"trial.{key}", "trial", key
    section, where = tree.get(first), f"--set {key}"
    if first == "trial" and rest and isinstance(section, dict):
        set_field(section, rest, value, where)
    elif first == "search" and isinstance(section, dict):
        # Searched keys contain dots themselves, so the longest match wins.
        known = [k for k in section if rest == k or rest.startswith(f"{k}.")]
        searched = max(known, key=len, default=rest)
        inner = rest[len(searched) + 1 :]
        if not inner:
            section[searched] = value
        elif isinstance(section[searched], dict):
            set_dotted(section[searched], inner, value, where)
    else:
        set_dotted(tree, key, value, where)
