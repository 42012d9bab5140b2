"""Check that studies measured the same thing before they are compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from analysis.results.load import ResultsError
from analysis.results.parameters import format_value
from simreg_core.errors import one_line
from simreg_core.storage.json_text import parse_json

WEIGHT = "robustness.tradeoff_weight"
_CONDITIONS = (
    "task.dataset",
    "task.image_size",
    "task.color",
    "task.split_seed",
    "num_train",
    "num_validation",
    "num_test",
    "robustness.noise_draws",
    "robustness.surrogates",
)
_CONDITIONS_OF_METRIC = {
    "boundary_distance": "robustness.boundary",
    "corruption_accuracy": "robustness.corruptions",
    "tradeoff_score": WEIGHT,
}


def conditions(complete: pd.DataFrame, metrics: Sequence[str]) -> Mapping[str, str]:
    """What must be equal for the metrics of a study's complete trials to be comparable, by name.

    That is the task, the sizes of splits and the evaluation; all values where the trials differ.
    """
    own = [column for name, column in _CONDITIONS_OF_METRIC.items() if name in metrics]
    texts = {name: set(map(format_value, complete[name])) for name in (*_CONDITIONS, *own)}
    pairs = complete[["robustness.reference", "robustness.attacks"]].drop_duplicates()
    texts["robustness.reference"] = {
        _reference_text(*pair) for pair in pairs.itertuples(index=False)
    }
    return {name: " or ".join(sorted(found)) for name, found in texts.items()}


def _reference_text(reference: object, attacks: object) -> str:
    """The attacks behind R with their epsilons and options."""
    if not isinstance(reference, str):
        return "none"
    try:
        options = parse_json(attacks) if isinstance(attacks, str) else {}
        parts = []
        for attack, epsilon in sorted(parse_json(reference).items()):
            given = options.get(attack, {}).get("options") or {}
            text = json.dumps(given, sort_keys=True) if given else ""
            parts.append(f"{attack} {epsilon:g} {text}".rstrip())
        return ", ".join(parts)
    except (ValueError, TypeError, AttributeError) as err:
        raise ResultsError(f"robustness.reference or .attacks of a trial: {one_line(err)}") from err


def check_comparable(folders: Sequence[Path], found: Sequence[Mapping[str, str]]) -> None:
    """Refuse studies under other :func:`conditions` than the first one's, naming the differences.

    Raises:
        ResultsError: there are differences.
    """
    for folder, other in zip(folders[1:], found[1:], strict=True):
        differences = [
            f"{name} is {expected} in {folders[0]}, {other[name]} in {folder}"
            for name, expected in found[0].items()
            if other[name] != expected
        ]
        if differences:
            raise ResultsError(f"not comparable: {'; '.join(differences)}")
