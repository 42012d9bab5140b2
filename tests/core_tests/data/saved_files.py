"""Folders as ``save_to_disk`` of Hugging Face's ``datasets`` 5.2 writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROWS_PER_BATCH = 100


def save_dataset(
    folder: Path,
    images: Sequence[bytes],
    labels: Mapping[str, Sequence[int]],
    names: Mapping[str, Sequence[str]],
    *,
    image: str = "img",
    num_shards: int = 1,
) -> Path:
    """A ``Dataset`` with images, columns of labels, and the names of their classes."""
    features: dict[str, Any] = {image: {"_type": "Image"}}
    columns = {image: pa.array([{"bytes": data, "path": None} for data in images], IMAGE)}
    for label, values in labels.items():
        features[label] = {"names": list(names[label]), "_type": "ClassLabel"}
        columns[label] = pa.array(values, pa.int64())
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    folder.mkdir(parents=True)
    files = [f"data-{n:05}-of-{num_shards:05}.arrow" for n in range(num_shards)]
    length = -(-len(images) // num_shards)
    for number, file in enumerate(files):
        part = table.slice(number * length, length)
        with pa.ipc.new_stream(str(folder / file), table.schema) as stream:
            stream.write_table(part, max_chunksize=ROWS_PER_BATCH)
    state: dict[str, Any] = {
        "_data_files": [{"filename": file} for file in files],
        "_fingerprint": "894f6b4dcf5e0f9e",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2))
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    return folder


def list_splits(folder: Path, *splits: str) -> Path:
    """The file that makes a ``DatasetDict`` of folders."""
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    return folder
