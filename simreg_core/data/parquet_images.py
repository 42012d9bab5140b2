"""Datasets in Parquet files, in the layouts of the Hugging Face Hub.

The files of one dataset are in ``PATH``, in ``PATH/data``, or in the only other folder of ``PATH``
that has training images. A split is ``train.parquet``, shards ``train-00000-of-00002.parquet``, or
all files of a folder ``train``.
"""

from __future__ import annotations

import re
from collections import defaultdict
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
from simreg_core.data.split_names import Role, split_of
from simreg_core.errors import ConfigError, counted, one_line
from simreg_core.registry import dataset
from simreg_core.storage.array_cache import file_stamp

_BUFFER = 2**20
_SHARD = re.compile(r"[-_.](?P<number>\d+)(-of-(?P<total>\d+)(-[0-9a-f]+)?)?$")


@dataset("parquet", argument="PATH")
def load_parquet(request: ImageRequest) -> ImagePool:
    """``PATH/train.parquet`` or its shards, with, if they exist, ``test`` and ``validation``."""
    listing = Listing(Path(request.path))
    return load_tables(_find_files(listing), _reading, listing, request)


def _find_files(listing: Listing) -> dict[Role, list[Path]]:
    """The files of every split, in order.

    Raises:
        ConfigError: there is no training set, a shard is missing, or it is unclear which files are
            meant.
    """
    root = listing.root
    places = [place for place in (root, root / "data") if place.is_dir()]
    inner = [place / name for place in places for name in listing.folders(place)]
    chosen = [place for place in places if "train" in _groups(place, listing)][:1]
    chosen = chosen or [place for place in inner if "train" in _groups(place, listing)]
    if len(chosen) > 1:
        names = ", ".join(place.name for place in chosen)
        raise ConfigError(
            f"{root} holds several datasets ({names}); name one of them, for example "
            f"parquet:{chosen[0]}"
        )
    if not chosen:
        found = sorted(path.name for place in places for path in place.glob("*.parquet"))
        if any((root / name).exists() for name in ("state.json", "dataset_dict.json")):
            found = found or ["a folder of save_to_disk, whose name is arrow:PATH"]
        raise ConfigError(
            f"{root / 'train.parquet'} does not exist (expected train.parquet or "
            f"train-00000-of-00002.parquet in {root} or {root / 'data'}; found: "
            f"{', '.join(found[:5]) or 'no Parquet files'})"
        )
    for path in _files(chosen[0]):
        if split_of(_SHARD.sub("", path.stem)) is None:
            listing.left_out[f"named like no split ({path.name})"] += 1
    groups = _groups(chosen[0], listing)
    return {role: _only([*found.values()], role) for role, found in groups.items()}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def _groups(folder: Path, listing: Listing) -> dict[Role, dict[str, list[Path]]]:
    """The files of every split by their common name or folder."""
    groups: dict[Role, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in _files(folder):
        if (role := split_of(_SHARD.sub("", path.stem))) is not None:
            groups[role][_SHARD.sub("*", path.stem)].append(path)
    for name in listing.folders(folder):
        if (role := split_of(name)) is not None and (files := _files(folder / name)):
            groups[role][f"{name}/"] = files
    return groups


def _only(groups: list[list[Path]], role: Role) -> list[Path]:
    """The files of the one group of a split."""
    if len(groups) > 1:
        raise ConfigError(
            f"{groups[0][0]} and {groups[1][0]} are both named like a {role} set; move one "
            "of them away"
        )
    (files,) = groups
    shards = [shard for path in files if (shard := _SHARD.search(path.stem)) and shard["total"]]
    numbers = sorted(int(shard["number"]) for shard in shards)
    for total in {int(shard["total"]) for shard in shards}:
        if numbers not in (list(range(total)), list(range(1, total + 1))) or len(files) > total:
            found = f"shard{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
            if others := len(files) - len(shards):
                found += f" and {counted(others, 'other file')}"
            raise ConfigError(f"{files[0]} is one of {counted(total, 'shard')}; found {found}")
    return files


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
