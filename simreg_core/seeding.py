"""One root seed, many independent named streams; the only module that touches the global RNG.

A stream is named by what it is for and, where it restarts, by a counter such as the epoch.
Nothing needs to save generator states: epoch 7 of a resumed run draws what epoch 7 always draws.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(root: int, stream: str, *counters: int) -> int:
    """A 63-bit seed for ``stream`` below ``root``; streams are statistically independent.

    Args:
        root: Root seed, >= 0.
        stream: Name of the purpose, for example ``"pairs"``.
        counters: Non-negative positions inside the stream, for example the epoch.
    """
    entropy = [root, zlib.crc32(stream.encode()), *counters]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def generator(
    root: int, stream: str, *counters: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A new torch generator on ``device`` for a stream; arguments as :func:`derive_seed`."""
    return torch.Generator(device=device).manual_seed(derive_seed(root, stream, *counters))


@contextmanager
def global_rng(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore their states afterwards.

    For library code that takes no generator, such as the initialisation of layers and Foolbox's
    random attacks. GPUs' generators are included once a GPU is in use; NumPy's is not.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield
