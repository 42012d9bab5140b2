"""Builds an output folder with the searches that the poster is drawn from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.analysis_tests.result_rows import Row, complete_row, metric_columns, write_part

BASELINE = {101: (0.98, 0.40), 102: (0.99, 0.44), 103: (1.0, 0.42)}
ATTACK_LABELS = {
    "gaussian": "Gaussian noise",
    "uniform": "uniform noise",
    "salt_pepper": "salt-and-pepper noise",
    "transfer_fgsm": "transferred FGSM",
}
ATTACKS = {"gaussian": 0.5, "uniform": 0.5, "salt_pepper": 0.3, "transfer_fgsm": 0.3}
EDGES = (0.0, 0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.4375, 0.5, 0.71)
COMPONENTS: tuple[Row, ...] = (
    {},
    *({"pairs": pairs} for pairs in ("high", "low", "positive", "negative")),
    {"pairs": "double", "threshold_low": 0.1},
    {"transform": "identity"},
    {"transform": "identity", "alpha": 0.4},
    {"gamma": "uniform"},
    {"gamma": "stem"},
    {"gamma": "section3"},
    {"threshold": 0.6},
)
SETTINGS: Row = {
    "model.base_channels": 16,
    "training.epochs": 15,
    "regularizer.alpha": 0.1,
    "regularizer.threshold": 0.2,
    "regularizer.num_images": 1000,
    "regularizer.pairs": "all",
    "regularizer.transform": "arctanh",
    "regularizer.gamma": "trainable",
    "num_validation": 400,
    "num_test": 397,
}


def trial_row(trial: int, seed: int, clean: float, robust: float, **changes: Any) -> Row:
    """A complete trial, the same accuracies on both splits; changes are of the regularizer."""
    row = complete_row(trial, clean, robust) | SETTINGS | {"seed": seed}
    row |= {f"regularizer.{name}": value for name, value in changes.items()}
    cost, gain = 0.99 - clean, robust - 0.42
    for split in ("validation", "test"):
        row |= metric_columns(split, clean, robust)
        row |= {f"{split}.accuracy_cost": cost, f"{split}.robustness_gain": gain}
        row |= {f"{split}.tradeoff_score": gain - cost}
    return row


def curve_rows(
    role: str, trial: int | None, seed: int, clean: float, robust: float, count: int = 10
) -> list[Row]:
    """Straight from the clean to the robust accuracy at the attack's reference, then to 0.1."""
    rows = []
    network = {"role": role, "trial": trial, "baseline_digest": "base0", "seed": seed}
    reference = (count - 2) / (count - 1)
    for (attack, top), split in itertools.product(ATTACKS.items(), ("validation", "test")):
        num_images = 397 if split == "test" else 400
        of = {"split": split, "attack": attack, "label": ATTACK_LABELS[attack]}
        for step in range(count):
            share = step / (count - 1)
            accuracy = float(np.interp(share, (0, reference, 1), (clean, robust, 0.1)))
            point = {"epsilon": top * share, "is_reference": step == count - 2}
            point |= {"accuracy": accuracy, "num_images": num_images}
            rows.append(network | of | point)
    return rows


def spectrum_rows(role: str, trial: int | None, seed: int, slope: float) -> list[Row]:
    """Power that falls off with frequency, and accuracy that is lowest at low frequencies."""
    middle = (np.array(EDGES[:-1]) + np.array(EDGES[1:])) / 2
    slope = slope * (1 + 0.1 * (seed % 3))
    power = np.exp(-slope * middle)
    accuracy = 0.95 - 0.5 * np.exp(-slope * middle)
    kinds = {
        "perturbation_power": (power / power.sum(), None, 50),
        "band_noise_accuracy": (accuracy, 0.4, 397),
    }
    network = {"role": role, "trial": trial, "baseline_digest": "base0", "seed": seed}
    return [
        {**network, "split": split, "kind": kind, "epsilon": epsilon, "num_images": count}
        | {"frequency_low": low, "frequency_high": high, "value": float(value)}
        for kind, (values, epsilon, count) in kinds.items()
        for split in ("validation", "test")
        for low, high, value in zip(EDGES[:-1], EDGES[1:], values, strict=True)
    ]


def write_study(folder: Path, trials: Sequence[Mapping[str, Any]], slope: float = 20.0) -> Path:
    """Trials, their curves and spectra, and the baselines'; returns ``folder``."""
    curves, spectra = [], []
    for row in trials:
        accuracies = row["test.clean_accuracy"], row["test.robust_accuracy"]
        curves += curve_rows("trial", row["trial"], row["seed"], *accuracies)
        spectra += spectrum_rows("trial", row["trial"], row["seed"], slope)
    for seed, accuracies in BASELINE.items():
        curves += curve_rows("baseline", None, seed, *accuracies)
        spectra += spectrum_rows("baseline", None, seed, 6.0)
    write_part(folder, "trials", "all.parquet", trials)
    write_part(folder, "curves", "all.parquet", curves)
    write_part(folder, "spectra", "all.parquet", spectra)
    return folder


def designed(variants: Sequence[Mapping[str, Any]], seeds: int) -> list[Row]:
    """A trial per variant and seed, with accuracies that depend on both a little."""
    rng = np.random.default_rng(0)
    rows = []
    for number, (variant, seed) in enumerate(itertools.product(variants, range(seeds))):
        strength = float(variant.get("alpha", 0.1)) ** 0.3 * (1.1 - variant.get("threshold", 0.2))
        clean = 0.99 - 0.06 * strength + rng.normal(0, 0.004)
        robust = 0.42 + 0.25 * strength + rng.normal(0, 0.02)
        rows.append(trial_row(number, seed, float(clean), float(robust), **variant))
    return rows


def write_pairs(path: Path, num_pairs: int = 5000) -> Path:
    """Pairs whose neural similarity follows the pixels', the Gabor one more closely."""
    rng = np.random.default_rng(0)
    pixel = np.tanh(rng.normal(0, 0.4, num_pairs))
    columns = {
        "pixel_raw_similarity": pixel,
        "neural_similarity": np.tanh(0.5 * pixel + rng.normal(0, 0.15, num_pairs)),
        "v1_gabor_similarity": np.tanh(0.8 * pixel + rng.normal(0, 0.1, num_pairs)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def write_output(output: Path) -> Path:
    """All searches of the poster, small; returns ``output``."""

    def grid(**values: Sequence[Any]) -> list[Row]:
        return [
            dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
        ]

    write_study(output / "curves", designed([{}], 5))
    datasets = ["task", "natural", "imagenet:/data/imagenet"]
    write_study(output / "datasets", designed(grid(dataset=datasets), 3))
    cost = grid(batch_size=[2, 8, 16], num_images=[20, 100, 1000])
    write_study(output / "cost", designed(cost, 2))
    tradeoff = grid(threshold=[0.2, 0.4, 0.6, 0.8], alpha=[0.03, 0.1, 0.3])
    write_study(output / "tradeoff", designed(tradeoff, 2))
    write_study(output / "components", designed(COMPONENTS, 2))
    write_pairs(output / "pairs.parquet")
    return output
