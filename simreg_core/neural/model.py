"""The predictive model of neural responses: its configuration, network, file and predictions.

A small convolutional core is shared by all neurons; each neuron reads it out at a place (a spatial
mask) with feature weights of its own (Klindt et al. 2017, arXiv:1711.02653). It is fitted in
:mod:`simreg_core.neural.fitting`. Its predictions are free of the noise of single trials: they
denoise the similarities that a network is regularized with (Li et al. 2019, arXiv:1911.05072).

Legend: N images, M neurons, C channels, P positions of the core's output.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from simreg_core.config.base import Config, PositiveInt, Seed
from simreg_core.errors import ConfigError
from simreg_core.networks import checkpoint
from simreg_core.networks.network import evaluation_mode
from simreg_core.regularizer.responses import grey_pixels
from simreg_core.seeding import global_rng
from simreg_core.storage.array_cache import Arrays, cached_arrays, file_stamp

_BATCH = 256
_CACHE_VERSION = 1  # to be raised when the same file and images give other responses
_RATE_FLOOR = 1e-4  # keeps the logarithm of the Poisson loss finite
_OutOfTwo = Annotated[float, Field(gt=0, lt=0.5)]


class NeuralConfig(Config):
    """The predictive model and its fitting."""

    image_size: Annotated[int, Field(ge=8, le=256)] = 32
    """Side in pixels that images are resized to."""
    channels: Annotated[int, Field(ge=1, le=512)] = 16
    """C: width of every layer of the core."""
    layers: Annotated[int, Field(ge=1, le=8)] = 2
    """Convolutions of the core; the outputs of the first two are averaged over 2x2 pixels."""
    first_kernel: Annotated[int, Field(ge=1, le=31)] = 9
    """Odd side in pixels of the first convolution."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 3
    """Odd side of the further ones."""
    loss: Literal["poisson", "mse"] = "poisson"
    """``mse`` for responses that can be negative, such as dF/F."""
    epochs: PositiveInt = 200
    """At most; usually the early stopping comes first."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    patience: PositiveInt = 12
    """Epochs without a better validation correlation, after which the best weights are taken back
    and the learning rate is lowered, or fitting stops."""
    decays: Annotated[int, Field(ge=0)] = 2
    """How often the learning rate is multiplied by 0.3 before fitting stops."""
    readout_l1: Annotated[float, Field(ge=0)] = 0.003
    """Weight of the mean over neurons of |mask|_1 |features|_1, which makes readouts local. On
    simulated recordings (one seed) 0.003 denoised better than 0.01 and 0.04."""
    core_weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight of the squared norm of the core's filters."""
    weighting: Literal["correlation", "none"] = "correlation"
    """Whether denoised responses weight neurons by how well they are predicted."""
    validation_share: _OutOfTwo = 0.15
    """Share of the images that fitting is stopped by."""
    test_share: _OutOfTwo = 0.15
    """Share of the images that nothing but the final correlation sees."""
    seed: Seed = 0

    @field_validator("first_kernel", "kernel")
    @classmethod
    def _odd(cls, side: int) -> int:
        if side % 2 == 0:
            raise ValueError(f"expected an odd number of pixels, found {side}")
        return side


class PredictiveNetwork(nn.Module):
    """Core and readouts; the output per neuron is a rate (``poisson``) or any number (``mse``).

    Args:
        config: Of the model.
        num_neurons: M.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: NeuralConfig, num_neurons: int) -> None:
        super().__init__()
        self.rectified = config.loss == "poisson"
        self.register_buffer("pixel_mean", torch.zeros(()))
        self.register_buffer("pixel_std", torch.ones(()))
        self.core = _core(config)
        positions = (config.image_size // 2 ** min(config.layers, 2)) ** 2
        # In units of 1 / P: the optimizer's steps fit numbers of about 1.
        self.mask = nn.Parameter(1 + 0.1 * torch.randn(num_neurons, positions))
        self.features = nn.Parameter(
            torch.randn(num_neurons, config.channels) / config.channels**0.5
        )
        self.bias = nn.Parameter(torch.zeros(num_neurons))

    def forward(self, pixels: Tensor) -> Tensor:
        """Outputs (B, M) of grey pixels in [0, 1], (B, 1, side, side)."""
        core = self.core((pixels - self.pixel_mean) / self.pixel_std).flatten(2)
        pooled = core @ (self.mask.T / self.mask.shape[1])  # (B, C, M)
        output: Tensor = (pooled * self.features.T).sum(dim=1) + self.bias
        return functional.softplus(output) + _RATE_FLOOR if self.rectified else output

    def readout_penalty(self) -> Tensor:
        """Mean over neurons of |mask|_1 |features|_1."""
        return (self.mask.abs().mean(dim=1) * self.features.abs().sum(dim=1)).mean()


def _core(config: NeuralConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(config.layers):
        kernel = config.kernel if number else config.first_kernel
        width = config.channels
        layers += [
            nn.Conv2d(width if number else 1, width, kernel, padding="same", bias=False),
            nn.BatchNorm2d(width),
            nn.ELU(),
        ]
        if number < 2:
            layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers)


def build_network(config: NeuralConfig, num_neurons: int) -> PredictiveNetwork:
    """A network with initial weights by the configuration's seed, in training mode."""
    with global_rng(config.seed):
        return PredictiveNetwork(config, num_neurons)


