"""Folders of ``save_to_disk``: splits, shards, columns and damage."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from simreg_core.config.trial import TaskConfig
from simreg_core.data import image_tables
from simreg_core.data.images import ImagePool
from simreg_core.data.registry import load_dataset
from simreg_core.data.summary import describe_data
from simreg_core.data.task import load_task
from simreg_core.errors import ConfigError
from tests.core_tests.data.saved_files import IMAGE, list_splits, save_dataset
from tests.core_tests.measuring import assert_labelled_alike

Save = Callable[..., Path]
NAMES = ["apple", "bee", "cup"]


@pytest.fixture
def save(tmp_path: Path, make_png: Callable[..., bytes]) -> Save:
    """Saves numbered images with the labels 0, 1, 2, 0, ... as a dataset in a folder."""

    def make(
        place: str, numbers: range, labels: tuple[str, ...] = ("label",), **options: Any
    ) -> Path:
        columns = {
            label: [n // divisor % 3 for n in numbers] for divisor, label in enumerate(labels, 1)
        }
        names = {label: [f"{label} {name}" for name in NAMES] for label in labels}
        images = [make_png(n) for n in numbers]
        save_dataset(tmp_path / "set" / place, images, columns, names, **options)
        return tmp_path / "set"

    return make


def _load(root: Path, **request: Any) -> ImagePool:
    return load_dataset(f"arrow:{root}", **{"color": False, "size": None, "key": "k", **request})


def _assert_numbered(pool: ImagePool, numbers: range, make_png: Callable[..., bytes]) -> None:
    for image, number in zip(pool.images, numbers, strict=True):
        expected = np.array(Image.open(io.BytesIO(make_png(number))))
        np.testing.assert_array_equal(image[0].numpy(), expected)
    assert pool.labels is not None
    assert pool.labels.tolist() == [n % 3 for n in numbers]


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("image", ["img", "image"])
def test_dataset_without_splits_is_a_training_set(
    image: str, num_shards: int, save: Save, make_png: Callable[..., bytes]
) -> None:
    pool = _load(save("", range(11), image=image, num_shards=num_shards))
    _assert_numbered(pool, range(11), make_png)
    assert pool.test is None
    assert pool.num_classes == 3
    assert pool.info.class_names == ("label apple", "label bee", "label cup")


@pytest.mark.parametrize("is_listed", [True, False], ids=["DatasetDict", "folders"])
def test_splits_are_the_folders_of_their_names(
    is_listed: bool, save: Save, make_png: Callable[..., bytes]
) -> None:
    splits = {"train": range(7), "validation": range(7, 12), "test": range(12, 15)}
    for name, numbers in splits.items():
        root = save(name, numbers)
    save("unsupervised", range(20, 22))
    if is_listed:
        list_splits(root, *splits, "unsupervised")
    pool = _load(root)
    _assert_numbered(pool, splits["train"], make_png)
    assert pool.info.left_out == "3 files: 3 in unsupervised, next to the splits"
    data = load_task(TaskConfig(dataset=f"arrow:{root}", image_size=8))
    assert [len(data.split(name).labels) for name in splits] == [7, 5, 3]
    assert "label apple 3" in describe_data(data)["train"]


def test_fine_labels_are_chosen_and_named(save: Save) -> None:
    pool = _load(save("", range(6), labels=("fine_label", "coarse_label")))
    assert pool.info.label_column == "column fine_label (not coarse_label)"
    assert pool.info.class_names[0] == "fine_label apple"


@pytest.mark.parametrize("path", ["9.png", None])
def test_image_without_bytes_is_refused(path: str | None, save: Save) -> None:
    root = save("", range(3))
    table = pa.table({"img": pa.array([{"bytes": None, "path": path}], IMAGE)})
    with pa.ipc.new_stream(str(root / "data-00000-of-00001.arrow"), table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(ConfigError, match=rf"arrow: row 0 .*bytes{'.*9.png' if path else '$'}"):
        _load(root)


def _change_state(root: Path, files: object) -> None:
    (root / "train" / "state.json").write_text(json.dumps({"_data_files": files}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: list_splits(root, "train", "val"), r"set/val/state\.json cannot be read"),
        (lambda root: list_splits(root, "val"), r"set holds no training set .*found: val\)"),
        (lambda root: list_splits(root), r"dataset_dict\.json is not of save_to_disk"),
        (lambda root: _change_state(root, []), r"train/state\.json is not of save_to_disk"),
        (lambda root: _change_state(root, ["a"]), r"train/state\.json is not of save_to_disk"),
        (lambda root: _change_state(root, [{"filename": "b"}]), "set/train/b cannot be read"),
        (lambda root: _change_state(root, [{"filename": "../b"}]), r"_data_files: .*'\.\./b'$"),
        (lambda root: _change_state(root, [{"filename": ".."}]), r"_data_files: .*'\.\.'$"),
        (lambda root: list_splits(root, "train", "/test"), r"dict\.json: splits: .*'/test'$"),
        (lambda root: (root / "train" / "state.json").write_text("{"), r"state\.json is not of"),
        (lambda root: (root / "train").rename(root / "x"), r"set holds no training set"),
        (lambda root: save_dataset(root / "training", [], {}, {}), "both named like a train set"),
    ],
)
def test_incomplete_folder_is_refused(
    damage: Callable[[Path], object], message: str, save: Save
) -> None:
    root = save("train", range(3))
    damage(root)
    with pytest.raises(ConfigError, match=rf"^k: .*{message}") as caught:
        _load(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_truncated_stream_is_refused(share: float, save: Save) -> None:
    path = save("", range(9)) / "data-00000-of-00001.arrow"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConfigError, match=r"00001\.arrow is not a readable Arrow stream"):
        _load(path.parent)


def test_other_readers_name_this_one(save: Save) -> None:
    root = save("", range(3))
    with pytest.raises(ConfigError, match="arrow:PATH"):
        load_dataset(f"parquet:{root}", color=False, size=None, key="k")


def test_drawn_images_are_those_of_the_whole(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_tables, "_ROWS_AT_ONCE", 7)
    root = save("", range(250), num_shards=2)
    whole, part = _load(root), _load(root, limit=20, seed=3)
    assert_labelled_alike(part, whole)
    assert torch.equal(_load(root, limit=5, seed=3).images, part.images[:5])
