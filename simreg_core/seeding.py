"""Independent random streams from one root seed.

The name of a stream is its purpose. Counters such as the epoch number restart it, so that a
resumed run needs no saved generator state. No other module uses the global generators.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(root: int, stream: str, *counters: int) -> int:
    """A 63-bit seed; different streams are statistically independent.

    Args:
        root: Root seed, >= 0.
        stream: Purpose, for example ``"pairs"``.
        counters: Positions in the stream, >= 0, for example the epoch.
    """
    entropy = [root, zlib.crc32(stream.encode()), *counters]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def generator(
    root: int, stream: str, *counters: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A new generator on ``device`` for a stream; see :func:`derive_seed`."""
    return torch.Generator(device=device).manual_seed(derive_seed(root, stream, *counters))


@contextmanager
def global_rng(seed: int) -> Iterator[None]:
    """Seed torch's global generators in a block and restore their states at its end.

    For library code that takes no generator, such as the initialisation of layers and Foolbox's
    random attacks. Includes the generators of GPUs once a GPU is in use, but not NumPy's.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield
