"""The networks of the published protocol, and how a worker process trains and attacks one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.gpu.data import QUICK_MODEL, dataset
from benchmarks.gpu.results import Settings
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import load_task
from simreg_core.networks import checkpoint
from simreg_core.training.baseline_networks import BaselineNetwork, baseline_networks
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.checkpoints import fit_with_checkpoints
from simreg_core.training.experiment import run_experiment
from simreg_core.training.start import start
from tuner.execution.records import trial_record

STUDIES = ("datasets", "curves")
"""Folders as ``analysis.poster`` expects them; ``curves`` adds the boundary attack."""


class Trial(NamedTuple):
    """One regularized network."""

    number: int
    images: str
    """``own`` or ``ImageNet``."""
    seed: int

    @property
    def group(self) -> str:
        """What its seeds have in common."""
        return f"alpha 10, Th .8, {self.images} images"


TRIALS = (Trial(0, "own", 0), Trial(1, "own", 1), Trial(2, "ImageNet", 0))


def trials_of(study: str) -> list[Trial]:
    """The trials of a study."""
    return [trial for trial in TRIALS if study == "datasets" or trial.images == "own"]


def make_config(settings: Settings, trial: Trial, study: str) -> TrialConfig:
    """The published protocol; a rehearsal is much smaller."""
    is_own, quick = trial.images == "own", settings.quick
    regularizer = {
        "alpha": 10.0,
        "threshold": 0.8,
        "dataset": "task" if is_own else dataset(settings, "imagenet_sample"),
        "num_images": 16 if quick else 5000 if is_own else 1000,
    }
    sizes = {"num_train": 256, "num_validation": 64, "num_test": 64} if quick else {}
    robustness: dict[str, Any] = {"baseline_seeds": [101, 102], "surrogates": 1}
    if quick:
        robustness |= {"num_epsilons": 3, "batch_size": 64}
    if study == "curves":
        few = {"steps": 5, "num_images": 8, "repeats": 1}
        full = {"steps": 50, "num_images": 1000, "repeats": 5}
        robustness |= {"boundary": few if quick else full, "frequency": True}
    return TrialConfig.from_dict(
        {
            "task": {"dataset": dataset(settings, "cifar10"), "protocol": "cifar10", **sizes},
            "model": QUICK_MODEL if quick else {},
            "training": {
                "epochs": 2 if quick else 40,
                "checkpoint_seconds": 0.0 if quick else 20.0,
            },
            "regularizer": regularizer,
            "robustness": robustness,
            "seed": trial.seed,
        }
    )


def study_folder(settings: Settings, study: str) -> Path:
    """The result folder of a study."""
    return Path(settings.out) / "published" / study


def baselines_folder(settings: Settings) -> Path:
    """The shared folder of the unregularized networks."""
    return Path(settings.out) / "published" / "baselines"


def state_file(settings: Settings, trial: Trial) -> Path:
    """The checkpoint of a trial; it stays after the last epoch."""
    folder = study_folder(settings, "datasets") / "checkpoints" / f"{trial.number:05d}"
    return folder / "state.pt"


def unregularized(settings: Settings, study: str) -> list[BaselineNetwork]:
    """The baselines and the surrogate, which are the same networks in both studies."""
    return baseline_networks(make_config(settings, TRIALS[0], study))


def open_cache(settings: Settings, config: TrialConfig) -> BaselineCache:
    """The unregularized networks; the folder's locks let processes share it."""
    torch.set_num_threads(1)
    data = load_task(config.task)
    return BaselineCache(baselines_folder(settings), data, settings.torch_device)


def measure_baseline(settings: Settings, study: str, index: int) -> None:
    """Train and attack an unregularized network, in a worker process."""
    network = unregularized(settings, study)[index]
    open_cache(settings, network.config).result(network)


def measure_trial(settings: Settings, study: str, trial: Trial) -> dict[str, Any]:
    """Train and attack a regularized network, in a worker process; its rows.

    Both studies share the training: they differ in the attacks only.
    """
    path, config = state_file(settings, trial), make_config(settings, trial, study)
    path.parent.mkdir(parents=True, exist_ok=True)
    cache = open_cache(settings, config)
    trained = make_config(settings, trial, "datasets")
    data = cache.data.to(cache.device)
    # Trained before the baselines are asked for: they train in other processes meanwhile.
    state = start(trained, data, cache.device)
    with suppress(checkpoint.CheckpointError):  # missing or damaged: training restarts
        state.restore(path, trained.digest())
    fit_with_checkpoints(state, data, trained, path)
    used_graph = path.with_name("used_cuda_graph")
    if state.uses_cuda_graph:
        used_graph.touch()
    own = path.with_name(f"state-{study}.pt")
    state.save(own, config.digest())
    result = run_experiment(config, cache, checkpoint=own)
    own.unlink()
    checkpoint.save_weights(path.with_name("weights.pt"), trained, result.model)
    seconds = sum(record.seconds for record in state.records)
    # The experiment itself has not trained.
    result.columns.update(train_seconds=seconds, used_cuda_graph=used_graph.exists())
    return trial_record(result, trial.number)
