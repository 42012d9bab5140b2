"""``python -m simreg_core.audit``: attack one trained network with full knowledge of it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from simreg_core import cli
from simreg_core.audit.network_audit import AuditPlan, AuditReport, audit
from simreg_core.config.protocols import with_protocol
from simreg_core.config.robustness import RobustnessConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import TaskData, load_task
from simreg_core.errors import ConfigError, counted
from simreg_core.networks.checkpoint import CheckpointError, load_network
from simreg_core.networks.network import Classifier
from simreg_core.provenance import provenance
from simreg_core.storage.atomic import write_text
from simreg_core.training.baseline_networks import baseline_networks
from simreg_core.training.baselines import BaselineCache

_LINF = ("transfer_fgsm", "transfer_pgd", "transfer_mifgsm", "square")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0 even with warnings, else see :func:`cli.run`."""
    return cli.run(_parser(), argv, _run)


def _run(args: argparse.Namespace) -> int:
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("simreg_core.audit").setLevel(logging.INFO)  # not the root: Foolbox logs too
    device = cli.pick_device(args.device)
    try:
        config, model = load_network(args.weights, device=device)
        data = load_task(config.task)
        _require_task(args.weights, model, data)
        cache = BaselineCache(args.cache, data, device)
        surrogate = cache.network(baseline_networks(config)[-1])
    except CheckpointError as err:
        raise ConfigError(str(err)) from err
    except OSError as err:
        raise cli.os_error(err, "--cache", args.cache) from err
    test = data.test.to(device)
    images = test.images[: args.images].to(torch.float32) / 255
    epsilons, source = _epsilons(config)
    plan = AuditPlan(
        epsilons,
        num_auto=args.auto_images,
        auto_queries=args.auto_queries,
        seed=args.seed,
    )
    report = audit(model, surrogate, images, test.labels[: args.images], plan)
    print(f"epsilons: those of {source}", table(report), sep="\n")
    if args.output is not None:
        content = {
            "weights": str(args.weights),
            "config_digest": config.digest(),
            "plan": plan._asdict(),
            "epsilons_of": source,
            **report._asdict(),
            "curves": [curve._asdict() for curve in report.curves],
            "minimal": [attack._asdict() for attack in report.minimal],
            "provenance": provenance(device),
        }
        try:
            write_text(args.output, json.dumps(content, indent=1, allow_nan=False))
        except OSError as err:
            raise ConfigError(f"--output: {cli.os_reason(err)}") from err
    return 0


def _require_task(path: Path, model: Classifier, data: TaskData) -> None:
    """Refuse a network that was not built for the images and classes of its configuration."""
    found = model.channels, model.num_classes
    expected = data.test.images.shape[1], data.num_classes
    if found != expected:
        raise ConfigError(
            f"{path}: a network of {counted(found[0], 'channel')} and "
            f"{counted(found[1], 'class')}, but its task has "
            f"{expected[0]} and {expected[1]}"
        )


def _epsilons(config: TrialConfig) -> tuple[tuple[float, ...], str]:
    """Epsilons > 0 of a Linf attack, and in words whose they are.

    It is the first of :data:`_LINF` that the configuration has, else the task's protocol, else the
    published protocol.
    """
    tree = with_protocol({"task": config.task.model_dump()})
    protocol = RobustnessConfig.model_validate(tree.get("robustness", {}))
    sources = (
        (config.robustness, "robustness.attacks"),
        (protocol, f"the protocol of {tree['task']['protocol']} (no Linf attack is configured)"),
        (RobustnessConfig(), "the published protocol (no Linf attack is configured)"),
    )
    return next(
        (robustness.epsilons(attack)[1:], f"{attack} in {where}")
        for robustness, where in sources
        for attack in _LINF
        if attack in robustness.attacks
    )


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "simreg_core.audit",
        "Attack one trained network with full knowledge of it, and look for masked gradients.",
    )
    add = parser.add_argument
    add("weights", type=Path, metavar="WEIGHTS", help="weights.pt of a run, which names its task")
    add(
        "--images",
        type=cli.whole_number(1),
        default=200,
        metavar="N",
        help="number of (first) test images to attack (default: %(default)s)",
    )
    add(
        "--auto-images",
        type=cli.whole_number(0),
        default=AuditPlan._field_defaults["num_auto"],
        metavar="N",
        help="number of (first) images for AutoAttack; 0: none (default: %(default)s)",
    )
    add(
        "--auto-queries",
        type=cli.whole_number(2),
        default=AuditPlan._field_defaults["auto_queries"],
        metavar="N",
        help="scores per image of AutoAttack's Square (default: %(default)s)",
    )
    add("--output", type=Path, metavar="FILE", help="write the results to FILE as JSON")
    add(
        "--cache",
        type=Path,
        default=Path("results/baselines"),
        metavar="DIR",
        help="folder of the surrogate, which is trained if missing (default: %(default)s)",
    )
    cli.device_flag(parser)
    add("--seed", type=cli.whole_number(0), default=0, metavar="S", help="seed of the attacks")
    return parser


def table(report: AuditReport) -> str:
    """The report as text: curves, minimal perturbations, warnings."""
    lines = [f"clean accuracy {report.clean_accuracy:.3f} (n = {report.num_images} test images)"]
    for curve in report.curves:
        lines += [
            f"{curve.attack} ({curve.norm}, {curve.conditions}, n = {curve.num_images})",
            "    epsilon " + " ".join(f"{epsilon:7.4g}" for epsilon in curve.epsilons),
            "   accuracy " + " ".join(f"{value:7.3f}" for value in curve.accuracies),
        ]
    for name, counts in report.broken.items():
        lines.append(f"{name:>11} " + " ".join(f"{count:7d}" for count in counts) + " broken first")
    for attack in report.minimal:
        median = "none" if attack.median_l2 is None else f"{attack.median_l2:.4g}"
        lines.append(
            f"{attack.attack} ({attack.conditions}, n = {attack.num_images}): "
            f"fools {attack.success_rate:.3f}, median L2 {median}"
        )
    if not report.clean_accuracy:
        lines.append("no image is classified correctly, so there was nothing to attack")
    elif not report.warnings:
        lines.append("no sign of masked gradients")
    return "\n".join(lines + [f"WARNING: {warning}" for warning in report.warnings])


if __name__ == "__main__":
    cli.leave(main())
