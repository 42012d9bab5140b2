from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from simreg_core.errors import ConfigError
from tests.ray_sessions import ROOT
from tests.tuner_tests.spaces import THRESHOLD, make_space, write_space
from tuner.execution.gpu_sharing import GpuMemory, largest_configs, measure, trials_that_fit
from tuner.execution.ray_session import share
from tuner.run import main

GIB = 2**30


@pytest.mark.parametrize(
    ("trial", "total", "cpu_limit", "count"),
    [
        (2 * GIB, 80 * GIB, 100.0, 16),  # 36 in memory
        (8 * GIB, 80 * GIB, 100.0, 9),  # 72 of 80
        (8 * GIB, 80 * GIB, 4.9, 4),
        (20, 100, 64.0, 4),  # five would take all
        (18, 100, 64.0, 5),  # exactly 90 %
        (60, 100, 64.0, 1),
        (200, 100, 64.0, 1),
        (1, 100, 0.5, 1),
    ],
)
def test_trials_fill_nine_tenths_of_the_memory_up_to_the_cpus(
    trial: int, total: int, cpu_limit: float, count: int
) -> None:
    assert trials_that_fit(GpuMemory(trial, total), cpu_limit) == count


@pytest.mark.parametrize("count", range(1, 101))
def test_exactly_so_many_shares_fit_into_a_gpu_of_ten_thousand_parts(count: int) -> None:
    parts = round(10_000 * share(1.0, count))
    assert 10_000 // parts == count


def test_largest_trial_has_the_highest_whole_numbers_and_alpha(tmp_path: Path) -> None:
    searched = [
        THRESHOLD,
        "regularizer.batch_size: {type: int, low: 2, high: 32}",
        "model.base_channels: {type: categorical, choices: [8, 2, 4]}",
        "training.learning_rate: {type: float, low: 0.01, high: 1.0}",
        "regularizer.target: {type: categorical, choices: [pixel, label]}",
        "model.architecture: {type: categorical, choices: [resnet18, resnet34]}",
    ]
    free = [
        ("base_channels: 4, ", ""),
        ("num_images: 64, batch_size: 4", "num_images: 64"),
        (THRESHOLD, "\n  ".join(searched)),
    ]
    configs = largest_configs(make_space(tmp_path, *free))
    assert [(c.model.architecture, c.regularizer.target) for c in configs] == [
        ("resnet18", "pixel"),
        ("resnet18", "label"),
        ("resnet34", "pixel"),
    ]
    for config in configs:
        assert config.regularizer.batch_size == 32
        assert config.model.base_channels == 8
        assert config.regularizer.alpha == 3.0
        assert config.training.learning_rate == 0.01


def test_bounds_that_conflict_are_replaced_by_valid_ones(tmp_path: Path) -> None:
    crop = "training.augmentation.crop_padding: {type: int, low: 0, high: 7}"
    space = make_space(tmp_path, (THRESHOLD, crop))
    (config,) = largest_configs(space)
    assert config.training.augmentation.crop_padding == 7
    gamma = "regularizer.gamma: {type: categorical, choices: [stem, trainable]}"
    layers = "regularizer.layers: {type: categorical, choices: [[section1], [stem]]}"
    space = make_space(tmp_path, (THRESHOLD, f"{gamma}\n  {layers}"))
    found = [(c.regularizer.gamma, c.regularizer.layers) for c in largest_configs(space)]
    assert found == [("trainable", ("section1",)), ("stem", ("stem",))]


@pytest.mark.parametrize("more", ["", "boundary: {num_images: 8}\n    frequency: true\n    "])
def test_memory_is_read_after_a_trial_has_run(more: str, tmp_path: Path) -> None:
    space = make_space(tmp_path, ("num_epsilons: 3", f"{more}num_epsilons: 3"))
    configs = [config.to_dict() for config in largest_configs(space)]
    assert measure(configs, "cpu", lambda: GpuMemory(3, 7)) == (3, 7)


def test_trial_that_cannot_run_is_not_measured() -> None:
    config = {"task": {"dataset": "digits", "num_train": 10**6}}
    with pytest.raises(ConfigError, match=r"^task\.num_train"):
        measure([config], "cpu", lambda: pytest.fail("read"))


def run_shared(folder: Path, cpus: int, gpus: int, *flags: str) -> dict[str, Any]:
    write_space(folder, ("num_trials: 2", "num_trials: 5"))
    environment = {**os.environ, "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": cpus, "GPU": gpus})}
    command = [sys.executable, "-m", "tests.tuner_tests.execution.shared_gpu", str(folder), *flags]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.usefixtures("ray_folder")
@pytest.mark.parametrize(
    ("cpus", "flags", "expected"),
    [
        pytest.param(
            2, ("--trials-per-gpu", "3"), (0.6666, 0.3333, 3), marks=pytest.mark.long, id="three"
        ),
        (4, ("--trials-per-gpu", "auto", "--cpus-per-trial", "2"), (2.0, 0.5, 2)),
    ],
)
def test_so_many_trials_run_at_once_on_a_gpu(
    cpus: int, flags: tuple[str, ...], expected: tuple[float, float, int], tmp_path: Path
) -> None:
    found = run_shared(tmp_path, cpus, 1, *flags)
    assert (found["cpus"], found["gpus"], found["at_once"]) == expected
    assert {network["gpu"] for network in found["networks"]} == {"0"}
    assert len(found["networks"]) == 5
    assert max(network["met"] for network in found["networks"]) == expected[2]
    assert len(set(found["pids"])) == 2  # a worker that stays would keep GPU memory


@pytest.mark.usefixtures("ray_folder")
def test_machine_without_gpu_is_refused(tmp_path: Path) -> None:
    found = run_shared(tmp_path, 1, 0, "--trials-per-gpu", "2")
    assert found == {"error": "--trials-per-gpu 2: this machine has no GPU"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a GPU that torch cannot use")
def test_failed_measurement_is_an_error_before_anything_is_written(
    ray_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    flags = ["--space", str(write_space(tmp_path)), "--output", str(output)]
    command = [sys.executable, "-m", "tuner.run", *flags, "--trials-per-gpu", "auto"]
    environment = {**os.environ, "RAY_OVERRIDE_RESOURCES": '{"CPU": 2, "GPU": 1}'}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("tuner.run: --trials-per-gpu auto: ")
    assert not output.exists()


@pytest.mark.parametrize(
    "flags",
    ["--trials-per-gpu 2 --gpus-per-trial 0.5", "--trials-per-gpu auto --gpus-per-trial 1"],
)
def test_two_ways_to_share_are_refused(
    flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--space", str(write_space(tmp_path)), *flags.split()]) == 2
    error = capsys.readouterr().err
    assert "--trials-per-gpu" in error
    assert "--gpus-per-trial" in error
    assert error.count("\n") == 1
