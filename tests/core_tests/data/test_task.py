from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from simreg_core.config.trial import TaskConfig, TrialConfig
from simreg_core.data.images import ImagePool, Split
from simreg_core.data.registry import load_dataset
from simreg_core.data.task import (
    RegularizationImages,
    TaskData,
    load_regularization_images,
    load_task,
)
from simreg_core.errors import ConfigError
from tests.core_tests.measuring import assert_labelled_alike

MakeDataset = Callable[..., Path]
MakePng = Callable[..., bytes]


def _load(folder: Path) -> ImagePool:
    return load_dataset(f"parquet:{folder}", color=False, size=None, key="task.dataset")


def _contents(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


# Splits


@pytest.fixture
def task(make_dataset: MakeDataset) -> TaskConfig:
    return TaskConfig(
        dataset=f"parquet:{make_dataset()}", num_train=20, num_validation=8, num_test=6
    )


def test_splits_have_the_asked_sizes_keep_their_labels_and_share_no_image(task: TaskConfig) -> None:
    splits = load_task(task)[:3]
    contents = [_contents(split.images) for split in splits]
    assert [len(content) for content in contents] == [20, 8, 6]
    assert len(set().union(*contents)) == 34
    pool = load_dataset(task.dataset, color=False, size=None, key="task.dataset")
    for split, size in zip(splits, (20, 8, 6), strict=True):
        assert isinstance(split, Split)
        assert len(split.labels) == size
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)
        assert_labelled_alike(split, pool)


def test_smaller_training_set_is_measured_on_the_same_images(task: TaskConfig) -> None:
    large, small = load_task(task), load_task(task.model_copy(update={"num_train": 5}))
    assert torch.equal(small.validation.images, large.validation.images)
    assert torch.equal(small.test.images, large.test.images)
    assert _contents(small.train.images) < _contents(large.train.images)


def test_own_test_set_is_used_whole_and_a_tenth_of_the_rest_validates(
    make_dataset: MakeDataset,
) -> None:
    folder = make_dataset(num_train=40, num_test=10)
    pool = _load(folder)
    assert pool.test is not None
    data = load_task(TaskConfig(dataset=f"parquet:{folder}"))
    assert [len(split.labels) for split in data[:3]] == [36, 4, 10]
    assert torch.equal(data.test.images, pool.test.images)
    part = load_task(TaskConfig(dataset=f"parquet:{folder}", num_test=4)).test.images
    assert len(_contents(part)) == 4
    assert _contents(part) < _contents(pool.test.images)
    with pytest.raises(ConfigError, match=r"task\.num_test: 11 asked .* has 10 images"):
        load_task(TaskConfig(dataset=f"parquet:{folder}", num_test=11))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train": 27}, "27 training and 8 validation .* 34 left"),
        ({"num_validation": 15}, "20 training and 15 validation .* 34 left"),
        ({"num_test": 20}, "20 training and 8 validation .* 20 left"),
        ({"num_test": 38}, r"task\.num_test: 38 .* 40"),
        ({"num_test": None}, r"task\.num_test: .*no test set"),
        ({"num_train": None, "num_validation": 33}, "2 training and 33 validation"),
    ],
)
def test_too_few_images_are_refused(
    changes: dict[str, int | None], message: str, task: TaskConfig
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(task.model_copy(update=changes))


def test_fingerprint_follows_content_and_split_seed(
    task: TaskConfig, make_dataset: MakeDataset
) -> None:
    data, seeded = load_task(task), load_task(task.model_copy(update={"split_seed": 1}))
    copied, other = (
        load_task(task.model_copy(update={"dataset": f"parquet:{folder}"}))
        for folder in (make_dataset("b"), make_dataset("c", first=1))
    )
    assert copied.fingerprint == data.fingerprint
    assert len({found.fingerprint for found in (data, seeded, other)}) == 3
    assert _contents(seeded.test.images) != _contents(data.test.images)


def test_data_moves_to_a_device_whole(tiny_data: TaskData) -> None:
    moved = tiny_data.to(torch.device("meta"))
    assert {t.device.type for split in moved[:3] for t in split} == {"meta"}
    assert moved.fingerprint == tiny_data.fingerprint


# Regularization images


def _load_images(task: TaskConfig, dataset: str, num: int, data: TaskData) -> RegularizationImages:
    regularizer = {"dataset": dataset, "num_images": num}
    config = TrialConfig.from_dict({"task": task.model_dump(), "regularizer": regularizer})
    return load_regularization_images(config.regularizer, config.task, data)


@pytest.mark.parametrize("by_name", [False, True], ids=["task", "name-of-the-dataset"])
def test_tasks_own_images_come_from_the_training_split_only(
    by_name: bool, task: TaskConfig
) -> None:
    data = load_task(task)
    found = _load_images(task, task.dataset if by_name else "task", 20, data)
    assert _contents(found.images) == _contents(data.train.images)


def test_regularization_images_take_size_and_channels_of_the_task(
    make_dataset: MakeDataset,
) -> None:
    task = TaskConfig(dataset=f"parquet:{make_dataset(color=True)}", color=True, num_test=6)
    other = make_dataset("other", side=13, first=500)
    images = _load_images(task, f"parquet:{other}", 12, load_task(task)).images
    assert (images.shape, images.dtype) == ((12, 3, 8, 8), torch.uint8)


@pytest.mark.parametrize(("is_own", "has"), [(True, 20), (False, 15)])
def test_more_regularization_images_than_there_are_is_refused(
    is_own: bool, has: int, task: TaskConfig, make_dataset: MakeDataset
) -> None:
    name = f"parquet:{make_dataset(num_train=15, first=500, name='o')}"
    with pytest.raises(ConfigError, match=f"num_images: 21 asked, .* has {has} images"):
        _load_images(task, "task" if is_own else name, 21, load_task(task))


@pytest.fixture
def folders(tmp_path: Path, make_png: MakePng) -> Path:
    """Class folders below ``train`` and ``test``; every image once."""
    for number in range(40):
        split = "test" if number >= 30 else "train"
        path = tmp_path / "set" / split / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_png(number))
    return tmp_path / "set"


