"""Finds the Parquet files of every split, in the layouts of the Hugging Face Hub.

The files of one dataset are in ``PATH``, in ``PATH/data``, or in the only other folder of ``PATH``
that has training images. A split is ``train.parquet``, shards ``train-00000-of-00002.parquet``, or
all files of a folder ``train``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from simreg_core.data.listing import LeftOut, Listing
from simreg_core.data.split_names import ROLES, Role, split_of
from simreg_core.errors import ConfigError

_SHARD = re.compile(r"[-_.](?P<number>\d+)-of-(?P<total>\d+)(-[0-9a-f]+)?$")
_NUMBER = re.compile(r"[-_.]\d+$")

Files = dict[Role, list[Path]]


def find_files(root: Path, left_out: LeftOut, key: str) -> Files:
    """The files of every split, in order; a validation set serves as test set if there is none.

    Raises:
        ConfigError: there is no training set, a shard is missing, or it is unclear which files are
            meant.
    """
    listing = Listing(root, key)
    places = [place for place in (root, root / "data") if place.is_dir()]
    chosen = next((place for place in places if "train" in _groups(place, listing)), None)
    if chosen is None:
        inner = [place / name for place in places for name in listing.folders(place)]
        holding = [place for place in inner if "train" in _groups(place, listing)]
        if len(holding) > 1:
            names = ", ".join(place.name for place in holding)
            raise ConfigError(
                f"{key}: {root} holds several datasets ({names}); name one of them, for example "
                f"parquet:{holding[0]}"
            )
        chosen = holding[0] if holding else None
    if chosen is None:
        found = sorted(p.name for place in places for p in place.glob("*.parquet"))
        raise ConfigError(
            f"{key}: {root / 'train.parquet'} does not exist (expected train.parquet or "
            f"train-00000-of-00002.parquet in {root} or {root / 'data'}; found: "
            f"{', '.join(found[:5]) or 'no Parquet files'})"
        )
    groups = _groups(chosen, listing)
    files = {role: _only(groups[role], role, key) for role in ROLES if role in groups}
    for path in chosen.glob("*.parquet"):
        if split_of(_base(path)) is None:
            left_out.add(f"named like no split ({path.name})")
    if "test" not in files and "validation" in files:
        files["test"] = files.pop("validation")
    return files


def _groups(folder: Path, listing: Listing) -> dict[Role, dict[str, list[Path]]]:
    """The files of every split by their common name or folder."""
    groups: dict[Role, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*.parquet")):
        role = split_of(_base(path))
        if role is not None and not path.name.startswith("."):
            groups[role][_group(path)].append(path)
    for name in listing.folders(folder):
        inner = sorted(p for p in (folder / name).glob("*.parquet") if p.name[0] != ".")
        role = split_of(name)
        if role is not None and inner:
            groups[role][f"{name}/"] = inner
    return groups


def _base(path: Path) -> str:
    """The name of a file without its suffix and the number of its shard."""
    return _SHARD.sub("", path.stem)


def _group(path: Path) -> str:
    """Equal for the files that form one split."""
    shard = _SHARD.search(path.stem)
    return f"{_base(path)}*of-{shard['total']}" if shard else _NUMBER.sub("*", path.stem)


def _only(groups: dict[str, list[Path]], role: Role, key: str) -> list[Path]:
    """The files of the one group of a split."""
    if len(groups) > 1:
        first, second = [files[0] for files in groups.values()][:2]
        raise ConfigError(
            f"{key}: {first} and {second} are both named like a {role} set; move one of them away"
        )
    (files,) = groups.values()
    for path in files:
        if not path.is_file():  # reading a pipe would block
            raise ConfigError(f"{key}: {path} is not a regular file")
    shards = [shard for path in files if (shard := _SHARD.search(path.stem))]
    for shard in shards:
        total = int(shard["total"])
        numbers = sorted(int(other["number"]) for other in shards)
        if numbers not in (list(range(total)), list(range(1, total + 1))):
            raise ConfigError(
                f"{key}: {files[0]} is one of {total} shards, found those of the numbers "
                f"{', '.join(map(str, numbers))}"
            )
    return files
