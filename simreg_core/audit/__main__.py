"""``python -m simreg_core.audit``: white-box attacks on one trained network, and signs of masking.

The search measures black-box attacks and noise. Whether a network only hides its gradients shows
when it is attacked itself: at the epsilons of the transferred attack by PGD with restarts, and by
attacks that look for the smallest perturbation.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from simreg_core import cli
from simreg_core.audit.masking import AuditCurve, MinimalNorms, masking_warnings
from simreg_core.audit.whitebox import (
    AttackResult,
    carlini_wagner_l2,
    deepfool_l2,
    hop_skip_jump,
    pgd_l2,
    pgd_linf,
)
from simreg_core.config.robustness import RobustnessConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import load_task
from simreg_core.errors import ConfigError
from simreg_core.networks.checkpoint import CheckpointError, load_network
from simreg_core.provenance import provenance
from simreg_core.robustness.attack import AttackInput, prepare
from simreg_core.robustness.foolbox_bridge import frozen, predict_all
from simreg_core.seeding import generator
from simreg_core.storage.atomic import write_text

if TYPE_CHECKING:
    from simreg_core.audit.whitebox import Norm

log = logging.getLogger(__name__)

LARGE_EPSILON = 0.5  # in this Linf ball lies a uniformly grey image, whatever the image
_BATCH_SIZE = 250


class AuditPlan(NamedTuple):
    """How hard a network is attacked."""

    epsilons: tuple[float, ...]
    """Ascending, above 0; those of the transferred attack. :data:`LARGE_EPSILON` joins them."""
    steps: int = 50
    few_steps: int = 10
    restarts: int = 3
    num_minimal: int = 30
    """Images, the first ones, that DeepFool, Carlini-Wagner and HopSkipJump attack."""
    carlini_wagner_steps: int = 200
    """Steps of Adam for each of nine constants."""
    hop_skip_jump_steps: int = 20
    seed: int = 0


class AuditReport(NamedTuple):
    """Everything that an audit found."""

    clean_accuracy: float
    num_images: int
    curves: list[AuditCurve]
    minimal: list[MinimalNorms]
    warnings: list[str]


def audit(
    model: nn.Module, surrogate: nn.Module, images: Tensor, labels: Tensor, plan: AuditPlan
) -> AuditReport:
    """Attack a network with and without knowing it, and compare.

    Args:
        model: The network; pixels (B, C, H, W) in [0, 1] to logits.
        surrogate: The network that FGSM is transferred from.
        images: Float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        plan: Epsilons, steps, restarts, numbers of images, seed.
    """
    epsilons = tuple(sorted({*plan.epsilons, LARGE_EPSILON}))
    clean = float(_is_correct(model, images, labels).double().mean())

    def curve(
        name: str, norm: str, conditions: str, accuracy: Callable[[float], float]
    ) -> AuditCurve:
        log.info("%s (%s)", name, conditions)
        return AuditCurve(
            name, norm, conditions, len(labels), epsilons, tuple(map(accuracy, epsilons))
        )

    def black_box(name: str) -> AuditCurve:
        rng = generator(plan.seed, f"audit {name}", device=images.device)
        perturbed = prepare(name, AttackInput(images, labels, rng, surrogate))
        return curve(
            name,
            "linf",
            "black box",
            lambda eps: float(_is_correct(model, perturbed(eps), labels).double().mean()),
        )

    blind = [black_box("transfer_fgsm"), black_box("uniform")]
    first, strong = _restarted(model, images, labels, epsilons, plan)
    few = curve(
        "pgd_linf",
        "linf",
        f"{plan.few_steps} steps, 1 restart",
        lambda eps: _pgd_accuracy(model, images, labels, "linf", eps, plan.few_steps, plan.seed),
    )
    root = math.sqrt(images[0].numel())
    l2 = curve(
        "pgd_l2",
        "l2",
        f"{plan.steps} steps, 1 restart, radius epsilon * {root:g}",
        lambda eps: _pgd_accuracy(model, images, labels, "l2", eps * root, plan.steps, plan.seed),
    )
    minimal, decision_based = _minimal_attacks(model, images, labels, plan)
    return AuditReport(
        clean,
        len(labels),
        [*blind, few, first, strong, l2],
        [*minimal, decision_based],
        masking_warnings(strong, few, first, blind, minimal, decision_based),
    )


def _restarted(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilons: tuple[float, ...],
    plan: AuditPlan,
) -> tuple[AuditCurve, AuditCurve]:
    """Linf PGD after its first restart, and after all: an image counts if it withstood each."""
    first, all_ = [], []
    for epsilon in epsilons:
        log.info("pgd_linf (%d steps, %d restarts) at %g", plan.steps, plan.restarts, epsilon)
        withstands = torch.stack(
            [
                ~_pgd(model, images, labels, "linf", epsilon, plan.steps, plan.seed, n).success
                for n in range(plan.restarts)
            ]
        )
        first.append(float(withstands[0].double().mean()))
        all_.append(float(withstands.all(dim=0).double().mean()))
    conditions = f"{plan.steps} steps, {{}} restart{{}}"
    few = conditions.format(1, "")
    many = conditions.format(plan.restarts, "s" if plan.restarts > 1 else "")
    n = len(labels)
    return (
        AuditCurve("pgd_linf", "linf", few, n, epsilons, tuple(first)),
        AuditCurve("pgd_linf", "linf", many, n, epsilons, tuple(all_)),
    )


def _pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    epsilon: float,
    steps: int,
    seed: int,
    restart: int,
) -> AttackResult:
    attack = pgd_linf if norm == "linf" else pgd_l2
    # In all 4 epsilon: across the ball, and as much again to follow curved gradients.
    return attack(
        model,
        images,
        labels,
        epsilon=epsilon,
        steps=steps,
        rel_stepsize=4 / steps,
        restarts=1,
        rng=generator(seed, f"audit pgd {norm} {steps}", restart),
    )


def _pgd_accuracy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    epsilon: float,
    steps: int,
    seed: int,
) -> float:
    result = _pgd(model, images, labels, norm, epsilon, steps, seed, 0)
    return float((~result.success).double().mean())


def _minimal_attacks(
    model: nn.Module, images: Tensor, labels: Tensor, plan: AuditPlan
) -> tuple[list[MinimalNorms], MinimalNorms]:
    """DeepFool and Carlini-Wagner, then HopSkipJump, on the same first images."""
    log.info("deepfool_l2, carlini_wagner_l2, hop_skip_jump (%d images)", plan.num_minimal)
    images, labels = images[: plan.num_minimal], labels[: plan.num_minimal]
    rng = generator(plan.seed, "audit hop_skip_jump")
    deepfool = deepfool_l2(model, images, labels, steps=50)
    carlini_wagner = carlini_wagner_l2(
        model, images, labels, steps=plan.carlini_wagner_steps, binary_search_steps=9
    )
    decision_based = hop_skip_jump(model, images, labels, steps=plan.hop_skip_jump_steps, rng=rng)
    return (
        [
            _norms("deepfool_l2", "50 steps", deepfool),
            _norms(
                "carlini_wagner_l2",
                f"9 constants, {plan.carlini_wagner_steps} steps each",
                carlini_wagner,
            ),
        ],
        _norms("hop_skip_jump", f"{plan.hop_skip_jump_steps} steps", decision_based),
    )


def _norms(attack: str, conditions: str, result: AttackResult) -> MinimalNorms:
    norms = result.norms.where(result.success, torch.inf).tolist()
    median = statistics.median(norms)
    return MinimalNorms(
        attack,
        conditions,
        len(norms),
        float(result.success.double().mean()),
        median if math.isfinite(median) else None,
    )


def _is_correct(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with frozen(model):
        return predict_all(model, images, _BATCH_SIZE) == labels


# The command line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 done (warnings included), 2 bad input, 130 interrupted.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)  # of this program only: Foolbox talks as well
    return cli.run(_parser(), argv, _run)


def _run(args: argparse.Namespace) -> int:
    device = cli.pick_device(args.device)
    try:
        config, model = load_network(args.weights, device=device)
        report, plan = _audit_file(config, model, args, device)
    except CheckpointError as err:
        raise ConfigError(str(err)) from err
    except OSError as err:
        raise cli.os_error(err, "--cache", args.cache) from err
    print(table(report))
    if args.output is not None:
        try:
            write_text(args.output, _as_json(report, plan, config, args.weights, device))
        except OSError as err:
            raise ConfigError(f"--output: {cli.os_reason(err)}") from err
    return 0


def _audit_file(
    config: TrialConfig, model: nn.Module, args: argparse.Namespace, device: torch.device
) -> tuple[AuditReport, AuditPlan]:
    # Training a surrogate belongs to the command line, not to the audit of given networks.
    from simreg_core.training.baselines import load_network as load_reference
    from simreg_core.training.baselines import reference_networks

    data = load_task(config.task)
    surrogate = load_reference(reference_networks(config)[-1], data, args.cache, device)
    test = data.test.to(device)
    images = test.images[: args.images].to(torch.float32) / 255
    plan = AuditPlan(_epsilons(config.robustness), seed=args.seed)
    return audit(model, surrogate, images, test.labels[: args.images], plan), plan


def _epsilons(config: RobustnessConfig) -> tuple[float, ...]:
    """Those of the transferred attack; of its published range if it is not configured."""
    if "transfer_fgsm" not in config.attacks:
        config = RobustnessConfig()
    return config.epsilons("transfer_fgsm")[1:]


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "simreg_core.audit",
        "Attack one trained network with full knowledge of it, and look for masked gradients.",
    )
    parser.add_argument(
        "weights", type=Path, metavar="WEIGHTS", help="weights.pt of a run; it names its own task"
    )
    parser.add_argument(
        "--images",
        type=cli.whole_number(1),
        default=200,
        metavar="N",
        help="first images of the test split to attack (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the figures to FILE as JSON"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("results/references"),
        metavar="DIR",
        help="folder of the surrogate, which is trained if it is not there (default: %(default)s)",
    )
    cli.device_flag(parser)
    parser.add_argument(
        "--seed", type=cli.whole_number(0), default=0, metavar="S", help="of the attacks' draws"
    )
    return parser


def table(report: AuditReport) -> str:
    """The report as text: curves, minimal perturbations, warnings."""
    lines = [f"clean accuracy {report.clean_accuracy:.3f} (n = {report.num_images} test images)"]
    for curve in report.curves:
        lines.append(f"{curve.attack} ({curve.norm}, {curve.conditions}, n = {curve.num_images})")
        lines.append("    epsilon " + " ".join(f"{epsilon:7.4g}" for epsilon in curve.epsilons))
        lines.append("   accuracy " + " ".join(f"{value:7.3f}" for value in curve.accuracies))
    for attack in report.minimal:
        median = "none" if attack.median_l2 is None else f"{attack.median_l2:.4g}"
        lines.append(
            f"{attack.attack} ({attack.conditions}, n = {attack.num_images}): "
            f"fools {attack.success_rate:.3f}, median L2 {median}"
        )
    if not report.clean_accuracy:
        lines.append("no image is classified correctly: there was nothing to attack")
    elif not report.warnings:
        lines.append("no sign of masked gradients")
    return "\n".join(lines + [f"WARNING: {warning}" for warning in report.warnings])


def _as_json(
    report: AuditReport, plan: AuditPlan, config: TrialConfig, weights: Path, device: torch.device
) -> str:
    content = {
        "weights": str(weights),
        "config_digest": config.digest(),
        "plan": plan._asdict(),
        **report._asdict(),
        "curves": [curve._asdict() for curve in report.curves],
        "minimal": [attack._asdict() for attack in report.minimal],
        "provenance": provenance(device),
    }
    return json.dumps(content, indent=1, allow_nan=False)


if __name__ == "__main__":
    cli.leave(main())
