"""All GPU measurements within a number of minutes, the most valuable first.

``python -m benchmarks.gpu --data FOLDER --out DIR --minutes 9`` runs the stages ``right`` (the
tests marked ``cuda``), ``epoch``, ``published`` (the published protocol), ``trials`` (per hour) and
``attacks``. FOLDER holds ``cifar10/{train,test}.parquet`` and ``imagenet_sample/train.parquet``.
DIR gets ``results.jsonl``, ``results.md``, ``tables.tar.gz`` (result folders without weights) and
logs. A second call with the same DIR goes on. ``--quick --device cpu`` rehearses everything.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.gpu.conditions import conditions
from benchmarks.gpu.driver import Stage, run_stages
from benchmarks.gpu.results import Settings
from benchmarks.gpu.table import write_table

STAGES = {
    "right": Stage("Is it right?", "benchmarks.gpu.right:run", 0.13),
    "epoch": Stage("How long is an epoch?", "benchmarks.gpu.epoch:run", 0.22),
    "published": Stage("The published protocol", "benchmarks.gpu.published:run", 0.40),
    "trials": Stage("Trials per hour", "benchmarks.gpu.trials:run", 0.15),
    "attacks": Stage("Attacks", "benchmarks.gpu.attacks:run", 0.10),
}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (default: 9)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a rehearsal")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--stages",
        type=_stages,
        default=list(STAGES),
        metavar="A,B,...",
        help=f"default: {','.join(STAGES)}",
    )
    args = parser.parse_args(argv)
    for name in ("cifar10/train", "cifar10/test", "imagenet_sample/train"):
        if not (path := args.data / f"{name}.parquet").is_file():
            parser.error(f"--data: {path} does not exist")
    return args


def _stages(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in STAGES:
            raise argparse.ArgumentTypeError(f"unknown {name!r}; allowed: {', '.join(STAGES)}")
    return [name for name in STAGES if name in names]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages; 0 done, 130 interrupted (the table is written in both cases)."""
    args = _parse(argv)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("SIMREG_DATA", str(out / "arrays"))
    signal.signal(signal.SIGTERM, _interrupt)
    settings = Settings(str(args.data.resolve()), str(out), args.device, args.quick)
    head = conditions(args.device)
    command = shlex.join(
        ["python", "-m", "benchmarks.gpu", *(sys.argv[1:] if argv is None else argv)]
    )
    titles = {name: stage.title for name, stage in STAGES.items()}
    stages = {name: STAGES[name] for name in args.stages}
    print(head, flush=True)
    try:
        run_stages(
            stages,
            settings,
            60 * args.minutes - 5,
            lambda: write_table(out, head, command, titles),
        )
    except KeyboardInterrupt:
        return 130
    finally:
        print((out / "results.md").read_text(encoding="utf-8"), flush=True)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
