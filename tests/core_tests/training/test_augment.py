from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from simreg_core.config.trial import AugmentationConfig
from simreg_core.seeding import generator
from simreg_core.training import augment


def _images(batch: int = 6, channels: int = 2, height: int = 5, width: int = 7) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=generator(0, "images"))


def _augment(images: Tensor, config: AugmentationConfig, rng: torch.Generator) -> Tensor:
    """All images, each once."""
    draws = augment.draw_augmentation(len(images), config, rng)
    return augment.augment(images, torch.arange(len(images)), draws, config)


def _windows(image: Tensor, padding: int) -> list[Tensor]:
    """Every window of the original size of one reflect-padded image, by NumPy."""
    _, height, width = image.shape
    margin = ((0, 0), (padding, padding), (padding, padding))
    padded = np.pad(image.numpy(), margin, mode="reflect")
    return [
        torch.from_numpy(padded[:, top : top + height, left : left + width])
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    ]


def test_crop_positions_are_uniform() -> None:
    image = _images(1, 1)[0]
    repeated = image.expand(5000, -1, -1, -1)
    config = AugmentationConfig(crop_padding=1, horizontal_flip=False)
    cropped = _augment(repeated, config, generator(2, "augmentation"))
    counts = np.array(
        [int((cropped == window).all(dim=(1, 2, 3)).sum()) for window in _windows(image, 1)]
    )
    expected = 5000 / 9
    assert counts.sum() == 5000
    # The 99.9 % quantile of chi-square with 8 degrees of freedom.
    assert ((counts - expected) ** 2 / expected).sum() < 26.1


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = _images(2000, 1, 2, 3)
    flipped = _augment(images, AugmentationConfig(crop_padding=0), generator(4, "augmentation"))
    is_same = (flipped == images).all(dim=(1, 2, 3))
    is_mirrored = (flipped == images.flip(-1)).all(dim=(1, 2, 3))
    assert bool((is_same ^ is_mirrored).all())
    # Four standard deviations of a fair coin.
    assert abs(int(is_mirrored.sum()) - 1000) < 4 * (2000 / 4) ** 0.5


def test_nothing_is_drawn_where_nothing_is_applied() -> None:
    rng = generator(5, "augmentation")
    before = rng.get_state()
    images = _images()
    config = AugmentationConfig(crop_padding=0, horizontal_flip=False)
    assert torch.equal(_augment(images, config, rng), images)
    assert torch.equal(rng.get_state(), before)


@pytest.mark.parametrize(
    ("padding", "flip"), [(1, False), (2, False), (4, False), (0, True), (2, True)]
)
def test_augment_applies_what_the_configuration_names(padding: int, flip: bool) -> None:
    images = _images(64)
    config = AugmentationConfig(crop_padding=padding, horizontal_flip=flip)
    augmented = _augment(images, config, generator(6, "augmentation"))
    assert augmented.shape == images.shape
    for image, result in zip(images, augmented, strict=True):
        windows = _windows(image, padding)
        mirrored = [window.flip(-1) for window in windows] if flip else []
        assert any(torch.equal(result, window) for window in [*windows, *mirrored])
    assert not torch.equal(augmented, images)


def test_images_are_those_of_the_generator_and_the_input_is_left_as_it_was() -> None:
    images = _images()
    config = AugmentationConfig(crop_padding=2)
    one, other = (_augment(images, config, generator(8, "augmentation")) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(images, _images())


def test_images_are_picked_by_their_index() -> None:
    images = _images()
    config = AugmentationConfig(crop_padding=2)
    index = torch.tensor([4, 4, 1])
    draws = augment.draw_augmentation(3, config, generator(9, "augmentation"))
    picked = augment.augment(images[index], torch.arange(3), draws, config)
    assert torch.equal(augment.augment(images, index, draws, config), picked)
