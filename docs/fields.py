"""The fields of configuration classes, as the reference describes them."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PLAIN = {int: "int", float: "float", bool: "bool", str: "str", Any: "any"}


class Field(NamedTuple):
    """One row of a reference table."""

    name: str
    kind: str
    default: str
    meaning: str


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[Field]:
    """The fields of a configuration class, those of the classes within it by dotted names."""
    meanings = docstrings(model)
    for name, info in model.model_fields.items():
        inner, below = _inner(info.annotation)
        if not _is_model(info.annotation):
            kind, meaning = _kind(info.annotation, info.metadata), meanings.get(name, "")
            yield Field(f"{prefix}{name}", kind, _default(info, meaning), meaning)
        if inner is not None:
            yield from walk(inner, f"{prefix}{name}.{below}")


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field of a class and its bases, in Markdown."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if cls is BaseModel or not issubclass(cls, BaseModel):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(definition, ast.ClassDef)
        for field, text in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                    found[field.target.id] = markdown(str(text.value.value))
    return found


def _kind(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Type and range of a field."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        nested = [m.metadata if isinstance(m, FieldInfo) else [m] for m in annotation.__metadata__]
        return _kind(args[0], [*metadata, *(one for group in nested for one in group)])
    if origin in (Union, types.UnionType):
        kinds = [_kind(arg, metadata) for arg in args if arg is not types.NoneType]
        return " or ".join(dict.fromkeys(kinds))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (tuple, list):
        return "list" if args[0] is Any else f"list of {_kind(args[0])}"
    if origin is dict or _is_model(annotation):
        return "mapping"
    return " ".join(filter(None, [_PLAIN.get(annotation, "str"), _range(metadata)]))


def _range(metadata: Iterable[Any]) -> str:
    low, high, opening, closing = "", "", "", ""
    for limit in metadata:
        match limit:
            case annotated_types.Ge(ge=value):
                low, opening = _number(value), "["
            case annotated_types.Gt(gt=value):
                low, opening = _number(value), "("
            case annotated_types.Le(le=value):
                high, closing = _number(value), "]"
            case annotated_types.Lt(lt=value):
                high, closing = _number(value), ")"
    if low and high:
        return f"in {opening}{low}, {high}{closing}"
    if low:
        return f"{'>=' if opening == '[' else '>'} {low}"
    return f"{'<=' if closing == ']' else '<'} {high}" if high else ""


def _number(value: Any) -> str:
    power = int(abs(value)).bit_length() - 1
    sign = "-" if value < 0 else ""
    return f"{sign}2^{power}" if power > 20 and abs(value) == 2**power else f"{value:.9g}"


def _default(info: FieldInfo, meaning: str) -> str:
    if info.is_required():  # unless a validator fills it in
        return "" if "if not given" in meaning else "required"
    value = info.get_default(call_default_factory=True)
    return "" if value is None else f"`{inline(value)}`"


def inline(value: Any) -> str:
    """A value as a space file may have it, in one line."""
    match value:
        case BaseModel():
            return inline(value.model_dump(exclude_defaults=True))
        case dict():
            return "{" + ", ".join(f"{k}: {inline(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(inline, value)) + "]"
        case str():
            return value
        case _:
            return json.dumps(value)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The class within a field, if there is one, and what stands between their names."""
    for candidate in (annotation, *get_args(annotation)):
        if _is_model(candidate):
            return candidate, "NAME." if get_origin(annotation) is dict else ""
    return None, ""


def markdown(text: str) -> str:
    """Text of a docstring as one line of Markdown that may stand in a table."""
    text = re.sub(r":[a-z]+:`~?([^`]*)`", r"`\1`", text).replace("``", "`")
    return " ".join(text.split()).replace("|", r"\|")
