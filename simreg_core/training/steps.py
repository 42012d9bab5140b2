"""One training step, and the random draws of an epoch of steps.

Draws are made on the CPU, so that they are the same for all devices, and copied at once. Nothing
waits for the device between the steps of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.config.trial import Precision, TrainingConfig
from simreg_core.data.images import Split
from simreg_core.regularizer.loss import SimilarityRegularizer
from simreg_core.seeding import generator
from simreg_core.training.augment import augment, draw_augmentation
from simreg_core.training.state import TrainingState


class Draws(NamedTuple):
    """Random draws of a step with B images and k pairs, int64, on the device.

    The draws of S steps have a first dimension of S.
    """

    images: Tensor
    """Training images (B,)."""
    augmentation: Tensor
    """Crops and flips (3, B), see :func:`~simreg_core.training.augment.draw_augmentation`."""
    pairs: Tensor
    """Pairs of regularization images (2, k); k = 0 without a regularizer."""


class StepResult(NamedTuple):
    """Measurements of a step, on the device; those of S steps have a first dimension of S."""

    task_loss: Tensor
    """Cross-entropy, a scalar."""
    num_correct: Tensor
    """Number of correctly classified training images, a scalar."""
    similarity_loss: Tensor
    """L_sim, a scalar; 0 without a regularizer."""
    similarities: Tensor
    """S_cnn and S_target of the pairs (2, k)."""


Step = Callable[[Draws], StepResult]


def draw_epoch(
    train: Split,
    regularizer: SimilarityRegularizer | None,
    config: TrainingConfig,
    *,
    seed: int,
    epoch: int,
) -> list[Draws]:
    """The draws of an epoch, stacked: those of its S full batches, and that of a smaller last one.

    A part without steps is left out, and so is a last batch of a single image, because batch
    normalisation needs two.
    """
    device, size = train.images.device, config.batch_size
    order = torch.randperm(len(train.labels), generator=generator(seed, "batches", epoch))
    num_full, num_left = divmod(len(order), size)
    parts = [(num_full, size), (1, num_left if num_left > 1 else 0)]
    parts = [(steps, images) for steps, images in parts if steps and images]
    num_steps = sum(steps for steps, _ in parts)
    pairs = torch.empty((num_steps, 2, 0), dtype=torch.int64)
    if regularizer is not None:
        pairs = regularizer.draw(num_steps, generator(seed, "pairs", epoch))
    crops = generator(seed, "augmentation", epoch)
    draws = []
    for steps, images in parts:
        drawn = [draw_augmentation(images, config.augmentation, crops) for _ in range(steps)]
        part = order[: steps * images].view(steps, images), torch.stack(drawn), pairs[:steps]
        draws.append(Draws(*(tensor.to(device) for tensor in part)))
        order, pairs = order[steps * images :], pairs[steps:]
    return draws


def train_step(
    state: TrainingState, train: Split, config: TrainingConfig, draws: Draws
) -> StepResult:
    """One step of SGD on L = L_task + alpha * L_sim; does not wait for the device."""
    pixels = augment(train.images, draws.images, draws.augmentation, config.augmentation)
    pixels = pixels.to(torch.float32) / 255
    labels = train.labels[draws.images]
    regularizer = state.regularizer
    with autocast(pixels.device, config.precision):  # one context casts each weight once
        logits = state.model(pixels)
        similarity_loss = logits.new_zeros((), dtype=torch.float32)
        if regularizer is not None:
            similarity_loss = regularizer(draws.pairs)
    logits = logits.to(torch.float32)
    task_loss = loss = functional.cross_entropy(logits, labels)
    similarities = task_loss.new_zeros((2, 0))
    if regularizer is not None and regularizer.last is not None:
        similarities = torch.stack([regularizer.last.s_cnn, regularizer.last.s_target])
        loss = loss + state.alpha * similarity_loss
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    num_correct = (logits.argmax(dim=1) == labels).sum()
    return StepResult(task_loss.detach(), num_correct, similarity_loss.detach(), similarities)


def run_eagerly(step: Step, draws: Draws) -> StepResult:
    """Run S >= 1 steps one after another; their results, stacked."""
    results = [step(Draws(*one)) for one in zip(*draws, strict=True)]
    return StepResult(*(torch.stack(values) for values in zip(*results, strict=True)))


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context for forward passes in a precision; compute losses outside of it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
