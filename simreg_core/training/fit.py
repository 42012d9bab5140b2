"""Training of one network: L = L_task + alpha * L_sim by SGD, one record per epoch.

Every random draw comes from a stream named by seed, purpose and epoch, so a resumed run equals an
uninterrupted one bit for bit on the CPU (with the same number of threads).
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.config.trial import Precision, TrainingConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData
from simreg_core.networks import checkpoint
from simreg_core.networks.network import FeatureNetwork, evaluation_mode
from simreg_core.regularizer.loss import SimilarityRegularizer
from simreg_core.robustness.attack import batches
from simreg_core.seeding import generator
from simreg_core.training.augment import augment, draw_augmentation

_EVAL_BATCH = 1000


class NonFiniteLossError(ArithmeticError):
    """Training produced a loss that is NaN or infinite."""


class EpochRecord(NamedTuple):
    """Measurements of one epoch of training; fields as in the table ``epochs``."""

    epoch: int
    learning_rate: float
    task_loss: float
    similarity_loss: float | None
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    gamma: list[float] | None
    similarity_correlation: float | None
    positive_share: float | None
    negative_share: float | None
    seconds: float


@dataclass
class TrainingState:
    """Everything that training needs to resume after an epoch."""

    model: FeatureNetwork
    regularizer: SimilarityRegularizer | None
    optimizer: torch.optim.Optimizer
    records: list[EpochRecord] = field(default_factory=list)
    kept_epoch: int = -1
    kept_loss: float = math.inf
    kept_weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        model: FeatureNetwork,
        regularizer: SimilarityRegularizer | None,
        config: TrainingConfig,
    ) -> Self:
        """Training of a network and its regularizer, if any, before the first epoch."""
        parameters = list(model.parameters())
        if regularizer is not None:
            parameters += list(regularizer.parameters())
        optimizer = torch.optim.SGD(
            parameters,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True if parameters[0].is_cuda else None,
        )
        return cls(model, regularizer, optimizer)

    def kept_model(self) -> FeatureNetwork:
        """A copy of the network with the kept weights, in evaluation mode."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.kept_weights)
        return model.eval()

    def save(self, path: Path, digest: str) -> None:
        """Write a checkpoint for :meth:`restore`; ``digest`` identifies the configuration."""
        payload = {
            "config_digest": digest,
            "model": self.model.state_dict(),
            "regularizer": None if self.regularizer is None else self.regularizer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "records": [list(record) for record in self.records],
            "kept": [self.kept_epoch, self.kept_loss, self.kept_weights],
        }
        checkpoint.save(payload, path)

    def restore(self, path: Path, digest: str) -> None:
        """Load a checkpoint.

        Raises:
            checkpoint.CheckpointError: it is damaged, or belongs to another configuration.
        """
        payload = checkpoint.load(path, device=next(self.model.parameters()).device)
        if payload.get("config_digest") != digest:
            raise checkpoint.CheckpointError(f"{path} belongs to another configuration")
        self.model.load_state_dict(payload["model"])
        if self.regularizer is not None:
            self.regularizer.load_state_dict(payload["regularizer"])
        is_fused = self.optimizer.param_groups[0]["fused"]
        self.optimizer.load_state_dict(payload["optimizer"])
        for group in self.optimizer.param_groups:  # depends on the device, not on the checkpoint
            group["fused"] = is_fused
        self.records = [EpochRecord(*record) for record in payload["records"]]
        self.kept_epoch, self.kept_loss, self.kept_weights = payload["kept"]


def fit(
    state: TrainingState, data: TaskData, config: TrainingConfig, *, seed: int
) -> Iterator[EpochRecord]:
    """Train to the last epoch; yields each epoch's record.

    A state that is saved when a record is yielded resumes exactly.

    Args:
        state: From :meth:`TrainingState.begin`, or restored; changed in place.
        data: The task's splits, on the network's device.
        config: Epochs, learning rate, batches, augmentation, precision.
        seed: Root seed of the batches, the augmentation and the pairs.

    Raises:
        NonFiniteLossError: a loss is not finite; names the epoch and the step.
    """
    for epoch in range(len(state.records), config.epochs):
        started = time.perf_counter()
        rate = learning_rate(config, epoch)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        trained = _train_epoch(state, data.train, config, seed, epoch)
        loss, accuracy = mean_loss_and_accuracy(state.model, data.validation)
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"validation loss {loss} in epoch {epoch}")
        if config.keep == "last" or loss < state.kept_loss:
            state.kept_epoch, state.kept_loss = epoch, loss
            state.kept_weights = copy.deepcopy(state.model.state_dict())
        record = EpochRecord(
            epoch=epoch,
            learning_rate=rate,
            **trained,
            validation_loss=loss,
            validation_accuracy=accuracy,
            seconds=time.perf_counter() - started,
        )
        state.records.append(record)
        yield record


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context for forward passes in a precision; compute losses outside of it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """The learning rate of an epoch, from 0; resuming needs no scheduler state."""
    schedule = config.schedule
    position = epoch if schedule.unit == "epochs" else epoch / config.epochs
    slack = 1e-9  # 0.6 / 0.2 is just below 3
    since_restart = position - schedule.restart * math.floor(position / schedule.restart + slack)
    num_steps = math.floor(max(since_restart, 0.0) / schedule.step + slack)
    return config.learning_rate * schedule.factor**num_steps


