"""Results on disk: Parquet datasets of part files that are whole or absent.

Every part is written to a temporary name in the same folder, synced and renamed (in an object
store: by one request), so a reader (or a kill) at any moment sees only whole files. A part's name
is its key: writing it again replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from simreg_core.files import atomic_file
from simreg_core.places import make_folder, read_all
from simreg_core.records import TABLES, arrow_schema


class ResultStore:
    """The Parquet datasets of one search.

    Args:
        folder: ``OUTPUT/NAME``; exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make every table's folder, each readable (as an empty table) from the start."""
        for table in TABLES:
            make_folder(self.folder / table)
            self.write(table, "empty", [])

    def write(self, table: str, part: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one part file; columns that a row leaves out are null.

        Raises:
            ValueError: a row has a column that the table lacks.
            OSError: the disk is full or the folder is gone.
        """
        schema = arrow_schema(table)
        for row in rows:
            if unknown := sorted(set(row) - set(schema.names)):
                raise ValueError(f"table {table} has no columns {', '.join(unknown)}")
        filled = [{name: row.get(name) for name in schema.names} for row in rows]
        path = self.folder / table / f"{part}.parquet"
        with atomic_file(path) as stream:
            pq.write_table(pa.Table.from_pylist(filled, schema=schema), stream)

    def has(self, table: str, part: str) -> bool:
        """Whether a part file exists."""
        return (self.folder / table / f"{part}.parquet").exists()

    def read(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table, in order of their part files' names.

        Raises:
            OSError: the table's folder is missing.
            pyarrow.ArrowInvalid: a part file is damaged.
        """
        folder = self.folder / table
        parts = sorted(
            p for p in folder.iterdir() if p.suffix == ".parquet" and p.name[0] not in "._"
        )
        schema = arrow_schema(table)
        tables = (pq.read_table(part, schema=schema) for part in read_all(parts))
        return [row for table in tables for row in table.to_pylist()]
