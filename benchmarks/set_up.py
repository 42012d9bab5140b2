"""Time and memory of the set-up for large regularization sets.

``python -m benchmarks.set_up --num-images 5000 50000`` builds the target and the pair sampler for
random images of 32x32 pixels and draws 100 batches of 16 pairs, in a new process for every range of
pairs. It prints seconds and the peak memory beyond the images.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence
from typing import Any

import torch

from simreg_core.config.regularizer import RegularizerConfig
from simreg_core.regularizer.pairs import PairSampler
from simreg_core.regularizer.similarity import PixelSimilarity
from simreg_core.regularizer.targets import TargetInput, make_target

RANGES: dict[str, dict[str, Any]] = {
    "all": {},
    "low": {"pairs": "low", "threshold": 0.05},
    "high, 1 of 1000 pairs": {"pairs": "high", "threshold": 0.103},
}


def measure(num_images: int, options: dict[str, Any]) -> tuple[float, float, float]:
    """Seconds of set-up, milliseconds per batch, and peak megabytes beyond the images."""
    torch.set_num_threads(1)
    shape = (num_images, 1, 32, 32)
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, shape, generator=rng, dtype=torch.uint8)
    before = _peak_megabytes()
    start = time.perf_counter()
    config, pixels = RegularizerConfig(**options), PixelSimilarity(images)
    target = make_target(TargetInput(images, None, pixels, config))
    pairs = PairSampler(config, pixels)
    set_up = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(100):
        target(*pairs(16, rng))
    return set_up, (time.perf_counter() - start) * 10, _peak_megabytes() - before


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per number of images and range."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num-images", type=int, nargs="+", default=[5000, 50000])
    args = parser.parse_args(argv)
    print(f"{'N':>7}  {'pairs':24}{'set-up, s':>10}{'a batch, ms':>13}{'peak, MB':>10}")
    context = multiprocessing.get_context("spawn")  # for the memory of a new process
    for num_images in args.num_images:
        for name, options in RANGES.items():
            with context.Pool(1) as pool:
                seconds, batch, megabytes = pool.apply(measure, (num_images, options))
            print(f"{num_images:7}  {name:24}{seconds:10.2f}{batch:13.2f}{megabytes:10.0f}")


if __name__ == "__main__":
    main()
