"""``python -m simreg_core.neural``: fit, compare and simulate models of neural responses.

``fit`` fits a predictive model to recordings, ``compare`` compares the similarities of its
predictions with those of other targets, and ``simulate`` writes a recording with known rates.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simreg_core import cli
from simreg_core.config.messages import validated
from simreg_core.config.yaml_io import parse_override
from simreg_core.errors import ConfigError, counted

if TYPE_CHECKING:
    from simreg_core.data.task import RegularizationImages
    from simreg_core.neural.model import FitRecord
    from simreg_core.regularizer.targets import Similarities

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see :func:`simreg_core.cli.run` for the exit code."""
    return cli.run(_parser(), argv, _run)


def _run(args: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    import torch

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.output.is_dir():
        raise ConfigError(f"--output: {args.output} is a folder; expected a file")
    try:
        args.body(args)
    except OSError as err:
        raise cli.os_error(err, "--output", args.output.parent) from err
    return 0


def _fit(args: argparse.Namespace) -> None:
    from simreg_core.neural.fitting import fit
    from simreg_core.neural.model import NeuralConfig
    from simreg_core.neural.recordings import load_recordings
    from simreg_core.neural.reports import result_lines, summarize, write_reports

    flags = {"epochs": args.epochs, "seed": args.seed, "loss": args.loss}
    settings = dict(parse_override(text) for text in args.set)
    settings |= {name: value for name, value in flags.items() if value is not None}
    config = validated(NeuralConfig.model_validate, settings, NeuralConfig, "settings")
    device = cli.pick_device(args.device)
    recordings = load_recordings(args.recordings)
    sizes = len(recordings.images), *recordings.trials.shape
    log.info("%d images, %d trials, %d neurons", *sizes)
    args.output.parent.mkdir(parents=True, exist_ok=True)  # fail before the work
    try:
        model = fit(recordings, config, device=device, on_epoch=_log_epoch)
    except ConfigError as err:
        raise ConfigError(f"{args.recordings}: {err}") from err
    model.save(args.output)
    results = summarize(model)
    reports = write_reports(model, results, args.output)
    print(result_lines(results, model.records))
    print(f"\nmodel: {args.output}\nreports: {', '.join(map(str, reports))}")


def _log_epoch(record: FitRecord) -> None:
    text = "epoch %d: learning rate %g, loss %.4f, validation correlation %.4f (%.1f s)"
    log.info(text, *record)


def _compare(args: argparse.Namespace) -> None:
    import torch

    from simreg_core.data.task import RegularizationImages
    from simreg_core.neural.compare import compare, correlations, write_table
    from simreg_core.neural.recordings import load_recordings
    from simreg_core.regularizer.responses import ResponseSimilarity

    if args.recordings is None:
        source, recorded = _dataset_images(args, color=args.color, size=args.image_size), {}
    else:
        recordings = load_recordings(args.recordings)
        number = len(recordings.images)
        source = RegularizationImages(recordings.images, None, torch.arange(number), number)
        recorded = {"recorded": ResponseSimilarity(recordings.mean_responses())}
    targets = _targets(args, source) | recorded
    if len(targets) < 2:
        raise ConfigError(f"--target: expected two or more to compare, found {', '.join(targets)}")
    columns = compare(targets, len(source.images), num_pairs=args.num_pairs, seed=args.seed)
    write_table(columns, args.output)
    print(
        f"correlation of similarities over {args.num_pairs} random pairs of "
        f"{len(source.images)} images"
    )
    width = max(9, *map(len, targets))
    for (a, b), value in correlations(columns).items():
        shown = "undefined: one of them is constant" if value is None else f"{value:6.3f}"
        print(f"{a:{width}} {b:{width}} {shown}")
    print(f"\npairs: {args.output}")


def _targets(args: argparse.Namespace, source: RegularizationImages) -> dict[str, Similarities]:
    """The compared targets by name."""
    from simreg_core.config.regularizer import RegularizerConfig
    from simreg_core.neural.model import load_model
    from simreg_core.regularizer.targets import TargetInput, make_target

    model = None if args.model is None else str(args.model)
    if model is not None:
        load_model(model, key="--model")  # names the flag if it fails
    made: dict[str, Similarities] = {}
    for name in args.target or ("pixel_raw", *(["neural"] if model else []), "v1_gabor"):
        settings = {"target": name, "dataset": args.dataset or "task"}
        if name == "neural":
            settings["neural_model"] = model
        check = RegularizerConfig.model_validate
        config = validated(check, settings, RegularizerConfig, "--target")
        made[name] = make_target(TargetInput.of(source, config))
    return made


def _dataset_images(
    args: argparse.Namespace, *, color: bool = False, size: int | None = None
) -> RegularizationImages:
    """At most ``--num-images`` random images of ``--dataset``."""
    import torch

    from simreg_core.data.registry import load_dataset
    from simreg_core.data.task import RegularizationImages
    from simreg_core.seeding import generator

    pool = load_dataset(args.dataset, color=color, size=size, key="--dataset")
    number = len(pool.images)
    order = torch.randperm(number, generator=generator(args.seed, "images"))
    whole = RegularizationImages(pool.images, pool.labels, torch.arange(number), number)
    return whole.take(order[: args.num_images])


def _simulate(args: argparse.Namespace) -> None:
    from simreg_core.neural.recordings import save_recordings
    from simreg_core.neural.simulate import simulate

    images = _dataset_images(args).images
    options = {name: getattr(args, name) for name in ("num_neurons", "repeats", "mean_count")}
    try:
        recordings, rates = simulate(images, **options, seed=args.seed)
    except ValueError as err:
        raise ConfigError(f"--num-neurons: {err}") from err
    save_recordings(recordings, args.output, {"rates": rates.numpy()})
    print(
        f"{counted(args.repeats, 'repeat')} of {counted(len(images), 'image')}, "
        f"{counted(args.num_neurons, 'neuron')}: {args.output}"
    )


class _CommandParser(cli.Parser):
    def __init__(self, prog: str) -> None:
        super().__init__("simreg_core.neural", "")
        self.prog = prog


def _parser() -> cli.Parser:
    parser = cli.Parser("simreg_core.neural", "Predict neural responses to images.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_CommandParser)
    count = cli.whole_number

    fit = commands.add_parser("fit", help="fit a predictive model to recordings")
    fit.add_argument(
        "--recordings", type=Path, required=True, metavar="PATH", help="FILE.npz, or Parquet folder"
    )
    fit.add_argument("--epochs", type=count(1), metavar="N", help="largest number of epochs")
    fit.add_argument("--loss", choices=("poisson", "mse"), help="mse: for negative responses")
    fit.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any field of NeuralConfig"
    )

    compare = commands.add_parser("compare", help="compare similarities of image pairs")
    compare.add_argument(
        "--target",
        action="append",
        metavar="NAME",
        help="a target as in a space file; give two or more (default: pixel_raw and v1_gabor, and "
        "neural with --model)",
    )
    compare.add_argument(
        "--model", type=Path, metavar="FILE", help="file of fit, for the target neural"
    )
    source = compare.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="images of this dataset")
    source.add_argument("--recordings", type=Path, metavar="PATH", help="images and responses")
    compare.add_argument("--num-pairs", type=count(2), default=5000, metavar="K")
    compare.add_argument(
        "--num-images", type=count(2), default=5000, metavar="N", help="of the dataset"
    )
    compare.add_argument("--color", action="store_true", help="RGB images of the dataset")
    compare.add_argument(
        "--image-size", type=count(4), metavar="SIDE", help="resize the dataset's images"
    )

    simulate = commands.add_parser("simulate", help="simulate a V1 recording")
    simulate.add_argument("--dataset", default="natural", metavar="NAME", help="default: natural")
    simulate.add_argument("--num-images", type=count(2), default=2000, metavar="N")
    simulate.add_argument("--num-neurons", type=count(1), default=100, metavar="M")
    simulate.add_argument("--repeats", type=count(1), default=2, metavar="R")
    simulate.add_argument(
        "--mean-count",
        type=cli.real_number(1e-3, 1e6),  # float32 counts exactly up to 2**24
        default=0.2,
        metavar="X",
        help="mean spike count of every neuron (default: %(default)s)",
    )

    outputs = {fit: "model file", compare: "Parquet table", simulate: ".npz file"}
    for command, output in outputs.items():
        command.add_argument("--output", type=Path, required=True, metavar="FILE", help=output)
        command.add_argument("--seed", type=count(0), metavar="S", help="default: 0")
        command.add_argument("--threads", type=count(1), metavar="N", help="CPU threads")
    cli.device_flag(fit)
    fit.set_defaults(body=_fit)
    compare.set_defaults(body=_compare, seed=0)
    simulate.set_defaults(body=_simulate, seed=0)
    return parser


if __name__ == "__main__":
    cli.leave(main())
