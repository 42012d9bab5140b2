"""Effects of bf16, and of separate forward passes for the two halves of the pairs.

``python -m benchmarks.variants --seeds 10`` trains digits networks in float32 and in bf16, and
regularized ones with two passes of k images instead of one of 2k, so that batch normalisation sees
each half alone. All are tested with the same noise and the same surrogate. It prints test
accuracies and their differences from the float32 network of the same seed, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.reference_checks import CHECKS, accuracies
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData, load_task
from simreg_core.regularizer.loss import SimilarityRegularizer
from simreg_core.results.measurements import Measurements
from simreg_core.robustness.evaluate import evaluate
from simreg_core.training.baselines import BaselineCache, Baselines
from simreg_core.training.fit import fit
from simreg_core.training.start import start
from tuner.confirmation.summary import estimate

_CPU = torch.device("cpu")
PLAIN = "unregularized, float32"
ONE_PASS = "regularized, float32"
VARIANTS = {
    PLAIN: PLAIN,
    "unregularized, bf16": PLAIN,
    ONE_PASS: ONE_PASS,
    "regularized, bf16": ONE_PASS,
    "regularized, two passes": ONE_PASS,
}
"""Variants, and the variant that each is compared with."""


class TwoPasses(SimilarityRegularizer):
    """The regularizer with one pass per half of the pairs, as in the published code."""

    def features(self, pairs: Tensor) -> dict[str, Tensor]:
        """Features of both halves."""
        halves = [super(TwoPasses, self).features(half) for half in pairs]
        return {name: torch.cat([half[name] for half in halves]) for name in halves[0]}


def measure(name: str, seed: int, data: TaskData, baselines: Baselines) -> dict[str, float]:
    """Test accuracies of one network."""
    trial = {**CHECKS["digits-20"], "seed": seed}
    if name.startswith("unregularized"):
        trial |= {"regularizer": {"alpha": 0.0}}
    if name.endswith("bf16"):
        trial |= {"training": {"precision": "bf16"}}
    config = TrialConfig.from_dict(trial)
    state = start(config, data, _CPU)
    if name.endswith("two passes"):
        assert state.regularizer is not None
        state.regularizer.__class__ = TwoPasses
    for _ in fit(state, data, config.training, seed=config.seed):
        pass
    model = state.kept_model()
    found = evaluate(model, data.test, "test", config.robustness, baselines.surrogates)
    return accuracies(Measurements(found))


def main(argv: Sequence[str] | None = None) -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=Path("results/baselines"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    config = TrialConfig.from_dict(CHECKS["digits-20"])
    data = load_task(config.task)
    baselines = BaselineCache(args.cache, data, _CPU).load(config)
    clock = time.perf_counter()
    found = {
        name: [measure(name, seed, data, baselines) for seed in range(args.seeds)]
        for name in VARIANTS
    }
    print(f"digits, {args.seeds} seeds, test, 1 thread, {time.perf_counter() - clock:.0f} s")
    for name, compared in VARIANTS.items():
        print(name)
        for metric in found[name][0]:
            own = [accuracy[metric] for accuracy in found[name]]
            other = [accuracy[metric] for accuracy in found[compared]]
            mean, half, _ = estimate(own)
            line = f"  {metric:32}{mean:.4f} ± {half:.4f}"
            if name != compared:
                difference = estimate([a - b for a, b in zip(own, other, strict=True)])
                line += f"   difference {difference.mean:+.4f} ± {difference.half_width:.4f}"
            print(line)


if __name__ == "__main__":
    main()
