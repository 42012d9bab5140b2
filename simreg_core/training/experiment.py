"""One configuration from data to figures: the one place where training, attacks and score meet.

The command line, the trials of a search, and confirmation all call :func:`run_experiment`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData, load_task
from simreg_core.networks.checkpoint import CheckpointError
from simreg_core.networks.resnet import ResNet
from simreg_core.provenance import provenance, utc_now
from simreg_core.results.schema import METRICS, SPLITS
from simreg_core.robustness.attack import check_attacks
from simreg_core.robustness.cifar10c import open_folder
from simreg_core.robustness.evaluate import CurvePoint, SplitFigures, accuracies, evaluate, measure
from simreg_core.robustness.frequency import SpectrumPoint
from simreg_core.robustness.tradeoff import tradeoff
from simreg_core.training.baselines import References, load_references
from simreg_core.training.fit import EpochRecord, TrainingState, fit, start


@dataclass(frozen=True)
class TrialResult:
    """What one trial found; ``columns`` are named as in ``records.TRIAL_COLUMNS``."""

    config: TrialConfig
    columns: dict[str, Any]
    curves: list[CurvePoint]
    spectra: list[SpectrumPoint]
    epochs: list[EpochRecord]
    references: References
    model: ResNet = field(repr=False)
    """The network with the kept weights, in evaluation mode."""

    def metric(self, name: str, split: str) -> float | None:
        """The value of one of ``records.METRICS`` on a split."""
        value: float | None = self.columns[f"{split}.{name}"]
        return value


class UnusableStateError(CheckpointError):
    """The file that a training was to continue from is damaged, or of another configuration."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands at the end of an epoch."""

    config: TrialConfig
    records: Sequence[EpochRecord]
    """Of all epochs so far, those before a restart included."""
    _model: ResNet = field(repr=False)
    _validation: Split = field(repr=False)
    _references: References = field(repr=False)

    def metrics(self) -> dict[str, float]:
        """Clean and robust accuracy and tradeoff score of this epoch's network on validation.

        The attacks are measured at their reference epsilons only.
        """
        robustness = self.config.robustness
        attacks = {
            name: robustness.attacks[name].model_copy(update={"max_epsilon": epsilon})
            for name, epsilon in robustness.reference.items()
        }
        short = robustness.model_copy(update={"attacks": attacks, "num_epsilons": 2})
        surrogate = self._references.surrogate
        directions = self._references.directions.get("validation")
        own = accuracies(
            evaluate(self._model, self._validation, "validation", short, surrogate, directions)
        )
        clean, robust = own["clean_accuracy"], own["robust_accuracy"]
        baseline = self._references.baseline("validation")
        score = tradeoff(clean, robust, baseline, robustness.tradeoff_weight)["tradeoff_score"]
        assert score is not None
        return {"clean_accuracy": clean, "robust_accuracy": robust, "tradeoff_score": score}


def run_experiment(
    config: TrialConfig,
    *,
    cache: Path,
    device: torch.device,
    data: TaskData | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
) -> TrialResult:
    """Train the network of a configuration, attack it, and score it against its baselines.

    Args:
        config: What to do; the result is a function of it (and of the files it names).
        cache: Folder of reference networks, shared by trials.
        device: Where to compute.
        data: What :func:`data.load_task` gives for ``config.task``; loaded here if not given.
        checkpoint: File to save every epoch to and, if it exists, to continue from.
        on_epoch: Called after every epoch that is trained here.

    Raises:
        ConfigError: the data, an attack or the stored corruptions cannot be had.
        NonFiniteLossError: training diverged.
        UnusableStateError: ``checkpoint`` is damaged or belongs to another configuration.
        CheckpointError: a cached reference network is damaged.
    """
    started_at = utc_now()
    check_attacks(config.robustness)
    data = data or load_task(config.task)
    check_corruptions(config, data)
    references = load_references(config, data, cache, device)
    on_device = data.to(device)

    clock = time.perf_counter()
    state = start(config, on_device, device)
    if checkpoint is not None and checkpoint.exists():
        try:
            state.restore(checkpoint, config)
        except CheckpointError as err:
            raise UnusableStateError(str(err)) from err
    for _ in fit(config, state, on_device):
        if checkpoint is not None:
            state.save(checkpoint, config)
        if on_epoch is not None:
            on_epoch(Progress(config, state.records, state.model, on_device.validation, references))
    train_seconds = time.perf_counter() - clock

    clock = time.perf_counter()
    model = state.kept_model()
    curves: list[CurvePoint] = []
    spectra: list[SpectrumPoint] = []
    metrics: dict[str, float | None] = {}
    for name in SPLITS:
        split, directions = on_device.split(name), references.directions.get(name)
        figures = measure(model, split, name, config, references.surrogate, directions)
        curves += figures.curves
        spectra += figures.spectra
        metrics |= _metrics(figures, name, config, references)

    return TrialResult(
        config=config,
        columns={
            "config_digest": config.digest(),
            "baseline_digest": references.digest,
            **config.flat(),
            **metrics,
            **_training_columns(state),
            "num_train": len(data.train.labels),
            "num_validation": len(data.validation.labels),
            "num_test": len(data.test.labels),
            "train_seconds": train_seconds,
            "evaluate_seconds": time.perf_counter() - clock,
            **provenance(device),
            "started_at": started_at,
            "finished_at": utc_now(),
        },
        curves=curves,
        spectra=spectra,
        epochs=list(state.records),
        references=references,
        model=model,
    )


def check_corruptions(config: TrialConfig, data: TaskData) -> None:
    """The folder of stored corruptions, where one is configured, is that of the test images.

    Raises:
        ConfigError: see :func:`simreg_core.robustness.cifar10c.open_folder`.
    """
    if config.robustness.corruptions is not None:
        open_folder(config.robustness.corruptions, config.task, data.test)


def _metrics(
    measured: SplitFigures, split: str, config: TrialConfig, references: References
) -> dict[str, float | None]:
    baseline = references.baseline(split)
    own = accuracies(measured.curves)
    weight = config.robustness.tradeoff_weight
    distances = {
        "boundary_distance": measured.boundary_distance,
        "baseline_boundary_distance": references.baseline_boundary_distance(split),
    }
    figures = {
        # A plug-in's accuracy is in the curves and in R, but has no column.
        **{name: value for name, value in own.items() if name in METRICS},
        **(distances if config.robustness.boundary is not None else {}),
        **tradeoff(own["clean_accuracy"], own["robust_accuracy"], baseline, weight),
        **{f"baseline_{name}": value for name, value in baseline._asdict().items()},
    }
    return {f"{split}.{name}": value for name, value in figures.items()}


def _training_columns(state: TrainingState) -> dict[str, Any]:
    last = state.records[-1]
    return {
        "kept_epoch": state.kept_epoch,
        "validation_loss": state.kept_loss if math.isfinite(state.kept_loss) else None,
        "similarity_correlation": last.similarity_correlation,
        "positive_share": last.positive_share,
        "negative_share": last.negative_share,
    }
