from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from simreg_core.config.trial import TaskConfig, TrialConfig
from simreg_core.data.images import ImagePool, Split
from simreg_core.data.registry import load_dataset
from simreg_core.data.task import TaskData, load_regularization_images, load_task
from simreg_core.errors import ConfigError

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
        ({"num_test": 38}, r"task\.num_test: 38 asked of parquet:.*, which has 40 images in all"),
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
    images = load_regularization_images(config, data.train, ()).images
    assert _contents(images) == _contents(data.train.images)
    assert not _contents(images) & _contents(data.validation.images)
    assert not _contents(images) & _contents(data.test.images)


def test_regularization_images_of_another_dataset(
    task: TaskConfig, make_dataset: MakeDataset
) -> None:
    other = make_dataset("other", num_train=30, first=500)
    config = _regularized(task, f"parquet:{other}", 12)
    images = load_regularization_images(config, load_task(task).train, ()).images
    assert len(_contents(images)) == 12
    assert _contents(images) < _contents(_load(other).images)


def test_regularization_images_take_size_and_channels_of_the_task(
    make_dataset: MakeDataset,
) -> None:
    task = TaskConfig(dataset=f"parquet:{make_dataset(color=True)}", color=True, num_test=6)
    other = make_dataset("other", side=13, first=500)
    config = _regularized(task, f"parquet:{other}", 12)
    images = load_regularization_images(config, load_task(task).train, ()).images
    assert images.shape == (12, 3, 8, 8)
    assert images.dtype == torch.uint8


@pytest.mark.parametrize(("dataset", "has"), [("task", 20), ("other", 15)])
def test_more_regularization_images_than_there_are_is_refused(
    dataset: str, has: int, task: TaskConfig, make_dataset: MakeDataset
) -> None:
    name = f"parquet:{make_dataset(num_train=15, first=500, name='o')}"
    config = _regularized(task, "task" if dataset == "task" else name, 21)
    with pytest.raises(ConfigError, match=f"num_images: 21 asked, .* has {has} images"):
        load_regularization_images(config, load_task(task).train, ())


@pytest.fixture
def folders(tmp_path: Path, make_png: Callable[..., bytes]) -> Path:
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
    held_out = (data.validation, data.test)
    config = _regularized(task, f"folder:{folders / 'train'}", 24)
    found = load_regularization_images(config, data.train, held_out)
    assert _contents(found.images) == _contents(data.train.images)
    label_of = dict(
        zip([i.numpy().tobytes() for i in data.train.images], data.train.labels, strict=True)
    )
    assert found.labels is not None
    for image, label in zip(found.images, found.labels, strict=True):
        assert label_of[image.numpy().tobytes()] == label
    fewer = _regularized(task, f"folder:{folders / 'train'}", 9)
    first = load_regularization_images(fewer, data.train, held_out).images
    assert torch.equal(first, found.images[:9])


@pytest.mark.parametrize(
    ("part", "asked", "message"),
    [
        ("train", 25, "25 asked, but of the 30 images .* 6 are validation .* leaves 24$"),
        ("test", 2, "2 asked, but of the 10 images .* 10 are validation .* leaves 0$"),
    ],
)
def test_too_few_images_beside_the_held_out_ones_are_refused(
    part: str, asked: int, message: str, folders: Path
) -> None:
    task = TaskConfig(dataset=f"folder:{folders}", num_validation=6)
    data = load_task(task)
    config = _regularized(task, f"folder:{folders / part}", asked)
    with pytest.raises(ConfigError, match=rf"^regularizer\.num_images: {message}"):
        load_regularization_images(config, data.train, (data.validation, data.test))


def test_oblong_held_out_images_are_left_out(
    make_png: Callable[..., bytes], write_parquet: Callable[..., None], tmp_path: Path
) -> None:
    images = [make_png(number, 12, 8) for number in range(20)]
    write_parquet(tmp_path / "train.parquet", images, [number % 2 for number in range(20)])
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "train.parquet").symlink_to(tmp_path / "train.parquet")
    task = TaskConfig(dataset=f"parquet:{tmp_path}", num_test=4, num_validation=4)
    data = load_task(task)
    config = _regularized(task, f"parquet:{tmp_path / 'link'}", 13)
    with pytest.raises(ConfigError, match=r"8 are validation or test .* leaves 12$"):
        load_regularization_images(config, data.train, (data.validation, data.test))


