"""The similarity loss, and the regularizer that computes it for random pairs of images.

    L = L_task + alpha * L_sim
    L_sim = mean over k pairs of (z(S_cnn) - z(S_target)) ** 2
    z(s) = log(1 + s + e) - log(1 - s + e),  e = 1e-5

z is 2 arctanh(s), twice the transform in the poster's formula, as in the published runs:
alpha = 10 here corresponds to alpha = 40 there. The mean over pairs, not the sum, keeps alpha and
k independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.networks.layers import channel_dimension, check_layers, layer_outputs
from simreg_core.networks.network import evaluation_mode
from simreg_core.regularizer.image_targets import PixelTarget
from simreg_core.regularizer.pairs import PairSampler
from simreg_core.regularizer.similarity import FeatureSimilarity, PixelSimilarity
from simreg_core.regularizer.targets import Similarities
from simreg_core.seeding import generator

FISHER_EPSILON = 1e-5


def fisher_z(similarity: Tensor) -> Tensor:
    """z(s) = 2 arctanh(s) of similarities in [-1, 1], finite at -1 and 1."""
    return torch.log(1 + similarity + FISHER_EPSILON) - torch.log(1 - similarity + FISHER_EPSILON)


def similarity_loss(
    s_cnn: Tensor, s_target: Tensor, transform: Literal["arctanh", "identity"] = "arctanh"
) -> Tensor:
    """L_sim, a scalar >= 0, of similarities (k,); without the transform for ``identity``."""
    if transform == "arctanh":
        s_cnn, s_target = fisher_z(s_cnn), fisher_z(s_target)
    return (s_cnn - s_target).square().mean()


class Comparison(NamedTuple):
    """What one call of the regularizer compared, without gradient."""

    s_cnn: Tensor
    """Similarities of the features of the k pairs, float32 (k,) in [-1, 1]."""
    s_target: Tensor
    """Target similarities, float32 (k,) in [-1, 1]."""
    gamma: Tensor
    """Weights of the layers (L,), >= 0, with sum 1."""


class SimilarityRegularizer(nn.Module):
    """L_sim of any network, on pairs drawn on the fly from N regularization images.

    ::

        regularizer = SimilarityRegularizer(model, images, layers=["layer1", "layer2"])
        optimizer = SGD([*model.parameters(), *regularizer.parameters()], lr=0.1)
        loss = cross_entropy(model(x), y) + 10.0 * regularizer()

    Each call draws k pairs and passes their 2k images through the network, in the network's mode,
    up to the last of the layers. Layers are found by forward hooks, which are there during this
    pass only. The network is not a part of this module: its parameters are its own.

    ``state_dict`` contains the running means, gamma and the position in the stream of random
    numbers. In evaluation mode, the running means do not change.

    Args:
        model: Any network, compiled or not, in ``DistributedDataParallel`` or not. Move it to its
            device first.
        images: Regularization images (N, C, H, W), N >= 2: uint8, divided by 255 for the network,
            or floating. They stay on their device.
        layers: Names of the compared modules, as in ``model.named_modules()``. Outputs are maps
            (B, C, H, W) or (B, H, W, C), tokens (B, T, C) or vectors (B, C).
        target: Images to S_target of their pairs, for example
            :class:`~simreg_core.regularizer.image_targets.PixelTarget`, the default.
        num_pairs: k, pairs per call.
        pairs: Draws the pairs; default: uniformly among all.
        gamma: ``trainable`` or ``uniform`` weights of the layers.
        transform: Transform of similarities before they are compared.
        mean_decay: Weight of the old running mean of the features, in [0, 1).
        preprocess: Applied to the floating images before the network, for example normalisation.
        seed: Root seed of the pairs. Give processes that train together different ones.

    Raises:
        ConfigError: (a ``ValueError``) a layer cannot be compared; lists those that can.
        ValueError: another argument is not allowed, or the target does not return similarities.
    """

    last: Comparison | None = None
    """What the last call compared; None before the first."""

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        *,
        layers: Iterable[str],
        target: Callable[[Tensor], Similarities] | None = None,
        num_pairs: int = 16,
        pairs: PairSampler | None = None,
        gamma: Literal["trainable", "uniform"] = "trainable",
        transform: Literal["arctanh", "identity"] = "arctanh",
        mean_decay: float = 0.9,
        preprocess: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.layers = (layers,) if isinstance(layers, str) else tuple(layers)
        _check(images, self.layers, num_pairs, gamma, transform, mean_decay)
        self.images = images
        self.num_pairs = num_pairs
        self.target = _checked((target or PixelTarget())(images), images)
        self.pairs = pairs or PairSampler(RegularizerConfig(), PixelSimilarity(images))
        self.transform = transform
        self.seed = seed
        self._model = (model,)  # in a tuple, so that it is no submodule
        self._preprocess = preprocess
        self._num_calls = 0
        with evaluation_mode(model):
            pixels = self._pixels(torch.arange(2))
            found = [*check_layers(model, pixels, self.layers).values()]
        is_square = pixels.shape[-1] == pixels.shape[-2]
        dimensions = [channel_dimension(output, is_square=is_square) for output in found]
        self.feature_similarity = FeatureSimilarity(
            [output.shape[dim] for output, dim in zip(found, dimensions, strict=True)],
            mean_decay=mean_decay,
            is_trainable=gamma == "trainable",
            dimensions=dimensions,
        ).to(found[0].device)

    def gamma(self) -> Tensor:
        """Layer weights (L,), in the order of ``layers``."""
        return self.feature_similarity.gamma()

    def draw(self, num_steps: int, rng: torch.Generator) -> Tensor:
        """Pairs of S steps, int64 (S, 2, k) on the CPU, drawn from the CPU generator ``rng``."""
        return self.pairs.batches(num_steps, self.num_pairs, rng)

    def features(self, pairs: Tensor) -> dict[str, Tensor]:
        """Features of the compared layers for both images of all pairs, in one pass of 2k images.

        ``pairs`` are those of one step from :meth:`draw`, (2, k).

        Raises:
            RuntimeError: the pass skips a layer, or the network cuts its features off its weights.
        """
        model = self._model[0]
        found = layer_outputs(model, self._pixels(pairs.flatten()), self.layers)
        is_cut = torch.is_grad_enabled() and not any(one.requires_grad for one in found.values())
        if is_cut and any(parameter.requires_grad for parameter in model.parameters()):
            raise RuntimeError(
                f"the features of {', '.join(self.layers)} have no gradient; a layer inside of "
                "torch.utils.checkpoint needs use_reentrant=False"
            )
        return found

    def forward(self, pairs: Tensor | None = None) -> Tensor:
        """L_sim, a scalar >= 0 with gradient.

        The network's pass takes place in the surrounding precision, the comparison in float32.

        Args:
            pairs: Those of one step from :meth:`draw`, (2, k); drawn here if None.
        """
        if pairs is None:
            rng = generator(self.seed, "pairs", self._num_calls)
            pairs = self.draw(1, rng)[0].to(self.images.device)
            self._num_calls += 1
        features = self.features(pairs)
        with torch.autocast(next(iter(features.values())).device.type, enabled=False):
            s_cnn = self.feature_similarity(features)
            s_target = self.target(*pairs).to(s_cnn.device)
            loss = similarity_loss(s_cnn, s_target, self.transform)
        self.last = Comparison(s_cnn.detach(), s_target, self.gamma().detach())
        return loss

    def get_extra_state(self) -> Tensor:
        """Number of calls so far that drew their own pairs, int64 scalar."""
        return torch.tensor(self._num_calls)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue after a number of calls."""
        self._num_calls = int(state)

    def _pixels(self, index: Tensor) -> Tensor:
        """Input of the network, for images at indices."""
        pixels = self.images[index]
        parameter = next(self._model[0].parameters(), None)
        if parameter is not None:
            pixels = pixels.to(parameter.device, non_blocking=True)
        if not pixels.is_floating_point():
            pixels = pixels.to(torch.float32) / 255
        if self._preprocess is not None:
            pixels = self._preprocess(pixels)
        return pixels if parameter is None else pixels.to(parameter.dtype)


