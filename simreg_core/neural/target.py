"""Target of the regularizer: similarities of predicted neural responses (arXiv:1911.05072)."""

from __future__ import annotations

from pathlib import Path

from simreg_core.neural.model import denoised_responses, load_model
from simreg_core.registry import target
from simreg_core.regularizer.responses import ResponseSimilarity
from simreg_core.regularizer.targets import Similarities, TargetInput


@target("neural", needs="neural_model", check=lambda path, *, key: load_model(Path(path), key=key))
def _neural(source: TargetInput) -> Similarities:
    """Mean-subtracted cosine similarity of the predicted, noise-free responses."""
    assert source.config.neural_model is not None
    path = Path(source.config.neural_model)
    responses = denoised_responses(path, source.images, "regularizer.neural_model")
    return ResponseSimilarity(responses.to(source.images.device))
