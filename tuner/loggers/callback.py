"""The Ray Tune callback that passes every run on to the loggers."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import optuna
from ray import tune

from simreg_core.config.yaml_io import get_dotted
from tuner.loggers.channel import LogChannel, Run, Status

_PATIENCE = 30.0  # seconds that the end of a search waits for its loggers
_PATIENCE_INTERRUPTED = 5.0  # the same after Ctrl-C
_ID_ATTRIBUTE = "log_id"  # of the study


def log_id(study: optuna.Study) -> str:
    """A random id, created on first use, that distinguishes studies of the same name."""
    if _ID_ATTRIBUTE not in study.user_attrs:
        study.set_user_attr(_ID_ATTRIBUTE, secrets.token_hex(4))
    return str(study.user_attrs[_ID_ATTRIBUTE])


class LogCallback(tune.Callback):  # type: ignore[misc]
    """Logs the runs of a search, with the values of the searched ``keys`` as their parameters."""

    def __init__(
        self, channels: Sequence[LogChannel], study: str, keys: Sequence[str], log_id: str
    ) -> None:
        self._channels = channels
        self._study = study
        self._keys = keys
        self._log_id = log_id
        self._runs: dict[str, Run] = {}  # runs that have started and not ended, by Tune's id

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called when a run starts, or restarts because its worker was lost."""
        if trial.trial_id in self._runs:
            return
        number, config = trial.config["trial"], trial.config["config"]
        name = trial.config["folder"].replace("/", "-")
        params = {key: get_dotted(config, key) for key in (*self._keys, "seed")}
        for key, value in params.items():
            if not isinstance(value, bool | int | float | str):
                params[key] = json.dumps(value)
        self._put(trial, Run(f"{self._log_id}-{name}", self._study, number, name, params))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Called when a run reports; see :func:`tuner.execution.worker.run_trial`."""
        if new := result.get("values"):
            run = self._runs[trial.trial_id]
            values = dict(run.values)
            for step, measured in new:
                values[step] = {**values.get(step, {}), **measured}
            self._put(trial, replace(run, values=values))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called when a run ends. After a full disk it stays open for ``--resume``."""
        last = trial.last_result or {}
        if "full_disk" not in last:
            self._end(trial, "failed" if "failure" in last else "finished")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called when the worker of a run is lost for good."""
        self._end(trial, "failed")

    def _end(self, trial: Any, status: Status) -> None:
        if trial.trial_id in self._runs:  # a run may end before it starts
            self._put(trial, replace(self._runs[trial.trial_id], status=status))
            del self._runs[trial.trial_id]

    def _put(self, trial: Any, run: Run) -> None:
        self._runs[trial.trial_id] = run
        for channel in self._channels:
            channel.put(run)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles callbacks into its snapshot, which nothing reads

    def close(self, kind: type[BaseException] | None, *details: object) -> None:
        """Log the rest, with less time after an interruption; usable as an ``__exit__``."""
        for channel in self._channels:
            channel.stop()
        deadline = time.monotonic() + (_PATIENCE if kind is None else _PATIENCE_INTERRUPTED)
        for channel in self._channels:
            channel.close(deadline - time.monotonic())
