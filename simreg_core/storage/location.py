"""Places of results: folders of this machine, or of an object store by its URL.

A place is handled as a :class:`pathlib.Path`. Local ones are exactly that; ``s3://BUCKET/PATH``
and ``gs://BUCKET/PATH`` are paths of ``universal_pathlib``, which are read alike; the functions
here do the rest. Credentials are found by the store's own client (environment, files, role of the
machine) wherever a place is used: a place that is pickled holds none.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast

from simreg_core.errors import ConfigError

_STORES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs")}
"""By the URL's scheme: the module that speaks to the store, and the extra that installs it."""
_FOREIGN = ("botocore", "aiobotocore", "aiohttp", "google", "gcsfs")
"""Whose exceptions, beside OSError, say that a store cannot be used."""
_OPTIONS: dict[str, Any] = {"use_listings_cache": False}  # other processes write there too


def as_place(text: str) -> Path:
    """An argparse type: a local path, or the URL of a place in an object store.

    Raises:
        argparse.ArgumentTypeError: the URL is of no known store or names no bucket, or what
            speaks to the store is not installed.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)", text)
    if found is None:
        if text.startswith(tuple(f"{scheme}:" for scheme in _STORES)):
            raise argparse.ArgumentTypeError(f"expected {text[:2]}://BUCKET/PATH, found {text!r}")
        return Path(text)
    scheme, bucket = found.groups()
    if scheme not in _STORES or not bucket:
        raise argparse.ArgumentTypeError(
            f"expected a folder, s3://BUCKET/PATH or gs://BUCKET/PATH, found {text!r}"
        )
    module, extra = _STORES[scheme]
    if find_spec("upath") is None or find_spec(module) is None:
        raise argparse.ArgumentTypeError(
            f"{text} needs the extra {extra}: pip install 'simreg-tune[{extra}]'"
        )
    from upath import UPath

    return cast(Path, UPath(text.rstrip("/"), **_OPTIONS))


def is_remote(place: object) -> bool:
    """Whether a place is in an object store."""
    return hasattr(place, "fs")


def require_reachable(place: object) -> None:
    """Refuse a place whose store does not answer, before anything is done.

    Raises:
        ConfigError: no such bucket, no credentials, no permission or no network.
    """
    if not is_remote(place):
        return
    try:
        _store(place).ls(_key(place))
    except FileNotFoundError as err:
        if _key(place) in str(err):  # nothing is there yet
            return
        raise ConfigError(f"{place}: {store_problem(err)}") from err
    except Exception as err:
        problem = store_problem(err)
        if problem is None:
            raise
        raise ConfigError(f"{place}: {problem}") from err


def store_problem(err: BaseException) -> str | None:
    """What is wrong with an object store, in one line; None if the error is about another thing."""
    package = type(err).__module__.partition(".")[0]
    if not isinstance(err, OSError) and package not in _FOREIGN:
        return None
    return " ".join(str(err).split()) or type(err).__name__


def is_store_error(err: BaseException) -> bool:
    """Whether an error comes of speaking to an object store and is no OSError."""
    return not isinstance(err, OSError) and store_problem(err) is not None


def readable(place: Path) -> Path | BinaryIO:
    """What libraries that open files themselves can read: the path, or a remote file's content."""
    return io.BytesIO(place.read_bytes()) if is_remote(place) else place


def read_all(places: Sequence[Path]) -> list[Path | BinaryIO]:
    """:func:`readable` of many files in one folder, remote ones at once."""
    if not places or not is_remote(places[0]):
        return list(places)
    contents = _store(places[0]).cat([_key(place) for place in places])
    return [io.BytesIO(contents[_key(place)]) for place in places]


def make_folder(place: Path, *, parents: bool = False) -> None:
    """Make a folder unless it is there; an object store has none to make."""
    if not is_remote(place):
        place.mkdir(parents=parents, exist_ok=True)


def put(place: Path, content: bytes, *, is_new: bool = False) -> None:
    """Write a remote file in one request: it is there whole or not at all.

    Args:
        place: In an object store.
        content: All of it.
        is_new: Leave it to the store to refuse where the file exists.

    Raises:
        FileExistsError: it exists, and ``is_new``.
    """
    _store(place).pipe_file(_key(place), content, mode="create" if is_new else "overwrite")


def remove(places: Iterable[Path]) -> None:
    """Remove remote files; one that is gone already is no error."""
    by_key = {_key(place): place for place in places}
    if by_key:
        try:
            _store(next(iter(by_key.values()))).rm(list(by_key))
        except FileNotFoundError:
            return


def _store(place: object) -> Any:
    return cast(Any, place).fs


def _key(place: object) -> str:
    return str(cast(Any, place).path)
