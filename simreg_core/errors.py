"""Errors that a user can mend, and how they are worded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ConfigError(ValueError):
    """Bad user input. The message is one line: where, what was found, what is allowed."""


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
