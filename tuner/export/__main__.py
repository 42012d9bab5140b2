"""``python -m tuner.export``: write the network of one trial to a folder that documents itself.

The folder contains the weights and the configuration (:mod:`simreg_core.networks.export`), the
results and a model card. It appears complete or not at all. This program does not need Ray.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simreg_core import cli
from simreg_core.config.trial import TrialConfig
from simreg_core.errors import ConfigError, one_line
from simreg_core.networks.checkpoint import CheckpointError, load_network
from simreg_core.networks.export import write_network
from simreg_core.networks.network import Classifier
from simreg_core.results.delivered import delivered_in
from simreg_core.results.objectives import SEARCH_SPLIT
from simreg_core.results.schema import SPLITS
from simreg_core.results.tables import ResultStore
from simreg_core.storage.atomic import write_text
from simreg_core.storage.location import as_place, read_json_inside, storage_of
from tuner.confirmation.summary import ACCURACIES, SUMMARY_FILE, Estimate, estimates
from tuner.execution.worker import network_folder
from tuner.export.model_card import model_card

_BASELINE = "baseline_"  # begins the names of the baseline's values
_TRAINING = ("kept_epoch", "validation_loss", "num_train", "train_seconds")
_PROVENANCE = (
    *("started_at", "finished_at", "device", "num_threads"),
    *("python_version", "torch_version", "simreg_version", "commit"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 done, 2 bad input, 130 interrupted."""
    parser = cli.Parser("tuner.export", "Write the network of one trial to a folder.")
    parser.add_argument("folder", type=as_place, metavar="OUTPUT/NAME", help="results of a search")
    parser.add_argument(
        "--trial",
        type=_trial_number,
        required=True,
        metavar="ID",
        help="number of the trial, or best: the first of the front that the search delivers, by "
        "the only objective or the tradeoff score of several, on the validation split",
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
    number, seed = export_trial(args.folder, args.trial, args.to, args.seed)
    print(f"trial {number} (seed {seed}) of {args.folder} is in {args.to}")
    print(f"load it: model = simreg_core.load_exported({str(args.to)!r})")
    return 0


def export_trial(
    folder: Path, number: int | None, to: Path, seed: int | None = None
) -> tuple[int, int]:
    """Write a network of a trial, with its configuration, results and model card, to a new folder.

    The results are those of this network, even if the trial has several seeds. A ``number`` of None
    stands for the best of :func:`~simreg_core.results.delivered.delivered_in`, a ``seed`` of None
    for the first of the trial. Returns the number and the seed.

    Raises:
        ConfigError: the results, trial, seed or weights do not exist or are damaged, the trial is
            not complete, or ``to`` exists or cannot be written.
    """
    exists = ConfigError(f"--to {to}: exists; choose another (nothing is overwritten)")
    if os.path.lexists(to):
        raise exists
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected the results of a search")
    store = ResultStore(folder)
    row = _choose_seed(store, _choose(store, number), seed)
    config, model = _network(folder, row)
    metrics = exported_metrics(row, config, _confirmation(store, row["trial"], config))
    card = model_card(config, model, metrics)

    def fill(draft: Path) -> None:
        write_network(draft, config, model)
        write_text(draft / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False))

    try:
        if not storage_of(to).create_folder(to, fill, "README.md", card):
            raise exists
    except OSError as err:
        raise ConfigError(f"--to {to}: cannot be written: {cli.os_reason(err)}") from err
    return row["trial"], row["seed"]


def _choose(store: ResultStore, number: int | None) -> dict[str, Any]:
    """The row of a complete trial."""
    folder, rows = store.folder, store.read("trials")
    if not rows:
        raise ConfigError(f"{folder}: no trial has ended yet")
    if number is None:
        found = delivered_in(folder)
        if not len(found.trials):
            raise ConfigError(f"{folder}: --trial best: none of {len(rows)} trials is complete")
        number = int(found.trials[found.best_first()[0]])
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


def _network(folder: Path, row: Mapping[str, Any]) -> tuple[TrialConfig, Classifier]:
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
        content = read_json_inside(path, store.folder)
        candidates = {candidate["trial"]: candidate for candidate in content["candidates"]}
        if number not in candidates:
            return None
        found = candidates[number]
        summary = {name: content[name] for name in ("split", "interval")}
        summary |= {name: found[name] for name in ("seeds", "num_failed")}
        confirmed = {n: Estimate(**value)._asdict() for n, value in found["estimates"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(f"{path}: damaged: {one_line(err)}") from err
    # The summary does not tell which of several baselines is this trial's; the table does.
    digests = {config.unregularized(seed).digest() for seed in summary["seeds"]}
    rows = [row for row in store.read("confirmation") if row["config_digest"] in digests]
    done = [row for row in rows if (row["role"], row["status"]) == ("baseline", "complete")]
    baseline = {n: value._asdict() for n, value in estimates(done, ACCURACIES).items()}
    return {**summary, "estimates": confirmed, "baseline": baseline}


def exported_metrics(
    row: Mapping[str, Any], config: TrialConfig, confirmation: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The content of ``metrics.json``: results of a network and their conditions, as JSON types.

    ``row`` is the network's complete row in the table ``trials`` or ``seeds``.
    """
    robustness = config.robustness
    splits: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        names = [key.removeprefix(f"{split}.") for key in row if key.startswith(f"{split}.")]
        own = [name for name in names if not name.startswith(_BASELINE)]
        baseline = [name.removeprefix(_BASELINE) for name in names if name.startswith(_BASELINE)]
        num_images = row[f"num_{split}"]
        splits[split] = {
            "num_images": num_images,
            "num_seeds": 1,
            "is_selected_on": split == SEARCH_SPLIT,
            "values": {name: row[f"{split}.{name}"] for name in own},
            "baseline": {name: row[f"{split}.{_BASELINE}{name}"] for name in baseline},
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


if __name__ == "__main__":
    cli.leave(main())
