"""Datasets that need no download: scikit-learn's digits and two natural photographs."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from simreg_core.data.images import ImagePool, ImageRequest, convert, resize, to_tensor

_PATCH_SIZE = 32


_PATCH_STRIDE = 8  # 7,700 patches of the two photographs


def _load_digits(_: str, request: ImageRequest) -> ImagePool:
    from sklearn.datasets import load_digits  # heavy; needed by this dataset only

    digits = load_digits()
    chosen = request.choose(len(digits.target))
    pixels = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(digits.target[chosen].astype(np.int64))
    images = convert(torch.from_numpy(pixels)[:, None], request)
    return ImagePool(images, labels, None, num_classes=10)


def _load_natural(_: str, request: ImageRequest) -> ImagePool:
    from sklearn.datasets import load_sample_images  # heavy; needed by this dataset only

    patches = []
    for photograph in load_sample_images().images:
        image = to_tensor(Image.fromarray(photograph), request.color)
        windows = image.unfold(1, _PATCH_SIZE, _PATCH_STRIDE).unfold(2, _PATCH_SIZE, _PATCH_STRIDE)
        patches.append(windows.permute(1, 2, 0, 3, 4).flatten(0, 1))
    images = torch.cat(patches)
    chosen = torch.from_numpy(request.choose(len(images)))
    return ImagePool(resize(images[chosen], request.size), None, None, num_classes=0)
