"""Runs networks with Ray Tune, which schedules, restarts and stops them."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from simreg_core.storage.location import local_path
from tuner.execution.progress import SearchView
from tuner.execution.ray_session import Resources, raylet_silenced
from tuner.execution.searcher import StudySearcher
from tuner.execution.silence import SilenceWatch
from tuner.execution.worker import WorkerSettings, run_trial
from tuner.loggers.backends import make_backend
from tuner.loggers.callback import LogCallback, log_id
from tuner.loggers.channel import LogChannel
from tuner.loggers.targets import LogTarget
from tuner.space.search_space import SearchSpace

_RAY_FOLDER = "ray"  # Ray's own snapshots, which nothing reads
_REDUCTION_FACTOR, _MIN_TRIALS = 4, 3  # Ray's defaults


class _LostWorkers(tune.Callback):  # type: ignore[misc]
    """Shows lost workers, and passes the reason to the searcher if one is permanently lost."""

    def __init__(self, searcher: StudySearcher, view: SearchView, silence: SilenceWatch) -> None:
        self.searcher = searcher
        self.view = view
        self.silence = silence

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        again = f"starts again ({trial.num_failures} of {self.searcher.space.tuning.retries})"
        self.view.print(f"trial {trial.config['trial']} {again}: {self._reason(trial)}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.searcher.fail(trial.trial_id, self._reason(trial))

    def _reason(self, trial: Any) -> str:
        return self.silence.reason(trial) or _reason(trial)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # pickled into Ray's snapshot, which nothing reads


def _reason(trial: Any) -> str:
    """Ray's reason for a lost worker in one line, without class names and ids."""
    # Ray's own reader looks for this file where it is copied later.
    with open(trial.pickled_error_file, "rb") as stream:
        text = str(cloudpickle.load(stream))
    words = " ".join(text.split())
    if "Worker exit detail: " in words:
        return f"worker lost: {words.rpartition('Worker exit detail: ')[2][:300]}"
    return text.strip().splitlines()[-1][:300]  # last line of a traceback


def run_networks(
    searcher: StudySearcher,
    settings: WorkerSettings,
    resources: Resources,
    view: SearchView,
    logs: Sequence[LogTarget],
    run: Callable[[dict[str, Any], WorkerSettings], None] = run_trial,
) -> None:
    """Run every network that the searcher suggests, several at a time; ``run`` trains one.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM; running networks are stopped and stay open.
    """
    silence = SilenceWatch(searcher.space.tuning.stall_timeout, view.print)
    callbacks: list[tune.Callback] = [_LostWorkers(searcher, view, silence), silence]
    # Workers do not need Ray's snapshots, so these do not go to an object store.
    home = local_path(settings.folder) or Path(tempfile.mkdtemp())
    try:
        with raylet_silenced(), ExitStack() as stack:
            if logs:
                folder, keys = settings.folder, [*searcher.space.search]
                channels = [LogChannel(t.kind, make_backend(t, folder), view.print) for t in logs]
                loggers = LogCallback(channels, folder.name, keys, log_id(searcher.study))
                callbacks.append(loggers)
                stack.push(loggers.close)
            _make_tuner(run, searcher, settings, resources, callbacks, home).fit()
    finally:
        shutil.rmtree(home / _RAY_FOLDER if home == settings.folder else home, ignore_errors=True)


def _make_tuner(
    run: Callable[[dict[str, Any], WorkerSettings], None],
    searcher: StudySearcher,
    settings: WorkerSettings,
    resources: Resources,
    callbacks: list[tune.Callback],
    home: Path,
) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(
            tune.with_parameters(run, settings=settings),
            {"cpu": resources.cpus, "gpu": resources.gpus},
        ),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=make_scheduler(searcher.space),
            num_samples=searcher.num_networks,
            max_concurrent_trials=resources.max_concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=_RAY_FOLDER,
            storage_path=str(home),
            stop=searcher.is_lost,
            callbacks=callbacks,
            failure_config=tune.FailureConfig(max_failures=searcher.space.tuning.retries),
            verbose=0,
        ),
    )


def make_scheduler(space: SearchSpace) -> TrialScheduler:
    """Ray Tune's scheduler for the early-stopping rule of a space."""
    rule = space.tuning.early_stopping
    if rule is None:
        return FIFOScheduler()
    common = {"time_attr": "epochs_done", "metric": rule.metric, "mode": "max"}
    if rule.type == "median":
        return MedianStoppingRule(
            **common,
            grace_period=rule.grace_epochs,
            min_samples_required=rule.min_trials or _MIN_TRIALS,
            min_time_slice=math.inf,  # otherwise it swaps running and waiting trials every epoch
        )
    return ASHAScheduler(
        **common,
        max_t=space.most_epochs() + 1,  # at max_t, ASHA ends a trial before its final report
        grace_period=rule.grace_epochs,
        reduction_factor=rule.reduction_factor or _REDUCTION_FACTOR,
    )
