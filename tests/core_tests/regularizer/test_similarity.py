from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from simreg_core.regularizer.loss import similarity_loss
from simreg_core.regularizer.similarity import FeatureSimilarity, PixelSimilarity, threshold_targets
from simreg_core.seeding import generator
from tests import oracles
from tests.core_tests.measuring import every_pair


def _uint8(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# S_pixel


@given(
    st.integers(0, 10**6),
    st.integers(2, 9),
    st.sampled_from([1, 3]),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_pixel_similarity_is_the_formula(
    seed: int, num_images: int, channels: int, height: int, width: int
) -> None:
    images = _uint8(seed, num_images, channels, height, width)
    first, second = every_pair(num_images)
    similarity = PixelSimilarity(torch.from_numpy(images))(first, second)
    expected = [oracles.pixel_similarity(images, i, j) for i, j in oracles.all_pairs(num_images)]
    # An image near the mean image has a short vector, whose angle float32 does not resolve.
    np.testing.assert_allclose(similarity.numpy(), expected, atol=2e-4)


def test_pixel_similarity_is_symmetric_and_one_for_the_same_image() -> None:
    similarity = PixelSimilarity(torch.from_numpy(_uint8(1, 12, 3, 6, 6)))
    first, second = every_pair(12)
    assert torch.equal(similarity(first, second), similarity(second, first))
    torch.testing.assert_close(similarity(first, first), torch.ones(len(first)))


def test_image_equal_to_the_mean_is_similar_to_none() -> None:
    images = np.stack([np.full((1, 2, 2), value, dtype=np.uint8) for value in (10, 20, 30)])
    similarity = PixelSimilarity(torch.from_numpy(images))
    assert similarity(torch.tensor([1, 0]), torch.tensor([2, 1])).tolist() == [0, 0]


def test_mean_image_is_exact_over_more_images_than_a_chunk() -> None:
    images = _uint8(5, 9001, 1, 2, 3)
    mean = PixelSimilarity(torch.from_numpy(images)).mean_image
    np.testing.assert_allclose(mean.numpy(), images.astype(np.float64).mean(axis=(0, 1)), rtol=1e-6)


# S_target


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30),
    st.floats(1 / 128, 127 / 128, width=32),
)
@example([0.5, -0.5, 0.75, -0.75], 0.5)  # at the threshold: 0
def test_targets_are_the_formula(similarities: list[float], threshold: float) -> None:
    targets = threshold_targets(torch.tensor(similarities), threshold)
    assert targets.tolist() == [oracles.target(s, threshold) for s in similarities]


# S_cnn

SHAPES = ((3, 4, 5), (5, 2, 2), (2, 1, 1))  # channels, height, width of three layers


def _features(seed: int, num_pairs: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    rng = generator(seed, "features")
    return [torch.randn(2 * num_pairs, *s, generator=rng, dtype=dtype) + 0.5 for s in SHAPES]


def _similarity(decay: float = 0.9, logits: Any = (0.0, 0.0, 0.0)) -> FeatureSimilarity:
    module = FeatureSimilarity([shape[0] for shape in SHAPES], mean_decay=decay).double()
    with torch.no_grad():
        module.layer_logits.copy_(torch.tensor(logits, dtype=torch.float64))
    return module


def _means(module: FeatureSimilarity) -> list[Tensor]:
    return [module.get_buffer(f"mean{layer}").clone() for layer in range(len(SHAPES))]


@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.integers(1, 4),
    st.floats(0, 0.99),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_feature_similarity_is_the_formula(
    seed: int, num_pairs: int, num_batches: int, decay: float, logits: list[float]
) -> None:
    module = _similarity(decay, logits)
    batches = [_features(seed + number, num_pairs) for number in range(num_batches)]
    for batch in batches:
        similarity = module(batch)
    arrays = [[layer.numpy() for layer in batch] for batch in batches]
    means = oracles.running_means(arrays, decay)
    expected = oracles.cnn_similarity(arrays[-1], means, logits)
    # The decay itself is a float32.
    np.testing.assert_allclose(similarity.detach().numpy(), expected, atol=1e-6)


def test_evaluation_subtracts_the_means_of_training_and_leaves_them() -> None:
    module = _similarity()
    shown = _features(0, 4)
    module.eval()(_features(2, 4))  # means do not start with an evaluation either
    module.train()(shown)
    before = _means(module)
    features = _features(1, 4)
    similarity = module.eval()(features)
    assert all(torch.equal(a, b) for a, b in zip(_means(module), before, strict=True))
    means = oracles.running_means([[layer.numpy() for layer in shown]], 0.9)
    expected = oracles.cnn_similarity([f.numpy() for f in features], means, [0, 0, 0])
    np.testing.assert_allclose(similarity.detach().numpy(), expected, atol=1e-12)


def test_running_mean_carries_no_gradient() -> None:
    trained, evaluated = _similarity(decay=0.0), _similarity(decay=0.0)
    features = _features(0, 3)
    evaluated(features)  # its means are now those that training will subtract
    evaluated.eval()
    gradients = []
    for module in (trained, evaluated):
        leaves = [layer.clone().requires_grad_(True) for layer in features]
        weights = torch.arange(1, 4, dtype=torch.float64)
        (module(leaves) * weights).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for in_training, in_evaluation in zip(*gradients, strict=True):
        torch.testing.assert_close(in_training, in_evaluation)


@pytest.mark.parametrize("side", [32, 64, 128, 224])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_equal_images_have_similarity_one_and_a_finite_gradient(
    side: int, precision: torch.dtype
) -> None:
    rng = torch.Generator().manual_seed(side)
    one = torch.rand((1, 32, side, side), generator=rng) * 10
    features = torch.cat([one, one]).to(precision).requires_grad_()
    module = FeatureSimilarity([32], mean_decay=0.9)
    similarity = module([features])
    assert 1 - 1e-6 < similarity.item() <= 1
    loss = similarity_loss(similarity, torch.zeros(1))
    # z(1) = log(2 + e) - log(e) with e = 1e-5
    assert loss.item() == pytest.approx(math.log(2e5) ** 2, rel=0.02)
    loss.backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("side", [32, 224])
def test_pixel_similarity_of_equal_and_opposite_images(side: int) -> None:
    image = _uint8(side, 1, 3, side, side)
    images = np.concatenate([image, image, 255 - image, 255 - image])
    similarity = PixelSimilarity(torch.from_numpy(images))
    first, second = torch.tensor([0, 0]), torch.tensor([1, 2])
    found = similarity(first, second)
    assert found.abs().max() <= 1
    torch.testing.assert_close(found, torch.tensor([1.0, -1.0]), atol=1e-6, rtol=0)
    unit = similarity.unit_vectors()
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(4), atol=1e-4, rtol=0)


def test_vanishing_features_have_a_finite_gradient() -> None:
    features = torch.zeros((4, 3, 2, 2), requires_grad=True)
    similarity = FeatureSimilarity([3], mean_decay=0.9)([features])
    assert similarity.tolist() == [0, 0]
    similarity.sum().backward()
    assert features.grad is not None
    assert features.grad.tolist() == torch.zeros(4, 3, 2, 2).tolist()
