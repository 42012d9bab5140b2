"""Which folders are splits, which are classes, and which files are read."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simreg_core.config.trial import TaskConfig
from simreg_core.data.images import ImagePool
from simreg_core.data.registry import load_dataset
from simreg_core.data.split_names import split_of
from simreg_core.data.task import load_task
from simreg_core.errors import ConfigError

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, make_png: Callable[..., bytes]) -> Make:
    """Writes images, each of another content, to these paths of the dataset."""
    numbers = itertools.count()

    def write(*paths: str, below: str = "set") -> Path:
        for path in paths:
            file = tmp_path / below / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(make_png(next(numbers)))
        return tmp_path / below

    return write


def _load(root: Path, **request: int) -> ImagePool:
    return load_dataset(f"folder:{root}", color=False, size=None, key="task.dataset", **request)


def _refused(root: Path) -> str:
    with pytest.raises(ConfigError, match=r"^task\.dataset: ") as caught:
        _load(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Splits


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("Train", "Test"),
        ("training_set", "test_set"),
        ("Train_Set", "VALIDATION"),
        ("TRAIN", "dev"),
        ("train-images", "test-images"),
        ("trainset", "valset"),
        ("train data", "valid data"),
        ("images_train", "images_val"),
        ("train2017", "val2017"),
        ("train_64x64", "valid_64x64"),
        ("seg_train", "seg_test"),
        ("birdsTrain", "birdsEval"),
    ],
)
def test_folders_of_usual_names_are_splits(train: str, test: str, make: Make) -> None:
    root = make(f"{train}/cat/1.png", f"{train}/dog/2.png", f"{test}/dog/3.png")
    pool = _load(root)
    assert pool.info.class_names == ("cat", "dog")
    assert pool.labels is not None
    assert pool.labels.tolist() == [0, 1]
    assert pool.test is not None
    assert pool.test.labels.tolist() == [1]
    assert pool.validation is None


@pytest.mark.parametrize(
    "name",
    ["contest", "bullet train", "latest", "trainer", "evaluated", "a", "valve", "tests of x"],
)
def test_other_names_are_not_those_of_splits(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize("name", ["valid", "Validation", "val", "dev_set"])
def test_validation_folder_is_the_validation_split(name: str, make: Make) -> None:
    paths = [f"{split}/{c}/{n}.png" for split in ("train", "test") for c in "ab" for n in range(4)]
    pool = _load(make(*paths, f"{name}/b/1.png", f"{name}/a/2.png", f"{name}/a/3.png"))
    assert pool.validation is not None
    assert pool.validation.labels.tolist() == [0, 0, 1]
    task = TaskConfig(dataset=f"folder:{make()}", image_size=8)
    data = load_task(task)
    assert data.validation.images.equal(pool.validation.images)
    assert len(data.train.labels) == len(data.test.labels) == 8
    part = load_task(task.model_copy(update={"num_validation": 2, "num_train": 5}))
    assert (len(part.validation.labels), len(part.train.labels)) == (2, 5)
    with pytest.raises(ConfigError, match=r"^task\.num_validation: 4 asked .* 3 images"):
        load_task(task.model_copy(update={"num_validation": 4}))


def test_folder_inside_a_folder_of_its_name_is_the_same_split(make: Make) -> None:
    root = make("train/train/cat/1.png", "train/train/dog/2.png", "test/Test/cat/3.png")
    pool = _load(root)
    assert pool.info.class_names == ("cat", "dog")
    assert pool.test is not None


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        ("cat/1.png dog/2.png test/3.png", "set/test is named like a split"),
        ("bus/1.png car/2.png train/3.png", "set/train is named like a split"),
        ("testing/cat/1.png validation/cat/2.png", "is named like a split"),
        ("train/cat/1.png train/dog/2.png train/Test_Set/3.png", "set/train/Test_Set is named"),
        ("train/a/1.png Training/a/2.png", "both named like a train set"),
        ("first/cat/1.png first/dog/2.png second/cat/3.png", r"set/first holds only folders"),
        (
            "fold1/cat/1.png fold2/cat/2.png",
            r"folders \(cat\).* fold1 is a split and must be",
        ),
        ("cat/train/1.png cat/test/1.png dog/train/2.png dog/test/3.png", "set/cat holds only"),
        ("train/x/cat/1.png train/x/dog/2.png", "set/train/x holds only folders"),
    ],
)
def test_split_that_would_be_a_class_is_refused(paths: str, named: str, make: Make) -> None:
    with pytest.raises(ConfigError, match=named):
        _load(make(*paths.split()))


def test_folders_next_to_the_splits_are_counted(make: Make) -> None:
    root = make("train/a/1.png", "train/b/2.png", "unlabelled/3.png", "unlabelled/x/4.png", "5.png")
    assert _load(root).info.left_out == (
        "3 files: 2 in unlabelled, next to the splits, 1 outside of class folders"
    )


# Files


@pytest.mark.parametrize(
    "suffix",
    "jfif jpe jpg jpeg JFIF JPG png PNG tif TIFF webp bmp gif ppm pgm pnm avif jp2 tga".split(),
)
def test_usual_suffixes_are_read(suffix: str, make: Make) -> None:
    root = make("a/1.png")
    (root / "a" / "1.png").rename(root / "a" / f"1.{suffix}")
    assert len(_load(root).images) == 1
    assert _load(root).info.left_out == ""


LITTER = (
    *("@eaDir/1.png/SYNOFILE_THUMB_M.png", "__MACOSX/._1.png", "lost+found/1.png", ".1.png"),
    *(".thumbnails/1.png", "#recycle/1.png", "$RECYCLE.BIN/1.png", "Lost+Found/1.png"),
)


@pytest.mark.parametrize("place", ["", "train/", "train/a/", "train/a/deep/"])
@pytest.mark.parametrize("litter", LITTER)
def test_litter_is_no_image_and_no_class(litter: str, place: str, make: Make) -> None:
    root = make("train/a/1.png", "train/a/deep/2.png", "train/b/3.png", place + litter)
    pool = _load(root)
    assert pool.info.class_names == ("a", "b")
    assert len(pool.images) == 3
    assert pool.info.left_out.startswith("1 file: 1 ")


def test_files_left_out_are_counted_by_their_kind(make: Make) -> None:
    root = make("a/1.png", "b/2.png", "a/@eaDir/1.png", "a/.x.png", "b/.y/z.png")
    for name in ("Thumbs.db", "notes.txt", "more.TXT", "labels", "x.heic"):
        (root / "a" / name).touch()
    expected = "8 files: 2 *.txt, 2 hidden, 1 *.db, 1 *.heic, 2 other"
    assert _load(root).info.left_out == expected


# Links


@pytest.fixture
def linked(make: Make) -> Iterator[Path]:
    root = make("cat/1.png", "dog/2.png")
    make("3.png", "deep/4.png", below="elsewhere")
    (root / "cat" / "part").symlink_to(root.parent / "elsewhere")
    yield root
    assert len(os.listdir(root)) == 2


def test_links_to_folders_and_files_are_followed(linked: Path) -> None:
    (linked / "dog" / "5.png").symlink_to(linked.parent / "elsewhere" / "3.png")
    pool = _load(linked)
    assert pool.labels is not None
    assert pool.labels.tolist() == [0, 0, 0, 1, 1]
    assert pool.info.left_out == ""


@pytest.mark.parametrize("target", ["..", ".", "../..", "/"])
def test_link_to_a_folder_above_is_not_followed(target: str, linked: Path) -> None:
    (linked / "dog" / "loop").symlink_to(target)
    (linked.parent / "elsewhere" / "back").symlink_to(linked / "cat")
    pool = _load(linked)
    assert len(pool.images) == 4
    assert pool.info.left_out.startswith("2 files: ")


def test_class_folder_may_be_a_link(linked: Path) -> None:
    (linked / "cat" / "part").unlink()
    (linked / "dog" / "2.png").unlink()
    (linked / "dog").rmdir()
    (linked / "dog").symlink_to(linked.parent / "elsewhere")
    pool = _load(linked)
    assert pool.labels is not None
    assert pool.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("place", ["cat/part2", "cat/9.png", "bird"])
@pytest.mark.parametrize("target", ["/absent", "itself"])
def test_broken_link_that_may_stand_for_images_is_refused(
    target: str, place: str, linked: Path
) -> None:
    path = linked / place
    path.symlink_to(path.name if target == "itself" else target)
    assert str(path) in _refused(linked)
    path.unlink()


def test_folder_that_is_linked_twice_is_read_once(linked: Path) -> None:
    (linked / "cat" / "again").symlink_to(linked.parent / "elsewhere")
    (linked / "dog" / "deep").mkdir()
    (linked / "dog" / "a").symlink_to(linked / "dog" / "deep")
    (linked / "dog" / "2.png").rename(linked / "dog" / "deep" / "2.png")
    (linked / "dog" / "3.png").symlink_to(linked / "dog" / "deep" / "2.png")
    pool = _load(linked)
    assert pool.labels is not None
    assert pool.labels.tolist() == [0, 0, 0, 1, 1]
    assert pool.info.left_out == "2 files: 2 links to folders that are read already"
