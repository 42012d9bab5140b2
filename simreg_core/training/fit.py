"""Training of one network: L = L_task + alpha * L_sim by SGD, one record per epoch.

Every random draw comes from a stream named by seed, purpose and epoch, so a resumed run equals an
uninterrupted one bit for bit on the CPU (with the same number of threads).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from simreg_core.config.trial import TrainingConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData
from simreg_core.networks.network import Classifier, evaluation_mode
from simreg_core.regularizer.loss import SimilarityRegularizer
from simreg_core.robustness.attack import batches
from simreg_core.training.graph import GraphSteps
from simreg_core.training.state import EpochRecord, TrainingState
from simreg_core.training.steps import Draws, StepResult, draw_epoch, run_eagerly, train_step

_EVAL_BATCH = 1000


class NonFiniteLossError(ArithmeticError):
    """Training produced a loss that is NaN or infinite."""


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
    step = partial(train_step, state, data.train, config)
    run_eager = partial(run_eagerly, step)
    run_full: Callable[[Draws], StepResult] = run_eager
    graph = None
    if config.cuda_graph == "auto" and data.train.images.is_cuda:
        run_full = graph = GraphSteps(step)
    for epoch in range(len(state.records), config.epochs):
        started = time.perf_counter()
        rate = learning_rate(config, epoch)
        state.set_learning_rate(rate)
        state.model.train()
        draws = draw_epoch(data.train, state.regularizer, config, seed=seed, epoch=epoch)
        parts = [
            (run_full if part.images.shape[1] == config.batch_size else run_eager)(part)
            for part in draws
        ]
        num_seen = sum(part.images.numel() for part in draws)
        trained = _epoch_measurements(state.regularizer, parts, num_seen, epoch)
        state.uses_cuda_graph = graph is not None and graph.is_captured
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


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """The learning rate of an epoch, from 0; resuming needs no scheduler state."""
    schedule = config.schedule
    position = epoch if schedule.unit == "epochs" else epoch / config.epochs
    slack = 1e-9  # 0.6 / 0.2 is just below 3
    since_restart = position - schedule.restart * math.floor(position / schedule.restart + slack)
    num_steps = math.floor(max(since_restart, 0.0) / schedule.step + slack)
    return config.learning_rate * schedule.factor**num_steps


@torch.no_grad()
def mean_loss_and_accuracy(model: Classifier, split: Split) -> tuple[float, float]:
    """Mean cross-entropy (nats) and accuracy of ``model`` in evaluation mode."""
    loss = torch.zeros((), dtype=torch.float64, device=split.images.device)
    correct = torch.zeros((), dtype=torch.int64, device=split.images.device)
    with evaluation_mode(model):
        for images, labels in batches(split, _EVAL_BATCH):
            logits = model(images)
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            correct += (logits.argmax(dim=1) == labels).sum()
    return float(loss) / len(split.labels), int(correct) / len(split.labels)


def _epoch_measurements(
    regularizer: SimilarityRegularizer | None, parts: list[StepResult], num_seen: int, epoch: int
) -> dict[str, Any]:
    """The fields of :class:`EpochRecord` that the steps of an epoch measure."""
    task = _mean_finite(torch.cat([part.task_loss for part in parts]), "task", epoch)
    num_correct = sum(int(part.num_correct.sum()) for part in parts)
    found: dict[str, Any] = {
        "task_loss": task,
        "train_accuracy": num_correct / num_seen,
        "similarity_loss": None,
        "gamma": None,
        "similarity_correlation": None,
        "positive_share": None,
        "negative_share": None,
    }
    if regularizer is None:
        return found
    losses = torch.cat([part.similarity_loss for part in parts])
    pairs = torch.cat([part.similarities for part in parts]).to(torch.float64)  # (S, 2, k)
    pairs = pairs.transpose(0, 1).flatten(1)
    correlation = float(torch.corrcoef(pairs)[0, 1]) if len(pairs[0].unique()) > 1 else math.nan
    return found | {
        "similarity_loss": _mean_finite(losses, "similarity", epoch),
        "gamma": regularizer.gamma().tolist(),
        "similarity_correlation": correlation if math.isfinite(correlation) else None,
        "positive_share": float((pairs[1] == 1).double().mean()),
        "negative_share": float((pairs[1] == -1).double().mean()),
    }


def _mean_finite(losses: Tensor, name: str, epoch: int) -> float:
    values = losses.to(torch.float64)
    finite = values.isfinite()
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0])
        raise NonFiniteLossError(f"{name} loss {float(values[step])} in epoch {epoch}, step {step}")
    return float(values.mean())
