"""``python -m simreg_core.neural``: fit, use and try the predictive model of neural responses.

``fit`` fits a model to recordings, ``compare`` compares its similarities with those of pixels and
Gabor units, ``simulate`` makes a recording whose truth is known.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simreg_core import cli
from simreg_core.config.messages import validated
from simreg_core.config.yaml_io import parse_override
from simreg_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from simreg_core.neural.model import FitRecord, FittedModel, NeuralConfig
    from simreg_core.neural.recordings import Recordings

log = logging.getLogger(__name__)

_PREDICTED = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 done, 2 bad input, 130 interrupted (nothing half-written is left).
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return cli.run(_parser(), argv, _run)


def _run(args: argparse.Namespace) -> int:
    import torch

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    command = {"fit": _fit, "compare": _compare, "simulate": _simulate}[args.command]
    if args.output.is_dir():
        raise ConfigError(f"--output: {args.output} is a folder; expected a file")
    try:
        return command(args)
    except BrokenPipeError:  # of standard output
        raise
    except OSError as err:
        raise cli.os_error(err, "--output", args.output.parent) from err


def _fit(args: argparse.Namespace) -> int:
    from simreg_core.neural.fitting import fit
    from simreg_core.neural.recordings import load_recordings

    config = _config(args)
    device = cli.pick_device(args.device)
    recordings = load_recordings(args.recordings)
    images, trials = len(recordings.images), len(recordings.trials)
    log.info("%d images, %d trials, %d neurons", images, trials, len(recordings.neurons))
    args.output.parent.mkdir(parents=True, exist_ok=True)  # fails before the work, not after it
    try:
        model = fit(recordings, config, device=device, on_epoch=_log_epoch)
    except ConfigError as err:
        raise ConfigError(f"{args.recordings}: {err}") from err
    model.save(args.output)
    reports = _write_reports(model, args.output)
    print(_summary(model))
    print(f"\nmodel: {args.output}\nreports: {', '.join(str(path) for path in reports)}")
    return 0


def _config(args: argparse.Namespace) -> NeuralConfig:
    from simreg_core.neural.model import NeuralConfig

    settings = dict(parse_override(text) for text in args.set)
    flags = {"epochs": args.epochs, "seed": args.seed, "loss": args.loss}
    settings |= {name: value for name, value in flags.items() if value is not None}
    return validated(NeuralConfig.model_validate, settings, NeuralConfig, "settings")


def _log_epoch(record: FitRecord) -> None:
    log.info(
        "epoch %d: loss %.4f, validation correlation %.4f (%.1f s)",
        record.epoch,
        record.train_loss,
        record.validation_correlation,
        record.seconds,
    )


def _write_reports(model: FittedModel, output: Path) -> list[Path]:
    """``STEM.neurons.parquet``, a row per neuron; ``STEM.fit.json``, configuration and epochs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from simreg_core.storage.atomic import atomic_file, write_text

    columns = {
        "neuron": pa.array(model.neurons),
        "test_correlation": model.test_correlation.numpy(),
        "noise_ceiling": model.noise_ceiling.numpy(),
        "validation_correlation": model.validation_correlation.numpy(),
        "weight": model.weights.numpy(),
    }
    neurons = output.with_suffix(".neurons.parquet")
    with atomic_file(neurons) as stream:
        pq.write_table(pa.table(columns), stream)
    content = {
        "config": model.config.model_dump(mode="json"),
        "figures": _figures(model),
        "epochs": [record._asdict() for record in model.records],
    }
    report = output.with_suffix(".fit.json")
    write_text(report, json.dumps(content, indent=1, allow_nan=False))
    return [neurons, report]


def _figures(model: FittedModel) -> dict[str, Any]:
    """Test correlations and ceilings over neurons; None where there are no repeats."""
    correlation, ceiling = model.test_correlation, model.noise_ceiling
    quartiles = correlation.quantile(correlation.new_tensor([0.25, 0.5, 0.75])).tolist()
    figures = dict(zip(("lower_quartile", "median", "upper_quartile"), quartiles, strict=True))
    explainable = ceiling > _PREDICTED
    return {
        "num_neurons": len(correlation),
        **figures,
        f"share_above_{_PREDICTED}": float((correlation > _PREDICTED).double().mean()),
        "median_noise_ceiling": _median(ceiling[ceiling.isfinite()]),
        "median_of_ceiling": _median(correlation[explainable] / ceiling[explainable]),
    }


def _median(values: Tensor) -> float | None:
    return float(values.quantile(0.5)) if len(values) else None


def _summary(model: FittedModel) -> str:
    figures = _figures(model)
    best = max(model.records, key=lambda record: record.validation_correlation)
    lines = [
        f"test correlation of {figures['num_neurons']} neurons: median {figures['median']:.3f}, "
        f"quartiles {figures['lower_quartile']:.3f} and {figures['upper_quartile']:.3f}; "
        f"above {_PREDICTED}: {figures[f'share_above_{_PREDICTED}']:.2f} of them",
        f"best of {len(model.records)} epochs: {best.epoch}, "
        f"validation correlation {best.validation_correlation:.3f}",
    ]
    if figures["median_noise_ceiling"] is None:
        lines.append("noise ceiling: unknown, no repeats of test images")
    else:
        share = figures["median_of_ceiling"]
        reached = "-" if share is None else f"{share:.3f}"
        lines.append(
            f"noise ceiling: median {figures['median_noise_ceiling']:.3f}; "
            f"the model reaches {reached} of it (median of neurons with a ceiling "
            f"above {_PREDICTED})"
        )
    return "\n".join(lines)


