"""Fit the predictive model of neural responses to recordings, and evaluate it.

The images are split into training, validation and test images; copies of an image stay together.
The targets are the mean responses over the trials of an image, in units of each neuron's mean
(``poisson``) or standard deviation (``mse``), so that all neurons have equal influence. On the CPU
the result depends on the recordings, the configuration and the number of threads only.

Legend: I images, M neurons.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.errors import ConfigError
from simreg_core.neural.model import FitRecord, FittedModel, NeuralConfig, PredictiveNetwork
from simreg_core.neural.recordings import Recordings
from simreg_core.regularizer.responses import grey_pixels, pearson
from simreg_core.seeding import generator

_DECAY = 0.3
_SPREAD_FLOOR = 1e-6
_MIN_IMAGES = 3  # a correlation over two images is always +-1


class ImageSplit(NamedTuple):
    """Ascending indices of images, int64; every image is in one of the three."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split_images(images: Tensor, config: NeuralConfig) -> ImageSplit:
    """Split images at random. Equal images are in the same split.

    Raises:
        ConfigError: there are too few different images.
    """
    numbers: dict[bytes, int] = {}
    group = torch.tensor([numbers.setdefault(i.numpy().tobytes(), len(numbers)) for i in images])
    num_groups = len(numbers)
    num_validation = round(num_groups * config.validation_share)
    num_test = round(num_groups * config.test_share)
    held_out = num_validation + num_test
    if min(num_validation, num_test, num_groups - held_out) < _MIN_IMAGES:
        shares = f"validation_share={config.validation_share:g}, test_share={config.test_share:g}"
        raise ConfigError(
            f"recordings: {num_groups} different images are too few: training, validation and test "
            f"need at least {_MIN_IMAGES} each ({shares})"
        )
    order = torch.randperm(num_groups, generator=generator(config.seed, "neural split"))
    parts = order[held_out:], order[:num_validation], order[num_validation:held_out]
    return ImageSplit(*(torch.isin(group, part).nonzero().flatten() for part in parts))


def noise_ceiling(recordings: Recordings, index: Tensor) -> Tensor:
    """Expected correlation of a perfect model with the mean responses, float64 (M,) in [0, 1].

    The ceiling is sqrt(signal variance / variance of the mean responses). The signal variance is
    the variance of the mean responses minus the mean noise variance of such a mean (explainable
    variance; Schoppe et al. 2016, Front. Comput. Neurosci. 10:10). The estimate is noisy for few
    images. Images with one trial are left out; with fewer than three others, the result is NaN.
    """
    index = index[recordings.num_trials()[index] > 1]
    if len(index) < _MIN_IMAGES:
        return torch.full((recordings.trials.shape[1],), torch.nan, dtype=torch.float64)
    total = recordings.mean_responses()[index].var(dim=0)
    noise = recordings.noise_variance()[index] / recordings.num_trials()[index, None]
    signal = (total - noise.mean(dim=0)).clamp_min(0)
    return torch.where(total > 0, signal / total, torch.zeros_like(total)).sqrt()


def fit(
    recordings: Recordings,
    config: NeuralConfig,
    *,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[FitRecord], None] = lambda record: None,
) -> FittedModel:
    """Fit a predictive model. The weights with the best mean validation correlation are kept.

    ``on_epoch`` is called with the record of every epoch. The fitted network stays on ``device``.

    Raises:
        ConfigError: there are too few images, no response depends on the image, responses are
            negative with the Poisson loss, or the loss diverges.
    """
    split = split_images(recordings.images, config)
    targets = _targets(recordings.mean_responses(), split.train, config).to(device)
    pixels = grey_pixels(recordings.images, config.image_size).to(device)
    network = PredictiveNetwork(config, targets.shape[1]).to(device)
    _initialize(network, pixels[split.train], targets[split.train])

    def correlation(index: Tensor) -> Tensor:
        return pearson(network.predict(pixels[index]), targets[index]).cpu()

    fitting = _Fitting(config, network)
    records = []
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        loss = fitting.run_epoch(epoch, pixels, targets, split.train)
        score = correlation(split.validation).mean().item()
        rate = fitting.learning_rate
        records.append(FitRecord(epoch, rate, loss, score, time.perf_counter() - started))
        on_epoch(records[-1])
        if fitting.should_stop(score):
            break
    network.load_state_dict(fitting.best_weights)
    predicted = network.predict(pixels[split.train]).to(torch.float64).cpu()
    return FittedModel(
        config=config,
        network=network.eval(),
        neurons=recordings.neurons,
        prediction_mean=predicted.mean(dim=0),
        prediction_std=predicted.std(dim=0).clamp_min(_SPREAD_FLOOR),
        validation_correlation=correlation(split.validation),
        test_correlation=correlation(split.test),
        noise_ceiling=noise_ceiling(recordings, split.test),
        records=tuple(records),
    )


