"""Datasets that need no download: scikit-learn's digits and two natural photographs."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from simreg_core.config.protocols import NO_AUGMENTATION, WIDE_RANGES
from simreg_core.data.decoding import to_tensor
from simreg_core.data.images import ImagePool, ImageRequest, convert, resize
from simreg_core.registry import dataset

_PATCH_SIZE = 32
_PATCH_STRIDE = 8  # gives 7,700 patches

_DIGITS_PROTOCOL = {
    "task": {"image_size": 16, "num_train": 1000, "num_validation": 400, "num_test": 397},
    "model": {"base_channels": 16, "blocks": [1, 1, 1], "scale": 1.0, "shift": 0.0},
    "training": {
        "epochs": 20,
        "schedule": {"unit": "fraction", "step": 0.2, "restart": 1.0},
        "augmentation": NO_AUGMENTATION,
    },
    "regularizer": {"alpha": 0.1, "threshold": 0.2, "num_images": 1000},
    "robustness": {"attacks": WIDE_RANGES, "reference": {"gaussian": 0.4, "transfer_fgsm": 0.15}},
}
"""Not in the paper; chosen by measurements for this project (docs/benchmarks.md)."""


@dataset("digits", classes=10, side=8, protocol=_DIGITS_PROTOCOL)
def digits(request: ImageRequest) -> ImagePool:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    stored = load_digits()
    chosen = request.choose(len(stored.target))
    pixels = np.rint(stored.images[chosen] * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(stored.target[chosen].astype(np.int64))
    images = convert(torch.from_numpy(pixels)[:, None], request)
    num_stored = len(stored.target)
    return ImagePool(images, labels, None, num_classes=10, num_stored=num_stored)


@dataset("natural", classes=0, side=_PATCH_SIZE)
def natural(request: ImageRequest) -> ImagePool:
    """7,700 overlapping patches of scikit-learn's two photographs, without labels."""
    from sklearn.datasets import load_sample_images

    patches = []
    for photograph in load_sample_images().images:
        image = to_tensor(Image.fromarray(photograph), request.color)
        windows = image.unfold(1, _PATCH_SIZE, _PATCH_STRIDE).unfold(2, _PATCH_SIZE, _PATCH_STRIDE)
        patches.append(windows.permute(1, 2, 0, 3, 4).flatten(0, 1))
    images = torch.cat(patches)
    chosen = torch.from_numpy(request.choose(len(images)))
    found = resize(images[chosen], request.size)
    return ImagePool(found, None, None, num_classes=0, num_stored=len(images))
