from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simreg_core.regularizer.responses import ResponseSimilarity, grey_pixels, pearson
from tests import oracles
from tests.core_tests.measuring import every_pair


def _responses(seed: int, num_images: int, num_neurons: int) -> oracles.Array:
    return np.random.default_rng(seed).normal(1, 2, (num_images, num_neurons))


@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 7))
def test_similarity_is_the_formula(seed: int, num_images: int, num_neurons: int) -> None:
    responses = _responses(seed, num_images, num_neurons)
    similarity = ResponseSimilarity(torch.from_numpy(responses))(*every_pair(num_images))
    centred = responses - responses.mean(axis=0)
    expected = [oracles.cosine(centred[i], centred[j]) for i, j in oracles.all_pairs(num_images)]
    # Near the mean float32 does not resolve the angle.
    np.testing.assert_allclose(similarity.numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_scale_of_all_responses_does_not_matter(scale: float) -> None:
    responses = _responses(1, 8, 5)
    pairs = every_pair(8)
    torch.testing.assert_close(
        ResponseSimilarity(torch.from_numpy(responses * scale))(*pairs),
        ResponseSimilarity(torch.from_numpy(responses))(*pairs),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("value", [0.0, 0.1, -7e5])
def test_equal_responses_have_similarity_zero(value: float) -> None:
    similarity = ResponseSimilarity(torch.full((5, 3), value))
    assert similarity(*every_pair(5)).tolist() == [0] * 10


def test_image_is_fully_similar_to_itself_and_never_more() -> None:
    similarity = ResponseSimilarity(torch.from_numpy(_responses(2, 500, 9)))
    index = torch.arange(500)
    values = similarity(index, index)
    torch.testing.assert_close(values, torch.ones(500))
    assert values.max() <= 1


def test_mean_is_exact_over_more_images_than_a_chunk() -> None:
    responses = _responses(3, 9001, 2).astype(np.float32)
    mean = ResponseSimilarity(torch.from_numpy(responses)).mean_response
    np.testing.assert_allclose(mean.numpy(), responses.mean(axis=0, dtype=np.float64), rtol=1e-6)


def test_float32_responses_are_kept_without_a_copy() -> None:
    responses = torch.ones(10, 4)
    assert ResponseSimilarity(responses).responses.data_ptr() == responses.data_ptr()


@given(st.integers(0, 10**6), st.integers(3, 20))
def test_pearson_is_the_formula(seed: int, num_images: int) -> None:
    a, b = _responses(seed, num_images, 3), _responses(seed + 1, num_images, 3)
    expected = [np.corrcoef(a[:, n], b[:, n])[0, 1] for n in range(3)]
    found = pearson(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_correlation_with_a_constant_is_zero() -> None:
    constant = torch.full((7, 1), 0.1)
    assert pearson(constant, torch.arange(7.0)[:, None]).item() == 0


def test_grey_pixels_average_channels_and_resize() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[:, 0] = 255
    pixels = grey_pixels(images, 16)
    assert pixels.shape == (2, 1, 16, 16)
    torch.testing.assert_close(pixels, torch.full((2, 1, 16, 16), 1 / 3))
