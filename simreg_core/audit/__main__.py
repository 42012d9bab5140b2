"""``python -m simreg_core.audit``: attack one trained network with full knowledge of it."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from simreg_core import cli
from simreg_core.audit.network_audit import AuditPlan, AuditReport, audit
from simreg_core.config.robustness import RobustnessConfig
from simreg_core.config.trial import TrialConfig
from simreg_core.data.task import load_task
from simreg_core.errors import ConfigError
from simreg_core.networks.checkpoint import CheckpointError, load_network
from simreg_core.provenance import provenance
from simreg_core.storage.atomic import write_text
from simreg_core.training.baselines import BaselineCache, baseline_networks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 done (warnings included), 2 bad input, 130 interrupted.
    """
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("simreg_core.audit").setLevel(logging.INFO)  # Foolbox logs as well
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
    data = load_task(config.task)
    cache = BaselineCache(args.cache, data, device)
    surrogate = cache.network(baseline_networks(config)[-1])
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
        default=Path("results/baselines"),
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
