"""Speed of batched attacks compared with Foolbox calls for single images.

``python -m benchmarks.attacks --threads 2`` measures accuracy under transferred FGSM at 10 epsilons
and a boundary attack of 50 steps. The plain variant calls Foolbox once per image (and, for FGSM,
per epsilon) on a subset of the images. Rates are per image. Both boundary attacks use the same kind
of starting points, because Foolbox's own search for one can fail.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import foolbox
import torch
from torch import nn

from benchmarks import timing
from simreg_core.config.robustness import BoundaryConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData
from simreg_core.networks.network import Classifier, freeze
from simreg_core.registry import ATTACKS
from simreg_core.robustness.boundary import minimal_perturbations
from simreg_core.robustness.evaluate import (
    Surrogate,
    evaluate,
    precompute,
)
from simreg_core.robustness.foolbox_bridge import predict_all
from simreg_core.seeding import generator
from simreg_core.training.fit import fit
from simreg_core.training.start import start

FGSM_GOAL = 20


def trained(config: TrialConfig, data: TaskData, device: torch.device) -> Classifier:
    """A network after one epoch, because attacks need decisions that depend on the image."""
    state = start(config, data, device)
    next(fit(state, data, config.training, seed=config.seed))
    return state.model.eval()


def plain_fgsm(
    model: nn.Module, surrogate: nn.Module, split: Split, epsilons: Sequence[float]
) -> list[float]:
    """Accuracy at every epsilon, one image and one epsilon at a time."""
    attacked = foolbox.PyTorchModel(surrogate, bounds=(0, 1), device=split.images.device)
    attack = foolbox.attacks.LinfFastGradientAttack()
    accuracies = []
    for epsilon in epsilons:
        correct = 0
        for number in range(len(split.labels)):
            image = split.images[number : number + 1].to(torch.float32) / 255
            label = split.labels[number : number + 1]
            moved, _, _ = attack(attacked, image, label, epsilons=epsilon)
            with torch.no_grad():
                correct += int((model(moved).argmax(dim=1) == label).item())
        accuracies.append(correct / len(split.labels))
    return accuracies


def plain_boundary(model: nn.Module, split: Split, number: int, steps: int) -> list[float]:
    """Squared distance per pixel for the first ``number`` images, one image at a time.

    The labels of ``split`` are the network's decisions; its images are also starting points.
    """
    attacked = foolbox.PyTorchModel(model, bounds=(0, 1), device=split.images.device)
    attack = foolbox.attacks.BoundaryAttack(steps=steps)
    images = split.images.to(torch.float32) / 255
    distances = []
    for image, label in zip(images[:number], split.labels[:number], strict=True):
        others = (split.labels != label).nonzero()[0]
        start_at = images[others]
        _, moved, _ = attack(
            attacked, image[None], label[None], epsilons=None, starting_points=start_at
        )
        distances.append((moved - image).square().mean().item())
    return distances


Variants = dict[str, tuple[Callable[[], object], int]]
"""Calls with the number of images that they attack: ``own`` and ``plain``."""


class Sizes(NamedTuple):
    """What is attacked."""

    model: dict[str, Any]
    num_images: int
    """For FGSM."""
    num_boundary: int
    subset: int
    """Images of the plain calls."""
    num_train: int = 2000


def comparisons(
    dataset: str | None, device: torch.device, sizes: Sizes
) -> Iterator[tuple[str, Variants]]:
    """The attacks, each with both variants.

    Raises:
        ValueError: the network predicts a single class, so that nothing can be attacked.
    """
    data = timing.make_task(
        dataset, device, train=sizes.num_train, validation=200, test=sizes.num_images
    )
    config = timing.make_trial(
        dataset,
        model=sizes.model,
        training={"learning_rate": 0.05},
        regularizer={"alpha": 0.0},
        robustness={
            "attacks": {"transfer_fgsm": {"max_epsilon": 0.02}},
            "reference": {"transfer_fgsm": 0.02},
            "boundary": {"steps": 50, "num_images": sizes.num_boundary, "repeats": 1},
        },
    )
    model = trained(config, data, device)
    surrogate = trained(config.model_copy(update={"seed": 1}), data, device)
    # Plain calls also compute gradients of the weights.
    plain_model, plain_surrogate = copy.deepcopy(model), copy.deepcopy(surrogate)
    freeze(surrogate)
    robustness = config.robustness
    # With the network's own decisions as labels, no image is misclassified and all are attacked.
    images = data.test.images
    split = Split(images, predict_all(model, images.to(torch.float32) / 255, robustness.batch_size))
    num_classes = len(split.labels.unique())
    if num_classes < 2:
        raise ValueError("the network predicts one class only, so nothing can be attacked")
    subset = Split(split.images[: sizes.subset], split.labels[: sizes.subset])
    epsilons = robustness.epsilons("transfer_fgsm")
    # A search reads the directions from its cache.
    directions = precompute(ATTACKS.get("transfer_fgsm"), surrogate, split)
    source = Surrogate(surrogate, {("transfer_fgsm", "test", 0.0): directions})
    end = evaluate(model, split, "test", robustness, [source])[-1].accuracy
    print(f"{num_classes} predicted classes; agreement under FGSM {end:.3f}\n", flush=True)
    yield (
        f"transferred FGSM, {len(epsilons)} epsilons",
        {
            "own": (
                lambda: evaluate(model, split, "test", robustness, [source]),
                len(split.labels),
            ),
            "plain": (
                lambda: plain_fgsm(plain_model, plain_surrogate, subset, epsilons),
                len(subset.labels),
            ),
        },
    )
    number = min(sizes.num_boundary, len(split.labels))
    attacked = split.images[:number].to(torch.float32) / 255, split.labels[:number]
    boundary = BoundaryConfig(steps=50, repeats=1)
    yield (
        "boundary attack, 50 steps, once per image",
        {
            "own": (
                lambda: minimal_perturbations(model, *attacked, boundary, generator(0, "boundary")),
                number,
            ),
            "plain": (
                lambda: plain_boundary(plain_model, split, sizes.subset, 50),
                sizes.subset,
            ),
        },
    )


def rates(
    variants: Variants, device: torch.device, repetitions: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Images per second of both variants in every round."""
    calls = {kind: call for kind, (call, _) in variants.items()}
    seconds = timing.interleaved(calls, device, repetitions, warm_up=warm_up)
    return {kind: [number / s for s in seconds[kind]] for kind, (_, number) in variants.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Print one comparison per attack."""
    parser = timing.make_parser(__doc__)
    parser.add_argument("--base-channels", type=int, help="default: 16, on cuda 64")
    parser.add_argument("--num-images", type=int, help="for FGSM; default: 500, on cuda 10000")
    parser.add_argument("--boundary-images", type=int, help="default: 50, on cuda 1000")
    parser.add_argument("--subset", type=int, default=5, help="images of the plain calls")
    args = parser.parse_args(argv)
    is_gpu = args.device == "cuda"
    base = args.base_channels or (64 if is_gpu else 16)
    num_images = args.num_images or (10000 if is_gpu else 500)
    num_boundary = args.boundary_images or (1000 if is_gpu else 50)
    device = timing.begin(args, base_channels=base)
    sizes = Sizes({"base_channels": base}, num_images, num_boundary, args.subset)
    try:
        for name, variants in comparisons(args.dataset, device, sizes):
            found = rates(variants, device, args.repetitions)
            print(name)
            for kind, values in found.items():
                print(f"  {kind}, images/s: {timing.spread(values)} ({variants[kind][1]} images)")
            goal = f" (goal {FGSM_GOAL})" if "FGSM" in name else ""
            print(
                f"  own / plain: {timing.ratio(found['own'], found['plain'])}{goal}\n", flush=True
            )
    except ValueError as err:
        raise SystemExit(str(err)) from err


if __name__ == "__main__":
    main()
