"""Trials that differ in alpha, Th and seed only, trained together by ``torch.func``.

M networks of one shape become one set of parameters (M, ...), and one call steps all of them. The
kernels are fewer and larger, which helps if a single network leaves a GPU idle. Every network keeps
its own draws (batches, augmentation, pairs), batch-norm statistics and running means of the
features, so the result is the same as that of ``simreg_core.training.fit``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData
from simreg_core.networks.network import Classifier
from simreg_core.regularizer.loss import SimilarityRegularizer, similarity_loss
from simreg_core.regularizer.similarity import PixelSimilarity
from simreg_core.training.augment import augment
from simreg_core.training.fit import learning_rate
from simreg_core.training.graph import GraphSteps
from simreg_core.training.start import start
from simreg_core.training.state import TrainingState
from simreg_core.training.steps import Draws, StepResult, draw_epoch, run_eagerly

_EVAL_BATCH = 1000


class _Objective(nn.Module):
    """Loss of one trial for given batches."""

    def __init__(self, model: Classifier, regularizer: SimilarityRegularizer) -> None:
        super().__init__()
        self.model = model
        self.feature_similarity = regularizer.feature_similarity
        self.layers = regularizer.layers
        self.transform = regularizer.transform

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
        uses_graph: Replay steps as a CUDA graph, on a GPU.

    Raises:
        ValueError: a configuration is not supported, or they differ in other fields.
    """

    def __init__(
        self,
        configs: Sequence[TrialConfig],
        data: TaskData,
        device: torch.device,
        *,
        uses_graph: bool = False,
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
        if device.type == "cuda":
            _avoid_cudnn_in_batch_norm(self._template)
        self.parameters, self.buffers = stack_module_state(objectives)
        self._images = self._regularizers[0].images
        self._similarity = PixelSimilarity(self._images)
        own = [(config.regularizer.alpha, config.regularizer.threshold) for config in configs]
        self._alpha, self._threshold = torch.tensor(own, device=device).T
        training = configs[0].training
        is_cuda, rate = device.type == "cuda", training.learning_rate
        self._optimizer = torch.optim.SGD(
            self.parameters.values(),
            lr=torch.tensor(rate, device=device) if is_cuda else rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            fused=True if is_cuda else None,
        )
        self._run_eager = partial(run_eagerly, self._step)
        self.graph = GraphSteps(self._step) if is_cuda and uses_graph else None
        self._run_full = self.graph or self._run_eager

    def epoch(self, number: int) -> tuple[Tensor, Tensor]:
        """Train one epoch; mean validation loss (nats) and accuracy, each (M,)."""
        training = self.configs[0].training
        rate = learning_rate(training, number)
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._template.train()
        for draws in self._draw_epoch(number):
            is_full = draws.images.shape[-1] == training.batch_size
            (self._run_full if is_full else self._run_eager)(draws)
        return self._validate()

    def _draw_epoch(self, number: int) -> list[Draws]:
        """The draws of all networks; their second dimension is M."""
        own = [
            draw_epoch(
                self._data.train, regularizer, config.training, seed=config.seed, epoch=number
            )
            for config, regularizer in zip(self.configs, self._regularizers, strict=True)
        ]
        return [
            Draws(*(torch.stack(values, dim=1) for values in zip(*parts, strict=True)))
            for parts in zip(*own, strict=True)
        ]

    def _step(self, draws: Draws) -> StepResult:
        """One step of all networks; the result is the sum of their losses."""
        training, index = self.configs[0].training, draws.images  # (M, B)
        crops = draws.augmentation.transpose(0, 1).flatten(1)
        pixels = augment(self._data.train.images, index.flatten(), crops, training.augmentation)
        pixels = pixels.unflatten(0, index.shape).to(torch.float32) / 255
        first, second = draws.pairs.unbind(dim=1)
        similarity = self._similarity(first.flatten(), second.flatten()).view_as(first)
        threshold = self._threshold[:, None]
        s_target = (similarity > threshold).float() - (similarity < -threshold).float()
        paired = self._images[draws.pairs.flatten(1)].to(torch.float32) / 255
        own = pixels, self._data.train.labels[index], paired, s_target, self._alpha
        with warnings.catch_warnings():
            # lerp_ of the running means has no batching rule, which costs M tiny calls per layer.
            warnings.filterwarnings("ignore", "There is a performance drop.*lerp_")
            losses = torch.vmap(self._loss_of)((self.parameters, self.buffers), *own)
        self._optimizer.zero_grad(set_to_none=True)
        total = losses.sum()  # no network's loss depends on another's parameters
        total.backward()
        self._optimizer.step()
        nothing = total.new_zeros(())
        return StepResult(total.detach(), nothing, nothing, total.new_zeros((2, 0)))

    def _loss_of(self, state: tuple[dict[str, Tensor], ...], *own: Tensor) -> Tensor:
        loss: Tensor = functional_call(self._template, state, own)
        return loss

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


def _avoid_cudnn_in_batch_norm(template: nn.Module) -> None:
    """Let PyTorch's own kernel normalise batches.

    Before it calls cuDNN, PyTorch asks for a memory format, which vmap of torch 2.11 cannot answer.
    """
    for module in template.modules():
        if isinstance(module, nn.BatchNorm2d):
            own = module.forward
            module.forward = partial(_without_cudnn, own)  # type: ignore[method-assign]


def _without_cudnn(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    before, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
    try:
        return forward(x)
    finally:
        torch.backends.cudnn.enabled = before


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
