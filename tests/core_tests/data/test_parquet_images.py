from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from simreg_core.data.images import ImagePool
from simreg_core.data.registry import load_dataset
from simreg_core.errors import ConfigError

MakeDataset = Callable[..., Path]
WriteImages = Callable[..., Path]
MakePng = Callable[..., bytes]


def _load(folder: Path, key: str = "task.dataset") -> ImagePool:
    return load_dataset(f"parquet:{folder}", color=False, size=None, key=key)


def test_parquet_images_are_the_encoded_ones(make_dataset: MakeDataset, make_png: MakePng) -> None:
    pool = _load(make_dataset(num_train=5))
    for number, image in enumerate(pool.images):
        expected = np.array(Image.open(io.BytesIO(make_png(number))))
        np.testing.assert_array_equal(image[0].numpy(), expected)
    assert pool.labels is not None
    assert pool.labels.tolist() == [0, 1, 2, 0, 1]
    assert pool.num_classes == 3


def test_labels_of_the_test_set_count_as_classes(write_images: WriteImages) -> None:
    write_images([0, 1])
    assert _load(write_images([6], "test")).num_classes == 7


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--dataset: .*train\.parquet does not exist"):
        _load(tmp_path / "absent", "--dataset")


@pytest.mark.parametrize("name", ["train", "test"])
@pytest.mark.parametrize("share", [0.0, 0.99], ids=["empty", "without-its-end"])
def test_truncated_file_is_refused(share: float, name: str, make_dataset: MakeDataset) -> None:
    path = make_dataset(num_test=5) / f"{name}.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConfigError, match=rf"{name}\.parquet is not a readable Parquet file"):
        _load(path.parent)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"label": [0], "name": ["a"]}, "label, name"),
        ({"image": pa.array([], pa.struct([("bytes", pa.binary())]))}, "no images"),
        ({"image": ["a.png"]}, "string"),
        ({"image": [{"path": "a.png"}]}, "struct<path: string>"),
        ({"image": [{"bytes": "text"}]}, "struct<bytes: string>"),
        ({"image": [{"bytes": b"x"}], "label": ["ant"]}, "string"),
        ({"image": [{"bytes": b"x"}], "label": [0.0]}, "double"),
    ],
)
def test_columns_of_another_type_are_refused(
    columns: dict[str, Any], found: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(ConfigError, match=rf"train\.parquet.*{found}"):
        _load(tmp_path)


# A GIF that claims 60000 x 60000 pixels.
SIZE = (60000).to_bytes(2, "little") * 2
GIANT = b"GIF89a" + SIZE + bytes(3) + b"\x2c" + bytes(4) + SIZE + b"\x00\x02\x02\x4c\x01\x00;"


@pytest.mark.parametrize("damage", ["half", b"", b"not an image", "flip", GIANT, None])
def test_damaged_image_is_refused_with_file_and_row(
    damage: str | bytes | None, write_images: WriteImages, make_png: MakePng
) -> None:
    data = make_png(2)
    if damage == "half":
        damage = data[: len(data) // 2]
    elif damage == "flip":
        damage = data[:60] + bytes([data[60] ^ 255]) + data[61:]
    folder = write_images([0, 1, 2, 0], images={2: damage})
    with pytest.raises(ConfigError, match=r"train\.parquet: row 2 "):
        _load(folder)


@pytest.mark.parametrize("split", ["train", "test"])
def test_different_sizes_without_a_size_are_refused(
    split: str, write_images: WriteImages, make_png: MakePng
) -> None:
    write_images([0, 1])
    folder = write_images([0, 1], split, images={1: make_png(1, 9, 9)})
    if split == "test":
        folder = write_images([0, 1], split, images={n: make_png(n, 9, 9) for n in (0, 1)})
    row = rf"{split}\.parquet: row {int(split == 'train')}: 9 x 9 pixels instead of 8 x 8"
    with pytest.raises(ConfigError, match=rf"{row}.* task\.image_size"):
        _load(folder)


@pytest.mark.parametrize(("label", "found"), [(None, "1 row without a value"), (-3, "-3")])
def test_bad_label_is_refused(label: int | None, found: str, write_images: WriteImages) -> None:
    with pytest.raises(ConfigError, match=rf"label.*{found}"):
        _load(write_images([0, label]))
