"""Ray Tune's own logger callbacks, told of our networks.

They are not handed to Tune itself, which would tell them too much and too little: its trials have
the whole configuration as one nested parameter, an id that a resumed search does not have again
and a folder that is deleted at the end; every report holds all tables of the network as JSON; an
exception in a callback ends the search, and a slow one slows it down. So
:class:`tuner.log_forwarder.LogForwarder` is the callback that Tune knows, and each of Ray's runs
behind a :class:`tuner.log_channel.LogChannel`.
"""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.tune.logger import LoggerCallback, TBXLoggerCallback

from tuner.log_channel import Entry, Logger, Lost, Network
from tuner.log_targets import LogTarget, WandbOptions, wandb_key, wandb_options


class _Trial:
    """What Ray's callbacks use of a trial of Tune's."""

    def __init__(self, network: Network, local_path: Path) -> None:
        self.network = network
        self.trial_id = network.key
        self.experiment_dir_name = network.study
        self.config = dict(network.params)
        self.evaluated_params = dict(network.params)
        self.local_path = str(local_path)

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return f"{self.network.study}-{self.network.name}"


class _RayLogger:
    """One of Ray's callbacks as a :class:`tuner.log_channel.Logger`."""

    def __init__(self, callback: LoggerCallback, place: Callable[[Network], Path]) -> None:
        self.callback = callback
        self._place = place
        self._trials: dict[Network, _Trial] = {}
        callback.setup()

    def trial(self, network: Network) -> _Trial:
        """The trial that stands for a network; the same one at every call."""
        if network not in self._trials:
            self._trials[network] = _Trial(network, self._place(network))
        return self._trials[network]

    def begin(self, network: Network) -> int:
        self.callback.log_trial_start(self.trial(network))
        return 0

    def log(self, network: Network, entry: Entry) -> None:
        # All three take this for the step.
        result = {**entry.values, "training_iteration": entry.step}
        self.callback.log_trial_result(entry.step, self.trial(network), result)

    def finish(self, network: Network) -> None:
        self.callback.log_trial_end(self.trial(network), failed=network.failed)
        del self._trials[network]

    def halt(self, network: Network) -> None:
        """Leave it as it is."""

    def close(self) -> None:
        self.callback.on_experiment_end(trials=[])


class _TensorBoardCallback(TBXLoggerCallback):  # type: ignore[misc]
    """TensorBoard; a resumed network is written anew, which hides what was written before."""

    def log_trial_start(self, trial: _Trial) -> None:
        from tensorboardX import SummaryWriter

        is_new = not any(Path(trial.local_path).glob("events.*"))
        self._summary_writer_cls = (
            SummaryWriter if is_new else functools.partial(SummaryWriter, purge_step=0)
        )
        super().log_trial_start(trial)


def _tensorboard(folder: Path) -> Logger:
    return _RayLogger(_TensorBoardCallback(), lambda network: folder / "tensorboard" / network.name)


class _MLflow(_RayLogger):
    """MLflow, where the run of a resumed network is found by a tag and gone on with."""

    def __init__(self, uri: str | None, study: str) -> None:
        # Attempts are repeated here, and a warning should not take minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        import mlflow
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        logging.getLogger("mlflow").setLevel(logging.ERROR)  # else the making of a database is told
        uri = uri or mlflow.get_tracking_uri()
        callback = MLflowLoggerCallback(tracking_uri=uri, experiment_name=study)
        super().__init__(callback, lambda network: Path())  # no files of ours
        self._client = mlflow.tracking.MlflowClient(tracking_uri=uri)
        self._steps: dict[Network, dict[str, int]] = {}
        """The last step of each metric of an open network when it began, or after a failure."""

    def begin(self, network: Network) -> int:
        trial, runs = self.trial(network), self.callback._trial_runs
        if trial not in runs:
            experiment = self.callback.mlflow_util.experiment_id
            query = f"tags.network = '{network.key}'"
            for run in self._client.search_runs([experiment], query, max_results=1):
                self._client.update_run(run.info.run_id, status="RUNNING")
                runs[trial] = run.info.run_id
        tags = {"study": network.study, "trial": str(network.trial), "network": network.key}
        self.callback.tags = tags
        is_new = trial not in runs
        super().begin(network)
        self._steps[network] = {} if is_new else self._logged_steps(network)
        return self._steps[network].get("training_iteration", 0)  # which is logged last

    def log(self, network: Network, entry: Entry) -> None:
        # One metric after the other is sent; a kill or a failure may have come in between.
        steps = self._steps.pop(network, None)
        if steps is None:
            steps = self._logged_steps(network)
        new = {name: v for name, v in entry.values.items() if steps.get(name, 0) < entry.step}
        super().log(network, entry._replace(values=new))
        self._steps[network] = steps

    def _logged_steps(self, network: Network) -> dict[str, int]:
        run = self.callback._trial_runs[self.trial(network)]
        history = self._client.get_metric_history
        return {
            name: max(point.step for point in history(run, name))
            for name in self._client.get_run(run).data.metrics
        }

    def finish(self, network: Network) -> None:
        super().finish(network)
        del self._steps[network]

    def halt(self, network: Network) -> None:
        run = self.callback._trial_runs[self.trial(network)]
        self.callback.mlflow_util.end_run(run_id=run, status="KILLED")


class _Wandb(_RayLogger):
    """Weights & Biases; a network is lost where the process that logs it fails.

    That is known when it is late: a wrong key, say, or no server.
    """

    def __init__(self, options: WandbOptions, study: str, lost: Lost) -> None:
        from tuner.wandb_callback import WandbCallback

        needs_key = options.mode not in ("offline", "disabled")
        # Of the logging process there is nothing worth watching.
        settings: dict[str, Any] = {"console": "off", "x_disable_stats": True}
        if server := os.environ.get("WANDB_BASE_URL"):
            settings["base_url"] = server
        folder = options.folder or Path(tempfile.mkdtemp())
        callback = WandbCallback(
            needs_key,
            lambda trial, reason: lost(trial.network, reason),
            project=options.project,
            group=study,
            api_key=wandb_key() if needs_key else None,
            # Of wandb.init:
            mode=options.mode,
            entity=options.entity,
            dir=str(folder),
            resume="allow",
            settings=settings,
        )
        super().__init__(callback, lambda network: folder)

    def begin(self, network: Network) -> int:
        self.callback.kwargs["tags"] = [network.study, f"trial {network.trial}"]
        return super().begin(network)

    def halt(self, network: Network) -> None:
        self.callback.log_trial_end(self.trial(network))


def make_logger(target: LogTarget, folder: Path, lost: Lost) -> Logger:
    """The logger of a target.

    Args:
        target: Where to log.
        folder: ``OUTPUT/NAME``.
        lost: Told what a logger finds out too late for an exception.
    """
    if target.kind == "tensorboard":
        return _tensorboard(folder)
    if target.kind == "mlflow":
        return _MLflow(target.place, folder.name)
    return _Wandb(wandb_options(target, folder), folder.name, lost)
