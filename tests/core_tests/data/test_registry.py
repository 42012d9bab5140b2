from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simreg_core.data import encoded as encoded_module
from simreg_core.data.images import ImagePool
from simreg_core.data.registry import load_dataset
from simreg_core.errors import ConfigError
from tests.core_tests.measuring import assert_labelled_alike

MakeFolder = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]


def _load(name: str, **request: Any) -> ImagePool:
    return load_dataset(name, **{"color": False, "size": None, "key": "task.dataset", **request})


# Names


@pytest.mark.parametrize("name", ["cifra10", "folder:", "zip:/a", "digits:x"])
def test_unknown_name_is_refused(name: str) -> None:
    allowed = "allowed: .*digits, .*folder:PATH, .*MODULE:FUNCTION"
    with pytest.raises(ConfigError, match=rf"^task\.dataset: unknown dataset '{name}'; {allowed}"):
        _load(name)


# Built-in datasets


@pytest.mark.parametrize("color", [False, True], ids=["grey", "color"])
def test_digits_are_as_scikit_learn_has_them(color: bool) -> None:
    from sklearn.datasets import load_digits

    pool, original = _load("digits", color=color), load_digits()
    expected = torch.from_numpy(original.images / 16)[:, None]
    assert pool.images.shape == (1797, 3 if color else 1, 8, 8)
    assert pool.images.dtype == torch.uint8
    assert pool.images.to(torch.float64).sub(255 * expected).abs().max() <= 0.5
    assert pool.labels is not None
    assert pool.labels.tolist() == original.target.tolist()
    assert pool.num_classes == 10


def test_natural_images_are_patches_of_the_photographs() -> None:
    from sklearn.datasets import load_sample_images

    pool = _load("natural", color=True)
    assert pool.images.shape == (7700, 3, 32, 32)
    assert pool.labels is None
    photograph = torch.from_numpy(np.array(load_sample_images().images[0])).permute(2, 0, 1)
    assert torch.equal(pool.images[0], photograph[:, :32, :32])
    assert torch.equal(pool.images[1], photograph[:, :32, 8:40])


@pytest.mark.parametrize("name", ["digits", "natural"])
def test_limited_built_in_dataset_is_drawn_from_the_whole(name: str) -> None:
    whole, part = _load(name, size=9), _load(name, size=9, limit=30, seed=4)
    contents = {image.numpy().tobytes() for image in whole.images}
    assert len(part.images) == 30
    assert {image.numpy().tobytes() for image in part.images} <= contents
    assert torch.equal(part.images[:10], _load(name, size=9, limit=10, seed=4).images)


# Class folders


@pytest.fixture
def make_folder(tmp_path: Path, make_png: Callable[..., bytes]) -> MakeFolder:
    """Factory of class folders: each path below them gets an image of a number of its own."""
    numbers = itertools.count()

    def make(*paths: str, name: str = "set", **options: Any) -> Path:
        for path in paths:
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(make_png(next(numbers), **options))
        return tmp_path / name

    return make


def _pixels(path: Path, mode: str = "L") -> torch.Tensor:
    with Image.open(path) as image:
        array = np.array(image.convert(mode))
    return torch.from_numpy(array[None] if mode == "L" else array.transpose(2, 0, 1).copy())


@pytest.mark.parametrize("below", ["", "train/"], ids=["direct", "train"])
def test_label_is_the_rank_of_the_class_name_and_other_files_are_ignored(
    below: str, make_folder: MakeFolder
) -> None:
    names = ["b/2.png", "b/10.png", "a/x.png", "C/z.PNG"]
    root = make_folder(*(below + name for name in names))
    make_folder(f"{below}a/.2.png", f"{below}.b/3.png", f"{below}a/.d/4.png")
    (root / below / "a" / "notes.txt").write_text("no image")
    (root / below / "notes.txt").write_text("no image")
    pool = _load(f"folder:{root}")
    assert pool.labels is not None
    assert pool.labels.tolist() == [0, 1, 2, 2]
    assert (pool.num_classes, pool.test) == (3, None)
    for image, name in zip(pool.images, ["C/z.PNG", "a/x.png", "b/10.png", "b/2.png"], strict=True):
        assert torch.equal(image, _pixels(root / below / name))


def test_imagenet_has_val_as_its_test_set_and_no_other(make_folder: MakeFolder) -> None:
    root = make_folder("train/n01/1.JPEG", "train/n02/images/2.JPEG", "test/x/3.JPEG")
    pool = _load(f"imagenet:{root}")
    assert (len(pool.images), pool.num_classes, pool.test) == (2, 2, None)
    make_folder("val/n02/4.JPEG")
    test = _load(f"imagenet:{root}").test
    assert test is not None
    assert test.labels.tolist() == [1]


@pytest.mark.parametrize("is_stored_in_color", [False, True], ids=["stored-grey", "stored-color"])
@pytest.mark.parametrize(("color", "mode"), [(False, "L"), (True, "RGB")], ids=["grey", "color"])
def test_images_have_the_asked_channels(
    color: bool, mode: str, is_stored_in_color: bool, make_folder: MakeFolder
) -> None:
    root = make_folder("a/1.png", color=is_stored_in_color)
    (image,) = _load(f"folder:{root}", color=color).images
    assert torch.equal(image, _pixels(root / "a/1.png", mode))


