"""Datasets in Parquet files; :mod:`simreg_core.data.parquet_files` says which files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from simreg_core.data.encoded import Indices
from simreg_core.data.image_tables import ImageTable, load_tables, rows_at_once
from simreg_core.data.images import ImagePool, ImageRequest
from simreg_core.data.listing import Listing
from simreg_core.data.parquet_files import find_files
from simreg_core.errors import ConfigError, one_line
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import file_stamp

_BUFFER = 2**20


@dataset("parquet", takes_path=True)
def load_parquet(request: ImageRequest) -> ImagePool:
    """``PATH/train.parquet`` or its shards, with, if they exist, ``test`` and ``validation``."""
    listing = Listing(Path(request.path))
    return load_tables(find_files(listing), _reading, listing, request)


@contextmanager
def _reading(path: Path) -> Iterator[ImageTable]:
    file_stamp(path)  # refuses a pipe, which would block
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield ImageTable(
                file.schema_arrow,
                file.metadata.num_rows,
                lambda name: file.read([name])[0],
                partial(_batches, file),
            )
    except (pa.ArrowException, OSError, UnicodeError) as err:
        raise ConfigError(f"{path} is not a readable Parquet file: {one_line(err)}") from err


def _batches(file: pq.ParquetFile, name: str, rows: Indices) -> Iterator[tuple[int, pa.Array]]:
    """Parts of the row groups that have some of the rows, however large these groups are."""
    first = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if not ((first <= rows) & (rows < first + group.num_rows)).any():
            first += group.num_rows
            continue
        chunks = [group.column(n) for n in range(group.num_columns)]
        sizes = [c.total_uncompressed_size for c in chunks if c.path_in_schema.startswith(name)]
        size = rows_at_once(sum(sizes), group.num_rows)
        for batch in file.iter_batches(size, row_groups=[number], columns=[name]):
            yield first, batch[0]
            first += len(batch)
