"""Command line: draw the Pareto front of a search and print it.

    python -m analysis.pareto OUTPUT/NAME [--x METRIC] [--y METRIC] [--split SPLIT]

Exit codes: 0 drawn, 1 no trial is complete, 2 the results or the arguments are not usable.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from analysis.load import ResultsError, load_results
from analysis.pareto_front import NoCompleteTrialsError, ParetoInfo, pareto_info
from analysis.plots import draw_pareto
from analysis.report import pareto_text
from simreg_core.records import SPLITS


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``pareto_X_Y_SPLIT`` as .png, .pdf and .csv; print the front. Returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        results = load_results(options.folder)
        info = pareto_info(results, options.x, options.y, options.split, options.color)
        files = render(info)
        paths = write_files(options.out or options.folder / "figures", files)
    except NoCompleteTrialsError as err:
        return _complain(err, exit_code=1)
    except (ResultsError, OSError) as err:
        return _complain(err, exit_code=2)
    print(pareto_text(info))
    for path in paths:
        print(f"wrote {path}")
    return 0


def render(info: ParetoInfo) -> dict[str, bytes]:
    """The picture (twice) and the table by file name; equal bytes for equal results."""
    figure = draw_pareto(info)
    png, pdf = BytesIO(), BytesIO()
    figure.savefig(png, format="png")
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    stem = f"pareto_{info.x.metric.name}_{info.y.metric.name}_{info.split}"
    return {
        f"{stem}.png": png.getvalue(),
        f"{stem}.pdf": pdf.getvalue(),
        f"{stem}.csv": info.table.to_csv(index=False, lineterminator="\n").encode(),
    }


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write each file whole or not at all: to a temporary name, then renamed.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / name, content) for name, content in files.items()]


def _write(path: Path, content: bytes) -> Path:
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _complain(err: Exception, exit_code: int) -> int:
    print(f"analysis.pareto: {err}", file=sys.stderr)
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.pareto", allow_abbrev=False)
    parser.description = "Draw the Pareto front of a search and print it."
    parser.add_argument("folder", type=Path, help="folder of the search, OUTPUT/NAME")
    parser.add_argument("--x", default="clean_accuracy", help="metric (default: %(default)s)")
    parser.add_argument("--y", default="robust_accuracy", help="metric (default: %(default)s)")
    parser.add_argument(
        "--split", default="validation", help=f"{' or '.join(SPLITS)} (default: %(default)s)"
    )
    parser.add_argument("--color", metavar="PARAMETER", help="parameter that colours the points")
    parser.add_argument("--out", type=Path, help="folder to write to (default: FOLDER/figures)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
