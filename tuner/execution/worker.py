"""The code of a Ray worker: it takes a plain dictionary, trains one network and reports it.

A network that raises an exception reports the reason and ends normally. What Ray calls an error is
therefore something that a new worker may overcome: a lost process or node, or exhausted memory. Ray
then restarts the network, which resumes from its last epoch.
"""

from __future__ import annotations

import errno
import functools
import json
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simreg_core.config.trial import TaskConfig, TrialConfig
from simreg_core.errors import one_line
from simreg_core.results.objectives import SEARCH_SPLIT, STOPPING_METRICS
from simreg_core.storage.atomic import write_text
from simreg_core.storage.base import is_draft, store_problem
from tuner.execution.records import epochs_record, logged_values, trial_record

if TYPE_CHECKING:  # heavy: imported where used
    import torch

    from simreg_core.training.baselines import BaselineCache
    from simreg_core.training.experiment import Progress, TrialResult

STATE_FILE = "state.pt"  # checkpoint of an unfinished training
RECORD_FILE = "record.json"  # rows that are not in the tables yet
METRICS_FILE = "epoch_metrics.json"  # metrics of an unfinished network, for early stopping
OPEN_FILES = (STATE_FILE, RECORD_FILE, METRICS_FILE)  # not needed once the trial has ended
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class WorkerSettings:
    """Settings that all workers of a search share."""

    folder: Path
    """``OUTPUT/NAME``, reachable from every node."""
    cache: Path
    """Folder of the cached baselines and surrogates."""
    device: str
    num_threads: int
    """CPU threads of torch, which affect results on the CPU in their last digits."""
    measures_epochs: bool = False
    """Whether the network is attacked after every epoch, for early stopping."""


def run_trial(config: dict[str, Any], settings: WorkerSettings) -> None:
    """Train and evaluate one network, reporting to Tune after every epoch and at the end.

    A report holds ``epochs_done``; ``record``, the path of the network's rows (see
    :func:`~tuner.execution.records.read_record`; absent before the first epoch); and ``values``,
    new values for loggers (see :func:`~tuner.execution.records.logged_values`). The first report of
    a worker has the values of all epochs so far. The last report may hold ``failure`` (the reason)
    or ``full_disk`` instead.

    With early stopping, reports also hold the metrics of the epoch. The report of the last epoch
    has none: they are in the final report, when the rule can no longer stop the trial. A
    new worker first repeats the reports of earlier ones, since the rule of a resumed search must
    compare epochs of the same number.
    """
    from simreg_core.networks.checkpoint import save_weights

    device = prepare_worker(settings)
    folder = settings.folder / "checkpoints" / config["folder"]
    reporter = _Reporter(folder, config["trial"], settings.measures_epochs)
    try:
        trial = TrialConfig.from_dict(config["config"])
        record = _finished(folder, trial)
        if record is None:
            result = train(trial, folder / STATE_FILE, settings, device, reporter.on_epoch)
            save_weights(folder / "weights.pt", trial, result.model)
            record = trial_record(result, config["trial"])
            _write_record(folder, record)
            (folder / STATE_FILE).unlink(missing_ok=True)
        reporter.finish(trial.training.epochs, record)
    except Exception as err:  # recorded with its reason; the search continues
        if is_out_of_memory(err) or store_problem(err):  # Ray starts the network again
            raise
        is_full = isinstance(err, OSError) and err.errno in _FULL_DISK
        # No epoch, so that the median rule ignores this report.
        reporter.report(0, {"full_disk" if is_full else "failure": one_line(err)})


