"""The one reader and writer of the result tables: Parquet files that are whole or absent.

Every file is written to a temporary name in the same folder, synced and renamed (in an object
store: by one request), so a reader (or a kill) at any moment sees only whole files. None is ever
removed. Names that start with a dot or an underscore are files that are still being written.

The trials of a block (:data:`BLOCK_SIZE` numbers) share one file per table,
``FIRST-LAST.parquet``, which is replaced with each trial that ends: a search of many trials is read
from few files. Everything else has a file of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simreg_core.errors import ConfigError
from simreg_core.results.schema import (
    SCHEMA_VERSION,
    TABLES,
    VERSION_KEY,
    arrow_schema,
    is_optional,
)
from simreg_core.storage.atomic import atomic_file
from simreg_core.storage.location import read_all, readable

BLOCK_SIZE = 200
"""Trials that share a file: more make reading faster, and the end of every trial slower. Part of
the format: a search cannot be resumed with another size."""


def block_of(number: int) -> str:
    """Name, without ``.parquet``, of the file that holds a trial's rows of a table."""
    first = number - number % BLOCK_SIZE
    return f"{first:05d}-{first + BLOCK_SIZE - 1:05d}"


def read_table(
    folder: Path,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    trials: Collection[int] | None = None,
) -> pa.Table:
    """The rows of one table, in order of its files' names.

    Args:
        folder: Of the search (the parent of the table's own folder).
        table: A name in :data:`simreg_core.results.schema.TABLES`.
        columns: Which to read; all if None. An optional column that no file has is left out.
        trials: Read only the rows of these trials, and those of none (baselines, the surrogate).

    Raises:
        ConfigError: the folder is missing, or a file is damaged, of another schema version, or
            has a missing, unknown or mistyped column.
    """
    schema = arrow_schema(table)
    files = _part_files(folder, table)
    names = [name for name in columns or schema.names if name in schema.names]
    parts = [schema.empty_table().select(names)]
    for path, source in zip(files, read_all(files), strict=True):
        part = _read_part(path, source, schema, columns)
        parts.append(part if trials is None else _of_trials(part, trials))
    return pa.concat_tables(parts, promote_options="default")


def _of_trials(part: pa.Table, trials: Collection[int]) -> pa.Table:
    number = part["trial"]
    wanted = pc.is_in(number, value_set=pa.array(list(trials), pa.int64()))
    return part.filter(pc.or_(wanted, pc.is_null(number)))


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file with any columns.

    Raises:
        ConfigError: it is missing or damaged.
    """
    with _naming(path):
        return pq.read_table(readable(path), partitioning=None)


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
        path = self._path(table, block_of(number))
        added = _to_arrow(table, rows)
        block = added.schema.empty_table()
        with suppress(FileNotFoundError):
            block = _read_part(path, io.BytesIO(path.read_bytes()), arrow_schema(table))
        before = block.filter(pc.less(block["trial"], number))
        after = block.filter(pc.greater(block["trial"], number))
        if rows or len(before) + len(after) < len(block):
            self._put(path, pa.concat_tables([before, added, after], promote_options="default"))

    def has(self, table: str, part: str) -> bool:
        """Whether :meth:`write` has written a file."""
        return self._path(table, part).exists()

    def read(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table, in order of their files' names.

        Raises:
            ConfigError: see :func:`read_table`.
        """
        rows: list[dict[str, Any]] = read_table(self.folder, table).to_pylist()
        return rows

    def _path(self, table: str, part: str) -> Path:
        return self.folder / table / f"{part}.parquet"

    def _put(self, path: Path, content: pa.Table) -> None:
        self._require_held()
        with atomic_file(path) as stream:
            pq.write_table(content, stream)


def _to_arrow(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    given = dict.fromkeys(name for row in rows for name in row)
    fixed = {column.name for column in TABLES[table]}
    schema = arrow_schema(table, [name for name in given if name not in fixed])
    filled = [{name: row.get(name) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(filled, schema=schema)


def _part_files(folder: Path, table: str) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected the folder of a search")
    try:
        files = list((folder / table).iterdir())
    except (FileNotFoundError, NotADirectoryError) as err:
        raise ConfigError(f"{folder}: no {table}/ in it; expected the folder of a search") from err
    return sorted(path for path in files if path.suffix == ".parquet" and path.name[0] not in "._")


def _read_part(
    path: Path,
    source: Path | BinaryIO,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    with _naming(path), pq.ParquetFile(source) as file:
        found = file.schema_arrow
        for field in found:
            if field.name not in schema.names and is_optional(field):
                schema = schema.append(field)
        _check_schema(path, found, schema)
        names = [name for name in columns or schema.names if name in schema.names]
        part = file.read(columns=names)
    kept = pa.schema([schema.field(name) for name in names], metadata=schema.metadata)
    return part.select(names).cast(kept)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file that cannot be read."""
    try:
        yield
    except (pa.ArrowException, OSError) as err:
        reason = str(err).strip().splitlines()[:1]
        raise ConfigError(f"{path}: not a readable Parquet file: {''.join(reason)}") from err


def _check_schema(path: Path, found: pa.Schema, expected: pa.Schema) -> None:
    version = (found.metadata or {}).get(VERSION_KEY)
    if version != str(SCHEMA_VERSION).encode():
        described = "none" if version is None else version.decode(errors="replace")
        raise ConfigError(f"{path}: schema version {described}; allowed: {SCHEMA_VERSION}")
    if missing := _difference(expected.names, found.names):
        raise ConfigError(f"{path}: columns are missing: {missing}")
    if unknown := _difference(found.names, expected.names):
        raise ConfigError(f"{path}: unknown columns: {unknown}")
    if len(found.names) != len(expected.names):
        raise ConfigError(f"{path}: a column occurs twice")
    for field in expected:
        kind = found.field(field.name).type
        if kind != field.type:
            raise ConfigError(f"{path}: {field.name} is {kind}; allowed: {field.type}")


def _difference(names: Iterable[str], others: Iterable[str]) -> str:
    known = set(others)
    return ", ".join(name for name in names if name not in known)
