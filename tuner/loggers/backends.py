"""TensorBoard, MLflow and Weights & Biases, each as a backend of a channel.

Each is imported in the thread of its channel, since that takes seconds.
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
from tuner.loggers.channel import Backend, Run, Values, Writer
from tuner.loggers.targets import LogTarget

_MLFLOW_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_WANDB_SECONDS = 10.0  # for opening a run, and for uploading the rest at its end


def make_backend(target: LogTarget, folder: Path) -> Backend:
    """The backend of a target, for the search whose results are in ``folder``."""
    if target.kind == "tensorboard":
        return functools.partial(_open_tensorboard, folder / "tensorboard")
    if target.kind == "mlflow":
        return functools.partial(_open_mlflow, target.place)
    project = target.place or os.environ.get("WANDB_PROJECT") or "simreg-tune"
    home = os.environ.get("WANDB_DIR") or local_path(folder) or tempfile.mkdtemp()
    return functools.partial(_open_wandb, project, Path(home).absolute())


class _Steps:
    """Which values of a run are logged already, by step and name."""

    def __init__(self) -> None:
        self.logged: set[tuple[int, str]] = set()

    def new(self, values: Values) -> list[tuple[int, str, float]]:
        """Step, name and value of what is not logged yet, in order; now it counts as logged."""
        new = [
            (step, name, value)
            for step in sorted(values)
            for name, value in values[step].items()
            if (step, name) not in self.logged
        ]
        self.logged.update((step, name) for step, name, _ in new)
        return new


def _open_tensorboard(parent: Path, run: Run) -> Writer:
    """Event files in a folder per run. A run that is opened again hides the old ones."""
    from torch.utils.tensorboard import SummaryWriter

    folder = parent / run.name
    purge_step = 0 if any(folder.glob("events.*")) else None
    return _TensorBoardWriter(SummaryWriter(str(folder), purge_step=purge_step))


class _TensorBoardWriter(_Steps):
    def __init__(self, writer: Any) -> None:
        super().__init__()
        self._writer = writer

    def log(self, values: Values) -> None:
        for step, name, value in self.new(values):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, run: Run) -> None:
        from torch.utils.tensorboard.summary import hparams

        if run.status != "interrupted":
            # SummaryWriter.add_hparams would write to a file of its own.
            metrics = run.values[max(run.values)] if run.values else {}
            for summary in hparams(dict(run.params), dict(metrics)):
                self._writer.file_writer.add_summary(summary)
        self._writer.close()


def _open_mlflow(uri: str | None, run: Run) -> Writer:
    """A run at a tracking server, in a database or a folder; an experiment per search."""
    # The channel retries; a single attempt should not take minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # with its password
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it announces new databases
    client = mlflow.MlflowClient(tracking_uri=uri)
    known = client.get_experiment_by_name(run.study)
    experiment = known.experiment_id if known else client.create_experiment(run.study)
    found = client.search_runs([experiment], f"tags.network = '{run.key}'", max_results=1)
    if found:
        run_id = found[0].info.run_id
        client.update_run(run_id, status="RUNNING")
    else:
        tags = {"study": run.study, "trial": str(run.trial), "network": run.key}
        name = f"{run.study}-{run.name}"
        run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
    params = [mlflow.entities.Param(name, str(value)) for name, value in run.params.items()]
    client.log_batch(run_id, params=params)
    return _MLflowWriter(client, run_id)


class _MLflowWriter(_Steps):
    def __init__(self, client: Any, run_id: str) -> None:
        super().__init__()
        self._client = client
        self._run_id = run_id
        for name in client.get_run(run_id).data.metrics:
            self.logged |= {(point.step, name) for point in client.get_metric_history(run_id, name)}

    def log(self, values: Values) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for step, name, value in self.new(values)]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, run: Run) -> None:
        self._client.set_terminated(self._run_id, _MLFLOW_STATUS[run.status])


def _open_wandb(project: str, folder: Path, run: Run) -> Writer:
    """A run in a group per search. Key, entity and mode are those of W&B's own environment."""
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
        # Its process would refuse this id from now on. The channel opens the other runs again.
        wandb.teardown()
        raise
    return _WandbWriter(opened)


class _WandbWriter(_Steps):
    def __init__(self, run: Any) -> None:
        super().__init__()
        self._run = run
        self._first = run.starting_step  # earlier ones are refused
        self._known = {*run.summary.keys()}

    def log(self, values: Values) -> None:
        for step, name, value in self.new(values):
            if step >= self._first or name not in self._known:
                self._run.log({name: value}, step=max(step, self._first))

    def close(self, run: Run) -> None:
        self._run.finish(exit_code=1 if run.status == "failed" else 0)
