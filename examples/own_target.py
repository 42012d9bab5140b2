"""A target of your own: images are similar if they have similar histograms."""

# Name it in a space file:
#
#   trial:
#     regularizer: {target: "examples.own_target:histogram"}

import torch

from simreg_core.registry import target
from simreg_core.regularizer.responses import ResponseSimilarity
from simreg_core.regularizer.targets import Similarities, TargetInput

BINS = 16


@target("histogram")
def histogram(source: TargetInput) -> Similarities:
    """Mean-subtracted cosine similarity of the histograms of each channel."""
    bins = (source.images.flatten(2) // (256 // BINS)).to(torch.int64)  # (N, C, H * W)
    counts = torch.zeros(*bins.shape[:2], BINS, device=bins.device)
    counts.scatter_add_(2, bins, torch.ones_like(bins, dtype=counts.dtype))
    return ResponseSimilarity(counts.flatten(1))