class _Reporter:
    """Reports a network to Tune; keeps the metrics of its epochs in a file for later workers."""

    def __init__(self, folder: Path, number: int, measures_epochs: bool) -> None:
        self._folder = folder
        self._number = number
        self._measures_epochs = measures_epochs
        self._num_logged = 0
        self._record: dict[str, str] = {}
        self._metrics: dict[int, dict[str, float]] = {}
        with suppress(OSError, ValueError):
            stored = json.loads((folder / METRICS_FILE).read_text())
            self._metrics = {int(epochs_done): metrics for epochs_done, metrics in stored.items()}
        self._to_repeat = sorted(self._metrics.items())

    def on_epoch(self, progress: Progress) -> None:
        """Report an epoch."""
        epochs_done = len(progress.records)
        record = epochs_record(progress, self._number)
        self._record["record"] = _write_record(self._folder, record)
        self._repeat(epochs_done)
        metrics: dict[str, float] = {}
        if self._measures_epochs:
            metrics = progress.metrics()
            # Metrics of later epochs belong to a training whose checkpoint was lost.
            earlier = {n: known for n, known in self._metrics.items() if n < epochs_done}
            self._metrics = {**earlier, epochs_done: metrics}
            write_text(self._folder / METRICS_FILE, json.dumps(self._metrics))
        is_last = epochs_done == progress.config.training.epochs
        values = self._new_values(record)
        self.report(epochs_done, {"values": values, **({} if is_last else metrics)})

    def finish(self, num_epochs: int, record: Mapping[str, Any]) -> None:
        """Report a finished network."""
        self._record["record"] = str(self._folder / RECORD_FILE)
        metrics: dict[str, float] = {}
        if self._measures_epochs:
            self._repeat(num_epochs)
            # After a kill, the metrics of the last epoch may be in the record only.
            metrics = self._metrics.get(num_epochs) or {
                name: record["columns"][f"{SEARCH_SPLIT}.{name}"] for name in STOPPING_METRICS
            }
        self.report(num_epochs, {"values": self._new_values(record), **metrics})

    def report(self, epochs_done: int, content: Mapping[str, Any]) -> None:
        """Report to Tune."""
        from ray import tune

        tune.report({"epochs_done": epochs_done, **content, **self._record})

    def _repeat(self, before: int) -> None:
        """Report, once, the metrics that earlier workers reported before this epoch."""
        for epochs_done, metrics in self._to_repeat:
            if epochs_done < before:
                self.report(epochs_done, metrics)
        self._to_repeat = []

    def _new_values(self, record: Mapping[str, Any]) -> list[tuple[int, dict[str, float]]]:
        values = logged_values(record, lambda epochs_done: self._metrics.get(epochs_done, {}))
        new, self._num_logged = values[self._num_logged :], len(values)
        return new


def network_folder(number: int, seed: int, num_seeds: int) -> str:
    """Folder of a trial's network, below ``checkpoints/``."""
    return f"{number:05d}" if num_seeds == 1 else f"{number:05d}/seed-{seed}"


def remove_open_files(folder: Path, numbers: Container[int]) -> None:
    """Remove what the trials with these numbers, which have ended, needed to continue.

    ``folder`` is ``OUTPUT/NAME``. Files that a killed worker had not finished writing go, too.
    """
    checkpoints = folder / "checkpoints"
    for path in list(checkpoints.rglob("*")):
        trial = path.relative_to(checkpoints).parts[0]
        is_open = path.name in OPEN_FILES or is_draft(path)
        if is_open and trial.isdecimal() and int(trial) in numbers:
            path.unlink(missing_ok=True)


def _write_record(folder: Path, record: Mapping[str, Any]) -> str:
    write_text(folder / RECORD_FILE, json.dumps(record, allow_nan=False))
    return str(folder / RECORD_FILE)


def _finished(folder: Path, config: TrialConfig) -> dict[str, Any] | None:
    """The record of a finished network with this configuration, if there is one."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD_FILE).read_text())
        is_same = record["columns"]["config_digest"] == config.digest()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if is_same else None


def train(
    config: TrialConfig,
    state: Path,
    settings: WorkerSettings,
    device: torch.device,
    on_epoch: Callable[[Progress], None] | None = None,
) -> TrialResult:
    """Train and evaluate one network, resuming from the checkpoint ``state`` if it exists.

    Raises what :func:`simreg_core.training.experiment.run_experiment` raises.
    """
    from simreg_core.training.experiment import UnusableStateError, run_experiment

    def run() -> TrialResult:
        cache = _baseline_cache(config.task, settings.cache, device)
        return run_experiment(config, cache, checkpoint=state, on_epoch=on_epoch)

    try:
        return run()
    except UnusableStateError:
        state.unlink()  # restart the training
        return run()


@functools.lru_cache(maxsize=1)
def _baseline_cache(task: TaskConfig, folder: Path, device: torch.device) -> BaselineCache:
    """The cache with the task's images, kept for the worker's next trial."""
    from simreg_core.data.task import load_task
    from simreg_core.training.baselines import BaselineCache

    return BaselineCache(folder, load_task(task), device)


def is_out_of_memory(err: BaseException) -> bool:
    """Whether the host or the GPU ran out of memory, which may suffice in another attempt."""
    import torch

    return isinstance(err, MemoryError | torch.cuda.OutOfMemoryError)


def prepare_worker(settings: WorkerSettings) -> torch.device:
    """Set this process's threads and return its torch device."""
    import torch

    torch.set_num_threads(settings.num_threads)
    return torch.device(settings.device)
