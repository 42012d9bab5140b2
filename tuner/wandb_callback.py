"""Ray Tune's callback for Weights & Biases, which logs every network from a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import ray
from ray.air.integrations.wandb import WANDB_ENV_VAR, WandbLoggerCallback, _WandbLoggingActor
from ray.air.util.node import _force_on_current_node

from tuner.log_channel import one_line

PATIENCE = 20.0  # seconds that the end of a search waits for uploads


class LoggingActor(_WandbLoggingActor):  # type: ignore[misc]
    """The process that logs one network.

    Args:
        api_key: The key, where it needs one.
    """

    def __init__(self, *args: Any, api_key: str | None, **kwargs: Any) -> None:
        if api_key is not None:
            os.environ[WANDB_ENV_VAR] = api_key
        super().__init__(*args, **kwargs)


class WandbCallback(WandbLoggerCallback):  # type: ignore[misc]
    """Ray's callback, without its traces of the key, and with word of what is not uploaded.

    Args:
        needs_key: Whether anything is sent.
        lost: Told of a trial of which not all is uploaded, and why; Ray does not look at it.
        options: Those of Ray's callback.
    """

    def __init__(self, needs_key: bool, lost: Callable[[Any, str], None], **options: Any) -> None:
        super().__init__(upload_timeout=PATIENCE, **options)
        self._needs_key = needs_key
        self._lost = lost
        # Ray's own has the key in its runtime_env, which is written to Ray's log files, and is
        # started again without end, though the figures that it had taken are gone then.
        options_here = {"num_cpus": 0, **_force_on_current_node()}
        self._remote_logger_class = ray.remote(**options_here)(LoggingActor)

    def setup(self, *args: Any, **options: Any) -> None:
        """As Ray's, which however wants a key in the mode ``dryrun`` as well."""
        if self._needs_key:
            super().setup(*args, **options)

    def _start_logging_actor(self, *args: Any, **options: Any) -> None:
        # The key of the environment, where setup() has put any other as well.
        key = os.environ.get(WANDB_ENV_VAR) if self._needs_key else None
        super()._start_logging_actor(*args, api_key=key, **options)

    def _cleanup_logging_actor(self, trial: Any) -> None:
        problem = _failure(self._trial_logging_futures[trial])
        super()._cleanup_logging_actor(trial)
        if problem is not None:
            self._lost(trial, problem)


def _failure(future: Any) -> str | None:
    """Why a logging process failed, or is still busy; None if it ended well."""
    if not ray.wait([future], timeout=0)[0]:
        return f"uploads are not finished after {PATIENCE:g} s"
    try:
        ray.get(future)
    except ray.exceptions.RayTaskError as err:
        return one_line(err.cause)
    except Exception as err:
        return one_line(err)
    return None