class _Fitting:
    def __init__(self, config: NeuralConfig, network: PredictiveNetwork) -> None:
        self.config = config
        self.network = network
        self.learning_rate = config.learning_rate
        self.best_weights: dict[str, Tensor] = {}
        self._best = -math.inf
        self._waited = 0
        self._decays = 0
        readout = [network.mask, network.features, network.bias]
        parameters = [*network.core.parameters(), *readout]
        self._optimizer = torch.optim.Adam(parameters, lr=config.learning_rate)

    def run_epoch(self, epoch: int, pixels: Tensor, targets: Tensor, train: Tensor) -> float:
        """Train on every training image once. Returns the mean loss without penalties."""
        self.network.train()
        rng = generator(self.config.seed, "neural batches", epoch)
        order = train[torch.randperm(len(train), generator=rng)]
        total = 0.0
        # Batches of equal size, because a last batch of one image would have no statistics.
        for index in order.tensor_split(math.ceil(len(order) / self.config.batch_size)):
            loss = self._loss(self.network(pixels[index]), targets[index])
            self._optimizer.zero_grad()
            (loss + self._penalty()).backward()
            self._optimizer.step()
            total += loss.item() * len(index)
        if not math.isfinite(total):
            raise ConfigError(
                f"learning_rate: the loss is {total} in epoch {epoch}; expected a learning rate "
                f"below {self.learning_rate:g}"
            )
        return total / len(order)

    def _loss(self, output: Tensor, target: Tensor) -> Tensor:
        if self.config.loss == "mse":
            return (output - target).square().mean()
        return (output - target * output.log()).mean()

    def _penalty(self) -> Tensor:
        network = self.network
        filters = [p for p in network.core.parameters() if p.ndim == 4]
        norm = torch.stack([f.square().sum() for f in filters]).sum()
        readout = (network.mask.abs().mean(dim=1) * network.features.abs().sum(dim=1)).mean()
        return self.config.core_weight_decay * norm + self.config.readout_l1 * readout

    def should_stop(self, correlation: float) -> bool:
        """Keep the weights if they are the best. After too long without progress, decay or stop."""
        if correlation > self._best:
            self._best, self._waited = correlation, 0
            self.best_weights = copy.deepcopy(self.network.state_dict())
            return False
        self._waited += 1
        if self._waited < self.config.patience:
            return False
        self._decays, self._waited = self._decays + 1, 0
        self.network.load_state_dict(self.best_weights)
        self.learning_rate = self.config.learning_rate * _DECAY**self._decays
        self._optimizer.param_groups[0]["lr"] = self.learning_rate
        return self._decays > self.config.decays


def _targets(mean: Tensor, train: Tensor, config: NeuralConfig) -> Tensor:
    """Mean responses in units of each neuron, float32 (I, M)."""
    if bool((mean[train] == mean[train[0]]).all()):
        raise ConfigError(
            f"responses: the mean response of each of the {mean.shape[1]} neurons is the same to "
            f"all {len(train)} training images; nothing can be fitted"
        )
    level = mean[train].mean(dim=0)
    if config.loss == "mse":
        mean, level = mean - level, mean[train].std(dim=0)
    elif bool((mean < 0).any()):
        image, neuron = (mean < 0).nonzero()[0].tolist()
        raise ConfigError(
            "responses: expected mean responses of at least 0, found "
            f"{mean[image, neuron]:g} (image {image}, neuron {neuron}); set loss=mse if responses "
            "can be negative"
        )
    return (mean / torch.where(level > 0, level, 1.0)).to(torch.float32)


@torch.no_grad()
def _initialize(network: PredictiveNetwork, pixels: Tensor, targets: Tensor) -> None:
    """Set pixel statistics, bias and masks from the training images.

    The biases reproduce the mean responses. The masks start where the response correlates with the
    local contrast; with uniform masks some fits never found the receptive fields.
    """
    network.pixel_mean.copy_(pixels.mean())
    network.pixel_std.copy_(pixels.std().clamp_min(_SPREAD_FLOOR))
    mean = targets.mean(dim=0)
    network.bias.copy_(mean.clamp_min(1e-2).expm1().log() if network.rectified else mean)
    side = math.isqrt(network.mask.shape[1])
    contrast = functional.adaptive_avg_pool2d((pixels - pixels.mean(dim=0)).square(), side)
    correlation = _standardized(targets).T @ _standardized(contrast.flatten(1)) / len(pixels)
    correlation = correlation.clamp_min(0)
    level = correlation.mean(dim=1, keepdim=True).clamp_min(_SPREAD_FLOOR)
    network.mask.copy_(correlation / level)


def _standardized(values: Tensor) -> Tensor:
    return (values - values.mean(dim=0)) / values.std(dim=0).clamp_min(_SPREAD_FLOOR)
