from __future__ import annotations

import threading
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from simreg_core.data import torchvision_sets
from simreg_core.data.images import ImagePool, ImageRequest
from simreg_core.data.registry import load_dataset
from simreg_core.datasets import main
from simreg_core.errors import ConfigError
from simreg_core.registry import DATASETS
from tests.core_tests.data.torchvision_files import (
    DOWNLOADABLE,
    NUM_TRAIN,
    Files,
    datasets,
    make_files,
    md5,
    source_of,
    write_idx,
)

__all__ = ["make_files"]


def _load(name: str, *, color: bool = False, key: str = "task.dataset") -> ImagePool:
    return load_dataset(name, color=color, size=None, key=key)


def test_drawn_images_are_some_of_all_in_their_stored_order(make_files: Files) -> None:
    make_files("mnist")
    for _ in range(2):  # the second time, from the cache
        pool = load_dataset("mnist", color=False, size=None, limit=3, seed=1)
        assert pool.num_stored == NUM_TRAIN
        rows = ImageRequest(False, None, 3, 1).choose(NUM_TRAIN)
        assert torch.equal(pool.images, _load("mnist").images[rows])


def _expected(images: NDArray[np.uint8], color: bool) -> NDArray[np.uint8]:
    """As Pillow converts them, (N, C, H, W)."""
    converted = [np.array(Image.fromarray(i).convert("RGB" if color else "L")) for i in images]
    stacked = np.stack(converted)
    return stacked.transpose(0, 3, 1, 2) if color else stacked[:, None]


# Loading


@pytest.mark.parametrize("color", [False, True], ids=["grey", "color"])
@pytest.mark.parametrize("name", DOWNLOADABLE)
def test_images_and_labels_are_those_of_the_files(
    name: str, color: bool, make_files: Files
) -> None:
    files = make_files(name)
    pool = _load(name, color=color)
    assert pool.labels is not None
    assert pool.test is not None
    splits = ((pool.images, pool.labels), pool.test)
    for (images, labels), split in zip(files.values(), splits, strict=True):
        np.testing.assert_array_equal(split[0].numpy(), _expected(images, color))
        assert (split[0].dtype, split[1].dtype) == (torch.uint8, torch.int64)
        assert split[1].tolist() == labels.tolist()
    assert pool.num_classes == (100 if name == "cifar100" else 10)


# Missing and damaged files


@pytest.mark.parametrize("name", DOWNLOADABLE)
def test_damaged_or_missing_file_is_refused(name: str, tmp_path: Path, make_files: Files) -> None:
    make_files(name)
    source = source_of(name)
    path = tmp_path / source.folder / source.files[0]
    content = path.read_bytes()
    for size in (0, 30):
        path.write_bytes(content[:size])
        with pytest.raises(ConfigError, match=rf"^task\.dataset: {name}: the files .* are damaged"):
            _load(name)
    path.unlink()
    with pytest.raises(ConfigError, match=f"{name} --data {tmp_path}$") as caught:
        _load(name, key="regularizer.dataset")
    message = str(caught.value)
    assert message.startswith(f"regularizer.dataset: {name}: {path} ")
    assert all(file in message for file in source.files)
    assert "\n" not in message


@pytest.mark.parametrize("labels", [np.zeros(3), np.full(NUM_TRAIN, 10)], ids=["fewer", "ten"])
def test_labels_that_do_not_fit_are_refused(
    labels: NDArray[np.float64], tmp_path: Path, make_files: Files
) -> None:
    make_files("mnist")
    write_idx(tmp_path / "MNIST/raw/train-labels-idx1-ubyte", labels.astype(np.uint8))
    with pytest.raises(ConfigError, match=r"are damaged: .*labels"):
        _load("mnist")


# Importing torchvision


MISSING = RuntimeError("operator torchvision::nms does not exist")


@pytest.mark.parametrize(
    "errors",
    [
        [MISSING],
        [MISSING, RuntimeError("still")],
        [ImportError("no module\nnamed torchvision")],
        [RuntimeError("compiled with different CUDA")],
    ],
    ids=["missing", "twice", "absent", "other-error"],
)
def test_missing_operators_are_declared_once_and_other_failures_are_one_line(
    errors: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    remaining, declared = list(errors), list[str]()

    def fail(name: str) -> str:
        if remaining:
            raise remaining.pop(0)
        return name

    monkeypatch.setattr("importlib.import_module", fail)
    monkeypatch.setattr(torch.ops, "torchvision", None)
    monkeypatch.setattr(torch.library, "define", lambda name, _: declared.append(name))
    if errors == [MISSING]:
        assert torchvision_sets._import_datasets() == "torchvision.datasets"
    else:
        with pytest.raises(ConfigError, match=r"^torchvision cannot be imported: [^\n]*$"):
            torchvision_sets._import_datasets()
    assert bool(declared) == (errors[0] is MISSING)


# Downloading


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No name resolves; the addresses that were asked for."""
    asked: list[str] = []

    def refuse(request: Any, *_: Any, **__: Any) -> None:
        asked.append(request.full_url)
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return asked


@pytest.mark.parametrize("name", DOWNLOADABLE)
def test_download_without_network_is_one_line(
    name: str, tmp_path: Path, offline: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert offline
    assert error.startswith(f"simreg_core.datasets: {name}: cannot be downloaded to {tmp_path}: ")
    assert all(file in error for file in source_of(name).files)
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", DOWNLOADABLE)
def test_files_that_exist_are_not_downloaded(
    name: str, make_files: Files, offline: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_files(name)
    assert main([name]) == 0
    assert offline == []
    assert capsys.readouterr().out.startswith(f"{name}: /")


def test_damaged_idx_files_are_unpacked_again(
    tmp_path: Path, make_files: Files, offline: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    make_files("mnist")
    expected = _load("mnist")
    folder, resources = tmp_path / "MNIST" / "raw", []
    for name in source_of("mnist").files:
        archive = folder / f"{name}.gz"
        archive.write_bytes(gzip.compress((folder / name).read_bytes()))
        resources.append((archive.name, md5(archive)))
    monkeypatch.setattr(datasets().MNIST, "resources", resources)
    damaged = folder / "train-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:50])
    assert main(["mnist"]) == 0
    assert torch.equal(_load("mnist").images, expected.images)
    assert offline == []


def test_offline_download_keeps_files_that_torchvision_would_check(
    tmp_path: Path, make_files: Files, offline: list[str]
) -> None:
    make_files("cifar10")
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(b"damaged")
    assert main(["cifar10"]) == 2
    assert offline
    assert path.with_name("data_batch_2").is_file()


def test_downloads_of_one_dataset_take_turns(tmp_path: Path, make_files: Files) -> None:
    make_files("mnist")
    thread = threading.Thread(target=DATASETS.own["mnist"].download, args=(tmp_path,))
    with FileLock(tmp_path / ".mnist.lock"):
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
    thread.join(timeout=300)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("digits", "'digits'"),
        ("mnist --data", "--data"),
        ("mnist --data /dev/null", "cannot be downloaded to /dev/null"),
    ],
)
def test_wrong_command_line_is_one_line(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
