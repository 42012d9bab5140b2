"""``python -m tuner.export``: write the network of one trial to a folder that documents itself.

The folder contains the weights and the configuration (:mod:`simreg_core.networks.export`), the
results and a model card. It appears complete or not at all. This program does not need Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simreg_core import cli
from simreg_core.config.trial import TrialConfig
from simreg_core.errors import ConfigError
from simreg_core.networks.checkpoint import CheckpointError, load_network
from simreg_core.networks.export import write_network
from simreg_core.networks.network import FeatureNetwork
from simreg_core.results.objectives import SEARCH_SPLIT, best_trial
from simreg_core.results.progress import read_request
from simreg_core.results.schema import SPLITS
from simreg_core.results.tables import ResultStore
from simreg_core.storage.atomic import write_text
from simreg_core.storage.location import as_place
from tuner.confirmation.summary import SUMMARY_FILE, Estimate, estimate
from tuner.execution.worker import network_folder
from tuner.export.model_card import model_card

_BASELINE_VALUES = (
    "clean_accuracy",
    "clean_accuracy_std",
    "robust_accuracy",
    "robust_accuracy_std",
    "boundary_distance",
)
_TRAINING = ("kept_epoch", "validation_loss", "num_train", "train_seconds")
_PROVENANCE = (
    *("started_at", "finished_at", "device", "num_threads"),
    *("python_version", "torch_version", "simreg_version", "commit"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 on success, 2 for bad input, 130 for an interruption.
    """
    parser = cli.Parser("tuner.export", "Write the network of one trial to a folder.")
    parser.add_argument("folder", type=as_place, metavar="OUTPUT/NAME", help="results of a search")
    parser.add_argument(
        "--trial",
        type=_trial_number,
        required=True,
        metavar="ID",
        help="number of the trial, or best: by the only objective, or by the tradeoff score of "
        "several, on the validation split (trials that meet the search's constraints come first)",
    )
    parser.add_argument(
        "--seed",
        type=cli.whole_number(0),
        metavar="S",
        help="seed of the network, for trials of several seeds (default: the first)",
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="folder to create; must not exist"
    )
    return cli.run(parser, argv, _export)


def _trial_number(text: str) -> int | None:
    """The number, or None for ``best``."""
    if text == "best":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected the number of a trial or best, found {text!r}")
    return int(text)


def _export(args: argparse.Namespace) -> int:
    found = export_trial(args.folder, args.trial, args.to, args.seed)
    print(f"trial {found.trial} (seed {found.seed}) of {args.folder} is in {args.to}")
    print(f"load it: model = simreg_core.load_exported({str(args.to)!r})")
    return 0


class Exported(NamedTuple):
    """The network that was exported."""

    trial: int
    seed: int


def export_trial(folder: Path, number: int | None, to: Path, seed: int | None = None) -> Exported:
    """Write a network of a trial with its configuration, results and model card.

    The results are those of this network, even if the trial has several seeds.

    Args:
        folder: ``OUTPUT/NAME``, the results of a search.
        number: Number of the trial, or None for
            :func:`~simreg_core.results.objectives.best_trial`.
        to: Folder to create.
        seed: Seed of the network, or None for the first of the trial.

    Raises:
        ConfigError: the results, trial, seed or weights do not exist or are damaged, the trial is
            not complete, or ``to`` exists or cannot be written.
    """
    if os.path.lexists(to):
        raise ConfigError(f"--to {to}: exists; choose another (nothing is overwritten)")
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected the results of a search")
    store = ResultStore(folder)
    row = _choose_seed(store, _choose(store, number), seed)
    config, model = _network(folder, row)
    metrics = exported_metrics(row, config, _confirmation(store, row["trial"], config))
    try:
        _write(to, config, model, metrics)
    except OSError as err:
        raise ConfigError(f"--to {to}: cannot be written: {cli.os_reason(err)}") from err
    return Exported(row["trial"], row["seed"])


def _choose(store: ResultStore, number: int | None) -> dict[str, Any]:
    """The row of a complete trial."""
    folder, rows = store.folder, store.read("trials")
    if not rows:
        raise ConfigError(f"{folder}: no trial has ended yet")
    if number is None:
        request = read_request(folder)
        best = best_trial(rows, request.objectives, request.constraints)
        if best is None:
            raise ConfigError(f"{folder}: --trial best: none of {len(rows)} trials is complete")
        return best
    by_number = {row["trial"]: row for row in rows}
    if number not in by_number:
        raise ConfigError(
            f"{folder}: no trial {number}; allowed: {min(by_number)} to {max(by_number)}, or best"
        )
    row = by_number[number]
    if row["status"] != "complete":
        why = f"it is {row['status']}: {row['reason']}"
        raise ConfigError(f"{folder}: trial {number} has no network to export; {why}")
    return row


