"""Load a space file, apply overrides and validate the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simreg_core.config.loading import absolute_paths, set_field
from simreg_core.config.messages import validated
from simreg_core.config.yaml_io import parse_override, read_yaml_mapping, set_dotted
from simreg_core.errors import ConfigError
from simreg_core.storage.location import to_path
from tuner.space.checks import validate_space
from tuner.space.search_space import SearchSpace

_ROOT = Path(__file__).parents[2]
# In the sources, the folder in the package is a link, which not every copy of them keeps.
_SHIPPED = next(
    (f for f in (_ROOT / "tuner/search_spaces", _ROOT / "search_spaces") if f.is_dir()), _ROOT
)


def load_space(
    path: str | Path, overrides: Sequence[str] = (), root: Path | None = None
) -> SearchSpace:
    """The validated space in a YAML file, with ``key=value`` overrides applied.

    ``path`` may also be the name of a space that comes with the package, such as ``th_alpha``.

    The key of an override is a path in the space file (``tuning.num_trials``,
    ``search.regularizer.alpha.high``, ``trial.training.epochs``) or, shorter, in the trial
    configuration (``training.epochs``). If the file belongs to a results folder ``root``, it must
    be a regular file inside it.

    Raises:
        ConfigError: the file or an override is invalid; the message names the key.
    """
    path = find_space(path)
    tree = read_yaml_mapping(path, root)
    for key, value in map(parse_override, overrides):
        _override(tree, key, value)
    where = str(path)
    space = validated(SearchSpace.model_validate, absolute_paths(tree), SearchSpace, where)
    validate_space(space, where)
    return space


def find_space(path: str | Path) -> Path:
    """The file of a space: the path itself or, if it is no file, the space of this name.

    Raises:
        ConfigError: a name without a suffix is neither a file nor that of a space.
    """
    path = to_path(path)
    if path.suffix or path.is_absolute() or path.is_file():
        return path
    names = shipped_spaces()
    if (name := path.as_posix()) not in names:
        raise ConfigError(
            f"{name}: no such file; names of spaces that need no file: {', '.join(names)}"
        )
    return names[name]


def shipped_spaces() -> dict[str, Path]:
    """The space files that come with the package, by name."""
    found = sorted(_SHIPPED.glob("*.yaml")) + sorted(_SHIPPED.glob("*/*.yaml"))
    return {path.relative_to(_SHIPPED).with_suffix("").as_posix(): path for path in found}


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
