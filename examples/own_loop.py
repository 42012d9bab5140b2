"""The regularizer in a training loop of your own, in plain PyTorch.

``python -m examples.own_loop`` trains a small network on scikit-learn's digits, with and without
the regularizer, and prints accuracies under Gaussian noise.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from simreg_core import PixelTarget, SimilarityRegularizer

BATCH = 64


def digits() -> tuple[Tensor, Tensor]:
    """uint8 images (1797, 1, 8, 8) and labels (1797,), in random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(data.images * (255 / 16)).round().to(torch.uint8)
    return images[order, None], torch.from_numpy(data.target)[order]


def network() -> nn.Module:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)),
    )


def train(images: Tensor, labels: Tensor, *, alpha: float, epochs: int, seed: int) -> nn.Module:
    """A network that is trained on uint8 images (N, 1, H, W) with labels (N,)."""
    torch.manual_seed(seed)
    model = network()
    regularizer = SimilarityRegularizer(
        model, images, layers=["2", "5"], target=PixelTarget(threshold=0.3), seed=seed
    )
    optimizer = torch.optim.SGD(
        [*model.parameters(), *regularizer.parameters()], lr=0.05, momentum=0.9
    )
    for _ in range(epochs):
        for index in torch.randperm(len(images)).split(BATCH):
            loss = cross_entropy(model(images[index] / 255), labels[index])
            if alpha:
                loss = loss + alpha * regularizer()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, noise: float) -> float:
    """Accuracy on images with Gaussian noise of a standard deviation."""
    rng = torch.Generator().manual_seed(0)
    pixels = images / 255
    noisy = (pixels + noise * torch.randn(pixels.shape, generator=rng)).clamp(0, 1)
    return float((model(noisy).argmax(dim=1) == labels).float().mean())


def main(epochs: int = 20) -> None:
    """Train both networks and print a line for each."""
    images, labels = digits()
    train_set, test_set = (images[:1400], labels[:1400]), (images[1400:], labels[1400:])
    for alpha in (0.0, 0.1):
        model = train(*train_set, alpha=alpha, epochs=epochs, seed=0)
        found = ", ".join(f"{accuracy(model, *test_set, noise):.3f}" for noise in (0.0, 0.2, 0.4))
        print(f"alpha {alpha:g}: accuracy {found} under noise of 0, 0.2 and 0.4")


if __name__ == "__main__":
    main()
