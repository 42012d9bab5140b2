"""Residual networks for small images (He et al., arXiv:1512.03385; stem of arXiv:2410.03952).

7x7 stride-1 stem without max-pooling, sections with strides 1, 2, 2, 2 and doubling widths, average
pooling, and a linear head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from simreg_core.config.trial import ModelConfig
from simreg_core.registry import network


class _Block(nn.Module):
    """A residual block: convolutions of ``(channels_out, size, stride)`` and a shortcut."""

    def __init__(self, channels: int, *convolutions: tuple[int, int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels_in, total_stride = channels, 1
        for channels_out, size, stride in convolutions:
            layers += [*_convolution(channels, channels_out, size, stride), nn.ReLU(inplace=True)]
            channels, total_stride = channels_out, total_stride * stride
        self.layers = nn.Sequential(*layers[:-1])  # the last ReLU follows the sum
        is_identity = total_stride == 1 and channels_in == channels
        shortcut = () if is_identity else _convolution(channels_in, channels, 1, total_stride)
        self.shortcut = nn.Sequential(*shortcut)
        self.channels_out = channels

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu_(self.layers(x).add_(self.shortcut(x)))


def _convolution(channels_in: int, channels_out: int, size: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out)]


def _basic(channels_in: int, width: int, stride: int) -> _Block:
    return _Block(channels_in, (width, 3, stride), (width, 3, 1))


def _bottleneck(channels_in: int, width: int, stride: int) -> _Block:
    # The published networks stride in the first convolution; torchvision strides in the second.
    return _Block(channels_in, (width, 1, stride), (width, 3, 1), (4 * width, 1, 1))


class ResNet(nn.Module):
    """A residual classifier of the modules ``stem``, ``section1`` and so on, and ``head``.

    ``num_blocks`` is the default of the blocks per section.
    """

    def __init__(
        self,
        config: ModelConfig,
        block: Callable[[int, int, int], _Block],
        num_blocks: tuple[int, ...],
        *,
        channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        width = config.base_channels
        self.stem = nn.Sequential(*_convolution(channels, width, 7, 1), nn.ReLU(inplace=True))
        channels_in = width
        for number, depth in enumerate(config.blocks or num_blocks, start=1):
            blocks: list[_Block] = []
            for index in range(depth):
                stride = 2 if index == 0 and number > 1 else 1
                blocks.append(block(channels_in, width, stride))
                channels_in = blocks[-1].channels_out
            self.add_module(f"section{number}", nn.Sequential(*blocks))
            width *= 2
        self.num_sections = number
        self.head = nn.Linear(channels_in, num_classes)
        # Convolutions are faster on CPUs (1.1-1.3x at base 16, 2 cores) and on tensor cores.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes) for images (B, C, H, W)."""
        x = self.stem(x)
        for section in self.sections():
            x = section(x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits

    def sections(self) -> list[nn.Module]:
        """The residual sections, in order."""
        return [self.get_submodule(f"section{n + 1}") for n in range(self.num_sections)]


def _layers(config: ModelConfig) -> tuple[str, ...]:
    count = 4 if config.blocks is None else len(config.blocks)
    return ("stem", *(f"section{number}" for number in range(1, count + 1)))


@network("resnet18", layers=_layers)
def resnet18(config: ModelConfig, *, channels: int, num_classes: int) -> ResNet:
    """ResNet18: two basic blocks per section."""
    return ResNet(config, _basic, (2, 2, 2, 2), channels=channels, num_classes=num_classes)


@network("resnet34", layers=_layers)
def resnet34(config: ModelConfig, *, channels: int, num_classes: int) -> ResNet:
    """ResNet34: 3, 4, 6 and 3 basic blocks per section."""
    return ResNet(config, _basic, (3, 4, 6, 3), channels=channels, num_classes=num_classes)


@network("resnet50", layers=_layers)
def resnet50(config: ModelConfig, *, channels: int, num_classes: int) -> ResNet:
    """ResNet50: 3, 4, 6 and 3 bottleneck blocks per section."""
    return ResNet(config, _bottleneck, (3, 4, 6, 3), channels=channels, num_classes=num_classes)
