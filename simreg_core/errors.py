"""Errors that a user can fix, and their wording."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class ConfigError(ValueError):
    """Bad user input. The message is one line: where, what was found, what is allowed."""


@contextmanager
def concerning(key: str) -> Iterator[None]:
    """Begin the message of a :class:`ConfigError` in the block with a key."""
    try:
        yield
    except ConfigError as err:
        raise ConfigError(f"{key}: {err}") from err


def one_line(err: BaseException) -> str:
    """Message of an exception in one line; in words its type if the message alone says too little.

    These are ``no such file``, but ``key error 'alpha'`` and ``not implemented error``.
    """
    text = " ".join(str(err).split())
    if text and not isinstance(err, KeyError | SystemExit):
        return text
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(err).__name__).lower()
    return f"{kind} {text}".rstrip()


def counted(number: int, noun: str) -> str:
    """``1 trial``, ``3 trials``, ``1,797 images``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


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
