"""Train one similarity-regularized network, attack it and score it.

Knows nothing of clusters or searches. Names are imported on first use, so that
``simreg_core.results.schema`` and ``simreg_core.config.trial`` can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from simreg_core.version import __version__

_HOME = {
    "ConfigError": "errors",
    "TrialConfig": "config.trial",
    "TrialResult": "training.experiment",
    "evaluate": "robustness.evaluate",
    "fit": "training.fit",
    "load_dataset": "data.registry",
    "load_exported": "networks.export",
    "load_weights": "networks.checkpoint",
    "run_experiment": "training.experiment",
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
    from simreg_core.config.trial import TrialConfig
    from simreg_core.data.registry import load_dataset
    from simreg_core.errors import ConfigError
    from simreg_core.networks.checkpoint import load_weights
    from simreg_core.networks.export import load_exported
    from simreg_core.robustness.evaluate import evaluate
    from simreg_core.training.experiment import TrialResult, run_experiment
    from simreg_core.training.fit import fit


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
