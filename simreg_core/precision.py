"""The arithmetic of forward passes in training (see ``config.Precision``)."""

from __future__ import annotations

import torch

from simreg_core.config import Precision


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which forward passes have the precision; losses belong outside of it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
