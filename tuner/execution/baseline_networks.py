"""Trains a search's baselines and surrogate as Ray tasks before the first trial.

If a searched key changes the task, the network or the training, each combination has its own
baselines. Every trial then trains the ones that it needs, or finds them in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simreg_core.config.trial import TrialConfig
from simreg_core.errors import one_line
from tuner.execution.ray_session import Resources, run_tasks
from tuner.execution.records import result_record
from tuner.execution.worker import WorkerSettings, prepare_worker


class SearchFailed(RuntimeError):
    """The search cannot continue; the message gives the reason in one line."""


def train_baselines(
    config: TrialConfig, settings: WorkerSettings, resources: Resources, on_done: Callable[[], None]
) -> list[dict[str, Any]]:
    """Train and evaluate the baselines and the surrogate of ``config`` unless they are cached.

    All are trained before the first is evaluated, since attacks are transferred from one to the
    other. ``on_done`` is called for every trained network. Returns their
    :func:`~tuner.execution.records.result_record`.

    Raises:
        SearchFailed: a network could not be trained.
    """
    names = [*(f"baseline, seed {seed}" for seed in config.robustness.baseline_seeds), "surrogate"]
    tasks = [(index, evaluates) for evaluates in (False, True) for index in range(len(names))]
    records: list[dict[str, Any]] = []

    def collect(call: int, value: Any) -> None:
        failure = one_line(value) if isinstance(value, Exception) else value.get("failure")
        if failure is not None:
            raise SearchFailed(f"baseline network ({names[tasks[call][0]]}) failed: {failure}")
        if tasks[call][1]:
            records.append(value)
        else:
            on_done()

    calls = [(config.to_dict(), *task, settings) for task in tasks]
    run_tasks(_finished, calls, resources, collect, frees_gpu=True)
    return records


def _finished(
    config: dict[str, Any], index: int, evaluates: bool, settings: WorkerSettings
) -> dict[str, Any]:
    """Train a network, or return the record of its evaluation; or the reason of a failure."""
    from simreg_core.data.task import load_task
    from simreg_core.training.baseline_networks import baseline_networks
    from simreg_core.training.baselines import BaselineCache, check_before_training

    device = prepare_worker(settings)
    try:
        trial = TrialConfig.from_dict(config)
        cache = BaselineCache(settings.cache, load_task(trial.task), device)
        network = baseline_networks(trial)[index]
        if not evaluates:
            check_before_training(trial, cache.data, device)
            cache.weights_file(network)
            return {}
        return result_record(cache.result(network), cache.digest(trial))
    except (ArithmeticError, ValueError, RuntimeError, OSError) as err:
        return {"failure": one_line(err)}
