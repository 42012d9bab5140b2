"""Turn pydantic's errors into one line: the key, what was found, what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from simreg_core.errors import ConfigError, describe

T = TypeVar("T")
_UNION_TAGS = ("float", "int", "categorical")
_NOT_KEYS = (*_UNION_TAGS, "[key]")  # pydantic adds them to locations


def validated(
    build: Callable[[Mapping[str, Any]], T],
    data: Mapping[str, Any],
    model: type[BaseModel],
    where: str,
) -> T:
    """``build(data)``, which validates a ``model``.

    Raises:
        ConfigError: the data are invalid; the message starts with ``where``, their file or flag.
    """
    try:
        return build(data)
    except ValidationError as err:
        errors = problems(err)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ConfigError(f"{where}: {explain(errors[0], model)}{more}") from err


def problems(err: ValidationError) -> list[Any]:
    """Pydantic's errors; an unknown key comes before the missing key that it may stand for."""
    return sorted(
        err.errors(include_url=False), key=lambda error: error["type"] != "extra_forbidden"
    )


def explain(error: Any, model: type[BaseModel]) -> str:
    """One element of ``ValidationError.errors()`` of a model in one line."""
    location = [part for part in error["loc"] if part not in _NOT_KEYS]
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
    if kind in ("too_short", "too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        limit = f"at least {least}" if most is None else f"at most {most}"
        return f"{key}: expected {limit} entries, found {context['actual_length']}"
    if kind == "string_pattern_mismatch":
        return f"{key}: expected text that matches {context['pattern']}, found {found!r}"
    expected = error["msg"].removeprefix("Input should be ")
    if kind.startswith(("greater_than", "less_than")):
        is_whole = all(type(limit) is int for limit in context.values())
        expected = f"a {'whole number' if is_whole else 'number'} {expected}"
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
    return " (write it in plain decimals, without quotes)"


def _fields_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Names of the fields at a location of a model."""
    candidates: list[Any] = [model]
    for part in location:
        found = [c.model_fields[part].annotation for c in candidates if part in c.model_fields]
        # Within a mapping or a union, the part is a free key or a tag: look at the inner models.
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


def describe_params(params: Mapping[str, Any]) -> str:
    """Searched values in one line, by the last part of each key."""
    shown = (
        (key.rpartition(".")[2], f"{value:.3g}" if isinstance(value, float) else value)
        for key, value in params.items()
    )
    return ", ".join(f"{name} {value}" for name, value in shown)
