"""Errors that a user can fix, and their wording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ConfigError(ValueError):
    """Bad user input. The message is one line: where, what was found, what is allowed."""


def one_line(err: BaseException) -> str:
    """Message of an exception in one line; its type if it has no message."""
    return " ".join(str(err).split()) or type(err).__name__


def reason_of(err: BaseException) -> str:
    """Type and message of an exception in one line."""
    return " ".join(f"{type(err).__name__}: {err}".split())


def describe(value: Any) -> str:
    """A value from a YAML file, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    kind = {str: "the text", bool: "the truth value", int: "the number", float: "the number"}
    return f"{kind.get(type(value), 'the value')} {value!r}"
