"""Train a similarity-regularized network, attack it and score it, without a cluster or a search.

Names are imported on first use, so that parts without torch can be used without importing it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from simreg_core.version import __version__

if TYPE_CHECKING:
    from simreg_core.config.trial import TrialConfig as TrialConfig
    from simreg_core.errors import ConfigError as ConfigError
    from simreg_core.networks.checkpoint import load_weights as load_weights
    from simreg_core.networks.export import load_exported as load_exported
    from simreg_core.regularizer.image_targets import FeatureTarget as FeatureTarget
    from simreg_core.regularizer.image_targets import LabelTarget as LabelTarget
    from simreg_core.regularizer.image_targets import PixelTarget as PixelTarget
    from simreg_core.regularizer.loss import SimilarityRegularizer as SimilarityRegularizer
    from simreg_core.training.experiment import run_experiment as run_experiment

_HOME = {
    "ConfigError": "errors",
    "FeatureTarget": "regularizer.image_targets",
    "LabelTarget": "regularizer.image_targets",
    "PixelTarget": "regularizer.image_targets",
    "SimilarityRegularizer": "regularizer.loss",
    "TrialConfig": "config.trial",
    "load_exported": "networks.export",
    "load_weights": "networks.checkpoint",
    "run_experiment": "training.experiment",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
