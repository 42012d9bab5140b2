"""Layouts of the Hugging Face Hub, and the memory that reading takes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from simreg_core.config.trial import TaskConfig
from simreg_core.data import image_tables
from simreg_core.data.images import ImagePool
from simreg_core.data.registry import load_dataset
from simreg_core.data.task import load_task
from simreg_core.errors import ConfigError
from tests.core_tests.measuring import assert_labelled_alike

Write = Callable[..., Path]
KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture
def write(tmp_path: Path, make_png: Callable[..., bytes]) -> Write:
    """Writes numbered images and the labels 0, 1, 2, 0, ... to a file of the dataset."""

    def make(
        path: str,
        numbers: range = range(6),
        *,
        image: str = "image",
        labels: tuple[str, ...] = ("label",),
        plain: bool = False,
        **options: Any,
    ) -> Path:
        encoded = [make_png(number) for number in numbers]
        column = pa.array(encoded) if plain else pa.array([{"bytes": b} for b in encoded], KIND)
        columns = {image: column, "id": pa.array([f"{n}" for n in numbers])}
        for divisor, name in enumerate(labels, start=1):
            columns[name] = pa.array([n // divisor % 3 for n in numbers])
        file = tmp_path / "set" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file, **options)
        return tmp_path / "set"

    return make


def _load(root: Path, **request: Any) -> ImagePool:
    return load_dataset(f"parquet:{root}", **{"color": False, "size": None, "key": "k", **request})


# Files


@pytest.mark.parametrize(
    "train",
    [
        ("train.parquet",),
        ("train-00000-of-00001.parquet",),
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"),
        ("data/train-00000-of-00002-a1b2.parquet", "data/train-00001-of-00002-c3d4.parquet"),
        ("plain_text/train-00000-of-00001.parquet",),
        ("train/0000.parquet", "train/0001.parquet"),
        ("default/train/0000.parquet", "default/train/0001.parquet"),
        ("Training.parquet",),
        ("train_0.parquet", "train_1.parquet"),
    ],
)
@pytest.mark.parametrize("test", ["test", "validation", "valid", "dev"])
def test_files_of_the_hub_are_found(train: tuple[str, ...], test: str, write: Write) -> None:
    for n, path in enumerate(train):
        write(path, range(5 * n, 5 * n + 5))
    root = write(path.lower().replace("training", test).replace("train", test), range(90, 93))
    if len(train) > 1:  # its other shard
        first = train[0].replace("train", test)
        write(first, range(93, 95))
    pool = _load(root)
    assert pool.labels is not None
    assert pool.labels.tolist() == [n % 3 for n in range(5 * len(train))]
    assert pool.test is not None
    assert len(pool.test.labels) == (3 if len(train) == 1 else 5)
    assert len({image.numpy().tobytes() for image in pool.images}) == 5 * len(train)
    part = _load(root, limit=4, seed=1)
    assert_labelled_alike(part, pool)


def test_validation_file_is_the_validation_split(write: Write) -> None:
    write("train.parquet", range(20))
    write("validation.parquet", range(20, 27))
    root = write("test.parquet", range(30, 36))
    data = load_task(TaskConfig(dataset=f"parquet:{root}", image_size=8))
    assert [len(data.split(name).labels) for name in ("train", "validation", "test")] == [20, 7, 6]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("data/train-00001-of-00002.parquet", "is one of 2 shards; found shard 1$"),
        ("train.parquet train-00000-of-00001.parquet", "both named like a train set"),
        ("a/train.parquet b/train.parquet", r"several datasets \(a, b\)"),
        ("test.parquet", r"train\.parquet does not exist .*found: test\.parquet"),
    ],
)
def test_unclear_or_missing_files_are_refused(paths: str, message: str, write: Write) -> None:
    for path in paths.split():
        root = write(path)
    with pytest.raises(ConfigError, match=rf"^k: .*{message}") as caught:
        _load(root)
    assert "\n" not in str(caught.value)


def test_files_of_no_split_are_counted(write: Write) -> None:
    write("train.parquet")
    root = write("responses.parquet")
    assert _load(root).info.left_out == "1 file: 1 named like no split (responses.parquet)"


# Columns


@pytest.mark.parametrize("plain", [False, True], ids=["struct", "bytes"])
@pytest.mark.parametrize("image", ["image", "img", "picture", "scan"])
@pytest.mark.parametrize("label", ["label", "labels", "fine_label", "coarse_label"])
def test_columns_of_usual_names_are_read(label: str, image: str, plain: bool, write: Write) -> None:
    pool = _load(write("train.parquet", image=image, labels=(label,), plain=plain))
    assert pool.labels is not None
    assert pool.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert len(pool.images) == 6


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        (("coarse_label", "fine_label"), "column fine_label (not coarse_label)"),
        (("fine_label", "label"), "column label (not fine_label)"),
        (("label",), ""),
    ],
)
def test_one_of_several_labels_is_chosen_and_named(
    labels: tuple[str, ...], chosen: str, write: Write
) -> None:
    pool = _load(write("train.parquet", labels=labels))
    assert pool.info.label_column == chosen
    assert pool.labels is not None
    expected = [n // len(labels) % 3 for n in range(6)]
    assert pool.labels.tolist() == expected


def test_class_names_of_the_hub_are_known(write: Write) -> None:
    root = write("train.parquet", labels=("breed",))
    names = ["beagle", "boxer", "collie", "pug"]
    features = {"breed": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path = root / "train.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    pool = _load(root)
    assert pool.info.class_names == tuple(names)
    assert pool.num_classes == 4
    assert pool.labels is not None


def test_two_columns_of_images_of_unknown_names_are_refused(write: Write) -> None:
    path = write("train.parquet", image="left") / "train.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("right", table.column("left")), path)
    with pytest.raises(ConfigError, match=r"train\.parquet needs a column 'image'.*left.*right"):
        _load(path.parent)


@pytest.mark.parametrize("other", [{"image": "img"}, {"labels": ()}])
def test_shards_of_other_columns_are_refused(other: dict[str, Any], write: Write) -> None:
    write("train-00000-of-00002.parquet")
    root = write("train-00001-of-00002.parquet", **other)
    with pytest.raises(ConfigError, match=r"^k: .*train-00001-of-00002\.parquet "):
        _load(root)


# Memory


@pytest.fixture
def num_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that are read at once."""
    numbers: list[int] = []

    class Counting(pq.ParquetFile):  # type: ignore[misc]
        def read_row_group(self, *args: Any, **options: Any) -> Any:
            raise AssertionError("a whole row group")

        def iter_batches(self, *args: Any, **options: Any) -> Any:
            for batch in super().iter_batches(*args, **options):
                numbers.append(len(batch))
                yield batch

    monkeypatch.setattr(pq, "ParquetFile", Counting)
    return numbers


