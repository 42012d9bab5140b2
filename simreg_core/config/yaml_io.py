"""The one reader of user files: strict YAML in, plain data or one clear message out.

Stricter than ``yaml.safe_load`` where that guesses: a repeated key is an error, and an integer is
written in plain decimals (``012`` and ``1:30`` stay text, which the typed fields then refuse).
There are no tags but those of JSON's types, and nothing contains itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from simreg_core.errors import ConfigError, describe


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"a key must be text, found {key!r}", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_INT_TAG = "tag:yaml.org,2002:int"
_StrictLoader.yaml_implicit_resolvers = {
    first: [
        (tag, rule) for tag, rule in rules if tag not in (_INT_TAG, "tag:yaml.org,2002:timestamp")
    ]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    _INT_TAG, re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")
)
_JSON_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
_PLAIN_TAGS = [f"tag:yaml.org,2002:{kind}" for kind in _JSON_KINDS]
_StrictLoader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag in _PLAIN_TAGS
}


def parse_yaml(text: str, where: str) -> Any:
    """The data in ``text``; ``where`` names its origin in messages.

    Raises:
        ConfigError: not YAML, a tag that is not plain data, or a repeated key.
    """
    try:
        data = yaml.load(text, Loader=_StrictLoader)
        json.dumps(data)  # an anchor inside itself is a circle, which JSON refuses
        return data
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark is not None else ""
        problem = getattr(err, "problem", None) or str(err)
        raise ConfigError(f"{where}:{line} not valid YAML: {' '.join(problem.split())}") from err
    except (ValueError, RecursionError) as err:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(err).split())}") from err


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML (or JSON) file holds.

    Raises:
        ConfigError: the file cannot be read, is no YAML, is empty or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror or err}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not a text file (byte {err.start} is not UTF-8)") from err
    data = parse_yaml(text, str(path))
    if data is None:
        raise ConfigError(f"{path}: the file is empty; expected a mapping of keys to values")
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {describe(data)}")
    return data


def to_yaml(data: Mapping[str, Any]) -> str:
    """YAML text of JSON types, keys in their order, that this module reads back as equal data."""
    text: str = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)
    return text


def parse_override(text: str) -> tuple[str, Any]:
    """Key and value of one ``--set key=value``; the value is read as YAML.

    Raises:
        ConfigError: there is no ``=``, no key, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {text}: expected key=value, for example training.epochs=5")
    return key, parse_yaml(value, f"--set {key}")


def set_dotted(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set ``tree[a][b][c] = value`` for the key ``a.b.c``, in place.

    Raises:
        ConfigError: a part of the path holds something other than a mapping.
    """
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        child = tree.setdefault(part, {})
        if not isinstance(child, dict):
            at = ".".join(parents[: depth + 1])
            raise ConfigError(f"{where}: {at} is {describe(child)}, so {key} cannot be set")
        tree = child
    tree[last] = value


def get_dotted(tree: Mapping[str, Any], key: str) -> Any:
    """``tree[a][b][c]`` for the key ``a.b.c``, or None where a part is missing."""
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
