"""Results on disk: Parquet datasets of files that are whole or absent.

Every file is written to a temporary name in the same folder, synced and renamed (in an object
store: by one request), so a reader (or a kill) at any moment sees only whole files. None is ever
removed. The trials of a block (:data:`BLOCK_SIZE` numbers) share one file per table,
``FIRST-LAST.parquet``, which is replaced with each trial that ends: a search of many trials is read
from few files. Everything else has a file of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simreg_core.errors import ConfigError
from simreg_core.results.schema import TABLES, arrow_schema
from simreg_core.storage.atomic import atomic_file
from simreg_core.storage.location import read_all

BLOCK_SIZE = 200
"""Trials that share a file: more make reading faster, and the end of every trial slower. Part of
the format: a folder written with another size cannot be gone on with."""


def block_of(number: int) -> str:
    """Name, without ``.parquet``, of the file that holds a trial's rows of a table."""
    first = number - number % BLOCK_SIZE
    return f"{first:05d}-{first + BLOCK_SIZE - 1:05d}"


class ResultStore:
    """The Parquet datasets of one search.

    Any process may read; only the one that holds the folder may write.

    Args:
        folder: ``OUTPUT/NAME``; exists.
        require_held: Called before each write; raises if the folder is not held any more.
    """

    def __init__(self, folder: Path, require_held: Callable[[], None] = lambda: None) -> None:
        self.folder = folder
        self._require_held = require_held
        self._lone: dict[str, frozenset[str]] = {}
        """By table, the files that it had when this process first wrote a trial to it."""

    def create(self) -> None:
        """Create every table's folder, each readable (as an empty table) from the start."""
        for table in TABLES:
            self.write(table, "empty", [])

    def write(self, table: str, part: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one file of its own, in place of what it held; columns left out are null.

        Raises:
            ValueError: a row has a column that the table lacks.
            OSError: the disk is full or the folder is gone.
        """
        self._put(self._path(table, part), _to_arrow(table, rows))

    def write_trial(self, table: str, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a trial's rows of one table, in place of those that it has there.

        The rest of its block is read back each time, not remembered: a process that has lost an
        object store's lease without knowing it must not put back what was there before.

        Args:
            table: Name of the table.
            number: The trial's, from 0.
            rows: Each with ``number`` in its column ``trial``; columns left out are null.

        Raises:
            ValueError: a row has a column that the table lacks, or is of another trial.
            ConfigError: the block's file is damaged; it stays as it is.
            OSError: the disk is full or the folder is gone.
        """
        if any(row.get("trial") != number for row in rows):
            raise ValueError(f"table {table}: a row is not of trial {number}")
        lone = f"{number:05d}" if table == "trials" else f"trial-{number:05d}"
        if lone in self._lone_files(table):  # of an earlier version: two files would double it
            self.write(table, lone, rows)
            return
        path = self._path(table, block_of(number))
        added = _to_arrow(table, rows)
        block = added.schema.empty_table()
        with suppress(FileNotFoundError):
            block = _read_part(path, io.BytesIO(path.read_bytes()), added.schema)
        before = block.filter(pc.less(block["trial"], number))
        after = block.filter(pc.greater(block["trial"], number))
        if rows or len(before) + len(after) < len(block):
            self._put(path, pa.concat_tables([before, added, after]))

    def has(self, table: str, part: str) -> bool:
        """Whether :meth:`write` has written a file."""
        return self._path(table, part).exists()

    def read(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table, in order of their files' names.

        Raises:
            ConfigError: the table's folder is missing, or a file is damaged.
        """
        try:
            files = self._files(table)
        except FileNotFoundError as err:
            raise ConfigError(
                f"{self.folder}: no results of a search (it has no {table}/)"
            ) from err
        schema = arrow_schema(table)
        parts = zip(files, read_all(files), strict=True)
        return [row for part in parts for row in _read_part(*part, schema).to_pylist()]

    def _path(self, table: str, part: str) -> Path:
        return self.folder / table / f"{part}.parquet"

    def _files(self, table: str) -> list[Path]:
        files = (self.folder / table).iterdir()
        return sorted(p for p in files if p.suffix == ".parquet" and p.name[0] not in "._")

    def _lone_files(self, table: str) -> frozenset[str]:
        if table not in self._lone:
            self._lone[table] = frozenset(path.stem for path in self._files(table))
        return self._lone[table]

    def _put(self, path: Path, content: pa.Table) -> None:
        self._require_held()
        with atomic_file(path) as stream:
            pq.write_table(content, stream)


def _to_arrow(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = arrow_schema(table)
    for row in rows:
        if unknown := sorted(set(row) - set(schema.names)):
            raise ValueError(f"table {table} has no columns {', '.join(unknown)}")
    filled = [{name: row.get(name) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(filled, schema=schema)


def _read_part(path: Path, source: Path | BinaryIO, schema: pa.Schema) -> pa.Table:
    try:
        return pq.read_table(source, schema=schema)
    except (pa.ArrowException, OSError) as err:
        reason = str(err).strip().splitlines()[:1]
        raise ConfigError(f"{path}: not a readable Parquet file: {''.join(reason)}") from err