def test_held_out_images_are_left_out_under_any_name(folders: Path) -> None:
    task = TaskConfig(dataset=f"folder:{folders}", num_validation=6)
    data = load_task(task)
    found = _load_images(task, f"folder:{folders / 'train'}", 24, data)
    assert _contents(found.images) == _contents(data.train.images)
    assert_labelled_alike(found, data.train)
    first = _load_images(task, f"folder:{folders / 'train'}", 9, data).images
    assert torch.equal(first, found.images[:9])


@pytest.mark.parametrize(("part", "asked", "left"), [("train", 25, 24), ("test", 2, 0)])
def test_too_few_images_beside_the_held_out_ones_are_refused(
    part: str, asked: int, left: int, folders: Path
) -> None:
    task = TaskConfig(dataset=f"folder:{folders}", num_validation=6)
    data = load_task(task)
    with pytest.raises(ConfigError, match=rf"^regularizer\.num_images: {asked} .* leaves {left}$"):
        _load_images(task, f"folder:{folders / part}", asked, data)


def test_oblong_held_out_images_are_left_out(make_png: MakePng, write_images: MakeDataset) -> None:
    images = {number: make_png(number, 12, 8) for number in range(20)}
    folder = write_images([number % 2 for number in range(20)], images=images)
    (folder / "link").mkdir()
    (folder / "link" / "train.parquet").symlink_to(folder / "train.parquet")
    data = load_task(task := TaskConfig(dataset=f"parquet:{folder}", num_test=4, num_validation=4))
    with pytest.raises(ConfigError, match=r"leaves 12$"):
        _load_images(task, f"parquet:{folder / 'link'}", 13, data)


def test_without_held_out_images_the_draw_is_the_datasets(
    task: TaskConfig, make_dataset: MakeDataset
) -> None:
    data = load_task(task)
    name = f"parquet:{make_dataset('other', num_train=30, first=500)}"
    drawn = load_dataset(name, color=False, size=8, key="k", limit=12, seed=task.split_seed).images
    found = _load_images(task, name, 12, data)
    assert torch.equal(found.images, drawn)


@pytest.mark.parametrize("own", ["task", "folder", "parquet", "natural", "digits"])
def test_rows_are_the_stored_positions_of_the_images(
    own: str, folders: Path, make_dataset: MakeDataset
) -> None:
    task = TaskConfig(dataset=f"folder:{folders}", num_validation=6, image_size=8)
    paths = {"folder": folders / "train", "parquet": make_dataset("other", num_train=30, first=20)}
    name = f"{own}:{paths[own]}" if own in paths else own
    found = _load_images(task, name, 18, load_task(task))
    stored = load_dataset(task.dataset if own == "task" else name, color=False, size=8, key="k")
    assert found.rows is not None
    assert torch.equal(stored.images[found.rows], found.images)
    assert found.num_stored == len(stored.images)
    part = found.take(torch.tensor([3, 1]))
    assert torch.equal(stored.images[part.rows], part.images)


# Labels


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([1] * 8, None, "label 1$"),
        ([0, 2**46] * 4, None, "found 70368744177664.* label 1$"),
        ([1, 2] * 4, None, "found 2.* label 0$"),
        ([0, 1] * 4, [0, 2], "label 2,"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(
    train: list[int], test: list[int] | None, message: str, write_images: MakeDataset
) -> None:
    folder = write_images(train)
    if test is not None:
        write_images(test, "test")
    with pytest.raises(ConfigError, match=rf"^task\.dataset: .*{message}"):
        load_task(TaskConfig(dataset=f"parquet:{folder}", num_test=2))


@pytest.mark.parametrize("without", ["train", "test"])
def test_task_without_labels_is_refused(without: str, write_images: MakeDataset) -> None:
    for name in ("train", "test"):
        folder = write_images(None if name == without else [0, 1], name, num=2)
    with pytest.raises(ConfigError, match=rf"no labels: .*{without}\.parquet .*found: .*allowed: "):
        load_task(TaskConfig(dataset=f"parquet:{folder}"))


def test_regularization_images_carry_their_labels_if_they_have_some(
    task: TaskConfig, make_dataset: MakeDataset, write_images: MakeDataset
) -> None:
    data = load_task(task)
    own = _load_images(task, "task", 7, data)
    assert own.labels is not None
    assert own.labels.tolist() == data.train.labels[:7].tolist()
    folder = make_dataset("other", num_train=30, first=500)
    assert_labelled_alike(_load_images(task, f"parquet:{folder}", 7, data), _load(folder))
    without = _load_images(task, f"parquet:{write_images(None, num=20)}", 6, data)
    assert (len(without.images), without.labels) == (6, None)


def test_another_name_of_the_tasks_files_gives_its_training_images(
    folders: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folders)
    task = TaskConfig(dataset=f"folder:{folders}", num_validation=3)
    data = load_task(task)
    images = _load_images(task, f"imagenet:{tmp_path / 'link'}", 27, data).images
    assert _contents(images) == _contents(data.train.images)
