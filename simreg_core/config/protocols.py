"""Protocols: the defaults of a trial, which depend on the dataset.

The defaults of the classes in :mod:`simreg_core.config` are the published CIFAR-10 protocol
(Attias, Pehlevan, Obeid, arXiv:2410.03952). A dataset declares the differences from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simreg_core.errors import ConfigError
from simreg_core.registry import DATASETS

_PUBLISHED = "cifar10"
NO_AUGMENTATION = {"crop_padding": 0, "horizontal_flip": False}
WIDE_RANGES = {
    "gaussian": {"max_epsilon": 0.5},
    "uniform": {"max_epsilon": 0.5},
    "salt_pepper": {"max_epsilon": 0.3},
    "transfer_fgsm": {"max_epsilon": 0.5},
}
"""Attack ranges of the grey-scale tasks."""
WIDE_REFERENCE = {"gaussian": 0.5, "uniform": 0.5, "salt_pepper": 0.3, "transfer_fgsm": 0.1}
"""The paper gives reference epsilons for CIFAR-10 only. These are the ends of the ranges of the
random attacks, and 0.1 for FGSM, beyond which accuracy is near zero."""

# A user's table replaces the protocol's table: two attacks mean these two and no others.
_REPLACED_WHOLE = ("attacks", "reference")


def protocols() -> dict[str, Mapping[str, Any]]:
    """All protocols by name, which are those of the known datasets that declare one."""
    known = DATASETS.known.items()
    return {name: dataset.protocol for name, dataset in known if dataset.protocol is not None}


def protocol_of(dataset: str) -> str:
    """Name of the protocol that a dataset follows unless the configuration names another."""
    kind = dataset.partition(":")[0]
    name = kind if kind in DATASETS.known else dataset
    return name if _declared(name) is not None else _PUBLISHED


def _declared(dataset: str) -> Mapping[str, Any] | None:
    """What a dataset declares; None if it declares nothing, or cannot be imported."""
    try:
        return (DATASETS.known.get(dataset) or DATASETS.get(dataset)).protocol
    except ConfigError:  # reported when the dataset is loaded
        return None


def with_protocol(trial: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the user's trial with ``task.protocol`` and the protocol's defaults filled in.

    Malformed parts are left for the validation that follows.
    """
    task = trial.get("task")
    if not isinstance(task, Mapping) or not isinstance(task.get("dataset"), str):
        return dict(trial)
    protocol = task.get("protocol")
    if protocol is None:
        protocol = protocol_of(task["dataset"])
    if not isinstance(protocol, str):
        return dict(trial)
    return merge(merge(_declared(protocol) or {}, trial), {"task": {"protocol": protocol}})


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` updated with ``override``; nested mappings are merged, except attack tables."""
    merged = dict(base)
    for key, value in override.items():
        are_mappings = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        is_merged = are_mappings and key not in _REPLACED_WHOLE
        merged[key] = merge(merged[key], value) if is_merged else value
    return merged
