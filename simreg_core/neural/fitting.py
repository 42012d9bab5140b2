"""Fitting the predictive model of neural responses to recordings, and judging it.

Images, not trials, are split into training, validation and test; copies of an image stay together.
The model is fitted to the mean response over the trials of each image, in units of each neuron's
mean (``poisson``) or standard deviation (``mse``), so that all neurons count alike. On the CPU
the result is a function of recordings, configuration and number of threads.

Legend: I images, M neurons.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.errors import ConfigError
from simreg_core.neural.model import (
    FitRecord,
    FittedModel,
    NeuralConfig,
    PredictiveNetwork,
    build_network,
)
from simreg_core.neural.recordings import Recordings
from simreg_core.regularizer.responses import grey_pixels, pearson
from simreg_core.seeding import generator

_DECAY = 0.3
_SPREAD_FLOOR = 1e-6
_MIN_IMAGES = 3
"""Of a split: a correlation over two is always +-1."""


class ImageSplit(NamedTuple):
    """Ascending indices of images, int64; disjoint, together all."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split_images(images: Tensor, config: NeuralConfig) -> ImageSplit:
    """Training, validation and test images; equal images are in one split.

    Raises:
        ConfigError: there are too few different images.
    """
    numbers: dict[bytes, int] = {}
    group = torch.tensor([numbers.setdefault(i.numpy().tobytes(), len(numbers)) for i in images])
    num_groups = len(numbers)
    num_validation = round(num_groups * config.validation_share)
    num_test = round(num_groups * config.test_share)
    if min(num_validation, num_test, num_groups - num_validation - num_test) < _MIN_IMAGES:
        raise ConfigError(
            f"recordings: {num_groups} different images are too few: at least {_MIN_IMAGES} are "
            f"needed for each of training, validation (share {config.validation_share:g}) and "
            f"test (share {config.test_share:g})"
        )
    order = torch.randperm(num_groups, generator=generator(config.seed, "neural split"))
    held_out = num_validation + num_test
    parts = order[held_out:], order[:num_validation], order[num_validation:held_out]
    return ImageSplit(*(torch.isin(group, part).nonzero().flatten() for part in parts))


def noise_ceiling(recordings: Recordings, index: Tensor) -> Tensor:
    """Expected correlation of a perfect model with the mean responses, float64 (M,) in [0, 1].

    sqrt(signal variance / variance of the mean responses), where the signal variance is the latter
    less the mean noise variance of a mean over an image's trials (explainable variance; Schoppe et
    al. 2016, Front. Comput. Neurosci. 10:10). An estimate: noisy with few images.

    Args:
        recordings: Images and trials.
        index: Images it is computed over; those with one trial are left out.

    Returns:
        NaN for all neurons where fewer than three of the images have two trials.
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
    on_epoch: Callable[[FitRecord], None] | None = None,
) -> FittedModel:
    """Fit a predictive model; the kept weights have the best mean validation correlation.

    Args:
        recordings: Images and trials.
        config: Of the model and the fitting.
        device: Where to compute; the model stays there.
        on_epoch: Called with every epoch's record.

    Raises:
        ConfigError: too few images, no response that depends on the image, or negative responses
            with the Poisson loss.
    """
    split = split_images(recordings.images, config)
    mean = recordings.mean_responses()
    if bool((mean[split.train] == mean[split.train[0]]).all()):
        raise ConfigError(
            f"responses: the mean response of each of the {mean.shape[1]} neurons is the same to "
            f"all {len(split.train)} training images; nothing can be fitted"
        )
    targets = _scaled(mean, split.train, config).to(device)
    pixels = grey_pixels(recordings.images, config.image_size).to(device)
    network = build_network(config, targets.shape[1]).to(device)
    network.pixel_mean.copy_(pixels[split.train].mean())
    network.pixel_std.copy_(pixels[split.train].std().clamp_min(_SPREAD_FLOOR))
    _start_at_mean(network, targets[split.train])
    _start_at_receptive_fields(network, pixels[split.train], targets[split.train])
    fitting = _Fitting(config, network)
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        loss = fitting.run_epoch(epoch, pixels, targets, split.train)
        correlation = _correlation(network, pixels, targets, split.validation).mean().item()
        rate = fitting.learning_rate
        record = FitRecord(epoch, rate, loss, correlation, time.perf_counter() - started)
        fitting.records.append(record)
        if on_epoch is not None:
            on_epoch(record)
        if not fitting.goes_on(correlation):
            break
    network.load_state_dict(fitting.kept)
    return _judged(recordings, config, fitting, split, pixels, targets)


@dataclass
class _Fitting:
    """The optimizer and what early stopping remembers."""

    config: NeuralConfig
    network: PredictiveNetwork
    records: list[FitRecord] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    best: float = -math.inf
    waited: int = 0
    decays: int = 0

    def __post_init__(self) -> None:
        core = list(self.network.core.parameters())
        readout = [self.network.mask, self.network.features, self.network.bias]
        self.optimizer = torch.optim.Adam(
            [{"params": core}, {"params": readout}], lr=self.config.learning_rate
        )

    @property
    def learning_rate(self) -> float:
        return self.config.learning_rate * _DECAY**self.decays

    def run_epoch(self, epoch: int, pixels: Tensor, targets: Tensor, train: Tensor) -> float:
        """One pass over the training images; the mean loss without penalties."""
        self.network.train()
        rng = generator(self.config.seed, "neural batches", epoch)
        order = train[torch.randperm(len(train), generator=rng)]
        # Equal batches: a last one of a single image has no batch statistics.
        batches = order.tensor_split(math.ceil(len(order) / self.config.batch_size))
        total = 0.0
        for batch in batches:
            index = batch.to(pixels.device)
            loss = _loss(self.network(pixels[index]), targets[index], self.config)
            self.optimizer.zero_grad()
            (loss + self._penalty()).backward()
            self.optimizer.step()
            total += loss.item() * len(batch)
        if not math.isfinite(total):
            raise ConfigError(
                f"learning_rate: the loss is {total} in epoch {epoch}; expected a learning rate "
                f"below {self.learning_rate:g}"
            )
        return total / len(order)

    def _penalty(self) -> Tensor:
        filters = [p for p in self.network.core.parameters() if p.ndim == 4]
        norm = torch.stack([f.square().sum() for f in filters]).sum()
        readout = self.network.readout_penalty()
        return self.config.core_weight_decay * norm + self.config.readout_l1 * readout

    def goes_on(self, correlation: float) -> bool:
        """Keep the weights if they are the best; after a while without, decay or stop."""
        if correlation > self.best:
            self.best, self.waited = correlation, 0
            self.kept = copy.deepcopy(self.network.state_dict())
            return True
        self.waited += 1
        if self.waited < self.config.patience:
            return True
        self.decays, self.waited = self.decays + 1, 0
        if self.decays > self.config.decays:
            return False
        self.network.load_state_dict(self.kept)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        return True


def _scaled(mean: Tensor, train: Tensor, config: NeuralConfig) -> Tensor:
    if config.loss == "mse":
        spread = mean[train].std(dim=0)
        centred = mean - mean[train].mean(dim=0)
        return (centred / torch.where(spread > 0, spread, 1.0)).to(torch.float32)
    if bool((mean < 0).any()):
        image, neuron = (mean < 0).nonzero()[0].tolist()
        raise ConfigError(
            f"responses: the Poisson loss needs mean responses of at least 0, found "
            f"{mean[image, neuron]:g} (image {image}, neuron {neuron}); for such responses set "
            "loss=mse"
        )
    level = mean[train].mean(dim=0)
    return (mean / torch.where(level > 0, level, 1.0)).to(torch.float32)


def _start_at_mean(network: PredictiveNetwork, targets: Tensor) -> None:
    """The bias whose output is each neuron's mean training response."""
    mean = targets.mean(dim=0)
    with torch.no_grad():
        start = torch.log(torch.expm1(mean.clamp_min(1e-2))) if network.rectified else mean
        network.bias.copy_(start)


