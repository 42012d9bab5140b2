"""Fixtures of all tests: one thread, no network, tiny data."""

from __future__ import annotations

import io
import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import set_dotted
from simreg_core.data.task import TaskData, load_task
from tests.ray_sessions import local_ray, ray_folder

__all__ = ["local_ray", "ray_folder"]

# The same examples on every run, on slow machines too, and no folder of found examples.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("fixed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, so that no process of several ends with one of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Datasets and decoded arrays lie in a folder of this session, in subprocesses too."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMREG_DATA", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """CPU sums depend on the number of threads; fixtures of all scopes compute with one."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def still_one_thread(one_thread: None) -> Iterator[None]:
    """A test may set the number of threads; the next one has one again."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise PermissionError(f"tests must not use the network: connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(scope="session")
def tiny_trial() -> Callable[..., dict[str, Any]]:
    """Factory of a digits trial that trains in 0.2 s, as a user writes it.

    Takes a mapping of dotted keys to values that are laid over it.
    """

    def make(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        sizes = {"image_size": 8, "num_train": 128, "num_validation": 64, "num_test": 64}
        max_epsilons = {"gaussian": 0.4, "transfer_fgsm": 0.2}
        trial: dict[str, Any] = {
            "task": {"dataset": "digits", **sizes},
            "model": {"base_channels": 4, "blocks": [1, 1]},
            "training": {"epochs": 2, "batch_size": 16, "checkpoint_seconds": 0},
            "regularizer": {"num_images": 64, "batch_size": 4},
            "robustness": {
                "num_epsilons": 3,
                "batch_size": 40,
                "noise_draws": 1,
                "baseline_seeds": [1],
                "attacks": {name: {"max_epsilon": e} for name, e in max_epsilons.items()},
                "reference": {"gaussian": 0.4, "transfer_fgsm": 0.15},
            },
        }
        for key, value in (changes or {}).items():
            set_dotted(trial, key, value, "test")
        return trial

    return make


@pytest.fixture(scope="session")
def tiny_config(tiny_trial: Callable[..., dict[str, Any]]) -> Callable[..., TrialConfig]:
    """Factory of the configuration of ``tiny_trial``; takes the same changes."""

    def make(changes: Mapping[str, Any] | None = None) -> TrialConfig:
        return TrialConfig.from_dict(tiny_trial(changes))

    return make


@pytest.fixture
def tiny_data(tiny_config: Callable[..., TrialConfig]) -> TaskData:
    """The splits of ``tiny_config``."""
    return load_task(tiny_config().task)


@pytest.fixture
def make_png() -> Callable[..., bytes]:
    """Factory of encoded images, each number another: a smooth shape under noise."""

    def make(number: int, height: int = 8, width: int = 8, *, color: bool = False) -> bytes:
        rng = np.random.default_rng(number)
        y, x = np.mgrid[0:height, 0:width] / max(height, width)
        channels = []
        for _ in range(3 if color else 1):
            a, b, phase = rng.uniform(-6, 6, 3)
            wave = 127 + 80 * np.sin(a * x + b * y + phase) + rng.normal(0, 15, x.shape)
            channels.append(wave.clip(0, 255).astype(np.uint8))
        stream = io.BytesIO()
        Image.fromarray(np.stack(channels, axis=-1) if color else channels[0]).save(stream, "PNG")
        return stream.getvalue()

    return make


@pytest.fixture
def write_parquet() -> Callable[..., None]:
    """Factory of Parquet files in the layout that ``parquet:`` datasets have."""

    def write(
        path: Path, images: Sequence[bytes | None], labels: Sequence[int | None] | None
    ) -> None:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows = [{"bytes": data, "path": None} for data in images]
        columns: dict[str, Any] = {"image": pa.array(rows, kind)}
        if labels is not None:
            columns["label"] = pa.array(labels, pa.int64())
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    return write


@pytest.fixture
def write_images(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> Callable[..., Path]:
    """Factory of ``NAME.parquet`` in ``tmp_path``: numbered 8 x 8 images with these labels."""

    def write(
        labels: Sequence[int | None] | None,
        name: str = "train",
        *,
        num: int = 0,
        images: Mapping[int, bytes | None] | None = None,
    ) -> Path:
        count = num if labels is None else len(labels)
        encoded = {number: make_png(number) for number in range(count)} | dict(images or {})
        write_parquet(tmp_path / f"{name}.parquet", list(encoded.values()), labels)
        return tmp_path

    return write


@pytest.fixture
def make_dataset(
    tmp_path: Path, make_png: Callable[..., bytes], write_parquet: Callable[..., None]
) -> Callable[..., Path]:
    """Factory of small image folders of three classes; every image occurs once."""

    def make(
        name: str = "images",
        *,
        num_train: int = 40,
        num_test: int | None = None,
        side: int = 8,
        color: bool = False,
        first: int = 0,
    ) -> Path:
        start = first
        for split, count in (("train", num_train), ("test", num_test)):
            if count is not None:
                numbers = range(start, start := start + count)
                images = [make_png(number, side, side, color=color) for number in numbers]
                labels = [number % 3 for number in numbers]
                write_parquet(tmp_path / name / f"{split}.parquet", images, labels)
        return tmp_path / name

    return make