def test_photographs_of_different_sizes_are_cropped_and_resized(make_folder: MakeFolder) -> None:
    root = make_folder("a/1.png", height=12, width=30)
    make_folder("a/2.png", height=20, width=9)
    images = _load(f"folder:{root}", size=12).images
    assert images.shape == (2, 1, 12, 12)
    assert torch.equal(images[0], _pixels(root / "a/1.png")[:, :, 9:21])


@pytest.mark.parametrize(
    ("files", "folder", "message"),
    [
        ("", None, "set is not a folder"),
        ("1.png", None, "set holds no class folders"),
        ("train/a/1.png test/2.png", None, "test holds no class folders"),
        ("a/1.png", "b", "set/b holds no images"),
        ("train/a/1.png test/b/2.png", None, "class 'b' "),
    ],
)
def test_wrong_layout_is_refused(
    files: str, folder: str | None, message: str, make_folder: MakeFolder
) -> None:
    root = make_folder(*files.split())
    if folder is not None:
        (root / folder).mkdir(parents=True)
    with pytest.raises(ConfigError, match=rf"^regularizer\.dataset: .*{message}"):
        _load(f"folder:{root}", key="regularizer.dataset")


def test_imagenet_needs_class_folders_below_train_and_val(make_folder: MakeFolder) -> None:
    root = make_folder("train/n01/a.JPEG", "val/a.JPEG", "val/b.JPEG")
    with pytest.raises(ConfigError, match=rf"^task\.dataset: {root}/val holds no class folders"):
        _load(f"imagenet:{root}")
    assert len(_load(f"imagenet:{root}", limit=1).images) == 1
    with pytest.raises(ConfigError, match=r"train is not a folder"):
        _load(f"imagenet:{root / 'train'}")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.touch(),
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
        lambda path: path.symlink_to("/absent.png"),
        os.mkfifo,
    ],
    ids=["empty", "header", "link", "pipe"],
)
def test_image_that_cannot_be_read_is_refused_by_name(
    damage: Callable[[Path], None], make_folder: MakeFolder
) -> None:
    root = make_folder("a/1.png", "b/2.png")
    damage(root / "b/3.png")
    with pytest.raises(ConfigError, match=r"^task\.dataset: .*set/b/3\.png ") as caught:
        _load(f"folder:{root}")
    assert "0x" not in str(caught.value)
    assert "\n" not in str(caught.value)


# Decoding once


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that have been decoded."""
    names: list[str] = []
    decode = encoded_module._decode

    def counting(encoded: Any, *rest: Any) -> Any:
        names.append(encoded.where)
        return decode(encoded, *rest)

    monkeypatch.setattr(encoded_module, "_decode", counting)
    return names


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_second_load_decodes_nothing(
    kind: str, decoded: list[str], make_folder: MakeFolder, make_dataset: Callable[..., Path]
) -> None:
    root = make_folder("train/a/1.png", "test/a/2.png") if kind == "folder" else make_dataset()
    first = _load(f"{kind}:{root}")
    num_decoded = len(decoded)
    second = _load(f"{kind}:{root}")
    assert len(decoded) == num_decoded > 0
    assert torch.equal(first.images, second.images)
    assert (first.test is None) == (second.test is None)


def test_other_request_decodes_again(decoded: list[str], make_folder: MakeFolder) -> None:
    root = make_folder("a/1.png", "a/2.png", "b/3.png")
    changes: tuple[dict[str, Any], ...] = ({}, {"color": True}, {"size": 5}, {"limit": 2})
    for change in (*changes, {"limit": 2, "seed": 1}):
        before = len(decoded)
        _load(f"folder:{root}", **change)
        assert len(decoded) == before + change.get("limit", 3)


def test_changed_file_is_decoded_again(make_folder: MakeFolder) -> None:
    root = make_folder("a/1.png", "a/2.png")
    before = _load(f"folder:{root}").images
    make_folder("a/2.png")
    os.utime(root / "a/2.png", ns=(1, 1))
    after = _load(f"folder:{root}").images
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], _pixels(root / "a/2.png"))
    assert not torch.equal(after[1], before[1])


def test_limit_decodes_only_the_images_it_gives(
    decoded: list[str], make_folder: MakeFolder
) -> None:
    root = make_folder(*(f"train/{c}/{i}.png" for c in "abc" for i in range(7)), "test/a/x.png")
    large = _load(f"folder:{root}", limit=9, seed=5)
    assert len(decoded) == 9
    small = _load(f"folder:{root}", limit=4, seed=5)
    assert torch.equal(small.images, large.images[:4])
    assert_labelled_alike(small, large)
    assert (large.test, large.num_classes) == (None, 3)


@pytest.mark.parametrize("group_size", [1, 3, 100])
def test_limited_parquet_dataset_keeps_images_and_labels_together(
    group_size: int, make_dataset: Callable[..., Path]
) -> None:
    import pyarrow.parquet as pq

    path = make_dataset(num_train=20) / "train.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=group_size)
    whole = _load(f"parquet:{path.parent}")
    part = _load(f"parquet:{path.parent}", limit=8, seed=2)
    assert len(part.images) == 8
    assert_labelled_alike(part, whole)
