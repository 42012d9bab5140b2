"""Functions that a configuration names as ``module:function``, and their options.

Modules are found on Python's path and in the working directory. Commands print a module's file
before they import it, because importing runs it.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from simreg_core.errors import ConfigError, describe, one_line

Option = float | int | str | bool
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_FIRST = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
)


_announce: list[Callable[[str], None]] = []


@contextmanager
def announcing(show: Callable[[str], None]) -> Iterator[None]:
    """In a block, call ``show`` with a line about each file of a plug-in before its import."""
    _announce.append(show)
    try:
        yield
    finally:
        _announce.remove(show)


def is_plugin(name: str) -> bool:
    """Whether ``name`` has the form ``module:function``."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


def load_function(name: str) -> Callable[..., Any]:
    """The function that ``module:function`` names.

    Appends the working directory to ``sys.path`` if it is missing.

    Raises:
        ConfigError: the module is missing or fails on import, or has no such function.
    """
    module_name, _, function_name = name.partition(":")
    folder = os.getcwd()
    if not {"", folder} & set(sys.path):
        sys.path.append(folder)
    if _announce:
        for file in _files_to_import(module_name):
            _announce[-1](f"importing {file}, for {name}")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as err:  # any error of the user's module
        raise ConfigError(
            f"{name}: module {module_name!r} cannot be imported ({one_line(err)}); "
            f"searched {folder} and Python's path"
        ) from err
    try:
        function = getattr(module, function_name, None)
    except ImportError as err:  # of a module that imports its parts when they are asked for
        raise ConfigError(f"{name}: {one_line(err)}") from err
    if not callable(function):
        names = [n for n, found in vars(module).items() if callable(found) and n[0] != "_"]
        close = difflib.get_close_matches(function_name, names) or names[:10]
        raise ConfigError(
            f"{name}: module {module_name!r} has no function or class {function_name!r}; "
            f"it has: {', '.join(close) or 'none'}"
        )
    return typing.cast(Callable[..., Any], function)


def _files_to_import(module_name: str) -> Iterator[str]:
    """Files that importing a module will run, its packages' first; imports nothing."""
    places: Sequence[str] | None = None
    parts = module_name.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        if (loaded := sys.modules.get(name)) is not None:
            places = [*getattr(loaded, "__path__", ())]
            continue
        try:
            found = importlib.util.find_spec(name) if length == 1 else None
            found = found or PathFinder.find_spec(name, places)
        except (ImportError, ValueError):  # the import explains it
            return
        if found is None:
            return
        if found.has_location and found.origin:
            yield found.origin
        places = found.submodule_search_locations


@contextmanager
def foreign_code(where: str) -> Iterator[None]:
    """Turn what a user's function raises, except exhausted memory, into a :class:`ConfigError`.

    ``where``, the key or kind and the function's name, begins its message.
    """
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except (Exception, SystemExit) as err:
        if type(err).__name__ == "OutOfMemoryError":  # torch's, of a GPU
            raise
        raise ConfigError(f"{where}: {one_line(err)}") from err


def source_digest(name: str) -> str:
    """16 hexadecimal digits that change when the source file of a plug-in is edited.

    Functions without a source file (compiled or frozen) have a constant digest.
    """
    source = ""
    # A callable object has no source file, but its module does.
    for found in (load_function(name), sys.modules[name.partition(":")[0]]):
        with suppress(TypeError):
            source = inspect.getsourcefile(found) or ""
            break
    try:
        has_file = source and not source.startswith("<frozen")
        content = Path(source).read_bytes() if has_file else b""
    except OSError as err:
        raise ConfigError(f"{name}: {source} cannot be read: {err.strerror or err}") from err
    return hashlib.sha256(content).hexdigest()[:16]


def check_options(
    function: Callable[..., Any],
    options: Mapping[str, Option],
    name: str,
    where: str,
    *,
    given: Collection[str] = (),
) -> None:
    """Check options against a signature, ``function(batch, **options)``.

    With ``given``, names of keyword arguments, it is ``function(**given, **options)``.

    Raises:
        ConfigError: an option is unknown, missing, or does not have the type of the annotation or
            default; the message starts with the key ``where``.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if given:
        parameters = [one for one in parameters if one.name not in given]
    elif not parameters or parameters.pop(0).kind not in _FIRST:
        raise ConfigError(f"{where}: {name} must take the batch as its first argument")
    named = {parameter.name: parameter for parameter in parameters if parameter.kind in _NAMED}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    hints = _annotations(function)
    for key, value in options.items():
        if key in named:
            default = type(named[key].default)
            implied = default if default in typing.get_args(Option) else Any
            _check_type(value, hints.get(key, implied), f"{where}.{key}")
        elif not takes_any:
            takes = f"takes {', '.join(named)}" if named else "takes none"
            raise ConfigError(f"{where}.{key}: unknown option; {name} {takes}")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in options:
            raise ConfigError(f"{where}.{key}: required by {name}, but not given")


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of the parameters of a function or class, without those that cannot be resolved."""
    called = function.__init__ if inspect.isclass(function) else function
    found: dict[str, Any] = {}
    for name, annotation in getattr(called, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        with suppress(NameError, TypeError, AttributeError):
            names = getattr(called, "__globals__", {})
            found |= typing.get_type_hints(alone, names, include_extras=True)
    return found


def check_keywords(function: Callable[..., Any], needed: Collection[str], name: str) -> None:
    """Check that a function takes keyword arguments.

    Raises:
        ConfigError: it lacks one of those needed.
    """
    parameters = inspect.signature(function).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    for key in needed:
        if key not in parameters or parameters[key].kind not in _NAMED:
            raise ConfigError(
                f"{name} must take the keyword arguments {', '.join(needed)}; it lacks {key}"
            )


def _check_type(value: Option, annotation: Any, where: str) -> None:
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except PydanticUserError:  # an annotation that pydantic cannot check
        return
    except ValidationError as err:
        kinds = [error["msg"].removeprefix("Input should be ") for error in err.errors()]
        expected = " or ".join(kinds)
        raise ConfigError(f"{where}: expected {expected}, found {describe(value)}") from err
