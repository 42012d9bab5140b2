"""How much seeds, surrogates, draws of noise and the kept epoch move what a digits network reaches.

``python -m benchmarks.seed_noise --seeds 12`` trains a regularized and an unregularized network for
every seed. It prints robust accuracy, and cost and gain with 95 % intervals: paired by seed, and as
if the two groups had different seeds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy import stats
from torch import Tensor

from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData, load_task
from simreg_core.networks.network import Classifier
from simreg_core.results.measurements import Measurements
from simreg_core.robustness.evaluate import evaluate
from simreg_core.training.baselines import BaselineCache
from simreg_core.training.fit import fit
from simreg_core.training.start import start
from tuner.confirmation.summary import estimate

_CPU = torch.device("cpu")
_AVERAGED = 5
KEPT = ("best epoch", "last epoch", f"average of the last {_AVERAGED} epochs")
MEASURED = {
    "1 surrogate, 1 draw": {"surrogates": 1, "noise_draws": 1},
    "all surrogates, 1 draw": {"noise_draws": 1},
    "1 surrogate, auto draws": {"surrogates": 1},
    (_DEFAULT := "all surrogates, auto draws"): {},
}
_SINGLE = MEASURED["1 surrogate, 1 draw"]
MEASURED |= {
    f"1 surrogate, 1 draw, {key} {seed}": {**_SINGLE, key: seed}
    for key in ("surrogate_seed", "noise_seed")
    for seed in (1, 2, 3)
}
SETTINGS = [(KEPT[0], own) for own in MEASURED] + [(kept, _DEFAULT) for kept in KEPT[1:]]


class Found(NamedTuple):
    """One network on the test split under one of :data:`SETTINGS`."""

    clean: float
    robust: float
    seconds: float
    """How long the evaluation took."""


def make_config(alpha: float, seed: int, robustness: dict[str, Any]) -> TrialConfig:
    """A trial of the digits protocol."""
    regularizer = {"alpha": alpha, "threshold": 0.2}
    trial = {"task": {"dataset": "digits"}, "regularizer": regularizer, "seed": seed}
    return TrialConfig.from_dict({**trial, "robustness": robustness})


def trained(config: TrialConfig, data: TaskData) -> dict[str, Classifier]:
    """The network with each of the weights that may be kept, by name."""
    state = start(config, data, _CPU)
    weights: list[dict[str, Tensor]] = []
    for _ in fit(state, data, config.training, seed=config.seed):
        weights.append({name: value.clone() for name, value in state.model.state_dict().items()})
    models = {KEPT[0]: state.kept_model()}
    for name, last in zip(KEPT[1:], (weights[-1:], weights[-_AVERAGED:]), strict=True):
        model = start(config, data, _CPU).model
        averaged = {key: torch.stack([w[key] for w in last]).double().mean(0) for key in last[0]}
        model.load_state_dict(averaged)
        models[name] = model.eval()
    return models


def measure(config: TrialConfig, data: TaskData, cache: Path) -> list[Found]:
    """Train one network and measure it under every setting."""
    models = trained(config, data)
    found = []
    for kept, name in SETTINGS:
        own = make_config(config.regularizer.alpha, config.seed, MEASURED[name])
        surrogates = BaselineCache(cache, data, _CPU).surrogates(own)
        clock = time.perf_counter()
        points = evaluate(models[kept], data.test, "test", own.robustness, surrogates)
        seconds, measured = time.perf_counter() - clock, Measurements(points)
        found.append(Found(measured.clean_accuracy, measured.robust_accuracy, seconds))
    return found


def comparison(own: Sequence[float], other: Sequence[float]) -> str:
    """The mean difference with its half-widths, paired and unpaired."""
    paired = estimate([a - b for a, b in zip(own, other, strict=True)])
    variance = (statistics.variance(own) + statistics.variance(other)) / len(own)
    unpaired = float(stats.t.ppf(0.975, 2 * len(own) - 2)) * math.sqrt(variance)
    return f"{paired.mean:+.4f} ± {paired.half_width:.4f} (unpaired ± {unpaired:.4f})"


def main(argv: Sequence[str] | None = None) -> None:
    """Print one paragraph per setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--cache", type=Path, default=Path("results/baselines"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    data = load_task(make_config(0.0, 0, {}).task)
    groups = [
        [measure(make_config(alpha, seed, {}), data, args.cache) for seed in range(args.seeds)]
        for alpha in (0.0, args.alpha)
    ]
    print(f"digits, alpha {args.alpha:g}, {args.seeds} seeds, test split, 1 thread")
    for place, (kept, name) in enumerate(SETTINGS):
        plain, own = ([network[place] for network in group] for group in groups)
        print(f"kept: {kept}; {name}")
        for label, group in (("unregularized", plain), ("regularized", own)):
            robust = [found.robust for found in group]
            print(f"  R {label}: {statistics.fmean(robust):.4f}, SD {statistics.stdev(robust):.4f}")
        print(f"  gain {comparison([f.robust for f in own], [f.robust for f in plain])}")
        print(f"  cost {comparison([f.clean for f in plain], [f.clean for f in own])}")
        seconds = [found.seconds for found in (*plain, *own)]
        spread = f"[{min(seconds):.2f}, {max(seconds):.2f}]"
        print(f"  evaluation {statistics.median(seconds):.2f} s {spread}", flush=True)


if __name__ == "__main__":
    main()