@pytest.mark.parametrize("plain", [False, True], ids=["struct", "bytes"])
def test_row_group_is_read_in_small_batches(
    plain: bool, num_read: list[int], monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    root = write("train.parquet", range(40), plain=plain, row_group_size=33)
    size = (root / "train.parquet").stat().st_size // 40
    monkeypatch.setattr(image_tables, "_BYTES_AT_ONCE", 4 * size)
    pool = _load(root)
    assert max(num_read) <= 5
    assert sum(num_read) == 40
    assert pool.labels is not None
    assert pool.labels.tolist() == [n % 3 for n in range(40)]
    num_read.clear()
    part = _load(root, limit=3, seed=7)
    assert sum(num_read) <= 40
    assert_labelled_alike(part, pool)


def test_small_images_are_read_by_dozens(num_read: list[int], write: Write) -> None:
    root = write("train.parquet", range(200))
    assert len(_load(root).images) == 200
    assert max(num_read) == 64


def test_only_the_row_groups_of_drawn_images_are_read(num_read: list[int], write: Write) -> None:
    root = write("train.parquet", range(200), row_group_size=5)
    part = _load(root, limit=4)
    assert sum(num_read) <= 4 * 5
    whole = _load(root)
    assert_labelled_alike(part, whole)
    order = [
        next(n for n, image in enumerate(whole.images) if torch.equal(image, found))
        for found in part.images
    ]
    assert len(set(order)) == 4


def test_pipe_named_like_a_split_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match=r"train\.parquet is not a regular file"):
        _load(tmp_path)
