"""The regularizer in a training with Lightning (``pip install lightning``).

``python -m examples.lightning_loop`` trains a small network on scikit-learn's digits.
"""

from __future__ import annotations

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from examples.own_loop import BATCH, accuracy, digits, network
from simreg_core import PixelTarget, SimilarityRegularizer


class Regularized(lightning.LightningModule):
    """A network with the regularizer; its checkpoints contain both."""

    def __init__(self, model: nn.Module, images: Tensor, *, alpha: float, seed: int = 0) -> None:
        super().__init__()
        self.model = model
        self.alpha = alpha
        self.regularizer = SimilarityRegularizer(
            model, images, layers=["2", "5"], target=PixelTarget(threshold=0.3), seed=seed
        )

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """L_task + alpha * L_sim."""
        pixels, labels = batch
        similarity_loss = self.regularizer()
        self.log("similarity_loss", similarity_loss)
        loss: Tensor = cross_entropy(self.model(pixels), labels) + self.alpha * similarity_loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD on the weights of the network and gamma."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main(epochs: int = 20) -> None:
    """Train a network and print its accuracy."""
    lightning.seed_everything(0, verbose=False)
    images, labels = digits()
    module = Regularized(network(), images[:1400], alpha=0.1)
    loader = DataLoader(TensorDataset(images[:1400] / 255, labels[:1400]), BATCH, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    model = module.model.cpu().eval()
    found = [accuracy(model, images[1400:], labels[1400:], noise) for noise in (0.0, 0.2, 0.4)]
    shown = ", ".join(f"{one:.3f}" for one in found)
    print(f"accuracy {shown} under noise of 0, 0.2 and 0.4")


if __name__ == "__main__":
    main()
