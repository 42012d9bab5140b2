"""Read a space file, lay overrides over it, and check it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simreg_core.config.loading import absolute_paths, set_field
from simreg_core.config.messages import validated
from simreg_core.config.yaml_io import parse_override, read_yaml_mapping, set_dotted
from tuner.space.checks import validate_space
from tuner.space.search_space import SearchSpace

_SPACE_KEYS = ("name", "trial", "search", "objectives", "constraints", "tuning")


def load_space(path: Path, overrides: Sequence[str] = ()) -> SearchSpace:
    """The checked space in a YAML file, with ``key=value`` overrides laid over it.

    An override's key is a path in the space file (``tuning.num_trials``,
    ``search.regularizer.alpha.high``, ``trial.training.epochs``) or, shorter, in the trial
    configuration (``training.epochs``). Where ``tuning.num_trials`` is overridden, the first warm
    starts are kept, as many as there are trials.

    Raises:
        ConfigError: anything is wrong with the file or an override; names the key.
    """
    tree = read_yaml_mapping(path)
    parsed = [parse_override(text) for text in overrides]
    for key, value in parsed:
        _override(tree, key, value)
    where = str(path)
    space = validated(SearchSpace.model_validate, absolute_paths(tree), SearchSpace, where)
    validate_space(space, where)
    return space


def _override(tree: dict[str, Any], key: str, value: Any) -> None:
    first, _, rest = key.partition(".")
    if first not in _SPACE_KEYS:
        key, first, rest = f"trial.{key}", "trial", key
    if first == "trial" and rest and isinstance(tree.get("trial"), dict):
        set_field(tree["trial"], rest, value, f"--set {key}")
        return
    if first == "search" and isinstance(tree.get("search"), dict):
        # Searched keys have dots themselves: the longest that matches is meant.
        known = [k for k in tree["search"] if rest == k or rest.startswith(f"{k}.")]
        if known:
            searched = max(known, key=len)
            inner = rest[len(searched) + 1 :]
            if not inner:
                tree["search"][searched] = value
            elif isinstance(tree["search"][searched], dict):
                set_dotted(tree["search"][searched], inner, value, f"--set {key}")
            return
        tree["search"][rest] = value
        return
    set_dotted(tree, key, value, f"--set {key}")
