from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import RegularizationImages, TaskData, load_regularization_images
from simreg_core.errors import ConfigError
from simreg_core.regularizer.gabor import GaborPopulation
from simreg_core.regularizer.targets import TargetInput, make_target
from simreg_core.seeding import generator
from simreg_core.training.start import start
from tests import oracles

FIRST, SECOND = torch.tensor([0, 1, 2, 5]), torch.tensor([3, 4, 9, 7])


@pytest.fixture
def source() -> RegularizationImages:
    shape = (12, 3, 4, 4)
    images = torch.randint(256, shape, generator=generator(0, "images"), dtype=torch.uint8)
    return RegularizationImages(images, torch.arange(12) % 3, torch.arange(12), 12)


def targets(source: RegularizationImages, **options: Any) -> Tensor:
    target = make_target(TargetInput.of(source, RegularizerConfig(**options)))
    found = target(FIRST, SECOND)
    assert found.dtype == torch.float32
    return found


def pixel_similarities(source: RegularizationImages) -> list[float]:
    pairs = zip(FIRST.tolist(), SECOND.tolist(), strict=True)
    return [oracles.pixel_similarity(source.images.numpy(), i, j) for i, j in pairs]


def test_pixel_targets_are_the_similarity_thresholded_or_raw(source: RegularizationImages) -> None:
    similarities = pixel_similarities(source)
    expected = [oracles.target(s, 0.1) for s in similarities]
    assert targets(source, target="pixel", threshold=0.1).tolist() == expected
    raw = targets(source, target="pixel_raw").tolist()
    assert raw == pytest.approx(similarities, abs=1e-6)


def test_label_target_is_one_within_a_class_and_zero_across(source: RegularizationImages) -> None:
    assert targets(source, target="label").tolist() == [1.0, 1.0, 0.0, 0.0]


def test_label_target_of_images_without_labels_is_refused(
    tiny_config: Callable[..., TrialConfig], tiny_data: TaskData
) -> None:
    config = tiny_config({"regularizer.target": "label", "regularizer.dataset": "natural"})
    with pytest.raises(ConfigError, match=r"^regularizer\.target: .*'natural'"):
        start(config, tiny_data, torch.device("cpu"))


def test_control_takes_the_targets_from_other_images(
    tiny_config: Callable[..., TrialConfig], tiny_data: TaskData
) -> None:
    changes = {"regularizer.threshold": 0.1, "regularizer.shuffle_targets": True}
    config = tiny_config(changes)
    state = start(config, tiny_data, torch.device("cpu"))
    assert state.regularizer is not None
    images = load_regularization_images(config.regularizer, config.task, tiny_data).images
    assert torch.equal(state.regularizer.images, images)
    order = torch.randperm(64, generator=generator(config.seed, "shuffled targets"))
    shuffled = images[order].numpy()
    pairs = zip(FIRST.tolist(), SECOND.tolist(), strict=True)
    expected = [oracles.target(oracles.pixel_similarity(shuffled, i, j), 0.1) for i, j in pairs]
    assert state.regularizer.target(FIRST, SECOND).tolist() == expected


def test_neural_model_that_is_not_there_is_refused_by_its_key(
    source: RegularizationImages, tmp_path: Path
) -> None:
    file = tmp_path / "none.pt"
    with pytest.raises(ConfigError, match=rf"^regularizer\.neural_model: {file} "):
        targets(source, target="neural", neural_model=str(file))


def test_gabor_target_is_the_similarity_of_the_populations_responses(
    source: RegularizationImages,
) -> None:
    responses = GaborPopulation().responses(source.images).double().numpy()
    centred = responses - responses.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    expected = (unit[FIRST] * unit[SECOND]).sum(axis=1)
    assert targets(source, target="v1_gabor").tolist() == pytest.approx(expected, abs=1e-5)
