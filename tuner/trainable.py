"""What a worker runs: a plain dictionary in, one experiment, a report out.

A network that raises reports its reason and ends normally, so that what Ray itself calls an error
is what a new worker may overcome: a lost process or node, or memory that ran out. Then Ray starts
it again, and it goes on from its last epoch.
"""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simreg_core.experiment import Progress

STATE_FILE = "state.pt"  # of an unfinished training
RECORD_FILE = "record.json"  # of a finished network whose rows nobody has written yet
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker of a search is told beside its configuration."""

    folder: Path
    """``OUTPUT/NAME``, reachable from every node."""
    cache: Path
    """Cached reference networks."""
    device: str
    num_threads: int
    """CPU threads of torch; figures on the CPU depend on it in their last digits."""
    measures_epochs: bool = False
    """Whether every epoch's network is attacked, for a rule that stops trials early."""


def run_trial(config: dict[str, Any], settings: WorkerSettings) -> None:
    """Train and evaluate one network, reporting to Tune after every epoch and at the end.

    Every report holds ``record``, JSON as :func:`tuner.rows.trial_record` makes it; before the end
    with the epochs alone. The last one may hold ``failure`` (the reason), or ``full_disk``.
    """
    from ray import tune  # heavy, like torch below: not at import

    from simreg_core.checkpoint import CheckpointError
    from simreg_core.config import TrialConfig
    from simreg_core.places import is_store_error
    from tuner.rows import epochs_record

    device = prepare_worker(settings)
    folder = settings.folder / "checkpoints" / config["folder"]
    told = {"record": json.dumps({})}

    def on_epoch(progress: Progress) -> None:
        told["record"] = json.dumps(epochs_record(progress, config["trial"]), allow_nan=False)
        metrics = progress.metrics() if settings.measures_epochs else {}
        tune.report({"epochs_done": len(progress.records), **metrics, **told})

    try:
        trial = TrialConfig.from_dict(config["config"])
        arguments = (trial, config["trial"], folder, settings, device, on_epoch)
        try:
            told["record"] = _finished(folder, trial) or _record(*arguments)
        except CheckpointError:  # damaged: the training begins again
            (folder / STATE_FILE).unlink(missing_ok=True)
            told["record"] = _record(*arguments)
        report: dict[str, Any] = {"epochs_done": trial.training.epochs}
    except Exception as err:  # whatever it was, the search goes on and the reason is recorded
        if is_out_of_memory(err) or is_store_error(err):  # Ray starts it again
            raise
        is_full = isinstance(err, OSError) and err.errno in _FULL_DISK
        report = {"full_disk" if is_full else "failure": reason_of(err)}
    tune.report({**report, **told})


def _finished(folder: Path, config: Any) -> str | None:
    """The record of a network that was finished before, if it is of this configuration."""
    try:
        text = (folder / RECORD_FILE).read_text()
        is_same = json.loads(text)["columns"]["config_digest"] == config.digest()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return text if is_same else None


def _record(
    config: Any, number: int, folder: Path, settings: WorkerSettings, device: Any, on_epoch: Any
) -> str:
    """Train and evaluate; leaves the weights and the record in the folder."""
    from simreg_core.checkpoint import save_weights
    from simreg_core.experiment import run_experiment
    from simreg_core.files import write_text
    from tuner.rows import trial_record

    result = run_experiment(
        config,
        cache=settings.cache,
        device=device,
        checkpoint=folder / STATE_FILE,
        on_epoch=on_epoch,
    )
    save_weights(folder / "weights.pt", config, result.model)
    record = json.dumps(trial_record(result, number), allow_nan=False)
    write_text(folder / RECORD_FILE, record)
    (folder / STATE_FILE).unlink(missing_ok=True)
    return record


def is_out_of_memory(err: BaseException) -> bool:
    """Whether memory ran out, on the host or the GPU; beside less other work it may suffice."""
    import torch

    return isinstance(err, MemoryError | torch.cuda.OutOfMemoryError)


def prepare_worker(settings: WorkerSettings) -> Any:
    """Set this process's threads and return its torch device."""
    import torch

    torch.set_num_threads(settings.num_threads)
    return torch.device(settings.device)


def reason_of(err: BaseException) -> str:
    """Kind and message of an exception in one line."""
    return " ".join(f"{type(err).__name__}: {err}".split())
