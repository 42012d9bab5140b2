"""TensorBoard, MLflow and Weights & Biases as backends of a channel.

The thread of the channel imports the package of its logger, because that takes seconds.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from simreg_core.storage.location import local_path
from tuner.loggers.channel import Backend, Run, Values
from tuner.loggers.targets import LogTarget

_MLFLOW_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_WANDB_SECONDS = 10.0  # to open a run, and to upload the rest at its end


def make_backend(target: LogTarget, folder: Path) -> Backend:
    """The backend of a target, for the search whose results are in ``folder``."""
    if target.kind == "tensorboard":
        return functools.partial(_TensorBoardWriter, folder / "tensorboard")
    if target.kind == "mlflow":
        return functools.partial(_MLflowWriter, target.location)
    project = target.location or os.environ.get("WANDB_PROJECT") or "simreg-tune"
    home = os.environ.get("WANDB_DIR") or local_path(folder) or tempfile.mkdtemp()
    return functools.partial(_open_wandb, project, Path(home).absolute())


class _Steps:
    """Steps and names of the values of a run that are already logged."""

    def __init__(self) -> None:
        self.logged: set[tuple[int, str]] = set()

    def new(self, values: Values) -> list[tuple[int, str, float]]:
        """Step, name and value of what is not logged yet, in order; counts it as logged."""
        rows = [(step, *item) for step in sorted(values) for item in values[step].items()]
        new = [row for row in rows if row[:2] not in self.logged]
        self.logged.update(row[:2] for row in new)
        return new


class _TensorBoardWriter(_Steps):
    """Event files in a folder per run. A run that is opened again hides its old files."""

    def __init__(self, parent: Path, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__()
        folder = parent / run.name
        purge_step = 0 if any(folder.glob("events.*")) else None
        self._writer: Any = SummaryWriter(str(folder), purge_step=purge_step)

    def log(self, values: Values) -> None:
        for step, name, value in self.new(values):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, run: Run) -> None:
        from torch.utils.tensorboard.summary import hparams

        if run.status != "interrupted":
            # SummaryWriter.add_hparams would write to another file.
            metrics = run.values[max(run.values)] if run.values else {}
            for summary in hparams(dict(run.params), dict(metrics)):
                self._writer.file_writer.add_summary(summary)
        self._writer.close()


class _MLflowWriter(_Steps):
    """A run at a tracking server, in a database or a folder; an experiment per search."""

    def __init__(self, uri: str | None, run: Run) -> None:
        # Short attempts, because the channel retries.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # contains its password
        import mlflow

        super().__init__()
        logging.getLogger("mlflow").setLevel(logging.ERROR)  # it announces new databases
        self._client = client = mlflow.MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(run.study)
        experiment = known.experiment_id if known else client.create_experiment(run.study)
        found = client.search_runs([experiment], f"tags.network = '{run.key}'", max_results=1)
        if found:
            self._run_id = found[0].info.run_id
            client.update_run(self._run_id, status="RUNNING")
        else:
            tags = {"study": run.study, "trial": str(run.trial), "network": run.key}
            name = f"{run.study}-{run.name}"
            self._run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        params = [mlflow.entities.Param(name, str(value)) for name, value in run.params.items()]
        client.log_batch(self._run_id, params=params)
        for name in client.get_run(self._run_id).data.metrics:
            history = client.get_metric_history(self._run_id, name)
            self.logged |= {(point.step, name) for point in history}

    def log(self, values: Values) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for step, name, value in self.new(values)]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, run: Run) -> None:
        self._client.set_terminated(self._run_id, _MLFLOW_STATUS[run.status])


def _open_wandb(project: str, folder: Path, run: Run) -> _WandbWriter:
    """A run in a group per search. W&B's own environment sets key, entity and mode."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    settings = wandb.Settings(
        console="off",
        x_disable_stats=True,
        x_disable_meta=True,  # the command line, which may contain MLflow's password
        x_graphql_retry_max=1,  # the channel retries
        x_graphql_timeout_seconds=_WANDB_SECONDS / 2,
        init_timeout=_WANDB_SECONDS,
        finish_timeout=_WANDB_SECONDS,
        finish_timeout_raises=True,
    )
    try:
        opened = wandb.init(
            project=project,
            group=run.study,
            name=f"{run.study}-{run.name}",
            id=run.key,
            tags=[run.study, f"trial {run.trial}"],
            config=dict(run.params),
            dir=str(folder),
            resume="allow",
            reinit="create_new",  # several are open at once
            settings=settings,
        )
    except Exception:
        # Otherwise W&B's process refuses this id from now on. The channel reopens the other runs.
        wandb.teardown()
        raise
    return _WandbWriter(opened)


class _WandbWriter(_Steps):
    def __init__(self, run: Any) -> None:
        super().__init__()
        self._run = run
        self._first = run.starting_step  # W&B refuses earlier steps
        self._known = {*run.summary.keys()}

    def log(self, values: Values) -> None:
        for step, name, value in self.new(values):
            if step >= self._first or name not in self._known:
                self._run.log({name: value}, step=max(step, self._first))

    def close(self, run: Run) -> None:
        self._run.finish(exit_code=1 if run.status == "failed" else 0)
