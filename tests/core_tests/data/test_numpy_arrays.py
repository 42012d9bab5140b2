"""NumPy files in the layouts of Keras, scikit-learn and MedMNIST."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from simreg_core.config.trial import TaskConfig
from simreg_core.data.images import ImagePool, Split
from simreg_core.data.registry import load_dataset
from simreg_core.data.task import load_task
from simreg_core.errors import ConfigError
from tests.core_tests.measuring import assert_labelled_alike

Array = NDArray[Any]
Write = Callable[..., Path]
LABELS = np.arange(12) % 3


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes arrays to the file of a dataset."""

    def make(**arrays: Any) -> Path:
        np.savez_compressed(tmp_path / "set.npz", **arrays)
        return tmp_path / "set.npz"

    return make


def _pixels(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _load(path: Path, **request: Any) -> ImagePool:
    return load_dataset(f"npz:{path}", **{"color": True, "size": None, "key": "k", **request})


@pytest.mark.parametrize("shape", [(12, 6, 5), (12, 6, 5, 1), (12, 6, 5, 3)])
@pytest.mark.parametrize("is_column", [False, True])
def test_arrays_are_the_images(shape: tuple[int, ...], is_column: bool, write: Write) -> None:
    pixels = _pixels(*shape)
    labels = LABELS.astype(np.uint8)[:, None] if is_column else LABELS
    pool = _load(write(x_train=np.asfortranarray(pixels), y_train=labels))
    expected = np.broadcast_to(pixels if pixels.ndim == 4 else pixels[..., None], (12, 6, 5, 3))
    np.testing.assert_array_equal(pool.images.permute(0, 2, 3, 1).numpy(), expected)
    assert pool.labels is not None
    assert pool.labels.dtype == torch.int64
    assert pool.labels.tolist() == LABELS.tolist()
    assert pool.test is None
    assert pool.num_classes == 3


@pytest.mark.parametrize(
    ("images", "labels"), [("x_{}", "y_{}"), ("X_{}", "y_{}"), ("{}_images", "{}_labels")]
)
@pytest.mark.parametrize("validation", ["val", "valid"])
def test_splits_go_by_the_names_of_arrays(
    images: str, labels: str, validation: str, write: Write
) -> None:
    arrays: dict[str, Array] = {}
    for split, n in (("test", 4), (validation, 5), ("train", 12)):
        arrays |= {images.format(split): _pixels(n, 8, 8) + n, labels.format(split): LABELS[:n]}
    path = write(**arrays, mean=np.zeros(3))
    pool = _load(path, color=False)
    assert pool.labels is not None
    found = {"train": Split(pool.images, pool.labels), "test": pool.test}
    for split, part in {**found, validation: pool.validation}.items():
        assert part is not None
        np.testing.assert_array_equal(part.images[:, 0].numpy(), arrays[images.format(split)])
        assert part.labels.tolist() == LABELS[: len(part.images)].tolist()


def test_drawn_images_keep_their_labels(write: Write) -> None:
    path = write(x_train=_pixels(12, 8, 8), y_train=LABELS)
    whole, part = _load(path), _load(path, limit=5, seed=2)
    assert len(part.images) == 5
    assert_labelled_alike(part, whole)


@pytest.mark.parametrize("missing", ["y_train", "y_test"])
def test_images_without_labels_say_so(missing: str, write: Write) -> None:
    arrays = {"x_train": _pixels(12, 8, 8), "x_test": _pixels(6, 8, 8)}
    labels = {"y_train": LABELS, "y_test": LABELS[:6]}
    del labels[missing]
    path = write(**arrays, **labels)
    pool = _load(path)
    assert pool.labels is None
    assert len(pool.images) == 12
    with pytest.raises(ConfigError, match=rf"set\.npz has no array {missing}"):
        load_task(TaskConfig(dataset=f"npz:{path}", image_size=8))


IMAGES = "x_train must be uint8 .*C = 1 or 3, found"
CLASSES = r"y_train must be integers from 0, \(12,\) or \(12, 1\), found"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": LABELS}, r"no array x_train \(found: y_train, arr_0; allowed: x_train"),
        ({"x_train": _pixels(12, 8, 8) / 255.0}, rf"{IMAGES} float64 \(12, 8, 8\)"),
        ({"x_train": _pixels(12, 3, 8, 8)}, rf"{IMAGES} uint8 \(12, 3, 8, 8\)"),
        ({"x_train": _pixels(12, 64)}, rf"{IMAGES} uint8 \(12, 64\)"),
        ({"x_train": _pixels(0, 8, 8)}, rf"{IMAGES} uint8 \(0, 8, 8\)"),
        ({"x_train": np.array([None])}, "not a readable .*Object arrays cannot be loaded"),
        ({"y_train": LABELS[:11]}, rf"{CLASSES} int64 \(11,\)"),
        ({"y_train": np.eye(3)[LABELS]}, rf"{CLASSES} float64 \(12, 3\)"),
        ({"y_train": LABELS - 1}, f"{CLASSES} -1"),
        ({"y_train": np.array(["a"] * 12)}, rf"{CLASSES} <U1 \(12,\)"),
        ({"X_train": _pixels(12, 8, 8)}, "x_train and X_train are both named like a train set"),
        ({"x_test": _pixels(3, 9, 8), "y_test": LABELS[:3]}, "test set: 9 x 8 pixels instead of 8"),
    ],
)
def test_other_arrays_are_refused(arrays: dict[str, Array], message: str, write: Write) -> None:
    defaults = {"y_train": LABELS} | ({} if "arr_0" in arrays else {"x_train": _pixels(12, 8, 8)})
    path = write(**(defaults | arrays))
    with pytest.raises(ConfigError, match=rf"^k: .*set\.npz: {message}") as caught:
        _load(path)
    assert "\n" not in str(caught.value)


def _store_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, LABELS)


def _store_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train", "text")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "is not a zip file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "is not a zip file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"x", b"\0", 1)), "differ"),
        (_store_array, "is not a zip file"),
        (_store_text, "x_train must be uint8"),
        (Path.unlink, "cannot be read"),
    ],
)
def test_other_files_are_refused(
    damage: Callable[[Path], object], message: str, write: Write
) -> None:
    path = write(x_train=_pixels(12, 8, 8), y_train=LABELS)
    damage(path)
    with pytest.raises(ConfigError, match=rf"^k: .*set\.npz.* {message}") as caught:
        _load(path)
    assert "\n" not in str(caught.value)
