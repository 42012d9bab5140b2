from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from simreg_core.data.decoding import Levels, to_tensor
from simreg_core.data.images import ImageRequest, convert, resize, to_channels

# Resizing


def test_resize_crops_the_centre_square_and_keeps_the_own_size() -> None:
    images = torch.arange(4 * 8, dtype=torch.uint8).reshape(1, 1, 4, 8)
    square = images[..., 2:6]
    assert torch.equal(resize(images, 4), square)
    assert torch.equal(resize(square, 4), square)
    assert torch.equal(resize(images, None), images)


def test_resize_to_double_interpolates_bilinearly() -> None:
    image = torch.tensor([[0, 100], [0, 100]], dtype=torch.uint8)[None, None]
    # Pixel centres of the large image lie at -1/4, 1/4, 3/4 and 5/4 of the small one.
    assert resize(image, 4)[0, 0, 0].tolist() == [0, 25, 75, 100]


def test_shrinking_sees_every_pixel() -> None:
    stripes = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    stripes[..., ::4] = 200
    # Without antialiasing each new pixel would read the two columns at its centre: black.
    inner = resize(stripes, 4)[..., 1:-1]
    assert inner.to(torch.float64).sub(200 / 4).abs().max() <= 20


# Channels


@given(st.integers(0, 2**32 - 1))
def test_grey_is_to_the_bit_what_pillow_computes(seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = np.array(Image.fromarray(array).convert("L"))
    images = torch.from_numpy(array.transpose(2, 0, 1).copy())[None]
    np.testing.assert_array_equal(to_channels(images, color=False)[0, 0].numpy(), expected)


def test_grey_becomes_color_by_repetition() -> None:
    images = torch.arange(12, dtype=torch.uint8).reshape(1, 1, 3, 4)
    assert torch.equal(to_channels(images, color=True), images.repeat(1, 3, 1, 1))


def test_many_images_are_converted_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, 3, 6, 6), np.uint8))
    request = ImageRequest(color=False, size=4)
    monkeypatch.setattr("simreg_core.data.images._CONVERTED_AT_ONCE", 3)
    expected = torch.cat([convert(image[None], request) for image in images])
    assert torch.equal(convert(images, request), expected)


@pytest.mark.parametrize("color", [False, True], ids=["grey", "color"])
def test_sixteen_bits_are_scaled_to_eight(color: bool) -> None:
    stored = np.array([[0, 255, 256], [0x7FFF, 0x8000, 0xFFFF]], np.uint16)
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, "PNG")
    image = to_tensor(Image.open(stream), color, {"I;16": Levels(0, 0xFFFF)})
    assert image.shape == (3 if color else 1, 2, 3)
    assert image[0].tolist() == [[0, 0, 1], [0x7F, 0x80, 0xFF]]


# Choice


@given(st.integers(1, 200), st.integers(1, 250), st.integers(1, 250), st.integers(0, 99))
def test_smaller_limit_chooses_a_prefix(total: int, one: int, two: int, seed: int) -> None:
    small, large = (
        ImageRequest(False, None, limit, seed).choose(total) for limit in sorted((one, two))
    )
    assert len(large) == min(max(one, two), total) == len(set(large.tolist()))
    assert large[: len(small)].tolist() == small.tolist()
    every = ImageRequest(False, None, seed=seed).choose(total)
    assert every.tolist() == list(range(total))
