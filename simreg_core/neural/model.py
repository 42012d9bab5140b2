"""The predictive model of neural responses: configuration, network, predictions and file.

All neurons share a small convolutional core. Each neuron reads it out with a spatial mask and
feature weights of its own (Klindt et al. 2017, arXiv:1711.02653).
:func:`simreg_core.neural.fitting.fit` fits the model. The predictions are free of the noise of
single trials, so similarities of predictions are denoised similarities (Li et al. 2019,
arXiv:1911.05072).

Legend: N images, M neurons, C channels, P positions in the output of the core.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from simreg_core.cli import program
from simreg_core.config.base import Config, PositiveInt, Seed
from simreg_core.errors import ConfigError, concerning, one_line
from simreg_core.networks import checkpoint
from simreg_core.networks.network import evaluation_mode
from simreg_core.regularizer.responses import grey_pixels
from simreg_core.seeding import global_rng
from simreg_core.storage.array_cache import Arrays, cached_arrays, file_stamp
from simreg_core.storage.location import to_path

_BATCH = 256
_CACHE_VERSION = 1  # raise it if the same file and images give other responses
_RATE_FLOOR = 1e-4  # keeps the logarithm of the Poisson loss finite
_KIND = "neural model"
_Share = Annotated[float, Field(gt=0, lt=0.5)]


class NeuralConfig(Config):
    """Settings of the predictive model and its fit."""

    image_size: Annotated[int, Field(ge=8, le=256)] = 32
    """Side in pixels to which images are resized."""
    channels: Annotated[int, Field(ge=1, le=512)] = 16
    """C, the width of every layer of the core."""
    layers: Annotated[int, Field(ge=1, le=8)] = 2
    """Convolutions of the core. The outputs of the first two are averaged over 2x2 pixels."""
    first_kernel: Annotated[int, Field(ge=1, le=31)] = 9
    """Side in pixels of the first convolution, odd."""
    kernel: Annotated[int, Field(ge=1, le=31)] = 3
    """Side in pixels of the other convolutions, odd."""
    loss: Literal["poisson", "mse"] = "poisson"
    """Use ``mse`` for responses that can be negative, such as dF/F."""
    epochs: PositiveInt = 200
    """Largest number of epochs. Fitting usually stops earlier."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    patience: PositiveInt = 12
    """Epochs without a better validation correlation until the learning rate decays."""
    decays: Annotated[int, Field(ge=0)] = 2
    """Number of times that the learning rate is multiplied by 0.3 before fitting stops."""
    readout_l1: Annotated[float, Field(ge=0)] = 0.003
    """Weight of the mean over neurons of |mask|_1 |features|_1, which makes readouts local. On
    simulated recordings (one seed) 0.003 denoised better than 0.01 and 0.04."""
    core_weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight of the squared norm of the core's filters."""
    weighting: Literal["correlation", "none"] = "correlation"
    """Weighting of neurons in denoised responses, see :attr:`FittedModel.weights`."""
    validation_share: _Share = 0.15
    """Share of the images for early stopping."""
    test_share: _Share = 0.15
    """Share of the images for the test correlation only."""
    seed: Seed = 0

    @field_validator("first_kernel", "kernel")
    @classmethod
    def _odd(cls, side: int) -> int:
        if side % 2 == 0:
            raise ValueError(f"expected an odd number of pixels, found {side}")
        return side


