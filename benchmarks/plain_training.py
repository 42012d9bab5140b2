"""Training in the plain style of published research code, for ``benchmarks.epoch``.

It uses a ``DataLoader`` with worker processes and transforms of single PIL images, a Python list of
all pairs of regularization images, three forward passes per step, ``.item()`` after every step, and
PyTorch's default memory format and optimizer. Two things favour it: it computes targets with the
fast code of this project, and its workers stay alive between epochs.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData, load_regularization_images
from simreg_core.networks.network import build_network
from simreg_core.regularizer.loss import similarity_loss
from simreg_core.regularizer.similarity import FeatureSimilarity, PixelSimilarity, threshold_targets


class PlainDataset(Dataset[tuple[Tensor, int]]):
    """A split as PIL images, transformed on access."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        arrays = split.images.cpu().permute(0, 2, 3, 1).numpy()
        self.images = [Image.fromarray(x[..., 0] if x.shape[2] == 1 else x) for x in arrays]
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def to_tensor(image: Image.Image) -> Tensor:
    """Pixels (C, H, W) in [0, 1], like torchvision's ``ToTensor``."""
    array = np.array(image).reshape(image.height, image.width, -1)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous().float().div(255)


def augmented(image: Image.Image) -> Tensor:
    """Random crop after reflect padding of 4, and random flip, like torchvision's."""
    array = np.array(image)
    widths = [(4, 4), (4, 4), (0, 0)][: array.ndim]
    padded = Image.fromarray(np.pad(array, widths, mode="reflect"))
    left, top = random.randint(0, 8), random.randint(0, 8)
    image = padded.crop((left, top, left + image.width, top + image.height))
    return to_tensor(ImageOps.mirror(image) if random.random() < 0.5 else image)


def list_pairs(num_images: int) -> list[tuple[int, int]]:
    """All pairs i < j."""
    return [(i, j) for i in range(num_images) for j in range(i + 1, num_images)]


class PlainTraining:
    """One network in training, with data loaders and optimizer."""

    def __init__(
        self, config: TrialConfig, data: TaskData, device: torch.device, workers: int
    ) -> None:
        self.config, self.device = config, device
        channels = data.train.images.shape[1]
        self.model = build_network(
            config.model, channels=channels, num_classes=data.num_classes, seed=config.seed
        ).to(device)
        self.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        source = load_regularization_images(config.regularizer, config.task, data)
        self.images = source.images.to(device, torch.float32) / 255
        self.pixels = PixelSimilarity(source.images.to(device))
        self.pairs = list_pairs(len(self.images))
        with torch.no_grad():
            probe = self.model.features(self.images[:2])
        widths = [feature.shape[1] for feature in probe.values()]
        self.similarity = FeatureSimilarity(widths, mean_decay=0.9).to(device)
        self.optimizer = torch.optim.SGD(
            [*self.model.parameters(), *self.similarity.parameters()],
            lr=config.training.learning_rate,
            momentum=config.training.momentum,
        )
        self.train_loader, self.validation_loader = (
            DataLoader(
                PlainDataset(split, transform),
                config.training.batch_size,
                shuffle=transform is augmented,
                num_workers=workers,
                pin_memory=device.type == "cuda",
                persistent_workers=workers > 0,
            )
            for split, transform in ((data.train, augmented), (data.validation, to_tensor))
        )

    def epoch(self) -> None:
        """Train one epoch and validate."""
        regularizer = self.config.regularizer
        losses, correct = [], 0
        self.model.train()
        for inputs, targets in self.train_loader:
            pixels, labels = inputs.to(self.device), targets.to(self.device)
            chosen = torch.tensor(random.sample(self.pairs, regularizer.batch_size))
            first, second = chosen.to(self.device).T
            logits = self.model(pixels)
            sides = [self.model.features(self.images[index]) for index in (first, second)]
            s_cnn = self.similarity([torch.cat([sides[0][n], sides[1][n]]) for n in sides[0]])
            s_target = threshold_targets(self.pixels(first, second), regularizer.threshold)
            loss = functional.cross_entropy(logits, labels)
            loss = loss + regularizer.alpha * similarity_loss(s_cnn, s_target)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
            correct += (logits.argmax(dim=1) == labels).sum().item()
        self.model.eval()
        with torch.no_grad():
            for inputs, targets in self.validation_loader:
                logits = self.model(inputs.to(self.device))
                losses.append(functional.cross_entropy(logits, targets.to(self.device)).item())
