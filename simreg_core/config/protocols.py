"""Defaults that belong to a task: what a configuration means where it is silent.

The defaults of the classes in :mod:`simreg_core.config` are the published CIFAR-10 protocol
(Attias, Pehlevan, Obeid, arXiv:2410.03952). A dataset declares what differs from them.
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
"""Of the grey-scale tasks."""
WIDE_REFERENCE = {"gaussian": 0.5, "uniform": 0.5, "salt_pepper": 0.3, "transfer_fgsm": 0.1}
"""The paper names reference epsilons for CIFAR-10 only. Here the random attacks are measured at the
end of their range, and FGSM at 0.1, beyond which nothing is left."""

# What a user writes here replaces the protocol's value as a whole: a reference of two attacks
# means these two, not these two and the protocol's others.
_REPLACED_WHOLE = {("robustness", "attacks"), ("robustness", "reference")}


def protocols() -> dict[str, Mapping[str, Any]]:
    """The protocols by name: those of the datasets that declare one."""
    known = DATASETS.known.items()
    return {name: found.protocol for name, found in known if found.protocol is not None}


def protocol_of(dataset: str) -> str:
    """Name of the protocol that a dataset follows unless the configuration names another."""
    kind = dataset.partition(":")[0]
    name = kind if kind in DATASETS.known else dataset
    return name if _declared(name) is not None else _PUBLISHED


def _declared(dataset: str) -> Mapping[str, Any] | None:
    """What a dataset declares; None if it declares nothing, or cannot be imported."""
    try:
        return DATASETS.get(dataset).protocol
    except ConfigError:  # said when the dataset is loaded
        return None


def with_protocol(trial: Mapping[str, Any]) -> dict[str, Any]:
    """A trial dictionary with the defaults of its protocol filled in beneath the user's values.

    Args:
        trial: Nested dictionary as written by the user. Malformed parts are passed through for
            the validation that follows.

    Returns:
        A new dictionary; ``task.protocol`` is stated in it.
    """
    task = trial.get("task")
    if not isinstance(task, Mapping) or not isinstance(task.get("dataset"), str):
        return dict(trial)
    protocol = task.get("protocol")
    if protocol is None:
        protocol = protocol_of(task["dataset"])
    if not isinstance(protocol, str):
        return dict(trial)
    merged = merge(_declared(protocol) or {}, trial)
    merged["task"] = {**merged["task"], "protocol": protocol}
    return merged


def merge(
    base: Mapping[str, Any], override: Mapping[str, Any], _path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """``base`` with the values of ``override`` laid over it, mappings merged key by key."""
    merged = dict(base)
    for key, value in override.items():
        path = (*_path, key)
        beneath = merged.get(key)
        if (
            isinstance(value, Mapping)
            and isinstance(beneath, Mapping)
            and path not in _REPLACED_WHOLE
        ):
            merged[key] = merge(beneath, value, path)
        else:
            merged[key] = value
    return merged
