from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from simreg_core.data.images import ImagePool
from simreg_core.data.registry import load_dataset
from simreg_core.errors import ConfigError

MakeDataset = Callable[..., Path]


def _load(folder: Path, **request: Any) -> ImagePool:
    asked: dict[str, Any] = {"color": False, "size": None, "key": "task.dataset", **request}
    return load_dataset(f"parquet:{folder}", **asked)


def test_parquet_images_are_the_encoded_ones(
    make_dataset: MakeDataset, make_png: Callable[..., bytes]
) -> None:
    pool = _load(make_dataset(num_train=5))
    for number, image in enumerate(pool.images):
        expected = np.array(Image.open(io.BytesIO(make_png(number))))
        np.testing.assert_array_equal(image[0].numpy(), expected)
    assert pool.labels is not None
    assert pool.labels.tolist() == [0, 1, 2, 0, 1]
    assert pool.num_classes == 3


@pytest.mark.parametrize(("color", "channels"), [(False, 1), (True, 3)], ids=["grey", "color"])
@pytest.mark.parametrize("stored_color", [False, True], ids=["stored-grey", "stored-color"])
def test_parquet_images_have_the_asked_channels(
    color: bool, channels: int, stored_color: bool, make_dataset: MakeDataset
) -> None:
    pool = _load(make_dataset(num_train=4, color=stored_color), color=color)
    assert pool.images.shape == (4, channels, 8, 8)


def test_class_names_count_classes_without_images(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> None:
    names = ["ant", "bee", "cat", "dog", "eel"]
    write_parquet(tmp_path / "train.parquet", [make_png(0), make_png(1)], [0, 1], names)
    assert _load(tmp_path).num_classes == 5


def test_test_set_counts_classes_too(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> None:
    write_parquet(tmp_path / "train.parquet", [make_png(0), make_png(1)], [0, 1])
    write_parquet(tmp_path / "test.parquet", [make_png(2)], [6])
    assert _load(tmp_path).num_classes == 7


def test_images_of_different_sizes_are_resized(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> None:
    images = [make_png(0, 8, 8), make_png(1, 12, 20), make_png(2, 30, 9)]
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 2])
    assert _load(tmp_path, size=8).images.shape == (3, 1, 8, 8)


def test_changed_file_is_read_again(make_dataset: MakeDataset) -> None:
    folder = make_dataset(num_train=5)
    before = _load(folder)
    make_dataset(num_train=5, first=900)
    os.utime(folder / "train.parquet", ns=(1, 1))
    assert not torch.equal(_load(folder).images, before.images)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task\.dataset: .*train\.parquet does not exist"):
        _load(tmp_path / "absent")


def test_key_that_named_the_dataset_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^regularizer\.dataset: "):
        load_dataset(f"parquet:{tmp_path}", color=False, size=None, key="regularizer.dataset")


@pytest.mark.parametrize("name", ["train", "test"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99], ids=["empty", "half", "without-its-end"])
def test_truncated_file_is_refused(share: float, name: str, make_dataset: MakeDataset) -> None:
    folder = make_dataset(num_test=5)
    path = folder / f"{name}.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConfigError, match=rf"{name}\.parquet is not a readable Parquet file"):
        _load(folder)


def _bytes_struct(kind: pa.DataType) -> pa.Array:
    value = b"x" if kind == pa.binary() else "x"
    return pa.array([{"bytes": value}], pa.struct([("bytes", kind)]))


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        pytest.param({"label": [0], "name": ["a"]}, "label, name", id="no-image-column"),
        pytest.param({"image": ["a.png"]}, "string$", id="paths"),
        pytest.param({"image": [{"path": "a.png"}]}, "struct<path: string>$", id="without-bytes"),
        pytest.param(
            {"image": _bytes_struct(pa.string())}, "struct<bytes: string>$", id="bytes-are-text"
        ),
    ],
)
def test_file_without_image_bytes_is_refused(
    columns: dict[str, Any], found: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match=f"needs a column 'image'.*, found {found}"):
        _load(tmp_path)


