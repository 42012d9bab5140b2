"""References that the fast code is held against: NumPy, loops, enumeration, closed forms.

Written from the method's equations and independent of the package: nothing of it is imported.
Everything is float64 and as slow as it is plain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Similarities -------------------------------------------------------------------------------


def cosine(a: Array, b: Array) -> float:
    """Cosine of two arrays; 0 where one of them vanishes."""
    norms = math.sqrt(float((a * a).sum())) * math.sqrt(float((b * b).sum()))
    return float((a * b).sum()) / norms if norms > 0 else 0.0


def pixel_similarity(images: NDArray[np.uint8], i: int, j: int) -> float:
    """Cosine of images i and j of (N, C, H, W), channels averaged and the mean image subtracted."""
    grey = images.astype(np.float64).mean(axis=1)
    mean = grey.mean(axis=0)
    return cosine(grey[i] - mean, grey[j] - mean)


def target(similarity: float, threshold: float) -> int:
    """1, -1 or 0: where a pixel similarity lies against +-Th."""
    if similarity > threshold:
        return 1
    return -1 if similarity < -threshold else 0


def softmax(logits: Sequence[float]) -> list[float]:
    """Positive weights with sum 1."""
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def running_means(batches: Sequence[Sequence[Array]], decay: float) -> list[Array]:
    """Mean per channel of every layer after ``batches`` of layers (B, C, H, W); 0 before."""
    means = [np.zeros(layer.shape[1]) for layer in batches[0]]
    for batch in batches:
        means = [
            decay * mean + (1 - decay) * layer.mean(axis=(0, 2, 3))
            for mean, layer in zip(means, batch, strict=True)
        ]
    return means


def cnn_similarity(
    layers: Sequence[Array], means: Sequence[Array], logits: Sequence[float]
) -> list[float]:
    """S_cnn of k pairs; layers are (2k, C, H, W), the first images before the second ones."""
    num_pairs = len(layers[0]) // 2
    return [
        sum(
            gamma
            * cosine(layer[n] - mean[:, None, None], layer[num_pairs + n] - mean[:, None, None])
            for gamma, layer, mean in zip(softmax(logits), layers, means, strict=True)
        )
        for n in range(num_pairs)
    ]


def z(similarity: float) -> float:
    """2 arctanh(s) by its logarithms, with e = 1e-5 that keeps it finite at +-1."""
    return math.log(1 + similarity + 1e-5) - math.log(1 - similarity + 1e-5)


def similarity_loss(s_cnn: Sequence[float], s_target: Sequence[float], transform: str) -> float:
    """L_sim: the mean over pairs of the squared difference."""
    f: Callable[[float], float] = z if transform == "arctanh" else lambda s: s
    squares = [(f(a) - f(b)) ** 2 for a, b in zip(s_cnn, s_target, strict=True)]
    return sum(squares) / len(squares)


def all_pairs(num_images: int) -> list[tuple[int, int]]:
    """Every pair i < j."""
    return list(itertools.combinations(range(num_images), 2))


# Training -----------------------------------------------------------------------------------


def learning_rates(
    base: float, factor: float, step: Fraction, restart: Fraction, positions: Sequence[Fraction]
) -> list[float]:
    """The rate at each position: walk along the run, decay at each step, start over at restarts."""
    rates = []
    for position in positions:
        rate, start, passed = base, Fraction(0), Fraction(0)
        while start + restart <= position:
            start += restart
        while start + passed + step <= position:
            passed += step
            rate *= factor
        rates.append(rate)
    return rates


# A linear classifier and its best attack -------------------------------------------------------


def margins(weights: Array, bias: Array, images: Array, labels: NDArray[np.int64]) -> Array:
    """Logit of the label minus logit of the other class, for weights (2, D), bias (2,)."""
    logits = images @ weights.T + bias
    rows = np.arange(len(labels))
    result: Array = logits[rows, labels] - logits[rows, 1 - labels]
    return result


def linf_distances(weights: Array, bias: Array, images: Array, labels: NDArray[np.int64]) -> Array:
    """Linf distance of every image to the nearest other class, of any number of classes.

    The smallest change that makes class k as large as the label moves every pixel alike.
    """
    found = np.full(len(labels), np.inf)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        for other in set(range(len(weights))) - {int(label)}:
            difference = weights[label] - weights[other]
            margin = float(image @ difference + bias[label] - bias[other])
            found[row] = min(found[row], margin / np.abs(difference).sum())
    return found


def fgsm(weights: Array, images: Array, labels: NDArray[np.int64], epsilon: float) -> Array:
    """Closed form: every pixel moves by epsilon towards the other class's weights, clipped."""
    towards_other = np.sign(weights[1 - labels] - weights[labels])
    return np.clip(images + epsilon * towards_other, 0, 1)


def boundary_distances(
    weights: Array, bias: Array, images: Array, labels: NDArray[np.int64]
) -> Array:
    """L2 distance of every image to the plane that separates the two classes: |margin| / ||w||."""
    result: Array = margins(weights, bias, images, labels) / np.linalg.norm(weights[0] - weights[1])
    return result
