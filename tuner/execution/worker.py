"""What a worker runs: a plain dictionary in, one experiment, a report out.

A network that raises reports its reason and ends normally, so that what Ray itself calls an error
is what a new worker may overcome: a lost process or node, or memory that ran out. Then Ray starts
it again, and it goes on from its last epoch.
"""

from __future__ import annotations

import errno
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simreg_core.errors import reason_of
from simreg_core.results.objectives import SEARCH_SPLIT, STOPPING_METRICS

if TYPE_CHECKING:
    import torch

    from simreg_core.config.trial import TaskConfig, TrialConfig
    from simreg_core.training.baselines import BaselineCache
    from simreg_core.training.experiment import Progress, TrialResult

STATE_FILE = "state.pt"  # of an unfinished training
RECORD_FILE = "record.json"  # rows of a network that the driver has not written to the tables yet
METRICS_FILE = "epoch_metrics.json"  # metrics of an unfinished network, for early stopping
OPEN_FILES = (STATE_FILE, RECORD_FILE, METRICS_FILE)  # not needed once the trial has ended
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker of a search is told beside its configuration."""

    folder: Path
    """``OUTPUT/NAME``, reachable from every node."""
    cache: Path
    """Cached baselines and surrogates."""
    device: str
    num_threads: int
    """CPU threads of torch; figures on the CPU depend on it in their last digits."""
    measures_epochs: bool = False
    """Whether every epoch's network is attacked, for a rule that stops trials early."""


def run_trial(config: dict[str, Any], settings: WorkerSettings) -> None:
    """Train and evaluate one network, reporting to Tune after every epoch and at the end.

    A report holds ``epochs_done``; ``record``, the path of the network's rows (see
    :func:`~tuner.execution.records.read_record`), absent before the first epoch; and ``values``,
    what is new for loggers (see :func:`~tuner.execution.records.logged_values`). The first report
    of a worker has the values of all epochs so far. The last one may hold ``failure`` (the reason)
    or ``full_disk`` instead.

    With early stopping, reports also hold the metrics of the epoch's network. The report of the
    last epoch holds none: they are in the report at the end, when the trial is complete whatever
    the rule decides. A new worker first repeats the metrics that an earlier one reported, so that
    the rule of a new driver compares every epoch with epochs as early.
    """
    from ray import tune  # heavy, like torch below: not at import

    from simreg_core.config.trial import TrialConfig
    from simreg_core.storage.base import store_problem
    from tuner.execution.records import epochs_record, logged_values

    device = prepare_worker(settings)
    folder = settings.folder / "checkpoints" / config["folder"]
    told: dict[str, str] = {}
    memory = _EpochMetrics(folder / METRICS_FILE)
    num_logged = 0

    def on_epoch(progress: Progress) -> None:
        epochs_done = len(progress.records)
        record = epochs_record(progress, config["trial"])
        told["record"] = _write_record(folder, record)
        say_again(epochs_done)
        metrics = {}
        if settings.measures_epochs:
            metrics = progress.metrics()
            memory.add(epochs_done, metrics)
        if epochs_done == progress.config.training.epochs:
            metrics = {}
        tune.report({"epochs_done": epochs_done, "values": new_values(record), **metrics, **told})

    def new_values(record: Mapping[str, Any]) -> list[tuple[int, dict[str, float]]]:
        nonlocal num_logged
        values = logged_values(record, memory.of)
        new, num_logged = values[num_logged:], len(values)
        return new

    def say_again(before: int) -> None:
        for epochs_done, metrics in memory.recall(before):
            tune.report({"epochs_done": epochs_done, **metrics, **told})

    try:
        trial = TrialConfig.from_dict(config["config"])
        record = _finished(folder, trial) or _record(
            trial, config["trial"], folder, settings, device, on_epoch
        )
        told["record"] = str(folder / RECORD_FILE)
        report: dict[str, Any] = {"epochs_done": trial.training.epochs}
        if settings.measures_epochs:
            say_again(trial.training.epochs)
            report |= memory.of(trial.training.epochs) or _final_metrics(record)
        report["values"] = new_values(record)
    except Exception as err:  # whatever it was, the search goes on and the reason is recorded
        if is_out_of_memory(err) or store_problem(err):  # Ray starts it again
            raise
        is_full = isinstance(err, OSError) and err.errno in _FULL_DISK
        # No epoch: the median rule shall not compare others with it.
        report = {"epochs_done": 0, "full_disk" if is_full else "failure": reason_of(err)}
    tune.report({**report, **told})


