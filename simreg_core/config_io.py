"""The one reader of user files: strict YAML in, plain data or one clear message out.

Stricter than ``yaml.safe_load`` where that guesses: a repeated key is an error, and an integer is
written in plain decimals (``012`` and ``1:30`` stay text, which the typed fields then refuse).
There are no tags but those of JSON's types, and nothing contains itself.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from simreg_core.config import PATH_DATASETS, TrialConfig

T = TypeVar("T")


# Pydantic puts the tag of a union into an error's location; no user wrote it.
_UNION_TAGS = ("float", "int", "categorical")

_PATH_KEYS = ("neural_model", "folder")


class ConfigError(ValueError):
    """Bad user input. The message is one line: where, what was found, what is allowed."""


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


def get_dotted(tree: Mapping[str, Any], key: str) -> Any:
    """``tree[a][b][c]`` for the key ``a.b.c``, or None where a part is missing."""
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


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
        if kind in PATH_DATASETS and path:
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


def validated(
    build: Callable[[Mapping[str, Any]], T],
    data: Mapping[str, Any],
    model: type[BaseModel],
    where: str,
) -> T:
    """``build(data)``, with a validation error turned into one :class:`ConfigError` line.

    Args:
        build: Validates and constructs.
        data: What the user wrote.
        model: The class whose fields the error locations refer to.
        where: File (or flag) that the data came from.
    """
    try:
        return build(data)
    except ValidationError as err:
        errors = problems(err)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ConfigError(f"{where}: {explain(errors[0], model)}{more}") from err


def problems(err: ValidationError) -> list[Any]:
    """Pydantic's errors, the most telling first: a misspelled key before the one it leaves out."""
    return sorted(
        err.errors(include_url=False), key=lambda error: error["type"] != "extra_forbidden"
    )


def reason_of(err: BaseException) -> str:
    """Kind and message of an exception in one line."""
    return " ".join(f"{type(err).__name__}: {err}".split())


def describe(value: Any) -> str:
    """What a value is, in the words of a YAML author."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    kind = {str: "the text", bool: "the truth value", int: "the number", float: "the number"}
    return f"{kind.get(type(value), 'the value')} {value!r}"


def explain(error: Any, model: type[BaseModel]) -> str:
    """One of pydantic's errors in one line: key, what was found, what is allowed.

    Args:
        error: An element of ``ValidationError.errors()``.
        model: The class whose fields the error's location refers to.
    """
    location = [part for part in error["loc"] if part not in _UNION_TAGS]
    key = ".".join(str(part) for part in location)
    kind, found, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _fields_at(model, error["loc"][:-1])
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{key}: unknown key; allowed here: {', '.join(allowed)}{hint}"
    if kind == "missing":
        return f"{key}: required, but not given"
    if kind == "union_tag_invalid":
        return f"{key}.type: expected {context['expected_tags']}, found {context['tag']!r}"
    if kind == "union_tag_not_found":
        return f"{key}.type: required; one of {', '.join(_UNION_TAGS)}"
    if kind == "value_error":
        message = str(context["error"])
        return f"{key}: {message}" if key else message
    if kind.startswith(("dict", "model", "mapping")):
        return f"{key}: expected a mapping of keys to values, found {describe(found)}"
    if kind == "too_short":
        needed = f"at least {context['min_length']}"
        return f"{key}: {needed} entries are needed, found {context['actual_length']}"
    if kind == "string_pattern_mismatch":
        return f"{key}: expected text that matches {context['pattern']}, found {found!r}"
    expected = error["msg"].removeprefix("Input should be ")
    return f"{key}: expected {expected}, found {describe(found)}{_number_hint(found, kind)}"


def _number_hint(found: Any, kind: str) -> str:
    if not isinstance(found, str) or not kind.startswith(("float", "int", "finite")):
        return ""
    try:
        number = float(found)
    except ValueError:
        return ""
    if "e" in found.lower() and math.isfinite(number):
        mantissa, _, exponent = found.lower().partition("e")
        sign = "" if exponent[:1] in "+-" else "+"
        dotted = mantissa if "." in mantissa else f"{mantissa}.0"
        return f" (YAML needs a dot and a sign: {dotted}e{sign}{exponent})"
    return " (write it without quotes, in plain decimals)"


def _fields_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Names of the fields allowed at ``location`` below ``model``."""
    candidates: list[Any] = [model]
    for part in location:
        found = [c.model_fields[part].annotation for c in candidates if part in c.model_fields]
        # Below a mapping or a union the part is a free key or a tag: look inside the annotation.
        inner = [model for annotation in found for model in _models_in(annotation)]
        candidates = inner or [c for c in candidates if _is_tagged(c, part)] or candidates
    return list(candidates[0].model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _is_tagged(model: type[BaseModel], tag: Any) -> bool:
    field = model.model_fields.get("type")
    return field is not None and tag in get_args(field.annotation)
