from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from simreg_core.config.robustness import CorruptionsConfig
from simreg_core.config.trial import TaskConfig
from simreg_core.data.images import Split
from simreg_core.data.task import order_of_test_images
from simreg_core.errors import ConfigError
from simreg_core.robustness.cifar10c import open_folder, stored_digest

NUM = 10_000
LABELS = np.random.default_rng(0).integers(0, 10, NUM).astype(np.uint8)


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels and one file, whose images say by their colour which they are; mostly a hole."""
    folder = tmp_path_factory.mktemp("cifar10c")
    np.save(folder / "labels.npy", np.tile(LABELS, 5))
    shape = (5 * NUM, 32, 32, 3)
    images = np.lib.format.open_memmap(folder / "contrast.npy", "w+", np.uint8, shape)
    for severity in range(5):
        rows = severity * NUM + np.arange(30)
        images[rows] = np.stack([rows % 251, rows % 241, rows % 239], axis=-1)[:, None, None]
    images.flush()
    return folder


def _config(folder: Path, **options: Any) -> CorruptionsConfig:
    return CorruptionsConfig(folder=str(folder), kinds=("contrast", "saturate"), **options)


def _test_split(num: int = NUM, channels: int = 3, size: int = 32, **task: Any) -> Any:
    config = TaskConfig(dataset="parquet:x", **task)
    order = order_of_test_images(config, NUM, num)
    images = torch.zeros((), dtype=torch.uint8).expand(num, channels, size, size)
    return config, Split(images, torch.from_numpy(LABELS.astype(np.int64))[order])


def _color(row: int) -> list[int]:
    return [row % 251, row % 241, row % 239]


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_images_of_a_severity_are_found(severity: int, stored: Path) -> None:
    found = open_folder(_config(stored), *_test_split())
    assert found is not None
    assert list(found.files) == ["contrast"]
    images = found.images("contrast", severity, 10, 20)
    assert images.dtype == torch.uint8
    expected = [_color((severity - 1) * NUM + row) for row in range(10, 20)]
    assert images[:, :, 5, 7].tolist() == expected


def test_subset_of_the_test_split_is_followed(stored: Path) -> None:
    config, split = _test_split(500, num_test=500)
    found = open_folder(_config(stored), config, split)
    assert found is not None
    assert found.order.tolist() == order_of_test_images(config, NUM, 500).tolist()
    assert (LABELS[found.order] == split.labels.numpy()).all()
    assert found.order.tolist() != list(range(500))


def test_images_have_the_tasks_size_and_pillows_grey(stored: Path) -> None:
    smaller = open_folder(_config(stored), *_test_split(size=16))
    found = open_folder(_config(stored), *_test_split(channels=1))
    assert smaller is not None
    assert found is not None
    assert smaller.images("contrast", 1, 0, 4).shape == (4, 3, 16, 16)
    images = found.images("contrast", 2, 0, 30)
    assert images.shape == (30, 1, 32, 32)
    colors = np.array([_color(NUM + row) for row in range(30)], dtype=np.uint8)[None]
    grey = np.asarray(Image.fromarray(colors).convert("L"))[0]
    assert images[:, 0, 0, 0].tolist() == grey.tolist()


def _assert_refused(folder: Path, message: str, **task: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^robustness\.corruptions\.folder: {message}") as found:
        open_folder(_config(folder), *_test_split(**task))
    assert "\n" not in str(found.value)
    assert "pickle" not in str(found.value)


def _archive(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, images=np.zeros(3, np.uint8))


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (None, r"contrast\.npy, saturate\.npy"),
        (lambda path: np.save(path, np.zeros((10, 32, 32, 3), np.uint8)), r"\(10, 32, 32, 3\)"),
        (lambda path: np.save(path, np.zeros(3)), r"float64 \(3,\)"),
        (lambda path: path.touch(), r"contrast\.npy "),
        (lambda path: path.write_text("some text, long enough for a header"), r"contrast\.npy "),
        (_archive, r"contrast\.npy "),
    ],
    ids=["nothing", "shape", "dtype", "empty", "text", "archive"],
)
def test_folder_with_other_files_is_refused(
    write: Callable[[Path], Any] | None, found: str, tmp_path: Path
) -> None:
    _assert_refused(tmp_path / "absent", ".*absent does not exist")
    if write is not None:
        write(tmp_path / "contrast.npy")
    _assert_refused(tmp_path, f".*{found}")


@pytest.mark.parametrize("is_pipe", [False, True], ids=["missing", "pipe"])
def test_labels_that_are_no_file_are_refused(is_pipe: bool, stored: Path, tmp_path: Path) -> None:
    (tmp_path / "contrast.npy").symlink_to(stored / "contrast.npy")
    if is_pipe:  # which must not be waited for
        os.mkfifo(tmp_path / "labels.npy")
    _assert_refused(tmp_path, r".*labels\.npy does not exist")


def test_digest_follows_the_files_that_are_used(tmp_path: Path) -> None:
    assert stored_digest(CorruptionsConfig()) is None
    digests = [stored_digest(_config(tmp_path))]
    for name, content in [("contrast", b"a"), ("brightness", b"b"), ("contrast", b"cc")]:
        (tmp_path / f"{name}.npy").write_bytes(content)
        digests.append(stored_digest(_config(tmp_path)))
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_labels_of_other_images_are_refused(stored: Path) -> None:
    config, split = _test_split()
    other = split._replace(labels=split.labels.flip(0))
    with pytest.raises(ConfigError, match="has other labels"):
        open_folder(_config(stored), config, other)