def network_folder(number: int, seed: int, num_seeds: int) -> str:
    """Where a network of a trial keeps its files, below ``checkpoints/``."""
    return f"{number:05d}" if num_seeds == 1 else f"{number:05d}/seed-{seed}"


class _EpochMetrics:
    """The metrics that a network's workers reported, in a file that outlives them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, dict[str, float]] = {}
        with suppress(OSError, ValueError):
            self._known = json.loads(path.read_text())
        self._to_recall = dict(self._known)

    def recall(self, before: int) -> Iterator[tuple[int, dict[str, float]]]:
        """What earlier workers reported after fewer than ``before`` epochs, once and in order."""
        found, self._to_recall = self._to_recall, {}
        for epochs_done in sorted(map(int, found)):
            if epochs_done < before:
                yield epochs_done, found[str(epochs_done)]

    def of(self, epochs_done: int) -> dict[str, float]:
        """What is known of one epoch; empty if nothing is."""
        return self._known.get(str(epochs_done), {})

    def add(self, epochs_done: int, metrics: dict[str, float]) -> None:
        """Keep what is reported now; what was known of later epochs is of a lost training."""
        from simreg_core.storage.atomic import write_text

        earlier = {key: value for key, value in self._known.items() if int(key) < epochs_done}
        self._known = {**earlier, str(epochs_done): metrics}
        write_text(self._path, json.dumps(self._known))


def _final_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of a finished network, where a kill left those of its last epoch out."""
    return {name: record["columns"][f"{SEARCH_SPLIT}.{name}"] for name in STOPPING_METRICS}


def _write_record(folder: Path, record: Mapping[str, Any]) -> str:
    """Replace the rows of a network; returns their path."""
    from simreg_core.storage.atomic import write_text

    path = folder / RECORD_FILE
    write_text(path, json.dumps(record, allow_nan=False))
    return str(path)


def _finished(folder: Path, config: TrialConfig) -> dict[str, Any] | None:
    """The record of a network that was finished before, if it is of this configuration."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD_FILE).read_text())
        is_same = record["columns"]["config_digest"] == config.digest()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if is_same else None


def _record(
    config: TrialConfig,
    number: int,
    folder: Path,
    settings: WorkerSettings,
    device: torch.device,
    on_epoch: Callable[[Progress], None],
) -> dict[str, Any]:
    """Train and evaluate; leaves the weights and the record in the folder."""
    from simreg_core.networks.checkpoint import save_weights
    from tuner.execution.records import trial_record

    result = train(config, folder / STATE_FILE, settings, device, on_epoch)
    save_weights(folder / "weights.pt", config, result.model)
    record = trial_record(result, number)
    _write_record(folder, record)
    (folder / STATE_FILE).unlink(missing_ok=True)
    return record


def train(
    config: TrialConfig,
    state: Path,
    settings: WorkerSettings,
    device: torch.device,
    on_epoch: Callable[[Progress], None] | None = None,
) -> TrialResult:
    """Train and evaluate one network, from the last epoch in ``state`` on where there is one.

    Raises:
        Exception: whatever :func:`simreg_core.training.experiment.run_experiment` raises.
    """
    from simreg_core.training.experiment import UnusableStateError, run_experiment

    def run() -> TrialResult:
        cache = _baseline_cache(config.task, settings.cache, device)
        return run_experiment(config, cache, checkpoint=state, on_epoch=on_epoch)

    try:
        return run()
    except UnusableStateError:
        state.unlink()  # the training begins again
        return run()


@functools.lru_cache(maxsize=1)
def _baseline_cache(task: TaskConfig, folder: Path, device: torch.device) -> BaselineCache:
    """With the task's images, kept for the worker's next trial, which most often has the task."""
    from simreg_core.data.task import load_task
    from simreg_core.training.baselines import BaselineCache

    return BaselineCache(folder, load_task(task), device)


def is_out_of_memory(err: BaseException) -> bool:
    """Whether memory ran out, on the host or the GPU; beside less other work it may suffice."""
    import torch

    return isinstance(err, MemoryError | torch.cuda.OutOfMemoryError)


def prepare_worker(settings: WorkerSettings) -> torch.device:
    """Set this process's threads and return its torch device."""
    import torch

    torch.set_num_threads(settings.num_threads)
    return torch.device(settings.device)
