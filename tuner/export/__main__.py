"""``python -m tuner.export``: the network of one trial as a folder that explains itself.

The folder holds the weights and the configuration (:mod:`simreg_core.networks.export`), the
trial's figures and a model card. It appears whole or not at all. Ray is not needed for it.
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

METRICS_FILE = "metrics.json"
CARD_FILE = "README.md"
_BASELINE_FIGURES = (
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
    """``python -m tuner.export``; 0 done, 2 bad input, 130 interrupted."""
    parser = cli.Parser("tuner.export", "Write the network of one trial to a folder to hand on.")
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
        help="of the network, where the trial has several (default: its first)",
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="folder to make; it must not exist"
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
    """Which network was exported."""

    trial: int
    seed: int


def export_trial(folder: Path, number: int | None, to: Path, seed: int | None = None) -> Exported:
    """Write a network of a trial with its configuration, figures and model card.

    The figures are the network's own, also where the trial has several and is judged by their mean.

    Args:
        folder: ``OUTPUT/NAME``, the results of a search.
        number: Of the trial; None takes the best one (see
            :func:`~simreg_core.results.objectives.best_trial`).
        to: The folder to make.
        seed: Of the network, where the trial has several; None takes its first.

    Raises:
        ConfigError: there are no such results, no such trial, seed or weights, the trial is
            not complete, something is damaged, or ``to`` exists or cannot be written.
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
    """The row of the trial that is meant; it is complete."""
    folder, rows = store.folder, store.read("trials")
    if not rows:
        raise ConfigError(f"{folder}: no trial has ended yet")
    if number is None:
        asked = read_request(folder)
        best = best_trial(rows, asked.objectives, asked.constraints)
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
    """The row of the network that is meant, with ``num_seeds`` of its trial."""
    networks = [row]
    if row["num_seeds"] > 1:
        several = [r for r in store.read("seeds") if r["trial"] == row["trial"]]
        networks = [{**network, "num_seeds": row["num_seeds"]} for network in several]
    by_seed = {network["seed"]: network for network in networks}
    chosen = row["seed"] if seed is None else seed
    if chosen not in by_seed:
        known = ", ".join(map(str, sorted(by_seed))) or "none"
        raise ConfigError(
            f"{store.folder}: trial {row['trial']} has no network of seed {chosen}; it has: {known}"
        )
    return by_seed[chosen]


def _network(folder: Path, row: Mapping[str, Any]) -> tuple[TrialConfig, FeatureNetwork]:
    of_network = network_folder(row["trial"], row["seed"], row["num_seeds"])
    path = folder / "checkpoints" / of_network / "weights.pt"
    try:
        config, model = load_network(path)
    except CheckpointError as err:
        raise ConfigError(str(err)) from err
    if config.digest() != row["config_digest"]:
        raise ConfigError(
            f"{path} belongs to configuration {config.digest()}, "
            f"but trial {row['trial']} to {row['config_digest']}"
        )
    return config, model


def _confirmation(store: ResultStore, number: int, config: TrialConfig) -> dict[str, Any] | None:
    """What ``confirmation.json`` says of the trial, beside the baselines of the same seeds."""
    path = store.folder / SUMMARY_FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        candidates = {candidate["trial"]: candidate for candidate in content["candidates"]}
        if number not in candidates:
            return None
        found = candidates[number]
        seeds = found["seeds"]
        summary = {
            "split": content["split"],
            "interval": content["interval"],
            "seeds": seeds,
            "num_failed": found["num_failed"],
            "estimates": {k: Estimate(**v)._asdict() for k, v in found["estimates"].items()},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(f"{path}: damaged: {type(err).__name__}: {err}") from err
    # The summary does not say which of several baselines is this trial's; the table does.
    digests = {config.unregularized(seed).digest() for seed in seeds}
    baselines = [
        row
        for row in store.read("confirmation")
        if row["role"] == "baseline"
        and row["status"] == "complete"
        and row["config_digest"] in digests
    ]
    summary["baseline"] = {
        name: estimate([row[f"test.{name}"] for row in baselines])._asdict()
        for name in ("clean_accuracy", "robust_accuracy")
        if baselines
    }
    return summary


def _metrics(row: Mapping[str, Any], split: str) -> dict[str, float | None]:
    """The values of all metrics on a split, by name."""
    names = [key.removeprefix(f"{split}.") for key in row if key.startswith(f"{split}.")]
    return {name: row[f"{split}.{name}"] for name in names if not name.startswith("baseline_")}


def exported_metrics(
    row: Mapping[str, Any], config: TrialConfig, confirmation: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The figures of a trial with their conditions, as ``metrics.json`` has them.

    Args:
        row: Of the trials table, complete.
        config: Of the trial.
        confirmation: See :func:`_confirmation`; None where the trial was not confirmed.

    Returns:
        JSON types. A figure that was not measured is null.
    """
    robustness = config.robustness
    splits = {
        split: {
            "num_images": row[f"num_{split}"],
            "num_seeds": 1,
            "is_selected_on": split == SEARCH_SPLIT,
            "figures": _metrics(row, split),
            "baseline": {name: row[f"{split}.baseline_{name}"] for name in _BASELINE_FIGURES},
        }
        for split in SPLITS
    }
    if robustness.boundary is not None:
        for split in splits.values():
            split["boundary_num_images"] = min(robustness.boundary.num_images, split["num_images"])
    return {
        "study": row["study"],
        "trial": row["trial"],
        "status": row["status"],
        "reason": row["reason"],
        "config_digest": row["config_digest"],
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
        write_text(draft / METRICS_FILE, json.dumps(metrics, indent=1, allow_nan=False))
        write_text(draft / CARD_FILE, model_card(config, model, metrics))
        draft.rename(to)  # fails where the folder holds anything by now
    finally:
        shutil.rmtree(draft, ignore_errors=True)


if __name__ == "__main__":
    cli.leave(main())
