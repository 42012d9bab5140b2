"""Which weights should a training keep, if the results shall depend least on the seed?

``python -m benchmarks.kept_epoch --seeds 12`` trains digits networks with and without the
regularizer. It tests three choices of weights of the same training: those of the epoch with the
lowest validation loss (``best``), those of the last epoch (``last``), and the average over the last
five epochs with batch statistics measured anew on the training images (``average``). It prints test
accuracies with their standard deviation over seeds, and differences from ``best`` paired by seed,
with 95 % intervals.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from benchmarks.reference_checks import CHECKS, accuracies
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData, load_task
from simreg_core.networks.network import FeatureNetwork
from simreg_core.results.measurements import Measurements
from simreg_core.robustness.attack import batches
from simreg_core.robustness.evaluate import evaluate
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.fit import fit
from simreg_core.training.start import start
from tuner.confirmation.summary import estimate

_CPU = torch.device("cpu")
_NUM_AVERAGED = 5  # epochs
_BATCH = 250  # images per batch of the batch statistics


def choices(config: TrialConfig, data: TaskData) -> dict[str, nn.Module]:
    """The networks of one training by the choice of their weights, in evaluation mode."""
    state = start(config, data, _CPU)
    latest: deque[FeatureNetwork] = deque(maxlen=_NUM_AVERAGED)
    for _ in fit(state, data, config.training, seed=config.seed):
        latest.append(state.kept_model())
        latest[-1].load_state_dict(state.model.state_dict())
    averaged = AveragedModel(latest[0])
    for model in latest:
        averaged.update_parameters(model)
    update_bn((images for images, _ in batches(data.train, _BATCH)), averaged)
    return {"best": state.kept_model(), "last": latest[-1], "average": averaged.module.eval()}


def main(argv: Sequence[str] | None = None) -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--cache", type=Path, default=Path("results/baselines"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    clock = time.perf_counter()
    regularized = TrialConfig.from_dict(CHECKS["digits-20"])
    data = load_task(regularized.task)
    baselines = BaselineCache(args.cache, data, _CPU).load(regularized)
    for name in ("unregularized", "regularized"):
        found: dict[str, list[dict[str, float]]] = {"best": [], "last": [], "average": []}
        for seed in range(args.seeds):
            config = regularized.model_copy(update={"seed": seed})
            if name == "unregularized":
                config = config.unregularized(seed)
            for choice, model in choices(config, data).items():
                curves = evaluate(model, data.test, "test", config.robustness, baselines.surrogates)
                found[choice].append(accuracies(Measurements(curves)))
        print(f"{name}, digits, {args.seeds} seeds, test, {time.perf_counter() - clock:.0f} s")
        for choice, rows in found.items():
            print(f" {choice}")
            for metric in rows[0]:
                own = [row[metric] for row in rows]
                differences = [a - b[metric] for a, b in zip(own, found["best"], strict=True)]
                paired = estimate(differences)
                print(
                    f"  {metric:32}{statistics.fmean(own):.4f}, SD {statistics.stdev(own):.4f}"
                    f"   difference {paired.mean:+.4f} ± {paired.half_width:.4f}"
                )


if __name__ == "__main__":
    main()