def test_file_without_rows_is_refused(tmp_path: Path, write_parquet: Callable[..., None]) -> None:
    write_parquet(tmp_path / "train.parquet", [], [])
    with pytest.raises(ConfigError, match=r"train\.parquet holds no images"):
        _load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="truncated"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: b"not an image", id="text"),
        pytest.param(lambda data: data[:60] + bytes([data[60] ^ 255]) + data[61:], id="flipped"),
    ],
)
def test_damaged_image_is_refused_with_file_and_row(
    damage: Callable[[bytes], bytes],
    tmp_path: Path,
    make_png: Callable[..., bytes],
    write_parquet: Callable[..., None],
) -> None:
    images = [make_png(0), make_png(1), damage(make_png(2)), make_png(3)]
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 2, 0])
    with pytest.raises(ConfigError, match=r"train\.parquet: row 2 is not a readable image"):
        _load(tmp_path)


def test_image_that_claims_a_giant_size_is_refused(
    tmp_path: Path, write_parquet: Callable[..., None]
) -> None:
    header = b"GIF89a" + (60000).to_bytes(2, "little") * 2 + b"\x00\x00\x00"
    frame = b"\x2c" + bytes(4) + (60000).to_bytes(2, "little") * 2 + b"\x00\x02\x02\x4c\x01\x00;"
    write_parquet(tmp_path / "train.parquet", [header + frame], [0])
    with pytest.raises(ConfigError, match="row 0 is not a readable image: Image size"):
        _load(tmp_path)


def test_image_that_is_null_is_refused_with_its_row(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> None:
    write_parquet(tmp_path / "train.parquet", [make_png(0), None], [0, 1])
    with pytest.raises(ConfigError, match="row 1 holds no image bytes"):
        _load(tmp_path)


def test_different_sizes_without_a_size_are_refused(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> None:
    write_parquet(tmp_path / "train.parquet", [make_png(0), make_png(1, 9, 9)], [0, 1])
    with pytest.raises(ConfigError, match=r"different sizes; set task\.image_size"):
        _load(tmp_path)


def test_advice_on_sizes_is_for_tasks_only(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> None:
    write_parquet(tmp_path / "train.parquet", [make_png(0), make_png(1, 9, 9)], [0, 1])
    with pytest.raises(ConfigError, match=r"different sizes; images of one size are needed$"):
        load_dataset(f"parquet:{tmp_path}", color=False, size=None, key="--dataset")


def test_test_set_of_another_size_is_refused(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> None:
    write_parquet(tmp_path / "train.parquet", [make_png(0)], [0])
    write_parquet(tmp_path / "test.parquet", [make_png(1, 9, 9)], [0])
    with pytest.raises(ConfigError, match=r"\(1, 9, 9\).*\(1, 8, 8\); set task\.image_size"):
        _load(tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param([0, None], "must hold integers, found int64 with 1 nulls", id="null"),
        pytest.param([0, -3], "labels start at 0, found -3", id="negative"),
    ],
)
def test_bad_label_is_refused(
    labels: list[int | None],
    message: str,
    tmp_path: Path,
    make_png: Callable[..., bytes],
    write_parquet: Callable[..., None],
) -> None:
    write_parquet(tmp_path / "train.parquet", [make_png(0), make_png(1)], labels)
    with pytest.raises(ConfigError, match=message):
        _load(tmp_path)


@pytest.mark.parametrize("labels", [["ant"], [0.0]], ids=["text", "float"])
def test_labels_of_another_type_are_refused(
    labels: list[Any], tmp_path: Path, make_png: Callable[..., bytes]
) -> None:
    images = [{"bytes": make_png(0)}]
    pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match=r"'label' must hold integers, found (string|double)"):
        _load(tmp_path)


@pytest.mark.parametrize("text", ["[ant", '{"a": 1}', "3"])
def test_damaged_class_names_are_refused(
    text: str, tmp_path: Path, make_png: Callable[..., bytes]
) -> None:
    table = pa.table({"image": [{"bytes": make_png(0)}], "label": [0]})
    table = table.replace_schema_metadata({"class_names": text})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match="class_names is not a JSON list"):
        _load(tmp_path)
