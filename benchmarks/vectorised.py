"""Trials that differ in alpha, Th and seed only, trained together by ``torch.func``.

M networks of one shape become one set of parameters (M, ...), and one call steps all of them. The
kernels are fewer and larger, which helps if a single network leaves a GPU idle. Every network keeps
its own draws (batches, augmentation, pairs), batch-norm statistics and running means of the
features, so the result is the same as that of ``simreg_core.training.fit``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.networks.network import FeatureNetwork
from simreg_core.regularizer.loss import SimilarityRegularizer, similarity_loss
from simreg_core.regularizer.similarity import PixelSimilarity
from simreg_core.seeding import generator
from simreg_core.training.augment import augment, draw_augmentation
from simreg_core.training.fit import learning_rate
from simreg_core.training.start import start
from simreg_core.training.state import TrainingState

_EVAL_BATCH = 1000


class _Objective(nn.Module):
    """Loss of one trial for given batches."""

    def __init__(self, model: FeatureNetwork, regularizer: SimilarityRegularizer) -> None:
        super().__init__()
        self.model = model
        self.feature_similarity = regularizer.feature_similarity
        self.layers = regularizer.layers
        self.transform = regularizer.config.transform

    def forward(
        self, pixels: Tensor, labels: Tensor, pairs: Tensor, s_target: Tensor, alpha: Tensor
    ) -> Tensor:
        task_loss = functional.cross_entropy(self.model(pixels), labels)
        s_cnn = self.feature_similarity(self.model.features(pairs, self.layers))
        return task_loss + alpha * similarity_loss(s_cnn, s_target, self.transform)


class VectorisedTraining:
    """M trials that train together on one device.

    Args:
        configs: Regularized float32 trials with the pixel target, equal except for alpha, Th and
            seed.
        data: Splits of the task, on the device.
        device: Device of the training.

    Raises:
        ValueError: a configuration is not supported, or they differ in other fields.
    """

    def __init__(
        self, configs: Sequence[TrialConfig], data: TaskData, device: torch.device
    ) -> None:
        _check(configs)
        self.configs = list(configs)
        self._data, self._device = data, device
        states = [start(config, data, device) for config in configs]
        self._regularizers = [regularizer_of(state) for state in states]
        objectives = [
            _Objective(state.model, regularizer)
            for state, regularizer in zip(states, self._regularizers, strict=True)
        ]
        self._template = objectives[0]
        self.parameters, self.buffers = stack_module_state(objectives)
        self._images = self._regularizers[0].images
        self._similarity = PixelSimilarity(self._images)
        own = [(config.regularizer.alpha, config.regularizer.threshold) for config in configs]
        self._alpha, self._threshold = torch.tensor(own, device=device).T
        training = configs[0].training
        self._optimizer = torch.optim.SGD(
            self.parameters.values(),
            lr=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        )

    def epoch(self, number: int) -> tuple[Tensor, Tensor]:
        """Train one epoch; mean validation loss (nats) and accuracy, each (M,)."""
        training = self.configs[0].training
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(training, number)
        order_rngs, augment_rngs, pair_rngs = (
            [generator(config.seed, stream, number) for config in self.configs]
            for stream in ("batches", "augmentation", "pairs")
        )
        train = self._data.train
        orders = [torch.randperm(len(train.labels), generator=rng) for rng in order_rngs]
        batches = torch.stack(orders).to(self._device).split(training.batch_size, dim=1)
        self._template.train()
        for index in batches:
            if index.shape[1] < 2:  # batch normalisation needs two images
                continue
            draws = torch.cat(
                [draw_augmentation(index.shape[1], training.augmentation, r) for r in augment_rngs],
                dim=1,
            )
            pixels = augment(
                train.images, index.flatten(), draws.to(self._device), training.augmentation
            ).unflatten(0, index.shape)
            own = (pixels.to(torch.float32) / 255, train.labels[index])
            self._step(*own, *self._draw_pairs(pair_rngs))
        return self._validate()

    def _draw_pairs(self, rngs: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Pixels (M, 2k, C, H, W) of fresh pairs, and their targets (M, k)."""
        drawn = [own.draw(1, rng)[0] for own, rng in zip(self._regularizers, rngs, strict=True)]
        pairs = torch.stack(drawn).to(self._device)
        first, second = pairs.unbind(dim=1)
        similarity = self._similarity(first.flatten(), second.flatten()).view_as(first)
        threshold = self._threshold[:, None]
        above, below = similarity > threshold, similarity < -threshold
        pixels = self._images[pairs.flatten(1)].to(torch.float32) / 255
        return pixels, above.float() - below.float()

    def _step(self, pixels: Tensor, labels: Tensor, pairs: Tensor, s_target: Tensor) -> None:
        def loss_of(state: tuple[dict[str, Tensor], ...], *own: Tensor) -> Tensor:
            loss: Tensor = functional_call(self._template, state, own)
            return loss

        with warnings.catch_warnings():
            # lerp_ of the running means has no batching rule, which costs M tiny calls per layer.
            warnings.filterwarnings("ignore", "There is a performance drop.*lerp_")
            losses = torch.vmap(loss_of)(
                (self.parameters, self.buffers), pixels, labels, pairs, s_target, self._alpha
            )
        self._optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # no network's loss depends on another's parameters
        self._optimizer.step()

    @torch.no_grad()
    def _validate(self) -> tuple[Tensor, Tensor]:
        """Mean loss and accuracy (M,) on the validation split."""
        self._template.eval()
        state = {
            name.removeprefix("model."): value
            for name, value in (self.parameters | self.buffers).items()
            if name.startswith("model.")
        }

        def logits_of(own: dict[str, Tensor], pixels: Tensor) -> Tensor:
            logits: Tensor = functional_call(self._template.model, own, (pixels,))
            return logits

        split = self._data.validation
        loss, correct = torch.zeros(2, len(self.configs), dtype=torch.float64, device=self._device)
        for images, labels in zip(
            split.images.split(_EVAL_BATCH), split.labels.split(_EVAL_BATCH), strict=True
        ):
            logits = torch.vmap(logits_of, in_dims=(0, None))(state, images.to(torch.float32) / 255)
            nats = functional.cross_entropy(
                logits.transpose(1, 2), labels.expand(len(logits), -1), reduction="none"
            )
            loss += nats.sum(dim=1)
            correct += (logits.argmax(dim=2) == labels).sum(dim=1)
        return loss / len(split.labels), correct / len(split.labels)


def regularizer_of(state: TrainingState) -> SimilarityRegularizer:
    """The regularizer of a trial that has one."""
    assert state.regularizer is not None
    return state.regularizer


def _check(configs: Sequence[TrialConfig]) -> None:
    kinds = []
    for config in configs:
        regularizer = config.regularizer
        if not regularizer.alpha or regularizer.target != "pixel" or regularizer.shuffle_targets:
            raise ValueError("only regularized trials with the pixel target can train together")
        if config.training.precision != "float32":
            raise ValueError("only trials in float32 can train together")
        content = config.to_dict()
        for section, name in (
            (content, "seed"),
            (content["regularizer"], "alpha"),
            (content["regularizer"], "threshold"),
        ):
            del section[name]
        kinds.append(content)
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError("only trials that differ in alpha, Th and seed alone can train together")
