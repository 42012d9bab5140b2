"""``python -m simreg_core``: train and evaluate one configuration, without a cluster."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simreg_core import cli
from simreg_core.config.loading import load_trial_config
from simreg_core.errors import ConfigError
from simreg_core.results.schema import SPLITS
from simreg_core.storage.atomic import write_text

if TYPE_CHECKING:
    from simreg_core.training.experiment import Progress, TrialResult

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 if training fails, else see :func:`cli.run`."""
    advice = "run it again to resume after the last finished epoch"
    return cli.run(_parser(), argv, _run, interrupted=advice)


def _run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    import torch

    from simreg_core.data.task import load_task
    from simreg_core.networks.checkpoint import CheckpointError, save_weights
    from simreg_core.training.baselines import BaselineCache
    from simreg_core.training.experiment import run_experiment
    from simreg_core.training.fit import NonFiniteLossError

    config = load_trial_config(args.config, args.set)
    device = cli.pick_device(args.device)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    folder = args.output / "single" / config.digest()
    checkpoint = folder / "state.pt"
    try:
        data = load_task(config.task)
        if data.info.left_out:
            log.info(f"left out of {config.task.dataset}: {data.info.left_out}")
        cache = BaselineCache(args.output / "baselines", data, device)
        result = run_experiment(config, cache, checkpoint=checkpoint, on_epoch=_log_epoch)
        save_weights(folder / "weights.pt", config, result.model)
        write_text(folder / "result.json", _as_json(result))
    except CheckpointError as err:
        raise ConfigError(str(err)) from err
    except OSError as err:
        raise cli.os_error(err, "--output", args.output) from err
    except NonFiniteLossError as err:
        print(f"simreg_core: training failed: {err}", file=sys.stderr)
        return 1
    checkpoint.unlink(missing_ok=True)
    print(_table(result))
    print(f"\nresults: {shlex.quote(str(folder))}")
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "simreg_core", "Train one network, attack it, and score it against unregularized baselines."
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="YAML file of one trial"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="write results to DIR/single/DIGEST (default: %(default)s)",
    )
    cli.device_flag(parser)
    parser.add_argument(
        "--threads",
        type=cli.whole_number(1),
        metavar="N",
        help="CPU threads; changes the last digits of the results (default: torch's)",
    )
    return parser


def _log_epoch(progress: Progress) -> None:
    record = progress.records[-1]
    similarity = "" if record.similarity_loss is None else f", L_sim {record.similarity_loss:.3f}"
    log.info(
        f"epoch {record.epoch}: task loss {record.task_loss:.4f}{similarity}, "
        f"validation accuracy {record.validation_accuracy:.4f} ({record.seconds:.1f} s)"
    )


def _as_json(result: TrialResult) -> str:
    content = {
        "columns": result.columns,
        "config": result.config.to_dict(),
        "curves": [point._asdict() for point in result.curves],
        "spectra": [point._asdict() for point in result.spectra],
        "epochs": [record._asdict() for record in result.epochs],
    }
    return json.dumps(content, indent=1, allow_nan=False)


def _table(result: TrialResult) -> str:
    lines = [f"{'':28}" + "".join(f"{split:>12}" for split in SPLITS)]
    for name in (key.removeprefix("test.") for key in result.columns if key.startswith("test.")):
        values = [result.columns.get(f"{split}.{name}") for split in SPLITS]
        if any(value is not None for value in values):
            cells = ("-" if value is None else f"{value:.4f}" for value in values)
            lines.append(f"{name:28}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    cli.leave(main())
