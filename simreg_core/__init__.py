"""Train one similarity-regularized network, attack it and score it.

Knows nothing of clusters or searches. Names are imported on first use, so that
``simreg_core.records`` and ``simreg_core.config`` can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "ConfigError": "config_io",
    "TrialConfig": "config",
    "TrialResult": "experiment",
    "evaluate": "evaluate",
    "fit": "train",
    "load_dataset": "datasets",
    "load_exported": "export",
    "load_weights": "checkpoint",
    "run_experiment": "experiment",
}

__all__ = [
    "ConfigError",
    "TrialConfig",
    "TrialResult",
    "__version__",
    "evaluate",
    "fit",
    "load_dataset",
    "load_exported",
    "load_weights",
    "run_experiment",
]

if TYPE_CHECKING:
    from simreg_core.checkpoint import load_weights
    from simreg_core.config import TrialConfig
    from simreg_core.config_io import ConfigError
    from simreg_core.datasets import load_dataset
    from simreg_core.evaluate import evaluate
    from simreg_core.experiment import TrialResult, run_experiment
    from simreg_core.export import load_exported
    from simreg_core.train import fit


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
