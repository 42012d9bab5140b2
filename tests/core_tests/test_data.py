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
from torch import Tensor

from simreg_core.config import TaskConfig, TrialConfig
from simreg_core.config_io import ConfigError
from simreg_core.data import (
    ImagePool,
    Split,
    TaskData,
    load_dataset,
    load_regularization_images,
    load_task,
    resize,
)

MakeDataset = Callable[..., Path]


def _load(folder: Path, *, color: bool = False, size: int | None = None) -> ImagePool:
    return load_dataset(f"parquet:{folder}", color=color, size=size, key="task.dataset")


def _contents(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


# Splits


@pytest.fixture
def task(make_dataset: MakeDataset) -> TaskConfig:
    return TaskConfig(
        dataset=f"parquet:{make_dataset()}", num_train=20, num_validation=8, num_test=6
    )


def test_splits_have_the_asked_sizes(task: TaskConfig) -> None:
    data = load_task(task)
    sizes = [len(data.split(name).labels) for name in ("train", "validation", "test")]
    assert sizes == [20, 8, 6]
    assert [len(split.images) for split in data[:3]] == sizes


def test_splits_share_no_image(task: TaskConfig) -> None:
    data = load_task(task)
    train, validation, test = (_contents(split.images) for split in data[:3])
    assert (len(train), len(validation), len(test)) == (20, 8, 6)
    assert len(train | validation | test) == 34


def test_labels_stay_with_their_images(task: TaskConfig) -> None:
    pool = load_dataset(task.dataset, color=False, size=None, key="task.dataset")
    assert pool.labels is not None
    label_of = dict(zip([i.numpy().tobytes() for i in pool.images], pool.labels, strict=True))
    for split in load_task(task)[:3]:
        for image, label in zip(split.images, split.labels, strict=True):
            assert label_of[image.numpy().tobytes()] == label


def test_smaller_training_set_is_measured_on_the_same_images(task: TaskConfig) -> None:
    large, small = load_task(task), load_task(task.model_copy(update={"num_train": 5}))
    assert torch.equal(small.validation.images, large.validation.images)
    assert torch.equal(small.test.images, large.test.images)
    assert _contents(small.train.images) < _contents(large.train.images)


def test_splits_are_reproduced_from_the_seed(task: TaskConfig) -> None:
    assert load_task(task).fingerprint == load_task(task).fingerprint


def test_split_seed_changes_the_splits(task: TaskConfig) -> None:
    other = load_task(task.model_copy(update={"split_seed": 1}))
    assert _contents(other.test.images) != _contents(load_task(task).test.images)


def test_tenth_is_held_out_and_the_rest_trains_by_default(make_dataset: MakeDataset) -> None:
    folder = make_dataset(num_train=40, num_test=10)
    data = load_task(TaskConfig(dataset=f"parquet:{folder}"))
    assert [len(split.labels) for split in data[:3]] == [36, 4, 10]


def test_own_test_set_is_used_whole_and_in_order(make_dataset: MakeDataset) -> None:
    folder = make_dataset(num_train=40, num_test=10)
    pool = _load(folder)
    assert pool.test is not None
    data = load_task(TaskConfig(dataset=f"parquet:{folder}"))
    assert torch.equal(data.test.images, pool.test.images)


def test_part_of_the_own_test_set_is_drawn_from_it_alone(make_dataset: MakeDataset) -> None:
    folder = make_dataset(num_train=40, num_test=10)
    pool = _load(folder)
    assert pool.test is not None
    data = load_task(TaskConfig(dataset=f"parquet:{folder}", num_test=4))
    assert len(_contents(data.test.images)) == 4
    assert _contents(data.test.images) < _contents(pool.test.images)


def test_number_of_test_images_is_required_without_a_test_set(make_dataset: MakeDataset) -> None:
    with pytest.raises(ConfigError, match=r"task\.num_test: .* has no test set.*40 images"):
        load_task(TaskConfig(dataset=f"parquet:{make_dataset()}"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 27}, r"task\.num_train: 27 training and 8 validation .* 34 left"),
        ({"num_validation": 15}, r"20 training and 15 validation .* 34 left"),
        ({"num_test": 20}, r"20 training and 8 validation .* 20 left"),
        ({"num_test": 50}, r"20 training and 8 validation .* 0 left"),
        ({"num_train": None, "num_validation": 33}, r"1 training and 33 validation"),
    ],
    ids=["train", "validation", "test", "more-than-all", "one-training-image"],
)
def test_too_few_images_are_refused(
    changes: dict[str, int | None], message: str, task: TaskConfig
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(task.model_copy(update=changes))


def test_more_test_images_than_the_test_set_has_are_refused(make_dataset: MakeDataset) -> None:
    folder = make_dataset(num_train=40, num_test=10)
    with pytest.raises(ConfigError, match=r"task\.num_test: 11 asked .* has 10 images"):
        load_task(TaskConfig(dataset=f"parquet:{folder}", num_test=11))


def test_fingerprint_follows_the_content(make_dataset: MakeDataset) -> None:
    sizes = {"num_train": 20, "num_validation": 8, "num_test": 6}
    one, copy, other = (
        load_task(TaskConfig.model_validate({"dataset": f"parquet:{folder}", **sizes}))
        for folder in (make_dataset("a"), make_dataset("b"), make_dataset("c", first=1))
    )
    assert one.fingerprint == copy.fingerprint
    assert one.fingerprint != other.fingerprint


def test_data_moves_to_a_device_whole(tiny_data: TaskData) -> None:
    moved = tiny_data.to(torch.device("meta"))
    assert {t.device.type for split in moved[:3] for t in split} == {"meta"}
    assert moved.fingerprint == tiny_data.fingerprint


# Regularization images


def _regularized(task: TaskConfig, dataset: str, num_images: int) -> TrialConfig:
    return TrialConfig.from_dict(
        {
            "task": task.model_dump(),
            "regularizer": {"dataset": dataset, "num_images": num_images},
        }
    )


@pytest.mark.parametrize("by_name", [False, True], ids=["task", "name-of-the-dataset"])
def test_tasks_own_images_come_from_the_training_split_only(
    by_name: bool, task: TaskConfig
) -> None:
    data = load_task(task)
    config = _regularized(task, task.dataset if by_name else "task", 20)
    images = load_regularization_images(config, data.train)
    assert _contents(images) == _contents(data.train.images)
    assert not _contents(images) & _contents(data.validation.images)
    assert not _contents(images) & _contents(data.test.images)


def test_regularization_images_of_another_dataset(
    task: TaskConfig, make_dataset: MakeDataset
) -> None:
    other = make_dataset("other", num_train=30, first=500)
    config = _regularized(task, f"parquet:{other}", 12)
    images = load_regularization_images(config, load_task(task).train)
    assert len(_contents(images)) == 12
    assert _contents(images) < _contents(_load(other).images)


def test_regularization_images_take_size_and_channels_of_the_task(
    make_dataset: MakeDataset,
) -> None:
    task = TaskConfig(dataset=f"parquet:{make_dataset(color=True)}", color=True, num_test=6)
    other = make_dataset("other", side=13, first=500)
    config = _regularized(task, f"parquet:{other}", 12)
    images = load_regularization_images(config, load_task(task).train).images
    assert images.shape == (12, 3, 8, 8)
    assert images.dtype == torch.uint8


@pytest.mark.parametrize(("dataset", "has"), [("task", 20), ("other", 15)])
def test_more_regularization_images_than_there_are_is_refused(
    dataset: str, has: int, task: TaskConfig, make_dataset: MakeDataset
) -> None:
    name = f"parquet:{make_dataset(num_train=15, first=500, name='o')}"
    config = _regularized(task, "task" if dataset == "task" else name, 21)
    with pytest.raises(ConfigError, match=f"num_images: 21 asked, .* has {has} images"):
        load_regularization_images(config, load_task(task).train)


# Built-in datasets


@pytest.mark.parametrize("color", [False, True], ids=["grey", "color"])
def test_digits_are_as_scikit_learn_has_them(color: bool) -> None:
    from sklearn.datasets import load_digits

    pool = load_dataset("digits", color=color, size=None, key="task.dataset")
    original = load_digits()
    expected = torch.from_numpy(original.images / 16)[:, None]
    assert pool.images.shape == (1797, 3 if color else 1, 8, 8)
    assert pool.images.dtype == torch.uint8
    assert pool.images.to(torch.float64).sub(255 * expected).abs().max() <= 0.5
    assert pool.labels is not None
    assert pool.labels.tolist() == original.target.tolist()
    assert pool.num_classes == 10


def test_natural_images_are_patches_of_the_photographs() -> None:
    from sklearn.datasets import load_sample_images

    pool = load_dataset("natural", color=True, size=None, key="regularizer.dataset")
    assert pool.images.shape == (7700, 3, 32, 32)
    assert pool.labels is None
    photograph = torch.from_numpy(np.array(load_sample_images().images[0])).permute(2, 0, 1)
    assert torch.equal(pool.images[0], photograph[:, :32, :32])
    assert torch.equal(pool.images[1], photograph[:, :32, 8:40])


def test_grey_is_the_luma_of_color() -> None:
    color = load_dataset("natural", color=True, size=None, key="key").images[:50].to(torch.float64)
    grey = load_dataset("natural", color=False, size=None, key="key").images[:50]
    luma = 0.299 * color[:, 0] + 0.587 * color[:, 1] + 0.114 * color[:, 2]
    assert grey[:, 0].to(torch.float64).sub(luma).abs().max() <= 1


# Resizing


def test_resize_to_the_own_size_changes_nothing() -> None:
    images = torch.arange(2 * 16, dtype=torch.uint8).reshape(2, 1, 4, 4)
    assert torch.equal(resize(images, 4), images)
    assert torch.equal(resize(images, None), images)


def test_resize_crops_the_centre_square() -> None:
    images = torch.arange(4 * 8, dtype=torch.uint8).reshape(1, 1, 4, 8)
    assert torch.equal(resize(images, 4), images[..., 2:6])


@pytest.mark.parametrize("size", [4, 8, 20])
def test_resize_keeps_a_flat_image_flat(size: int) -> None:
    resized = resize(torch.full((1, 3, 8, 8), 77, dtype=torch.uint8), size)
    assert resized.shape == (1, 3, size, size)
    assert resized.dtype == torch.uint8
    assert bool((resized == 77).all())


def test_resize_to_double_interpolates_bilinearly() -> None:
    image = torch.tensor([[0, 100], [0, 100]], dtype=torch.uint8)[None, None]
    # Pixel centres of the large image lie at -1/4, 1/4, 3/4 and 5/4 of the small one.
    assert resize(image, 4)[0, 0, 0].tolist() == [0, 25, 75, 100]


def test_shrinking_sees_every_pixel() -> None:
    stripes = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    stripes[..., ::4] = 200
    # Without antialiasing each new pixel would read the two columns at its centre: black.
    inner = resize(stripes, 4)[..., 1:-1]
    assert inner.to(torch.float64).sub(200 / 4).abs().max() <= 20


# Parquet datasets


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
    "columns",
    [
        pytest.param({"label": [0]}, id="no-image-column"),
        pytest.param({"image": ["a.png"], "label": [0]}, id="paths"),
        pytest.param({"image": [{"path": "a.png"}], "label": [0]}, id="struct-without-bytes"),
        pytest.param({"image": _bytes_struct(pa.string()), "label": [0]}, id="bytes-are-text"),
    ],
)
def test_file_without_image_bytes_is_refused(columns: dict[str, Any], tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    names = ", ".join(columns)
    with pytest.raises(ConfigError, match=f"needs a column 'image'.*found columns: {names}"):
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


def test_test_set_of_another_size_is_refused(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> None:
    write_parquet(tmp_path / "train.parquet", [make_png(0)], [0])
    write_parquet(tmp_path / "test.parquet", [make_png(1, 9, 9)], [0])
    with pytest.raises(ConfigError, match=r"\(1, 9, 9\).*\(1, 8, 8\); set task\.image_size"):
        _load(tmp_path)


@pytest.mark.parametrize("without", ["train", "test"])
def test_task_without_labels_is_refused(
    without: str,
    tmp_path: Path,
    make_png: Callable[..., bytes],
    write_parquet: Callable[..., None],
) -> None:
    for number, name in enumerate(("train", "test")):
        images = [make_png(10 * number), make_png(10 * number + 1)]
        write_parquet(tmp_path / f"{name}.parquet", images, None if name == without else [0, 1])
    with pytest.raises(ConfigError, match=r"task\.dataset: parquet:.* has no labels"):
        load_task(TaskConfig(dataset=f"parquet:{tmp_path}"))


def test_images_without_labels_can_regularize(
    task: TaskConfig,
    tmp_path: Path,
    make_png: Callable[..., bytes],
    write_parquet: Callable[..., None],
) -> None:
    images = [make_png(500 + number) for number in range(6)]
    write_parquet(tmp_path / "unlabelled" / "train.parquet", images, None)
    config = _regularized(task, f"parquet:{tmp_path / 'unlabelled'}", 6)
    assert len(load_regularization_images(config, load_task(task).train)) == 6


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


def test_split_has_images_and_labels_of_the_documented_types(task: TaskConfig) -> None:
    for split in load_task(task)[:3]:
        assert isinstance(split, Split)
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
