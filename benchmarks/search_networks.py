"""Do the default search and front find better configurations than TPE with measured values?

On real networks: searches with both samplers, each with its own front, on digits. Three
entries of each front are trained again with fresh seeds, and the hypervolumes of their mean test
accuracies are compared. ``python -m benchmarks.search_networks FOLDER`` runs everything and prints
a table; what is already in FOLDER is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simreg_core.config.yaml_io import to_yaml
from simreg_core.results.delivered import delivered_in
from simreg_core.results.tables import read_table
from simreg_core.statistics.noisy_front import most_hypervolume
from simreg_core.statistics.pareto import front_among, hypervolume

METHODS = {"tpe": "TPE, measured front", "nehvi": "nehvi, modelled front"}
OBJECTIVES = ("clean_accuracy", "robust_accuracy")
REFERENCE = np.array([0.9, 0.3])  # worse than unregularized networks
_MAXIMIZE = [True, True]
_RESAMPLES = 4000
Array = NDArray[np.float64]

SPACE: dict[str, Any] = {
    "trial": {
        "task": {"dataset": "digits"},
        "model": {"base_channels": 8, "blocks": [1, 1, 1]},
        "training": {"epochs": 15},
        "robustness": {
            "attacks": {"gaussian": {"max_epsilon": 0.5}, "transfer_fgsm": {"max_epsilon": 0.3}},
            "reference": {"gaussian": 0.4, "transfer_fgsm": 0.15},
            "num_epsilons": 2,
        },
    },
    "search": {
        "regularizer.threshold": {"type": "float", "low": 0.1, "high": 0.9},
        "regularizer.alpha": {"type": "float", "low": 0.003, "high": 1.0, "log": True},
        "regularizer.batch_size": {"type": "categorical", "choices": [4, 8, 16, 32]},
        "regularizer.dataset": {"type": "categorical", "choices": ["digits", "natural"]},
    },
    "objectives": list(OBJECTIVES),
}


def search(folder: Path, method: str, repetition: int, trainings: int) -> Path:
    """Run one search; its results."""
    name = f"{method}-{repetition}"
    done = folder / name
    if done.exists():
        return done
    space = {
        **SPACE,
        "name": name,
        "tuning": {"num_trials": trainings, "sampler": method, "seed": repetition},
    }
    space["trial"] = {**SPACE["trial"], "seed": 10_000 * repetition}
    file = folder / f"{name}.yaml"
    file.write_text(to_yaml(space), encoding="utf-8")
    _run("tuner.run", "--space", str(file), "--output", str(folder))
    return done


def chosen_trials(results: Path, method: str) -> list[int]:
    """The three entries of the front that add most hypervolume, by the values that it shows."""
    found = delivered_in(results)
    values = found.measured if method == "tpe" else found.mean
    rows = np.flatnonzero(front_among(values, found.feasible, _MAXIMIZE))
    return [int(found.trials[rows[n]]) for n in most_hypervolume(values[rows], _MAXIMIZE, 3)]


def confirmed(results: Path, trials: Sequence[int], seeds: int) -> list[Array]:
    """Test accuracies (seeds, 2) of the trials' configurations with fresh seeds."""
    if not (results / "confirmation.json").exists():
        _run("tuner.confirm", str(results), "--trials", *map(str, trials), "--seeds", str(seeds))
    rows = read_table(results, "confirmation").to_pylist()
    return [
        np.array([[row[f"test.{name}"] for name in OBJECTIVES] for row in rows if _is(row, trial)])
        for trial in trials
    ]


def _is(row: Mapping[str, Any], trial: int) -> bool:
    return bool(row["trial"] == trial and row["status"] == "complete")


def gain(accuracies: Sequence[Array]) -> float:
    """Hypervolume of the mean accuracies, beyond the reference point, in 1e-3."""
    means = np.array([found.mean(axis=0) for found in accuracies])
    return 1000 * hypervolume(means, REFERENCE, _MAXIMIZE)


def resampled(accuracies: Sequence[Array], rng: np.random.Generator) -> float:
    """:func:`gain` with the seeds of every configuration drawn again, with replacement."""
    return gain([found[rng.integers(len(found), size=len(found))] for found in accuracies])


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def main() -> None:
    """Run what is missing, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--trainings", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=8)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[list[Array]]] = {method: [] for method in METHODS}
    for repetition in range(args.repetitions):
        for method in METHODS:
            results = search(args.folder, method, repetition, args.trainings)
            trials = chosen_trials(results, method)
            found[method].append(confirmed(results, trials, args.seeds))
            means = [[round(float(v), 4) for v in a.mean(axis=0)] for a in found[method][-1]]
            print(json.dumps({"search": results.name, "trials": trials, "means": means}))
    rng = np.random.default_rng(0)
    draws = {
        method: np.array([[resampled(one, rng) for one in all_] for _ in range(_RESAMPLES)])
        for method, all_ in found.items()
    }
    print("| | hypervolume of each search, 1e-3 | mean | 95 % interval over seeds |")
    print("|---|---|---|---|")
    for method, label in METHODS.items():
        each = [gain(one) for one in found[method]]
        low, high = np.quantile(draws[method].mean(axis=1), [0.025, 0.975])
        shown = ", ".join(f"{one:.1f}" for one in each)
        print(f"| {label} | {shown} | {np.mean(each):.1f} | [{low:.1f}, {high:.1f}] |")
    difference = (draws["nehvi"] - draws["tpe"]).mean(axis=1)
    low, high = np.quantile(difference, [0.025, 0.975])
    print(f"difference {difference.mean():+.1f} [{low:+.1f}, {high:+.1f}]")


if __name__ == "__main__":
    main()
