"""Effects of the regularizer, for comparison with an independent implementation.

``python -m benchmarks.reference_checks digits-20 digits-shuffled --seeds 3`` trains regularized and
unregularized networks of the same seeds for every check. It prints test accuracies, their paired
differences with standard errors, and the drops under each attack. The surrogate of transferred FGSM
has another seed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from simreg_core import TrialConfig, run_experiment
from simreg_core.config.loading import absolute_paths
from simreg_core.data.task import load_task
from simreg_core.results.measurements import Measurements
from simreg_core.training.baselines import BaselineCache

_SINGLE = {"surrogates": 1, "noise_draws": 1}  # as the independent implementation
_DIGITS: dict[str, Any] = {
    "task": {"dataset": "digits"},
    "regularizer": {"alpha": 0.1, "threshold": 0.2},
    "robustness": {
        **_SINGLE,
        "attacks": {"gaussian": {"max_epsilon": 0.5}, "transfer_fgsm": {"max_epsilon": 0.3}},
        "reference": {"gaussian": 0.4, "transfer_fgsm": 0.15},
    },
}
_FASHION: dict[str, Any] = {
    "task": {
        "dataset": "parquet:{data}/fashion_mnist",
        "protocol": "fashion_mnist",
        "num_train": 10000,
        "num_validation": 2000,
        "num_test": 2000,
    },
    "model": {"base_channels": 16, "blocks": [1, 1, 1], "scale": 1.0, "shift": 0.0},
    "training": {"epochs": 6, "schedule": {"unit": "fraction", "step": 0.2, "restart": 1.0}},
    "regularizer": {"alpha": 0.03, "threshold": 0.4},
    "robustness": {
        **_SINGLE,
        "attacks": {"gaussian": {"max_epsilon": 0.5}, "transfer_fgsm": {"max_epsilon": 0.2}},
        "reference": {"gaussian": 0.3, "transfer_fgsm": 0.1},
    },
}
_CIFAR: dict[str, Any] = {
    "task": {
        "dataset": "parquet:{data}/cifar10",
        "num_train": 10000,
        "num_validation": 2000,
        "num_test": 2000,
    },
    "model": {"base_channels": 16},
    "training": {"epochs": 10, "schedule": {"unit": "fraction", "step": 0.2, "restart": 1.0}},
    "robustness": {
        **_SINGLE,
        "attacks": {"gaussian": {"max_epsilon": 0.1}, "transfer_fgsm": {"max_epsilon": 0.02}},
        "reference": {"gaussian": 0.1, "transfer_fgsm": 0.02},
    },
}


def _with(base: dict[str, Any], section: str, **values: Any) -> dict[str, Any]:
    return {**base, section: {**base.get(section, {}), **values}}


CHECKS: dict[str, dict[str, Any]] = {
    "digits-20": _DIGITS,
    "digits-40": _with(_DIGITS, "training", epochs=40),
    "digits-shuffled": _with(_DIGITS, "regularizer", shuffle_targets=True),
    "fashion": _FASHION,
    "cifar": _CIFAR,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named checks and print one table each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checks", nargs="+", choices=sorted(CHECKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default="data", help="folder of cifar10/ and fashion_mnist/")
    parser.add_argument("--cache", type=Path, default=Path("results/baselines"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    for name in args.checks:
        _run(name, args)
    return 0


def accuracies(measured: Measurements) -> dict[str, float]:
    """Clean and robust accuracy, and the accuracy under each reference attack."""
    return {
        "clean_accuracy": measured.clean_accuracy,
        "robust_accuracy": measured.robust_accuracy,
        **{f"robust_accuracy.{name}": value for name, value in measured.under_attack.items()},
    }


def _run(name: str, args: argparse.Namespace) -> None:
    seeds = list(range(101, 101 + args.seeds))
    trial = _with(CHECKS[name], "robustness", baseline_seeds=seeds)
    dataset = trial["task"]["dataset"].format(data=args.data)
    trial = absolute_paths(_with(trial, "task", dataset=dataset))
    clock = time.perf_counter()
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for seed in seeds:
        config = TrialConfig.from_dict({**trial, "seed": seed})
        cache = BaselineCache(args.cache, load_task(config.task), torch.device(args.device))
        result = run_experiment(config, cache)
        baseline = next(r for r in result.baselines.networks if r.seed == seed)
        curves = [point for point in result.curves if point.split == "test"]
        pairs.append((accuracies(baseline.measurements("test")), accuracies(Measurements(curves))))
    seconds = time.perf_counter() - clock
    print(f"\n{name}: {len(seeds)} seeds, test split, {args.device}, {seconds:.0f} s in total")
    print(f"{'':32}{'baseline':>18}{'regularized':>18}{'difference':>20}")
    for metric in pairs[0][1]:
        base = [b[metric] for b, _ in pairs]
        own_values = [o[metric] for _, o in pairs]
        difference = [o - b for b, o in zip(base, own_values, strict=True)]
        cells = f"{_spread(base):>18}{_spread(own_values):>18}"
        print(f"{metric:32}{cells}{_mean_and_error(difference):>20}", flush=True)
    for attack in ("gaussian", "transfer_fgsm"):
        drops = [
            statistics.fmean(
                side["clean_accuracy"] - side[f"robust_accuracy.{attack}"] for side in s
            )
            for s in zip(*pairs, strict=True)
        ]
        print(f"drop under {attack}: {drops[0]:.3f} baseline, {drops[1]:.3f} regularized")


def _spread(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):.3f} ± {spread:.3f}"


def _mean_and_error(values: list[float]) -> str:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):+.3f} (SE {error:.3f})"


if __name__ == "__main__":
    sys.exit(main())
