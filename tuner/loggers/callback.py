"""The Ray Tune callback that hands every run to the loggers."""

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
    """The random id that keeps apart the runs of studies of one name; created on first use."""
    if _ID_ATTRIBUTE not in study.user_attrs:
        study.set_user_attr(_ID_ATTRIBUTE, secrets.token_hex(4))
    return str(study.user_attrs[_ID_ATTRIBUTE])


class LogCallback(tune.Callback):  # type: ignore[misc]
    """Follows the runs of a search by what Tune reports.

    Args:
        channels: Where to log.
        study: Name of the search.
        keys: The searched keys of the configuration.
        log_id: See :func:`log_id`.
    """

    def __init__(
        self, channels: Sequence[LogChannel], study: str, keys: Sequence[str], log_id: str
    ) -> None:
        self._channels = channels
        self._study = study
        self._keys = keys
        self._log_id = log_id
        self._runs: dict[str, Run] = {}
        """The runs that have started and not ended, by Tune's id."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A run starts, or starts again after its worker was lost."""
        if trial.trial_id not in self._runs:
            self._put(trial.trial_id, self._run(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A run reports; see :func:`tuner.execution.worker.run_trial`."""
        run = self._runs[trial.trial_id]
        values = dict(run.values)
        for step, new in result.get("values", ()):
            values[step] = {**values.get(step, {}), **new}
        if result.get("values"):
            self._put(trial.trial_id, replace(run, values=values))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A run ends, maybe with a failure; after a full disk it stays open for ``--resume``."""
        last = trial.last_result or {}
        if "full_disk" not in last:
            self._end(trial.trial_id, "failed" if "failure" in last else "finished")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A run's worker is lost for good."""
        self._end(trial.trial_id, "failed")

    def _end(self, trial_id: str, status: Status) -> None:
        if trial_id in self._runs:  # else it ended before it started
            self._put(trial_id, replace(self._runs[trial_id], status=status))
            del self._runs[trial_id]

    def _put(self, trial_id: str, run: Run) -> None:
        self._runs[trial_id] = run
        for channel in self._channels:
            channel.put(run)

    def _run(self, suggested: dict[str, Any]) -> Run:
        name = suggested["folder"].replace("/", "-")
        config = suggested["config"]
        params = {key: _readable(get_dotted(config, key)) for key in (*self._keys, "seed")}
        return Run(f"{self._log_id}-{name}", self._study, suggested["trial"], name, params)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # pickled into Ray's snapshot, which nothing here reads

    def close(self, kind: type[BaseException] | None, *details: object) -> None:
        """Log what is left, after an interruption in less time; called as an ``__exit__``."""
        for channel in self._channels:
            channel.stop()
        deadline = time.monotonic() + (_PATIENCE if kind is None else _PATIENCE_INTERRUPTED)
        for channel in self._channels:
            channel.close(deadline - time.monotonic())


def _readable(value: Any) -> bool | int | float | str:
    """A parameter as every logger accepts it: a number or text; anything else as JSON."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
