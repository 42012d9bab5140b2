"""Where results are: folders of this machine, or locations in an object store by their URLs.

Every location is handled as a :class:`pathlib.Path`. Local ones are exactly that. URLs, which are
``s3://BUCKET/PATH`` or ``gs://BUCKET/PATH``, become paths of ``universal_pathlib``, which have the
same methods. The store's own client finds credentials (environment, files, role of the machine)
wherever a location is used; a location that is pickled holds none.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast

from simreg_core.storage.base import Storage
from simreg_core.storage.object_store import ObjectStore

_STORES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "s3": ("s3fs", "s3", {"max_concurrency": 1}),  # else two requests for each file that is read
    "gs": ("gcsfs", "gcs", {}),
}
"""By the URL's scheme: the module of the store's client, the extra that installs it, options."""
_DISK, _OBJECT_STORE = Storage(), ObjectStore()


def as_place(text: str) -> Path:
    """An argparse type: a local path, or the URL of a location in an object store.

    Raises:
        argparse.ArgumentTypeError: the URL is of no known store or names no bucket, or the client
            of the store is not installed.
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

    # No cached listings: other processes write there, too.
    return cast(Path, UPath(text.rstrip("/"), use_listings_cache=False, **options))


def storage_of(path: object) -> Storage:
    """The storage that a location is in."""
    return _OBJECT_STORE if hasattr(path, "fs") else _DISK


def local_path(path: Path) -> Path | None:
    """The path for libraries that append to files; None in an object store, which cannot."""
    return path if storage_of(path) is _DISK else None


def read_all(paths: Sequence[Path]) -> list[Path | BinaryIO]:
    """Files of one folder in a form that any library reads: paths, or a store's content."""
    return storage_of(paths[0]).read_all(paths) if paths else []


def readable(path: Path) -> Path | BinaryIO:
    """:func:`read_all` of one file."""
    return read_all([path])[0]
