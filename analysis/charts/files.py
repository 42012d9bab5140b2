"""What the programs of the analysis share: how figures are saved, files written, axes asked for."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from simreg_core import cli
from simreg_core.results.schema import SPLITS
from simreg_core.storage.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # slow to import


def picture_files(name: str, figure: Figure) -> dict[str, bytes]:
    """``NAME.png`` and ``NAME.pdf``; equal bytes for equal figures."""
    png, pdf = BytesIO(), BytesIO()
    figure.savefig(png, format="png")
    figure.set_layout_engine("none")  # laid out already, the slow half of the work
    figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return {f"{name}.png": png.getvalue(), f"{name}.pdf": pdf.getvalue()}


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write each file whole or not at all.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    for name, content in files.items():
        with atomic_file(folder / name) as stream:
            stream.write(content)
    return [folder / name for name in files]


def add_axis_options(parser: cli.Parser) -> None:
    """``--x``, ``--y`` and ``--split``: which metrics span a front, of whose images."""
    parser.add_argument("--x", default="clean_accuracy", help="metric (default: %(default)s)")
    parser.add_argument("--y", default="robust_accuracy", help="metric (default: %(default)s)")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="validation",
        help="whose images (default: %(default)s)",
    )
