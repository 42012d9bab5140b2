from __future__ import annotations

import gc
import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.config.trial import ModelConfig
from simreg_core.networks.network import Classifier, build_network
from simreg_core.regularizer.image_targets import PixelTarget
from simreg_core.regularizer.loss import (
    Comparison,
    SimilarityRegularizer,
    fisher_z,
    similarity_loss,
)
from simreg_core.regularizer.pairs import PairSampler, sample_pairs
from simreg_core.regularizer.similarity import FeatureSimilarity, PixelSimilarity
from simreg_core.seeding import generator
from tests import oracles
from tests.core_tests.trained_networks import as_resnet

Transform = Literal["arctanh", "identity"]
LAYERS = ("stem", "section1", "section2")

similarities = st.lists(st.floats(-1, 1), min_size=2, max_size=12)


@given(similarities)
def test_arctanh_transform_is_the_formula_and_twice_arctanh(values: list[float]) -> None:
    z = fisher_z(torch.tensor(values, dtype=torch.float64)).tolist()
    np.testing.assert_allclose(z, [oracles.z(s) for s in values], atol=1e-12)
    inner = [(found, 2 * math.atanh(s)) for found, s in zip(z, values, strict=True) if s * s < 0.9]
    assert all(found == pytest.approx(expected, abs=2e-4) for found, expected in inner)


@pytest.mark.parametrize("transform", ["arctanh", "identity"])
@given(values=similarities, seed=st.integers(0, 10**6))
def test_similarity_loss_is_the_formula(
    transform: Transform, values: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.choice([-1.0, 0.0, 1.0], len(values)).tolist()
    loss = similarity_loss(
        torch.tensor(values, dtype=torch.float64),
        torch.tensor(targets, dtype=torch.float64),
        transform,
    )
    expected = oracles.similarity_loss(values, targets, transform)
    assert float(loss) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("transform", ["arctanh", "identity"])
def test_gradient_of_the_loss_with_respect_to_features_and_gamma_is_right(
    transform: Transform,
) -> None:
    rng = generator(0, "features")
    shapes = ((6, 2, 3, 3), (6, 4, 2, 2))
    module = FeatureSimilarity([2, 4], mean_decay=0.9).double()
    module([torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in shapes])
    module.eval()
    targets = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)

    def loss(logits: Tensor, *features: Tensor) -> Any:
        s_cnn = torch.func.functional_call(module, {"layer_logits": logits}, (features,))
        return similarity_loss(s_cnn, targets, transform)

    logits = torch.tensor([0.4, -0.3], dtype=torch.float64)
    features = [torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in shapes]
    inputs = [tensor.requires_grad_(True) for tensor in (logits, *features)]
    assert torch.autograd.gradcheck(loss, inputs)


# The regularizer


def _images(num_images: int = 30, channels: int = 1, side: int = 6) -> Tensor:
    shape = (num_images, channels, side, side)
    return torch.randint(256, shape, generator=generator(0, "images"), dtype=torch.uint8)


def _model(channels: int = 1) -> Classifier:
    config = ModelConfig(base_channels=4, blocks=(1, 1))
    return build_network(config, channels=channels, num_classes=3, seed=0)


def _regularizer(images: Tensor, model: Classifier, **options: Any) -> SimilarityRegularizer:
    options = {"num_pairs": 8, "layers": LAYERS, "target": PixelTarget(0.1), **options}
    return SimilarityRegularizer(model.network, images, preprocess=model.prepare, **options)


def _compare(regularizer: SimilarityRegularizer) -> tuple[Tensor, Comparison]:
    loss = regularizer(regularizer.draw(1, generator(7, "pairs"))[0])
    assert regularizer.last is not None
    return loss, regularizer.last


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transform": "identity"},
        {"layers": ("section2", "stem")},
        {"layers": ("section2", "stem"), "gamma": "uniform"},
    ],
)
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "color"])
def test_regularizer_is_the_formula_on_the_pairs_it_draws(
    channels: int, options: dict[str, Any]
) -> None:
    images, model = _images(channels=channels), _model(channels)
    loss, batch = _compare(_regularizer(images, model, **options))
    first, second = sample_pairs(30, 8, generator(7, "pairs"))

    targets = [
        oracles.target(oracles.pixel_similarity(images.numpy(), i, j), 0.1)
        for i, j in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert len(set(targets)) == 3
    assert batch.s_target.tolist() == targets

    twin = _model(channels)
    with torch.no_grad():
        features = twin.features(images[torch.cat([first, second])] / 255)
    arrays = [features[name].double().numpy() for name in options.get("layers", features)]
    means = oracles.running_means([arrays], 0.9)
    s_cnn = oracles.cnn_similarity(arrays, means, [0] * len(arrays))
    np.testing.assert_allclose(batch.s_cnn.numpy(), s_cnn, atol=1e-5)
    transform = options.get("transform", "arctanh")
    expected = oracles.similarity_loss(batch.s_cnn.tolist(), targets, transform)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_loss_reaches_every_weight_but_the_heads_and_gamma() -> None:
    model = _model()
    regularizer = _regularizer(_images(), model)
    _compare(regularizer)[0].backward()
    for name, parameter in model.network.named_parameters():
        has_gradient = parameter.grad is not None and bool((parameter.grad != 0).any())
        assert has_gradient != name.startswith("head."), name
    gradient = regularizer.feature_similarity.layer_logits.grad
    assert gradient is not None
    assert bool((gradient != 0).any())


def test_nothing_above_the_last_layer_is_run() -> None:
    model = _model()
    alone = _regularizer(_images(), model, layers=("section1",))
    calls: list[nn.Module] = []
    as_resnet(model).sections()[1].register_forward_hook(lambda *args: calls.append(args[0]))
    _compare(alone)[0].backward()
    assert alone.gamma().tolist() == [1.0]
    assert calls == []


@pytest.mark.parametrize(("gamma", "is_trained"), [("trainable", True), ("uniform", False)])
def test_gamma_is_trained_only_where_it_is_trainable(gamma: str, is_trained: bool) -> None:
    model = _model()
    regularizer = _regularizer(_images(), model, gamma=gamma)
    optimizer = torch.optim.SGD(regularizer.parameters(), lr=1.0)
    before = regularizer.gamma().tolist()
    _compare(regularizer)[0].backward()
    optimizer.step()
    assert (regularizer.gamma().tolist() != before) == is_trained
    assert sum(before) == pytest.approx(1)


def _bytes_of_live_tensors() -> int:
    gc.collect()
    tensors = [value for value in gc.get_objects() if type(value) in (Tensor, nn.Parameter)]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_set_up_with_50000_images_holds_no_matrix_of_pairs() -> None:
    images, model = _images(50_000, side=4), _model()
    before = _bytes_of_live_tensors()
    config, pixels = RegularizerConfig(pairs="low"), PixelSimilarity(images)
    regularizer = _regularizer(images, model, pairs=PairSampler(config, pixels))
    # Running means, gamma and two mean images.
    assert _bytes_of_live_tensors() - before < 2000
    assert _compare(regularizer)[1].s_target.shape == (8,)