def _choose_seed(store: ResultStore, row: dict[str, Any], seed: int | None) -> dict[str, Any]:
    """The row of one network of a trial, with the trial's ``num_seeds``."""
    number, num_seeds = row["trial"], row["num_seeds"]
    networks = [row] if num_seeds == 1 else store.read("seeds")
    by_seed = {network["seed"]: network for network in networks if network["trial"] == number}
    chosen = row["seed"] if seed is None else seed
    if chosen not in by_seed:
        known = ", ".join(map(str, sorted(by_seed))) or "none"
        raise ConfigError(
            f"{store.folder}: trial {number} has no network of seed {chosen}; it has: {known}"
        )
    return {**by_seed[chosen], "num_seeds": num_seeds}


def _network(folder: Path, row: Mapping[str, Any]) -> tuple[TrialConfig, FeatureNetwork]:
    name = network_folder(row["trial"], row["seed"], row["num_seeds"])
    path = folder / "checkpoints" / name / "weights.pt"
    try:
        config, model = load_network(path)
    except CheckpointError as err:
        raise ConfigError(str(err)) from err
    if config.digest() != row["config_digest"]:
        raise ConfigError(
            f"{path} has configuration {config.digest()}, "
            f"but trial {row['trial']} has {row['config_digest']}"
        )
    return config, model


def _confirmation(store: ResultStore, number: int, config: TrialConfig) -> dict[str, Any] | None:
    """Confirmed results of a trial and of the baselines of the same seeds; None without any."""
    path = store.folder / SUMMARY_FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        candidates = {candidate["trial"]: candidate for candidate in content["candidates"]}
        if number not in candidates:
            return None
        found = candidates[number]
        summary = {name: content[name] for name in ("split", "interval")}
        summary |= {name: found[name] for name in ("seeds", "num_failed")}
        estimates = {name: Estimate(**value) for name, value in found["estimates"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(f"{path}: damaged: {type(err).__name__}: {err}") from err
    # The summary does not tell which of several baselines is this trial's; the table does.
    digests = {config.unregularized(seed).digest() for seed in summary["seeds"]}
    rows = [row for row in store.read("confirmation") if row["config_digest"] in digests]
    done = [row for row in rows if (row["role"], row["status"]) == ("baseline", "complete")]
    accuracies = ("clean_accuracy", "robust_accuracy") if done else ()
    baseline = {name: estimate([row[f"test.{name}"] for row in done]) for name in accuracies}
    return {
        **summary,
        "estimates": {name: value._asdict() for name, value in estimates.items()},
        "baseline": {name: value._asdict() for name, value in baseline.items()},
    }


def exported_metrics(
    row: Mapping[str, Any], config: TrialConfig, confirmation: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The results of a network with their conditions: the content of ``metrics.json``.

    Args:
        row: A complete row of the table ``trials`` or ``seeds``.
        config: Configuration of the trial.
        confirmation: Confirmed results of the trial, if any.

    Returns:
        JSON types; null for what was not measured.
    """
    robustness = config.robustness
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        names = [key.removeprefix(f"{split}.") for key in row if key.startswith(f"{split}.")]
        own = [name for name in names if not name.startswith("baseline_")]
        num_images = row[f"num_{split}"]
        splits[split] = {
            "num_images": num_images,
            "num_seeds": 1,
            "is_selected_on": split == SEARCH_SPLIT,
            "values": {name: row[f"{split}.{name}"] for name in own},
            "baseline": {name: row[f"{split}.baseline_{name}"] for name in _BASELINE_VALUES},
        }
        if robustness.boundary is not None:
            splits[split]["boundary_num_images"] = min(robustness.boundary.num_images, num_images)
    return {
        **{name: row[name] for name in ("study", "trial", "status", "reason", "config_digest")},
        "seed": config.seed,
        "baseline_seeds": list(robustness.baseline_seeds),
        "reference_epsilons": dict(robustness.reference),
        "tradeoff_weight": robustness.tradeoff_weight,
        **splits,
        "confirmation": confirmation,
        "training": {name: row[name] for name in _TRAINING},
        "provenance": {name: row[name] for name in _PROVENANCE},
    }


def _write(
    to: Path, config: TrialConfig, model: FeatureNetwork, metrics: Mapping[str, Any]
) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    draft = to.parent / f".{to.name}.{secrets.token_hex(4)}.tmp"
    try:
        draft.mkdir()
        write_network(draft, config, model)
        write_text(draft / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False))
        write_text(draft / "README.md", model_card(config, model, metrics))
        draft.rename(to)  # fails if the folder contains anything by now
    finally:
        shutil.rmtree(draft, ignore_errors=True)


if __name__ == "__main__":
    cli.leave(main())