def _compare(args: argparse.Namespace) -> int:
    from simreg_core.neural.compare import compare, correlations, write_table
    from simreg_core.neural.model import load_model

    model = load_model(args.model, key="--model", device=cli.pick_device(args.device))
    images, recordings = _compared_images(args)
    recorded = None if recordings is None else recordings.mean_responses()
    columns = compare(model, images, num_pairs=args.num_pairs, seed=args.seed, recorded=recorded)
    write_table(columns, args.output)
    print(f"correlation of similarities over {args.num_pairs} random pairs of {len(images)} images")
    for (a, b), value in correlations(columns).items():
        print(f"{a:9} {b:9} {value:6.3f}")
    print(f"\npairs: {args.output}")
    return 0


def _compared_images(args: argparse.Namespace) -> tuple[Tensor, Recordings | None]:
    from simreg_core.neural.recordings import load_recordings

    if args.recordings is not None:
        recordings = load_recordings(args.recordings)
        return recordings.images, recordings
    return _dataset_images(args), None


def _dataset_images(args: argparse.Namespace) -> Tensor:
    """``--num-images`` random images of ``--dataset``, all where there are fewer."""
    import torch

    from simreg_core.data.registry import load_dataset
    from simreg_core.seeding import generator

    images = load_dataset(args.dataset, color=False, size=None, key="--dataset").images
    order = torch.randperm(len(images), generator=generator(args.seed, "images"))
    return images[order[: args.num_images]]


def _simulate(args: argparse.Namespace) -> int:
    from simreg_core.neural.recordings import save_recordings
    from simreg_core.neural.simulate import simulate

    images = _dataset_images(args)
    try:
        recordings, rates = simulate(
            images,
            num_neurons=args.num_neurons,
            repeats=args.repeats,
            mean_count=args.mean_count,
            seed=args.seed,
        )
    except ValueError as err:
        raise ConfigError(f"--num-neurons: {err}") from err
    save_recordings(recordings, args.output, {"rates": rates.numpy()})
    print(
        f"{args.repeats} repeats of {len(images)} images, {args.num_neurons} neurons: {args.output}"
    )
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("simreg_core.neural", "Predict neural responses to images.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_CommandParser)
    _fit_flags(commands.add_parser("fit", help="fit a predictive model to recordings"))
    _compare_flags(commands.add_parser("compare", help="compare similarities of image pairs"))
    _simulate_flags(commands.add_parser("simulate", help="simulate a V1 recording"))
    return parser


class _CommandParser(cli.Parser):
    """Of one command; argparse names it after the whole program."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog.removeprefix("python -m "), "")


def _fit_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recordings", type=Path, required=True, metavar="PATH", help="FILE.npz, or Parquet folder"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="model file")
    parser.add_argument("--epochs", type=cli.whole_number(1), metavar="N", help="at most")
    parser.add_argument("--loss", choices=("poisson", "mse"), help="mse: for negative responses")
    parser.add_argument("--seed", type=cli.whole_number(0), metavar="S", help="default: 0")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any field of NeuralConfig"
    )
    _machine_flags(parser)


def _compare_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="of fit")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="images of this dataset")
    source.add_argument(
        "--recordings", type=Path, metavar="PATH", help="images and responses of these recordings"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="Parquet table")
    parser.add_argument("--num-pairs", type=cli.whole_number(2), default=5000, metavar="K")
    parser.add_argument(
        "--num-images", type=cli.whole_number(2), default=5000, metavar="N", help="of the dataset"
    )
    parser.add_argument("--seed", type=cli.whole_number(0), default=0, metavar="S")
    _machine_flags(parser)


def _simulate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=".npz file")
    parser.add_argument("--dataset", default="natural", metavar="NAME", help="default: natural")
    parser.add_argument("--num-images", type=cli.whole_number(2), default=2000, metavar="N")
    parser.add_argument("--num-neurons", type=cli.whole_number(1), default=100, metavar="M")
    parser.add_argument("--repeats", type=cli.whole_number(1), default=2, metavar="R")
    parser.add_argument(
        "--mean-count",
        type=cli.real_number(1e-3, 1e6),  # float32 counts whole numbers up to 2**24
        default=0.2,
        metavar="X",
        help="mean spike count of every neuron (default: %(default)s)",
    )
    parser.add_argument("--seed", type=cli.whole_number(0), default=0, metavar="S")
    parser.add_argument("--threads", type=cli.whole_number(1), metavar="N", help="CPU threads")


def _machine_flags(parser: argparse.ArgumentParser) -> None:
    cli.device_flag(parser)
    parser.add_argument("--threads", type=cli.whole_number(1), metavar="N", help="CPU threads")


if __name__ == "__main__":
    cli.leave(main())
