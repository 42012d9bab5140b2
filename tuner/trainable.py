"""What a worker runs: a plain dictionary in, one experiment, a report out.

A trial that raises reports its reason and ends normally, so that what Ray itself calls an error is
always infrastructure: a lost worker or node.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


def run_trial(config: dict[str, Any], settings: WorkerSettings) -> None:
    """Train and evaluate one trial, reporting to Tune after every epoch and at the end.

    The last report holds either ``record`` (JSON, see :func:`tuner.rows.trial_record`) or
    ``failure`` (the reason).
    """
    from ray import tune  # heavy, like torch below: not at import

    from simreg_core.checkpoint import save_weights
    from simreg_core.config import TrialConfig
    from simreg_core.experiment import run_experiment
    from tuner.rows import trial_record

    device = prepare_worker(settings)
    number = config["trial"]
    folder = settings.folder / "checkpoints" / f"{number:05d}"
    try:
        trial_config = TrialConfig.from_dict(config["config"])
        result = run_experiment(
            trial_config,
            cache=settings.cache,
            device=device,
            checkpoint=folder / "state.pt",
            on_epoch=lambda record: tune.report({"epochs_done": record.epoch + 1}),
        )
        save_weights(folder / "weights.pt", trial_config, result.model)
        (folder / "state.pt").unlink(missing_ok=True)
        report = {"record": json.dumps(trial_record(result, number), allow_nan=False)}
    except Exception as err:  # whatever it was, the search goes on and the reason is recorded
        report = {"failure": reason_of(err)}
    tune.report(report)


def prepare_worker(settings: WorkerSettings) -> Any:
    """Set this process's threads and return its torch device."""
    import torch

    torch.set_num_threads(settings.num_threads)
    return torch.device(settings.device)


def reason_of(err: BaseException) -> str:
    """Kind and message of an exception in one line."""
    return " ".join(f"{type(err).__name__}: {err}".split())
