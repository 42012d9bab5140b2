"""Functions that a configuration names as ``module:function``, and what options they take.

A module is found as Python finds it, and in the working directory.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from simreg_core.errors import ConfigError, describe, reason_of

PLUGIN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # module:function

Option = float | int | str | bool
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_FIRST = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
)
_PLAIN = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}


def is_plugin(name: str) -> bool:
    """Whether ``name`` has the form ``module:function``."""
    return PLUGIN.fullmatch(name) is not None


def load_function(name: str) -> Callable[..., Any]:
    """The function that ``module:function`` names.

    The working directory joins ``sys.path`` (last) if it is not there, as it is for
    ``python -m``.

    Raises:
        ConfigError: the module is missing or fails on import, or holds no such function.
    """
    module_name, _, function_name = name.partition(":")
    folder = os.getcwd()
    if not {"", folder} & set(sys.path):
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as err:  # whatever the user's module raises on import
        raise ConfigError(
            f"{name}: module {module_name!r} cannot be imported ({reason_of(err)}); it is looked "
            f"for in {folder} and where Python finds its modules"
        ) from err
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [n for n, f in vars(module).items() if inspect.isfunction(f) and n[0] != "_"]
        raise ConfigError(
            f"{name}: module {module_name!r} has no function {function_name!r}; "
            f"it has: {', '.join(names) or 'none'}"
        )
    return typing.cast(Callable[..., Any], function)


@contextmanager
def foreign_code(where: str) -> Iterator[None]:
    """Turn what a user's function raises into one line, except exhausted memory.

    Args:
        where: Begins the message: the key or kind, and the function's name.

    Raises:
        ConfigError: the block raised something.
    """
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except (Exception, SystemExit) as err:
        if type(err).__name__ == "OutOfMemoryError":  # torch's, of a GPU
            raise
        raise ConfigError(f"{where}: {reason_of(err)}") from err


def source_digest(name: str) -> str:
    """16 hexadecimal digits of the file that a plug-in stands in, by which edits are noticed.

    What has no such file (a compiled function, a module frozen into Python) is taken for constant.

    Raises:
        ConfigError: the plug-in cannot be had, or its file not be read.
    """
    source = _source_file(name, load_function(name))
    try:
        content = Path(source).read_bytes() if source else b""
    except OSError as err:
        raise ConfigError(f"{name}: {source} cannot be read: {err.strerror or err}") from err
    return hashlib.sha256(content).hexdigest()[:16]


def _source_file(name: str, function: Callable[..., Any]) -> str | None:
    module = sys.modules[name.partition(":")[0]]
    for found in (function, module):  # an object that can be called has no file, its module has
        try:
            source = inspect.getsourcefile(found)
        except TypeError:
            continue
        return None if source is None or source.startswith("<frozen") else source
    return None


def check_options(
    function: Callable[..., Any], options: Mapping[str, Option], attack: str, where: str
) -> None:
    """Compare options with the parameters of a function, its first one (the batch) left out.

    Args:
        function: Called as ``function(batch, **options)``.
        options: What the configuration gives.
        attack: Name of the attack, for messages.
        where: Configuration key of the options, for messages.

    Raises:
        ConfigError: an option is unknown, missing or of another type than the parameter's
            annotation (or default) says.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters.pop(0).kind not in _FIRST:
        raise ConfigError(f"{where}: {attack} must take the batch as its first argument")
    named = {parameter.name: parameter for parameter in parameters if parameter.kind in _NAMED}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    hints = _hints(function)
    for key, value in options.items():
        if key in named:
            _check_type(value, _annotation(named[key], hints), f"{where}.{key}")
        elif not takes_any:
            takes = f"takes {', '.join(named)}" if named else "takes none"
            raise ConfigError(f"{where}.{key}: unknown option; {attack} {takes}")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in options:
            raise ConfigError(f"{where}.{key}: required by {attack}, but not given")


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # an annotation that names nothing
        return {}


def _annotation(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    """The annotated type, the default's if there is no annotation, or None if all goes."""
    if parameter.name in hints:
        return hints[parameter.name]
    default = type(parameter.default)
    return default if parameter.annotation is parameter.empty and default in _PLAIN else None


def _check_type(value: Option, annotation: Any, where: str) -> None:
    allowed = _allowed(annotation)
    if allowed and not any(_fits(value, kind) for kind in allowed):
        words = [_PLAIN[kind] if isinstance(kind, type) else repr(kind[0]) for kind in allowed]
        raise ConfigError(f"{where}: expected {' or '.join(words)}, found {describe(value)}")


def _allowed(annotation: Any) -> list[Any]:
    """Plain types and, as one-element lists, literal values; empty if nothing can be said."""
    if annotation in _PLAIN:
        return [annotation]
    if get_origin(annotation) is Literal:
        return [[value] for value in get_args(annotation)]
    if get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not types.NoneType]
        kinds = [_allowed(part) for part in parts]
        return [kind for part in kinds for kind in part] if all(kinds) else []
    return []


def _fits(value: Option, kind: Any) -> bool:
    if isinstance(kind, list):
        return value == kind[0] and type(value) is type(kind[0])
    # bool is an int to Python, and a whole number is a number to everyone.
    return type(value) is kind or (kind is float and type(value) is int)