class PredictiveNetwork(nn.Module):
    """Core and readouts. The outputs are rates (``poisson``) or any numbers (``mse``).

    The initial weights depend on ``config.seed`` only.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: NeuralConfig, num_neurons: int) -> None:
        super().__init__()
        self.rectified = config.loss == "poisson"
        self.register_buffer("pixel_mean", torch.zeros(()))
        self.register_buffer("pixel_std", torch.ones(()))
        width = config.channels
        positions = (config.image_size // 2 ** min(config.layers, 2)) ** 2
        with global_rng(config.seed):
            self.core = _core(config)
            # In units of 1 / P, because the optimizer's steps suit numbers of about 1.
            self.mask = nn.Parameter(1 + 0.1 * torch.randn(num_neurons, positions))
            self.features = nn.Parameter(torch.randn(num_neurons, width) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(num_neurons))

    def forward(self, pixels: Tensor) -> Tensor:
        """Outputs (B, M) for grey pixels in [0, 1], (B, 1, side, side)."""
        core = self.core((pixels - self.pixel_mean) / self.pixel_std).flatten(2)
        pooled = core @ (self.mask.T / self.mask.shape[1])  # (B, C, M)
        output: Tensor = (pooled * self.features.T).sum(dim=1) + self.bias
        return functional.softplus(output) + _RATE_FLOOR if self.rectified else output

    def predict(self, pixels: Tensor) -> Tensor:
        """Outputs in evaluation mode without gradients, in batches."""
        with evaluation_mode(self), torch.no_grad():
            return torch.cat([self(batch) for batch in pixels.split(_BATCH)])


def _core(config: NeuralConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = config.channels
    for number in range(config.layers):
        shape = (width, width, config.kernel) if number else (1, width, config.first_kernel)
        layers += [nn.Conv2d(*shape, padding="same", bias=False), nn.BatchNorm2d(width), nn.ELU()]
        if number < 2:
            layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers)


class FitRecord(NamedTuple):
    """Results of one epoch."""

    epoch: int
    learning_rate: float
    train_loss: float
    validation_correlation: float
    """Mean over neurons."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FittedModel:
    """A fitted network and how well it predicts each neuron; tensors are float64 (M,).

    Correlations are Pearson's, over the images of a split, between the prediction and the mean
    response over trials. They are 0 if one of the two is constant.
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

        The weight is max(correlation, 0), because the responses of unpredicted neurons are mere
        error (Li et al. also scale by the correlation). It uses the validation images, so that test
        results stay untouched. All weights are 1 with ``weighting: none`` or if no neuron is
        predicted.
        """
        weights = self.validation_correlation.clamp_min(0)
        if self.config.weighting == "none" or not bool(weights.any()):
            return torch.ones_like(weights)
        return weights

    def predict(self, images: Tensor) -> Tensor:
        """Predicted responses as z-scores over the training images, float32 (N, M), on the CPU.

        Args:
            images: uint8 (N, C, H, W) of any size. Channels are averaged, and other sizes are
                centre-cropped and resized.
        """
        device = self.network.bias.device
        batches = (grey_pixels(b.to(device), self.config.image_size) for b in images.split(_BATCH))
        outputs = torch.cat([self.network.predict(pixels).cpu() for pixels in batches])
        centred = outputs - self.prediction_mean.to(torch.float32)
        return centred / self.prediction_std.to(torch.float32)

    def denoise(self, images: Tensor) -> Tensor:
        """:meth:`predict` with each neuron multiplied by its weight, for use in similarities."""
        return self.predict(images) * self.weights.to(torch.float32)

    def save(self, path: str | Path) -> None:
        """Write the model atomically."""
        path = to_path(path)
        payload = {
            **vars(self),
            "kind": _KIND,
            "config": self.config.model_dump(mode="json"),
            "network": {name: value.cpu() for name, value in self.network.state_dict().items()},
            "records": [list(record) for record in self.records],
        }
        checkpoint.save(payload, path)


def load_model(path: str | Path, *, key: str, device: torch.device | str = "cpu") -> FittedModel:
    """Load a model that :meth:`FittedModel.save` wrote.

    Raises:
        ConfigError: the file is missing, damaged, or not a predictive model; names ``key``.
    """
    path = to_path(path)
    try:
        payload = checkpoint.load(path)
        if payload.get("kind") != _KIND:
            raise ConfigError(
                f"{path} is not a predictive model of neural responses; "
                f"{program('simreg_core.neural')} fit writes one"
            )
        values = {field.name: payload[field.name] for field in fields(FittedModel)}
        config = NeuralConfig.model_validate(values["config"])
        network = PredictiveNetwork(config, len(values["neurons"]))
        network.load_state_dict(values["network"])
        records = tuple(FitRecord(*record) for record in values["records"])
        values |= {"config": config, "network": network.to(device).eval(), "records": records}
        return FittedModel(**values)
    except (checkpoint.CheckpointError, ConfigError) as err:
        raise ConfigError(f"{key}: {one_line(err)}") from err
    except (KeyError, TypeError, ValueError, RuntimeError) as err:
        raise ConfigError(f"{key}: {path} has another version: {one_line(err)}") from err


def denoised_responses(model_file: str | Path, images: Tensor, key: str) -> Tensor:
    """:meth:`FittedModel.denoise`, float32 (N, M) on the CPU, from the array cache.

    The model is loaded only if the cache has no responses for this model file and these images.

    ``key`` is the configuration key of the model file, for messages.
    """
    model_file = to_path(model_file)
    with concerning(key):
        stamp = file_stamp(model_file)
    identity = (
        f"denoised responses {_CACHE_VERSION}",
        stamp,
        tuple(images.shape),
        hashlib.sha256(images.cpu().flatten().numpy().data).hexdigest(),
    )

    def build() -> Arrays:
        return {"responses": load_model(model_file, key=key).denoise(images).numpy()}

    return torch.from_numpy(cached_arrays(identity, build)["responses"])
