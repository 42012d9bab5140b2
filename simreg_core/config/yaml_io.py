"""Read and write YAML files strictly.

Unlike ``yaml.safe_load``, this reader rejects repeated keys, keys that are not text, tags other
than those of JSON types, cycles, and aliases that stand for too many values. Integers are plain
decimals: ``012`` and ``1:30`` are text, which the typed fields reject.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from simreg_core.errors import ConfigError, describe, one_line
from simreg_core.storage.location import read_text_inside, to_path

_MAX_NODES = 100_000  # values that the aliases of a file may stand for
_SAFE_DEPTH = 100  # levels of nesting at which Python's recursion is far from its limit
_MAX_BYTES = 2**20  # of a space file in a results folder; parsing takes seconds per MB


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            is_text = isinstance(key, str)
            if not is_text or key in seen:
                problem = f"key {key!r} is given twice"
                if not is_text:
                    problem = f"a key must be text, found {key!r}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_INT_TAG = "tag:yaml.org,2002:int"
_NOT_RESOLVED = (_INT_TAG, "tag:yaml.org,2002:timestamp")
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag not in _NOT_RESOLVED]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    _INT_TAG, re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")
)
_JSON_TAGS = [
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")
]
_StrictLoader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag in _JSON_TAGS
}


def _construct_int(loader: _StrictLoader, node: yaml.ScalarNode) -> int:
    number: int = loader.construct_yaml_int(node)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{str(node.value)[:25]} is not an integer of 64 bits")
    return number


def _construct_text(loader: _StrictLoader, node: yaml.ScalarNode) -> str:
    text: str = loader.construct_yaml_str(node)
    text.encode()  # raises for halves of surrogate pairs, which no file can hold
    return text


_StrictLoader.add_constructor(_INT_TAG, _construct_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:str", _construct_text)


def parse_yaml(text: str, where: str) -> Any:
    """The data in ``text``.

    Raises:
        ConfigError: the text is not strict YAML, or its aliases stand for too many values; the
            message starts with ``where``.
    """
    try:
        loader = _StrictLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_aliases(node)
            data = loader.construct_document(node)
        finally:
            loader.dispose()
        json.dumps(data)  # raises for what JSON has not
        return data
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark is not None else ""
        problem = " ".join((getattr(err, "problem", None) or str(err)).split())
        raise ConfigError(f"{where}:{line} not valid YAML: {problem}") from err
    except RecursionError as err:
        problem = f"values are nested too deeply; allowed: {_SAFE_DEPTH} levels"
        raise ConfigError(f"{where}: not valid YAML: {problem}") from err
    except ValueError as err:
        raise ConfigError(f"{where}: not valid YAML: {one_line(err)}") from err


def _check_aliases(root: yaml.Node) -> None:
    """Refuse aliases that stand for more than :data:`_MAX_NODES` values, or for themselves.

    Each alias of a value is the node of its anchor, so a short text can stand for billions of
    values. They are counted without expanding them.
    """
    counts: dict[yaml.Node, int] = {}
    opened: set[yaml.Node] = set()
    waiting = [root]
    while waiting:
        node = waiting[-1]
        inner = _inner_nodes(node)
        if node in counts:
            waiting.pop()
        elif node in opened:  # everything in it is counted
            counts[node] = 1 + sum(counts[child] for child in inner)
            opened.discard(node)
            waiting.pop()
        else:
            opened.add(node)
            for child in inner:
                if child in opened:
                    _refuse(child, "an alias stands for a value that contains it")
                if child not in counts:
                    waiting.append(child)
    if counts[root] > max(_MAX_NODES, len(counts)):
        _refuse(root, f"its aliases stand for more than {_MAX_NODES} values")


def _inner_nodes(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refuse(node: yaml.Node, problem: str) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def read_yaml_mapping(path: str | Path, root: Path | None = None) -> dict[str, Any]:
    """The mapping in a YAML or JSON file.

    If the file belongs to a results folder ``root``, it must be a regular file inside it.

    Raises:
        ConfigError: the file cannot be read, is empty, or is not a mapping in strict YAML.
    """
    path = to_path(path)
    try:
        if root is None:
            text = path.read_text(encoding="utf-8")
        else:
            text = read_text_inside(path, root, _MAX_BYTES)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror or err}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not a text file (byte {err.start} is not UTF-8)") from err
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        found = "an empty file" if data is None else describe(data)
        raise ConfigError(f"{path}: expected a mapping of keys to values, found {found}")
    return data


def to_yaml(data: Mapping[str, Any]) -> str:
    """YAML text of JSON types, with the keys in their order, for :func:`parse_yaml`."""
    text: str = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)
    return text


def parse_override(text: str) -> tuple[str, Any]:
    """Key and YAML value of one ``--set key=value``.

    Raises:
        ConfigError: ``=`` or the key is missing, or the value is not valid YAML.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {text}: expected key=value, for example training.epochs=5")
    return key, parse_yaml(value, f"--set {key}")


def set_dotted(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set ``tree[a][b][c] = value`` for the key ``a.b.c``, in place.

    Raises:
        ConfigError: a part of the path is not a mapping.
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
    """``tree[a][b][c]`` for the key ``a.b.c``; None if a part is missing."""
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
