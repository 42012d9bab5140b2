"""The Markdown of all results, for ``docs/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.results import Result, read_results
from benchmarks.timing import spread
from simreg_core.storage.atomic import write_text


def write_table(folder: Path, conditions: str, command: str, titles: Mapping[str, str]) -> Path:
    """Write ``results.md`` from ``results.jsonl``.

    Args:
        folder: Folder of both files.
        conditions: Device and versions.
        command: The command of these results.
        titles: Title of every stage, in order.
    """
    results = read_results(folder)
    parts = [
        f"```shell\n{command}\n```",
        f"{conditions}. Median [minimum, maximum] of n measurements.",
    ]
    for stage, title in titles.items():
        rows = [result for result in results if result.stage == stage]
        parts.append(f"### {title}\n\n" + (_table(rows) if rows else "No results."))
    path = folder / "results.md"
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def _table(rows: Sequence[Result]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    lines = [["measurement", *columns, "n", "note"]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        cells = [_cell(row.values.get(name)) for name in columns]
        number = max((len(values) for values in row.values.values()), default=0)
        status = "" if row.status == "measured" else f"**{row.status}** "
        lines.append([row.name, *cells, str(number or ""), f"{status}{row.note}".strip()])
    return "\n".join(_line(cells) for cells in lines)


def _cell(values: Sequence[float] | None) -> str:
    if not values:
        return ""
    return str(spread(values)) if len(values) > 1 else f"{values[0]:.3g}"


def _line(cells: Iterable[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
