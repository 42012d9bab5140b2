"""The one reader and writer of the result tables: Parquet files that are whole or absent.

Every file is written to a temporary name in the same folder, synced and renamed (in an object
store: by one request), so readers see only whole files, even after a kill. No file is ever removed.
Names that start with a dot or an underscore are files that are still being written.

The trials of a block (:data:`BLOCK_SIZE` numbers) share one file per table,
``FIRST-LAST.parquet``, which is rewritten after every trial. All other rows have separate files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simreg_core.errors import ConfigError, counted
from simreg_core.results.schema import (
    SCHEMA_VERSION,
    TABLES,
    VERSION_KEY,
    arrow_schema,
    is_optional,
)
from simreg_core.storage.atomic import atomic_file
from simreg_core.storage.location import open_all, open_inside, to_path

BLOCK_SIZE = 200
"""Trials that share a file: more make reading faster and writing slower. Part of the format: a
search cannot be resumed with another size."""
_MAX_ROWS = 50_000_000  # of a file; equal values compress so well that few bytes can hold more


def block_of(number: int) -> str:
    """Name, without ``.parquet``, of the file with a trial's rows."""
    first = number - number % BLOCK_SIZE
    return f"{first:05d}-{first + BLOCK_SIZE - 1:05d}"


def read_table(
    folder: str | Path,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    trials: Collection[int] | None = None,
) -> pa.Table:
    """The rows of one table, ordered by file name.

    Args:
        folder: Result folder of the search (the parent of the table's folder).
        table: A name in :data:`simreg_core.results.schema.TABLES`.
        columns: Columns to read; all if None. Optional columns that no file has are left out.
        trials: Read only rows of these trials, and those without a trial (baselines, surrogate).

    Raises:
        ConfigError: the folder is missing, or a file is damaged, of another schema version, or
            has a missing, unknown or mistyped column.
    """
    folder = to_path(folder)
    schema = arrow_schema(table)
    files = _part_files(folder, table)
    names = [name for name in columns or schema.names if name in schema.names]
    parts = [schema.empty_table().select(names)]
    sources = open_all(files, folder)
    for path in files:
        with _errors_of(path), next(sources) as source:
            part = _read_part(path, source, schema, columns)
        if trials is not None:
            wanted = pc.is_in(part["trial"], value_set=pa.array(list(trials), pa.int64()))
            part = part.filter(pc.or_(wanted, pc.is_null(part["trial"])))
        parts.append(part)
    return pa.concat_tables(parts, promote_options="default")


def read_parquet(path: str | Path) -> pa.Table:
    """A Parquet file with any columns; a :class:`ConfigError` names a missing or damaged one."""
    path = to_path(path)
    real = path.resolve()
    with _errors_of(path), open_inside(real, real.parent) as source:
        return pq.read_table(source, partitioning=None)


class ResultStore:
    """The Parquet datasets of one search.

    Any process may read; only the one that holds the folder may write. ``require_held`` is called
    before each write and raises if the folder is no longer held.
    """

    def __init__(self, folder: str | Path, require_held: Callable[[], None] = lambda: None) -> None:
        folder = to_path(folder)
        self.folder = folder
        self._require_held = require_held

    def create(self) -> None:
        """Create every table's folder, with an empty table in it."""
        for table in TABLES:
            self.write(table, "empty", [])

    def write(self, table: str, part: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write or replace one file of a table; missing columns are null.

        Raises:
            ValueError: a row has a column that the table lacks.
            OSError: the disk is full or the folder is gone.
        """
        self._put(self._path(table, part), _to_arrow(table, rows))

    def write_trial(self, table: str, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write or replace a trial's rows of one table.

        The rest of the block is read each time, never cached: a process that has lost the lease of
        an object store unnoticed must not restore old rows.

        Raises:
            ValueError: a row has a column that the table lacks, or belongs to another trial.
            ConfigError: the block's file is damaged; it is left unchanged.
            OSError: the disk is full or the folder is gone.
        """
        if any(row.get("trial") != number for row in rows):
            raise ValueError(f"table {table}: a row is not of trial {number}")
        path = self._path(table, block_of(number))
        added = _to_arrow(table, rows)
        block = added.schema.empty_table()
        with suppress(FileNotFoundError):
            with open_inside(path, self.folder) as source:
                block = _read_part(path, source, arrow_schema(table))
        before = block.filter(pc.less(block["trial"], number))
        after = block.filter(pc.greater(block["trial"], number))
        if rows or len(before) + len(after) < len(block):
            self._put(path, pa.concat_tables([before, added, after], promote_options="default"))

    def has(self, table: str, part: str) -> bool:
        """Whether a file of a table exists."""
        return self._path(table, part).exists()

    def read(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table; see :func:`read_table`."""
        rows: list[dict[str, Any]] = read_table(self.folder, table).to_pylist()
        return rows

    def _path(self, table: str, part: str) -> Path:
        return self.folder / table / f"{part}.parquet"

    def _put(self, path: Path, content: pa.Table) -> None:
        self._require_held()
        with atomic_file(path) as stream:
            pq.write_table(content, stream)


def _to_arrow(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    fixed = {column.name for column in TABLES[table]}
    added = dict.fromkeys(name for row in rows for name in row if name not in fixed)
    return pa.Table.from_pylist(rows, schema=arrow_schema(table, added))


def _part_files(folder: Path, table: str) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected the folder of a search")
    try:
        files = list((folder / table).iterdir())
    except (FileNotFoundError, NotADirectoryError) as err:
        raise ConfigError(f"{folder}: no {table}/ in it; expected the folder of a search") from err
    return sorted(path for path in files if path.suffix == ".parquet" and path.name[0] not in "._")


def _read_part(
    path: Path, source: BinaryIO, schema: pa.Schema, columns: Sequence[str] | None = None
) -> pa.Table:
    with _errors_of(path), pq.ParquetFile(source) as file:
        if (num_rows := file.metadata.num_rows) > _MAX_ROWS:
            raise ConfigError(f"{path}: {counted(num_rows, 'row')}; allowed: at most {_MAX_ROWS}")
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
def _errors_of(path: Path) -> Iterator[None]:
    """Turn errors of a damaged file into one line with its name."""
    try:
        yield
    except ConfigError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as err:
        reason = (getattr(err, "strerror", None) or str(err)).strip().splitlines()[:1]
        raise ConfigError(f"{path}: not a readable Parquet file: {''.join(reason)}") from err


def _check_schema(path: Path, found: pa.Schema, expected: pa.Schema) -> None:
    version = (found.metadata or {}).get(VERSION_KEY)
    if version != str(SCHEMA_VERSION).encode():
        described = "none" if version is None else version.decode(errors="replace")
        raise ConfigError(f"{path}: schema version {described}; allowed: {SCHEMA_VERSION}")
    if missing := [name for name in expected.names if name not in found.names]:
        raise ConfigError(f"{path}: columns are missing: {', '.join(missing)}")
    if unknown := [name for name in found.names if name not in expected.names]:
        raise ConfigError(f"{path}: unknown columns: {', '.join(unknown)}")
    if len(found.names) != len(expected.names):
        raise ConfigError(f"{path}: a column occurs twice")
    for field in expected:
        kind = found.field(field.name).type
        if kind != field.type:
            raise ConfigError(f"{path}: {field.name} is {kind}; allowed: {field.type}")