def _checked(target: Similarities, images: Tensor) -> Similarities:
    """The target, tried on two pairs."""
    first = torch.arange(2, device=images.device)
    found: object = target(first, first.flip(0))
    is_right = isinstance(found, Tensor) and found.shape == (2,) and found.is_floating_point()
    if not is_right or not bool((found.abs() <= 1).all()):  # type: ignore[attr-defined]
        raise ValueError(
            f"target must return floating similarities (2,) in [-1, 1] of two pairs, found {found}"
        )
    return target


def _check(
    images: Tensor,
    layers: tuple[str, ...],
    num_pairs: int,
    gamma: str,
    transform: str,
    mean_decay: float,
) -> None:
    is_known = images.dtype == torch.uint8 or images.is_floating_point()
    if images.ndim != 4 or len(images) < 2 or not is_known:
        raise ValueError(
            "images must be two or more, uint8 or floating (N, C, H, W), "
            f"found {images.dtype} {tuple(images.shape)}"
        )
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be distinct names, one or more, found {layers!r}")
    if num_pairs != int(num_pairs) or num_pairs < 1:
        raise ValueError(f"num_pairs must be a whole number of at least 1, found {num_pairs!r}")
    if gamma not in ("trainable", "uniform"):
        raise ValueError(f"gamma must be trainable or uniform, found {gamma!r}")
    if transform not in ("arctanh", "identity"):
        raise ValueError(f"transform must be arctanh or identity, found {transform!r}")
    if not 0 <= mean_decay < 1:
        raise ValueError(f"mean_decay must be at least 0 and below 1, found {mean_decay}")
