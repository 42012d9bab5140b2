"""The regularizer with networks and training loops that are not the project's."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from simreg_core import FeatureTarget, LabelTarget, PixelTarget, SimilarityRegularizer
from simreg_core.seeding import generator
from tests import oracles

LAYERS = ("maps", "tokens", "vectors")


class Network(nn.Module):
    """A convolution, a transformer's layer and a linear one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.maps = nn.Conv2d(3, 8, 3, stride=2)
        self.tokens = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.vectors = nn.Linear(8, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokens(self.maps(x).flatten(2).transpose(1, 2))
        logits: Tensor = self.head(self.vectors(tokens.mean(dim=1)).relu())
        return logits


def _images(num_images: int = 20) -> Tensor:
    shape = (num_images, 3, 8, 8)
    return torch.randint(256, shape, generator=generator(0, "images"), dtype=torch.uint8)


def _regularizer(model: nn.Module, **options: Any) -> SimilarityRegularizer:
    options = {"layers": LAYERS, "target": PixelTarget(0.1), "num_pairs": 6, **options}
    return SimilarityRegularizer(model, _images(), **options)


def _gradients(model: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters()]
    return [torch.zeros(1) if one is None else one.clone() for one in found]


def test_maps_tokens_and_vectors_are_compared_without_the_mean_per_channel() -> None:
    model = Network()
    regularizer = _regularizer(model)
    pairs = regularizer.draw(1, generator(3, "pairs"))[0]
    loss = regularizer(pairs)

    features: dict[str, Any] = {}
    for name in LAYERS:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: features.update({name: output})
        )
    model(_images()[pairs.flatten()] / 255)
    maps, tokens, vectors = (features[name].detach().double().numpy() for name in LAYERS)
    # As maps (B, C, H, W), for which the formula is written.
    arrays = [maps, tokens.transpose(0, 2, 1)[..., None], vectors[..., None, None]]
    means = oracles.running_means([arrays], 0.9)
    s_cnn = oracles.cnn_similarity(arrays, means, [0, 0, 0])
    assert regularizer.last is not None
    np.testing.assert_allclose(regularizer.last.s_cnn.numpy(), s_cnn, atol=1e-5)
    assert regularizer.last.gamma.tolist() == pytest.approx([1 / 3] * 3)
    targets = regularizer.last.s_target.tolist()
    expected = oracles.similarity_loss(regularizer.last.s_cnn.tolist(), targets, "arctanh")
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)


def test_network_stays_as_it_is_and_its_weights_are_not_the_regularizers() -> None:
    model = Network()
    before = copy.deepcopy(model.state_dict())
    regularizer = _regularizer(model)
    regularizer().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert [name for name, _ in regularizer.named_parameters()] == [
        "feature_similarity.layer_logits"
    ]


def test_maps_with_the_channels_last_have_a_mean_per_channel() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 5, 3)
            self.last = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.conv(x).permute(0, 2, 3, 1)).mean(dim=(1, 2))  # type: ignore[no-any-return]

    first, last = (_regularizer(Last(), layers=[name]) for name in ("conv", "last"))
    torch.testing.assert_close(first(), last())
    mean = last.feature_similarity.get_buffer("mean0")
    torch.testing.assert_close(mean, first.feature_similarity.get_buffer("mean0"))
    assert mean.shape == (5,)


