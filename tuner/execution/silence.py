"""Watches for trials that stop reporting: stopped, or hanging in a driver or on a disk."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray._private import state

_NOTICE_SECONDS = 300.0


class SilenceWatch(tune.Callback):  # type: ignore[misc]
    """Names silent trials, and ends the worker of one that is silent for ``limit`` seconds.

    Ray then starts the trial again, as after any lost worker. A trial is silent from one report to
    the next; how long it runs does not matter. ``limit`` None means to wait for ever.
    """

    def __init__(
        self,
        limit: float | None,
        say: Callable[[str], None],
        end_worker: Callable[[Any], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.say = say
        self.end_worker = end_worker or _end_worker
        self.clock = clock
        self._heard: dict[str, float] = {}
        """When each running trial began or last reported."""
        self._named: set[str] = set()
        """Trials whose silence has been mentioned."""
        self._ended: dict[str, str] = {}
        """Why the workers of trials were ended here."""
        self._longest = 0.0
        """The longest time after which a trial reported."""

    def reason(self, trial: Any) -> str | None:
        """Why this class has ended the trial's worker, if it has."""
        return self._ended.get(trial.trial_id)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called by Tune several times per second."""
        now = self.clock()
        usual = max(_NOTICE_SECONDS, 2 * self._longest)
        for trial in trials:
            name = trial.trial_id
            if name not in self._heard:
                continue
            silence = now - self._heard[name]
            if self.limit is not None and silence >= self.limit:
                self._ended[name] = f"no report for {_duration(silence)}"
                self._heard[name] = now  # and again, should its worker survive
                self.end_worker(trial)
            elif silence >= usual and name not in self._named:
                self._named.add(name)
                self.say(f"no report from trial {trial.config['trial']} for {_duration(silence)}")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called by Tune when a trial has a worker."""
        self._ended.pop(trial.trial_id, None)
        self._named.discard(trial.trial_id)
        self._heard[trial.trial_id] = self.clock()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Called by Tune when a trial reports."""
        now = self.clock()
        self._longest = max(self._longest, now - self._heard.get(trial.trial_id, now))
        self._named.discard(trial.trial_id)
        self._heard[trial.trial_id] = now

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called by Tune when a trial has ended."""
        self._heard.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called by Tune when a trial has failed for good."""
        self._heard.pop(trial.trial_id, None)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called by Tune when a trial waits for another worker."""
        self._heard.pop(trial.trial_id, None)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # pickled into Ray's snapshot, which nothing reads


def _end_worker(trial: Any) -> None:
    """End the process that runs a trial."""
    actor = trial.temporary_state.ray_actor
    if actor is None:
        return
    # A stopped process does not follow Ray, and would keep its memory and the GPU's.
    worker = state.actors(actor._actor_id.hex())
    node = worker.get("Address", {}).get("NodeID")
    if worker.get("Pid") and node == ray.get_runtime_context().get_node_id():
        with suppress(OSError):
            os.kill(worker["Pid"], signal.SIGKILL)
    ray.kill(actor)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes"
