"""Locations of results: local folders, or URLs in an object store.

Code handles every location as a :class:`pathlib.Path`. A URL, ``s3://BUCKET/PATH`` or
``gs://BUCKET/PATH``, becomes a path of ``universal_pathlib``, which has the same methods. The
client of the store finds the credentials (environment, files, role of the machine) where a location
is used; a pickled location contains none.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast

from simreg_core.errors import ConfigError
from simreg_core.storage.base import Storage
from simreg_core.storage.json_text import parse_json
from simreg_core.storage.object_store import ObjectStore
from simreg_core.storage.opening import MAX_TABLE_BYTES, MAX_TEXT_BYTES, require_size

_STORES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "s3": ("s3fs", "s3", {"max_concurrency": 1}),  # one request per file instead of two
    "gs": ("gcsfs", "gcs", {}),
}
"""Scheme of the URL to the module of the client, the extra that installs it, and options."""
_DISK, _OBJECT_STORE = Storage(), ObjectStore()


def as_place(text: str) -> Path:
    """An argparse type: a local path, or the URL of a location in an object store.

    Raises:
        argparse.ArgumentTypeError: the store is unknown, the URL has no bucket, or the client of
            the store is not installed.
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
    module, extra, options = _STORES[scheme]
    if find_spec("upath") is None or find_spec(module) is None:
        raise argparse.ArgumentTypeError(
            f"{text} needs the extra {extra}: pip install 'simreg-tune[{extra}]'"
        )
    from upath import UPath

    # No cached listings, because other processes write there, too.
    return cast(Path, UPath(text.rstrip("/"), use_listings_cache=False, **options))


def to_path(place: str | Path) -> Path:
    """A location as a path; public functions take both.

    Raises:
        ConfigError: a text is a URL that :func:`as_place` refuses.
    """
    if not isinstance(place, str):
        return place
    try:
        return as_place(place)
    except argparse.ArgumentTypeError as err:
        raise ConfigError(str(err)) from err


def storage_of(path: object) -> Storage:
    """The storage of a location."""
    return _OBJECT_STORE if hasattr(path, "fs") else _DISK


def local_path(path: Path) -> Path | None:
    """The path if files can be appended to; None in an object store."""
    return path if storage_of(path) is _DISK else None


def read_all(paths: Sequence[Path]) -> list[Path | BinaryIO]:
    """Files of one folder: local paths, or content fetched from a store in parallel."""
    return storage_of(paths[0]).read_all(paths) if paths else []


def readable(path: Path) -> Path | BinaryIO:
    """:func:`read_all` of one file."""
    return read_all([path])[0]


def open_all(paths: Sequence[Path], root: Path, limit: int = MAX_TABLE_BYTES) -> Iterator[BinaryIO]:
    """The files of one folder below the results folder ``root``, open for reading, in turn.

    Raises:
        UnusableFile: a link leads out of ``root``, or a file is no regular file or has more than
            ``limit`` bytes.
    """
    return storage_of(root).open_all(paths, root, limit)


def open_inside(path: Path, root: Path, limit: int = MAX_TABLE_BYTES) -> BinaryIO:
    """:func:`open_all` of one file."""
    return next(open_all([path], root, limit))


def read_text_inside(path: Path, root: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """The UTF-8 text of a file of the results folder ``root``; see :func:`open_all`.

    Raises:
        UnusableFile: see :func:`open_all`.
        UnicodeDecodeError: the file is not UTF-8.
    """
    with open_inside(path, root, limit) as stream:
        content = stream.read(limit + 1)
    require_size(path, len(content), limit)
    return content.decode()


def read_json_inside(path: Path, root: Path) -> Any:
    """The JSON of a file of the results folder ``root``.

    Raises:
        UnusableFile: see :func:`open_all`.
        ValueError: see :func:`~simreg_core.storage.json_text.parse_json`.
    """
    return parse_json(read_text_inside(path, root))
