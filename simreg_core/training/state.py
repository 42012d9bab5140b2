"""The state of the training of one network: what a checkpoint holds."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from simreg_core.config.trial import TrainingConfig
from simreg_core.networks import checkpoint
from simreg_core.networks.network import Classifier
from simreg_core.regularizer.loss import SimilarityRegularizer
from simreg_core.storage.location import to_path


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

    model: Classifier
    regularizer: SimilarityRegularizer | None
    optimizer: torch.optim.Optimizer
    alpha: float = 0.0
    """Weight of L_sim."""
    records: list[EpochRecord] = field(default_factory=list)
    kept_epoch: int = -1
    kept_loss: float = math.inf
    kept_weights: dict[str, Tensor] = field(default_factory=dict)
    uses_cuda_graph: bool = False
    """Whether the steps of :func:`~simreg_core.training.fit.fit` replay a CUDA graph."""

    @classmethod
    def begin(
        cls,
        model: Classifier,
        regularizer: SimilarityRegularizer | None,
        config: TrainingConfig,
        *,
        alpha: float,
    ) -> Self:
        """Training of a network and its regularizer, if any, before the first epoch."""
        parameters = list(model.parameters())
        if regularizer is not None:
            parameters += list(regularizer.parameters())
        is_cuda = parameters[0].is_cuda
        rate = config.learning_rate
        optimizer = torch.optim.SGD(
            parameters,
            # A CUDA graph reads the rate from memory, where it can change between replays.
            lr=torch.tensor(rate, device=parameters[0].device) if is_cuda else rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True if is_cuda else None,
        )
        return cls(model, regularizer, optimizer, alpha)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the following steps, captured ones included."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def kept_model(self) -> Classifier:
        """A copy of the network with the kept weights, in evaluation mode."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.kept_weights)
        return model.eval()

    def snapshot(self, digest: str) -> dict[str, Any]:
        """A copy of this state on the CPU, to save as a checkpoint for :meth:`restore`.

        ``digest`` identifies the configuration.
        """
        content = {
            "config_digest": digest,
            "model": self.model.state_dict(),
            "regularizer": None if self.regularizer is None else self.regularizer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "records": [list(record) for record in self.records],
            "kept": [self.kept_epoch, self.kept_loss, self.kept_weights],
        }
        return {name: _on_cpu(value) for name, value in content.items()}

    def save(self, path: str | Path, digest: str) -> None:
        """Write a checkpoint for :meth:`restore`."""
        path = to_path(path)
        checkpoint.save(self.snapshot(digest), path)

    def restore(self, path: str | Path, digest: str) -> None:
        """Load a checkpoint.

        Raises:
            checkpoint.CheckpointError: it is damaged, or belongs to another configuration.
        """
        path = to_path(path)
        payload = checkpoint.load(path, device=next(self.model.parameters()).device)
        if payload.get("config_digest") != digest:
            raise checkpoint.CheckpointError(f"{path} belongs to another configuration")
        self.model.load_state_dict(payload["model"])
        if self.regularizer is not None:
            self.regularizer.load_state_dict(payload["regularizer"])
        # These depend on the device, not on the checkpoint.
        own = {name: self.optimizer.param_groups[0][name] for name in ("fused", "lr")}
        self.optimizer.load_state_dict(payload["optimizer"])
        for group in self.optimizer.param_groups:
            group.update(own)
        self.set_learning_rate(float(payload["optimizer"]["param_groups"][0]["lr"]))
        self.records = [EpochRecord(*record) for record in payload["records"]]
        self.kept_epoch, self.kept_loss, self.kept_weights = payload["kept"]


def _on_cpu(value: Any) -> Any:
    """A copy of nested containers whose tensors are copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_on_cpu(item) for item in value]
    return value
