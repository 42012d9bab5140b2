"""One trial: training, attacks, and comparison with the baselines.

The command line, the trials of a search, and confirmation all call :func:`run_experiment`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.networks.checkpoint import CheckpointError
from simreg_core.networks.network import Classifier
from simreg_core.provenance import provenance, utc_now
from simreg_core.results import metrics
from simreg_core.results.measurements import CurvePoint, Measurements
from simreg_core.results.objectives import STOPPING_METRICS
from simreg_core.results.schema import SPLITS
from simreg_core.robustness.attack import check_attacks
from simreg_core.robustness.cifar10c import open_folder
from simreg_core.robustness.evaluate import SplitMeasurements, evaluate
from simreg_core.robustness.frequency import SpectrumPoint
from simreg_core.storage.location import to_path
from simreg_core.training.baselines import BaselineCache, Baselines, measure_splits
from simreg_core.training.checkpoints import fit_with_checkpoints
from simreg_core.training.start import start
from simreg_core.training.state import EpochRecord, TrainingState


@dataclass(frozen=True)
class TrialResult:
    """Result of one trial; ``columns`` are named as in the table ``trials``."""

    config: TrialConfig
    columns: dict[str, Any]
    curves: list[CurvePoint]
    spectra: list[SpectrumPoint]
    epochs: list[EpochRecord]
    baselines: Baselines
    model: Classifier = field(repr=False)
    """The network with the kept weights, in evaluation mode."""

    def metric(self, name: str, split: str) -> float | None:
        """The value of a metric on a split."""
        value: float | None = self.columns[f"{split}.{name}"]
        return value


class UnusableStateError(CheckpointError):
    """The checkpoint to resume from is damaged, or belongs to another configuration."""


@dataclass(frozen=True)
class Progress:
    """The state of training at the end of an epoch."""

    config: TrialConfig
    records: Sequence[EpochRecord]
    """Records of all epochs so far, including those before a restart."""
    _model: Classifier = field(repr=False)
    _validation: Split = field(repr=False)
    _baselines: Baselines = field(repr=False)

    def metrics(self) -> dict[str, float]:
        """The :data:`STOPPING_METRICS` of this epoch's network on the validation split.

        Attacks are measured at their reference epsilons only, with one surrogate and one draw.
        """
        robustness = self.config.robustness
        attacks = {
            name: robustness.attacks[name].model_copy(update={"max_epsilon": epsilon})
            for name, epsilon in robustness.reference.items()
        }
        short = robustness.model_copy(
            update={"attacks": attacks, "corruptions": None, "num_epsilons": 2, "noise_draws": 1}
        )
        measured = Measurements(
            evaluate(
                self._model, self._validation, "validation", short, self._baselines.surrogates[:1]
            ),
            baseline=self._baselines.accuracy("validation"),
            tradeoff_weight=robustness.tradeoff_weight,
        )
        found = metrics.compute(measured)
        return {name: value for name in STOPPING_METRICS if (value := found[name]) is not None}


def run_experiment(
    config: TrialConfig,
    cache: BaselineCache,
    *,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
) -> TrialResult:
    """Train the network of a configuration, attack it, and compare it with its baselines.

    Args:
        config: The trial; it determines the result, together with the files that it names.
        cache: The baselines, with the data of ``config.task`` and the device to compute on.
        checkpoint: File that training is saved to; resumed from if it exists.
        on_epoch: Called after every epoch that is trained here.

    Raises:
        ConfigError: an attack, a metric or the stored corruptions are not available.
        NonFiniteLossError: training diverged.
        UnusableStateError: ``checkpoint`` is damaged or belongs to another configuration.
        CheckpointError: a cached baseline network is damaged.
    """
    checkpoint = None if checkpoint is None else to_path(checkpoint)
    started_at = utc_now()
    data, robustness = cache.data, config.robustness
    check_attacks(robustness)
    metrics.check(robustness.metrics)
    stored = open_folder(robustness.corruptions, config.task, data.test)
    baselines = cache.load(config)
    on_device = data.to(cache.device)

    clock = time.perf_counter()
    state = start(config, on_device, cache.device)
    _restore(state, config, checkpoint)

    def report(_: EpochRecord) -> None:
        if on_epoch is not None:
            on_epoch(Progress(config, state.records, state.model, on_device.validation, baselines))

    fit_with_checkpoints(state, on_device, config, checkpoint, on_epoch=report)
    train_seconds = time.perf_counter() - clock

    clock = time.perf_counter()
    model = state.kept_model()
    measured = measure_splits(model, on_device, robustness, baselines.surrogates, stored)
    return TrialResult(
        config=config,
        columns={
            "config_digest": config.digest(),
            "baseline_digest": baselines.digest,
            **config.flat(),
            **_metric_columns(measured, config, baselines),
            **_training_columns(state),
            **{f"num_{name}": len(data.split(name).labels) for name in ("train", *SPLITS)},
            "train_seconds": train_seconds,
            "evaluate_seconds": time.perf_counter() - clock,
            **provenance(cache.device),
            "started_at": started_at,
            "finished_at": utc_now(),
        },
        curves=[point for found in measured.values() for point in found.curves],
        spectra=[point for found in measured.values() for point in found.spectra],
        epochs=list(state.records),
        baselines=baselines,
        model=model,
    )


def _restore(state: TrainingState, config: TrialConfig, checkpoint: Path | None) -> None:
    if checkpoint is not None and checkpoint.exists():
        try:
            state.restore(checkpoint, config.digest())
        except CheckpointError as err:
            raise UnusableStateError(str(err)) from err


def _metric_columns(
    measured: Mapping[str, SplitMeasurements], config: TrialConfig, baselines: Baselines
) -> dict[str, float | None]:
    columns: dict[str, float | None] = {}
    robustness = config.robustness
    for split, (curves, distance, _) in measured.items():
        baseline = baselines.accuracy(split)
        own = Measurements(curves, distance, baseline, robustness.tradeoff_weight)
        values = {
            **metrics.compute(own, robustness.metrics),
            **{f"baseline_{name}": value for name, value in baseline._asdict().items()},
            "baseline_boundary_distance": baselines.boundary_distance(split),
        }
        columns |= {f"{split}.{name}": value for name, value in values.items()}
    return columns


def _training_columns(state: TrainingState) -> dict[str, Any]:
    shown = ("similarity_correlation", "positive_share", "negative_share")
    return {
        "used_cuda_graph": state.uses_cuda_graph,
        "kept_epoch": state.kept_epoch,
        "validation_loss": state.kept_loss if math.isfinite(state.kept_loss) else None,
        **{name: getattr(state.records[-1], name) for name in shown},
    }
