"""Speed of batched attacks compared with Foolbox calls for single images.

``python -m benchmarks.attacks --threads 2`` measures accuracy under transferred FGSM at 10 epsilons
and a boundary attack of 50 steps. The plain variant calls Foolbox once per image (and, for FGSM,
per epsilon) on a subset of the images. Rates are per image. Both boundary attacks use the same kind
of starting points, because Foolbox's own search for one can fail.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import foolbox
import torch
from torch import nn

from benchmarks import timing
from simreg_core.config.robustness import BoundaryConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.images import Split
from simreg_core.data.task import TaskData
from simreg_core.networks.network import freeze
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


def trained(config: TrialConfig, data: TaskData, device: torch.device) -> nn.Module:
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


def report(
    name: str,
    variants: Mapping[str, tuple[Callable[[], object], int]],
    device: torch.device,
    repetitions: int,
    goal: str = "",
) -> None:
    """Print images per second of both variants, and their ratio."""
    calls = {kind: call for kind, (call, _) in variants.items()}
    seconds = timing.interleaved(calls, device, repetitions)
    rates = {kind: [number / s for s in seconds[kind]] for kind, (_, number) in variants.items()}
    print(name)
    for kind, values in rates.items():
        print(f"  {kind}, images/s: {timing.spread(values)} ({variants[kind][1]} images)")
    print(f"  own / plain: {timing.ratio(rates['own'], rates['plain'])}{goal}\n", flush=True)


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
    data = timing.make_task(args.dataset, device, train=2000, validation=200, test=num_images)
    config = timing.make_trial(
        args.dataset,
        model={"base_channels": base},
        training={"learning_rate": 0.05},
        regularizer={"alpha": 0.0},
        robustness={
            "attacks": {"transfer_fgsm": {"max_epsilon": 0.02}},
            "reference": {"transfer_fgsm": 0.02},
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
        raise SystemExit("the network predicts one class only, so nothing can be attacked")
    subset = Split(split.images[: args.subset], split.labels[: args.subset])
    epsilons = robustness.epsilons("transfer_fgsm")
    # A search reads the directions from its cache.
    directions = precompute(ATTACKS.get("transfer_fgsm"), surrogate, split)
    source = Surrogate(surrogate, {("transfer_fgsm", "test"): directions})
    end = evaluate(model, split, "test", robustness, source)[-1].accuracy
    print(f"{num_classes} predicted classes; agreement under FGSM {end:.3f}\n", flush=True)
    report(
        f"transferred FGSM, {len(epsilons)} epsilons, batches of {robustness.batch_size}",
        {
            "own": (
                lambda: evaluate(model, split, "test", robustness, source),
                len(split.labels),
            ),
            "plain": (
                lambda: plain_fgsm(plain_model, plain_surrogate, subset, epsilons),
                len(subset.labels),
            ),
        },
        device,
        args.repetitions,
        f" (goal {FGSM_GOAL})",
    )
    attacked = split.images[:num_boundary] / 255, split.labels[:num_boundary]
    boundary, rng = BoundaryConfig(steps=50, repeats=1), generator(0, "boundary")
    report(
        "boundary attack, 50 steps, once per image",
        {
            "own": (
                lambda: minimal_perturbations(model, *attacked, boundary, rng),
                num_boundary,
            ),
            "plain": (lambda: plain_boundary(plain_model, split, args.subset, 50), args.subset),
        },
        device,
        args.repetitions,
    )


if __name__ == "__main__":
    main()