class Frozen(Network):
    """Batch normalisation in evaluation mode inside of a network in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3).eval()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x))


def test_modes_of_modules_stay_as_they_are() -> None:
    model = Frozen()
    regularizer = _regularizer(model)
    regularizer()
    assert not model.norm.training
    assert model.tokens.training
    assert torch.equal(model.norm.running_mean, torch.zeros(3))  # type: ignore[arg-type]


class Skipping(Network):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return self.head(self.maps(x).mean(dim=(2, 3))[:, :6])  # type: ignore[no-any-return]


class Cut(Network):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [(Skipping(), "may skip cannot be compared: tokens, vectors"), (Cut(), "have no gradient")],
)
def test_pass_without_the_layers_or_their_gradients_is_an_error(
    model: nn.Module, message: str
) -> None:
    regularizer = _regularizer(model)
    with pytest.raises(RuntimeError, match=message):
        regularizer()
    assert not any(module._forward_hooks for module in model.modules())


def test_regularizer_can_be_copied_pickled_and_used_in_double_precision() -> None:
    model = Network().double()
    regularizer = _regularizer(model)
    expected = regularizer().item()
    again = pickle.loads(pickle.dumps(_regularizer(model)))
    assert again().item() == copy.deepcopy(_regularizer(model))().item() == expected
    assert expected == pytest.approx(_regularizer(Network())().item(), rel=1e-4)


def test_resumed_regularizer_goes_on_with_the_same_pairs() -> None:
    model = Network()
    regularizer = _regularizer(model, seed=5)
    for _ in range(3):
        regularizer()
    resumed = _regularizer(model, seed=5)
    resumed.load_state_dict(regularizer.state_dict())
    assert torch.equal(resumed(), regularizer())
    assert not torch.equal(_regularizer(model, seed=6)(), _regularizer(model, seed=5)())


def test_under_autocast_features_are_rounded_and_the_loss_is_float32() -> None:
    model = Network()
    exact = _regularizer(model)()
    regularizer = _regularizer(model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = regularizer()
    assert loss.dtype == torch.float32
    assert loss.item() != exact.item()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)


def test_accumulated_gradients_are_the_mean_of_the_micro_batches() -> None:
    model = Network()
    regularizer = _regularizer(model)
    for _ in range(2):
        (regularizer() / 2).backward()
    accumulated = _gradients(model)
    regularizer, single = _regularizer(model), []
    for _ in range(2):
        model.zero_grad()
        regularizer().backward()
        single.append(_gradients(model))
    for found, *parts in zip(accumulated, *single, strict=True):
        torch.testing.assert_close(found, sum(parts) / 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_networks_are_regularized_as_plain_ones(in_place: bool) -> None:
    expected = _regularizer(Network())()
    model: Any = Network()
    if in_place:
        model.compile(backend="eager")
    else:
        model = torch.compile(model, backend="eager")
    model(_images(4) / 255)
    loss = cross_entropy(model(_images(4) / 255), torch.arange(4)) + 0 * _regularizer(model)()
    loss.backward()
    assert torch.equal(_regularizer(model)(), expected)


def _train_in_parallel(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2
    )
    model = DistributedDataParallel(Network())
    regularizer = DistributedDataParallel(_regularizer(model, seed=rank))
    optimizer = optim.SGD([*model.parameters(), *regularizer.parameters()], lr=0.1)
    images = _images() / 255
    for _ in range(2):
        optimizer.zero_grad()
        loss = cross_entropy(model(images[rank::2]), torch.arange(10) % 4) + regularizer()
        loss.backward()
        optimizer.step()
    torch.save([*model.parameters(), *regularizer.parameters()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_processes_that_train_together_agree_and_draw_different_pairs(tmp_path: Path) -> None:
    spawn(_train_in_parallel, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    # One process that averages the gradients of both parts of the batch.
    model = Network()
    regularizers = [_regularizer(model, seed=rank) for rank in range(2)]
    shared = regularizers[0].feature_similarity.layer_logits
    regularizers[1].feature_similarity.layer_logits = shared
    optimizer = optim.SGD([*model.parameters(), shared], lr=0.1)
    images, labels = _images() / 255, torch.arange(10) % 4
    for _ in range(2):
        optimizer.zero_grad()
        losses = [
            cross_entropy(model(images[rank::2]), labels) + regularizers[rank]()
            for rank in range(2)
        ]
        (sum(losses) / 2).backward()
        optimizer.step()
        # The running means of process 0 are sent to the other one.
        for name, mean in regularizers[1].feature_similarity.named_buffers():
            mean.copy_(regularizers[0].feature_similarity.get_buffer(name))
    for found, expected in zip(first, [*model.parameters(), shared], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_targets_from_python_are_their_formulas() -> None:
    model, images = Network(), _images()
    labels, features = torch.arange(20) % 3, torch.randn(20, 7, generator=generator(0, "f"))
    centred = (features - features.mean(dim=0)).double()
    for target, expected in (
        (LabelTarget(labels), lambda i, j: float(labels[i] == labels[j])),
        (
            FeatureTarget(features),
            lambda i, j: float(torch.cosine_similarity(centred[i], centred[j], dim=0)),
        ),
        (PixelTarget(None), lambda i, j: oracles.pixel_similarity(images.numpy(), i, j)),
        (lambda images: lambda first, second: (first - second) / 20, lambda i, j: (i - j) / 20),
    ):
        regularizer = _regularizer(model, target=target)
        pairs = regularizer.draw(1, generator(1, "pairs"))[0]
        regularizer(pairs)
        assert regularizer.last is not None
        assert regularizer.last.s_target.tolist() == pytest.approx(
            [expected(i, j) for i, j in pairs.T.tolist()], abs=1e-5
        )


class Twice(Network):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + super().forward(x.flip(3))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Network(), {"layers": ["map"]}, "no layer 'map'; layers that can be compared: maps, tok"),
        (Network(), {"layers": ["tokens.self_attn"]}, "returns tuple, expected a tensor"),
        (Twice(), {}, "layer 'maps' is called 2 times in a pass, expected once"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True)), {"layers": ["0"]}, "changed in place"),
        (Network(), {"layers": ()}, "layers must be distinct names"),
        (Network(), {"layers": ["maps", "maps"]}, "layers must be distinct names"),
        (Network(), {"num_pairs": 0}, "num_pairs must be a whole number of at least 1"),
        (Network(), {"gamma": "maps"}, "gamma must be trainable or uniform, found 'maps'"),
        (Network(), {"target": LabelTarget(torch.arange(3))}, r"labels must be \(20,\), as the im"),
        (Network(), {"target": LabelTarget(torch.zeros(20, 1))}, r"found \(20, 1\)"),
        (Network(), {"target": lambda _: lambda a, b: (a - b)[:, None]}, "target must return"),
        (Network(), {"target": lambda _: lambda a, b: a * torch.nan}, "target must return"),
    ],
)
def test_bad_argument_is_refused(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _regularizer(model, **options)