class FitRecord(NamedTuple):
    """What one epoch of fitting did."""

    epoch: int
    learning_rate: float
    train_loss: float
    validation_correlation: float
    """Mean over neurons."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FittedModel:
    """A fitted network, and how well it predicts each neuron; float64 (M,) where not said.

    Correlations are Pearson's between the prediction and the mean response over the trials of an
    image, over the images of a split; 0 where one of them is constant.
    """

    config: NeuralConfig
    network: PredictiveNetwork
    neurons: tuple[str, ...]
    prediction_mean: Tensor
    """Over the training images."""
    prediction_std: Tensor
    validation_correlation: Tensor
    test_correlation: Tensor
    noise_ceiling: Tensor
    """Highest test correlation that a perfect model can expect; NaN without repeats."""
    records: tuple[FitRecord, ...]

    @property
    def weights(self) -> Tensor:
        """Weight of each neuron in similarities, float64 (M,) in [0, 1].

        max(correlation, 0): neurons that the model does not predict carry nothing but error. Li et
        al. scale each predicted response by its correlation for that reason. The correlation is
        that on the validation images, so test figures stay untouched. All 1 for ``weighting:
        none``, and where no neuron is predicted.
        """
        weights = self.validation_correlation.clamp_min(0)
        if self.config.weighting == "none" or not bool(weights.any()):
            return torch.ones_like(weights)
        return weights

    def outputs(self, images: Tensor) -> Tensor:
        """Predicted responses, float32 (N, M), in units of each neuron's mean (or deviation)."""
        device = self.network.bias.device
        result = torch.empty(len(images), len(self.neurons))
        with evaluation_mode(self.network), torch.no_grad():
            for start in range(0, len(images), _BATCH):
                rows = slice(start, start + _BATCH)
                pixels = grey_pixels(images[rows].to(device), self.config.image_size)
                result[rows] = self.network(pixels).cpu()
        return result

    def predict(self, images: Tensor) -> Tensor:
        """Predicted responses as z-scores over the training images, float32 (N, M), on the CPU.

        Args:
            images: uint8 (N, C, H, W) of any size, grey or colour; converted to what the network
                was fitted on: channels averaged, centre-cropped, resized.

        Raises:
            ValueError: ``images`` is not uint8 (N, C, H, W).
        """
        centred = self.outputs(images) - self.prediction_mean.to(torch.float32)
        return centred / self.prediction_std.to(torch.float32)

    def denoise(self, images: Tensor) -> Tensor:
        """:meth:`predict`, each neuron multiplied by its weight: what similarities are made of."""
        return self.predict(images) * self.weights.to(torch.float32)

    def save(self, path: Path) -> None:
        """Write the model; whole or absent."""
        payload = {
            "kind": "neural model",
            "config": self.config.model_dump(mode="json"),
            "network": {name: value.cpu() for name, value in self.network.state_dict().items()},
            "neurons": list(self.neurons),
            "records": [list(record) for record in self.records],
            **{name: getattr(self, name) for name in _STATISTICS},
        }
        checkpoint.save(payload, path)


_STATISTICS = (
    "prediction_mean",
    "prediction_std",
    "validation_correlation",
    "test_correlation",
    "noise_ceiling",
)


def load_model(path: Path, *, key: str, device: torch.device | str = "cpu") -> FittedModel:
    """The model that :meth:`FittedModel.save` wrote.

    Args:
        path: Its file.
        key: Configuration key or flag that named the file, for messages.
        device: Where the network shall compute.

    Raises:
        ConfigError: the file is missing, damaged, or no predictive model; names ``key``.
    """
    try:
        payload = checkpoint.load(path)
    except checkpoint.CheckpointError as err:
        raise ConfigError(" ".join(f"{key}: {err}".split())) from err
    if payload.get("kind") != "neural model":
        raise ConfigError(
            f"{key}: {path} is no predictive model of neural responses "
            "(python -m simreg_core.neural fit writes one)"
        )
    return _from_payload(payload, f"{key}: {path}", device)


def _from_payload(payload: dict[str, Any], where: str, device: torch.device | str) -> FittedModel:
    try:
        config = NeuralConfig.model_validate(payload["config"])
        network = build_network(config, len(payload["neurons"]))
        network.load_state_dict(payload["network"])
        return FittedModel(
            config=config,
            network=network.to(device).eval(),
            neurons=tuple(payload["neurons"]),
            records=tuple(FitRecord(*record) for record in payload["records"]),
            **{name: payload[name] for name in _STATISTICS},
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as err:
        reason = " ".join(str(err).split())
        raise ConfigError(f"{where} is a predictive model of another version: {reason}") from err


def denoised_responses(model_file: Path, images: Tensor, key: str) -> Tensor:
    """:meth:`FittedModel.denoise` of images, float32 (N, M) on the CPU, from the array cache.

    The model file is read only where the cache has no responses of it to these images.

    Args:
        model_file: What :meth:`FittedModel.save` wrote; known by its path, size and mtime.
        images: uint8 (N, C, H, W).
        key: Configuration key that named the file, for messages.

    Raises:
        ConfigError: the model file is missing, damaged, or no predictive model; names the key.
    """
    identity = (
        f"denoised responses {_CACHE_VERSION}",
        file_stamp(model_file, key),
        tuple(images.shape),
        _digest(images),
    )

    def build() -> Arrays:
        return {"responses": load_model(model_file, key=key).denoise(images).numpy()}

    return torch.from_numpy(cached_arrays(identity, build, key)["responses"])


def _digest(images: Tensor) -> str:
    digest = hashlib.sha256()
    for chunk in images.split(4096):
        digest.update(chunk.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