def test_without_held_out_images_the_draw_is_the_datasets(
    task: TaskConfig, make_dataset: MakeDataset
) -> None:
    data = load_task(task)
    name = f"parquet:{make_dataset('other', num_train=30, first=500)}"
    drawn = load_dataset(name, color=False, size=8, key="k", limit=12, seed=task.split_seed).images
    found = load_regularization_images(
        _regularized(task, name, 12), data.train, (data.validation, data.test)
    ).images
    assert torch.equal(found, drawn)


# Labels


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([1] * 8, None, r"parquet:.*: all training images have label 1$"),
        (
            [0, 1000000] * 4,
            None,
            r"2 labels, which must be 0 to 1; found 1000000, but no image with label 1$",
        ),
        ([0, 2**46] * 4, None, "found 70368744177664, but no image with label 1$"),
        ([1, 2] * 4, None, "found 2, but no image with label 0$"),
        (
            [0, 1] * 4,
            [0, 2],
            "test set has images with label 2, the training images have labels 0 to 1 only$",
        ),
    ],
    ids=["one-class", "gap", "huge", "from-1", "test-only"],
)
def test_labels_that_cannot_be_learned_are_refused(
    train: list[int],
    test: list[int] | None,
    message: str,
    tmp_path: Path,
    make_png: Callable[..., bytes],
    write_parquet: Callable[..., None],
) -> None:
    for name, labels in (("train", train), ("test", test)):
        if labels is not None:
            images = [make_png(number) for number in range(len(labels))]
            write_parquet(tmp_path / f"{name}.parquet", images, labels)
    with pytest.raises(ConfigError, match=rf"^task\.dataset: .*{message}"):
        load_task(TaskConfig(dataset=f"parquet:{tmp_path}", num_test=2))


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
    found = load_regularization_images(config, load_task(task).train, ())
    assert (len(found.images), found.labels) == (6, None)


def test_split_has_images_and_labels_of_the_documented_types(task: TaskConfig) -> None:
    for split in load_task(task)[:3]:
        assert isinstance(split, Split)
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64


def test_regularization_images_carry_their_labels(
    task: TaskConfig, make_dataset: MakeDataset
) -> None:
    data = load_task(task)
    own = load_regularization_images(_regularized(task, "task", 7), data.train, ())
    assert own.labels is not None
    assert own.labels.tolist() == data.train.labels[:7].tolist()
    folder = make_dataset("other", num_train=30, first=500)
    other = load_regularization_images(_regularized(task, f"parquet:{folder}", 7), data.train, ())
    pool = _load(folder)
    assert pool.labels is not None
    assert other.labels is not None
    label_of = dict(zip([i.numpy().tobytes() for i in pool.images], pool.labels, strict=True))
    for image, label in zip(other.images, other.labels, strict=True):
        assert label_of[image.numpy().tobytes()] == label


def test_fewer_regularization_images_are_the_first_of_more(
    task: TaskConfig, make_dataset: MakeDataset
) -> None:
    name = f"parquet:{make_dataset('other', num_train=30, first=500)}"
    train = load_task(task).train
    few, many = (
        load_regularization_images(_regularized(task, name, n), train, ()) for n in (5, 12)
    )
    assert torch.equal(few.images, many.images[:5])


def test_another_name_of_the_tasks_files_gives_its_training_images(
    tmp_path: Path, make_png: Callable[..., bytes]
) -> None:
    for number in range(12):
        path = tmp_path / "set" / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_png(number))
    (tmp_path / "link").symlink_to(tmp_path / "set")
    task = TaskConfig(dataset=f"folder:{tmp_path / 'set'}", num_validation=3, num_test=3)
    data = load_task(task)
    config = _regularized(task, f"imagenet:{tmp_path / 'link'}", 6)
    images = load_regularization_images(config, data.train, ()).images
    assert _contents(images) == _contents(data.train.images)
