"""Fixtures of the tests that compare a GPU with the CPU.

They are skipped without a GPU. With ``SIMREG_CUDA_TESTS=cpu`` the CPU takes its place, to try the
tests themselves. Nothing here needs Ray, Optuna, Hypothesis or a plugin of pytest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.config.yaml_io import set_dotted
from simreg_core.data.task import TaskData, load_task


@pytest.fixture(autouse=True, scope="session")
def device() -> Iterator[torch.device]:
    """The device to compare with the CPU."""
    is_rehearsal = os.environ.get("SIMREG_CUDA_TESTS") == "cpu"
    if not is_rehearsal and not torch.cuda.is_available():
        pytest.skip("no CUDA device (SIMREG_CUDA_TESTS=cpu rehearses this on the CPU)")
    with pytest.MonkeyPatch.context() as patch:
        # cuBLAS reads it when it starts; torch requires it for deterministic algorithms.
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(1)
        yield torch.device("cpu" if is_rehearsal else "cuda")


@pytest.fixture
def is_cuda(device: torch.device) -> bool:
    return device.type == "cuda"


@pytest.fixture
def only_cuda(is_cuda: bool) -> None:
    if not is_cuda:
        pytest.skip("needs CUDA; the CPU cannot take its place")


@pytest.fixture(autouse=True, scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Decoded arrays lie in a folder of this session."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMREG_DATA", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def full_float32(device: torch.device) -> Iterator[None]:
    """Convolutions and matrix products in float32, not in TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Algorithms that give the same bits whenever they run."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def make_config() -> Callable[..., TrialConfig]:
    """Factory of a digits trial whose epochs have 4 batches of 64 images and one of 44.

    Takes a mapping of dotted keys to values that are laid over it.
    """

    def make(changes: Mapping[str, Any] | None = None) -> TrialConfig:
        sizes = {"image_size": 16, "num_train": 300, "num_validation": 100, "num_test": 200}
        trial: dict[str, Any] = {
            "task": {"dataset": "digits", **sizes},
            "model": {"base_channels": 8, "blocks": [1, 1, 1]},
            "training": {
                "epochs": 4,
                "batch_size": 64,
                "learning_rate": 0.02,
                "weight_decay": 1e-3,
                "schedule": {"unit": "epochs", "step": 1, "restart": 3, "factor": 0.5},
                "augmentation": {"crop_padding": 1, "horizontal_flip": True},
                "checkpoint_seconds": 0,
            },
            "regularizer": {"alpha": 0.1, "num_images": 128, "batch_size": 8, "threshold": 0.3},
        }
        for key, value in (changes or {}).items():
            set_dotted(trial, key, value, "test")
        return TrialConfig.from_dict(trial)

    return make


@pytest.fixture(scope="session")
def data(make_config: Callable[..., TrialConfig], data_folder: Path) -> TaskData:
    """The splits of ``make_config``, on the CPU."""
    return load_task(make_config().task)