def _start_at_receptive_fields(network: PredictiveNetwork, pixels: Tensor, targets: Tensor) -> None:
    """Masks that begin where a neuron's response goes with the local contrast.

    From masks that are the same everywhere, some fits never found the receptive fields.
    """
    side = math.isqrt(network.mask.shape[1])
    contrast = functional.adaptive_avg_pool2d((pixels - pixels.mean(dim=0)).square(), side)
    maps = contrast.flatten(1)
    centred = (maps - maps.mean(dim=0)) / maps.std(dim=0).clamp_min(_SPREAD_FLOOR)
    scored = (targets - targets.mean(dim=0)) / targets.std(dim=0).clamp_min(_SPREAD_FLOOR)
    correlation = (scored.T @ centred / len(maps)).clamp_min(0)
    with torch.no_grad():
        level = correlation.mean(dim=1, keepdim=True)
        network.mask.copy_(correlation / level.clamp_min(_SPREAD_FLOOR))


def _loss(output: Tensor, target: Tensor, config: NeuralConfig) -> Tensor:
    if config.loss == "mse":
        return (output - target).square().mean()
    return (output - target * output.log()).mean()


def _outputs(network: PredictiveNetwork, pixels: Tensor, index: Tensor) -> Tensor:
    network.eval()
    with torch.no_grad():
        parts = [network(pixels[part.to(pixels.device)]) for part in index.split(256)]
    return torch.cat(parts)


def _correlation(
    network: PredictiveNetwork, pixels: Tensor, targets: Tensor, index: Tensor
) -> Tensor:
    outputs = _outputs(network, pixels, index)
    return pearson(outputs, targets[index.to(targets.device)]).cpu()


def _judged(
    recordings: Recordings,
    config: NeuralConfig,
    fitting: _Fitting,
    split: ImageSplit,
    pixels: Tensor,
    targets: Tensor,
) -> FittedModel:
    network = fitting.network.eval()
    predicted = _outputs(network, pixels, split.train).to(torch.float64).cpu()
    return FittedModel(
        config=config,
        network=network,
        neurons=recordings.neurons,
        prediction_mean=predicted.mean(dim=0),
        prediction_std=predicted.std(dim=0).clamp_min(_SPREAD_FLOOR),
        validation_correlation=_correlation(network, pixels, targets, split.validation),
        test_correlation=_correlation(network, pixels, targets, split.test),
        noise_ceiling=noise_ceiling(recordings, split.test),
        records=tuple(fitting.records),
    )