@torch.no_grad()
def mean_loss_and_accuracy(model: FeatureNetwork, split: Split) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy of ``model`` in evaluation mode."""
    loss = torch.zeros((), dtype=torch.float64, device=split.images.device)
    correct = torch.zeros((), dtype=torch.int64, device=split.images.device)
    with evaluation_mode(model):
        for images, labels in batches(split, _EVAL_BATCH):
            logits = model(images)
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            correct += (logits.argmax(dim=1) == labels).sum()
    return float(loss) / len(split.labels), int(correct) / len(split.labels)


def _train_epoch(
    state: TrainingState, train: Split, config: TrainingConfig, seed: int, epoch: int
) -> dict[str, Any]:
    """One pass over the training images; nothing waits for the device between its steps."""
    task_losses: list[Tensor] = []
    pair_losses: list[Tensor] = []
    similarities: list[Tensor] = []
    correct = torch.zeros((), dtype=torch.int64, device=train.labels.device)
    num_seen = 0
    state.model.train()
    for index, draws, pairs in _draw_epoch(state, train, config, seed, epoch):
        pixels = augment(train.images, index, draws, config.augmentation).to(torch.float32) / 255
        labels = train.labels[index]
        with autocast(pixels.device, config.precision):  # one context casts each weight once
            logits = state.model(pixels)
            if state.regularizer is not None:
                features = state.regularizer.features(state.model, pairs)
        logits = logits.to(torch.float32)
        loss = functional.cross_entropy(logits, labels)
        task_losses.append(loss.detach())
        if state.regularizer is not None:
            batch = state.regularizer.compare(features, pairs)
            pair_losses.append(batch.loss.detach())
            similarities.append(torch.stack([batch.s_cnn.detach(), batch.s_target]))
            loss = loss + state.regularizer.config.alpha * batch.loss
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
        correct += (logits.argmax(dim=1) == labels).sum()
        num_seen += len(index)
    return {
        "task_loss": _mean_finite(task_losses, "task", epoch),
        "train_accuracy": int(correct) / num_seen,
        **_pair_measurements(state.regularizer, pair_losses, similarities, epoch),
    }


def _draw_epoch(
    state: TrainingState, train: Split, config: TrainingConfig, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor, Any]]:
    """The draws of each step of an epoch: images, their augmentation, and pairs.

    They are drawn on the CPU, so that they are the same for all devices, and copied at once.
    """
    device = train.images.device
    order = torch.randperm(len(train.labels), generator=generator(seed, "batches", epoch))
    parts = order.split(config.batch_size)
    if len(parts[-1]) < 2:  # batch normalisation needs two images
        parts = parts[:-1]
    sizes = [len(part) for part in parts]
    rng = generator(seed, "augmentation", epoch)
    draws = [draw_augmentation(size, config.augmentation, rng) for size in sizes]
    pairs: Iterable[Any] = itertools.repeat(None)
    if state.regularizer is not None:
        pairs = state.regularizer.draw(len(sizes), generator(seed, "pairs", epoch)).to(device)
    return zip(
        torch.cat(parts).to(device).split(sizes),
        torch.cat(draws, dim=1).to(device).split(sizes, dim=1),
        pairs,
        strict=False,
    )


def _pair_measurements(
    regularizer: SimilarityRegularizer | None,
    losses: list[Tensor],
    similarities: list[Tensor],
    epoch: int,
) -> dict[str, Any]:
    if regularizer is None:
        names = ("similarity_loss", "gamma", "similarity_correlation")
        return dict.fromkeys((*names, "positive_share", "negative_share"))
    pairs = torch.cat(similarities, dim=1).to(torch.float64)
    correlation = float(torch.corrcoef(pairs)[0, 1]) if len(pairs[0].unique()) > 1 else math.nan
    return {
        "similarity_loss": _mean_finite(losses, "similarity", epoch),
        "gamma": regularizer.gamma().tolist(),
        "similarity_correlation": correlation if math.isfinite(correlation) else None,
        "positive_share": float((pairs[1] == 1).double().mean()),
        "negative_share": float((pairs[1] == -1).double().mean()),
    }


def _mean_finite(losses: list[Tensor], name: str, epoch: int) -> float:
    values = torch.stack(losses).to(torch.float64)
    finite = values.isfinite()
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0])
        raise NonFiniteLossError(f"{name} loss {float(values[step])} in epoch {epoch}, step {step}")
    return float(values.mean())
